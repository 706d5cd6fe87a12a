"""Says who signed a package, and refuses one that the wrong one signed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tessera.package.bundle import Bundle, bundle_from_json
from tessera.package.limits import DEFAULT_LIMITS, Limits
from tessera.package.manifest import SIGNATURE
from tessera.package.statement import check_statement
from tessera.package.trust import Signer, TrustPolicy
from tessera.program.errors import MissingDependencyError, PackageError

if TYPE_CHECKING:
    from tessera.package.package import Package


def read_signature(package: Package, limits: Limits = DEFAULT_LIMITS) -> Bundle | None:
    """The package's signature, if it has one. Nobody has said yet that it is to be trusted.

    Raises:
        IntegrityError: It is over a cap, or no strict JSON.
        SignatureError: It is no bundle with one signature over an in-toto statement.
    """
    data = package.signature
    return None if data is None else bundle_from_json(data, entry=SIGNATURE, limits=limits)


def check_signature(package: Package, policy: TrustPolicy, limits: Limits = DEFAULT_LIMITS) -> Signer:
    """Who signed the package, if `policy` accepts them.

    The signature is over the digest of every file. Contents are compared with these digests as they are
    read, or all at once by `Package.verify`.

    Raises:
        SignatureError: It has no signature, one that the policy refuses, or one over other contents;
            `fields` has the `rule`, and the `entry` that differs.
        IntegrityError: The signature is no strict JSON, or over a cap.
        PackageError: The package was loaded so that its weights are never checked.
    """
    if package.verify_weights == "lazy":
        raise PackageError(
            "verify_weights='lazy' checks no weight, so that a signature would not cover them",
            hint="load the package with 'first-touch'",
        )
    bundle = read_signature(package, limits)
    if bundle is None:
        raise policy.unsigned(str(package.path or package.name))
    signer = policy.accept(bundle, entry=SIGNATURE, package=str(package.path or "PKG"))
    # What is signed is parsed only now: a stranger's words get no further than this.
    check_statement(bundle.payload, package.files, entry=SIGNATURE, limits=limits)
    return signer


@dataclass(frozen=True, slots=True)
class Claim:
    """What a signature says of itself, which anybody could have written."""

    fingerprint: str | None
    """SHA-256 of the key's PEM; None where the signer does not say."""
    subject: str | None
    """Name in the certificate; None for a bare key."""
    problem: str | None
    """Why no policy could accept it: what it says is not what is in the package."""


def claim_of(package: Package, limits: Limits = DEFAULT_LIMITS) -> Claim | None:
    """What the package's signature claims; None if it has none."""
    bundle = None
    try:
        bundle = read_signature(package, limits)
        if bundle is None:
            return None
        who = _claimed_signer(bundle)
        check_statement(bundle.payload, package.files, entry=SIGNATURE, limits=limits)
    except PackageError as error:
        named = _claimed_signer(bundle) if bundle is not None else (None, None)
        return Claim(*named, error.message)
    return Claim(*who, None)


def _claimed_signer(bundle: Bundle) -> tuple[str | None, str | None]:
    from tessera.package.certificates import leaf_key, parse_chain, subject
    from tessera.package.keys import fingerprint

    if not bundle.chain:
        return bundle.hint, None
    try:
        leaf = parse_chain(bundle.chain, SIGNATURE)[0]
        return fingerprint(leaf_key(leaf, SIGNATURE)), subject(leaf)
    except (PackageError, MissingDependencyError):
        # Without `cryptography`, or for a certificate that is none, there is nothing to tell.
        return None, None
