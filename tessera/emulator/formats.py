"""Floating-point formats: exact values to bits with every rounding, and bits to float64.

Values come as float64. Where the exact result needs more bits than float64 has, it comes *rounded to odd*
(see `lanes.odd_sum`): rounding that once more to a shorter format gives what rounding the exact value would
have given, whatever the direction.

Source: PTX ISA 8.8, sections 5.2.2 and 5.2.3 (types) and 9.7.9.21 (`cvt`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.emulator.lanes import Array, odd_sum


@dataclass(frozen=True, slots=True)
class Format:
    """A binary floating-point format."""

    bits: int
    """Of a value in memory."""
    fraction: int
    """Stored bits of the significand."""
    exponent: int
    """Bits of the exponent."""
    largest: float
    """Largest finite value."""
    nan: int
    """Bits of the NaN that instructions return."""
    infinity: bool = True
    padding: int = 0
    """Low bits that are always zero (tf32 is kept in 32 bits)."""

    @property
    def bias(self) -> int:
        """What is added to an exponent to store it."""
        return (1 << self.exponent - 1) - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Unsigned integers of that many bits."""
        return np.dtype(f"u{self.bits // 8}")


FORMATS: dict[str, Format] = {
    "f64": Format(64, 52, 11, float(np.finfo(np.float64).max), 0x7FF8_0000_0000_0000),
    "f32": Format(32, 23, 8, float(np.finfo(np.float32).max), 0x7FFF_FFFF),
    "tf32": Format(32, 10, 8, float((2 - 2.0**-10) * 2.0**127), 0x7FFF_E000, padding=13),
    "f16": Format(16, 10, 5, 65504.0, 0x7FFF),
    "bf16": Format(16, 7, 8, float((2 - 2.0**-7) * 2.0**127), 0x7FFF),
    "e5m2": Format(8, 2, 5, 57344.0, 0x7F),
    "e4m3": Format(8, 3, 4, 448.0, 0x7F, infinity=False),
}
"""Formats by their PTX type."""

ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "rn": np.rint,
    "rz": np.trunc,
    "rm": np.floor,
    "rp": np.ceil,
    "rna": lambda scaled: np.trunc(scaled + np.copysign(0.5, scaled)),
}
"""A value in units of the last place to a whole number of them."""


def decode(bits: Array, name: str) -> Array:
    """The float64 values that `bits` mean in the format `name`."""
    form = FORMATS[name]
    if name == "f64":
        return bits.view(np.float64)
    if name in ("f32", "tf32"):
        return bits.view(np.float32).astype(np.float64)
    if name == "f16":
        return bits.view(np.float16).astype(np.float64)
    if name == "bf16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
    stored = (bits >> np.uint8(form.fraction) & np.uint8((1 << form.exponent) - 1)).astype(np.int64)
    fraction = (bits & np.uint8((1 << form.fraction) - 1)).astype(np.float64)
    lead = np.where(stored == 0, 0.0, float(1 << form.fraction))
    values = np.ldexp(lead + fraction, np.maximum(stored, 1) - form.bias - form.fraction)
    if form.infinity:
        special = stored == (1 << form.exponent) - 1
        values = np.where(special, np.where(fraction == 0, np.inf, np.nan), values)
    else:
        values = np.where((bits & np.uint8(0x7F)) == 0x7F, np.nan, values)
    return np.where(bits >> np.uint8(7) != 0, -values, values)


def encode(values: Array, name: str, rounding: str = "rn", *, saturate: bool = False) -> Array:
    """The bits of float64 values (exact, or rounded to odd) in the format `name`.

    Args:
        values: Any shape, float64.
        name: Format.
        rounding: `rn`, `rz`, `rm`, `rp` or `rna`.
        saturate: Values beyond the largest finite one become that one (`.satfinite`).
    """
    form = FORMATS[name]
    if name == "f64":
        return values.view(np.uint64)
    with np.errstate(all="ignore"):
        rounded = _rounded(values, form, rounding)
        over = np.abs(rounded) > form.largest
        towards_zero = {"rz": True, "rm": values > 0, "rp": values < 0}.get(rounding, False)
        # Directed roundings stop at the largest finite value, unless it was infinite to begin with.
        keep = (np.isfinite(values) & towards_zero) | saturate
        top = np.where(keep, form.largest, np.inf if form.infinity else np.nan)
        rounded = np.where(over, np.copysign(top, values), rounded)
    return _pack(rounded, form)


def _rounded(values: Array, form: Format, rounding: str) -> Array:
    finite = np.isfinite(values)
    safe = np.where(finite, values, 0.0)
    _, exponents = np.frexp(safe)
    unit = np.maximum(exponents - 1, 1 - form.bias) - form.fraction
    whole = ROUNDINGS[rounding](np.ldexp(safe, -unit))
    return np.where(finite, np.copysign(np.ldexp(whole, unit), safe), values)


def _pack(values: Array, form: Format) -> Array:
    """Bits of values that the format holds exactly."""
    _, exponents = np.frexp(np.where(np.isfinite(values), values, 0.0))
    magnitude = np.abs(np.where(np.isfinite(values), values, 0.0))
    exponent = np.maximum(exponents - 1, 1 - form.bias)
    whole = np.ldexp(magnitude, form.fraction - exponent).astype(np.uint64)
    normal = whole >> np.uint64(form.fraction) != 0
    stored = np.where(normal, exponent + form.bias, 0).astype(np.uint64)
    bits = stored << np.uint64(form.fraction) | (whole & np.uint64((1 << form.fraction) - 1))
    infinite = np.uint64(((1 << form.exponent) - 1) << form.fraction)
    bits = np.where(np.isinf(values), infinite, bits) << np.uint64(form.padding)
    bits |= np.signbit(values).astype(np.uint64) << np.uint64(form.bits - 1)
    return np.where(np.isnan(values), np.uint64(form.nan), bits).astype(form.dtype)


def exact(values: Array) -> Array:
    """Integers or floats as float64, rounded to odd where they do not fit."""
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    if values.dtype.itemsize < 8:
        return values.astype(np.float64)
    high = (values >> values.dtype.type(32)).astype(np.float64) * 2.0**32
    return odd_sum(high, (values & values.dtype.type(0xFFFF_FFFF)).astype(np.float64))


def flush_subnormal(values: Array, name: str) -> Array:
    """float64 values that are subnormal in the format `name`, as zeros of their sign."""
    tiny = np.abs(values) < 2.0 ** (1 - FORMATS[name].bias)
    return np.where(tiny, np.copysign(0.0, values), values)
