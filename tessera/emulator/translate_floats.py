"""Floating point in LLVM IR: roundings, short types, subnormals, functions.

Add, multiply, fma, divide and square root round once, as PTX says, in every type. f16 and bf16 are computed
in f32 (sums, products) or f64 (fma) and rounded to odd where a second rounding could be seen. Functions
with `.approx` are computed in f64 and rounded to f32, closer than the hardware's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tessera.emulator.emit_ir import FLOAT, WARP, Value, Writer, constant, double_text
from tessera.emulator.ptx import Instruction
from tessera.emulator.translate import BITS, unsupported

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


def flush(t: Writer, value: Value) -> Value:
    """Subnormal f32 made zeros of the same sign."""
    exponent = t.binary("and", value, constant(0x7F800000, 32))
    sign = t.binary("and", value, constant(0x80000000, 32))
    return t.select(t.compare("eq", exponent, constant(0, 32)), sign, value)


def flushed(t: Translator, value: Value, kind: str) -> Value:
    """Subnormal numbers made zeros of the same sign, in the types that have `.ftz`."""
    if kind == "f32":
        return flush(t, value)
    return by_halves(t, kind, [value], lambda k, v: _flush_half(t, v[0], k))


def _flush_half(t: Translator, value: Value, kind: str) -> Value:
    if kind != "f16":
        return value
    exponent = t.binary("and", value, constant(0x7C00, 16))
    sign = t.binary("and", value, constant(0x8000, 16))
    return t.select(t.compare("eq", exponent, constant(0, 16)), sign, value)


def finished(t: Translator, value: Value, kind: str, modifiers: tuple[str, ...]) -> Value:
    """Flushed, clamped to [0, 1], or to what is not negative, as the modifiers say."""
    if "ftz" in modifiers:
        value = flushed(t, value, kind)
    if "sat" in modifiers or "relu" in modifiers:
        value = by_halves(t, kind, [value], lambda k, v: _clamped(t, v[0], k, modifiers))
    return value


def _clamped(t: Translator, value: Value, kind: str, modifiers: tuple[str, ...]) -> Value:
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
    t: Translator, kind: str, values: list[Value], compute: Callable[[str, list[Value]], Value]
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
    """An f32 rounded to f16 or bf16."""
    if kind == "bf16":
        bits = value
        if rounding == "rn":
            odd = t.binary("and", t.binary("lshr", bits, constant(16, 32)), constant(1, 32))
            bits = t.binary("add", t.binary("add", bits, constant(0x7FFF, 32)), odd)
        short = t.resize(t.binary("lshr", bits, constant(16, 32)), 16)
        nan = compare(t, "uno", "f32", value, value)
        return t.select(nan, constant(0x7FFF, 16), short)
    nearest = t.float_cast("fptrunc", value, "float", "half", 16)
    if rounding == "rn":
        nan = compare(t, "uno", "f32", value, value)
        return t.select(nan, constant(0x7FFF, 16), nearest)
    return towards(t, nearest, "f16", to_f64(t, value, "f32"), rounding)


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
    return f32_to(t, f64_to_f32_odd(t, value), kind, rounding)


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
    if kind in ("f32", "f64") and rounding == "rn":
        return _native(t, opcode, kind, values)
    if kind in ("f32", "f64"):
        if kind == "f64":
            return _directed(t, opcode, values, rounding)
        wide = [to_f64(t, v, kind) for v in values]
        exact = _exact(t, opcode, wide)
        if rounding == "rm" and opcode in ("add", "sub", "fma"):
            exact = _zero_downwards(t, opcode, wide, exact)
        return f64_to(t, exact, kind, rounding)
    return by_halves(t, kind, values, lambda k, v: _short(t, opcode, k, v))


def _directed(t: Translator, opcode: str, values: list[Value], rounding: str) -> Value:
    """f64 arithmetic in the host's own rounding modes, lane by lane."""
    name = f"round_{opcode}_{rounding}"
    t.helpers.add(name)
    kind = f"<{WARP} x double>"
    texts = [t.as_float(t.spread(v), "double")[1] for v in values]
    arguments = "".join(f", {kind} {text}" for text in texts)
    result = t.let(f"call {kind} @{name}({V64} zeroinitializer, i32 -1{arguments})")
    return t.as_bits(result, "double", 64, vector=True)


def _native(t: Writer, opcode: str, kind: str, values: list[Value]) -> Value:
    if opcode == "fma":
        return t.float_intrinsic("fma", FLOAT[kind], *values)
    return t.floating(f"{OPERATIONS[opcode]} {{t}} {{0}}, {{1}}", FLOAT[kind], *values)


def _short(t: Translator, opcode: str, kind: str, values: list[Value]) -> Value:
    if opcode != "fma" and kind == "f16":
        wide = _native(t, opcode, "f32", [to_f32(t, v, kind) for v in values])
        return f32_to(t, wide, kind)
    return f64_to(t, _exact(t, opcode, [to_f64(t, v, kind) for v in values]), kind)


def _exact(t: Translator, opcode: str, values: list[Value]) -> Value:
    """The f64 result of operands from a shorter type, rounded to odd."""
    if opcode == "mul":
        return _native(t, "mul", "f64", values)
    if opcode == "div":
        return _odd_quotient(t, values[0], values[1])
    first, second = values[0], values[-1]
    if opcode == "fma":
        first = _native(t, "mul", "f64", values[:2])
    elif opcode == "sub":
        second = t.binary("xor", second, constant(1 << 63, 64))
    return _odd_sum(t, first, second)


def _zero_downwards(t: Writer, opcode: str, values: list[Value], total: Value) -> Value:
    """A sum of zero is -0 when rounding down, unless both terms are +0."""
    first = _native(t, "mul", "f64", values[:2]) if opcode == "fma" else values[0]
    second = values[-1]
    if opcode == "sub":
        second = t.binary("xor", second, constant(1 << 63, 64))
    some = t.compare("ne", t.binary("or", first, second), constant(0, 64))
    zero = t.compare("eq", total, constant(0, 64))
    return t.select(t.binary("and", zero, some), constant(1 << 63, 64), total)


def _odd_sum(t: Translator, first: Value, second: Value) -> Value:
    total = _native(t, "add", "f64", [first, second])
    back = _native(t, "sub", "f64", [total, first])
    error = _native(
        t, "add", "f64",
        [
            _native(t, "sub", "f64", [first, _native(t, "sub", "f64", [total, back])]),
            _native(t, "sub", "f64", [second, back]),
        ],
    )  # fmt: skip
    return _made_odd(t, total, error)


def _odd_quotient(t: Translator, a: Value, b: Value) -> Value:
    quotient = _native(t, "div", "f64", [a, b])
    minus = t.binary("xor", quotient, constant(1 << 63, 64))
    remainder = _native(t, "fma", "f64", [minus, b, a])
    # The error has the sign of remainder / b.
    sign = t.binary("and", b, constant(1 << 63, 64))
    return _made_odd(t, quotient, t.binary("xor", remainder, sign))


def _made_odd(t: Writer, value: Value, error: Value) -> Value:
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


def extremum(t: Translator, instruction: Instruction, kind: str, a: Value, b: Value) -> Value:
    """`min`, `max`: a NaN gives way unless `.NaN`; -0 is less than +0."""
    return by_halves(t, kind, [a, b], lambda k, v: _extremum(t, instruction, k, v[0], v[1]))


def _extremum(t: Translator, instruction: Instruction, kind: str, a: Value, b: Value) -> Value:
    least = instruction.opcode == "min"
    first = compare(t, "olt" if least else "ogt", kind, a, b)
    picked = t.select(first, a, b)
    # Equal numbers differ in nothing but the sign of zero.
    equal = compare(t, "oeq", kind, a, b)
    picked = t.select(equal, t.binary("or" if least else "and", a, b), picked)
    a_nan, b_nan = compare(t, "uno", kind, a, a), compare(t, "uno", kind, b, b)
    if "NaN" in instruction.modifiers:
        return t.select(t.binary("or", a_nan, b_nan), constant(NAN[kind], BITS[kind]), picked)
    return t.select(a_nan, b, t.select(b_nan, a, picked))


# -- functions ----------------------------------------------------------------------------------


def function(t: Translator, instruction: Instruction, kind: str, a: Value) -> Value:
    """`rcp`, `sqrt`, `rsqrt`, `ex2`, `lg2`, `sin`, `cos`, `tanh`."""
    opcode = instruction.opcode
    rounding = next((m for m in instruction.modifiers if m in DIRECTED), "rn")
    if kind in ("f16", "bf16", "f16x2", "bf16x2"):
        return by_halves(
            t, kind, [a], lambda k, v: f64_to(t, _wide_function(t, opcode, to_f64(t, v[0], k)), k)
        )
    if rounding != "rn":
        if kind == "f64" and opcode in ("rcp", "sqrt"):
            one = [constant(ONE["f64"], 64), a]
            return _directed(
                t, "div" if opcode == "rcp" else opcode, one if opcode == "rcp" else [a], rounding
            )
        return f64_to(t, _odd_function(t, opcode, to_f64(t, a, kind), instruction), kind, rounding)
    if opcode == "sqrt":
        return t.float_intrinsic("sqrt", FLOAT[kind], a)
    if opcode == "rcp":
        return _native(t, "div", kind, [constant(ONE[kind], BITS[kind]), a])
    return f64_to(t, _wide_function(t, opcode, to_f64(t, a, kind)), kind)


def _odd_function(t: Translator, opcode: str, a: Value, instruction: Instruction) -> Value:
    if opcode == "rcp":
        return _odd_quotient(t, constant(ONE["f64"], 64), a)
    if opcode == "sqrt":
        root = t.float_intrinsic("sqrt", "double", a)
        minus = t.binary("xor", root, constant(1 << 63, 64))
        return _made_odd(t, root, _native(t, "fma", "f64", [minus, root, a]))
    raise unsupported(instruction)


def _wide_function(t: Translator, opcode: str, a: Value) -> Value:
    """A function in f64."""
    if opcode == "sqrt":
        return t.float_intrinsic("sqrt", "double", a)
    if opcode == "rcp":
        return _native(t, "div", "f64", [constant(ONE["f64"], 64), a])
    if opcode == "rsqrt":
        return _native(t, "div", "f64", [constant(ONE["f64"], 64), t.float_intrinsic("sqrt", "double", a)])
    if opcode == "ex2":
        return _exp2(t, a)
    name = f"map_{ {'lg2': 'log2'}.get(opcode, opcode) }"
    t.helpers.add(name)
    kind, text = t.as_float(t.spread(a), "double")
    result = t.let(f"call {kind} @{name}({V64} zeroinitializer, i32 -1, {kind} {text})")
    return t.as_bits(result, "double", 64, vector=True)


EXP2 = (
    1.0, 0.6931471805599453, 0.2402265069591007, 0.05550410866482158, 0.009618129107628477,
    0.0013333558146428443, 0.00015403530393381608, 1.5252733804059838e-05, 1.3215486790144307e-06,
    1.0178086009239699e-07, 7.054911620801121e-09, 4.4455382718708116e-10,
)  # fmt: skip
"""Taylor coefficients of 2**x, good to 1e-15 for |x| <= 1/2."""


def _exp2(t: Translator, a: Value) -> Value:
    """2**a for results that are rounded to f32 or less: the exponent is clamped to ±400."""
    bound = {sign: _float_constant(sign * 400.0) for sign in (1, -1)}
    nan = compare(t, "uno", "f64", a, a)
    low = t.select(compare(t, "olt", "f64", a, bound[-1]), bound[-1], a)
    x = t.select(compare(t, "ogt", "f64", low, bound[1]), bound[1], low)
    whole = t.float_intrinsic("rint", "double", x)
    rest = _native(t, "sub", "f64", [x, whole])
    result = _float_constant(EXP2[-1])
    for coefficient in reversed(EXP2[:-1]):
        result = _native(t, "fma", "f64", [result, rest, _float_constant(coefficient)])
    power = t.float_cast("fptosi", whole, "double", "i64", 64)
    scale = t.binary("shl", t.binary("add", power, constant(1023, 64)), constant(52, 64))
    return t.select(nan, a, _native(t, "mul", "f64", [result, scale]))


def _float_constant(number: float) -> Value:
    return constant(int(double_text(number), 16), 64)
