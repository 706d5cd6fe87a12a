"""Arithmetic, logic, comparisons and moves in LLVM IR.

Source: PTX ISA 8.8, sections 9.7.1 to 9.7.8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tessera.emulator import translate_floats as floats
from tessera.emulator.emit_ir import WARP, Value, constant
from tessera.emulator.ptx import Immediate, Instruction, Pair, Vector
from tessera.emulator.translate import BITS, unsupported

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator

V64 = f"<{WARP} x i64>"


def kind_of(instruction: Instruction) -> str:
    """The type that an instruction ends with."""
    kind = instruction.modifiers[-1] if instruction.modifiers else ""
    if kind not in BITS:
        raise unsupported(instruction)
    return kind


def is_float(kind: str) -> bool:
    """Whether a type is one of floats."""
    return kind.startswith(("f", "bf", "tf"))


def signed(kind: str) -> bool:
    """Whether a type is one of signed integers."""
    return kind.startswith("s")


def operands(t: Translator, instruction: Instruction, kind: str, count: int) -> list[Value]:
    """The sources, right after the destination; subnormals made zeros where `.ftz` asks for it."""
    values = [t.read(op, kind) for op in instruction.operands[1 : 1 + count]]
    if "ftz" in instruction.modifiers:
        values = [floats.flushed(t, v, kind) for v in values]
    return values


def finish(t: Translator, instruction: Instruction, value: Value, kind: str) -> None:
    """Saturate and flush a float result as the modifiers say, and write it."""
    t.write(instruction.operands[0], floats.finished(t, value, kind, instruction.modifiers))


# -- sums and products --------------------------------------------------------------------------


def arithmetic(t: Translator, instruction: Instruction) -> None:
    """`add`, `sub`, `mul`."""
    kind, opcode, modifiers = kind_of(instruction), instruction.opcode, instruction.modifiers
    if "cc" in modifiers:
        carry(t, instruction)
        return
    a, b = operands(t, instruction, kind, 2)
    if is_float(kind):
        finish(t, instruction, floats.arithmetic(t, opcode, kind, [a, b], instruction), kind)
    elif opcode == "mul" and "wide" in modifiers:
        t.write(instruction.operands[0], wide_product(t, a, b, kind), signed=signed(kind))
    elif opcode == "mul" and "hi" in modifiers:
        t.write(instruction.operands[0], high_product(t, a, b, kind))
    elif "sat" in modifiers and kind == "s32":
        t.write(instruction.operands[0], t.intrinsic(f"s{opcode}.sat", [a, b]))
    else:
        t.write(instruction.operands[0], t.binary(opcode, a, b), signed=signed(kind))


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
        values = operands(t, instruction, kind, 3)
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
    a, b = operands(t, instruction, kind, 2)
    if is_float(kind):
        finish(t, instruction, floats.arithmetic(t, "div", kind, [a, b], instruction), kind)
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
    first, *others = operands(t, instruction, kind, count)
    for other in others:
        if is_float(kind):
            first = floats.extremum(t, instruction, kind, first, other)
        elif kind.endswith("x2"):
            raise unsupported(instruction)
        else:
            first = t.intrinsic(f"{'s' if signed(kind) else 'u'}{instruction.opcode}", [first, other])
    if is_float(kind):
        finish(t, instruction, first, kind)
    else:
        t.write(instruction.operands[0], first, signed=signed(kind))


def sum_of_differences(t: Translator, instruction: Instruction) -> None:
    """`sad`: `|a - b| + c`."""
    kind = kind_of(instruction)
    a, b = operands(t, instruction, kind, 2)
    c = t.read(instruction.operands[3], kind)
    above = t.compare("sgt" if signed(kind) else "ugt", a, b)
    difference = t.select(above, t.binary("sub", a, b), t.binary("sub", b, a))
    t.write(instruction.operands[0], t.binary("add", difference, c), signed=signed(kind))


# -- one operand --------------------------------------------------------------------------------


def negate(t: Translator, instruction: Instruction) -> None:
    """`neg`, `abs`."""
    kind = kind_of(instruction)
    (a,) = operands(t, instruction, kind, 1)
    absolute = instruction.opcode == "abs"
    if is_float(kind):
        sign = floats.sign_bits(kind)
        mask = constant(~sign if absolute else sign, BITS[kind])
        value = t.binary("and" if absolute else "xor", a, mask)
        t.write(instruction.operands[0], value)
        return
    minus = t.binary("sub", constant(0, BITS[kind]), a)
    if absolute:
        minus = t.select(t.compare("slt", a, constant(0, BITS[kind])), minus, a)
    t.write(instruction.operands[0], minus, signed=True)


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


# -- bits ---------------------------------------------------------------------------------------


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
    if not isinstance(table, Immediate) or isinstance(instruction.operands[0], Pair):
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
    t.write(instruction.operands[0], result)


def _mux(t: Translator, chooser: Value, one: Value, zero: Value) -> Value:
    if one == zero:
        return one
    if one.number == 0xFFFFFFFF and zero.number == 0:
        return chooser
    if one.number == 0 and zero.number == 0xFFFFFFFF:
        return t.invert(chooser)
    difference = t.binary("xor", one, zero)
    return t.binary("xor", zero, t.binary("and", chooser, difference))


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


# -- choices ------------------------------------------------------------------------------------

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
    if not name or (kind.endswith("x2") and instruction.opcode == "set"):
        raise unsupported(instruction)
    a, b = operands(t, instruction, kind, 2)
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
        to = modifiers[-2]
        one = constant(0x3F800000 if to == "f32" else -1, 32)
        t.write(instruction.operands[0], t.select(both[0], one, constant(0, 32)))
    else:
        t.write_pair(instruction.operands[0], both[0], both[-1])


def _compare_halves(t: Translator, instruction: Instruction, condition: str, a: Value, b: Value) -> None:
    """`setp` on packed halves: one predicate for each."""
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
    if bits == 128:
        raise unsupported(instruction)
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
        "normal": lambda: t.binary(
            "and", t.compare("ult", magnitude, infinity), t.compare("uge", magnitude, smallest)
        ),
        "subnormal": lambda: t.binary(
            "and", t.compare("ult", magnitude, smallest), t.compare("ne", magnitude, constant(0, bits))
        ),
    }
    name = next(m for m in instruction.modifiers if m in tests)
    t.write(instruction.operands[0], tests[name]())


def function(t: Translator, instruction: Instruction) -> None:
    """`rcp`, `sqrt`, `rsqrt`, `ex2`, `lg2`, `sin`, `cos`, `tanh`."""
    kind = kind_of(instruction)
    (a,) = operands(t, instruction, kind, 1)
    finish(t, instruction, floats.function(t, instruction, kind, a), kind)


TABLE = {
    "add": arithmetic, "sub": arithmetic, "mul": arithmetic, "addc": carry, "subc": carry, "madc": carry,
    "mad": multiply_add, "fma": multiply_add, "mul24": multiply_24, "mad24": multiply_24, "div": divide,
    "rem": divide, "min": extremum, "max": extremum, "sad": sum_of_differences, "neg": negate, "abs": negate,
    "not": invert, "cnot": invert, "popc": count_bits, "clz": count_bits, "brev": count_bits,
    "bfind": find_bit, "and": logic, "or": logic, "xor": logic, "shl": shift, "shr": shift,
    "shf": funnel_shift, "bfe": extract_field, "bfi": insert_field, "prmt": permute, "lop3": logic3,
    "dp4a": dot_product, "dp2a": dot_product, "setp": compare, "set": compare, "selp": select,
    "slct": select_by_sign, "mov": move, "copysign": copy_sign, "testp": test_property,
    **dict.fromkeys(("rcp", "sqrt", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh"), function),
}  # fmt: skip
"""What each opcode is in LLVM IR."""
