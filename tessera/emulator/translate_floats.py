"""Floating point in LLVM IR: roundings, short types, subnormals, sums and products.

Add, multiply, fma, divide and square root round once, as PTX says, in every type. f16 and bf16 are computed
in f32 (sums, products) or f64 (fma) and rounded to odd where a second rounding could be seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tessera.emulator.emit_ir import FLOAT, WARP, Value, Writer, constant
from tessera.emulator.ptx import Instruction
from tessera.emulator.translate import BITS

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator

V64 = f"<{WARP} x i64>"
ONE = {"f32": 0x3F800000, "f64": 0x3FF0000000000000, "f16": 0x3C00, "bf16": 0x3F80}
DIRECTED = ("rz", "rm", "rp")
NAN = {"f32": 0x7FFFFFFF, "f16": 0x7FFF, "bf16": 0x7FFF, "f64": 0x7FF8000000000000}


def sign_bits(kind: str) -> int:
    """The sign bit, of both halves of a packed type."""
    if kind.endswith("x2"):
        return 0x80008000
    return 1 << (BITS[kind] - 1)


def canonical(t: Writer, value: Value, kind: str) -> Value:
    """The value with the NaN that instructions return in place of any other."""
    return by_halves(
        t, kind, [value],
        lambda k, v: t.select(compare(t, "uno", k, v[0], v[0]), constant(NAN[k], BITS[k]), v[0]),
    )  # fmt: skip


def flush(t: Writer, value: Value) -> Value:
    """Subnormal f32 made zeros of the same sign."""
    exponent = t.binary("and", value, constant(0x7F800000, 32))
    sign = t.binary("and", value, constant(0x80000000, 32))
    return t.select(t.compare("eq", exponent, constant(0, 32)), sign, value)


def flushed(t: Writer, value: Value, kind: str) -> Value:
    """Subnormal numbers made zeros of the same sign, in the types that have `.ftz`."""
    if kind == "f32":
        return flush(t, value)
    return by_halves(t, kind, [value], lambda k, v: _flush_half(t, v[0], k))


def _flush_half(t: Writer, value: Value, kind: str) -> Value:
    if kind != "f16":
        return value
    exponent = t.binary("and", value, constant(0x7C00, 16))
    sign = t.binary("and", value, constant(0x8000, 16))
    return t.select(t.compare("eq", exponent, constant(0, 16)), sign, value)


def finished(t: Writer, value: Value, kind: str, modifiers: tuple[str, ...]) -> Value:
    """Flushed, clamped to [0, 1], or to what is not negative, as the modifiers say."""
    if "ftz" in modifiers:
        value = flushed(t, value, kind)
    if "sat" in modifiers or "relu" in modifiers:
        value = by_halves(t, kind, [value], lambda k, v: _clamped(t, v[0], k, modifiers))
    return value


def _clamped(t: Writer, value: Value, kind: str, modifiers: tuple[str, ...]) -> Value:
    zero = constant(0, BITS[kind])
    if "relu" in modifiers:
        below = compare(t, "olt", kind, value, zero)
        negative_zero = t.compare("eq", value, constant(sign_bits(kind), BITS[kind]))
        value = t.select(t.binary("or", below, negative_zero), zero, value)
    if "sat" in modifiers:
        above = compare(t, "ogt", kind, value, zero)
        value = t.select(above, value, zero)
        one = constant(ONE[kind], BITS[kind])
        value = t.select(compare(t, "ogt", kind, value, one), one, value)
    return value


def by_halves(
    t: Writer, kind: str, values: list[Value], compute: Callable[[str, list[Value]], Value]
) -> Value:
    """A computation on a type, or on both halves of its packed form."""
    if not kind.endswith("x2"):
        return compute(kind, values)
    half = kind[:-2]
    low = compute(half, [t.resize(v, 16) for v in values])
    high = compute(half, [t.resize(t.binary("lshr", v, constant(16, 32)), 16) for v in values])
    return pack(t, low, high)


def pack(t: Writer, low: Value, high: Value) -> Value:
    """Two halves of 16 bits as 32."""
    upper = t.binary("shl", t.resize(high, 32), constant(16, 32))
    return t.binary("or", upper, t.resize(low, 32))


# -- widths -------------------------------------------------------------------------------------


def to_f32(t: Writer, value: Value, kind: str) -> Value:
    """The f32 of an f16 or bf16; exact."""
    if kind == "bf16":
        return t.binary("shl", t.resize(value, 32), constant(16, 32))
    if kind == "f16":
        return t.float_cast("fpext", value, "half", "float", 32)
    return value


def to_f64(t: Writer, value: Value, kind: str) -> Value:
    """The f64 of any shorter type; exact."""
    if kind == "f64":
        return value
    return t.float_cast("fpext", to_f32(t, value, kind), "float", "double", 64)


def f32_to(t: Writer, value: Value, kind: str, rounding: str = "rn") -> Value:
    """An f32 rounded to f16 or bf16; NaN becomes the one that conversions return."""
    if kind == "bf16":
        bits = value
        if rounding != "rz":
            odd = t.binary("and", t.binary("lshr", bits, constant(16, 32)), constant(1, 32))
            bits = t.binary("add", t.binary("add", bits, constant(0x7FFF, 32)), odd)
        short = t.resize(t.binary("lshr", bits, constant(16, 32)), 16)
    else:
        short = t.float_cast("fptrunc", value, "float", "half", 16)
    # Towards zero, a bfloat16 is what is left of the bits.
    if rounding in ("rm", "rp") or (rounding == "rz" and kind == "f16"):
        short = towards(t, short, kind, to_f64(t, value, "f32"), rounding)
    nan = compare(t, "uno", "f32", value, value)
    return t.select(nan, constant(NAN[kind], 16), short)


def f64_to_f32_odd(t: Writer, value: Value) -> Value:
    """An f64 cut to f32 with the last bit set if anything was lost, so that one more rounding is right."""
    near = t.float_cast("fptrunc", value, "double", "float", 32)
    back = t.float_cast("fpext", near, "float", "double", 64)
    inexact = compare(t, "one", "f64", back, value)
    even = t.compare("eq", t.binary("and", near, constant(1, 32)), constant(0, 32))
    infinite = t.compare("eq", t.binary("and", near, constant(0x7FFFFFFF, 32)), constant(0x7F800000, 32))
    magnitude = constant(0x7FFFFFFFFFFFFFFF, 64)
    beyond = t.compare("ugt", t.binary("and", value, magnitude), t.binary("and", back, magnitude))
    moved = t.select(beyond, t.binary("add", near, constant(1, 32)), t.binary("sub", near, constant(1, 32)))
    odd = t.select(t.binary("and", inexact, even), moved, near)
    return t.select(infinite, near, odd)


def f64_to(t: Writer, value: Value, kind: str, rounding: str = "rn") -> Value:
    """An f64 rounded once to any shorter type."""
    if kind == "f64":
        return value
    if kind in ("f32", "tf32"):
        nearest = t.float_cast("fptrunc", value, "double", "float", 32)
        return nearest if rounding == "rn" else towards(t, nearest, "f32", value, rounding)
    nearest = f32_to(t, f64_to_f32_odd(t, value), kind)
    if rounding == "rn":
        return nearest
    return t.select(
        compare(t, "uno", "f64", value, value),
        constant(NAN[kind], 16),
        towards(t, nearest, kind, value, rounding),
    )


def towards(t: Writer, nearest: Value, kind: str, exact: Value, rounding: str) -> Value:
    """`nearest` moved by one step where it lies on the wrong side of the f64 `exact`."""
    bits = BITS[kind]
    back = to_f64(t, nearest, kind)
    above, below = compare(t, "ogt", "f64", back, exact), compare(t, "olt", "f64", back, exact)
    negative = compare(t, "olt", "f64", exact, constant(0, 64))
    if rounding == "rz":
        up, down = t.binary("and", below, negative), t.binary("and", above, t.invert(negative))
    elif rounding == "rm":
        up, down = constant(0, 1), above
    else:
        up, down = below, constant(0, 1)
    sign = constant(1 << (bits - 1), bits)
    is_negative = t.compare("ne", t.binary("and", nearest, sign), constant(0, bits))
    zero = t.compare("eq", t.binary("and", nearest, constant(~(1 << (bits - 1)), bits)), constant(0, bits))
    one = constant(1, bits)
    plus, minus = t.binary("add", nearest, one), t.binary("sub", nearest, one)
    higher = t.select(zero, one, t.select(is_negative, minus, plus))
    lower = t.select(zero, t.binary("or", sign, one), t.select(is_negative, plus, minus))
    return t.select(up, higher, t.select(down, lower, nearest))


# -- arithmetic ---------------------------------------------------------------------------------

OPERATIONS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}


def arithmetic(t: Translator, opcode: str, kind: str, values: list[Value], instruction: Instruction) -> Value:
    """A sum, difference, product, quotient or fma in any float type and rounding."""
    rounding = next((m for m in instruction.modifiers if m in DIRECTED), "rn")
    ftz = "ftz" in instruction.modifiers
    if kind in ("f32", "f64") and rounding == "rn":
        value = native(t, opcode, kind, values)
        return tiny_flushed(t, opcode, values, value) if ftz and kind == "f32" else value
    if kind in ("f32", "f64"):
        if kind == "f64":
            return directed(t, opcode, values, rounding)
        wide = [to_f64(t, v, kind) for v in values]
        exact = _exact(t, opcode, wide)
        if rounding == "rm" and opcode in ("add", "sub", "fma"):
            exact = _zero_downwards(t, opcode, wide, exact)
        value = f64_to(t, exact, kind, rounding)
        return without_tiny(t, value, kind, exact) if ftz else value
    return short_arithmetic(t, opcode, kind, values, ftz=ftz)


def directed(t: Translator, opcode: str, values: list[Value], rounding: str) -> Value:
    """f64 arithmetic in the host's own rounding modes, lane by lane."""
    name = f"round_{opcode}_{rounding}"
    t.helpers.add(name)
    kind = f"<{WARP} x double>"
    texts = [t.as_float(t.spread(v), "double")[1] for v in values]
    arguments = "".join(f", {kind} {text}" for text in texts)
    result = t.let(f"call {kind} @{name}({V64} zeroinitializer, i32 -1{arguments})")
    return t.as_bits(result, "double", 64, vector=True)


def native(t: Writer, opcode: str, kind: str, values: list[Value]) -> Value:
    """An operation that the host rounds to nearest, like PTX."""
    if opcode == "fma":
        return t.float_intrinsic("fma", FLOAT[kind], *values)
    return t.floating(f"{OPERATIONS[opcode]} {{t}} {{0}}, {{1}}", FLOAT[kind], *values)


def tiny_flushed(t: Translator, opcode: str, values: list[Value], value: Value) -> Value:
    """An f32 result with `.ftz`: zero also where rounding made a normal number of what is none.

    H200s were seen to do so. Sums are exact where they are that small.
    """
    if opcode in ("add", "sub"):
        return value
    if not value.vector:
        return without_tiny(t, value, "f32", exact_f32(t, opcode, values))
    name = f"tiny_{opcode}"
    t.helpers.add(name)
    arguments = ", ".join(f"{value.type} {t.spread(v).text}" for v in (value, *values))
    return Value(t.let(f"call {value.type} @{name}({arguments})"), 32, vector=True)


def without_tiny(t: Writer, value: Value, kind: str, exact: Value) -> Value:
    """The value, or a zero of its sign where the f64 `exact` is smaller than normal numbers of its type."""
    smallest = {"f32": 0x3810000000000000, "f16": 0x3F10000000000000}[kind]
    magnitude = t.binary("and", exact, constant((1 << 63) - 1, 64))
    tiny = t.compare("ult", magnitude, constant(smallest, 64))
    return t.select(tiny, t.binary("and", value, constant(sign_bits(kind), BITS[kind])), value)


def exact_f32(t: Writer, opcode: str, values: list[Value]) -> Value:
    """The f64 of an operation on f32, rounded to odd."""
    return _exact(t, opcode, [to_f64(t, v, "f32") for v in values])


def short_arithmetic(t: Writer, opcode: str, kind: str, values: list[Value], *, ftz: bool = False) -> Value:
    """A sum, difference, product or fma of halves, one value or two in a register."""
    return by_halves(t, kind, values, lambda k, v: _short(t, opcode, k, v, ftz=ftz and k == "f16"))


def _short(t: Writer, opcode: str, kind: str, values: list[Value], *, ftz: bool) -> Value:
    if opcode != "fma" and kind == "f16" and not ftz:
        wide = native(t, opcode, "f32", [to_f32(t, v, kind) for v in values])
        return f32_to(t, wide, kind)
    exact = _exact(t, opcode, [to_f64(t, v, kind) for v in values])
    value = f64_to(t, exact, kind)
    return without_tiny(t, value, kind, exact) if ftz else value


def _exact(t: Writer, opcode: str, values: list[Value]) -> Value:
    """The f64 result of operands from a shorter type, rounded to odd."""
    if opcode == "mul":
        return native(t, "mul", "f64", values)
    if opcode == "div":
        return odd_quotient(t, values[0], values[1])
    first, second = values[0], values[-1]
    if opcode == "fma":
        first = native(t, "mul", "f64", values[:2])
    elif opcode == "sub":
        second = t.binary("xor", second, constant(1 << 63, 64))
    return _odd_sum(t, first, second)


def _zero_downwards(t: Writer, opcode: str, values: list[Value], total: Value) -> Value:
    """A sum of zero is -0 when rounding down, unless both terms are +0."""
    first = native(t, "mul", "f64", values[:2]) if opcode == "fma" else values[0]
    second = values[-1]
    if opcode == "sub":
        second = t.binary("xor", second, constant(1 << 63, 64))
    some = t.compare("ne", t.binary("or", first, second), constant(0, 64))
    zero = t.compare("eq", total, constant(0, 64))
    return t.select(t.binary("and", zero, some), constant(1 << 63, 64), total)


def _odd_sum(t: Writer, first: Value, second: Value) -> Value:
    total = native(t, "add", "f64", [first, second])
    back = native(t, "sub", "f64", [total, first])
    error = native(
        t, "add", "f64",
        [
            native(t, "sub", "f64", [first, native(t, "sub", "f64", [total, back])]),
            native(t, "sub", "f64", [second, back]),
        ],
    )  # fmt: skip
    return made_odd(t, total, error)


def odd_quotient(t: Writer, a: Value, b: Value) -> Value:
    """A quotient in f64, rounded to odd."""
    quotient = native(t, "div", "f64", [a, b])
    minus = t.binary("xor", quotient, constant(1 << 63, 64))
    remainder = native(t, "fma", "f64", [minus, b, a])
    # The error has the sign of remainder / b.
    sign = t.binary("and", b, constant(1 << 63, 64))
    return made_odd(t, quotient, t.binary("xor", remainder, sign))


def made_odd(t: Writer, value: Value, error: Value) -> Value:
    """`value` rounded to odd, if `error` is what it lacks of the exact result."""
    inexact = compare(t, "one", "f64", error, constant(0, 64))
    even = t.compare("eq", t.binary("and", value, constant(1, 64)), constant(0, 64))
    exponent = constant(0x7FF0000000000000, 64)
    finite = t.compare("ne", t.binary("and", value, exponent), exponent)
    signs = t.binary("xor", value, error)
    away = t.compare("sge", signs, constant(0, 64))
    moved = t.select(away, t.binary("add", value, constant(1, 64)), t.binary("sub", value, constant(1, 64)))
    return t.select(t.binary("and", t.binary("and", inexact, even), finite), moved, value)


def compare(t: Writer, condition: str, kind: str, a: Value, b: Value) -> Value:
    """`fcmp` in any float type."""
    if kind in ("f16", "bf16"):
        a, b, kind = to_f32(t, a, kind), to_f32(t, b, kind), "f32"
    return t.float_compare(condition, FLOAT[kind], a, b)


def extremum(t: Writer, instruction: Instruction, kind: str, a: Value, b: Value) -> Value:
    """`min`, `max`: a NaN gives way unless `.NaN`; -0 is less than +0."""
    return by_halves(t, kind, [a, b], lambda k, v: _extremum(t, instruction, k, v[0], v[1]))


def _extremum(t: Writer, instruction: Instruction, kind: str, a: Value, b: Value) -> Value:
    modifiers, least = instruction.modifiers, instruction.opcode == "min"
    sign = constant(sign_bits(kind), BITS[kind])
    signs = t.binary("and", t.binary("xor", a, b), sign)
    if "abs" in modifiers:
        a, b = (t.binary("and", v, constant(~sign_bits(kind), BITS[kind])) for v in (a, b))
    first = compare(t, "olt" if least else "ogt", kind, a, b)
    picked = t.select(first, a, b)
    # Equal numbers differ in nothing but the sign of zero.
    equal = compare(t, "oeq", kind, a, b)
    picked = t.select(equal, t.binary("or" if least else "and", a, b), picked)
    a_nan, b_nan = compare(t, "uno", kind, a, a), compare(t, "uno", kind, b, b)
    picked = t.select(b_nan, a, t.select(a_nan, b, picked))
    if "xorsign" in modifiers:
        picked = t.binary("or", picked, signs)
    none = t.binary("or" if "NaN" in modifiers else "and", a_nan, b_nan)
    if kind == "f64" and "NaN" not in modifiers:
        return picked
    return t.select(none, constant(NAN[kind], BITS[kind]), picked)
