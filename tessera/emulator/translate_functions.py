"""Reciprocals, roots, exponentials and the other functions of floating point in LLVM IR.

Those with `.approx` are computed in f64 and rounded once, closer than the hardware's.

Source: PTX ISA 8.8, sections 9.7.3 and 9.7.4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.emulator import translate_floats as floats
from tessera.emulator.emit_ir import FLOAT, WARP, Value, constant, double_text
from tessera.emulator.ptx import Instruction
from tessera.emulator.translate import BITS, unsupported

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator

V64 = f"<{WARP} x i64>"


def function(t: Translator, instruction: Instruction, kind: str, a: Value) -> Value:
    """`rcp`, `sqrt`, `rsqrt`, `ex2`, `lg2`, `sin`, `cos`, `tanh`."""
    opcode = instruction.opcode
    rounding = next((m for m in instruction.modifiers if m in floats.DIRECTED), "rn")
    if kind in ("f16", "bf16", "f16x2", "bf16x2"):
        return floats.by_halves(
            t,
            kind,
            [a],
            lambda k, v: floats.f64_to(t, _wide_function(t, opcode, floats.to_f64(t, v[0], k)), k),
        )
    if kind == "f64" and "approx" in instruction.modifiers:
        return _upper_half(t, instruction, a)
    if rounding != "rn":
        if kind == "f64" and opcode in ("rcp", "sqrt"):
            one = [constant(floats.ONE["f64"], 64), a]
            return floats.directed(
                t, "div" if opcode == "rcp" else opcode, one if opcode == "rcp" else [a], rounding
            )
        return floats.f64_to(
            t, _odd_function(t, opcode, floats.to_f64(t, a, kind), instruction), kind, rounding
        )
    if opcode == "sqrt":
        return t.float_intrinsic("sqrt", FLOAT[kind], a)
    if opcode == "rcp":
        return floats.native(t, "div", kind, [constant(floats.ONE[kind], BITS[kind]), a])
    return floats.f64_to(t, _wide_function(t, opcode, floats.to_f64(t, a, kind)), kind)


def _upper_half(t: Translator, instruction: Instruction, a: Value) -> Value:
    """`rcp.approx.ftz.f64`, `rsqrt.approx{.ftz}.f64`: with `.ftz`, the upper 32 bits; the others are zero."""
    if "ftz" not in instruction.modifiers:
        return _wide_function(t, instruction.opcode, a)
    value = _flush_f64(t, _wide_function(t, instruction.opcode, _flush_f64(t, a)))
    return t.binary("and", value, constant(0xFFFFFFFF00000000, 64))


def _flush_f64(t: Translator, value: Value) -> Value:
    exponent = t.binary("and", value, constant(0x7FF0000000000000, 64))
    sign = t.binary("and", value, constant(1 << 63, 64))
    return t.select(t.compare("eq", exponent, constant(0, 64)), sign, value)


def _odd_function(t: Translator, opcode: str, a: Value, instruction: Instruction) -> Value:
    if opcode == "rcp":
        return floats.odd_quotient(t, constant(floats.ONE["f64"], 64), a)
    if opcode == "sqrt":
        root = t.float_intrinsic("sqrt", "double", a)
        minus = t.binary("xor", root, constant(1 << 63, 64))
        return floats.made_odd(t, root, floats.native(t, "fma", "f64", [minus, root, a]))
    raise unsupported(instruction)


def _wide_function(t: Translator, opcode: str, a: Value) -> Value:
    """A function in f64."""
    if opcode == "sqrt":
        return t.float_intrinsic("sqrt", "double", a)
    if opcode == "rcp":
        return floats.native(t, "div", "f64", [constant(floats.ONE["f64"], 64), a])
    if opcode == "rsqrt":
        return floats.native(
            t, "div", "f64", [constant(floats.ONE["f64"], 64), t.float_intrinsic("sqrt", "double", a)]
        )
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
    nan = floats.compare(t, "uno", "f64", a, a)
    low = t.select(floats.compare(t, "olt", "f64", a, bound[-1]), bound[-1], a)
    x = t.select(floats.compare(t, "ogt", "f64", low, bound[1]), bound[1], low)
    whole = t.float_intrinsic("rint", "double", x)
    rest = floats.native(t, "sub", "f64", [x, whole])
    result = _float_constant(EXP2[-1])
    for coefficient in reversed(EXP2[:-1]):
        result = floats.native(t, "fma", "f64", [result, rest, _float_constant(coefficient)])
    power = t.float_cast("fptosi", whole, "double", "i64", 64)
    scale = t.binary("shl", t.binary("add", power, constant(1023, 64)), constant(52, 64))
    return t.select(nan, a, floats.native(t, "mul", "f64", [result, scale]))


def _float_constant(number: float) -> Value:
    return constant(int(double_text(number), 16), 64)
