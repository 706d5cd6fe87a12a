"""`tessera package keygen|sign`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from tessera.workbench.commands.package import PackagePath
from tessera.workbench.output import JsonOption
from tessera.workbench.trusting import PassphraseFile


def keygen(
    name: Annotated[
        Path,
        typer.Argument(metavar="NAME", help="NAME.pem and NAME.pub.pem are written.", show_default=False),
    ],
    passphrase_file: PassphraseFile = None,
    passphrase: Annotated[
        bool, typer.Option("--passphrase/--no-passphrase", help="Whether the private key is encrypted.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Make a P-256 key to sign packages with."""
    from tessera.package import generate_key
    from tessera.package.keys import check_new_key
    from tessera.workbench.output import emit
    from tessera.workbench.trusting import passphrase_of

    # Before anybody is asked for a passphrase.
    check_new_key(name)
    words = passphrase_of(passphrase_file, new=True) if passphrase else None
    pair = generate_key(name, words)
    if as_json:
        paths = {"private": str(pair.private), "public": str(pair.public)}
        emit({**paths, "fingerprint": pair.fingerprint, "encrypted": words is not None})
        return
    print(f"wrote {pair.private} ({'encrypted' if words else 'not encrypted'}, mode 0600) and {pair.public}")
    print(f"fingerprint: sha256:{pair.fingerprint}")
    print(f"next: tessera package sign PKG --key {pair.private}")


def sign(
    path: PackagePath,
    key: Annotated[
        Path,
        typer.Option("--key", metavar="KEY.pem", readable=False, help="The private key.", show_default=False),
    ],
    cert: Annotated[
        Path | None,
        typer.Option(
            "--cert",
            metavar="CHAIN.pem",
            readable=False,
            help="The key's certificate, and those up to its root.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="PKG", help="Where to write it; in place if not given."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    provenance: Annotated[
        bool,
        typer.Option(
            "--provenance/--no-provenance", help="Whether to write PKG.sigstore.json, how it was made."
        ),
    ] = True,
    builder: Annotated[
        str | None, typer.Option("--builder", metavar="URI", help="Who built it, for the provenance.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a package, in place or as a new file."""
    from tessera.package import Package, read_signer, sign_package
    from tessera.package.keys import is_encrypted, short
    from tessera.package.provenance import LOCAL_BUILDER, write_provenance
    from tessera.package.verification import claim_of
    from tessera.workbench.failure import UsageError
    from tessera.workbench.opening import package_path
    from tessera.workbench.output import emit
    from tessera.workbench.trusting import passphrase_of

    package_path(path)
    if builder is not None and not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+", builder):
        raise UsageError(f"--builder {builder!r} is no URI", hint="--builder https://ci.example.com/release")
    signer = read_signer(key, cert, passphrase_of(passphrase_file) if is_encrypted(key) else None)
    before = claim_of(Package.load(path, verify_weights="lazy"))
    signed = sign_package(path, signer, out=out)
    shown = out or path
    written = write_provenance(signed, signer, builder=builder or LOCAL_BUILDER) if provenance else None
    if as_json:
        data = {"path": str(shown), "fingerprint": signer.fingerprint, "subject": signer.subject}
        emit({**data, "replaced": before is not None, "provenance": str(written) if written else None})
        return
    replaced = f", in place of {short(before.fingerprint)}" if before is not None else ""
    print(f"signed {shown} with {short(signer.fingerprint)}{replaced}")
    if written is not None:
        print(f"wrote {written.name} beside it: how it was made")
    public = key.with_name(key.name.removesuffix(".pem") + ".pub.pem")
    named = f"--key {public if public.exists() else 'PUB.pem'}"
    print(f"next: tessera package verify {shown} {'--trust ROOT.pem' if cert else named}")
