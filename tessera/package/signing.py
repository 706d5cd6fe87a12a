"""Signs packages: a file or an unpacked folder, in place or as a new file."""

from __future__ import annotations

import datetime
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tessera.package.archive import Archive
from tessera.package.atomic import atomic_file
from tessera.package.bundle import MAX_CHAIN, Bundle, bundle_to_json, pae
from tessera.package.certificates import (
    check_dates,
    check_usage,
    parse_chain,
    read_certificates,
    subject,
)
from tessera.package.keys import fingerprint, read_private_key, short, sign_bytes
from tessera.package.limits import DEFAULT_LIMITS, Limits
from tessera.package.manifest import SIGNATURE
from tessera.package.package import Package
from tessera.package.statement import statement_over
from tessera.program.errors import IntegrityError, PackageError, SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, and who says whose it is."""

    key: EllipticCurvePrivateKey
    chain: tuple[bytes, ...] = ()
    """Certificates in DER, the key's own first."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public key in PEM."""
        return fingerprint(self.key.public_key())

    @property
    def subject(self) -> str | None:
        """Name in the key's certificate; None if it has none."""
        return subject(parse_chain(self.chain[:1], SIGNATURE)[0]) if self.chain else None

    def sign(self, payload: bytes) -> Bundle:
        """A bundle that says `payload`."""
        hint = None if self.chain else self.fingerprint
        return Bundle(payload, sign_bytes(self.key, pae(payload)), hint, self.chain)


def read_signer(key: Path, certificates: Path | None = None, passphrase: bytes | None = None) -> SigningKey:
    """The private key in `key` and, of `certificates`, its own and those that vouch for it.

    Raises:
        SignatureError: The key cannot be had, no certificate is its own, or that one may not sign today.
        MissingDependencyError: `cryptography` is not installed.
    """
    private = read_private_key(key, passphrase)
    if certificates is None:
        return SigningKey(private)
    found = read_certificates(certificates)
    name = str(certificates)
    own = [c for c in found if c.public_key() == private.public_key()]
    if not own:
        raise SignatureError(
            f"{certificates}: none of its {len(found)} certificates is that of the key"
            f" {short(fingerprint(private.public_key()))}",
            hint="give the certificate that was issued for this key, and those between it and its root",
            rule="certificate",
            file=name,
        )
    if len(found) > MAX_CHAIN:
        raise SignatureError(
            f"{certificates}: {len(found)} certificates, more than {MAX_CHAIN}", rule="certificate", file=name
        )
    check_usage(own[0], name)
    check_dates(own[0], datetime.datetime.now(datetime.UTC), name)
    chain = [own[0], *(c for c in found if c != own[0])]
    return SigningKey(private, tuple(_der(c) for c in chain))


def _der(certificate: Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


def sign_package(
    path: Path, signer: SigningKey, *, out: Path | None = None, limits: Limits = DEFAULT_LIMITS
) -> Path:
    """Sign the package at `path`, all of which is checked first; where it is now.

    A file is written anew, atomically, and keeps every byte up to the end of its manifest; a signature
    that it has is replaced. An unpacked folder gets the file `META/model.sig`.

    Args:
        path: A package file, or the folder that one was unpacked into.
        signer: Who signs.
        out: Where to write the signed file; None: in the place of `path`.
        limits: Caps on what is read.

    Raises:
        IntegrityError: The package is damaged: nothing was written.
        PackageError: It cannot be read, or the signed one cannot be written.
    """
    path = path.resolve()
    package = Package.load(path, limits=limits, verify_weights="lazy")
    signature = bundle_to_json(signer.sign(statement_over(package.name, package.files)))
    if path.is_dir():
        if out is not None:
            raise PackageError(
                f"{path} is a folder, which is signed where it is",
                hint=f"tessera package repack {path} -o {out} makes a file of it, to be signed then",
            )
        _sign_folder(package, path, signature)
        return path
    out = path if out is None else out
    # What replaces a file has its permissions; a new file has those of any.
    mode = stat.S_IMODE(path.stat().st_mode) if out == path else None
    source = Archive(path, limits)
    if source.document != package.document:
        raise IntegrityError(f"{path} was replaced while it was read", hint="sign again", entry=SIGNATURE)
    with atomic_file(out, mode=mode) as file:
        source.write_signed(file, signature)
    return out


def _sign_folder(package: Package, folder: Path, signature: bytes) -> None:
    for finding in package.verify():
        raise IntegrityError(
            f"{finding.entry}: {finding.problem}", hint="tessera package verify", entry=finding.entry
        )
    place = folder / SIGNATURE
    try:
        place.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise PackageError(f"cannot write {place}: {error.strerror}", hint=f"ls -ld {folder}") from error
    with atomic_file(place) as file:
        file.write(signature)
