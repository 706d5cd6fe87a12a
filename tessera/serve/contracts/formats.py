"""Tensors in the media types that clouds' clients send: `.npy`, CSV, JSON Lines.

Sources: numpy.lib.format, RFC 4180, https://jsonlines.org. Nothing here unpickles.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from typing import Any

import numpy as np
import orjson

from tessera.program.program import Port
from tessera.serve.answer import to_json
from tessera.serve.request import RequestError, parse_json

NPY = "application/x-npy"
CSV = "text/csv"
JSON_LINES = "application/jsonlines"

_MAX_HEADER = 10_000
"""Most bytes of an .npy header; those of arrays without fields have about a hundred."""

_NPY_PREFIX = 12
_NPY_FIELD = re.compile(
    r"'(descr)'\s*:\s*('[^']{0,99}'|\[.{0,999}\])|'(fortran_order)'\s*:\s*(True|False)"
    r"|'(shape)'\s*:\s*(\((?:[0-9]{1,18}\s*,\s*){0,64}(?:[0-9]{1,18})?\))"
)
_NPY_DTYPE = re.compile(r"'[<>|=]?[biuf][0-9]{1,2}'")
_NPY_FILLING = str.maketrans("", "", "{}, \n")

_CSV_DTYPES: dict[str, Any] = {"float": np.float64, "int": np.int64, "uint": np.uint64, "bool": np.uint8}


def read_npy(body: bytes) -> np.ndarray[Any, Any]:
    """The array in `body`, read-only and without a copy.

    Raises:
        RequestError: It is no .npy file, holds objects or fields, or is longer or shorter than it says.
    """
    dtype, fortran, shape, offset = _npy_header(body)
    count = math.prod(shape)
    if count * dtype.itemsize != len(body) - offset:
        raise RequestError(
            f"the .npy file has the shape {str(shape)[:80]} of {dtype}, which is {count * dtype.itemsize} "
            f"bytes, but {len(body) - offset} follow its header"
        )
    flat = np.frombuffer(body, dtype, count, offset) if count else np.empty(0, dtype)
    try:
        return flat.reshape(shape, order="F" if fortran else "C")
    except ValueError as error:
        raise RequestError(f"the .npy file has the shape {str(shape)[:80]}, which is too large") from error


def _npy_header(body: bytes) -> tuple[np.dtype[Any], bool, tuple[int, ...], int]:
    """Dtype, whether columns come first, shape, and where the elements begin."""
    # NumPy's own reader takes headers of Python 2 as well, by way of a tokenizer that raises anything.
    major = body[6] if body[:6] == b"\x93NUMPY" and len(body) >= _NPY_PREFIX else 0
    if major not in (1, 2, 3):
        raise _no_npy("it does not begin as one")
    start = 10 if major == 1 else 12
    size = int.from_bytes(body[8:start], "little")
    if size > _MAX_HEADER or start + size > len(body):
        raise _no_npy("its header is cut off")
    header = body[start : start + size].decode("latin-1")
    # A match fills one of three pairs of groups.
    found = {m[k]: m[k + 1] for m in _NPY_FIELD.finditer(header) for k in (1, 3, 5) if m[k]}
    if len(found) != 3 or _NPY_FIELD.sub("", header).translate(_NPY_FILLING) != "":
        raise _no_npy(f"its header is {header[:80]!r}")
    if not _NPY_DTYPE.fullmatch(found["descr"]):
        raise RequestError(f"the .npy file holds {found['descr'][:80]}; a tensor holds numbers")
    try:
        dtype = np.dtype(found["descr"].strip("'"))
    except TypeError as error:
        raise RequestError(f"the .npy file holds {found['descr'][:80]}; a tensor holds numbers") from error
    shape = tuple(int(n) for n in re.findall("[0-9]+", found["shape"]))
    return dtype, found["fortran_order"] == "True", shape, start + size


def _no_npy(problem: str) -> RequestError:
    return RequestError(f"the body is no .npy file: {problem}", hint="numpy.save(file, array)")


def write_npy(array: np.ndarray[Any, Any]) -> bytes:
    """`array` as an .npy file; bf16 and fp8, which NumPy has not, as f32."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, _known(array), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def read_csv(body: bytes, port: Port) -> np.ndarray[Any, Any]:
    """Numbers with commas between them and a row a line, in the shape of `port`.

    A row has all of its elements, in row-major order; a vector is one line or one column.

    Raises:
        RequestError: Not text, not numbers, ragged, or not as many columns as a row has elements.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"the body is not CSV in UTF-8: {error.reason} at byte {error.start}") from error
    if not text.strip():
        raise RequestError("the body is empty", hint="a row a line, with commas between the numbers")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            table = np.loadtxt(
                io.StringIO(text),
                _CSV_DTYPES[port.dtype.kind],
                delimiter=",",
                comments=None,
                quotechar='"',
                ndmin=2,
            )
    except (ValueError, OverflowError, Warning) as error:
        raise RequestError(
            f"the body is not CSV of numbers: {str(error).splitlines()[0][:160]}",
            hint="a row a line, with commas between the numbers, and no headings",
        ) from error
    return _shaped(_truths(table, port) if port.dtype.kind == "bool" else table, port)


def _truths(table: np.ndarray[Any, Any], port: Port) -> np.ndarray[Any, Any]:
    if table.size and int(table.max()) > 1:
        raise RequestError(f"input {port.name!r} holds {table.max()}; in CSV booleans are 0 or 1")
    return table.astype(np.bool_)


def _shaped(table: np.ndarray[Any, Any], port: Port) -> np.ndarray[Any, Any]:
    if len(port.shape) < 2:
        return table.reshape(-1) if 1 in table.shape else table
    rest = port.shape[1:]
    known = [n for n in rest if isinstance(n, int)]
    if len(rest) == 1 or len(known) < len(rest):
        return table
    if math.prod(known) != table.shape[1]:
        raise RequestError(
            f"input {port.name!r}: a line has {table.shape[1]} numbers, a row of {port.type_text} has "
            f"{math.prod(known)}"
        )
    return table.reshape(-1, *known)


def write_csv(array: np.ndarray[Any, Any]) -> bytes:
    """`array` with a line for each row, in the shortest decimals that give the same float back."""
    known = _known(array)
    rows = known.reshape(known.shape[0] if known.ndim else 1, -1)
    if known.dtype.kind == "b":
        rows = rows.astype(np.uint8)
    if not np.isfinite(rows).all():
        # JSON has no NaN and no infinities; CSV does.
        return "".join(",".join(map(str, row.tolist())) + "\n" for row in rows).encode()
    if not rows.size:
        return b"\n" * len(rows)
    return to_json(rows)[2:-2].replace(b"],[", b"\n") + b"\n"


def read_json_lines(body: bytes) -> list[Any]:
    """What the lines hold; blank ones do not count.

    Raises:
        RequestError: A line is not JSON; the message has its number.
    """
    found: list[Any] = []
    for number, line in enumerate(body.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(parse_json(line))
        except RequestError as error:
            raise RequestError(f"line {number}: {error.message}", hint=error.hint) from error
    return found


def write_json_lines(values: Any) -> bytes:
    """Each of `values` on a line of its own."""
    return b"".join(to_json(value) + b"\n" for value in orjson.loads(to_json(values)))


def _known(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """`array` in a dtype of NumPy's own. ml_dtypes' are all exact in float32."""
    return array if array.dtype.kind in "biuf" and array.dtype.isbuiltin == 1 else array.astype(np.float32)
