"""`cp.async` in LLVM IR: done at once, which any program that waits for it allows.

Source: PTX ISA 8.8, section 9.7.9.25.3.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.emulator.emit_ir import WARP, Value, constant
from tessera.emulator.matrix_code import Code
from tessera.emulator.matrix_product import module_of
from tessera.emulator.ptx import Address, Immediate, Instruction, Operand, Register
from tessera.emulator.translate import unsupported
from tessera.emulator.translate_checks import copies
from tessera.emulator.translate_counts import count_access
from tessera.emulator.translate_matrix import call_library
from tessera.emulator.translate_memory import hosts_at

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator


def copy_async(t: Translator, instruction: Instruction) -> None:
    """`cp.async`, and what makes and awaits its groups."""
    modifiers = instruction.modifiers
    if "async" not in modifiers or "bulk" in modifiers or "mbarrier" in modifiers:
        raise unsupported(instruction)
    copies(t, instruction)
    if any(m in ("commit_group", "wait_group", "wait_all") for m in modifiers):
        return
    target, source, size, *rest = instruction.operands
    if not (isinstance(size, Immediate) and isinstance(target, Address) and isinstance(source, Address)):
        raise unsupported(instruction)
    if any(m.endswith("cache_hint") for m in modifiers):
        rest = rest[:-1]
    _copy(t, instruction, target, source, int(size.value), rest[0] if rest else None)


def _copy(
    t: Translator,
    instruction: Instruction,
    target: Address,
    source: Address,
    size: int,
    option: Operand | None,
) -> None:
    guard, whole, active = t.guard, t.mask, t.active()
    # What is checked is for some of the lanes only.
    t.guard, t.narrowed = None, guard is not None
    count = _count(t, option, size)
    from_address = t.address(source)
    if count.number is not None:
        t.mask = active
        count_access(t, instruction, from_address, "global", size, write=False)
        origin, _ = hosts_at(t, instruction, from_address, "global", size)
    else:
        origin = _partial(t, instruction, from_address, count, size, active)
        t.mask, t.narrowed = active, guard is not None
    to_address = t.address(target)
    count_access(t, instruction, to_address, "shared", size, write=True)
    goal, _ = hosts_at(t, instruction, to_address, "shared", size)
    lists = {
        "%copy.from": Value(origin, 64, vector=True),
        "%copy.to": Value(goal, 64, vector=True),
        "%copy.count": t.spread(count),
    }
    places = []
    for name, value in lists.items():
        place = t.layout.slot(name, value.bits)
        places.append(place)
        pointer = t.let(f"getelementptr i8, ptr %warp, i64 {place}")
        t.raw(f"  store {value.type} {value.text}, ptr {pointer}, align 64")
    call_library(t, f"copy_{size}", lambda: copy_text(size), places)
    t.guard, t.mask, t.narrowed = guard, whole, False


def _count(t: Translator, option: Operand | None, size: int) -> Value:
    """Bytes that each lane reads."""
    if option is None:
        return constant(size, 32)
    if isinstance(option, Register) and t.special(option.name) is None and t.width(option.name) == 1:
        return t.spread(t.select(t.read(option, "pred"), constant(0, 32), constant(size, 32)))
    return t.spread(t.intrinsic("umin", [t.read(option, "u32"), constant(size, 32)]))


def _partial(
    t: Translator, instruction: Instruction, address: Value, count: Value, size: int, active: str
) -> str:
    """Host addresses of lanes that read all, some, or none of the bytes; their first and last are checked."""
    every = t.lane_bits(t.compare("eq", count, constant(size, 32)))
    some = t.lane_bits(t.compare("ne", count, constant(0, 32)))
    t.mask = t.let(f"and i32 {active}, {every}", "m")
    full, _ = hosts_at(t, instruction, address, "global", size)
    t.narrowed = True
    few = t.mask = t.let(f"and i32 {active}, {some}", "m")
    count_access(t, instruction, address, "global", size, write=False)
    t.mask = t.let(f"and i32 {few}, {t.let(f'xor i32 {every}, -1')}", "m")
    first, _ = hosts_at(t, instruction, address, "global", 1)
    last = t.binary("add", address, t.resize(t.binary("sub", count, constant(1, 32)), 64))
    hosts_at(t, instruction, last, "global", 1)
    chosen = t.select(t.lane_predicate(every), Value(full, 64, vector=True), Value(first, 64, vector=True))
    return chosen.text


def copy_text(size: int) -> str:
    """The module with `copy_<size>`, of the warp, the table of sources, targets and counts, and the mask.

    Each lane's target gets as many bytes of its source as its count says, then zeros.
    """
    w = Code()
    lists = [w.slot(i, 0) for i in range(3)]
    with w.loop(WARP) as lane:
        number = w.let(f"trunc i64 {lane} to i32")
        bit = w.let(f"and i32 {w.let(f'lshr i32 %mask, {number}')}, 1")
        w.raw(f"  br i1 {w.let(f'icmp eq i32 {bit}, 0')}, label %skip, label %copy")
        w.label("copy")
        origin, goal = (
            w.let(f"inttoptr i64 {w.let(f'load i64, ptr {w.at(lists[i], (lane, 8))}')} to ptr")
            for i in (0, 1)
        )
        count = w.let(f"load i32, ptr {w.at(lists[2], (lane, 4))}")
        w.raw(f"  br i1 {w.let(f'icmp eq i32 {count}, {size}')}, label %all, label %some")
        w.label("all")
        value = w.let(f"load i{8 * size}, ptr {origin}, align 1")
        w.raw(f"  store i{8 * size} {value}, ptr {goal}, align 1")
        w.raw("  br label %skip")
        w.label("some")
        w.raw(f"  call void @llvm.memset.p0.i64(ptr {goal}, i8 0, i64 {size}, i1 false)")
        w.raw(f"  call void @llvm.memcpy.p0.p0.i32(ptr {goal}, ptr {origin}, i32 {count}, i1 false)")
        w.raw("  br label %skip")
        w.label("skip")
    w.declared |= {
        "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)",
        "declare void @llvm.memcpy.p0.p0.i32(ptr, ptr, i32, i1)",
    }
    return module_of(w, f"copy_{size}")


TABLE = {"cp": copy_async}
