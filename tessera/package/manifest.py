"""`manifest.json`: what a package holds, with the size and digest of every entry.

The document ends in a digest of all its bytes before that digest, so that it
guards itself in a container and in an unpacked folder alike, and the digest
names the whole package.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any, Literal, TypeVar

import msgspec

from tessera.package.limits import Limits
from tessera.package.strictjson import check_json
from tessera.program.artifact import BinaryFormat, Resources
from tessera.program.codec import encode
from tessera.program.dtype import DTYPES, DType
from tessera.program.errors import IntegrityError, PackageError

Document = TypeVar("Document")

MANIFEST = "manifest.json"
"""Name of the manifest, the last entry of a container; only a signature follows it."""
SIGNATURE = "META/model.sig"
"""Name of the signature over the manifest and all that it lists; it is in neither."""
FORMAT_MAJOR = 1
FORMAT = "1.0"
"""Format version that this Tessera writes. A reader accepts every minor of its major."""

Kind = Literal["tsc", "tsp", "tsd"]
"""A compiled function, a batch of them, a deployment."""

_TAIL = b'"\n}\n'


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file of the package."""

    path: str
    size: int
    """Bytes of its content."""
    sha256: str
    """Digest of its content, in hexadecimal."""
    compression: Literal["none", "deflate"] = "none"
    """How a container stores it."""
    offset: int | None = None
    """Where its data begins in the container; None before there is one."""
    packed_size: int | None = None
    """Bytes of the deflated data in the container."""
    packed_sha256: str | None = None
    """Digest of the deflated data: it is checked before anything is inflated."""


class ProgramRow(msgspec.Struct, frozen=True, kw_only=True):
    """Where a program is."""

    name: str
    path: str


class KernelRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where the machine code of one or more kernels is."""

    program: str
    """Name of the program whose plan launches it."""
    name: str
    """The kernel's name, or the program's for a CPU library."""
    kernels: tuple[str, ...]
    """Entry names inside, as `Launch.kernel` gives them."""
    target: str
    """`sm_90a`, `cpu-x86_64-v3`; for PTX the architecture it was made for."""
    format: BinaryFormat
    path: str
    resources: Resources | None = None
    """What the assembler reported, GPU kernels only."""


class WeightRow(msgspec.Struct, frozen=True, kw_only=True):
    """Where a constant is: its elements in C order, little-endian, nothing else."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    path: str

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count * self.dtype.itemsize


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The whole document, fields in the order of the file."""

    format: str = FORMAT
    kind: Kind
    name: str
    version: str
    metadata: dict[str, Any] = {}
    """What the author says: `author`, `description`, and any other JSON data."""
    requirements: dict[str, str] = {}
    """What the package needs of a machine, such as `{"cuda": ">=11.8"}`."""
    programs: tuple[ProgramRow, ...] = ()
    kernels: tuple[KernelRow, ...] = ()
    weights: tuple[WeightRow, ...] = ()
    config: dict[str, str] = {}
    """Paths of configuration documents by name: `model`, `runtime`."""
    runtime: tuple[str, ...] = ()
    """Paths of what helps to run the package: the launcher, the native library."""
    provenance: dict[str, Any] = {}
    """How it was made: source digests, toolchain versions, options."""
    notes: tuple[str, ...] = ()
    """What the compiler wanted the user to know."""
    entries: tuple[Entry, ...] = ()
    """Every entry but this one, sorted by path."""
    digest: str = ""
    """SHA-256 of every byte of the document before this value: the identity of the package."""

    def entry(self, path: str) -> Entry | None:
        """The entry at `path`, if there is one."""
        return next((e for e in self.entries if e.path == path), None)


class _Head(msgspec.Struct):
    format: str


def manifest_to_json(manifest: Manifest) -> bytes:
    """The document of `manifest`, with its digest filled in.

    Raises:
        PackageError: `metadata` or `provenance` hold something that is not JSON data.
    """
    try:
        text = encode(msgspec.structs.replace(manifest, digest=""))
    except (TypeError, UnicodeEncodeError, RecursionError, msgspec.EncodeError) as error:
        raise PackageError(f"the manifest holds something that is not JSON data: {error}") from None
    head = text.removesuffix(_TAIL.rstrip())
    return head + hashlib.sha256(head).hexdigest().encode() + _TAIL


def manifest_from_json(data: bytes, limits: Limits) -> Manifest:
    """The manifest that `data` holds, checked by itself; a source compares it with the entries it finds.

    Raises:
        IntegrityError: The digest does not fit, or the document is over a limit or malformed.
        PackageError: It is of another major format version.
    """
    if len(data) > limits.manifest_bytes:
        raise _bad(f"{len(data)} bytes, more than {limits.manifest_bytes}")
    head, digest = data[: -64 - len(_TAIL)], data[-64 - len(_TAIL) : -len(_TAIL)]
    if not data.endswith(_TAIL) or hashlib.sha256(head).hexdigest().encode() != digest:
        raise _bad("its digest does not fit its contents")
    check_json(data, entry=MANIFEST, max_bytes=limits.manifest_bytes, max_depth=limits.json_depth)
    check_format(_decode(data, _Head).format)
    manifest = _decode(data, Manifest)
    if manifest.digest.encode() != digest:
        raise _bad("its last value is not its digest")
    _check_tables(manifest, limits)
    return manifest


def check_format(version: str) -> None:
    """Accept any minor version of the format this Tessera knows.

    Raises:
        PackageError: Another major version, or no version at all.
    """
    match = re.fullmatch(r"(\d{1,6})\.(\d{1,6})", version, re.ASCII)
    if not match or int(match[1]) != FORMAT_MAJOR:
        raise PackageError(
            f"{MANIFEST}: format version {version!r} is not {FORMAT_MAJOR}.x, which this Tessera reads",
            hint="pip install --upgrade tessera, or build the package again",
            entry=MANIFEST,
        )


def _decode(data: bytes, kind: type[Document]) -> Document:
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=_dtype)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(str(error)) from None


def _dtype(kind: type[Any], value: object) -> DType:
    found = DTYPES.get(value) if isinstance(value, str) else None
    if kind is not DType or found is None:
        # msgspec adds the path of the field to a ValueError.
        raise ValueError(f"unknown dtype {value!r}")
    return found


def _bad(problem: str) -> IntegrityError:
    return IntegrityError(f"{MANIFEST}: {problem}", entry=MANIFEST)


def table_paths(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Folder and path of every file that the tables name."""
    yield from (("programs/", row.path) for row in manifest.programs)
    yield from (("kernels/", row.path) for row in manifest.kernels)
    yield from (("weights/", row.path) for row in manifest.weights)
    yield from (("config/", path) for path in manifest.config.values())
    yield from (("runtime/", path) for path in manifest.runtime)


def _check_tables(manifest: Manifest, limits: Limits) -> None:
    entries: dict[str, Entry] = {}
    for entry in manifest.entries:
        if entry.path in entries or entry.path == MANIFEST:
            raise IntegrityError(f"{MANIFEST}: entry {entry.path!r} appears twice", entry=entry.path)
        _check_entry(entry)
        entries[entry.path] = entry
    if len(entries) >= limits.entries:
        raise _bad(f"{len(entries)} entries, more than {limits.entries}")
    unused = dict(entries)
    for folder, path in table_paths(manifest):
        if path not in entries:
            raise IntegrityError(f"{MANIFEST}: a table names {path!r}, which is no entry", entry=path)
        if not path.startswith(folder):
            raise IntegrityError(f"{MANIFEST}: {path!r} belongs under {folder}", entry=path)
        if unused.pop(path, None) is None:
            raise IntegrityError(f"{MANIFEST}: two rows share the file {path!r}", entry=path)
    for path in unused:
        raise IntegrityError(f"{MANIFEST}: no table names the entry {path!r}", entry=path)
    _check_rows(manifest, entries)


def _check_entry(entry: Entry) -> None:
    sizes = (entry.size, entry.offset or 0, entry.packed_size or 0)
    digests = (entry.sha256, *([entry.packed_sha256] if entry.packed_sha256 is not None else []))
    if min(sizes) < 0 or not all(re.fullmatch(r"[0-9a-f]{64}", d, re.ASCII) for d in digests):
        raise IntegrityError(
            f"{MANIFEST}: entry {entry.path!r} has a malformed size or digest", entry=entry.path
        )


def _check_rows(manifest: Manifest, entries: dict[str, Entry]) -> None:
    for what, names in (
        ("program", [row.name for row in manifest.programs]),
        ("weight", [row.name for row in manifest.weights]),
    ):
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise _bad(f"the {what} {twice!r} appears twice")
    known = {row.name for row in manifest.programs}
    for row in manifest.kernels:
        if row.program not in known:
            raise IntegrityError(f"{MANIFEST}: kernel {row.name!r} is of no program", entry=row.path)
    for weight in manifest.weights:
        size = entries[weight.path].size
        if any(n < 0 for n in weight.shape) or weight.nbytes != size:
            raise IntegrityError(
                f"{MANIFEST}: weight {weight.name!r} of shape {weight.shape} and dtype {weight.dtype}"
                f" is {weight.nbytes} bytes, its entry {size}",
                entry=weight.path,
            )
