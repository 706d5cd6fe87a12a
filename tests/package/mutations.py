"""Damage to a container that knows its structure: records, offsets, names, the manifest resealed."""

from __future__ import annotations

import hashlib
import random
import re
import struct
import zlib
from collections.abc import Callable

from tessera.package.records import END_SIZE

MAGICS = (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7")
NUMBERS = (
    0,
    1,
    2,
    7,
    0x7F,
    0x80,
    0xFF,
    0xFFFF,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
TOKENS = (
    b"null", b"-1", b"0", b"1e999", b"NaN", b"[]", b"{}", b'""', b"true", b"9223372036854775808", b'"../a"',
    b'"weights/a.bin"', b'"\\ud800"', b'"\\u0000"', b"1.5", b"[" * 300, b'{"a":' * 200, b"1" * 5000,
)  # fmt: skip

Mutation = Callable[[random.Random, bytearray], None]


def flip(rng: random.Random, data: bytearray) -> None:
    """Some bits anywhere."""
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def flip_record(rng: random.Random, data: bytearray) -> None:
    """A byte in or after a record's signature: headers are a small part of a file."""
    at = _record(rng, data)
    data[min(at + rng.randrange(100), len(data) - 1)] = rng.randrange(256)


def number(rng: random.Random, data: bytearray) -> None:
    """A telling number over a field of a record."""
    form = rng.choice(("<H", "<L", "<Q"))
    at = _record(rng, data) + 2 * rng.randrange(2, 40)
    value = rng.choice(NUMBERS) if rng.random() < 0.7 else rng.randrange(len(data) + 1)
    size = struct.calcsize(form)
    if at + size <= len(data):
        data[at : at + size] = struct.pack(form, value & ((1 << 8 * size) - 1))


def cut(rng: random.Random, data: bytearray) -> None:
    """Some bytes left out."""
    start = rng.randrange(len(data))
    del data[start : start + rng.choice((1, 2, 16, 4096, len(data)))]


def insert(rng: random.Random, data: bytearray) -> None:
    """Some bytes put in."""
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice((rng.randbytes(rng.choice((1, 4, 46))), rng.choice(MAGICS), bytes(4096)))


def repeat(rng: random.Random, data: bytearray) -> None:
    """A piece of the file again in another place."""
    start = _record(rng, data)
    piece = data[start : start + rng.choice((22, 46, 98, 200, 5000))]
    at = rng.randrange(len(data) + 1)
    if rng.random() < 0.5:
        data[at:at] = piece
    else:
        data[at : at + len(piece)] = piece


def swap(rng: random.Random, data: bytearray) -> None:
    """Two names, or other words, for each other: everywhere, so that headers agree."""
    words = sorted(set(re.findall(rb"[A-Za-z0-9_./]{6,}", bytes(data[-20_000:]))))
    if len(words) > 1:
        one, other = rng.sample(words, 2)
        size = min(len(one), len(other))
        data[:] = bytes(data).replace(one[:size], other[:size])


def ending(rng: random.Random, data: bytearray) -> None:
    """Another count, size or offset in the end records, both times alike."""
    if len(data) < END_SIZE:
        return
    end = len(data) - END_SIZE
    value = rng.choice(NUMBERS) if rng.random() < 0.5 else rng.randrange(len(data) + 9)
    for at in rng.choice(((24, 32), (40,), (48,), (64,))):
        data[end + at : end + at + 8] = struct.pack("<Q", value & ((1 << 64) - 1))


def manifest(rng: random.Random, data: bytearray) -> None:
    """A value of the manifest replaced by one as long, its digest and CRC-32 made right again."""
    start, end = _manifest(data)
    found = list(re.finditer(rb'"[^"\n]*"|-?\d+|true|null', bytes(data[start : end - 80])))
    if not found:
        return
    match = rng.choice(found)
    text, size = match[0], len(match[0])
    word = rng.choice(TOKENS)
    new = word[:size].ljust(size) if rng.random() < 0.6 else bytes(rng.sample(text, size))
    data[start + match.start() : start + match.end()] = new
    _reseal(data, start, end)


def manifest_bytes(rng: random.Random, data: bytearray) -> None:
    """Any byte of the manifest, its digest and CRC-32 made right again."""
    start, end = _manifest(data)
    if start < end - 80:
        for _ in range(rng.choice((1, 1, 3))):
            data[rng.randrange(start, end - 70)] = rng.choice(b'{}[]",:0123456789-.eE\\\0\xff \n')
        _reseal(data, start, end)


MUTATIONS: tuple[Mutation, ...] = (
    flip, flip_record, number, cut, insert, repeat, swap, ending, manifest, manifest, manifest_bytes,
)  # fmt: skip
"""Every kind of damage; those that get furthest into the reader come twice."""


def mutated(seed: int, corpus: list[bytes]) -> bytes:
    """One damaged file: the same for the same seed."""
    rng = random.Random(seed)
    data = bytearray(rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if data:
            rng.choice(MUTATIONS)(rng, data)
    return bytes(data)


def _record(rng: random.Random, data: bytearray) -> int:
    found = [m.start() for m in re.finditer(rb"PK[\1\3\5\6][\2\4\6\7]", bytes(data))]
    return rng.choice(found) if found else rng.randrange(max(len(data), 1))


def _manifest(data: bytearray) -> tuple[int, int]:
    """Where the manifest's text begins and ends; nothing where it is not found."""
    start = data.find(b'{\n "format"')
    if start < 0:
        start = data.find(b'{\n  "format"')
    end = data.find(b'"\n}\n', start)
    return (start, end + 4) if 0 <= start < end else (0, 0)


def _reseal(data: bytearray, start: int, end: int) -> None:
    old = struct.pack("<L", _crc_before(data))
    head = bytes(data[start : end - 68])
    data[end - 68 : end - 4] = hashlib.sha256(head).hexdigest().encode()
    new = struct.pack("<L", zlib.crc32(data[start:end]))
    data[:] = bytes(data).replace(old, new)


def _crc_before(data: bytearray) -> int:
    """CRC-32 that the directory has for the manifest."""
    at = data.rfind(b"manifest.json")
    return int.from_bytes(data[at - 30 : at - 26], "little") if at >= 30 else 0
