"""Floats of 8 bits in LLVM IR: to and from float32 and float16.

Source: PTX ISA 8.8, sections 5.2.3 (types) and 9.7.9.21 (`cvt`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tessera.emulator import translate_floats as floats
from tessera.emulator.emit_ir import Value, Writer, constant


@dataclass(frozen=True, slots=True)
class Mini:
    """A format of at most 8 bits."""

    fraction: int
    """Stored bits of the significand."""
    bias: int
    """What is added to an exponent to store it."""
    largest: int
    """Bits of the largest finite value."""
    largest_f32: int
    """The same as float32."""
    nan: int = 0x7F
    """Bits of the NaN that conversions return."""


MINIS = {"e4m3": Mini(3, 7, 0x7E, 0x43E00000), "e5m2": Mini(2, 15, 0x7B, 0x47600000)}
"""Formats by their PTX type."""


def f32_to_mini(t: Writer, value: Value, name: str) -> Value:
    """An f32 rounded to nearest; what is beyond the largest value becomes that one."""
    form = MINIS[name]
    cut = 23 - form.fraction
    magnitude = t.binary("and", value, constant(0x7FFFFFFF, 32))
    odd = t.binary("and", t.binary("lshr", magnitude, constant(cut, 32)), constant(1, 32))
    half = t.binary("add", odd, constant((1 << (cut - 1)) - 1, 32))
    rebased = t.binary("sub", magnitude, constant((127 - form.bias) << 23, 32))
    normal = t.binary("lshr", t.binary("add", rebased, half), constant(cut, 32))
    # Adding a power of two whose last place is a subnormal's rounds to one.
    unit = constant((1 - form.bias - form.fraction + 23 + 127) << 23, 32)
    subnormal = t.binary("sub", t.floating("fadd {t} {0}, {1}", "float", magnitude, unit), unit)
    small = t.compare("ult", magnitude, constant((1 - form.bias + 127) << 23, 32))
    bits = t.select(small, subnormal, normal)
    over = t.compare("ugt", magnitude, constant(form.largest_f32, 32))
    bits = t.select(over, constant(form.largest, 32), bits)
    bits = t.binary(
        "or", bits, t.binary("and", t.binary("lshr", value, constant(24, 32)), constant(0x80, 32))
    )
    nan = t.compare("ugt", magnitude, constant(0x7F800000, 32))
    return t.resize(t.select(nan, constant(form.nan, 32), bits), 8)


def mini_to_f16(t: Writer, value: Value, name: str) -> Value:
    """The f16 of 8 bits; exact."""
    form = MINIS[name]
    wide = t.resize(value, 16)
    magnitude = t.binary("and", wide, constant(0x7F, 16))
    shifted = t.binary("shl", magnitude, constant(10 - form.fraction, 16))
    if form.bias != 15:
        # Read as f16, the bits mean the value times a power of two.
        scale = constant((127 + 15 - form.bias) << 23, 32)
        scaled = t.floating("fmul {t} {0}, {1}", "float", floats.to_f32(t, shifted, "f16"), scale)
        shifted = t.float_cast("fptrunc", scaled, "float", "half", 16)
    sign = t.binary("shl", t.binary("and", wide, constant(0x80, 16)), constant(8, 16))
    infinite = form.largest + 1
    above = t.compare("ugt", magnitude, constant(infinite if name == "e5m2" else form.largest, 16))
    return t.select(above, constant(0x7FFF, 16), t.binary("or", shifted, sign))
