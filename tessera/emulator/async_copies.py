"""`cp.async`: copies from global to shared memory. They happen at once here, which every program that waits
for them correctly must accept; so waiting is nothing.

Source: PTX ISA 8.8, section 9.7.9.25 (data movement and conversion: asynchronous copy).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tessera.emulator import atomics, mbarriers, tensor_copies, transfers
from tessera.emulator.atomics import combine
from tessera.emulator.geometry import RANK_SHIFT
from tessera.emulator.instructions import Executor, unsupported
from tessera.emulator.lanes import Array
from tessera.emulator.operands import type_of
from tessera.emulator.ptx import TYPE_BYTES, Address, Immediate, Instruction, Operand, Register, Vector
from tessera.emulator.transfers import space_of


def _copy(executor: Executor, instruction: Instruction, mask: Array) -> None:
    modifiers = instruction.modifiers
    if "commit_group" in modifiers or "wait_group" in modifiers or "wait_all" in modifiers:
        return
    if "mbarrier" in modifiers:
        _arrive_when_done(executor, instruction, mask)
        return
    if "bulk" in modifiers:
        _bulk(executor, instruction, mask)
        return
    target, source, size, *rest = instruction.operands
    if not (isinstance(target, Address) and isinstance(source, Address) and isinstance(size, Immediate)):
        raise unsupported(instruction)
    count = int(size.value)
    kept = np.full(executor.count, count, np.int64)
    if any(m.endswith("cache_hint") for m in modifiers):
        rest = rest[:-1]
    if rest:
        option = rest[0]
        name = getattr(option, "name", "")
        if executor.function.registers.get(name) == "pred":
            # A predicate that holds: nothing is read, zeros are written.
            kept = np.where(executor.read(option, "pred"), 0, count)
        else:
            kept = np.minimum(executor.read(option, "u32").astype(np.int64), count)
    values = np.zeros((executor.count, count), np.uint8)
    for length in np.unique(kept[mask]):
        if length:
            chosen = mask & (kept == length)
            found = executor.gather("global", source, int(length), chosen, instruction.line, count)
            values[chosen, :length] = found[chosen]
    executor.scatter("shared", target, values, mask, instruction.line)


def _arrive_when_done(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`cp.async.mbarrier.arrive`: without `.noinc` it counts itself in before it counts itself out."""
    place = instruction.operands[0]
    if not isinstance(place, Address):
        raise unsupported(instruction)
    once = 1 if "noinc" in instruction.modifiers else 0
    mbarriers.update(
        executor, place, space_of(instruction), mask, instruction.line,
        lambda state, _: replace(state, pending=state.pending - once),
    )  # fmt: skip


def _bulk(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`cp.async.bulk` and `cp.reduce.async.bulk`: many bytes by one thread."""
    modifiers = instruction.modifiers
    if "prefetch" in modifiers:
        return
    if "tensor" in modifiers:
        tensor_copies.copy(executor, instruction, mask)
        return
    target, source, amount, *rest = instruction.operands
    if not (isinstance(target, Address) and isinstance(source, Address)):
        raise unsupported(instruction)
    into, out_of = [m.split("::")[0] for m in modifiers if m.split("::")[0] in ("shared", "global")][:2]
    sizes = executor.read(amount, "u32")
    barrier = next((o for o in rest if isinstance(o, Address)), None)
    blocks = rest[1] if "multicast::cluster" in modifiers else None
    for thread in np.flatnonzero(mask).tolist():
        alone = np.zeros(executor.count, np.bool_)
        alone[thread] = True
        size = int(sizes[thread])
        values = executor.gather(out_of, source, size, alone, instruction.line, 16)
        for rank in _ranks(executor, blocks, thread):
            where = _in_block(executor, target, rank, "%target")
            if modifiers[0] == "reduce":
                old = executor.gather(into, where, size, alone, instruction.line, 16)
                values[thread] = combine(instruction, old[thread], values[thread])
            executor.scatter(into, where, values, alone, instruction.line, 16)
            if barrier is not None:
                _count_in(executor, instruction, _in_block(executor, barrier, rank, "%barrier"), alone, size)


def _ranks(executor: Executor, blocks: Operand | None, thread: int) -> list[int | None]:
    """The blocks of the cluster that get a copy; None: as the address says."""
    if blocks is None:
        return [None]
    bits = int(executor.read(blocks, "u16")[thread])
    return [rank for rank in range(16) if bits >> rank & 1]


def _in_block(executor: Executor, place: Address, rank: int | None, name: str) -> Address:
    """The same place in the shared memory of a block of the cluster."""
    if rank is None:
        return place
    offset = executor.addresses(place) & np.uint64((1 << RANK_SHIFT) - 1)
    executor.registers[name] = offset | np.uint64(rank + 1 << RANK_SHIFT)
    return Address(Register(name))


def _count_in(executor: Executor, instruction: Instruction, barrier: Address, mask: Array, size: int) -> None:
    """Tell a barrier that bytes have come."""
    mbarriers.update(
        executor, barrier, "shared", mask, instruction.line,
        lambda state, _: replace(state, bytes=state.bytes - size),
    )  # fmt: skip


def _report_bytes(executor: Executor, instruction: Instruction, mask: Array, size: int) -> None:
    """Tell the barrier, which is the last operand, that so many bytes have come."""
    barrier = instruction.operands[2] if len(instruction.operands) > 2 else None
    if not isinstance(barrier, Address):
        raise unsupported(instruction)
    mbarriers.update(
        executor, barrier, space_of(instruction), mask, instruction.line,
        lambda state, _: replace(state, bytes=state.bytes - size),
    )  # fmt: skip


def _bytes_of(instruction: Instruction) -> int:
    value = instruction.operands[1]
    return TYPE_BYTES[type_of(instruction)] * (len(value.elements) if isinstance(value, Vector) else 1)


def _store(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`st` and `st.async`, which goes to another block of the cluster and reports to a barrier there."""
    transfers.store(executor, instruction, mask)
    if "async" in instruction.modifiers:
        _report_bytes(executor, instruction, mask, _bytes_of(instruction))


def _reduce(executor: Executor, instruction: Instruction, mask: Array) -> None:
    """`red` and `red.async`."""
    if "async" not in instruction.modifiers:
        atomics.HANDLERS["red"](executor, instruction, mask)
        return
    plain = replace(instruction, operands=instruction.operands[:2],
                    modifiers=tuple(m for m in instruction.modifiers if m != "async"))  # fmt: skip
    atomics.HANDLERS["red"](executor, plain, mask)
    _report_bytes(executor, instruction, mask, _bytes_of(instruction))


HANDLERS: dict[str, Callable[[Executor, Instruction, Array], None]] = {
    "cp": _copy, "st": _store, "red": _reduce,
}  # fmt: skip
"""What each opcode of this family does."""
