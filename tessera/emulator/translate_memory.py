"""Loads, stores and address conversions in LLVM IR."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.emulator.emit_ir import WARP, Value, constant
from tessera.emulator.geometry import RANK_SHIFT
from tessera.emulator.layout import BLOCK, CONTEXT
from tessera.emulator.ptx import Address, Instruction, Operand, Symbol, Vector
from tessera.emulator.translate import BITS, LOCAL_WINDOW, SHARED_WINDOW, unsupported
from tessera.emulator.translate_checks import hosts_of
from tessera.emulator.translate_counts import count_access

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator

WINDOWS = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW, "global": 0, "const": 0, "param": 0}
PLACES = {
    "global": "global", "generic": "global", "const": "global", "param": "global", "shared": "shared",
    "local": "local",
}  # fmt: skip
"""How the address of each state space is checked."""
V64 = f"<{WARP} x i64>"


def space_of(instruction: Instruction) -> str:
    """The state space that an instruction names, or `generic`."""
    names = (m.split("::")[0] for m in instruction.modifiers)
    return next((n for n in names if n in WINDOWS), "generic")


def load(t: Translator, instruction: Instruction) -> None:
    """`ld`, `ldu`."""
    kind, target, source = instruction.modifiers[-1], instruction.operands[0], instruction.operands[1]
    space = space_of(instruction)
    parts = target.elements if isinstance(target, Vector) else (target,)
    if not isinstance(source, Address):
        raise unsupported(instruction)
    if space == "param" and isinstance(source.base, Symbol) and source.base.name in t.params:
        _load_param(t, instruction, source, parts)
        return
    if kind == "b128":
        halves = load_from(t, instruction, source, PLACES[space], 64, 2)
        t.write(target, joined(t, halves))
        return
    values = load_from(t, instruction, source, PLACES[space], BITS[kind], len(parts))
    for part, value in zip(parts, values, strict=True):
        t.write(part, value, signed=kind.startswith("s"))


def joined(t: Translator, halves: list[Value]) -> Value:
    """128 bits of two times 64, the low ones first."""
    low, high = (t.resize(v, 128) for v in halves)
    return t.binary("or", low, t.binary("shl", high, constant(64, 128)))


def parted(t: Translator, value: Value) -> list[Value]:
    """The reverse."""
    return [t.resize(value, 64), t.resize(t.binary("lshr", value, constant(64, 128)), 64)]


def load_from(
    t: Translator, instruction: Instruction, source: Operand, place: str, bits: int, count: int
) -> list[Value]:
    """Elements from memory, checked."""
    address = t.address(source)
    # One generic address may be local memory, where every lane has its own.
    own = place == "local" or space_of(instruction) == "generic"
    if address.vector or t.guard is not None or own:
        address = t.spread(address)
    return load_at(t, instruction, address, place, bits, count)


def load_at(
    t: Translator, instruction: Instruction, address: Value, place: str, bits: int, count: int
) -> list[Value]:
    """Elements from an address, checked: the same for all lanes if it is a scalar."""
    count_access(t, instruction, address, place, bits // 8 * count, write=False)
    if t.checks is not None:
        return _checked_load(t, instruction, address, place, bits, count)
    vector = address.vector
    name = f"{'ld' if vector else 'uld'}_{place}_{bits}_{count}"
    t.helpers.add(name)
    element = f"<{WARP} x i{bits}>" if vector else f"i{bits}"
    result = "{ " + ", ".join([element] * count) + ", i1 }"
    call = f"call {result} @{name}({_arguments(t, instruction)}, {address.type} {address.text})"
    found = t.let(call)
    check(t, t.let(f"extractvalue {result} {found}, {count}"))
    return [Value(t.let(f"extractvalue {result} {found}, {k}"), bits, vector) for k in range(count)]


def _checked_load(
    t: Translator, instruction: Instruction, address: Value, place: str, bits: int, count: int
) -> list[Value]:
    found = hosts_of(t, instruction, address, place, bits // 8 * count, write=False)
    mask = t.active()
    name = f"read_{bits}"
    t.helpers.add(name)
    values = []
    for k in range(count):
        at = t.binary("add", Value(found, 64, vector=True), constant(k * bits // 8, 64))
        text = t.let(f"call <{WARP} x i{bits}> @{name}({V64} {at.text}, i32 {mask})")
        values.append(Value(text, bits, vector=True))
    return values


def _checked_store(
    t: Translator, instruction: Instruction, address: Value, place: str, values: list[Value]
) -> None:
    bits = values[0].bits
    found = hosts_of(t, instruction, address, place, bits // 8 * len(values), write=True)
    mask = t.active()
    name = f"write_{bits}"
    t.helpers.add(name)
    for k, value in enumerate(map(t.spread, values)):
        at = t.binary("add", Value(found, 64, vector=True), constant(k * bits // 8, 64))
        t.raw(f"  call void @{name}({V64} {at.text}, i32 {mask}, {value.type} {value.text})")


def _arguments(t: Translator, instruction: Instruction) -> str:
    return f"ptr %ctx, ptr %blk, ptr %warp, i32 {t.site(instruction)}, i32 {t.active()}"


def check(t: Translator, failed: str) -> None:
    """Leave the warp if an access faulted."""
    fine = t.name("fine")[1:]
    t.raw(f"  br i1 {failed}, label %fault, label %{fine}")
    t.label(fine)


def _load_param(t: Translator, instruction: Instruction, source: Address, parts: tuple[Operand, ...]) -> None:
    kind = instruction.modifiers[-1]
    bits = BITS[kind]
    if not isinstance(source.base, Symbol):
        raise unsupported(instruction)
    start = t.params[source.base.name] + source.base.offset + source.offset
    buffer = t.let(f"inttoptr i64 {t.header('ctx', CONTEXT['params']).text} to ptr")
    for k, part in enumerate(parts):
        place = t.let(f"getelementptr i8, ptr {buffer}, i64 {start + k * bits // 8}")
        value = Value(t.let(f"load i{bits}, ptr {place}, align 1", "param"), bits, vector=False)
        t.write(part, value, signed=kind.startswith("s"))


def store(t: Translator, instruction: Instruction) -> None:
    """`st`."""
    kind, target, source = instruction.modifiers[-1], instruction.operands[0], instruction.operands[1]
    space = space_of(instruction)
    if space == "param":
        raise unsupported(instruction)
    if kind == "b128":
        store_to(t, instruction, target, PLACES[space], parted(t, t.read(source, kind)))
        return
    parts = source.elements if isinstance(source, Vector) else (source,)
    store_to(t, instruction, target, PLACES[space], [t.read(p, kind) for p in parts])


def store_to(
    t: Translator, instruction: Instruction, target: Operand, place: str, values: list[Value]
) -> None:
    """Elements to memory, checked."""
    store_at(t, instruction, t.address(target), place, values)


def store_at(
    t: Translator, instruction: Instruction, address: Value, place: str, values: list[Value]
) -> None:
    """Elements to each lane's address, checked."""
    if t.checks is not None:
        _checked_store(t, instruction, address, place, values)
        return
    bits = values[0].bits
    count_access(t, instruction, address, place, bits // 8 * len(values), write=True)
    address = t.spread(address)
    name = f"st_{place}_{bits}_{len(values)}"
    t.helpers.add(name)
    spread = [t.spread(v) for v in values]
    data = "".join(f", {v.type} {v.text}" for v in spread)
    check(t, t.let(f"call i1 @{name}({_arguments(t, instruction)}, {address.type} {address.text}{data})"))


def hosts(
    t: Translator, instruction: Instruction, operand: Operand, place: str, size: int
) -> tuple[str, str]:
    """Checked host addresses of the lanes (a vector of i64), and the lanes that are active."""
    address = t.address(operand)
    count_access(t, instruction, address, place, size, write=instruction.opcode == "stmatrix")
    return hosts_at(t, instruction, address, place, size)


def hosts_at(
    t: Translator, instruction: Instruction, address: Value, place: str, size: int
) -> tuple[str, str]:
    """The same for addresses that are known. The access is not counted."""
    address = t.spread(address)
    if t.checks is not None:
        return hosts_of(t, instruction, address, place, size, write=_writes(instruction, place)), t.active()
    name = f"hosts_{place}_{size}"
    t.helpers.add(name)
    mask = t.active()
    site = t.site(instruction)
    call = (
        f"call {{ {V64}, i1 }} @{name}(ptr %ctx, ptr %blk, ptr %warp, i32 {site}, i32 {mask}, "
        f"{address.type} {address.text})"
    )
    found = t.let(call)
    check(t, t.let(f"extractvalue {{ {V64}, i1 }} {found}, 1"))
    return t.let(f"extractvalue {{ {V64}, i1 }} {found}, 0"), mask


def _writes(instruction: Instruction, place: str) -> bool:
    if instruction.opcode == "cp":
        return place == "shared"
    return instruction.opcode in ("stmatrix", "st") or "store" in instruction.modifiers


def convert_address(t: Translator, instruction: Instruction) -> None:
    """`cvta`."""
    space = next(m for m in instruction.modifiers if m.split("::")[0] in WINDOWS).split("::")[0]
    value = t.read(instruction.operands[1], "u64")
    window = WINDOWS[space]
    if window:
        operation = "sub" if "to" in instruction.modifiers else "add"
        value = t.binary(operation, value, constant(window, 64))
    t.write(instruction.operands[0], value)


def is_space(t: Translator, instruction: Instruction) -> None:
    """`isspacep`: whether a generic address lies in a state space."""
    space, _, part = instruction.modifiers[-1].partition("::")
    address = t.read(instruction.operands[1], "u64")
    top = t.binary("lshr", address, constant(56, 64))
    if space == "param":
        start = t.header("ctx", CONTEXT["params"])
        found = t.compare("ult", t.binary("sub", address, start), constant(max(t.param_bytes, 1), 64))
    elif space in ("shared", "local"):
        found = t.compare("eq", top, constant(WINDOWS[space] >> 56, 64))
        if space == "shared" and part != "cluster":
            # Higher bits of an offset name a block of the cluster: 0, or its rank plus 1, for this one.
            high = t.binary("and", t.binary("lshr", address, constant(RANK_SHIFT, 64)), constant(0xFF, 64))
            own = t.binary("add", t.header("blk", BLOCK["rank"]), constant(1, 64))
            here = t.binary("or", t.compare("eq", high, constant(0, 64)), t.compare("eq", high, own))
            found = t.binary("and", found, here)
    else:
        found = t.compare("ult", top, constant(SHARED_WINDOW >> 56, 64))
        if space != "global":
            found = t.binary("and", found, constant(0, 1))
    t.write(instruction.operands[0], found)


def policy(t: Translator, instruction: Instruction) -> None:
    """`createpolicy`: caches are not modelled."""
    t.write(instruction.operands[0], constant(0, 64))


def nothing(_t: Translator, _instruction: Instruction) -> None:
    """Fences, prefetches and sleeps change no value here: accesses happen in order."""


TABLE = {
    "ld": load, "ldu": load, "st": store, "cvta": convert_address,
    "isspacep": is_space, "createpolicy": policy,
    **dict.fromkeys(("mark", "membar", "fence", "prefetch", "prefetchu", "griddepcontrol",
                     "discard", "applypriority", "pmevent", "setmaxnreg", "brkpt"), nothing),
}  # fmt: skip
