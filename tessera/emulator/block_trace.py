"""One block of a launch, access by access: what single threads load, store and wait for.

Counters say how much passed; they do not say that a thread loads one place twice, or that a barrier has
nothing to order. For that one block runs once more in the interpreter, before the launch, and memory is put
back as it was.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tessera.emulator import machine, rendezvous
from tessera.emulator.geometry import Geometry, Point, cluster_size
from tessera.emulator.grid_run import GridRun
from tessera.emulator.instructions import GLOBAL_BASE
from tessera.emulator.lanes import Array
from tessera.emulator.lockstep import BlockRun
from tessera.emulator.lockstep_module import bound_params
from tessera.emulator.ptx import Function, Instruction, Module
from tessera.emulator.recorder import Recorder
from tessera.program.errors import DeviceError, TesseraError

if TYPE_CHECKING:
    from tessera.emulator.activation import Activation
    from tessera.emulator.loaded import LoadedModule
    from tessera.emulator.memory import Memory

MOST_ACCESSES = 400_000
"""Accesses of threads after which a block is left: what it did by then is enough to judge by."""
MOST_STEPS = 60_000
"""Basic blocks after which it is left."""
MOST_BYTES = 256 << 20
"""Device memory in use beyond which nothing is traced: it would have to be copied."""
_WINDOWS = {0x7E: "shared", 0x7F: "local"}
_OFFSET = (1 << 56) - 1
_END = 1 << 47
"""Where the addresses of a process end."""


@dataclass(frozen=True, slots=True)
class TracedAccess:
    """One instruction, executed once by some threads."""

    instruction: Instruction
    space: str
    """`global`, `shared` or `local`."""
    write: bool
    size: int
    """Bytes of each thread."""
    threads: Array
    """(accesses,) int64: numbers of the threads in the block, ascending."""
    addresses: Array
    """(accesses,) int64."""
    epochs: Array
    """(accesses,) int64: barriers of the block that each thread had passed."""


@dataclass(slots=True)
class BlockTrace:
    """What one block did."""

    function: Function
    module: Module
    threads: int
    index: Point
    """Which block of the grid."""
    accesses: list[TracedAccess] = field(default_factory=list)
    """In the order of execution."""
    barriers: dict[int, Instruction] = field(default_factory=dict)
    """The barrier that ended each epoch."""
    named_barriers: bool = False
    """Whether there were barriers of some threads alone: epochs then order nothing."""
    complete: bool = True
    """Whether the block came to its end."""
    shared_bytes: int = 0
    """Shared memory of the block, static and dynamic."""


class _EnoughError(DeviceError):
    """The trace is as long as it may be."""


class TraceRecorder(Recorder):
    """Takes down the accesses of a block."""

    def __init__(self, trace: BlockTrace) -> None:
        super().__init__()
        self.trace = trace
        self.epoch = np.zeros(trace.threads, np.int64)
        self.taken = 0

    def executed(self, top: Activation, instruction: Instruction, going: Array, taken: Array) -> None:
        """Nothing: the launch itself counts instructions."""

    def meet(self, run: BlockRun, top: Activation, instruction: Instruction, active: Array) -> Array:
        """Do what `rendezvous.collective` does; a barrier begins an epoch."""
        frame = top.frame
        if instruction.opcode in ("bar", "barrier") and not {"warp", "cluster"} & set(instruction.modifiers):
            here = active & frame.guard(instruction)
            if "arrive" in instruction.modifiers or len(instruction.operands) > 1 + (
                2 * ("red" in instruction.modifiers)
            ):
                self.trace.named_barriers = True
            for epoch in np.unique(self.epoch[here]).tolist():
                self.trace.barriers.setdefault(epoch, instruction)
            self.epoch[here] += 1
        frame.instruction = instruction
        done = rendezvous.collective(run, top, instruction, active)
        frame.instruction = None
        return done

    def access(
        self, instruction: Instruction, place: str, addresses: Array, mask: Array, size: int, *, write: bool
    ) -> None:
        """Threads access memory.

        Raises:
            DeviceError: The trace is long enough.
        """
        threads = np.flatnonzero(mask)
        if place not in ("global", "shared", "local", "generic") or not len(threads):
            return
        at = addresses[threads].astype(np.int64)
        self.taken += len(threads)
        for space, members in _spaces(place, at):
            self.trace.accesses.append(
                TracedAccess(
                    instruction, space, write, size, threads[members], at[members] & _OFFSET,
                    self.epoch[threads[members]],
                )
            )  # fmt: skip
        if self.taken > MOST_ACCESSES:
            raise _EnoughError("the trace of a block is long enough")


def _spaces(place: str, at: Array) -> list[tuple[str, Array]]:
    if place != "generic":
        return [(place, np.ones(len(at), np.bool_))]
    windows = at >> 56
    return [(_WINDOWS.get(w, "global"), windows == w) for w in np.unique(windows).tolist()]


class _HostMemory(machine.Memory):
    """The compiled engine's memory as the interpreter sees it: device addresses are host addresses."""

    def __init__(self, memory: Memory) -> None:
        size = _END - GLOBAL_BASE
        self.data = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(GLOBAL_BASE))
        self.top = 0
        self.ranges = [
            (int(start) - GLOBAL_BASE, int(start + length) - GLOBAL_BASE) for start, length in memory.table()
        ]

    def allocate(self, size: int) -> int:
        """A traced block allocates nothing.

        Raises:
            DeviceError: Always.
        """
        raise _EnoughError(f"{size} bytes from malloc: the block is left")


def trace_block(
    loaded: LoadedModule | machine.Machine,
    memory: Any,
    entry: str,
    grid: Point,
    block: Point,
    params: Sequence[bytes],
    shared_bytes: int,
) -> BlockTrace | None:
    """Trace the block in the middle of a launch that has not begun; memory stays as it is.

    Args:
        loaded: The kernel's module, as an engine holds it.
        memory: That engine's.
        entry: Name of the kernel.
        grid: Blocks by axis.
        block: Threads by axis.
        params: The bytes of each parameter.
        shared_bytes: Dynamic shared memory per block.

    Returns:
        None where it cannot be traced alone: clusters, too much memory, instructions that the interpreter
        does not know.
    """
    function = loaded.module.functions[entry]
    sizes, _ = cluster_size(function, grid, None)
    if sizes != (1, 1, 1):
        return None
    interpreted = isinstance(memory, machine.Memory)
    view = memory if interpreted else _HostMemory(memory)
    if sum(end - start for start, end in view.ranges) > MOST_BYTES:
        return None
    launch = _Launch(loaded, view, function, grid, block, bound_params(function, params), shared_bytes)
    kept = [(start, view.data[start:end].copy()) for start, end in view.ranges]
    found = None
    for part in (2, 4, 8, 1 << 31):
        found = launch.trace((grid[0] // part, grid[1] // part, grid[2] // part))
        for start, values in kept:
            view.data[start : start + len(values)] = values
        # A block behind the end of the data has nothing to show.
        if any(a.space == "global" for a in found.accesses):
            break
    return found


@dataclass(slots=True)
class _Launch:
    """A launch of which blocks are traced."""

    loaded: LoadedModule | machine.Machine
    view: machine.Memory
    function: Function
    grid: Point
    block: Point
    params: dict[str, bytes]
    shared_bytes: int

    def trace(self, index: Point) -> BlockTrace:
        """One block."""
        own = machine.Machine(self.loaded.module, self.view, symbols=self.loaded.symbols)
        own.step_budget = MOST_STEPS
        geometry = Geometry(self.grid, self.block, (0, 0, 0))
        trace = BlockTrace(self.function, self.loaded.module, geometry.threads, index)
        own.recorder = TraceRecorder(trace)

        def begin(where: Geometry) -> BlockRun:
            run = BlockRun(own, self.function, self.params, where, self.shared_bytes)
            trace.shared_bytes = len(run.shared)
            return run

        number = index[0] + self.grid[0] * (index[1] + self.grid[1] * index[2])
        try:
            GridRun(begin, geometry, only=[number]).run()
        except TesseraError:
            # It waits for other blocks, is long, or does what the launch itself will tell about.
            trace.complete = False
        return trace
