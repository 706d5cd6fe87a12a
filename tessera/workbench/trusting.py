"""Whom the command line trusts, and what it says of signatures."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tessera.program.errors import ConfigError, PackageError
from tessera.workbench.failure import UsageError, visible

if TYPE_CHECKING:
    from tessera.package import Package, TrustPolicy
    from tessera.package.trust import Signer

# Of every file here: not `readable`, so that the error is ours, which says what to type.
KeyOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--key",
        metavar="PUB.pem",
        readable=False,
        help="A public key that must have signed; repeated: any of them.",
    ),
]
RootOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--trust", metavar="ROOT.pem", readable=False, help="A certificate that must vouch for the signer."
    ),
]
PolicyOption = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        metavar="tessera.toml",
        readable=False,
        help="Whose signatures count: its section [trust].",
    ),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file", metavar="FILE", readable=False, help="Its first line is the key's passphrase."
    ),
]
RequireOption = Annotated[
    bool,
    typer.Option("--require-signature", help="Refuse a package that nobody trusted has signed."),
]


def policy_for(
    package: Path,
    *,
    keys: Sequence[Path] | None = None,
    roots: Sequence[Path] | None = None,
    file: Path | None = None,
    require: bool = False,
    optional: bool = False,
) -> TrustPolicy | None:
    """The policy that a command holds `package` to; None if nobody asked for a signature.

    Its `require_signature` tells whether a package without one is refused. With `optional` it may be a
    policy that does not ask for one, to judge a signature that is there.

    What the call names counts before the project that one stands in, and that before the project that the
    package lies in. The last can ask for a signature, but never be the one that satisfies
    `--require-signature`: who brings a package could bring its policy with it.

    Raises:
        ConfigError: A policy is wrong, or a signature is required and nobody is trusted.
        SignatureError: A file of the call holds neither a key nor a certificate.
    """
    from tessera.package.trust import find_policy, policy_of, required_policy

    if keys or roots:
        if file is not None:
            raise UsageError("--policy cannot be combined with --key or --trust", hint="give one of them")
        return policy_of(keys or (), roots or (), source=_named(keys, roots))
    if file is not None or require:
        named = required_policy(
            True if file is None else file if file.suffix == ".toml" else _no_policy(file)
        )
        return named and replace(named, require_signature=True)
    own = find_policy(Path.cwd())
    if optional and own is not None and (own.keys or own.roots):
        return own
    own = own or find_policy(package.absolute().parent)
    return own if own is not None and own.require_signature else None


def _no_policy(file: Path) -> Path:
    raise UsageError(
        f"--policy: {file} is no .toml file", hint="a key goes to --key, a certificate to --trust"
    )


def _named(keys: Sequence[Path] | None, roots: Sequence[Path] | None) -> str:
    return " and ".join(name for name, given in (("--key", keys), ("--trust", roots)) if given)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of who signed a package, and who says how it was made."""

    signature: dict[str, Any] | None
    """For `--json`: `fingerprint`, `subject`, `trusted` (null where nobody was asked), `rule`, `problem`."""
    provenance: dict[str, Any] | None
    """For `--json`: `builder`, `tessera`, `sources`, `tools`, `trusted`, `problem`."""

    @property
    def problems(self) -> list[tuple[str, str]]:
        """What is wrong, by entry."""
        return [
            (str(data["entry"]), str(data["problem"]))
            for data in (self.signature, self.provenance)
            if data is not None and data["problem"] is not None
        ]


def standing_of(package: Package, path: Path, policy: TrustPolicy | None) -> Standing:
    """What is known of who signed `package`, which lies at `path`.

    Args:
        package: The package, open.
        path: Its file or folder.
        policy: Whose signatures count, and whether there must be one; None: nobody was asked.

    Raises:
        SignatureError: It is refused.
        PackageError: A file is damaged.
    """
    from tessera.package.verification import check_signature, claim_of

    signer: Signer | None = None
    if policy is not None and (policy.require_signature or package.signature is not None):
        signer = check_signature(package, policy)
    claim = claim_of(package)
    signature = None
    if claim is not None:
        signature = {
            "entry": "META/model.sig",
            "fingerprint": signer.fingerprint if signer else claim.fingerprint,
            "subject": claim.subject,
            "trusted": None if policy is None else True,
            "rule": signer.rule if signer else None,
            "problem": claim.problem,
        }
    return Standing(signature, _provenance_data(package, path, policy))


def _provenance_data(package: Package, path: Path, policy: TrustPolicy | None) -> dict[str, Any] | None:
    from tessera.package.provenance import check_provenance, check_subject, provenance_path, read_provenance

    data: dict[str, Any] = {"entry": provenance_path(path).name, "trusted": None, "problem": None}
    try:
        found = read_provenance(path)
        if found is None:
            return None
        data |= {"builder": found.builder, "tessera": found.tessera}
        data |= {"sources": list(found.sources), "tools": list(found.tools)}
        if policy is None:
            check_subject(package, found)
        else:
            check_provenance(package, found, policy)
            data["trusted"] = True
    except PackageError as error:
        data["trusted"] = None if policy is None else False
        data["problem"] = error.message.removeprefix(f"{data['entry']}: ")
    return data


def signature_text(signature: dict[str, Any] | None) -> str:
    """One line about a signature."""
    from tessera.package.keys import short

    if signature is None:
        return "signature: none"
    who = short(signature["fingerprint"]) + (f" ({signature['subject']})" if signature["subject"] else "")
    if signature["problem"]:
        return f"signature: of {who}, and wrong: {signature['problem']}"
    verdict = f"trusted by {signature['rule']}" if signature["trusted"] else "not checked: --key PUB.pem does"
    return f"signature: {who}, {verdict}"


def provenance_text(provenance: dict[str, Any] | None, width: int) -> str:
    """How a package was made, in lines of `width` columns."""
    if provenance is None:
        return "provenance: none"
    if provenance["problem"]:
        return f"provenance: {provenance['entry']} is wrong: {provenance['problem']}"
    tools = ", ".join(uri.rpartition("/")[2].replace("@", " ") for uri in provenance["tools"])
    who = f"provenance: built by {provenance['builder']} from {', '.join(provenance['sources']) or 'N/A'}"
    if not tools:
        return who
    return f"{who}\n{fill(f'with {tools}', width, initial_indent='  ', subsequent_indent='  ')}"


def print_standing(standing: Standing) -> None:
    """Say who signed a package, and how it was made."""
    from tessera.workbench.output import terminal_width

    print(visible(signature_text(standing.signature)))
    print(visible(provenance_text(standing.provenance, terminal_width())))


def passphrase_of(file: Path | None, *, new: bool = False) -> bytes:
    """A key's passphrase: from a file, the environment, or a prompt in a terminal.

    Raises:
        ConfigError: There is none, or the file cannot be read.
    """
    from tessera.package.keys import PASSPHRASE_VARIABLE

    if file is not None:
        try:
            with file.open("rb") as stream:
                words = stream.readline(4096).rstrip(b"\r\n")
        except OSError as error:
            raise ConfigError(f"--passphrase-file {file}: {error.strerror}", hint=f"ls -l {file}") from None
    else:
        words = os.environ.get(PASSPHRASE_VARIABLE, "").encode()
        if not words and sys.stdin.isatty():
            words = str(
                typer.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True)
            ).encode()
    if not words:
        more = ", or --no-passphrase for a key that its file alone protects" if new else ""
        raise ConfigError(
            f"the key's passphrase is empty: {file}" if file else "the key needs a passphrase",
            hint=f"--passphrase-file FILE, or set {PASSPHRASE_VARIABLE}{more}",
            key="passphrase",
        )
    return words
