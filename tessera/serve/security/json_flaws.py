"""What the JSON parser lets pass and a server should not: depth without end, and fields that are there twice.

Both checks cost about 1 µs where there is nothing to find: a body with few brackets is not deep, and where
there are as many colons as fields, no field is there twice.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

MAX_DEPTH = 128
"""Most levels of arrays and objects: a tensor of NumPy has 64 axes, a request three levels around it."""

MAX_SEARCHED_BYTES = 8 << 20
"""Largest body that is read again, slowly, to name a field that is there twice."""

_KEY = re.compile(rb'"\s*:')
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_CHUNK = 1 << 20


def flaw_of(body: bytes, value: Any) -> str | None:
    """What is wrong with `body`, in words; None if nothing is.

    Args:
        body: JSON in UTF-8, which a parser has accepted.
        value: What the parser made of it.
    """
    # Each field has a colon, and a string may have more. An object within another is in a field.
    colons = body.count(b":")
    if body.count(b"[") + colons >= MAX_DEPTH and _is_deep(body):
        return f"it is nested deeper than {MAX_DEPTH} levels"
    if not colons:
        return None
    fields = _fields(value, colons)
    if fields == colons or fields == len(_KEY.findall(body)):
        return None
    if len(body) > MAX_SEARCHED_BYTES:
        return "a field is there twice, or a string holds a quotation mark and a colon"
    return _twice(body)


def _is_deep(body: bytes) -> bool:
    # Brackets in strings count at first; they are left out only where that makes it deep.
    return _depth(body) > MAX_DEPTH and _depth(_STRING.sub(b"", body)) > MAX_DEPTH


def _depth(body: bytes) -> int:
    steps = np.frombuffer(body.translate(_STEPS, _OTHERS), np.int8)
    level = deepest = 0
    for start in range(0, len(steps), _CHUNK):
        levels = np.cumsum(steps[start : start + _CHUNK], dtype=np.int64)
        deepest = max(deepest, level + int(levels.max()))
        level += int(levels[-1])
    return deepest


def _fields(value: Any, most: int) -> int:
    """Fields of all objects in `value`, of which there cannot be more than `most`."""
    count, waiting = 0, [value]
    while waiting and count < most:
        item = waiting.pop()
        if type(item) is dict:
            count += len(item)
            waiting.extend([v for v in item.values() if type(v) in _NESTED])
        elif type(item) is list:
            waiting.extend([v for v in item if type(v) in _NESTED])
    return count


_NESTED = (dict, list)


class _TwiceError(Exception):
    """A field is there twice; its name is the argument."""


def _unique(pairs: list[tuple[str, Any]]) -> None:
    names = set()
    for name, _ in pairs:
        if name in names:
            raise _TwiceError(name)
        names.add(name)


def _twice(body: bytes) -> str | None:
    try:
        # Numbers are not made: there may be millions, and only names matter.
        json.loads(body, object_pairs_hook=_unique, parse_float=_nothing, parse_int=_nothing)
    except _TwiceError as found:
        return f"the field {str(found)[:80]!r} is there twice"
    return None


def _nothing(_: str) -> None:
    return None
