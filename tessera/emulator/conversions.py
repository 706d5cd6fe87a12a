"""`cvt` in all its forms, and arithmetic with directed rounding.

Source: PTX ISA 8.8, section 9.7.9.21 (`cvt`), 9.7.3 (floating-point instructions).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from tessera.emulator import formats, lanes
from tessera.emulator.lanes import BITS, Array
from tessera.emulator.ptx import Instruction
from tessera.program.errors import CompileError

if TYPE_CHECKING:
    from tessera.emulator.instructions import Executor

TO_INTEGER = ("rni", "rzi", "rmi", "rpi")
PACKED = {"f16x2": "f16", "bf16x2": "bf16", "e4m3x2": "e4m3", "e5m2x2": "e5m2"}
"""Types of two values in one register, and the format of each."""
ROUNDINGS = ("rn", "rz", "rm", "rp", "rna")


def rounding_of(instruction: Instruction) -> str:
    """The rounding an instruction names; to nearest even if none."""
    return next((m for m in instruction.modifiers if m in ROUNDINGS), "rn")


def convert(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """Run a `cvt` instruction.

    Raises:
        CompileError: A form that is not known.
    """
    if instruction.opcode == "cvt" and "pack" in instruction.modifiers:
        _pack_integers(executor, instruction, mask)
        return
    target, source = instruction.modifiers[-2:]
    if source not in (*PACKED, *BITS) or target not in (*PACKED, *BITS) or "rs" in instruction.modifiers:
        raise CompileError(
            f"PTX line {instruction.line}: the emulator does not know {instruction.mnemonic}",
            ptx_line=instruction.line,
        )
    if target in PACKED:
        parts = _packed_source(executor, instruction, source)
        bits = [_to_float(p, PACKED[target], instruction) for p in parts]
        pair = np.ascontiguousarray(np.stack(bits, axis=1))
        joined = pair.view(np.dtype(f"u{2 * pair.dtype.itemsize}"))[:, 0]
        executor.write(instruction.operands[0], joined, mask)
        return
    ftz = "ftz" in instruction.modifiers
    values = lanes.flush(executor.read(instruction.operands[1], source), ftz=ftz)
    if source == "bf16":
        values = lanes.bf16_to_f32(values)
        if target == "f32":
            # The bits as they are, of NaN too.
            executor.write(instruction.operands[0], values, mask)
            return
    if not target.startswith(("f", "bf", "tf")):
        result = _to_integer(values, np.dtype(BITS[target]), instruction)
    else:
        result = _to_float(values, target, instruction)
        if target == "f32":
            result = lanes.flush(result.view(np.float32), ftz=ftz)
    executor.write(instruction.operands[0], result, mask)


def _packed_source(executor: Executor, instruction: Instruction, source: str) -> list[Array]:
    """The low and the high value of a packed conversion, as float64 or as they were."""
    if source not in PACKED:
        high, low = (executor.read(op, source) for op in instruction.operands[1:3])
        return [low, high]
    form = formats.FORMATS[PACKED[source]]
    register = executor.read(instruction.operands[1], f"b{2 * form.bits}")
    both = np.ascontiguousarray(register).view(form.dtype).reshape(-1, 2)
    return [formats.decode(np.ascontiguousarray(both[:, i]), PACKED[source]) for i in range(2)]


def _to_float(values: Array, target: str, instruction: Instruction) -> Array:
    """Bits of `values` in the format `target`."""
    modifiers = instruction.modifiers
    whole = next((m for m in modifiers if m in TO_INTEGER), None)
    if whole is not None and values.dtype.kind == "f":
        values = lanes.ROUND[whole](values)
    wide = values if values.dtype == np.float64 and target == "f64" else formats.exact(values)
    if target == "f64" and values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        return _integer_to_f64(values, rounding_of(instruction))
    if "sat" in modifiers:
        wide = lanes.saturate(wide)
    if "relu" in modifiers:
        wide = np.where(wide < 0, 0.0, wide) + 0.0
    bits = formats.encode(wide, target, rounding_of(instruction), saturate="satfinite" in modifiers)
    if target == "f64":
        # A signalling NaN becomes a quiet one.
        return np.where(np.isnan(wide), bits | np.uint64(1 << 51), bits)
    if target == "tf32" and "rna" in modifiers:
        return np.where(np.isnan(wide), values.view(np.uint32) & np.uint32(0xFFFF_E000), bits)
    return bits


def _integer_to_f64(values: Array, rounding: str) -> Array:
    if rounding == "rn":
        return values.astype(np.float64).view(np.uint64)
    return np.array([nearest_fraction(Fraction(int(v)), rounding) for v in values]).view(np.uint64)


def _to_integer(values: Array, dtype: np.dtype[Any], instruction: Instruction) -> Array:
    limits = np.iinfo(dtype)
    if values.dtype.kind != "f":
        if "sat" not in instruction.modifiers:
            return values.astype(dtype)
        return np.array([min(max(int(v), limits.min), limits.max) for v in values], dtype)
    whole = next((m for m in instruction.modifiers if m in TO_INTEGER), "rzi")
    rounded = lanes.ROUND[whole](values.astype(np.float64))
    # The largest value itself is no float64 for 64-bit types; from the next power of two on, all saturate.
    low, high = rounded < float(limits.min), rounded >= float(limits.max)
    found = np.where(np.isnan(rounded) | low | high, 0, rounded).astype(dtype)
    found = np.where(low, limits.min, np.where(high, limits.max, found)).astype(dtype)
    # Section 9.7.9.21: NaN gives 0, or the sign bit alone where a 64-bit type is on either side.
    wide = values.dtype.itemsize == 8 or dtype.itemsize == 8
    nan = np.array([1 << (dtype.itemsize * 8 - 1) if wide else 0], np.uint64)
    bits = nan.astype(np.dtype(f"u{dtype.itemsize}")).view(dtype)
    return np.where(np.isnan(rounded), bits, found).astype(dtype)


def _pack_integers(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`cvt.pack.sat`: two s32 narrowed with saturation, above the low bits of a third operand.

    Source: PTX ISA 8.8, section 9.7.9.22.
    """
    kind = instruction.modifiers[-2] if len(instruction.operands) == 3 else instruction.modifiers[-3]
    bits = int(kind[1:])
    low = -(1 << bits - 1) if kind[0] == "s" else 0
    high = (1 << bits - 1) - 1 if kind[0] == "s" else (1 << bits) - 1
    a, b = (
        np.clip(executor.read(op, "s32").astype(np.int64), low, high) & ((1 << bits) - 1)
        for op in instruction.operands[1:3]
    )
    result = a << bits | b
    if len(instruction.operands) == 4:
        result |= executor.read(instruction.operands[3], "u32").astype(np.int64) << 2 * bits
    executor.write(instruction.operands[0], result.astype(np.uint32), mask)


def round_directed(operation: str, operands: list[Array], rounding: str) -> Array:
    """Sum, difference, product, quotient, fma or square root, rounded as `rounding` says.

    float32 results come from float64 ones rounded to odd, float64 results from exact fractions.
    """
    if operands[0].dtype == np.float64:
        rows = zip(*(x.tolist() for x in operands), strict=True)
        return np.array([_directed_f64(operation, row, rounding) for row in rows], np.float64)
    wide = [x.astype(np.float64) for x in operands]
    exact = _odd(operation, wide)
    result = formats.encode(exact, "f32", rounding).view(np.float32)
    if rounding == "rm" and operation in ("add", "sub", "fma"):
        result = np.where((exact == 0) & ~_same_zeros(operation, wide), np.float32(-0.0), result)
    return result


def without_tiny(operation: str, operands: list[Array], values: Array) -> Array:
    """float32 results of `.ftz`: zero also where rounding made a normal number of what is none.

    H200s were seen to do so.
    """
    exact = _odd(operation, [x.astype(np.float64) for x in operands])
    tiny = np.abs(exact) < 2.0**-126
    return np.where(tiny, np.copysign(np.float32(0), values), values)


def _odd(operation: str, wide: list[Array]) -> Array:
    """The float64 result of an operation, rounded to odd."""
    functions: dict[str, Callable[[], Array]] = {
        "div": lambda: _odd_quotient(*wide),
        "mul": lambda: wide[0] * wide[1],
        "add": lambda: lanes.odd_sum(*wide),
        "sub": lambda: lanes.odd_sum(wide[0], -wide[1]),
        "fma": lambda: lanes.odd_sum(wide[0] * wide[1], wide[2]),
        "sqrt": lambda: _odd_root(wide[0]),
    }
    return functions[operation]()


def _same_zeros(operation: str, wide: list[Array]) -> Array:
    """Whether both terms are zeros of the same sign: their sum is that zero, whatever the rounding."""
    first = wide[0] * wide[1] if operation == "fma" else wide[0]
    second = -wide[1] if operation == "sub" else wide[-1]
    same: Array = (first == 0) & (second == 0) & (np.signbit(first) == np.signbit(second))
    return same


def _odd_quotient(a: Array, b: Array) -> Array:
    quotient = a / b
    return _to_odd(quotient, lanes.fma(-quotient, b, a), b > 0)


def _odd_root(a: Array) -> Array:
    root = np.sqrt(a)
    return _to_odd(root, lanes.fma(-root, root, a), np.ones(a.shape, np.bool_))


def _to_odd(nearest: Array, remainder: Array, positive: Array) -> Array:
    """`nearest` with its last bit set where what remains says that it is not exact."""
    bits = nearest.view(np.int64)
    inexact = (remainder != 0) & np.isfinite(nearest) & np.isfinite(remainder) & (bits & 1 == 0)
    away = ((remainder > 0) == positive) == (nearest > 0)
    return np.where(inexact, np.where(away, bits + 1, bits - 1), bits).view(np.float64)


def _directed_f64(operation: str, row: tuple[float, ...], rounding: str) -> float:
    with np.errstate(all="ignore"):
        plain = float(_PLAIN[operation](*(np.float64(x) for x in row)))
    if not all(math.isfinite(x) for x in row) or (operation == "div" and row[1] == 0) or math.isnan(plain):
        return plain
    values = [Fraction(x) for x in row]
    if operation == "sqrt":
        return _directed_root(values[0], plain, rounding)
    exact = Fraction(_PLAIN[operation](*values))
    if exact == 0:
        zero = -0.0 if rounding == "rm" and plain == 0 and operation in ("add", "sub", "fma") else plain
        return plain if row.count(0.0) == len(row) else zero
    return nearest_fraction(exact, rounding)


_PLAIN: dict[str, Any] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "fma": lambda a, b, c: a * b + c,
    "sqrt": lambda a: np.sqrt(a),
}


def _directed_root(value: Fraction, plain: float, rounding: str) -> float:
    square = Fraction(plain) ** 2
    if rounding == "rp":
        return plain if square >= value else math.nextafter(plain, math.inf)
    return plain if square <= value else math.nextafter(plain, 0.0)


def nearest_fraction(exact: Fraction, rounding: str) -> float:
    """The float64 of a fraction other than 0, rounded as `rounding` says."""
    try:
        nearest = float(exact)
    except OverflowError:
        nearest = math.inf if exact > 0 else -math.inf
    if rounding == "rn" or (math.isfinite(nearest) and Fraction(nearest) == exact):
        return nearest
    above = (math.isinf(nearest) and nearest > 0) or (math.isfinite(nearest) and Fraction(nearest) > exact)
    down = rounding == "rm" or (rounding == "rz" and exact > 0)
    if down:
        return math.nextafter(nearest, -math.inf) if above else nearest
    return nearest if above else math.nextafter(nearest, math.inf)
