"""`cvt` in LLVM IR.

Source: PTX ISA 8.8, section 9.7.9.21.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.emulator import translate_floats as floats
from tessera.emulator.emit_ir import FLOAT, WARP, Value, constant, vector_of
from tessera.emulator.ptx import Instruction
from tessera.emulator.translate import BITS, unsupported
from tessera.emulator.translate_minifloats import MINIS, f32_to_mini, mini_to_f16

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator

WHOLE = {"rni": "roundeven", "rzi": "trunc", "rmi": "floor", "rpi": "ceil"}
FLOATS = ("f16", "bf16", "f32", "f64", "tf32")
INFINITY = {"f16": 0x7C00, "bf16": 0x7F80, "tf32": 0x7F800000, "f32": 0x7F800000}
TF32_STEP = 1 << 13
"""From one tf32 to the next: its low bits are zero."""


def convert(t: Translator, instruction: Instruction) -> None:
    """`cvt` in all its forms."""
    modifiers = instruction.modifiers
    if "pack" in modifiers:
        _pack_integers(t, instruction)
        return
    target, source = modifiers[-2:]
    if "rs" in modifiers:
        raise unsupported(instruction)
    if target[:-2] in MINIS:
        _to_minis(t, instruction, target[:-2], source)
        return
    if target == "f16x2" and source[:-2] in MINIS:
        _from_minis(t, instruction, source[:-2])
        return
    if target in ("f16x2", "bf16x2"):
        if source != "f32":
            raise unsupported(instruction)
        high, low = (
            _converted(t, t.read(op, source), source, target[:-2], instruction)
            for op in instruction.operands[1:3]
        )
        t.write(instruction.operands[0], floats.pack(t, low, high))
        return
    if source not in BITS or target not in BITS or source.endswith("x2"):
        raise unsupported(instruction)
    value = t.read(instruction.operands[1], source, loose="rna" not in modifiers)
    if "ftz" in modifiers and source == "f32":
        value = floats.flush(t, value)
    result = _converted(t, value, source, target, instruction)
    if "ftz" in modifiers and target == "f32":
        result = floats.flush(t, result)
    t.write(instruction.operands[0], result, signed=target.startswith("s"))


def _to_minis(t: Translator, instruction: Instruction, target: str, source: str) -> None:
    """Two floats in 8 bits each: from two f32, the first in the upper half, or from an f16x2."""
    if "satfinite" not in instruction.modifiers or source not in ("f32", "f16x2"):
        raise unsupported(instruction)
    if source == "f32":
        high, low = (t.read(op, "f32") for op in instruction.operands[1:3])
    else:
        both = t.read(instruction.operands[1], "b32")
        upper = t.binary("lshr", both, constant(16, 32))
        high, low = (floats.to_f32(t, t.resize(v, 16), "f16") for v in (upper, both))
    if "relu" in instruction.modifiers:
        high, low = (floats.finished(t, v, "f32", ("relu",)) for v in (high, low))
    first, second = (t.resize(f32_to_mini(t, v, target), 16) for v in (high, low))
    t.write(instruction.operands[0], t.binary("or", t.binary("shl", first, constant(8, 16)), second))


def _from_minis(t: Translator, instruction: Instruction, source: str) -> None:
    both = t.read(instruction.operands[1], "b16")
    upper = t.binary("lshr", both, constant(8, 16))
    low, high = (mini_to_f16(t, t.resize(v, 8), source) for v in (both, upper))
    value = floats.pack(t, low, high)
    relu = tuple(m for m in instruction.modifiers if m == "relu")
    t.write(instruction.operands[0], floats.finished(t, value, "f16x2", relu))


def _pack_integers(t: Translator, instruction: Instruction) -> None:
    """`cvt.pack.sat`: two s32 narrowed with saturation, above the low bits of a third operand."""
    with_c = len(instruction.operands) == 4
    kind = instruction.modifiers[-3 if with_c else -2]
    bits = BITS[kind]
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if kind[0] == "s" else (0, (1 << bits) - 1)
    parts = []
    for operand in instruction.operands[1:3]:
        value = t.intrinsic("smax", [t.read(operand, "s32"), constant(low, 32)])
        value = t.intrinsic("smin", [value, constant(high, 32)])
        parts.append(t.binary("and", value, constant((1 << bits) - 1, 32)))
    result = t.binary("or", t.binary("shl", parts[0], constant(bits, 32)), parts[1])
    if with_c:
        c = t.binary("shl", t.read(instruction.operands[3], "u32"), constant(2 * bits, 32))
        result = t.binary("or", result, c)
    t.write(instruction.operands[0], result)


def _converted(t: Translator, value: Value, source: str, target: str, instruction: Instruction) -> Value:
    if source not in FLOATS and target not in FLOATS:
        return _integers(t, value, source, target, instruction)
    if target not in FLOATS:
        return _to_integer(t, value, source, target, instruction)
    if source not in FLOATS:
        return _from_integer(t, value, source, target, instruction)
    return _between_floats(t, value, source, target, instruction)


def _integers(t: Translator, value: Value, source: str, target: str, instruction: Instruction) -> Value:
    is_signed = source.startswith("s")
    if "sat" not in instruction.modifiers:
        return t.resize(value, BITS[target], signed=is_signed)
    wide = t.resize(value, 128, signed=is_signed)
    bits = BITS[target]
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if target[0] == "s" else (0, (1 << bits) - 1)
    wide = t.intrinsic("smax", [wide, constant(low, 128)])
    wide = t.intrinsic("smin", [wide, constant(high, 128)])
    return t.resize(wide, bits)


def _to_integer(t: Translator, value: Value, source: str, target: str, instruction: Instruction) -> Value:
    bits, whole = BITS[target], next((m for m in instruction.modifiers if m in WHOLE), "rzi")
    if source in ("f16", "bf16"):
        value, kind = floats.to_f32(t, value, source), "f32"
    else:
        kind = source
    rounded = t.float_intrinsic(WHOLE[whole], FLOAT[kind], value)
    sign = "s" if target.startswith("s") else "u"
    llvm = FLOAT[kind]
    to, from_type = (vector_of(f"i{bits}"), vector_of(llvm)) if value.vector else (f"i{bits}", llvm)
    short = {"float": "f32", "double": "f64"}[llvm]
    name = f"llvm.fpto{sign}i.sat." + (
        f"v{WARP}i{bits}.v{WARP}{short}" if value.vector else f"i{bits}.{short}"
    )
    t.declared.add(f"declare {to} @{name}({from_type})")
    _, text = t.as_float(rounded, llvm)
    result = Value(t.let(f"call {to} @{name}({from_type} {text})"), bits, value.vector)
    if bits == 64 or source == "f64":
        # NaN gives the sign bit alone where a 64-bit type is on either side.
        nan = floats.compare(t, "uno", kind, value, value)
        result = t.select(nan, constant(1 << (bits - 1), bits), result)
    return result


def _rounding(instruction: Instruction) -> str:
    return next((m for m in instruction.modifiers if m in ("rn", "rz", "rm", "rp", "rna")), "rn")


def _from_integer(t: Translator, value: Value, source: str, target: str, instruction: Instruction) -> Value:
    operation = "sitofp" if source.startswith("s") else "uitofp"
    rounding = _rounding(instruction)
    if "sat" in instruction.modifiers:
        # All integers but 0 saturate to one end; in the target, those are exact.
        above = t.compare("sgt" if source.startswith("s") else "ugt", value, constant(0, BITS[source]))
        return t.select(above, constant(floats.ONE[target], BITS[target]), constant(0, BITS[target]))
    name = f"i{BITS[source]}"
    if target in ("f32", "f64") and rounding == "rn":
        return t.float_cast(operation, value, name, FLOAT[target], BITS[target])
    if target == "f64" and BITS[source] <= 32:
        return t.float_cast(operation, value, name, "double", 64)
    wide = (
        _odd_f64(t, value, source)
        if BITS[source] == 64
        else t.float_cast(operation, value, name, "double", 64)
    )
    if target == "f64":
        return _directed_f64(t, value, source, rounding)
    return floats.f64_to(t, wide, target, rounding)


def _odd_f64(t: Translator, value: Value, source: str) -> Value:
    """A 64-bit integer as f64, rounded to odd: its low bits gathered into one that f64 still holds."""
    is_signed = source.startswith("s")
    low = t.binary("and", value, constant(0xFFF, 64))
    some = t.resize(t.compare("ne", low, constant(0, 64)), 64)
    cut = t.binary(
        "or", t.binary("and", value, constant(~0xFFF, 64)), t.binary("shl", some, constant(11, 64))
    )
    top = t.binary("lshr", value, constant(53, 64))
    small = t.compare("eq", top, constant(0, 64))
    if is_signed:
        high = t.binary("ashr", value, constant(53, 64))
        small = t.binary(
            "or", t.compare("eq", high, constant(0, 64)), t.compare("eq", high, constant(-1, 64))
        )
    kept = t.select(small, value, cut)
    return t.float_cast("sitofp" if is_signed else "uitofp", kept, "i64", "double", 64)


def _directed_f64(t: Translator, value: Value, source: str, rounding: str) -> Value:
    """A 64-bit integer as f64, rounded towards zero, down or up: the halves are exact, their sum is odd."""
    is_signed = source.startswith("s")
    shift = "ashr" if is_signed else "lshr"
    upper = t.binary(shift, value, constant(32, 64))
    lower = t.binary("and", value, constant(0xFFFFFFFF, 64))
    high = t.float_cast("sitofp" if is_signed else "uitofp", upper, "i64", "double", 64)
    low = t.float_cast("uitofp", lower, "i64", "double", 64)
    scaled = t.floating("fmul {t} {0}, {1}", "double", high, constant(0x41F0000000000000, 64))
    total = t.floating("fadd {t} {0}, {1}", "double", scaled, low)
    back = t.floating("fsub {t} {0}, {1}", "double", total, scaled)
    error = t.floating("fsub {t} {0}, {1}", "double", low, back)
    over = floats.compare(t, "olt", "f64", error, constant(0, 64))
    under = floats.compare(t, "ogt", "f64", error, constant(0, 64))
    negative = floats.compare(t, "olt", "f64", total, constant(0, 64))
    down = {"rm": over, "rp": constant(0, 1), "rz": t.binary("and", over, t.invert(negative))}[rounding]
    up = {"rm": constant(0, 1), "rp": under, "rz": t.binary("and", under, negative)}[rounding]
    one = constant(1, 64)
    larger, smaller = t.binary("add", total, one), t.binary("sub", total, one)
    lowered = t.select(negative, larger, smaller)
    raised = t.select(negative, smaller, larger)
    return t.select(up, raised, t.select(down, lowered, total))


def _between_floats(t: Translator, value: Value, source: str, target: str, instruction: Instruction) -> Value:
    modifiers, rounding = instruction.modifiers, _rounding(instruction)
    whole = next((m for m in modifiers if m in WHOLE), None)
    if (source, target) == ("bf16", "f32") and whole is None:
        # The bits as they are, of NaN too.
        return floats.to_f32(t, value, source)
    kind = source
    if source in ("f16", "bf16") and (whole is not None or target != source):
        value, kind = floats.to_f32(t, value, source), "f32"
    if whole is not None:
        value = t.float_intrinsic(WHOLE[whole], FLOAT[kind], value)
    if target == "tf32":
        return _to_tf32(t, value, rounding, modifiers)
    if target == "f64":
        value = floats.to_f64(t, value, kind)
    elif kind == "f64":
        value = floats.f64_to(t, value, target, rounding)
    elif target in ("f16", "bf16") and kind == "f32":
        value = floats.f32_to(t, value, target, rounding)
    if target != "f64":
        value = floats.canonical(t, value, target)
    if "satfinite" in modifiers:
        value = _finite(t, value, target, 1)
    kept = tuple(m for m in modifiers if m in ("sat", "relu"))
    return floats.finished(t, value, target, kept)


def _finite(t: Translator, value: Value, target: str, step: int) -> Value:
    """Infinities made the largest number of their sign, which is `step` below."""
    bits = BITS[target]
    magnitude = t.binary("and", value, constant((1 << (bits - 1)) - 1, bits))
    infinite = t.compare("eq", magnitude, constant(INFINITY[target], bits))
    return t.select(infinite, t.binary("sub", value, constant(step, bits)), value)


def _to_tf32(t: Translator, value: Value, rounding: str, modifiers: tuple[str, ...]) -> Value:
    half = constant(0x1000 if rounding == "rna" else 0 if rounding == "rz" else 0xFFF, 32)
    bits = t.binary("add", value, half)
    if rounding == "rn":
        bits = t.binary(
            "add", bits, t.binary("and", t.binary("lshr", value, constant(13, 32)), constant(1, 32))
        )
    kept = constant(~(TF32_STEP - 1), 32)
    rounded = t.binary("and", bits, kept)
    if "satfinite" in modifiers:
        rounded = _finite(t, rounded, "tf32", TF32_STEP)
    nan = t.binary("and", value, kept) if rounding == "rna" else constant(0x7FFFE000, 32)
    result = t.select(floats.compare(t, "uno", "f32", value, value), nan, rounded)
    return floats.finished(t, result, "f32", tuple(m for m in modifiers if m == "relu"))


TABLE = {"cvt": convert}
