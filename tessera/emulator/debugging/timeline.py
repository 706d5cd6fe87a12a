"""Launches run one instruction at a time, and back again: what was is computed once more from a snapshot.

A moment is a number: the instructions executed so far, all launches and blocks together. An instruction
counts once for all threads that execute it at once. Runs are deterministic, so a moment always is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tessera.emulator.accesses import Listener
from tessera.emulator.activation import Activation
from tessera.emulator.debugging.launches import Launch, LaunchList
from tessera.emulator.debugging.snapshot import Snapshots
from tessera.emulator.findings import BlockStoppedError, Finding, TooManyFindingsError
from tessera.emulator.lanes import Array
from tessera.emulator.lockstep import BlockRun
from tessera.emulator.machine import Machine
from tessera.emulator.ptx import Instruction
from tessera.emulator.sanitizer import Sanitizer
from tessera.program.errors import DeviceError

INTERVAL = 1500
"""Instructions between two snapshots: what a step back computes again at most, if nothing was given up."""


class Trail:
    """The source line that each thread is on, for every call under way."""

    def __init__(self) -> None:
        self.lines: list[Array] = []
        """By activation: file and line of each thread's last instruction, as one number; 0: none yet."""

    def follow(self, stack: list[Activation]) -> None:
        """Calls have begun or returned."""
        del self.lines[len(stack) :]
        while len(self.lines) < len(stack):
            self.lines.append(np.zeros(len(stack[-1].mask), np.int64))


@dataclass(slots=True)
class State:
    """Everything that changes while launches run, device memory apart."""

    sanitizer: Sanitizer
    machines: list[Machine]
    launch: int = 0
    """Which launch is under way; their number at the end."""
    block: int = -1
    """Which block of it; -1: none yet."""
    run: BlockRun | None = None
    trail: Trail = field(default_factory=Trail)
    failure: str | None = None
    """Why the block under way cannot go on."""
    fresh: bool = True
    """Whether the block has not executed anything."""


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
        """The block under way."""
        return self.state.run

    @property
    def top(self) -> Activation | None:
        """The call whose instruction is next."""
        return self.state.run.stack[-1] if self.state.run is not None and self.state.run.stack else None

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
        found: Array = top.going & (self.state.trail.lines[-1] != key)
        return found

    # -- forwards ---------------------------------------------------------------------------------

    def prepare(self) -> bool:
        """Settle what is executed next, beginning blocks and launches as needed; False at the end.

        A block that cannot go on stays as it is, for looking at: `failure` says why.
        """
        state = self.state
        while not self.ended:
            if state.failure is not None:
                return True
            if state.run is not None:
                known = len(state.sanitizer.findings)
                try:
                    more = state.run.prepare()
                except (DeviceError, BlockStoppedError, TooManyFindingsError) as error:
                    self._fail(error, known)
                    return True
                self._note(known, max(self.clock - 1, 0))
                if more:
                    state.trail.follow(state.run.stack)
                    return True
            self._next_block()
        return False

    def _next_block(self) -> None:
        state = self.state
        state.block += 1
        state.run = None
        if state.block >= self.launches[state.launch].blocks:
            state.launch, state.block = state.launch + 1, 0
            if self.ended:
                return
        launch = self.launches[state.launch]
        machine = state.machines[launch.machine]
        if state.block == 0:
            state.sanitizer.begin_launch(machine.module)
        state.trail = Trail()
        state.run = BlockRun(
            machine, launch.function, launch.params, launch.geometry(state.block), launch.shared_bytes
        )
        state.fresh = True
        self.starts[state.launch, state.block] = self.clock

    def execute(self) -> None:
        """Execute the instruction that `prepare` settled, and settle the next.

        Where a block cannot go on it is left instead, for the next one.
        """
        state, top, instruction = self.state, self.top, self.instruction
        if self.clock % self.interval == 0 or state.fresh:
            self.snapshots.take(self.clock, state)
        state.fresh = False
        if state.failure is not None:
            state.failure = None
            self._next_block()
        elif state.run is not None and top is not None and instruction is not None:
            self._execute(state.run, top, instruction)
        self.clock += 1
        self.frontier = max(self.frontier, self.clock)
        self.prepare()

    def _execute(self, run: BlockRun, top: Activation, instruction: Instruction) -> None:
        state = self.state
        key, known = self.line_key(instruction), len(state.sanitizer.findings)
        if key:
            state.trail.lines[-1][top.going] = key
        if run.watch is not None:
            run.watch.listener = self.listener
        try:
            run.execute()
        except (DeviceError, BlockStoppedError, TooManyFindingsError) as error:
            self._fail(error, known)
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

    def _fail(self, error: DeviceError, known: int) -> None:
        run = self.state.run
        if run is not None and run.watch is not None and type(error) is DeviceError:
            run.watch.failed("failed", error.message)
        self._note(known, self.clock)
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
        add(self.clock, state.launch, state.block, state.failure, [m.printed for m in state.machines])
        add([(f.kind, f.line, f.count) for f in state.sanitizer.findings], memory.ranges, memory.top)
        for start, end in memory.ranges:
            add(memory.data[start:end])
        run = state.run
        if run is not None:
            add(run.shared, run.local[:, : run.local_top], run.exited, run.steps)
            for top, lines in zip(run.stack, state.trail.lines, strict=False):
                add(top.frame.function.name, top.pc, top.waiting, top.stuck, top.going, top.at, lines)
                add(top.frame.arrivals, -1 if top.block is None else top.block.index)
                for name, values in sorted(top.frame.registers.items()):
                    if values.any():
                        add(name, values)
        return digest.hexdigest()
