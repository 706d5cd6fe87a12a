"""Video instructions in LLVM IR: arithmetic on two halfwords, four bytes, or one picked part of a register.

Source: PTX ISA 8.8, sections 9.7.17 (scalar video) and 9.7.18 (SIMD video).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.emulator.emit_ir import Value, constant
from tessera.emulator.ptx import Instruction, Operand, Register
from tessera.emulator.translate import unsupported
from tessera.emulator.translate_choices import INTEGER_COMPARE

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator

TYPES = ("u32", "s32")
NAMES = ("vadd", "vsub", "vavrg", "vabsdiff", "vmin", "vmax", "vset")


def _part(operand: Operand) -> str:
    return operand.part if isinstance(operand, Register) else ""


def _piece(t: Translator, value: Value, place: int, width: int, wide: int, *, signed: bool) -> Value:
    """Bits of a register, extended."""
    shifted = t.binary("lshr", value, constant(place * width, 32)) if place else value
    return t.resize(t.resize(shifted, width), wide, signed=signed)


def _operation(t: Translator, instruction: Instruction, name: str, a: Value, b: Value) -> Value:
    """The exact result of signed operands that are wide enough for it."""
    if name == "vadd":
        return t.binary("add", a, b)
    if name == "vsub":
        return t.binary("sub", a, b)
    if name in ("vmin", "vmax"):
        return t.intrinsic(f"s{name[1:]}", [a, b])
    if name == "vabsdiff":
        return t.binary("sub", t.intrinsic("smax", [a, b]), t.intrinsic("smin", [a, b]))
    if name == "vavrg":
        total = t.binary("add", a, b)
        positive = t.resize(t.compare("sge", total, constant(0, a.bits)), a.bits)
        return t.binary("ashr", t.binary("add", total, positive), constant(1, a.bits))
    condition = next((m for m in instruction.modifiers if m in INTEGER_COMPARE), None)
    if condition is None:
        raise unsupported(instruction)
    return t.resize(t.compare(INTEGER_COMPARE[condition].format("s"), a, b), a.bits)


def _clipped(t: Translator, value: Value, bits: int, *, signed: bool) -> Value:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    value = t.intrinsic("smax", [value, constant(low, value.bits)])
    return t.intrinsic("smin", [value, constant(high, value.bits)])


# -- two or four parts at once ------------------------------------------------------------------


def simd(t: Translator, instruction: Instruction) -> None:
    """`vadd2`, `vabsdiff4`…: each part on its own; `.add` sums them onto the third source."""
    count = int(instruction.opcode[-1])
    width, wide = 32 // count, 32
    name = instruction.opcode[:-1]
    kinds = [m for m in instruction.modifiers if m in TYPES]
    sources = [t.read(op, "u32") for op in instruction.operands[1:3]]
    base = t.read(instruction.operands[3], "u32")
    summed = "add" in instruction.modifiers
    kept = _part(instruction.operands[0])[1:]
    result = base
    for i in range(count):
        if kept and str(i) not in kept:
            continue
        a, b = (
            _piece(t, sources[at // count], at % count, width, wide, signed=kind == "s32")
            for at, kind in zip((_picked(instruction, w, i, count) for w in (0, 1)), kinds[-2:], strict=True)
        )
        value = _operation(t, instruction, name, a, b)
        if "sat" in instruction.modifiers:
            value = _clipped(t, value, width, signed=kinds[0] == "s32")
        result = t.binary("add", result, value) if summed else _put(t, result, value, i, width)
    t.write(instruction.operands[0], result)


def _picked(instruction: Instruction, which: int, i: int, count: int) -> int:
    """Position, among the parts of both sources, of part `i` of one: as its selector says, or its own."""
    selector = _part(instruction.operands[1 + which])
    return int(selector[-1 - i]) if selector else which * count + i


def _put(t: Translator, base: Value, value: Value, place: int, width: int) -> Value:
    """`base` with one part replaced."""
    ones = ((1 << width) - 1) << (place * width)
    kept = t.binary("and", base, constant(~ones, 32))
    shifted = t.binary("shl", value, constant(place * width, 32)) if place else value
    return t.binary("or", kept, t.binary("and", shifted, constant(ones, 32)))


# -- one part -----------------------------------------------------------------------------------


def _source(t: Translator, operand: Operand, kind: str, wide: int) -> Value:
    value, part = t.read(operand, "u32"), _part(operand)
    width = {"b": 8, "h": 16}.get(part[:1], 32)
    return _piece(t, value, int(part[1]) if part else 0, width, wide, signed=kind == "s32")


def scalar(t: Translator, instruction: Instruction) -> None:
    """`vadd`, `vset`, `vshl`…: one result, then perhaps another operation on it, or put into a register."""
    name, modifiers = instruction.opcode, instruction.modifiers
    kinds = [m for m in modifiers if m in TYPES]
    kind = "u32" if name == "vset" else kinds[0]
    # A shifted value has up to 64 bits and a sign.
    wide = 128 if name == "vshl" else 64
    a, b = (_source(t, instruction.operands[1 + i], kinds[-2 + i], wide) for i in range(2))
    if name in ("vshl", "vshr"):
        wraps = "wrap" in modifiers
        by = t.binary("and", b, constant(31, wide)) if wraps else t.intrinsic("umin", [b, constant(32, wide)])
        value = t.binary("shl" if name == "vshl" else "ashr", a, by)
    else:
        value = _operation(t, instruction, name, a, b)
    part = _part(instruction.operands[0])
    bits = {"b": 8, "h": 16}.get(part[:1], 32)
    if "sat" in modifiers:
        value = _clipped(t, value, bits, signed=kind == "s32")
    value = t.resize(value, 32)
    if len(instruction.operands) == 4:
        c = t.read(instruction.operands[3], "u32")
        if part:
            value = _put(t, c, value, int(part[1]), bits)
        else:
            second = next((m for m in modifiers if m in ("add", "min", "max")), None)
            if second is None:
                raise unsupported(instruction)
            sign = "s" if kind == "s32" else "u"
            value = (
                t.binary("add", value, c) if second == "add" else t.intrinsic(f"{sign}{second}", [value, c])
            )
    t.write(instruction.operands[0], value)


def multiply_add(t: Translator, instruction: Instruction) -> None:
    """`vmad`: a product and a sum of up to 65 bits, perhaps plus one, perhaps shifted right."""
    modifiers = instruction.modifiers
    kinds = [m for m in modifiers if m in TYPES]
    signed = "s32" in kinds[1:]
    a, b = (_source(t, instruction.operands[1 + i], kinds[1 + i], 128) for i in range(2))
    c = t.resize(t.read(instruction.operands[3], "u32"), 128, signed=signed)
    total = t.binary("add", t.binary("mul", a, b), c)
    if "po" in modifiers:
        total = t.binary("add", total, constant(1, 128))
    shift = 7 if "shr7" in modifiers else 15 if "shr15" in modifiers else 0
    if shift:
        total = t.binary("ashr", total, constant(shift, 128))
    if "sat" in modifiers:
        total = _clipped(t, total, 32, signed=signed)
    t.write(instruction.operands[0], t.resize(total, 32))


TABLE = {
    **{f"{name}{count}": simd for name in NAMES for count in (2, 4)},
    **dict.fromkeys(("vadd", "vsub", "vabsdiff", "vmin", "vmax", "vset", "vshl", "vshr"), scalar),
    "vmad": multiply_add,
}
"""What each opcode is in LLVM IR."""
