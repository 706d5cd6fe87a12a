"""Launches run one instruction at a time, and back again: what was is computed once more from a snapshot.

A moment is a number: the instructions executed so far, all launches and blocks together. An instruction
counts once for all threads that execute it at once. Runs are deterministic, so a moment always is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from tessera.emulator.accesses import Listener
from tessera.emulator.activation import Activation
from tessera.emulator.debugging.launches import Launch, LaunchList
from tessera.emulator.debugging.snapshot import Snapshots
from tessera.emulator.findings import BlockStoppedError, Finding, TooManyFindingsError
from tessera.emulator.geometry import Geometry, Point
from tessera.emulator.grid_run import GridRun
from tessera.emulator.lanes import Array
from tessera.emulator.lockstep import BlockRun
from tessera.emulator.machine import Machine
from tessera.emulator.ptx import Function, Instruction
from tessera.emulator.sanitizer import Sanitizer
from tessera.program.errors import TesseraError

INTERVAL = 1500
"""Instructions between two snapshots: what a step back computes again at most, if nothing was given up."""


@dataclass(frozen=True, slots=True)
class BlockMaker:
    """Makes the runs of a launch's blocks. Data, so that a state can hold it."""

    machine: Machine
    function: Function
    params: Mapping[str, bytes]
    shared_bytes: int

    def __call__(self, where: Geometry) -> BlockRun:
        """The run of one block, at its beginning."""
        return BlockRun(self.machine, self.function, self.params, where, self.shared_bytes)


class Grid(GridRun):
    """A launch of which a debugger sees that its blocks wait for ever, before they are gone."""

    given_up = False

    def give_up(self) -> None:
        """Leave the blocks as they are."""
        self.given_up = True


@dataclass(slots=True)
class State:
    """Everything that changes while launches run, device memory apart."""

    sanitizer: Sanitizer
    machines: list[Machine]
    launch: int = 0
    """Which launch is under way; their number at the end."""
    grid: Grid | None = None
    """Its blocks."""
    lines: dict[tuple[int, int], Array] = field(default_factory=dict)
    """By block and depth of the call: file and line of each thread's last instruction, as one number."""
    failure: str | None = None
    """Why the block under way cannot go on."""


class Timeline:
    """Where the launches are, and the way back.

    Args:
        program: The launches and their memory.
        interval: Instructions between two snapshots.
        files: Source files whose lines count, as the PTX names them; None: all.
    """

    def __init__(
        self, program: LaunchList, *, interval: int = INTERVAL, files: frozenset[str] | None = None
    ) -> None:
        assert program.sanitizer is not None  # noqa: S101 - a LaunchList always has one
        self.program = program
        self.launches = program.launches
        self.interval, self.files = interval, files
        self.clock = 0
        """The moment: instructions executed so far."""
        self.frontier = 0
        """The latest moment that was ever reached."""
        self.state = State(program.sanitizer, program.machines)
        self.snapshots = Snapshots(program.memory, program.fixed())
        self.found: dict[int, list[Finding]] = {}
        """Findings of the sanitizer by the moment before the instruction that made them."""
        self.starts: dict[tuple[int, int], int] = {}
        """The moment at which each block of each launch began, where that was reached."""
        self.listener: Listener | None = None
        """Told of every access to memory."""
        self.interrupted = False
        """Set by others to stop `forward` early."""
        self.snapshots.take(0, self.state)

    # -- where it is ------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether everything has run."""
        return self.state.launch >= len(self.launches)

    @property
    def launch(self) -> Launch:
        """The launch under way; at the end, the last one."""
        return self.launches[min(self.state.launch, len(self.launches) - 1)]

    @property
    def run(self) -> BlockRun | None:
        """The block whose turn it is."""
        grid = self.state.grid
        return grid.queue[0] if grid is not None and grid.queue else None

    def is_alive(self, launch: int, block: Point) -> bool:
        """Whether a block has begun and not ended."""
        grid = self.state.grid
        return (
            grid is not None
            and self.state.launch == launch
            and any(b.geometry.index == block for b in grid.queue)
        )

    @property
    def top(self) -> Activation | None:
        """The call whose instruction is next."""
        return self.run.stack[-1] if self.run is not None and self.run.stack else None

    @property
    def instruction(self) -> Instruction | None:
        """The instruction that is next; None at the end, or where the block cannot go on."""
        return self.top.instruction if self.top is not None and self.state.failure is None else None

    def line_key(self, instruction: Instruction) -> int:
        """File and line as one number; 0 where the instruction has none that counts."""
        if not instruction.source_line:
            return 0
        if self.files is not None and self.launch.code.file_of(instruction) not in self.files:
            return 0
        return (instruction.file << 24) + instruction.source_line

    def entering(self) -> Array:
        """Threads that are about to begin another source line, all numbers of the block."""
        top, instruction = self.top, self.instruction
        if top is None or instruction is None:
            return np.zeros(0, np.bool_)
        key = self.line_key(instruction)
        function = self.launch.code.functions.get(top.frame.function.name)
        if key == 0 or (function is not None and instruction.source_line == function.line):
            # What comes before the first statement belongs to no line.
            return np.zeros(len(top.going), np.bool_)
        found: Array = top.going & (self._lines() != key)
        return found

    def _lines(self) -> Array:
        """The line that each thread of the block is on, in the innermost call."""
        run = self.run
        if run is None:
            return np.zeros(0, np.int64)
        place = (run.geometry.number, len(run.stack) - 1)
        if place not in self.state.lines:
            self.state.lines[place] = np.zeros(run.threads, np.int64)
        return self.state.lines[place]

    # -- forwards ---------------------------------------------------------------------------------

    def prepare(self) -> bool:
        """Settle what is executed next, beginning blocks and launches as needed; False at the end.

        A block that cannot go on stays as it is, for looking at: `failure` says why.
        """
        while not self.ended:
            if self.state.failure is not None:
                return True
            grid = self.state.grid
            run = grid.block if grid is not None else None
            if grid is None or run is None:
                self._next_launch()
            elif self._prepare_block(grid, run):
                return True
        return False

    def _prepare_block(self, grid: Grid, run: BlockRun) -> bool:
        """Settle the next instruction of a block; False if it has ended."""
        self.starts.setdefault((self.state.launch, run.geometry.number), self.clock)
        known = len(self.state.sanitizer.findings)
        depth = len(run.stack)
        try:
            more = run.prepare()
        except TesseraError as error:
            self._fail(run, error, known, self.clock)
            return True
        self._note(known, max(self.clock - 1, 0))
        number = run.geometry.number
        for gone in range(len(run.stack), depth + 1):
            self.state.lines.pop((number, gone), None)
        if not more:
            self._end_step(grid, run, going=False)
        return more

    def _end_step(self, grid: Grid, run: BlockRun, *, going: bool) -> None:
        grid.end_step(run, going=going)
        if not grid.given_up:
            return
        grid.given_up = False
        known, waiting = len(self.state.sanitizer.findings), grid.queue[0]
        try:
            waiting.stuck()
        except TesseraError as error:
            self._fail(waiting, error, known, self.clock + going)

    def _next_launch(self) -> None:
        state = self.state
        if state.grid is not None:
            state.launch, state.grid = state.launch + 1, None
        state.lines = {}
        if self.ended:
            return
        launch = self.launches[state.launch]
        machine = state.machines[launch.machine]
        state.sanitizer.begin_launch(machine.module)
        maker = BlockMaker(machine, launch.function, launch.params, launch.shared_bytes)
        state.grid = Grid(maker, launch.geometry)

    def execute(self) -> None:
        """Execute the instruction that `prepare` settled, and settle the next.

        Where a block cannot go on it is left instead, for the next one.
        """
        state, top, instruction, run = self.state, self.top, self.instruction, self.run
        if state.grid is None or run is None:
            return
        begins = self.starts.get((state.launch, run.geometry.number)) == self.clock
        if self.clock % self.interval == 0 or begins:
            self.snapshots.take(self.clock, state)
        if state.failure is not None:
            state.failure = None
            run.stack.clear()
            self._end_step(state.grid, run, going=False)
        elif top is not None and instruction is not None:
            self._execute(run, top, instruction)
            if state.failure is None:
                self._end_step(state.grid, run, going=True)
        self.clock += 1
        self.frontier = max(self.frontier, self.clock)
        self.prepare()

    def _execute(self, run: BlockRun, top: Activation, instruction: Instruction) -> None:
        key, known = self.line_key(instruction), len(self.state.sanitizer.findings)
        if key:
            self._lines()[top.going] = key
        if run.watch is not None:
            run.watch.listener = self.listener
        try:
            run.execute()
        except TesseraError as error:
            self._fail(run, error, known, self.clock)
        else:
            self._note(known, self.clock)
        finally:
            if run.watch is not None:
                run.watch.listener = None

    def _note(self, known: int, clock: int) -> None:
        """Remember findings that were made just now, by the instruction of a moment."""
        fresh = self.state.sanitizer.findings[known:]
        if fresh:
            self.found[clock] = list(fresh)

    def _fail(self, run: BlockRun, error: TesseraError, known: int, clock: int) -> None:
        said = isinstance(error, (BlockStoppedError, TooManyFindingsError))
        if run.watch is not None and not said:
            run.watch.failed("failed", error.message)
        self._note(known, clock)
        self.state.failure = error.message

    def forward(self, stop: Callable[[], bool], limit: int | None = None) -> bool:
        """Run until `stop()` holds, asked before each instruction but the first; whether it came to hold.

        Args:
            stop: The condition.
            limit: The moment to stop at in any case.
        """
        while not self.ended and (limit is None or self.clock < limit):
            self.execute()
            if self.interrupted or self.state.failure is not None:
                return False
            if stop():
                return True
        return False

    # -- backwards --------------------------------------------------------------------------------

    def seek(self, clock: int) -> None:
        """Go to a moment that was reached before."""
        snapshot = self.snapshots.before(clock)
        if not snapshot.clock <= self.clock <= clock:
            self.rewind(clock)
        while self.clock < clock:
            self.execute()

    def rewind(self, clock: int) -> None:
        """Go to the last snapshot at or before a moment."""
        snapshot = self.snapshots.before(clock)
        self.state = self.snapshots.restore(snapshot)
        self.program.sanitizer = self.state.sanitizer
        self.program.machines = self.state.machines
        self.program.memory.sanitizer = self.state.sanitizer  # type: ignore[attr-defined]
        self.clock = snapshot.clock
        self.prepare()

    # -- all of it --------------------------------------------------------------------------------

    def digest(self) -> str:
        """A hash of the whole state: equal states have equal ones."""
        digest = hashlib.blake2b(digest_size=16)

        def add(*things: object) -> None:
            for thing in things:
                raw = thing.tobytes() if isinstance(thing, np.ndarray) else repr(thing).encode()
                digest.update(len(raw).to_bytes(8, "little") + raw)

        state, memory = self.state, self.program.memory
        add(self.clock, state.launch, state.failure, [m.printed for m in state.machines])
        add([(f.kind, f.line, f.count) for f in state.sanitizer.findings], memory.ranges, memory.top)
        for start, end in memory.ranges:
            add(memory.data[start:end])
        for (block, depth), lines in sorted(state.lines.items()):
            if lines.any():
                add(block, depth, lines)
        for run in state.grid.queue if state.grid is not None else ():
            add(run.geometry.index, run.shared, run.local[:, : run.local_top], run.exited, run.steps)
            for top in run.stack:
                add(top.frame.function.name, top.pc, top.waiting, top.stuck, top.going, top.at)
                add(top.frame.arrivals, -1 if top.block is None else top.block.index)
                for name, values in sorted(top.frame.registers.items()):
                    if values.any():
                        add(name, values)
        return digest.hexdigest()
