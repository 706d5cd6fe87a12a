"""Comparisons, choices and moves in LLVM IR.

Source: PTX ISA 8.8, sections 9.7.3, 9.7.6, 9.7.7 and 9.7.9.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tessera.emulator import translate_floats as floats
from tessera.emulator.emit_ir import Value, constant
from tessera.emulator.ptx import Instruction, Pair, Vector
from tessera.emulator.translate import BITS, unsupported
from tessera.emulator.translate_operands import is_float, kind_of, operands, signed

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator

INTEGER_COMPARE = {
    "eq": "eq", "ne": "ne", "lt": "{}lt", "le": "{}le", "gt": "{}gt", "ge": "{}ge",
    "lo": "ult", "ls": "ule", "hi": "ugt", "hs": "uge",
}  # fmt: skip
FLOAT_COMPARE = {
    "eq": "oeq", "ne": "one", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge", "equ": "ueq", "neu": "une",
    "ltu": "ult", "leu": "ule", "gtu": "ugt", "geu": "uge", "num": "ord", "nan": "uno",
}  # fmt: skip


def compare(t: Translator, instruction: Instruction) -> None:
    """`setp`, `set`."""
    kind, modifiers = kind_of(instruction), instruction.modifiers
    name = next((m for m in modifiers if m in INTEGER_COMPARE or m in FLOAT_COMPARE), "")
    if not name:
        raise unsupported(instruction)
    a, b = operands(t, instruction, kind, 2, loose=True)
    if kind.endswith("x2"):
        _compare_halves(t, instruction, FLOAT_COMPARE[name], a, b)
        return
    if is_float(kind):
        result = floats.compare(t, FLOAT_COMPARE[name], kind, a, b)
    else:
        result = t.compare(INTEGER_COMPARE[name].format("s" if signed(kind) else "u"), a, b)
    combine = next((m for m in modifiers if m in ("and", "or", "xor")), None)
    both = [result, t.invert(result)] if isinstance(instruction.operands[0], Pair) else [result]
    if combine is not None:
        other = t.read(instruction.operands[3], "pred")
        both = [t.binary(combine, value, other) for value in both]
    if instruction.opcode == "set":
        t.write(instruction.operands[0], _set_value(t, instruction, both[0]), signed=signed(modifiers[-2]))
    else:
        t.write_pair(instruction.operands[0], both[0], both[-1])


def _set_value(t: Translator, instruction: Instruction, condition: Value) -> Value:
    """True as 1.0 in a floating type, as all ones in an integer type."""
    to = instruction.modifiers[-2]
    if to not in BITS or BITS[to] not in (16, 32) or (to.endswith("x2") and not is_float(to)):
        raise unsupported(instruction)
    bits = 16 if to.endswith("x2") else BITS[to]
    one = floats.ONE[to.removesuffix("x2")] if is_float(to) else -1
    return t.select(condition, constant(one, bits), constant(0, bits))


def _compare_halves(t: Translator, instruction: Instruction, condition: str, a: Value, b: Value) -> None:
    """`setp` on packed halves: one predicate for each; `set`: one half for each."""
    kind = kind_of(instruction)[:-2]
    upper = constant(16, 32)
    low = floats.compare(t, condition, kind, t.resize(a, 16), t.resize(b, 16))
    high = floats.compare(
        t, condition, kind, t.resize(t.binary("lshr", a, upper), 16), t.resize(t.binary("lshr", b, upper), 16)
    )
    combine = next((m for m in instruction.modifiers if m in ("and", "or", "xor")), None)
    if combine is not None:
        other = t.read(instruction.operands[3], "pred")
        low, high = (t.binary(combine, value, other) for value in (low, high))
    if instruction.opcode == "set":
        to = instruction.modifiers[-2]
        ones = [low, high]
        if is_float(to):
            halves = [_set_value(t, instruction, value) for value in ones]
        else:
            halves = [t.select(value, constant(-1, 16), constant(0, 16)) for value in ones]
        t.write(instruction.operands[0], floats.pack(t, *halves))
        return
    t.write_pair(instruction.operands[0], low, high)


def select(t: Translator, instruction: Instruction) -> None:
    """`selp`."""
    a, b = operands(t, instruction, kind_of(instruction), 2)
    t.write(instruction.operands[0], t.select(t.read(instruction.operands[3], "pred"), a, b))


def select_by_sign(t: Translator, instruction: Instruction) -> None:
    """`slct`."""
    kind, by = instruction.modifiers[-2:]
    a, b = (t.read(op, kind) for op in instruction.operands[1:3])
    c = t.read(instruction.operands[3], by)
    if by == "f32":
        if "ftz" in instruction.modifiers:
            c = floats.flush(t, c)
        chosen = floats.compare(t, "oge", "f32", c, constant(0, 32))
    else:
        chosen = t.compare("sge", c, constant(0, 32))
    t.write(instruction.operands[0], t.select(chosen, a, b))


def move(t: Translator, instruction: Instruction) -> None:
    """`mov`, also between registers and their parts."""
    target, source = instruction.operands
    kind = kind_of(instruction)
    bits = BITS[kind]
    if isinstance(source, Vector):
        part = bits // len(source.elements)
        total = constant(0, bits)
        for i, element in enumerate(source.elements):
            piece = t.resize(t.read(element, f"b{part}"), bits)
            shifted = t.binary("shl", piece, constant(i * part, bits)) if i else piece
            total = t.binary("or", total, shifted) if i else shifted
        t.write(target, total)
    elif isinstance(target, Vector):
        part = bits // len(target.elements)
        value = t.read(source, f"b{bits}")
        for i, element in enumerate(target.elements):
            shifted = t.binary("lshr", value, constant(i * part, bits)) if i else value
            t.write(element, t.resize(shifted, part))
    else:
        t.write(target, t.read(source, kind), signed=signed(kind))


def copy_sign(t: Translator, instruction: Instruction) -> None:
    """`copysign`: the magnitude of `b` with the sign of `a`."""
    kind = kind_of(instruction)
    sign, magnitude = operands(t, instruction, kind, 2)
    bit = constant(floats.sign_bits(kind), BITS[kind])
    rest = constant(~floats.sign_bits(kind), BITS[kind])
    t.write(
        instruction.operands[0], t.binary("or", t.binary("and", sign, bit), t.binary("and", magnitude, rest))
    )


def test_property(t: Translator, instruction: Instruction) -> None:
    """`testp`: what kind of number a float is."""
    kind = kind_of(instruction)
    (a,) = operands(t, instruction, kind, 1)
    bits, fraction = BITS[kind], {"f32": 23, "f64": 52}[kind]
    magnitude = t.binary("and", a, constant(~(1 << (bits - 1)), bits))
    infinity = constant(((1 << (bits - 1 - fraction)) - 1) << fraction, bits)
    smallest = constant(1 << fraction, bits)
    tests: dict[str, Callable[[], Value]] = {
        "finite": lambda: t.compare("ult", magnitude, infinity),
        "infinite": lambda: t.compare("eq", magnitude, infinity),
        "number": lambda: t.compare("ule", magnitude, infinity),
        "notanumber": lambda: t.compare("ugt", magnitude, infinity),
        # Section 9.7.3.1: zeros count as normal.
        "normal": lambda: t.binary(
            "and",
            t.compare("ult", magnitude, infinity),
            t.binary(
                "or",
                t.compare("uge", magnitude, smallest),
                t.compare("eq", magnitude, constant(0, bits)),
            ),
        ),
        "subnormal": lambda: t.binary(
            "and", t.compare("ult", magnitude, smallest), t.compare("ne", magnitude, constant(0, bits))
        ),
    }
    name = next(m for m in instruction.modifiers if m in tests)
    t.write(instruction.operands[0], tests[name]())


TABLE = {
    "setp": compare,
    "set": compare,
    "selp": select,
    "slct": select_by_sign,
    "mov": move,
    "copysign": copy_sign,
    "testp": test_property,
}
"""What each opcode is in LLVM IR."""
