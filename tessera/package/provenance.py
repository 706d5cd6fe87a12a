"""How a package was made, signed: an SLSA provenance statement in a file beside it.

It lies beside because it names the package's own bytes, signature included. What it
says comes from the manifest; the signature says who says so.

Source: https://slsa.dev/spec/v1.0/provenance, https://github.com/in-toto/attestation.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

import tessera
from tessera.package.atomic import atomic_file
from tessera.package.bundle import Bundle, bundle_from_json, bundle_to_json, fault
from tessera.package.content import map_file
from tessera.package.limits import DEFAULT_LIMITS, Limits
from tessera.package.manifest import MANIFEST
from tessera.package.package import Package
from tessera.package.signing import SigningKey
from tessera.package.statement import Statement, decode, encode_statement, read_statement
from tessera.package.trust import Signer, TrustPolicy
from tessera.program.errors import IntegrityError

PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
"""Of the predicate."""
BUILD_TYPE = "urn:tessera:package:v1"
"""What was done: `docs/signing.md` says what its parameters mean."""
LOCAL_BUILDER = "urn:tessera:builder:local"
"""Who built, where nobody says otherwise: somebody's machine, which nothing is known of."""
SUFFIX = ".sigstore.json"
"""What the name of the package is followed by."""


def provenance_path(package: Path) -> Path:
    """The file beside a package, or beside the folder that it was unpacked into."""
    return package.with_name(package.name + SUFFIX)


def provenance_of(package: Package, file: Path, *, builder: str = LOCAL_BUILDER) -> bytes:
    """The statement of how `package`, which lies at `file`, was made. It has no dates: it is reproducible.

    Its subjects are the file's bytes and the manifest's, which stay what they are when it is unpacked.
    """
    document = {"name": MANIFEST, "digest": {"sha256": hashlib.sha256(package.document).hexdigest()}}
    subjects = [document] if file.is_dir() else [_subject(file), document]
    facts = package.manifest.provenance
    known = ("sources", "toolchain", "tessera_digest")
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "name": package.name,
                "version": package.version,
                "sources": sorted(_table(facts, "sources")),
                "options": {key: value for key, value in facts.items() if key not in known},
            },
            "internalParameters": {"tessera_digest": facts.get("tessera_digest")},
            "resolvedDependencies": [*_sources(facts), *_tools(facts)],
        },
        "runDetails": {
            "builder": {"id": builder, "version": {"tessera": tessera.__version__}},
            "metadata": {},
            "byproducts": [document],
        },
    }
    return encode_statement(PROVENANCE_TYPE, subjects, predicate)


def _subject(file: Path) -> dict[str, Any]:
    digest = hashlib.sha256(map_file(file, what=file.name, follow=True)).hexdigest()
    return {"name": file.name, "digest": {"sha256": digest}}


def _table(facts: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = facts.get(key)
    return found if isinstance(found, dict) else {}


def _sources(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was compiled, with the digests that the compiler took of it."""
    return [
        {"name": name, "digest": {"sha256": digest}}
        for name, digest in sorted(_table(facts, "sources").items())
        if isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest)
    ]


def _tools(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What it was compiled with."""
    return [
        {"name": name, "uri": f"pkg:{'generic' if name == 'python' else 'pypi'}/{name}@{version}"}
        for name, version in sorted(_table(facts, "toolchain").items())
    ]


def write_provenance(file: Path, signer: SigningKey, *, builder: str = LOCAL_BUILDER) -> Path:
    """Write and sign the provenance of the package at `file`; where it is now.

    Raises:
        PackageError: The package cannot be read, or the file not written.
    """
    statement = provenance_of(Package.load(file, verify_weights="lazy"), file, builder=builder)
    path = provenance_path(file)
    with atomic_file(path) as out:
        out.write(bundle_to_json(signer.sign(statement)))
    return path


class _Builder(msgspec.Struct):
    id: str
    version: dict[str, str] = {}


class _RunDetails(msgspec.Struct, rename="camel"):
    builder: _Builder


class _Dependency(msgspec.Struct):
    name: str = ""
    uri: str = ""


class _Definition(msgspec.Struct, rename="camel"):
    build_type: str
    external_parameters: dict[str, Any] = {}
    resolved_dependencies: list[_Dependency] = []


class _Predicate(msgspec.Struct, rename="camel"):
    build_definition: _Definition
    run_details: _RunDetails


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a provenance file says. Nobody has said yet that it is to be trusted."""

    path: Path
    bundle: Bundle
    builder: str
    """Who built: a URI."""
    tessera: str | None
    """Version of Tessera that wrote it."""
    sources: tuple[str, ...]
    tools: tuple[str, ...]
    """`pkg:pypi/numba@0.68.1`."""
    subjects: frozenset[str]
    """SHA-256 of what it is about."""


def read_provenance(file: Path, limits: Limits = DEFAULT_LIMITS) -> Provenance | None:
    """The provenance beside the package at `file`; None if there is none.

    Raises:
        IntegrityError: It is over a cap, or no strict JSON.
        SignatureError: It is no signed SLSA statement.
        PackageError: It cannot be read.
    """
    path = provenance_path(file)
    if not path.exists():
        return None
    data = map_file(path, what=path.name, most=limits.signature_bytes, follow=True)
    if len(data) > limits.signature_bytes:
        raise IntegrityError(f"{path.name}: more than {limits.signature_bytes} bytes", entry=path.name)
    bundle = bundle_from_json(bytes(data), entry=path.name, limits=limits)
    statement: Statement = read_statement(bundle.payload, PROVENANCE_TYPE, entry=path.name, limits=limits)
    predicate = decode(statement.predicate, _Predicate, path.name)
    sources = predicate.build_definition.external_parameters.get("sources", [])
    return Provenance(
        path=path,
        bundle=bundle,
        builder=predicate.run_details.builder.id,
        tessera=predicate.run_details.builder.version.get("tessera"),
        sources=tuple(map(str, sources)) if isinstance(sources, list) else (),
        tools=tuple(d.uri for d in predicate.build_definition.resolved_dependencies if d.uri),
        subjects=frozenset(s.digest.get("sha256", "") for s in statement.subject),
    )


def check_provenance(package: Package, provenance: Provenance, policy: TrustPolicy) -> Signer:
    """Who says how `package` was made, if `policy` accepts them.

    Raises:
        SignatureError: The policy does not, or it is about another package.
    """
    entry = provenance.path.name
    signer = policy.accept(provenance.bundle, entry=entry, package=str(package.path or "PKG"))
    check_subject(package, provenance)
    return signer


def check_subject(package: Package, provenance: Provenance) -> None:
    """See that the statement is about this package: its manifest, which has the digest of everything.

    Raises:
        SignatureError: It is about another.
    """
    if hashlib.sha256(package.document).hexdigest() not in provenance.subjects:
        raise fault(
            provenance.path.name,
            "subject",
            f"is about another package than {package.name} {package.version}",
            hint=f"tessera package sign {package.path} --key KEY.pem writes the one of this package",
        )
