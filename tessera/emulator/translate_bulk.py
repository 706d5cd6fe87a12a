"""`cp.async`, `cp.async.bulk` and tensor copies in LLVM IR. The host does the bulk ones (`bulk_copies`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.emulator.bulk_copies import NO_BARRIER, ROWS
from tessera.emulator.emit_ir import WARP, Value, constant
from tessera.emulator.layout import CONTEXT
from tessera.emulator.ptx import Address, Immediate, Instruction, Operand, Symbol, Vector
from tessera.emulator.tensor_copies import TensorOperands
from tessera.emulator.translate import unsupported
from tessera.emulator.translate_barriers import update
from tessera.emulator.translate_copies import copy_async
from tessera.emulator.translate_services import FAULT_CODE, V64

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator


def copy(t: Translator, instruction: Instruction) -> None:
    """`cp`: to commit and to wait is nothing, as every copy is done at once."""
    modifiers = instruction.modifiers
    if "prefetch" in modifiers or "commit_group" in modifiers or "wait_group" in modifiers:
        return
    if "mbarrier" in modifiers:
        # Without `.noinc` it counts itself in before it counts itself out.
        once = constant(1 if "noinc" in modifiers else 0, 32)
        update(t, instruction, instruction.operands[0], once, constant(0, 32), constant(0, 32))
    elif "bulk" in modifiers:
        _host(t, instruction, _tensor(t, instruction) if "tensor" in modifiers else _bytes(t, instruction))
    else:
        copy_async(t, instruction)


def _bytes(t: Translator, instruction: Instruction) -> dict[str, Value]:
    places = [o for o in instruction.operands if isinstance(o, Address)]
    scalars = [o for o in instruction.operands if not isinstance(o, Address)]
    if len(places) < 2 or not scalars:
        raise unsupported(instruction)
    rows = {"target": t.address(places[0]), "source": t.address(places[1]), "size": t.read(scalars[0], "u32")}
    if len(places) > 2:
        rows["barrier"] = t.address(places[2])
    if "multicast::cluster" in instruction.modifiers:
        rows["blocks"] = t.read(scalars[1], "u16")
    return rows


def _tensor(t: Translator, instruction: Instruction) -> dict[str, Value]:
    operands = TensorOperands.of(instruction)
    loads = _first_space(instruction) == "shared"
    if isinstance(operands.map.base, Symbol) and operands.map.base.name not in t.params:
        raise unsupported(instruction)
    rows = {
        "source" if loads else "target": t.address(operands.map),
        "target" if loads else "source": t.address(operands.shared),
    }
    if operands.barrier is not None:
        rows["barrier"] = t.address(operands.barrier)
    if operands.blocks is not None:
        rows["blocks"] = t.read(operands.blocks, "u16")
    where: tuple[Operand, ...] = ()
    if isinstance(operands.map.coordinates, Vector):
        where = operands.map.coordinates.elements
    rows |= {f"at{i}": t.read(o, "s32") for i, o in enumerate(where)}
    return rows | {f"o{i}": _offset(t, o) for i, o in enumerate(operands.offsets)}


def _offset(t: Translator, operand: Operand) -> Value:
    if isinstance(operand, Immediate):
        return t.read(operand, "s32")
    return t.resize(t.read(operand, "u16"), 32)


def _first_space(instruction: Instruction) -> str:
    spaces = (m.split("::")[0] for m in instruction.modifiers)
    return next((s for s in spaces if s in ("shared", "global")), "")


def _host(t: Translator, instruction: Instruction, rows: dict[str, Value]) -> None:
    """Let the host do it for every active lane."""
    area = t.let(f"getelementptr i8, ptr %warp, i64 {t.layout.slot('%bulk', 64 * len(ROWS))}")
    for name, row in ROWS.items():
        missing = constant(NO_BARRIER if name == "barrier" else 0, 64)
        value = t.spread(t.resize(rows.get(name, missing), 64))
        place = t.let(f"getelementptr i8, ptr {area}, i64 {row * WARP * 8}")
        t.raw(f"  store {V64} {value.text}, ptr {place}, align 64")
    host = t.let(f"inttoptr i64 {t.header('ctx', CONTEXT['service']).text} to ptr")
    site, mask = t.site(instruction), t.active()
    code = t.let(f"call i32 {host}(ptr %blk, ptr %warp, i32 {site}, i32 {mask}, ptr {area})")
    failed, fine = t.name("failed")[1:], t.name("fine")[1:]
    t.raw(f"  br i1 {t.let(f'icmp eq i32 {code}, 0')}, label %{fine}, label %{failed}")
    t.label(failed)
    kind = FAULT_CODE["service"]
    t.raw(f"  call void @fault(ptr %blk, ptr %warp, i32 {kind}, i32 {site}, i32 {mask}, i64 0)")
    t.raw("  br label %fault")
    t.label(fine)


TABLE = {"cp": copy}
"""What each opcode is in LLVM IR."""
