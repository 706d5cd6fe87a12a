"""The text of a `printf`, from its pattern and the values that device code packed for it.

Source: CUDA C++ Programming Guide 13.0, section "Formatted Output".
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

Read = Callable[[int, int], bytes]
"""Bytes of device memory: address and size."""

_FIELD = re.compile(r"%(?P<flags>[-+ #0]*)(?P<width>\d+|\*)?(?:\.(?P<precision>\d+|\*))?"
                    r"(?P<length>hh|h|ll|l|z|j|t)?(?P<kind>[diouxXeEfFgGaAcsp%])")  # fmt: skip
_LONGEST_STRING = 4096


def text_at(read: Read, address: int) -> str:
    """A string that ends with a zero byte."""
    found = b""
    while len(found) < _LONGEST_STRING:
        byte = read(address + len(found), 1)
        if byte == b"\0":
            break
        found += byte
    return found.decode(errors="replace")


def formatted(read: Read, pattern: int, packed: int) -> tuple[str, int]:
    """The text, and how many values went into it.

    Args:
        read: Reads device memory.
        pattern: Address of the pattern.
        packed: Address of the values, laid out like a C struct of the promoted types.
    """
    values = _Values(read, packed)
    return _FIELD.sub(values.field, text_at(read, pattern)), values.taken


class _Values:
    """The values of one `printf`, taken one after the other."""

    def __init__(self, read: Read, address: int) -> None:
        self.read, self.address = read, address
        self.at = 0
        self.taken = 0

    def next(self, size: int) -> bytes:
        self.at = -(-self.at // size) * size
        raw = self.read(self.address + self.at, size)
        self.at += size
        self.taken += 1
        return raw

    def field(self, match: re.Match[str]) -> str:
        kind, length = match["kind"], match["length"] or ""
        if kind == "%":
            return "%"
        # A `*` takes its number from the values, before the value itself.
        numbers = [
            str(int.from_bytes(self.next(4), "little", signed=True)) if match[part] == "*" else match[part]
            for part in ("width", "precision")
        ]
        form = "%" + match["flags"] + (numbers[0] or "") + ("." + numbers[1] if numbers[1] else "")
        if kind in "eEfFgGaA":
            value: float = struct.unpack("<d", self.next(8))[0]
            return value.hex() if kind in "aA" else (form + kind) % value
        if kind == "s":
            address = int.from_bytes(self.next(8), "little")
            return (form + "s") % text_at(self.read, address)
        if kind == "p":
            return (form + "s") % hex(int.from_bytes(self.next(8), "little"))
        size = 8 if length in ("l", "ll", "z", "j", "t") else 4
        number = int.from_bytes(self.next(size), "little", signed=kind in "di")
        if length in ("h", "hh"):
            number &= 0xFF if length == "hh" else 0xFFFF
        return (form + ("c" if kind == "c" else kind.replace("u", "d"))) % number
