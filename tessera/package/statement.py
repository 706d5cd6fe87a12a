"""What a signature says of a package: the digest of every file, as OpenSSF Model Signing writes it.

Source: https://github.com/sigstore/model-transparency, predicate `signature/v1.0`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from tessera.package.bundle import fault
from tessera.package.limits import Limits
from tessera.package.manifest import MANIFEST
from tessera.package.strictjson import check_json
from tessera.program.errors import MissingDependencyError

Document = TypeVar("Document")

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
"""Of every in-toto statement."""
SIGNATURE_TYPE = "https://model_signing/signature/v1.0"
"""Of the predicate: digests of a model's files."""


@dataclass(frozen=True, slots=True)
class SignedFile:
    """One file of a package, as a statement names it."""

    size: int
    sha256: str
    content: Callable[[], memoryview]
    """Its bytes; asked for only where the statement has another digest than SHA-256 of the whole file."""


def statement_over(name: str, files: Mapping[str, SignedFile]) -> bytes:
    """The statement that the package `name` consists of exactly `files`."""
    # Sorted by folder and file, not as text: `a/b` before `a-b`. That is what the root digest is over.
    paths = sorted(files, key=lambda path: path.split("/"))
    root = hashlib.sha256(b"".join(bytes.fromhex(files[path].sha256) for path in paths)).hexdigest()
    return encode_statement(
        SIGNATURE_TYPE,
        [{"name": name, "digest": {"sha256": root}}],
        {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": ["META/model.sig"],
            },
            "resources": [
                {"name": path, "algorithm": "sha256", "digest": files[path].sha256} for path in paths
            ],
        },
    )


def encode_statement(kind: str, subjects: list[dict[str, Any]], predicate: Mapping[str, Any]) -> bytes:
    """An in-toto statement; equal data gives equal bytes."""
    document = {"_type": STATEMENT_TYPE, "subject": subjects, "predicateType": kind, "predicate": predicate}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=True).encode()


class Subject(msgspec.Struct):
    """What a statement is about."""

    digest: dict[str, str]
    name: str = ""


class Statement(msgspec.Struct):
    """An in-toto statement, its predicate not decoded."""

    type: str = msgspec.field(name="_type")
    subject: list[Subject]
    predicate_type: str = msgspec.field(name="predicateType")
    predicate: msgspec.Raw = msgspec.Raw(b"{}")


class _Serialization(msgspec.Struct):
    method: str


class _Resource(msgspec.Struct):
    name: str
    algorithm: str
    digest: str


class _Predicate(msgspec.Struct):
    serialization: _Serialization
    resources: list[_Resource]


def read_statement(payload: bytes, kind: str, *, entry: str, limits: Limits) -> Statement:
    """The statement in a payload.

    Raises:
        IntegrityError: Over a cap, no JSON, or a key appears twice.
        SignatureError: No statement, or one of another kind.
    """
    check_json(payload, entry=entry, max_bytes=limits.signature_bytes, max_depth=limits.json_depth)
    statement = decode(payload, Statement, entry)
    if statement.type != STATEMENT_TYPE:
        raise fault(entry, "statement", f"is of type {statement.type[:80]!r}, not {STATEMENT_TYPE}")
    if statement.predicate_type != kind:
        raise fault(entry, "statement", f"states {statement.predicate_type[:80]!r}, not {kind}")
    return statement


def decode(data: bytes | msgspec.Raw, kind: type[Document], entry: str) -> Document:
    """JSON as `kind`.

    Raises:
        SignatureError: It is not.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise fault(entry, "statement", f"its statement is malformed: {error}") from None


def check_statement(payload: bytes, files: Mapping[str, SignedFile], *, entry: str, limits: Limits) -> None:
    """See that a signed statement names exactly these files, with their digests.

    Raises:
        SignatureError: It does not; `fields["entry"]` names the first file that differs.
    """
    statement = read_statement(payload, SIGNATURE_TYPE, entry=entry, limits=limits)
    predicate = decode(statement.predicate, _Predicate, entry)
    _check_root(statement, predicate, entry)
    by_file: dict[str, list[tuple[int, int | None, _Resource]]] = {}
    for resource in predicate.resources:
        path, start, end = _parse_name(resource.name, predicate.serialization.method, entry)
        by_file.setdefault(path, []).append((start, end, resource))
    wrong: dict[str, str] = {}
    for path in files.keys() | by_file.keys():
        if path not in files:
            wrong[path] = "is signed, but not in the package"
        elif path not in by_file:
            wrong[path] = "is not signed: it was added later"
        elif not _fits(files[path], sorted(by_file[path], key=lambda r: r[0])):
            wrong[path] = "is not what was signed"
    if wrong:
        # Files that came or went before those that changed; the manifest, which differs with any, last.
        both = files.keys() & by_file.keys()
        first, *more = sorted(wrong, key=lambda path: (path == MANIFEST, path in both, path))
        also = f" (and {len(more)} more: {', '.join(more[:3])})" if more else ""
        raise fault(first, "contents", f"{wrong[first]}{also}", entries=[first, *more])


def _check_root(statement: Statement, predicate: _Predicate, entry: str) -> None:
    if len(statement.subject) != 1:
        raise fault(entry, "statement", f"has {len(statement.subject)} subjects, not exactly one")
    if not all(re.fullmatch(r"(?:[0-9a-f]{2}){32,64}", r.digest, re.ASCII) for r in predicate.resources):
        raise fault(entry, "statement", "a digest in it is malformed")
    root = hashlib.sha256(b"".join(bytes.fromhex(r.digest) for r in predicate.resources)).hexdigest()
    if statement.subject[0].digest != {"sha256": root}:
        raise fault(entry, "statement", "its root digest is not that of its files")


def _parse_name(name: str, method: str, entry: str) -> tuple[str, int, int | None]:
    """Path, start and end (None: the whole file) of a resource."""
    if method == "files":
        return name, 0, None
    match = re.fullmatch(r"(.+):(\d{1,18}):(\d{1,18})", name, re.ASCII)
    if method != "shards" or match is None:
        raise fault(entry, "statement", f"names files in a way that is not known: {method[:40]!r}")
    return match[1], int(match[2]), int(match[3])


def _fits(file: SignedFile, parts: list[tuple[int, int | None, _Resource]]) -> bool:
    """Whether the parts cover the file from end to end, each with its digest."""
    position = 0
    for start, end, resource in parts:
        stop = file.size if end is None else end
        if start != position or not start <= stop <= file.size:
            return False
        if start == stop and len(parts) > 1:
            return False
        position = stop
        if _digest(file, start, stop, resource.algorithm) != resource.digest:
            return False
    return position == file.size


def _digest(file: SignedFile, start: int, stop: int, algorithm: str) -> str | None:
    # Of a part it is called `sha256-sharded-1000000000`.
    algorithm = re.sub(r"-sharded-\d+\Z", "", algorithm, flags=re.ASCII)
    if algorithm == "sha256" and (start, stop) == (0, file.size):
        return file.sha256
    make = _ALGORITHMS.get(algorithm)
    return make(file.content()[start:stop]) if make else None


def _blake3(data: memoryview) -> str:
    try:
        import blake3
    except ImportError:
        raise MissingDependencyError(
            "the package was signed with BLAKE3, and the Python package 'blake3' is not installed",
            hint="pip install blake3",
            package="blake3",
        ) from None
    return str(blake3.blake3(data).hexdigest())


_ALGORITHMS: dict[str, Callable[[memoryview], str]] = {
    "sha256": lambda data: hashlib.sha256(data).hexdigest(),
    "blake2b": lambda data: hashlib.blake2b(data).hexdigest(),
    "blake3": _blake3,
}
"""What `model_signing` hashes with; its command takes SHA-256."""
