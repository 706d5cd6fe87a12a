"""Bits in LLVM IR: logic, shifts, fields, permutations, counts, and products of packed bytes.

Source: PTX ISA 8.8, sections 9.7.1 and 9.7.8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.emulator.emit_ir import Value, constant
from tessera.emulator.ptx import Immediate, Instruction, Pair
from tessera.emulator.translate import BITS, unsupported
from tessera.emulator.translate_operands import kind_of, operands, signed

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator


def invert(t: Translator, instruction: Instruction) -> None:
    """`not`, `cnot`."""
    kind = kind_of(instruction)
    (a,) = operands(t, instruction, kind, 1)
    if instruction.opcode == "not":
        t.write(instruction.operands[0], t.invert(a))
    else:
        t.write(instruction.operands[0], t.resize(t.compare("eq", a, constant(0, a.bits)), a.bits))


def count_bits(t: Translator, instruction: Instruction) -> None:
    """`popc`, `clz`, `brev`."""
    (a,) = operands(t, instruction, kind_of(instruction), 1)
    if instruction.opcode == "brev":
        t.write(instruction.operands[0], t.intrinsic("bitreverse", [a]))
    elif instruction.opcode == "popc":
        t.write(instruction.operands[0], t.resize(t.intrinsic("ctpop", [a]), 32))
    else:
        t.write(instruction.operands[0], t.resize(t.intrinsic("ctlz", [a], ", i1 false"), 32))


def find_bit(t: Translator, instruction: Instruction) -> None:
    """`bfind`: position of the highest bit that is not the sign; all ones if none."""
    kind = kind_of(instruction)
    (a,) = operands(t, instruction, kind, 1)
    bits = BITS[kind]
    if signed(kind):
        a = t.binary("xor", a, t.binary("ashr", a, constant(bits - 1, bits)))
    zeros = t.resize(t.intrinsic("ctlz", [a], ", i1 false"), 32)
    place = zeros
    if "shiftamt" not in instruction.modifiers:
        place = t.binary("sub", constant(bits - 1, 32), zeros)
    none = t.compare("eq", a, constant(0, bits))
    t.write(instruction.operands[0], t.select(none, constant(-1, 32), place))


def logic(t: Translator, instruction: Instruction) -> None:
    """`and`, `or`, `xor`."""
    a, b = operands(t, instruction, kind_of(instruction), 2)
    t.write(instruction.operands[0], t.binary(instruction.opcode, a, b))


def shift(t: Translator, instruction: Instruction) -> None:
    """`shl`, `shr`: amounts beyond the width give 0, or copies of the sign."""
    kind = kind_of(instruction)
    bits = BITS[kind]
    (a,) = operands(t, instruction, kind, 1)
    amount = t.read(instruction.operands[2], "u32")
    arithmetic_shift = instruction.opcode == "shr" and signed(kind)
    operation = "shl" if instruction.opcode == "shl" else "ashr" if arithmetic_shift else "lshr"
    result = _shifted(t, operation, a, amount, zero_beyond=not arithmetic_shift)
    t.write(instruction.operands[0], result, signed=arithmetic_shift and bits < 32)


def _shifted(t: Translator, operation: str, a: Value, amount: Value, *, zero_beyond: bool = True) -> Value:
    bits = a.bits
    if amount.number is not None:
        if amount.number >= bits and zero_beyond:
            return constant(0, bits)
        return t.binary(operation, a, constant(min(amount.number, bits - 1), bits))
    last = t.intrinsic("umin", [amount, constant(bits - 1, amount.bits)])
    result = t.binary(operation, a, t.resize(last, bits))
    if not zero_beyond:
        return result
    return t.select(t.compare("ugt", amount, constant(bits - 1, amount.bits)), constant(0, bits), result)


def funnel_shift(t: Translator, instruction: Instruction) -> None:
    """`shf`: 32 bits out of 64."""
    low, high = operands(t, instruction, "u32", 2)
    amount = t.read(instruction.operands[3], "u32")
    left = "l" in instruction.modifiers
    if "wrap" in instruction.modifiers:
        by = t.binary("and", amount, constant(31, 32))
    else:
        by = t.intrinsic("umin", [amount, constant(32, 32)])
    upper = t.binary("shl", t.resize(high, 64), constant(32, 64))
    both = t.binary("or", upper, t.resize(low, 64))
    wide = t.resize(by, 64)
    if left:
        both = t.binary("lshr", t.binary("shl", both, wide), constant(32, 64))
        result = t.resize(both, 32)
    else:
        result = t.resize(t.binary("lshr", both, wide), 32)
    t.write(instruction.operands[0], result)


def extract_field(t: Translator, instruction: Instruction) -> None:
    """`bfe`: `length` bits from `position`, sign-extended for signed types."""
    kind = kind_of(instruction)
    bits = BITS[kind]
    (a,) = operands(t, instruction, kind, 1)
    byte = constant(255, 32)
    position, length = (t.binary("and", t.read(op, "u32"), byte) for op in instruction.operands[2:4])
    wide = t.resize(a, 64)
    width = constant(bits, 32)
    field = _shifted(t, "lshr", wide, position)
    kept = t.intrinsic("umin", [length, t.intrinsic("usub.sat", [width, position])])
    mask = t.invert(_shifted(t, "shl", constant(-1, 64), kept))
    field = t.binary("and", field, mask)
    if signed(kind):
        end = t.binary("sub", t.binary("add", position, length), constant(1, 32))
        at = t.resize(t.intrinsic("umin", [end, constant(bits - 1, 32)]), 64)
        sign = t.binary("and", t.binary("lshr", wide, at), constant(1, 64))
        negative = t.compare("ne", sign, constant(0, 64))
        some = t.compare("ne", length, constant(0, 32))
        above = t.select(t.binary("and", negative, some), t.invert(mask), constant(0, 64))
        field = t.binary("or", field, above)
    t.write(instruction.operands[0], t.resize(field, bits))


def insert_field(t: Translator, instruction: Instruction) -> None:
    """`bfi`: the low `length` bits of `a` put into `b` at `position`."""
    kind = kind_of(instruction)
    a, b = operands(t, instruction, kind, 2)
    byte = constant(255, 32)
    position, length = (t.binary("and", t.read(op, "u32"), byte) for op in instruction.operands[3:5])
    ones = t.invert(_shifted(t, "shl", constant(-1, a.bits), length))
    field = _shifted(t, "shl", ones, position)
    kept = t.binary("and", b, t.invert(field))
    put = t.binary("and", _shifted(t, "shl", a, position), field)
    t.write(instruction.operands[0], t.binary("or", kept, put))


def permute(t: Translator, instruction: Instruction) -> None:
    """`prmt`: four bytes picked out of eight."""
    a, b = operands(t, instruction, "u32", 2)
    selector = t.read(instruction.operands[3], "u32")
    both = t.binary("or", t.binary("shl", t.resize(b, 64), constant(32, 64)), t.resize(a, 64))
    mode = instruction.modifiers[-1] if len(instruction.modifiers) > 1 else ""
    result = constant(0, 32)
    for i in range(4):
        if mode:
            control = _prmt_mode(t, mode, selector, i)
        else:
            control = t.binary("and", t.binary("lshr", selector, constant(4 * i, 32)), constant(15, 32))
        place = t.resize(t.binary("shl", t.binary("and", control, constant(7, 32)), constant(3, 32)), 64)
        byte = t.resize(t.binary("lshr", both, place), 8)
        spread_sign = t.compare("ne", t.binary("and", control, constant(8, 32)), constant(0, 32))
        sign = t.binary("ashr", byte, constant(7, 8))
        picked = t.resize(t.select(spread_sign, sign, byte), 32)
        result = t.binary("or", result, t.binary("shl", picked, constant(8 * i, 32)))
    t.write(instruction.operands[0], result)


def _prmt_mode(t: Translator, mode: str, selector: Value, i: int) -> Value:
    """Which byte goes to place `i` (PTX ISA 8.8, table of `prmt` modes)."""
    s = t.binary("and", selector, constant(3, 32))
    if mode == "f4e":
        return t.binary("add", s, constant(i, 32))
    if mode == "b4e":
        return t.binary("and", t.binary("sub", s, constant(i, 32)), constant(7, 32))
    if mode == "rc8":
        return s
    if mode == "ecl":
        return t.intrinsic("umax", [s, constant(i, 32)])
    if mode == "ecr":
        return t.intrinsic("umin", [s, constant(i, 32)])
    low = t.binary("shl", t.binary("and", s, constant(1, 32)), constant(1, 32))
    return t.binary("add", low, constant(i & 1, 32))


def logic3(t: Translator, instruction: Instruction) -> None:
    """`lop3`: any function of three bits."""
    table = instruction.operands[4]
    if not isinstance(table, Immediate):
        raise unsupported(instruction)
    a, b, c = operands(t, instruction, "b32", 3)
    known = {0x80: ("and", "and"), 0xFE: ("or", "or"), 0x96: ("xor", "xor"), 0xC0: ("and",), 0x3C: ("xor",)}
    number = int(table.value) & 255
    result = constant(0, 32)
    if number in known:
        result = a
        for operation, other in zip(known[number], (b, c), strict=False):
            result = t.binary(operation, result, other)
    else:
        # One multiplexer per operand: c picks between bits of the table, b and a between those.
        leaves = [constant(-1 if number >> row & 1 else 0, 32) for row in range(8)]
        for chooser in (c, b, a):
            leaves = [
                _mux(t, chooser, one, zero) for zero, one in zip(leaves[::2], leaves[1::2], strict=True)
            ]
        result = leaves[0]
    target = instruction.operands[0]
    if not isinstance(target, Pair):
        t.write(target, result)
        return
    combine = next(m for m in instruction.modifiers if m in ("and", "or"))
    some = t.compare("ne", result, constant(0, 32))
    answer = t.binary(combine, some, t.read(instruction.operands[5], "pred"))
    t.write(target.second, answer)
    t.write(target.first, result)


def _mux(t: Translator, chooser: Value, one: Value, zero: Value) -> Value:
    if one == zero:
        return one
    if one.number == 0xFFFFFFFF and zero.number == 0:
        return chooser
    if one.number == 0 and zero.number == 0xFFFFFFFF:
        return t.invert(chooser)
    difference = t.binary("xor", one, zero)
    return t.binary("xor", zero, t.binary("and", chooser, difference))


def bit_mask(t: Translator, instruction: Instruction) -> None:
    """`bmsk`: ones from a position on, as many as the width says."""
    start, width = operands(t, instruction, "u32", 2)
    start, width = (_clamped(t, instruction, v) for v in (start, width))
    ones = t.invert(t.binary("shl", constant(-1, 64), width))
    t.write(instruction.operands[0], t.resize(t.binary("shl", ones, start), 32))


def _clamped(t: Translator, instruction: Instruction, amount: Value) -> Value:
    """A number of bits as `.wrap` or `.clamp` says, 64 bits wide."""
    if "wrap" in instruction.modifiers:
        return t.resize(t.binary("and", amount, constant(31, 32)), 64)
    return t.resize(t.intrinsic("umin", [amount, constant(32, 32)]), 64)


def extend(t: Translator, instruction: Instruction) -> None:
    """`szext`: the low bits, extended by zeros or by their sign."""
    value, width = operands(t, instruction, "u32", 2)
    bits = _clamped(t, instruction, width)
    power = t.binary("shl", constant(1, 64), bits)
    low = t.binary("and", t.resize(value, 64), t.binary("sub", power, constant(1, 64)))
    if signed(kind_of(instruction)):
        sign = t.binary("lshr", power, constant(1, 64))
        low = t.binary("sub", t.binary("xor", low, sign), sign)
    t.write(instruction.operands[0], t.resize(low, 32))


def find_nth(t: Translator, instruction: Instruction) -> None:
    """`fns`: position of the n-th set bit upwards (n > 0) or downwards from a base; all ones if none."""
    a, base = operands(t, instruction, "b32", 2)
    n = t.read(instruction.operands[3], "s32")
    none, one, zero = constant(-1, 32), constant(1, 32), constant(0, 32)
    up, down = _clear_before(t, a, base), t.intrinsic("bitreverse", [a])
    down = _clear_before(t, down, t.binary("sub", constant(31, 32), base))
    backwards = t.compare("slt", n, zero)
    rest = t.select(backwards, down, up)
    skip = t.select(backwards, t.invert(n), t.binary("sub", n, one))
    skip = t.intrinsic("umin", [skip, constant(32, 32)])
    # Halving: half as many set bits below the middle as are still to be passed mean that it lies above.
    place = zero
    for half in (16, 8, 4, 2, 1):
        below = t.binary("and", t.binary("lshr", rest, place), constant((1 << half) - 1, 32))
        count = t.intrinsic("ctpop", [below])
        beyond = t.compare("uge", skip, count)
        skip = t.select(beyond, t.binary("sub", skip, count), skip)
        place = t.select(beyond, t.binary("add", place, constant(half, 32)), place)
    there = t.binary("and", t.binary("lshr", rest, place), one)
    found = t.compare("ne", t.select(t.compare("eq", skip, zero), there, zero), zero)
    place = t.select(backwards, t.binary("sub", constant(31, 32), place), place)
    result = t.select(found, place, none)
    # n = 0 asks for the bit at the base itself.
    inside = t.compare("ult", base, constant(32, 32))
    at = t.binary("and", base, constant(31, 32))
    itself = t.compare("ne", t.binary("and", t.binary("lshr", a, at), one), zero)
    result = t.select(t.compare("eq", n, zero), t.select(itself, base, none), result)
    t.write(instruction.operands[0], t.select(inside, result, none))


def _clear_before(t: Translator, value: Value, place: Value) -> Value:
    at = t.binary("and", place, constant(31, 32))
    return t.binary("and", value, t.binary("shl", constant(-1, 32), at))


def dot_product(t: Translator, instruction: Instruction) -> None:
    """`dp4a`, `dp2a`: products of packed bytes (and halves), summed onto `c`."""
    first, second = instruction.modifiers[-2:]
    a, b = (t.read(op, "u32") for op in instruction.operands[1:3])
    total = t.read(instruction.operands[3], "u32")
    four = instruction.opcode == "dp4a"
    width = 8 if four else 16
    start = 2 if not four and "hi" in instruction.modifiers else 0
    for i in range(4 if four else 2):
        x = _part(t, a, i * width, width, signed(first))
        y = _part(t, b, 8 * (i + start), 8, signed(second))
        total = t.binary("add", total, t.binary("mul", x, y))
    t.write(instruction.operands[0], total)


def _part(t: Translator, value: Value, start: int, width: int, is_signed: bool) -> Value:
    shifted = t.binary("lshr", value, constant(start, 32)) if start else value
    return t.resize(t.resize(shifted, width), 32, signed=is_signed)


TABLE = {
    "not": invert, "cnot": invert, "popc": count_bits, "clz": count_bits, "brev": count_bits,
    "bfind": find_bit, "and": logic, "or": logic, "xor": logic, "shl": shift, "shr": shift,
    "shf": funnel_shift, "bfe": extract_field, "bfi": insert_field, "prmt": permute, "lop3": logic3,
    "dp4a": dot_product, "dp2a": dot_product, "bmsk": bit_mask, "szext": extend, "fns": find_nth,
}  # fmt: skip
"""What each opcode is in LLVM IR."""
