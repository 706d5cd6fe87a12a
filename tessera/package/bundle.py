"""A signature as the world writes it: a DSSE envelope in a Sigstore bundle.

The payload says what is signed (an in-toto statement); the envelope holds it with
one signature; the bundle names the key, or brings the signer's certificates.

Source: https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md,
https://docs.sigstore.dev/about/bundle/ (version 0.3).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from tessera.package.limits import Limits
from tessera.package.strictjson import check_json
from tessera.program.errors import SignatureError

PAYLOAD_TYPE = "application/vnd.in-toto+json"
"""The only payload that Tessera signs and accepts."""
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
"""The only bundle version that Tessera writes and accepts."""
MAX_CHAIN = 8
"""Most certificates in a bundle."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A payload and who says it. Nothing here is trusted until `trust.accept` says so."""

    payload: bytes
    signature: bytes
    """ECDSA over `pae(payload)`, in DER."""
    hint: str | None = None
    """SHA-256 of the public key's PEM, where the signer has no certificate."""
    chain: tuple[bytes, ...] = ()
    """Certificates in DER, the signer's first."""


def pae(payload: bytes) -> bytes:
    """What is signed: the payload with its type and their lengths, so that neither can be swapped."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def bundle_to_json(bundle: Bundle) -> bytes:
    """The document of `bundle`."""
    material: dict[str, Any] = (
        {"x509CertificateChain": {"certificates": [{"rawBytes": _encode(c)} for c in bundle.chain]}}
        if bundle.chain
        else {"publicKey": {"hint": bundle.hint}}
    )
    document = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {**material, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": _encode(bundle.payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": _encode(bundle.signature), "keyid": ""}],
        },
    }
    return json.dumps(document, separators=(",", ":")).encode()


class _Strict(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """A message of the bundle's schema."""


class _Signature(_Strict):
    sig: str
    keyid: str = ""


class _Envelope(_Strict):
    payload: str
    payload_type: str
    signatures: list[_Signature]


class _PublicKey(_Strict):
    hint: str | None = None
    raw_bytes: str | None = None
    key_details: str | None = None


class _Certificate(_Strict):
    raw_bytes: str


class _Chain(_Strict):
    certificates: list[_Certificate]


class _Material(_Strict):
    public_key: _PublicKey | None = None
    x509_certificate_chain: _Chain | None = msgspec.field(default=None, name="x509CertificateChain")
    certificate: _Certificate | None = None
    tlog_entries: list[Any] = []
    timestamp_verification_data: Any = None


class _Bundle(_Strict):
    media_type: str
    verification_material: _Material
    dsse_envelope: _Envelope


def bundle_from_json(data: bytes, *, entry: str, limits: Limits) -> Bundle:
    """The bundle that `data` holds.

    Args:
        data: The document.
        entry: What to call it in a message.
        limits: Caps on size and nesting.

    Raises:
        IntegrityError: Over a cap, no JSON, or a key appears twice.
        SignatureError: Another kind of document, of payload, or not exactly one signature.
    """
    check_json(data, entry=entry, max_bytes=limits.signature_bytes, max_depth=limits.json_depth)
    try:
        found = msgspec.json.decode(data, type=_Bundle)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise fault(entry, "bundle", f"is no Sigstore bundle with a DSSE envelope: {error}") from None
    if found.media_type != MEDIA_TYPE:
        raise fault(entry, "bundle", f"is of media type {found.media_type[:80]!r}, not {MEDIA_TYPE}")
    envelope = found.dsse_envelope
    if envelope.payload_type != PAYLOAD_TYPE:
        kind = envelope.payload_type[:80]
        raise fault(entry, "payload type", f"its payload is of type {kind!r}, not {PAYLOAD_TYPE}")
    if len(envelope.signatures) != 1:
        raise fault(entry, "signatures", f"holds {len(envelope.signatures)} signatures, not exactly one")
    return Bundle(
        _decode(envelope.payload, entry, "payload"),
        _decode(envelope.signatures[0].sig, entry, "signature"),
        *_signer(found.verification_material, entry),
    )


def _signer(material: _Material, entry: str) -> tuple[str | None, tuple[bytes, ...]]:
    """The key's hint, or the certificates."""
    single = (material.certificate,) if material.certificate else ()
    chain = material.x509_certificate_chain
    ways = [material.public_key, material.certificate, chain]
    if sum(way is not None for way in ways) != 1:
        raise fault(entry, "bundle", "must name one key, or bring one chain of certificates")
    if material.public_key is not None:
        hint = material.public_key.hint
        if hint and not re.fullmatch(r"[0-9a-f]{64}", hint, re.ASCII):
            raise fault(entry, "bundle", "the hint at its key is not the SHA-256 of a public key")
        return hint or None, ()
    certificates = tuple(chain.certificates) if chain else single
    if not 1 <= len(certificates) <= MAX_CHAIN:
        raise fault(entry, "bundle", f"brings {len(certificates)} certificates, not 1 to {MAX_CHAIN}")
    return None, tuple(_decode(c.raw_bytes, entry, "certificate") for c in certificates)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str, entry: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = None
    # One spelling only: spare bits at the end of base64 could otherwise be flipped unseen.
    if data is None or _encode(data) != text:
        raise fault(entry, "bundle", f"its {what} is not base64")
    return data


def fault(
    entry: str,
    rule: str,
    problem: str,
    *,
    hint: str | None = None,
    **fields: Any,
) -> SignatureError:
    """The error for a signature that `rule` refuses."""
    return SignatureError(
        f"{entry}: {problem}",
        hint=hint or "get the package again from who signed it, or sign it: tessera package sign",
        entry=entry,
        rule=rule,
        **fields,
    )
