"""safetensors files: read without a copy, and written.

The header is read by own rules, stricter than most readers': what two readers could understand
differently is refused. Elements are never copied: each tensor is a view of the mapped file.

Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.package.atomic import atomic_file
from tessera.package.strictjson import check_json
from tessera.package.weights import as_weight, weight_bytes
from tessera.program.dtype import DTYPES, DType
from tessera.program.errors import IntegrityError, PackageError

if TYPE_CHECKING:
    import numpy as np

    from tessera.package.package import Package

MAX_HEADER_BYTES = 100_000_000
"""Largest header that the format's own reader accepts."""
_MAX_RANK = 64
"""Most axes of a NumPy array."""
_METADATA = "__metadata__"
METADATA_KEY = "safetensors"
"""Where a package's metadata keep the `__metadata__` of the files that its weights are from."""
_LENGTH = struct.Struct("<Q")
_DTYPES: dict[str, DType] = {
    code: DTYPES[name]
    for code, name in (
        ("F64", "f64"), ("F32", "f32"), ("F16", "f16"), ("BF16", "bf16"),
        ("F8_E4M3", "f8e4m3"), ("F8_E5M2", "f8e5m2"),
        ("I64", "i64"), ("I32", "i32"), ("I16", "i16"), ("I8", "i8"),
        ("U64", "u64"), ("U32", "u32"), ("U16", "u16"), ("U8", "u8"), ("BOOL", "bool"),
    )
}  # fmt: skip
_CODES = {dtype.numpy_name: code for code, dtype in _DTYPES.items()}


@dataclass(frozen=True, slots=True)
class SafeTensors:
    """What a safetensors file holds."""

    tensors: dict[str, np.ndarray[Any, Any]]
    """Read-only arrays by name, in the order of the file; views of the mapped file."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Its `__metadata__`."""


@dataclass(frozen=True, slots=True)
class _Span:
    """One tensor in the header; `start` and `end` count from the first byte after it."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    start: int
    end: int


def read_safetensors(path: str | Path) -> SafeTensors:
    """The tensors of a safetensors file, memory-mapped: do not write into it while they are in use.

    Raises:
        PackageError: The file cannot be read, or has an element type that Tessera lacks.
        IntegrityError: It is torn, or is no such file; `fields["tensor"]` names the tensor at fault.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) if size else None
    except OSError as error:
        raise PackageError(
            f"{path}: {error.strerror or error}", hint="give the path of a .safetensors file"
        ) from None
    if mapped is None:
        raise _broken(path, "is empty")
    return _parsed(path, mapped)


def _parsed(path: Path, data: memoryview) -> SafeTensors:
    header, body = _split(path, data)
    check_json(header, entry=str(path), max_bytes=MAX_HEADER_BYTES, max_depth=8)
    table = json.loads(header)
    if not isinstance(table, dict):
        raise _broken(path, "its header is no JSON object")
    metadata = table.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _broken(path, "__metadata__ is no object of strings")
    spans = [_span(path, name, row) for name, row in table.items()]
    _check_cover(path, spans, len(body))
    ordered = sorted(spans, key=lambda s: (s.start, s.end))
    return SafeTensors({s.name: _view(s, body) for s in ordered}, metadata)


def _split(path: Path, data: memoryview) -> tuple[bytes, memoryview]:
    """The header's JSON and what lies after it."""
    if len(data) < _LENGTH.size:
        raise _broken(path, f"has {len(data)} bytes, and its header's length alone takes 8")
    (length,) = _LENGTH.unpack(data[: _LENGTH.size])
    if length > MAX_HEADER_BYTES:
        raise _broken(path, f"says that its header has {length} bytes; the most is {MAX_HEADER_BYTES}")
    if length > len(data) - _LENGTH.size:
        raise _broken(path, f"says that its header has {length} bytes, and the file has {len(data)}")
    header = bytes(data[_LENGTH.size : _LENGTH.size + length])
    if not header.startswith(b"{"):
        raise _broken(path, "its header does not begin with '{'")
    return header, data[_LENGTH.size + length :]


def _span(path: Path, name: str, row: object) -> _Span:
    if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
        raise _broken(path, "needs dtype, shape and data_offsets, and nothing else", name)
    code, shape, offsets = row["dtype"], row["shape"], row["data_offsets"]
    try:
        name.encode()
    except UnicodeEncodeError:
        raise _broken(path, "the name is not valid Unicode", name) from None
    if not name:
        raise _broken(path, "the name is empty", name)
    if not _counts(shape) or len(shape) > _MAX_RANK:
        raise _broken(path, f"the shape is no list of up to {_MAX_RANK} sizes", name)
    if not _counts(offsets) or len(offsets) != 2:
        raise _broken(path, "data_offsets is no pair of offsets", name)
    dtype = _DTYPES.get(code) if isinstance(code, str) else None
    if dtype is None:
        raise PackageError(
            f"{path}: tensor {name!r}: element type {code!r} has no counterpart",
            hint=f"convert it to one of {', '.join(_DTYPES)}",
            tensor=name,
        )
    start, end = offsets
    # Python's integers do not overflow, whatever the shape says.
    needed = math.prod(shape) * dtype.itemsize
    if end - start != needed:
        raise _broken(path, f"takes {needed} bytes, and its offsets span {end - start}", name)
    return _Span(name, dtype, tuple(shape), start, end)


def _counts(value: object) -> bool:
    # bool is an int to Python, and no size.
    return isinstance(value, list) and all(type(v) is int and 0 <= v < 1 << 63 for v in value)


def _check_cover(path: Path, spans: list[_Span], size: int) -> None:
    """Every byte of the body belongs to exactly one tensor: nothing overlaps, nothing hides."""
    at = 0
    for span in sorted(spans, key=lambda s: (s.start, s.end)):
        if span.start != at:
            what = "overlaps the tensor before it" if span.start < at else "leaves a gap before it"
            raise _broken(path, f"{what}: begins at {span.start}, not at {at}", span.name)
        at = span.end
        if at > size:
            raise _broken(path, f"ends at byte {at} of {size}: the file is cut short", span.name)
    if at != size:
        raise _broken(path, f"{size - at} bytes after the last tensor")


def _view(span: _Span, body: memoryview) -> np.ndarray[Any, Any]:
    import numpy as np

    data = body[span.start : span.end]
    array: np.ndarray[Any, Any] = np.ndarray(span.shape, span.dtype.numpy, buffer=data if data else b"\0" * 8)
    array.flags.writeable = False
    return array


def _broken(path: Path, problem: str, tensor: str | None = None) -> IntegrityError:
    where = str(path) if tensor is None else f"{path}: tensor {tensor[:120]!r}"
    return IntegrityError(
        f"{where}: {problem}",
        hint="get the file again, or write it anew with safetensors",
        tensor=tensor,
    )


def write_safetensors(
    tensors: Mapping[str, object], path: str | Path, *, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write tensors as a safetensors file, atomically; the same tensors give the same bytes.

    Args:
        tensors: By name; arrays of any framework that `PackageBuilder.add_weights` takes.
        path: The file to write.
        metadata: Strings by name, for `__metadata__`.

    Raises:
        PackageError: A value is no array, a name cannot be written, or the file cannot.
    """
    path = Path(path)
    weights = {name: as_weight(value, name) for name, value in tensors.items()}
    for name in weights:
        if not name or name == _METADATA or not _encodes(name):
            raise PackageError(f"weight {name!r}: safetensors has no place for such a name")
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise PackageError(f"metadata {key!r}: safetensors keeps strings alone")
    # Widest first, so that each lies at a multiple of its element's size.
    names = sorted(weights, key=lambda n: (-weights[n].dtype.itemsize, n))
    table: dict[str, Any] = {_METADATA: dict(sorted(metadata.items()))} if metadata else {}
    for name, (start, end) in zip(names, _offsets(weights[n].array.nbytes for n in names), strict=True):
        code = _CODES[weights[name].dtype.numpy_name]
        shape = list(weights[name].array.shape)
        table[name] = {"dtype": code, "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > MAX_HEADER_BYTES:
        raise PackageError(f"{path}: a header of {len(header)} bytes; the most is {MAX_HEADER_BYTES}")
    with atomic_file(path) as file:
        file.write(_LENGTH.pack(len(header)) + header)
        for name in names:
            file.write(weight_bytes(weights[name]))
    return path


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _offsets(sizes: Iterator[int]) -> Iterator[tuple[int, int]]:
    at = 0
    for size in sizes:
        yield at, at + size
        at += size


def export_weights(package: Package, path: str | Path) -> Path:
    """Write the weights of `package` as a safetensors file, with the metadata of the file they came from.

    Raises:
        PackageError: It has no weights, or the file cannot be written.
        IntegrityError: A weight's bytes are not what the manifest says.
    """
    if not package.weights:
        raise PackageError(
            f"package {package.name!r} has no weights",
            hint="build it with its weights: include_weights=True, or PackageBuilder.add_weights",
        )
    kept = package.manifest.metadata.get(METADATA_KEY)
    # Anybody may have written the manifest, and a user may keep something else under that name.
    strings = isinstance(kept, dict) and all(isinstance(value, str) for value in kept.values())
    tensors = {row.name: package.constant(row.name) for row in package.weights}
    return write_safetensors(tensors, path, metadata=kept if strings else None)
