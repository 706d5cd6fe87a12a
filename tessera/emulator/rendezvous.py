"""Where threads of a block meet in the lockstep interpreter: barriers, and instructions of a whole warp."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tessera.emulator import collectives
from tessera.emulator.activation import Activation
from tessera.emulator.frame import Frame
from tessera.emulator.lanes import Array
from tessera.emulator.ptx import Instruction

if TYPE_CHECKING:
    from tessera.emulator.lockstep import BlockRun


def collective(run: BlockRun, top: Activation, instruction: Instruction, active: Array) -> Array:
    """Run a warp-wide instruction for the warps whose lanes have all arrived; returns who did."""
    frame, pc, waiting = top.frame, top.pc, top.waiting
    blocks = frame.flow.blocks
    here = active & frame.guard(instruction)
    skipped = active & ~here
    at = int(pc[active][0])
    if instruction.opcode in ("bar", "barrier") and "warp" not in instruction.modifiers:
        pc[skipped] += 1
        if "cluster" in instruction.modifiers:
            _cluster_barrier(run, top, instruction, here)
            return active
        _arrive(run, frame, instruction, here, pc, waiting)
        release(run, frame, pc, waiting, pc < len(blocks))
        return active
    standing = (pc == at) & frame.guard(instruction)
    ready = collectives.arrived(frame, instruction, here, standing, pc < len(blocks))
    if ready.any():
        if run.watch is not None:
            masks = collectives.member_mask(frame, instruction)
            run.watch.converged(instruction, np.flatnonzero(ready), masks[ready])
        collectives.run(frame, instruction, ready)
    pc[ready | skipped] += 1
    return ready | skipped


def _cluster_barrier(run: BlockRun, top: Activation, instruction: Instruction, here: Array) -> None:
    """`barrier.cluster.arrive` and `barrier.cluster.wait`, which goes on once all threads have come."""
    if not here.any():
        return
    if "arrive" in instruction.modifiers:
        if run.watch is not None and "relaxed" not in instruction.modifiers:
            run.watch.arrived_at_cluster(np.flatnonzero(here), run.geometry.cluster_index)
        run.cluster.arrive(run, here)
        top.pc[here] += 1
        return
    passed = here & run.cluster.passed(run)
    if run.watch is not None and passed.any():
        run.watch.passed_cluster(np.flatnonzero(passed), run.geometry.cluster_index)
    top.pc[passed] += 1
    top.resting |= here & ~passed
    run.progress += bool(passed.any())


def _arrive(
    run: BlockRun, frame: Frame, instruction: Instruction, here: Array, pc: Array, waiting: Array
) -> None:
    """`bar.sync`, `bar.arrive`, `bar.red`: park threads until their barrier is complete."""
    barrier = frame.read(instruction.operands[_barrier_operand(instruction)], "u32")
    if "arrive" in instruction.modifiers:
        for name in np.unique(barrier[here]):
            threads = here & (barrier == name)
            frame.arrivals[int(name)] = frame.arrivals.get(int(name), 0) + int(threads.sum())
            if run.watch is not None and threads.any():
                run.watch.arrived(np.flatnonzero(threads), int(name))
        pc[here] += 1
        return
    waiting[here] = barrier[here].astype(np.int64)
    frame.barriers[int(pc[here][0]) if here.any() else -1] = instruction


def release(run: BlockRun, frame: Frame, pc: Array, waiting: Array, alive: Array) -> bool:
    """Let the threads of complete barriers go on; returns whether there were any."""
    progressed = False
    for name in np.unique(waiting[alive & (waiting >= 0)]):
        members = alive & (waiting == name)
        instruction = frame.barriers[int(pc[members][0])]
        needed = collectives.barrier_count(frame, instruction, members)
        present = int(members.sum()) + frame.arrivals.get(int(name), 0)
        if present >= (needed if needed is not None else int(alive.sum())):
            if run.watch is not None:
                whole = needed is None
                run.watch.synchronized(frame.barriers, pc, members, alive, int(name), whole_block=whole)
            for place in np.unique(pc[members]):
                collectives.finish_barrier(
                    frame, frame.barriers[int(place)], members & (pc == place), members
                )
            frame.arrivals.pop(int(name), None)
            pc[members] += 1
            waiting[members] = -1
            run.progress += 1
            progressed = True
    return progressed


def _barrier_operand(instruction: Instruction) -> int:
    return 1 if "red" in instruction.modifiers else 0
