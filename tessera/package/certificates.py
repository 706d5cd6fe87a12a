"""Chains of certificates: who signed, said by an authority that one trusts.

Source: RFC 5280; paths are built and checked by `cryptography.x509.verification`.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tessera.package.bundle import MAX_CHAIN, fault
from tessera.package.keys import check_curve, read_pem, require_cryptography
from tessera.program.errors import SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.x509 import Certificate, KeyUsage
    from cryptography.x509.verification import ExtensionPolicy, Policy

_MAX_EXTENSIONS = 64
"""Most extensions of a certificate."""


def read_certificates(path: Path) -> tuple[Certificate, ...]:
    """Every certificate in a PEM file, in its order.

    Raises:
        SignatureError: There is none, or one is malformed.
    """
    require_cryptography()
    from cryptography import x509

    data = read_pem(path, "certificate")
    try:
        return tuple(_parsed(c) for c in x509.load_pem_x509_certificates(data))
    except _malformed():
        raise SignatureError(
            f"{path}: holds no certificate in PEM",
            hint="its lines begin with -----BEGIN CERTIFICATE-----; a bare key goes to --key",
            rule="certificate",
            file=str(path),
        ) from None


def parse_chain(chain: Sequence[bytes], entry: str) -> tuple[Certificate, ...]:
    """The certificates of a bundle.

    Raises:
        SignatureError: One is malformed.
    """
    require_cryptography()
    from cryptography import x509

    try:
        return tuple(_parsed(x509.load_der_x509_certificate(der)) for der in chain)
    except _malformed() as error:
        raise fault(entry, "certificate", f"one of its certificates is malformed: {error}") from None


def _parsed(certificate: Certificate) -> Certificate:
    """`certificate`, once every part of it that is looked at later has been: they are parsed on first use."""
    from cryptography.hazmat.primitives.serialization import Encoding

    names = (certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string())
    dates = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    der = certificate.public_bytes(Encoding.DER)
    # The count of spare bits before the signature is not itself signed: it can only be 0.
    if not der.endswith(b"\0" + certificate.signature):
        raise ValueError(f"spare bits in the signature on {names[0]}")
    if dates[0] > dates[1] or len(certificate.extensions) > _MAX_EXTENSIONS:
        raise ValueError(f"{names[0]} ends before it begins, or has too many extensions")
    return certificate


def _malformed() -> tuple[type[Exception], ...]:
    """What parsing a certificate raises, which is not of one family; warnings where they are errors."""
    from cryptography import x509

    own = (x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
    return (ValueError, TypeError, Warning, *own)


def leaf_key(leaf: Certificate, entry: str) -> EllipticCurvePublicKey:
    """The signer's key.

    Raises:
        SignatureError: It is of a kind that packages are not signed with.
    """
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        key = leaf.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise fault(entry, "key", f"the key of its certificate is malformed: {error}") from None
    return check_curve(key, f"{entry}: the certificate of {subject(leaf)}")


def subject(certificate: Certificate) -> str:
    """Whose certificate it is: `CN=release,O=Example`."""
    return certificate.subject.rfc4514_string() or "nobody"


def identities(certificate: Certificate) -> tuple[str, ...]:
    """Every name that a policy may ask for: subject, its common name, mail, URI and DNS names."""
    from cryptography import x509

    names = [certificate.subject.rfc4514_string()]
    common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    names += [str(attribute.value) for attribute in common]
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return tuple(names)
    for kind in (x509.RFC822Name, x509.UniformResourceIdentifier, x509.DNSName):
        names += found.get_values_for_type(kind)
    return tuple(names)


def check_chain(
    chain: Sequence[Certificate], roots: Sequence[Certificate], *, entry: str, accept_expired: bool = False
) -> None:
    """See that `roots` vouch for the first certificate of `chain`, today, and as one that may sign.

    Args:
        chain: The signer's certificate, then those between it and a root, in any order.
        roots: Certificates that are trusted as they are.
        entry: What is signed, for messages.
        accept_expired: Whether the day is that on which the signer's certificate began, as for
            `model_signing`, instead of today.

    Raises:
        SignatureError: They do not; `fields["rule"]` says why.
    """
    from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

    leaf, between = chain[0], list(chain[1:])
    now = leaf.not_valid_before_utc if accept_expired else datetime.datetime.now(datetime.UTC)
    check_usage(leaf, entry)
    for certificate in chain:
        check_dates(certificate, now, entry)
    verifier = (
        PolicyBuilder()
        .store(Store(list(roots)))
        .time(now.replace(tzinfo=None))
        .max_chain_depth(MAX_CHAIN)
        .extension_policies(ca_policy=_authorities(), ee_policy=_anyone())
        .build_client_verifier()
    )
    try:
        verifier.verify(leaf, between)
    except (VerificationError, ValueError) as error:
        names = ", ".join(subject(root) for root in roots)
        raise fault(
            entry,
            "roots",
            f"no trusted root vouches for {subject(leaf)}, issued by {leaf.issuer.rfc4514_string()}",
            hint=f"trusted: {names}. Give the issuer's certificate: --trust ROOT.pem; those between it and"
            " the signer's come with the signature: tessera package sign --cert CHAIN.pem",
            detail=str(error),
        ) from None


def check_dates(certificate: Certificate, now: datetime.datetime, entry: str) -> None:
    """See that `certificate` is valid at `now`.

    Raises:
        SignatureError: Not yet, or not any more.
    """
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    who = subject(certificate)
    if now > ends:
        raise fault(
            entry,
            "expired",
            f"the certificate of {who} expired on {ends:%Y-%m-%d %H:%M} UTC",
            hint="sign again with a new certificate: tessera package sign PKG --key KEY.pem --cert CHAIN.pem",
        )
    if now < begins:
        raise fault(
            entry,
            "not yet valid",
            f"the certificate of {who} is valid from {begins:%Y-%m-%d %H:%M} UTC on",
            hint="check this machine's clock: date -u",
        )


def check_usage(leaf: Certificate, entry: str) -> None:
    """See that `leaf` may sign: digital signatures or code signing, and nothing that says otherwise.

    Raises:
        SignatureError: It is a certificate for something else.
    """
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    usage = extended = None
    for extension in leaf.extensions:
        if isinstance(extension.value, x509.KeyUsage):
            usage = extension.value.digital_signature
        elif isinstance(extension.value, x509.ExtendedKeyUsage):
            extended = ExtendedKeyUsageOID.CODE_SIGNING in extension.value
    if (usage, extended) == (None, None) or usage is False or extended is False:
        raise fault(
            entry,
            "key usage",
            f"the certificate of {subject(leaf)} is not one for signing",
            hint="it needs keyUsage=digitalSignature; if it has extendedKeyUsage, codeSigning too",
        )


def _anyone() -> ExtensionPolicy:
    # Not those of the web: signers have no host names. `check_usage` looks at what matters here.
    from cryptography.x509.verification import ExtensionPolicy

    return ExtensionPolicy.permit_all()


def _authorities() -> ExtensionPolicy:
    """Issuers must say that they are authorities and, if they say what for, that it is certificates."""
    from cryptography import x509
    from cryptography.x509.verification import Criticality

    return (
        _anyone()
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_issue)
    )


def _may_issue(_policy: Policy, _certificate: Certificate, usage: KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("an issuer's certificate is not one for issuing others")
