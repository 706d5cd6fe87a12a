"""Arithmetic in LLVM IR.

Source: PTX ISA 8.8, sections 9.7.1 to 9.7.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.emulator import translate_floats as floats
from tessera.emulator import translate_functions as functions
from tessera.emulator.emit_ir import WARP, Value, constant
from tessera.emulator.ptx import Instruction
from tessera.emulator.translate import BITS
from tessera.emulator.translate_operands import finish, is_float, kind_of, operands, signed

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator

V64 = f"<{WARP} x i64>"
PACKED = ("s16x2", "u16x2")
"""Types of two integers in a register."""


def arithmetic(t: Translator, instruction: Instruction) -> None:
    """`add`, `sub`, `mul`."""
    kind, opcode, modifiers = kind_of(instruction), instruction.opcode, instruction.modifiers
    if "cc" in modifiers:
        carry(t, instruction)
        return
    if is_float(kind):
        kind, values = float_operands(t, instruction, kind, 2)
        finish(t, instruction, floats.arithmetic(t, opcode, kind, values, instruction), kind)
        return
    a, b = operands(t, instruction, kind, 2)
    if kind in PACKED:
        t.write(instruction.operands[0], packed(t, opcode, a, b))
    elif opcode == "mul" and "wide" in modifiers:
        t.write(instruction.operands[0], wide_product(t, a, b, kind), signed=signed(kind))
    elif opcode == "mul" and "hi" in modifiers:
        t.write(instruction.operands[0], high_product(t, a, b, kind), signed=signed(kind))
    elif "sat" in modifiers and kind == "s32":
        t.write(instruction.operands[0], t.intrinsic(f"s{opcode}.sat", [a, b]))
    else:
        t.write(instruction.operands[0], t.binary(opcode, a, b), signed=signed(kind))


def float_operands(t: Translator, instruction: Instruction, kind: str, count: int) -> tuple[str, list[Value]]:
    """The sources and their common type: with `.f32.f16`, all but the last are widened to it."""
    modifiers = instruction.modifiers
    if modifiers[-2:-1] != ("f32",) or kind not in ("f16", "bf16"):
        return kind, operands(t, instruction, kind, count, loose=True)
    short = [floats.to_f32(t, t.read(op, kind), kind) for op in instruction.operands[1:count]]
    return "f32", [*short, t.read(instruction.operands[count], "f32", loose=True)]


def packed(t: Translator, opcode: str, a: Value, b: Value) -> Value:
    """An operation on two 16-bit integers in a register."""
    halves = []
    for start in (0, 16):
        x, y = (t.resize(t.binary("lshr", v, constant(start, 32)), 16) for v in (a, b))
        halves.append(t.binary(opcode, x, y) if opcode in ("add", "sub") else t.intrinsic(opcode, [x, y]))
    return floats.pack(t, *halves)


def wide_product(t: Translator, a: Value, b: Value, kind: str) -> Value:
    """The double-width product."""
    wide = 2 * BITS[kind]
    a, b = (t.resize(v, wide, signed=signed(kind)) for v in (a, b))
    return t.binary("mul", a, b)


def high_product(t: Translator, a: Value, b: Value, kind: str) -> Value:
    """The upper half of the double-width product."""
    bits = BITS[kind]
    wide = wide_product(t, a, b, kind)
    return t.resize(t.binary("lshr", wide, constant(bits, 2 * bits)), bits)


def multiply_add(t: Translator, instruction: Instruction) -> None:
    """`mad`, `fma`."""
    kind, modifiers = kind_of(instruction), instruction.modifiers
    if "cc" in modifiers:
        carry(t, instruction)
        return
    if is_float(kind):
        kind, values = float_operands(t, instruction, kind, 3)
        finish(t, instruction, floats.arithmetic(t, "fma", kind, values, instruction), kind)
        return
    a, b = operands(t, instruction, kind, 2)
    if "wide" in modifiers:
        product, width = wide_product(t, a, b, kind), f"{kind[0]}{2 * BITS[kind]}"
    elif "hi" in modifiers:
        product, width = high_product(t, a, b, kind), kind
    else:
        product, width = t.binary("mul", a, b), kind
    c = t.read(instruction.operands[3], width)
    if "sat" in modifiers:
        t.write(instruction.operands[0], t.intrinsic("sadd.sat", [product, c]))
        return
    t.write(instruction.operands[0], t.binary("add", product, c), signed=signed(kind))


def multiply_24(t: Translator, instruction: Instruction) -> None:
    """`mul24`, `mad24`: products of 24-bit numbers."""
    kind = kind_of(instruction)
    shift = constant(8, 32)
    down = "ashr" if signed(kind) else "lshr"
    a, b = (t.binary(down, t.binary("shl", v, shift), shift) for v in operands(t, instruction, kind, 2))
    wide = wide_product(t, a, b, kind)
    if "hi" in instruction.modifiers:
        wide = t.binary("lshr", wide, constant(16, 64))
    result = t.resize(wide, 32)
    if instruction.opcode == "mad24":
        c = t.read(instruction.operands[3], kind)
        operation = "sadd.sat" if "sat" in instruction.modifiers else ""
        result = t.intrinsic(operation, [result, c]) if operation else t.binary("add", result, c)
    t.write(instruction.operands[0], result)


def carry(t: Translator, instruction: Instruction) -> None:
    """`add.cc`, `addc`, `sub.cc`, `subc`, `mad.cc`, `madc`: sums with the carry flag."""
    kind, opcode = kind_of(instruction), instruction.opcode
    bits = BITS[kind]
    wide = 2 * bits
    a, b = (t.read(op, kind) for op in instruction.operands[1:3])
    flag = constant(0, wide)
    if opcode in ("addc", "subc", "madc"):
        flag = t.resize(t.register("%carry"), wide)
    if opcode.startswith("mad"):
        unsigned = f"u{bits}"
        high = "hi" in instruction.modifiers
        product = high_product(t, a, b, kind) if high else t.binary("mul", a, b)
        a, b = product, t.read(instruction.operands[3], unsigned)
    first, second = t.resize(a, wide), t.resize(b, wide)
    operation = "sub" if opcode.startswith("sub") else "add"
    total = t.binary(operation, t.binary(operation, first, second), flag)
    if "cc" in instruction.modifiers:
        over = t.compare("ne", t.binary("lshr", total, constant(bits, wide)), constant(0, wide))
        t.write_name("%carry", over)
    t.write(instruction.operands[0], t.resize(total, bits))


def divide(t: Translator, instruction: Instruction) -> None:
    """`div`, `rem`."""
    kind = kind_of(instruction)
    a, b = operands(t, instruction, kind, 2, loose=True)
    if is_float(kind):
        value = floats.arithmetic(t, "div", kind, [a, b], instruction)
        if "approx" in instruction.modifiers:
            value = beyond_reciprocal(t, a, b, value)
        finish(t, instruction, value, kind)
        return
    bits = BITS[kind]
    zero = t.compare("eq", b, constant(0, bits))
    unsafe = zero
    prefix = "s" if signed(kind) else "u"
    if signed(kind):
        # The most negative number over -1 overflows; over 1 it gives what the hardware gives.
        lowest = t.compare("eq", a, constant(1 << (bits - 1), bits))
        unsafe = t.binary("or", zero, t.binary("and", lowest, t.compare("eq", b, constant(-1, bits))))
    divisor = t.select(unsafe, constant(1, bits), b)
    operation = f"{prefix}{instruction.opcode}"
    result = _integer_division(t, operation, a, divisor)
    # By zero: unspecified for both; all ones is what GPUs were seen to give.
    t.write(instruction.operands[0], t.select(zero, constant(-1, bits), result), signed=signed(kind))


def beyond_reciprocal(t: Translator, a: Value, b: Value, quotient: Value) -> Value:
    """`div.approx.f32`: the reciprocal of a divisor beyond 2**126 is a zero of its sign (section 9.7.3.8)."""
    magnitude = t.binary("and", b, constant(0x7FFFFFFF, 32))
    huge = t.binary(
        "and",
        t.compare("ugt", magnitude, constant(0x7E800000, 32)),
        t.compare("ult", magnitude, constant(0x7F800000, 32)),
    )
    zero = t.binary("and", b, constant(0x80000000, 32))
    return t.select(huge, floats.native(t, "mul", "f32", [a, zero]), quotient)


def _integer_division(t: Translator, operation: str, a: Value, b: Value) -> Value:
    a, b = t.alike(a, b)
    if not a.vector:
        return t.binary(operation, a, b)
    name = f"map2_{operation}_{a.bits}"
    t.helpers.add(name)
    text = t.let(
        f"call {a.type} @{name}({V64} zeroinitializer, i32 -1, {a.type} {a.text}, {b.type} {b.text})"
    )
    return Value(text, a.bits, vector=True)


def extremum(t: Translator, instruction: Instruction) -> None:
    """`min`, `max`."""
    kind = kind_of(instruction)
    count = len(instruction.operands) - 1
    first, *others = operands(t, instruction, kind, count, loose=True)
    if is_float(kind):
        for other in others:
            first = floats.extremum(t, instruction, kind, first, other)
        finish(t, instruction, first, kind)
        return
    name = f"{'s' if signed(kind) else 'u'}{instruction.opcode}"
    relu = "relu" in instruction.modifiers
    for other in others:
        if kind in PACKED:
            first = packed(t, name, first, other)
            first = packed(t, "smax", first, constant(0, 32)) if relu else first
        else:
            first = t.intrinsic(name, [first, other])
            first = t.intrinsic("smax", [first, constant(0, first.bits)]) if relu else first
    t.write(instruction.operands[0], first, signed=signed(kind))


def sum_of_differences(t: Translator, instruction: Instruction) -> None:
    """`sad`: `|a - b| + c`."""
    kind = kind_of(instruction)
    a, b = operands(t, instruction, kind, 2)
    c = t.read(instruction.operands[3], kind)
    above = t.compare("sgt" if signed(kind) else "ugt", a, b)
    difference = t.select(above, t.binary("sub", a, b), t.binary("sub", b, a))
    t.write(instruction.operands[0], t.binary("add", difference, c), signed=signed(kind))


def negate(t: Translator, instruction: Instruction) -> None:
    """`neg`, `abs`."""
    kind = kind_of(instruction)
    (a,) = operands(t, instruction, kind, 1)
    absolute = instruction.opcode == "abs"
    if is_float(kind):
        sign = floats.sign_bits(kind)
        mask = constant(~sign if absolute else sign, BITS[kind])
        value = t.binary("and" if absolute else "xor", a, mask)
        if kind != "f64":
            value = floats.canonical(t, value, kind)
        t.write(instruction.operands[0], value)
        return
    minus = t.binary("sub", constant(0, BITS[kind]), a)
    if absolute:
        minus = t.select(t.compare("slt", a, constant(0, BITS[kind])), minus, a)
    t.write(instruction.operands[0], minus, signed=True)


def function(t: Translator, instruction: Instruction) -> None:
    """`rcp`, `sqrt`, `rsqrt`, `ex2`, `lg2`, `sin`, `cos`, `tanh`."""
    kind = kind_of(instruction)
    (a,) = operands(t, instruction, kind, 1, loose=True)
    finish(t, instruction, functions.function(t, instruction, kind, a), kind)


TABLE = {
    "add": arithmetic, "sub": arithmetic, "mul": arithmetic, "addc": carry, "subc": carry, "madc": carry,
    "mad": multiply_add, "fma": multiply_add, "mul24": multiply_24, "mad24": multiply_24, "div": divide,
    "rem": divide, "min": extremum, "max": extremum, "sad": sum_of_differences, "neg": negate, "abs": negate,
    **dict.fromkeys(("rcp", "sqrt", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh"), function),
}  # fmt: skip
"""What each opcode is in LLVM IR."""
