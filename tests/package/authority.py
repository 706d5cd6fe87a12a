"""Keys, certificates and signed packages to test with."""

from __future__ import annotations

import datetime
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)

Extension = tuple[x509.ExtensionType, bool]


def usage(*, sign: bool = False, issue: bool = False) -> Extension:
    """The key usage of a certificate."""
    names = (
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    flags = dict.fromkeys(names, False)
    return x509.KeyUsage(digital_signature=sign, key_cert_sign=issue, **flags), True


@dataclass
class Holder:
    """A certificate and its key."""

    name: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def issue(
        self,
        name: str,
        *extensions: Extension,
        authority: bool = False,
        begins: datetime.datetime = NOW - DAY,
        ends: datetime.datetime = NOW + 30 * DAY,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> Holder:
        """A certificate that this one vouches for."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        return Holder(
            name,
            key,
            _certificate(
                name, key, self.name, self.key, extensions, authority=authority, begins=begins, ends=ends
            ),
        )

    def write(self, folder: Path, *between: Holder) -> tuple[Path, Path]:
        """Files of the key and of the chain."""
        folder.mkdir(exist_ok=True)
        key, chain = folder / f"{self.name}.pem", folder / f"{self.name}.crt"
        key.write_bytes(private_pem(self.key))
        key.chmod(0o600)
        chain.write_bytes(b"".join(map(pem, (self, *between))))
        return key, chain


def root(name: str = "root", **dates: datetime.datetime) -> Holder:
    """A certificate that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    begins, ends = dates.get("begins", NOW - 2 * DAY), dates.get("ends", NOW + 60 * DAY)
    return Holder(name, key, _certificate(name, key, name, key, (), authority=True, begins=begins, ends=ends))


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    extensions: tuple[Extension, ...],
    *,
    authority: bool,
    begins: datetime.datetime,
    ends: datetime.datetime,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def pem(holder: Holder) -> bytes:
    return holder.certificate.public_bytes(serialization.Encoding.PEM)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def stock(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the `model_signing` command."""
    return subprocess.run(
        [sys.executable, "-m", "model_signing", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
