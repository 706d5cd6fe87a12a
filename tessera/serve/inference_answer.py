"""Answers of the Open Inference Protocol: tensors as JSON, as raw bytes, or as their largest elements.

Source: Triton Inference Server, docs/protocol/extension_binary_data.md and
extension_classification.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np

from tessera.program.datatypes import DATATYPES
from tessera.program.program import Port, Program
from tessera.serve.answer import Answer, to_json
from tessera.serve.inference_request import LENGTH_HEADER, InferRequest
from tessera.serve.inputs import Arrays
from tessera.serve.request import RequestError
from tessera.serve.shared_memory.regions import NO_REGIONS, Place, Regions

JOINED_BYTES = 64 << 10
"""Below this size one copy of an answer is cheaper than a list of buffers."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One output of an answer."""

    port: Port
    binary: bool
    """Whether its bytes follow the JSON."""
    classes: int
    """How many of the largest elements are asked for; 0: the tensor itself."""
    place: Place | None = None
    """Where in shared memory it goes; None: it is a part of the answer."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The elements' dtype."""
        return self.port.dtype.numpy


def wanted_outputs(program: Program, body: InferRequest, regions: Regions = NO_REGIONS) -> list[Wanted]:
    """What the answer to `body` holds, in order.

    Args:
        program: Says what outputs there are.
        body: What asks for them.
        regions: The shared memory that they may go to.

    Raises:
        RequestError: An output is unknown or there twice, or a parameter is of another type.
    """
    binary = _flag("the parameter", "binary_data_output", body.parameters, default=False)
    if not body.outputs:
        return [Wanted(port, binary, 0) for port in program.outputs]
    ports = {p.name: p for p in program.outputs}
    found: dict[str, Wanted] = {}
    for output in body.outputs:
        name, what = output.name, f"output {output.name[:80]!r}"
        if name not in ports:
            raise RequestError(f"there is no {what}", hint=f"outputs: {', '.join(ports)}")
        if name in found:
            raise RequestError(f"{what} is there twice")
        place = regions.place(what, output.parameters)
        own = _flag(f"{what}:", "binary_data", output.parameters, default=binary)
        classes = _classes(what, output.parameters)
        found[name] = Wanted(ports[name], own and place is None, classes, place)
    return list(found.values())


def infer_answer(head: Mapping[str, Any], wanted: Sequence[Wanted], outputs: Arrays) -> Answer:
    """The response with `outputs`.

    Args:
        head: The fields before the outputs.
        wanted: What to send of them.
        outputs: By name.

    Raises:
        RequestError: An output does not go where it was to be written.
    """
    entries: list[dict[str, Any]] = []
    parts: list[bytes | memoryview] = []
    for each in wanted:
        entry, value = described(each, outputs[each.port.name])
        if each.place is not None:
            # Without parameters: Triton's C++ client takes any for those of bytes behind the JSON.
            write_shared(each.place, each, value)
        elif each.binary:
            raw = raw_bytes(each, value)
            entry["parameters"] = {"binary_data_size": len(raw)}
            parts.append(raw)
        else:
            entry["data"] = value
        entries.append(entry)
    json = to_json({**head, "outputs": entries})
    if not any(each.binary for each in wanted):
        return Answer(HTTPStatus.OK, json)
    if sum(map(len, parts)) >= JOINED_BYTES:
        tail = tuple(memoryview(part) for part in parts)
        return Answer(HTTPStatus.OK, json, "application/octet-stream", {LENGTH_HEADER: str(len(json))}, tail)
    return Answer(
        HTTPStatus.OK,
        b"".join([json, *parts]),
        "application/octet-stream",
        {LENGTH_HEADER: str(len(json))},
    )


def write_shared(place: Place, wanted: Wanted, value: np.ndarray[Any, Any] | list[str]) -> dict[str, Any]:
    """Put what `described` gave into shared memory; the parameters that say so.

    Raises:
        RequestError: It does not go there.
    """
    raw = raw_bytes(wanted, value)
    place.write(raw, f"output {wanted.port.name!r}")
    return place.parameters(len(raw))


def described(
    wanted: Wanted, value: np.ndarray[Any, Any]
) -> tuple[dict[str, Any], np.ndarray[Any, Any] | list[str]]:
    """Name, datatype and shape, and the elements in row-major order; strings of a classification."""
    port = wanted.port
    if not wanted.classes:
        entry = {"name": port.name, "shape": list(value.shape), "datatype": DATATYPES[port.dtype.name]}
        return entry, value.reshape(-1)
    by_row = len(port.shape) > 1 and not isinstance(port.shape[0], int)
    rows = value.shape[0] if by_row else 1
    width = math.prod(value.shape[1:] if by_row else value.shape)
    best = classify(value.reshape(rows, width), wanted.classes)
    count = min(wanted.classes, width)
    return {"name": port.name, "shape": [rows, count] if by_row else [count], "datatype": "BYTES"}, best


def classify(values: np.ndarray[Any, Any], count: int) -> list[str]:
    """The `count` largest elements of each row, largest first, as `value:index`.

    Args:
        values: (rows, classes), of any dtype. NaN counts as smallest; of equal ones the first is first.
        count: How many of a row; all of it if it has fewer.
    """
    is_integer = values.dtype.kind in "biu"
    if not is_integer:
        values = values.astype(np.float64)
    # Both reverse the order without an overflow, so that a stable sort keeps equal ones in place.
    keys = ~values if is_integer else -values
    order = np.argsort(keys, axis=1, kind="stable")[:, :count]
    # Six digits, as Triton writes floats.
    return [
        f"{int(v)}:{i}" if is_integer else f"{float(v):f}:{i}"
        for row, indices in zip(values, order, strict=True)
        for v, i in zip(row[indices], indices, strict=True)
    ]


def raw_bytes(wanted: Wanted, value: np.ndarray[Any, Any] | list[str]) -> bytes | memoryview:
    """The bytes of what `described` gave, without a copy if it has its port's dtype and is contiguous."""
    if isinstance(value, list):
        return _length_prefixed(value)
    array = np.ascontiguousarray(value.astype(wanted.port.dtype.numpy, copy=False))
    # ml_dtypes' types give no buffer of their own.
    return array.view(np.uint8).data


def _length_prefixed(strings: Sequence[str]) -> bytes:
    """Strings as BYTES: before each its length, in 4 bytes."""
    encoded = [s.encode() for s in strings]
    return b"".join(struct.pack("<I", len(s)) + s for s in encoded)


def _flag(what: str, name: str, parameters: Mapping[str, Any], *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(f"{what} {name!r} is {str(value)[:80]!r}, not true or false")
    return value


def _classes(what: str, parameters: Mapping[str, Any]) -> int:
    value = parameters.get("classification", 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RequestError(f"{what}: 'classification' is {str(value)[:80]!r}, not a number of classes")
    return value
