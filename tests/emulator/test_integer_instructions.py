"""Integer, bit and video instructions against Python's integers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.emulator.warp import run

Array = np.ndarray[Any, Any]
WORD = 0xFFFF_FFFF


def s32(value: int) -> int:
    value &= WORD
    return value - (1 << 32) if value >> 31 else value


def s64(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def split(value: int, bits: int, *, signed: bool) -> list[int]:
    parts = [value >> bits * i & (1 << bits) - 1 for i in range(32 // bits)]
    return [p - (1 << bits) if signed and p >> bits - 1 else p for p in parts]


def join(parts: list[int], bits: int) -> int:
    return sum((p & (1 << bits) - 1) << bits * i for i, p in enumerate(parts))


def clip32(value: int) -> int:
    return max(-(1 << 31), min((1 << 31) - 1, value))


def nth_bit(bits: int, base: int, offset: int) -> int:
    """The pseudocode of section 9.7.1.20, with its loop."""
    if offset == 0:
        return base if bits >> base & 1 else WORD
    pos, count, step = base, abs(offset) - 1, 1 if offset > 0 else -1
    while 0 <= pos < 32:
        if bits >> pos & 1:
            if count == 0:
                return pos
            count -= 1
        pos += step
    return WORD


def permuted(a: int, b: int, picks: list[int]) -> int:
    both = a | b << 32
    return join([both >> 8 * p & 255 for p in picks], 8)


def s24(value: int) -> int:
    value &= 0xFFFFFF
    return value - (1 << 24) if value >> 23 else value


CASES: dict[str, Callable[[int, int, int], int]] = {
    "dp2a.lo.s32.u32 %o0, %a0, %a1, %a2": lambda a, b, c: sum(
        x * y for x, y in zip(split(a, 16, signed=True), split(b, 8, signed=False)[:2], strict=True)) + c,
    "dp2a.hi.u32.s32 %o0, %a0, %a1, %a2": lambda a, b, c: sum(
        x * y for x, y in zip(split(a, 16, signed=False), split(b, 8, signed=True)[2:], strict=True)) + c,
    "dp4a.u32.s32 %o0, %a0, %a1, %a2": lambda a, b, c: sum(
        x * y for x, y in zip(split(a, 8, signed=False), split(b, 8, signed=True), strict=True)) + c,
    "sad.s32 %o0, %a0, %a1, %a2": lambda a, b, c: abs(s32(a) - s32(b)) + c,
    "mul24.lo.s32 %o0, %a0, %a1": lambda a, b, c: s24(a) * s24(b),
    "mul24.hi.u32 %o0, %a0, %a1": lambda a, b, c: (a & 0xFFFFFF) * (b & 0xFFFFFF) >> 16,
    "mad24.hi.s32 %o0, %a0, %a1, %a2": lambda a, b, c: (s24(a) * s24(b) >> 16) + c,
    "mad24.hi.sat.s32 %o0, %a0, %a1, %a2": lambda a, b, c: clip32(s32(s24(a) * s24(b) >> 16) + s32(c)),
    "mad.hi.sat.s32 %o0, %a0, %a1, %a2": lambda a, b, c: clip32((s32(a) * s32(b) >> 32) + s32(c)),
    "add.sat.s32 %o0, %a0, %a1": lambda a, b, c: clip32(s32(a) + s32(b)),
    "bmsk.clamp.b32 %o0, %a3, %a4": lambda a, b, c: ((1 << min(b % 256, 32)) - 1) << min(a % 256, 32),
    "bmsk.wrap.b32 %o0, %a3, %a4": lambda a, b, c: ((1 << b % 32) - 1) << a % 32,
    "szext.clamp.s32 %o0, %a0, %a4": lambda a, b, c: s_extend(a, min(b % 256, 32)),
    "szext.wrap.u32 %o0, %a0, %a4": lambda a, b, c: a & (1 << b % 32) - 1,
    "fns.b32 %o0, %a0, %t0, %t1": lambda a, b, c: nth_bit(a, b & 31, c % 13 - 6),
    "brev.b32 %o0, %a0": lambda a, b, c: int(f"{a:032b}"[::-1], 2),
    "clz.b32 %o0, %a0": lambda a, b, c: 32 - a.bit_length(),
    "bfind.s32 %o0, %a0": lambda a, b, c: (a if s32(a) >= 0 else ~a & WORD).bit_length() - 1,
    "bfind.shiftamt.u32 %o0, %a0": lambda a, b, c: 32 - a.bit_length() if a else WORD,
    "bfe.s32 %o0, %a0, %a3, %a4": lambda a, b, c: 0,
    "lop3.b32 %o0, %a0, %a1, %a2, 0xCA": lambda a, b, c: (a & b) | (~a & c),
    "prmt.b32.f4e %o0, %a0, %a1, %a2": lambda a, b, c: permuted(a, b, [(c & 3) + i for i in range(4)]),
    "prmt.b32.b4e %o0, %a0, %a1, %a2": lambda a, b, c: permuted(a, b, [((c & 3) - i) % 8 for i in range(4)]),
    "prmt.b32.rc8 %o0, %a0, %a1, %a2": lambda a, b, c: permuted(a, b, [c & 3] * 4),
    "prmt.b32.ecl %o0, %a0, %a1, %a2": lambda a, b, c: permuted(a, b, [max(i, c & 3) for i in range(4)]),
    "prmt.b32.ecr %o0, %a0, %a1, %a2": lambda a, b, c: permuted(a, b, [min(i, c & 3) for i in range(4)]),
    "prmt.b32.rc16 %o0, %a0, %a1, %a2": lambda a, b, c: permuted(
        a, b, [(c & 1) * 2 + i % 2 for i in range(4)]),
    "vadd4.s32.s32.s32.sat %o0, %a0, %a1, %a2": lambda a, b, c: join(
        [max(-128, min(127, x + y)) for x, y in both(a, b, 8, signed=True)], 8),
    "vavrg2.u32.u32.u32 %o0, %a0, %a1, %a2": lambda a, b, c: join(
        [x + y + 1 >> 1 for x, y in both(a, b, 16, signed=False)], 16),
    "vabsdiff4.u32.u32.u32.add %o0, %a0, %a1, %a2": lambda a, b, c: sum(
        abs(x - y) for x, y in both(a, b, 8, signed=False)) + c,
    "vmax2.s32.s32.s32 %o0, %a0, %a1, %a2": lambda a, b, c: join(
        [max(x, y) for x, y in both(a, b, 16, signed=True)], 16),
    "vset4.u32.u32.gt %o0, %a0, %a1, %a2": lambda a, b, c: join(
        [int(x > y) for x, y in both(a, b, 8, signed=False)], 8),
    "max.s16x2 %o0, %a0, %a1": lambda a, b, c: join([max(x, y) for x, y in both(a, b, 16, signed=True)], 16),
    "min.u16x2 %o0, %a0, %a1": lambda a, b, c: join([min(x, y) for x, y in both(a, b, 16, signed=False)], 16),
    "add.u16x2 %o0, %a0, %a1": lambda a, b, c: join([x + y for x, y in both(a, b, 16, signed=False)], 16),
    "max.relu.s32 %o0, %a0, %a1": lambda a, b, c: max(s32(a), s32(b), 0),
}  # fmt: skip
del CASES["bfe.s32 %o0, %a0, %a3, %a4"]


def both(a: int, b: int, bits: int, *, signed: bool) -> list[tuple[int, int]]:
    return list(zip(split(a, bits, signed=signed), split(b, bits, signed=signed), strict=True))


def s_extend(value: int, width: int) -> int:
    field = value & (1 << width) - 1
    return field - (1 << width) if width and field >> width - 1 else field


def inputs(rng: np.random.Generator) -> Array:
    """(64, 5): three words of all sizes, then two small numbers."""
    words = rng.integers(0, 1 << 32, (64, 5)).astype(np.uint32) >> rng.integers(0, 32, (64, 5)).astype(
        np.uint32
    )
    words[:, 3:] %= 70
    words[:4, 0] = [0, WORD, 0x80000000, 0x7FFFFFFF]
    return words


@pytest.mark.parametrize("text", CASES)
def test_integer_instruction(text: str, rng: np.random.Generator) -> None:
    words = inputs(rng)
    # Small operands are a2 modulo 13 less 6, and a1 modulo 32, where an instruction needs such.
    small = "rem.u32 %t1, %a2, 13; sub.s32 %t1, %t1, 6; and.b32 %t0, %a1, 31;"
    found = run(f"{small} {text};", words)[:, 0]
    for got, (a, b, c, d, e) in zip(found, words.tolist(), strict=True):
        if "%a3, %a4" in text:
            a, b = d, e
        elif "%a4" in text:
            b = e
        assert int(got) == CASES[text](a, b, c) & WORD, (a, b, c)


@pytest.mark.parametrize("kind", ["u32", "s32", "u64", "s64"])
def test_bit_fields_at_every_edge(kind: str, rng: np.random.Generator) -> None:
    width = int(kind[1:])
    words = rng.integers(0, 1 << 32, (200, 6)).astype(np.uint32)
    words[:, 4:] = rng.integers(0, 75, (200, 2))
    a, b, o = ("%d0", "%d1", "%d2") if width == 64 else ("%a0", "%a2", "%o0")
    pack = "mov.b64 %d0, {%a0, %a1}; mov.b64 %d1, {%a2, %a3};"
    spread = "mov.b64 {{%o{0}, %o{1}}}, %d2;" if width == 64 else ""
    body = f"""{pack} bfe.{kind} {o}, {a}, %a4, %a5; {spread.format(0, 1)}
    bfi.b{width} {o.replace("0", "2") if width == 32 else o}, {a}, {b}, %a4, %a5; {spread.format(2, 3)}"""
    out = run(body, words)
    for row, found in zip(words.tolist(), out, strict=True):
        x = row[0] | (row[1] << 32 if width == 64 else 0)
        y = row[2] | (row[3] << 32 if width == 64 else 0)
        position, length = row[4], row[5]
        # Section 9.7.1.16: bits beyond the end repeat the sign of the last bit of the field.
        sign = 0
        if kind[0] == "s" and length:
            sign = x >> min(position + length - 1, width - 1) & 1
        bits = [
            (x >> position + i & 1 if position + i < width else sign) if i < length else sign
            for i in range(width)
        ]
        assert int(found[0]) | (int(found[1]) << 32 if width == 64 else 0) == sum(
            v << i for i, v in enumerate(bits)
        )
        inserted = y
        for i in range(length):
            if position + i < width:
                inserted = inserted & ~(1 << position + i) | (x >> i & 1 if i < width else 0) << position + i
        assert int(found[2]) | (int(found[3]) << 32 if width == 64 else 0) == inserted


@pytest.mark.parametrize("kind", ["u64", "s64"])
def test_wide_products_quotients_and_carries(kind: str, rng: np.random.Generator) -> None:
    words = rng.integers(0, 1 << 32, (64, 4)).astype(np.uint32)
    words[:20, 3] >>= rng.integers(0, 32, 20).astype(np.uint32)
    words[0] = [0, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFF]
    body = f"""mov.b64 %d0, {{%a0, %a1}}; mov.b64 %d1, {{%a2, %a3}};
    mul.hi.{kind} %d2, %d0, %d1; mov.b64 {{%o0, %o1}}, %d2;
    div.{kind} %d2, %d0, %d1; mov.b64 {{%o2, %o3}}, %d2;
    rem.{kind} %d2, %d0, %d1; mov.b64 {{%o4, %o5}}, %d2;
    add.cc.u32 %o6, %a0, %a2; addc.u32 %o7, %a1, %a3;"""
    out = run(body, words)
    read = s64 if kind == "s64" else int
    for row, found in zip(words.tolist(), out.astype(np.uint64), strict=True):
        x, y = read(row[0] | row[1] << 32), read(row[2] | row[3] << 32)
        quotient = abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
        results = [x * y >> 64, quotient, x - quotient * y, x + y]
        for i, expected in enumerate(results):
            assert int(found[2 * i]) | int(found[2 * i + 1]) << 32 == expected & (1 << 64) - 1, (i, x, y)


def test_lop3_with_a_predicate() -> None:
    words = np.array([[0xF0, 0x0F, 0]], np.uint32)
    body = """setp.eq.u32 %p0, %a2, 0; lop3.and.b32 %o0|%p1, %a0, %a1, %a2, 0xC0, %p0;
    selp.b32 %o1, 1, 0, %p1;"""
    out = run(body, words)
    np.testing.assert_array_equal(out[0, :2], [0, 0])
