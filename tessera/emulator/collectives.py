"""Instructions that act on a whole warp, in NumPy.

Source: PTX ISA 8.8, sections 9.7.9 (data movement between lanes) and 9.7.13 (synchronization).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tessera.emulator import lanes, matrices, matrix_moves, warpgroups, wmma
from tessera.emulator.lanes import BITS, Array
from tessera.emulator.operands import CANONICAL_NAN
from tessera.emulator.ptx import Immediate, Instruction, Operand, Pair
from tessera.program.errors import CompileError

if TYPE_CHECKING:
    from tessera.emulator.instructions import Executor

WARP = 32
WHOLE_WARP = ("mma", "ldmatrix", "stmatrix", "movmatrix", "wmma", "wgmma", "setmaxnreg")
"""Opcodes that every lane of a warp takes part in."""


def member_mask(executor: Executor, instruction: Instruction) -> Array:
    """(threads,) uint32: which lanes of its warp each thread says take part."""
    opcode, operands = instruction.opcode, instruction.operands
    if opcode == "activemask" or (
        "sync" not in instruction.modifiers and "warp" not in instruction.modifiers
    ):
        return np.full(executor.count, 0, np.uint32)
    position = {"bar": 0, "barrier": 0, "elect": 1}.get(opcode, len(operands) - 1)
    if opcode in WHOLE_WARP:
        return np.full(executor.count, 0xFFFFFFFF, np.uint32)
    return executor.read(operands[position], "u32")


def arrived(executor: Executor, instruction: Instruction, here: Array, waiting: Array, alive: Array) -> Array:
    """Which threads in `here` have all the lanes beside them that they name.

    Args:
        executor: The function's registers.
        instruction: The collective.
        here: Threads that were chosen to run now.
        waiting: Every thread that stands at this instruction.
        alive: Threads that have not returned; the others cannot come.
    """
    if warpgroups.meets(instruction):
        return warpgroups.arrived(waiting, alive)
    members = member_mask(executor, instruction)
    ready = np.zeros(executor.count, np.bool_)
    for start in range(0, executor.count, WARP):
        warp = slice(start, min(start + WARP, executor.count))
        lanes = np.arange(warp.stop - warp.start)
        present = int((waiting[warp].astype(np.uint64) << lanes.astype(np.uint64)).sum())
        living = int((alive[warp].astype(np.uint64) << lanes.astype(np.uint64)).sum())
        for lane in lanes[here[warp]]:
            needed = int(members[start + lane]) & living
            ready[start + lane] = needed & ~present == 0
    return ready


def run(executor: Executor, instruction: Instruction, ready: Array) -> None:
    """Run a collective for the threads in `ready`.

    Raises:
        CompileError: The instruction is not known.
    """
    handler = HANDLERS.get(instruction.opcode)
    if handler is None:
        raise CompileError(
            f"PTX line {instruction.line}: the emulator does not know {instruction.mnemonic}",
            ptx_line=instruction.line,
        )
    with np.errstate(all="ignore"):
        handler(executor, instruction, ready)


def _warps(ready: Array) -> list[Array]:
    """Thread numbers of the lanes that take part, warp by warp."""
    threads = np.flatnonzero(ready)
    return [threads[threads // WARP == w] for w in np.unique(threads // WARP)]


def _shuffle(executor: Executor, instruction: Instruction, ready: Array) -> None:
    mode = next(m for m in instruction.modifiers if m in ("up", "down", "bfly", "idx"))
    source = executor.read(instruction.operands[1], "b32")
    # Five bits of the offset count.
    offset = executor.read(instruction.operands[2], "u32").astype(np.int64) & 31
    control = executor.read(instruction.operands[3], "u32").astype(np.int64)
    lane = np.arange(executor.count, dtype=np.int64) % WARP
    clamp, segment = control & 31, control >> 8 & 31
    lowest = lane & segment
    highest = lowest | (clamp & ~segment)
    picks: dict[str, Callable[[], tuple[Array, Array]]] = {
        "up": lambda: (lane - offset, lane - offset >= highest),
        "down": lambda: (lane + offset, lane + offset <= highest),
        "bfly": lambda: (lane ^ offset, (lane ^ offset) <= highest),
        "idx": lambda: (lowest | (offset & ~segment), (lowest | (offset & ~segment)) <= highest),
    }
    from_lane, valid = picks[mode]()
    from_thread = np.arange(executor.count) - lane + np.where(valid, from_lane, lane)
    inside = (from_thread >= 0) & (from_thread < executor.count)
    values = source[np.where(inside, from_thread, 0)]
    if executor.run.watch is not None:
        masks = member_mask(executor, instruction)
        executor.run.watch.shuffled(instruction, ready, from_thread, masks)
    target = instruction.operands[0]
    if isinstance(target, Pair):
        executor.write(target.first, values, ready)
        executor.write(target.second, valid, ready)
    else:
        executor.write(target, values, ready)


def _vote(executor: Executor, instruction: Instruction, ready: Array) -> None:
    mode = next(m for m in instruction.modifiers if m in ("all", "any", "uni", "ballot"))
    said = executor.read(instruction.operands[1], "pred")
    kind = np.dtype(np.uint32 if mode == "ballot" else np.bool_)
    result: Array = np.zeros(executor.count, kind)
    for threads in _warps(ready):
        votes = said[threads]
        if mode == "ballot":
            result[threads] = sum(1 << int(t % WARP) for t in threads[votes])
        else:
            answers = {"all": votes.all(), "any": votes.any(), "uni": votes.all() or not votes.any()}
            result[threads] = answers[mode]
    executor.write(instruction.operands[0], result, ready)


def _match(executor: Executor, instruction: Instruction, ready: Array) -> None:
    values = executor.read(instruction.operands[1], instruction.modifiers[-1])
    result = np.zeros(executor.count, np.uint32)
    same = np.zeros(executor.count, np.bool_)
    every = "all" in instruction.modifiers
    for threads in _warps(ready):
        for thread in threads:
            equal = threads[values[threads] == values[thread]]
            alike = len(equal) == len(threads)
            same[thread] = alike
            if not every or alike:
                result[thread] = sum(1 << int(t % WARP) for t in equal)
    target = instruction.operands[0]
    if isinstance(target, Pair):
        executor.write(target.first, result, ready)
        executor.write(target.second, same, ready)
    else:
        executor.write(target, result, ready)


def _redux(executor: Executor, instruction: Instruction, ready: Array) -> None:
    kind = instruction.modifiers[-1]
    values = executor.read(instruction.operands[1], kind)
    name = next(m for m in instruction.modifiers if m in ("add", "min", "max", "and", "or", "xor"))
    functions = {"add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and,
                 "or": np.bitwise_or, "xor": np.bitwise_xor}  # fmt: skip
    result = np.zeros(executor.count, np.dtype(BITS[kind]))
    if kind == "f32":
        values = np.abs(values) if "abs" in instruction.modifiers else values
        pick = lanes.minimum if name == "min" else lanes.maximum
        for threads in _warps(ready):
            total = values[threads[:1]]
            for thread in threads[1:]:
                total = pick(total, values[[thread]], nan="NaN" in instruction.modifiers)
            result[threads] = np.where(np.isnan(total), CANONICAL_NAN, total)
        executor.write(instruction.operands[0], result, ready)
        return
    for threads in _warps(ready):
        result[threads] = functions[name].reduce(values[threads], dtype=result.dtype)
    executor.write(instruction.operands[0], result, ready)


def _active_mask(executor: Executor, instruction: Instruction, ready: Array) -> None:
    result = np.zeros(executor.count, np.uint32)
    for threads in _warps(ready):
        result[threads] = sum(1 << int(t % WARP) for t in threads)
    executor.write(instruction.operands[0], result, ready)


def _elect(executor: Executor, instruction: Instruction, ready: Array) -> None:
    leader = np.zeros(executor.count, np.uint32)
    chosen = np.zeros(executor.count, np.bool_)
    for threads in _warps(ready):
        leader[threads] = int(threads[0]) % WARP
        chosen[threads[0]] = True
    target = instruction.operands[0]
    if isinstance(target, Pair):
        executor.write(target.first, leader, ready)
        executor.write(target.second, chosen, ready)


def _warp_barrier(_executor: Executor, _instruction: Instruction, _ready: Array) -> None:
    """`bar.warp.sync`: to have arrived together is all there is to it."""


HANDLERS: dict[str, Callable[[Executor, Instruction, Array], None]] = {
    "shfl": _shuffle,
    "vote": _vote,
    "match": _match,
    "redux": _redux,
    "activemask": _active_mask,
    "elect": _elect,
    "bar": _warp_barrier,
    "barrier": _warp_barrier,
    **matrices.HANDLERS,
    **matrix_moves.HANDLERS,
    **warpgroups.HANDLERS,
    **wmma.HANDLERS,
}
"""What each warp-wide opcode does."""


def barrier_count(executor: Executor, instruction: Instruction, members: Array) -> int | None:
    """How many threads a barrier waits for; None: all of the block."""
    position = 2 if "red" in instruction.modifiers else 1
    if len(instruction.operands) <= position + (1 if "red" in instruction.modifiers else 0):
        return None
    return int(executor.read(instruction.operands[position], "u32")[members][0])


def finish_barrier(executor: Executor, instruction: Instruction, threads: Array, members: Array) -> None:
    """Give `bar.red` its result: a vote or count over all who came."""
    if "red" not in instruction.modifiers:
        return
    predicate: Operand = instruction.operands[-1]
    if isinstance(predicate, Immediate):
        raise CompileError(f"PTX line {instruction.line}: a reduction over a literal")
    said = executor.read(predicate, "pred")[members]
    if "popc" in instruction.modifiers:
        result = np.full(executor.count, int(said.sum()), np.uint32)
    else:
        answer = said.all() if "and" in instruction.modifiers else said.any()
        result = np.full(executor.count, bool(answer), np.bool_)
    executor.write(instruction.operands[0], result, threads)
