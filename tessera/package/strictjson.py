"""JSON that means one thing: bounded, without duplicate keys, without NaN.

Two readers that disagree about a document can be played against each other, so
what a document's meaning could depend on is refused before it is decoded.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tessera.program.dim import INT64_MAX
from tessera.program.errors import IntegrityError, PackageError

# An unterminated string also matches, to the end: the scan stays linear on any input.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)


def check_json(data: bytes, *, entry: str, max_bytes: int, max_depth: int) -> None:
    """Refuse a document over a cap, or one that two readers could understand differently.

    Raises:
        IntegrityError: Too large, too deep, not JSON, or a key appears twice in an object.
    """
    if len(data) > max_bytes:
        raise IntegrityError(f"{entry}: {len(data)} bytes of JSON, more than {max_bytes}", entry=entry)
    # The scan costs more than the rest; where there are few brackets at all, none are deep.
    brackets = data.count(b"[") + data.count(b"{")
    if brackets > max_depth and (depth := _depth(data)) > max_depth:
        raise IntegrityError(f"{entry}: JSON nested {depth} deep, more than {max_depth}", entry=entry)
    try:
        json.loads(data.decode(), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{entry}: not strict JSON: {error}", entry=entry) from None


def _depth(data: bytes) -> int:
    depth = deepest = 0
    for match in _TOKEN.finditer(data):
        token = match[0]
        if token in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token in b"]}":
            depth -= 1
    return deepest


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice!r} appears twice in one object")
    return found


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def json_data(value: object, what: str, *, max_depth: int = 64) -> Any:
    """`value` as plain JSON data: dicts, lists, str, int, float, bool and None.

    Args:
        value: Mappings, lists and tuples of such data; NumPy scalars count as their numbers.
        what: What the value is, for the message.
        max_depth: Deepest nesting.

    Raises:
        PackageError: Something in it has no exact JSON form; the message says where.
    """
    if max_depth < 0:
        raise PackageError(f"{what}: nested too deep")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise PackageError(f"{what}: the key {key!r} is not a string")
        return {
            _text(k, what): json_data(v, f"{what}.{k}", max_depth=max_depth - 1) for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [json_data(v, f"{what}[{i}]", max_depth=max_depth - 1) for i, v in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, what)
    item = getattr(value, "item", None)
    return _number(item() if callable(item) and not getattr(value, "shape", None) else value, what)


def _text(value: str, what: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PackageError(f"{what}: {value!r} is not valid Unicode") from None
    return value


def _number(value: object, what: str) -> int | float | bool:
    if isinstance(value, int) and abs(value) <= INT64_MAX:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise PackageError(
        f"{what}: {value!r} of type {type(value).__name__} has no exact form in JSON",
        hint="use numbers (finite, up to 64 bits), strings, lists and dicts",
    )
