"""Key files: P-256 pairs in PEM, private ones for their owner's eyes alone.

A key is called by its fingerprint, the SHA-256 of its public half in PEM, which is
also what `sha256sum release.pub.pem` prints.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tessera.package.atomic import atomic_file
from tessera.package.content import map_file
from tessera.program.errors import MissingDependencyError, PackageError, SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

PASSPHRASE_VARIABLE = "TESSERA_KEY_PASSPHRASE"  # noqa: S105 - a name, no secret
"""Environment variable that holds the passphrase of a private key."""
_MAX_BYTES = 1 << 20
_HASHES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
"""The hash that goes with each curve. The key alone decides it, never what is verified."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Where a new key is."""

    private: Path
    public: Path
    fingerprint: str


def require_cryptography() -> None:
    """See that `cryptography` is there; what it brings is imported where it is used.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise MissingDependencyError.extra("cryptography", "sign", needed_for="signing") from None


def check_new_key(stem: Path) -> tuple[Path, Path]:
    """Where a new key's halves go.

    Raises:
        PackageError: One of the files is there already.
        MissingDependencyError: `cryptography` is not installed.
    """
    require_cryptography()
    if stem.name in ("", ".."):
        raise PackageError(
            f"{stem} is no name for a key", hint="tessera package keygen release", file=str(stem)
        )
    private, public = stem.with_name(stem.name + ".pem"), stem.with_name(stem.name + ".pub.pem")
    for path in (private, public):
        if os.path.lexists(path):
            raise PackageError(
                f"{path} exists: a key is never overwritten", hint="give another name", file=str(path)
            )
    return private, public


def generate_key(stem: Path, passphrase: bytes | None = None) -> KeyPair:
    """A new P-256 key: `STEM.pem` (PKCS #8, mode 0600) and `STEM.pub.pem`.

    Args:
        stem: Path without the endings.
        passphrase: Encrypts the private half; None leaves it plain.

    Raises:
        PackageError: One of the files is there already, or cannot be written.
        MissingDependencyError: `cryptography` is not installed.
    """
    private, public = check_new_key(stem)
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    locked: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        locked = serialization.BestAvailableEncryption(passphrase)
    data = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    with ExitStack() as undo:
        _write_new(private, data, 0o600)
        # Half a pair would be in the way of the next try.
        undo.callback(private.unlink, missing_ok=True)
        _write_new(public, public_pem(key.public_key()), None)
        undo.pop_all()
    return KeyPair(private, public, fingerprint(key.public_key()))


def _write_new(path: Path, data: bytes, mode: int | None) -> None:
    with atomic_file(path, mode=mode, replace=False) as file:
        file.write(data)


def read_private_key(path: Path, passphrase: bytes | None = None) -> EllipticCurvePrivateKey:
    """The private key in a PEM file.

    Raises:
        SignatureError: No such key, a wrong or missing passphrase, or a plain key that others may read.
    """
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    data = read_pem(path, "private key")
    encrypted = b"ENCRYPTED" in data
    if b"PRIVATE KEY-----" not in data:
        raise _bad_key(path, _other_file(data), "give the file that `tessera package keygen` wrote: NAME.pem")
    if b"BEGIN OPENSSH PRIVATE KEY" in data:
        raise _bad_key(
            path,
            "is a key in the form of OpenSSH, not in PKCS #8",
            f"cp {path} KEY.pem && ssh-keygen -p -m PKCS8 -f KEY.pem",
        )
    if encrypted and passphrase is None:
        raise SignatureError(
            f"{path}: the key is encrypted, and no passphrase was given",
            hint=f"--passphrase-file FILE, or set {PASSPHRASE_VARIABLE}",
            rule="passphrase",
            file=str(path),
        )
    if not encrypted:
        _check_mode(path)
    try:
        key = serialization.load_pem_private_key(data, passphrase if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        problem = "the passphrase is wrong, or the file is damaged" if encrypted else "the file is damaged"
        again = "give the passphrase again" if encrypted else "copy the file again"
        hint = f"{again}, or make another key: tessera package keygen NAME"
        raise SignatureError(f"{path}: {problem}", hint=hint, rule="passphrase", file=str(path)) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _HASHES:
        raise _bad_key(path, _other_kind(key), "tessera package keygen makes a P-256 key")
    return key


def is_encrypted(path: Path) -> bool:
    """Whether the key in a PEM file needs a passphrase.

    Raises:
        SignatureError: The file cannot be read.
    """
    return b"ENCRYPTED" in read_pem(path, "private key")


def _check_mode(path: Path) -> None:
    mode = path.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SignatureError(
            f"{path}: others may read this key: it is not encrypted, its mode is {stat.S_IMODE(mode):04o}",
            hint=f"chmod 600 {path}",
            rule="mode",
            file=str(path),
        )


def read_public_key(path: Path) -> EllipticCurvePublicKey:
    """The public key in a PEM file.

    Raises:
        SignatureError: There is no such key in it.
    """
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    data = read_pem(path, "public key")
    if b"PRIVATE KEY-----" in data:
        raise _bad_key(path, "is a private key", "give its public half: NAME.pub.pem")
    if b"BEGIN CERTIFICATE" in data:
        raise _bad_key(path, "is a certificate", f"to trust what it issues: --trust {path}")
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise _bad_key(path, "is no public key in PEM", "tessera package keygen writes one") from None
    return check_curve(key, str(path))


def check_curve(key: object, where: str) -> EllipticCurvePublicKey:
    """`key`, if it is one that packages are signed with.

    Raises:
        SignatureError: It is RSA, Ed25519, or on another curve.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise _bad_key(Path(where), _other_kind(key), "tessera package keygen makes a P-256 key")
    return key


def _other_kind(key: object) -> str:
    curve = getattr(getattr(key, "curve", None), "name", None)
    kind = curve or type(key).__name__.lstrip("_").removesuffix("PrivateKey").removesuffix("PublicKey")
    return f"is a key of the kind {kind}; packages are signed with ECDSA on P-256, P-384 or P-521"


def _other_file(data: bytes) -> str:
    """What is wrong with a file that should hold a private key."""
    if not data.strip():
        return "is empty"
    if b"PUBLIC KEY-----" in data:
        return "is a public key: it is no private key"
    if b"BEGIN CERTIFICATE" in data:
        return "is a certificate: it is no private key"
    return "is no private key"


def read_pem(path: Path, what: str) -> bytes:
    """The bytes of a small file.

    Raises:
        SignatureError: It cannot be read, or is far too large.
    """
    try:
        data = bytes(map_file(path, what=what, most=_MAX_BYTES, follow=True))
    except PackageError as error:
        reason = getattr(error.__cause__, "strerror", None) or "it is not a regular file"
        raise _bad_key(path, f"cannot read the {what}: {reason}", f"ls -l {path}") from error
    if len(data) > _MAX_BYTES:
        raise _bad_key(path, f"more than {_MAX_BYTES} bytes", f"name the file of the {what}")
    return data


def _bad_key(path: Path, problem: str, hint: str) -> SignatureError:
    return SignatureError(f"{path}: {problem}", hint=hint, rule="key", file=str(path))


def public_pem(key: EllipticCurvePublicKey) -> bytes:
    """The key as a PEM file."""
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def fingerprint(key: EllipticCurvePublicKey) -> str:
    """SHA-256 of the key's PEM, in hexadecimal."""
    return hashlib.sha256(public_pem(key)).hexdigest()


def short(digest: str | None) -> str:
    """A fingerprint as a person compares it: `sha256:5d6be6c119d1d683…`."""
    return f"sha256:{digest[:16]}…" if digest else "unknown"


def _hash_of(key: EllipticCurvePublicKey) -> HashAlgorithm:
    from cryptography.hazmat.primitives import hashes

    found: HashAlgorithm = getattr(hashes, _HASHES[key.curve.name])()
    return found


def sign_bytes(key: EllipticCurvePrivateKey, data: bytes) -> bytes:
    """ECDSA over `data`, in DER; always the same one (RFC 6979) where OpenSSL is 3.2 or newer."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec

    algorithm = _hash_of(key.public_key())
    try:
        return key.sign(data, ec.ECDSA(algorithm, deterministic_signing=True))
    except UnsupportedAlgorithm:
        return key.sign(data, ec.ECDSA(algorithm))


def is_signed(key: EllipticCurvePublicKey, signature: bytes, data: bytes) -> bool:
    """Whether `signature` is that of `key` over `data`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key.verify(signature, data, ec.ECDSA(_hash_of(key)))
    except InvalidSignature:
        return False
    return True
