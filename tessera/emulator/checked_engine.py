"""The compiled engine under a sanitizer: kernels with checks compiled in, and a close look at what they note.

The checks let pass what is certainly right. Blocks with an access that may be wrong are run once more by the
interpreter, from the memory that the launch began with; it decides, and says what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tessera.emulator import layout as at
from tessera.emulator.arguments import check_params, check_sizes, size_of
from tessera.emulator.checked_memory import CheckedMemory, HostView
from tessera.emulator.checked_state import CheckedState, Note, Notes
from tessera.emulator.device_runtime import ARRIVED, ARRIVED_BYTES
from tessera.emulator.engine import Emulator
from tessera.emulator.findings import Check
from tessera.emulator.flatten import flatten
from tessera.emulator.geometry import cluster_size, three
from tessera.emulator.loaded import Kernel, LaunchResult, LoadedModule, Shape
from tessera.emulator.ptx import Function, Instruction, Module
from tessera.emulator.replay import Launch, findings_of_blocks, run_blocks
from tessera.emulator.sanitizer import Sanitizer
from tessera.emulator.shadow import Region
from tessera.emulator.shadow_ir import COPY, GRID_RACE, MEMORY, RACE, SERIAL_AT, SYNC, UNWRITTEN
from tessera.emulator.snapshot import Snapshot
from tessera.emulator.states import ClusterState
from tessera.emulator.store_targets import store_targets
from tessera.emulator.translate import Translation, translate
from tessera.emulator.translate_checks import ATOMIC, STRONG
from tessera.emulator.workers import Fault, Grid, Worker
from tessera.program.errors import CompileError

Array = np.ndarray[Any, Any]
ALIGNMENT = 64
"""Bytes that arrays of the host must be aligned to, to be used where they lie."""
FEW_BLOCKS = 16
"""Blocks of a launch that are interpreted at once: compiling them would take longer."""
WHOLE_THREADS = 1 << 15
"""Threads of a launch that is looked at closely as a whole, if any block of it is."""
ORDERED_THREADS = 1 << 20
"""The same for launches whose blocks wait for each other, and may have done something wrong there."""
MANY_BLOCKS = 64
"""Blocks of a larger launch that are looked at closely."""
JUMPS = 1 << 26
"""Jumps backwards that a block may make before it counts as runaway."""
RUNAWAY_STEPS = 4_000
"""Basic blocks for which the interpreter follows a block that did not end."""
ONE_WORKER = 64
"""Blocks of a launch that run one after the other: what they do to each other is then always seen."""
MANY_RESIDENT = 1 << 30
"""Blocks that run at once where nobody says how many the GPU holds."""
_SERIALS = 1 << 64 - SERIAL_AT
_CHECKS: dict[int, tuple[Check, ...]] = {
    MEMORY: ("memcheck",),
    # Which of two accesses without order comes first decides between these.
    UNWRITTEN: ("initcheck", "racecheck"),
    RACE: ("initcheck", "racecheck"),
    GRID_RACE: ("initcheck", "racecheck"),
    SYNC: ("synccheck",),
    COPY: ("racecheck",),
}
"""Checkers whose findings a note may turn out to be."""


class RefusedError(CompileError):
    """A kernel that the compiled engine does not know; the interpreter may."""


@dataclass(slots=True)
class Outcome:
    """What a launch noted."""

    notes: list[Note]
    left: list[int]
    """Blocks that did not come to their end."""

    def __bool__(self) -> bool:
        return bool(self.notes or self.left)


class CheckedGrid(Grid):
    """A launch of a kernel with checks: blocks that cannot go on are left, and the others run."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.left: list[int] = []
        self._notes: dict[int, Notes] = {}

    def new_state(self, worker: Worker) -> ClusterState:
        """State for one more of a worker's blocks."""
        with self.lock:
            notes = self._notes.setdefault(worker.number, Notes(self.translation))
        return ClusterState([CheckedState(self.translation, self.context, self.threads, notes)])

    def report(self, fault: Fault) -> None:
        """Keep the block in mind; the others go on, unless all wait for each other."""
        if fault.code == at.FAULT and at.FAULTS[fault.state.word("fault_kind")] == "stopped":
            return
        with self.lock:
            self.left += [state.word("number") for state in fault.waiting or (fault.state,)]
        if fault.waiting:
            self.stop()

    def outcome(self) -> Outcome:
        """What was noted."""
        return Outcome([n for notes in self._notes.values() for n in notes.all()], sorted(self.left))


@dataclass(slots=True)
class Subject:
    """What is known about a kernel beyond its code."""

    targets: frozenset[str] | None
    """Parameters and variables that it writes through; None: any array."""
    blocks_meet: bool
    """Whether it has what blocks wait for each other with."""
    records: dict[tuple[int, int], Array] = field(default_factory=dict)


class CheckedEmulator(Emulator):
    """A GPU in software that looks for errors.

    Args:
        sanitizer: Gets the findings.
        workers: Threads of the host; None: as many as it has cores.
        level: 0 or 2: compile at that level only; None: fast first, then as launches turn out.
        few_blocks: Launches of no more blocks are interpreted.
        whole_threads: Launches of no more threads are looked at closely as a whole, if they are at all.
    """

    def __init__(
        self,
        sanitizer: Sanitizer,
        *,
        workers: int | None = None,
        level: int | None = None,
        few_blocks: int = FEW_BLOCKS,
        whole_threads: int = WHOLE_THREADS,
    ) -> None:
        self.sanitizer = sanitizer
        self._checked = CheckedMemory(sanitizer)
        super().__init__(workers=workers, level=level, memory=self._checked)
        self._view = HostView(self._checked)
        self._few, self._whole = few_blocks, whole_threads
        self._refused: set[int] = set()
        self._subjects: dict[int, Subject] = {}
        self._records: dict[tuple[int, int, int], Array] = {}
        self._spare: dict[Any, Array] = {}
        self._serials = 1
        self._nothing = np.zeros(2 * 4096, np.uint8)
        """A place of zeros to read, and one to write to."""

    def _place(self, module: Module) -> LoadedModule:
        loaded = super()._place(module)
        for name, address in loaded.symbols.items():
            self.sanitizer.describe(address, name)
            # The driver fills a module's variables with zeros.
            self.sanitizer.host_wrote(address, size_of(module.variables[name]))
        return loaded

    def _translate(self, module: Module, function: Function, places: dict[str, int]) -> Translation:
        try:
            return translate(module, function, places, checked=True)
        except CompileError as error:
            raise RefusedError(error.message) from error

    def discard(self, address: int) -> None:
        """Give an allocation back; its addresses mean nothing any more."""
        self._checked.discard(address)

    # -- launches -------------------------------------------------------------------------------

    def launch(
        self,
        ptx: str | bytes | LoadedModule,
        entry: str,
        grid: Sequence[int] | int,
        block: Sequence[int] | int,
        args: Sequence[Any],
        shared_bytes: int = 0,
        *,
        cluster: Sequence[int] | int | None = None,
        resident: int | None = None,
    ) -> LaunchResult:
        """The same as `Emulator.launch`; what is wrong goes to the sanitizer.

        Raises:
            CompileError: PTX that the emulator does not know; names the line.
            KernelError: Arguments or sizes that the kernel cannot be launched with.
            TooManyFindingsError: The sanitizer's limit is reached.
        """
        module = ptx if isinstance(ptx, LoadedModule) else self.load(ptx)
        with self._bound(module.entry(entry), args, ALIGNMENT) as params:
            return self.launch_params(
                module, entry, grid, block, params, shared_bytes,
                cluster=cluster, resident=resident,
            )  # fmt: skip

    def launch_params(
        self,
        module: LoadedModule,
        entry: str,
        grid: Sequence[int] | int,
        block: Sequence[int] | int,
        params: Sequence[bytes],
        shared_bytes: int = 0,
        *,
        cluster: Sequence[int] | int | None = None,
        resident: int | None = None,
    ) -> LaunchResult:
        """Run a kernel to its end; what is wrong with it goes to the sanitizer.

        Raises:
            CompileError: PTX that the emulator does not know; names the line.
            KernelError: Parameters or sizes that the kernel cannot be launched with.
            TooManyFindingsError: The sanitizer's limit is reached.
        """
        function = module.entry(entry)
        check_params(function, params)
        sizes, threads = three(grid), three(block)
        check_sizes(sizes, threads)
        limit = MANY_RESIDENT if resident is None else resident
        launch = Launch(
            module, function, sizes, threads, params, shared_bytes, *cluster_size(function, sizes, cluster),
            limit,
        )  # fmt: skip
        self.sanitizer.begin_launch(module.module)
        if ARRIVED in module.symbols:
            self.memory.write(module.symbols[ARRIVED], bytes(ARRIVED_BYTES))
        alone = launch.together == 1 and id(function) not in self._refused
        if alone and launch.blocks > self._few:
            try:
                kernel, spent = self.kernel(module, entry)
            except RefusedError:
                self._refused.add(id(function))
            else:
                return self._run_checked(launch, kernel, spent)
        run_blocks(launch, self._view, self.sanitizer, printed=self.printed)
        return LaunchResult(0.0, 0.0)

    def _run_checked(self, launch: Launch, kernel: Kernel, spent: float) -> LaunchResult:
        subject = self._subject(launch.module.module, launch.function)
        written = self._written_regions(launch, subject)
        before = Snapshot(written, self._view.view, self._spare, self._threads())
        seconds, outcome = self._execute(launch, kernel, written)
        for region in written:
            region.complete = region.complete or bool(region.written.all())
        if outcome:
            self._look_closely(launch, subject, outcome, before)
        return LaunchResult(seconds, spent)

    def _execute(self, launch: Launch, kernel: Kernel, written: list[Region]) -> tuple[float, Outcome]:
        translation = kernel.translation
        shared = translation.shared_bytes + launch.shared_bytes
        shape = Shape(
            launch.grid, launch.block, launch.cluster, launch.explicit, launch.shared_bytes, shared,
            launch.resident,
        )  # fmt: skip
        prepared = self._prepare(launch.module, kernel, shape, launch.params)
        table = self._table(prepared.params, translation, written)
        if self._serials + launch.blocks >= _SERIALS:
            self._records.clear()
            self._serials = 1
        nothing = -(-int(self._nothing.ctypes.data) // 64) * 64
        prepared.set(
            table=table.ctypes.data, table_count=len(table), serials=self._serials, nowhere=nothing,
            sink=nothing + 4096, budget=min(JUMPS, 32 * self.sanitizer.block_steps),
        )  # fmt: skip
        run = CheckedGrid(
            kernel.best, translation, prepared.context, launch.grid, launch.block, launch.cluster,
            launch.resident,
        )  # fmt: skip
        workers = 1 if launch.blocks <= ONE_WORKER else self.workers
        seconds = self._timed(run, kernel, workers)
        self._serials += launch.blocks
        return seconds, run.outcome()

    def _table(self, params: tuple[int, int], translation: Translation, written: list[Region]) -> Array:
        """(arrays, 4) uint64 by address: address, size, way to the records of accesses and of bytes."""
        checks = translation.checks
        assert checks is not None  # noqa: S101 - kernels are translated with them here
        shift = checks.global_shift
        tracked = {id(r) for r in written}
        rows = [(*params, 0, 0)] if translation.param_pointers else []
        for region in self.sanitizer.regions.regions:
            if region.freed:
                continue
            records = marks = 0
            if id(region) in tracked and region.size:
                records = self._records_of(region, shift) - (region.base << shift)
            if not region.complete and region.size:
                marks = int(region.written.ctypes.data) - region.base
            rows.append((region.base, region.size, records, marks))
        whole = 1 << 64
        return np.array([[v % whole for v in row] for row in sorted(rows)], np.uint64).reshape(-1, 4)

    def _records_of(self, region: Region, shift: int) -> int:
        key = (region.base, region.size, shift)
        if key not in self._records:
            # Of a row whose last lanes take no part, no word is touched; the rest is for odd sizes.
            self._records[key] = np.zeros((region.size << shift) // 8 + 8, np.uint64)
        return int(self._records[key].ctypes.data)

    # -- what a kernel writes -------------------------------------------------------------------

    def _subject(self, module: Module, function: Function) -> Subject:
        if id(function) not in self._subjects:
            flat = flatten(module, function)
            body = [i for i in flat.body if isinstance(i, Instruction)]
            self._subjects[id(function)] = Subject(store_targets(flat), any(map(_between_blocks, body)))
        return self._subjects[id(function)]

    def _written_regions(self, launch: Launch, subject: Subject) -> list[Region]:
        regions = [r for r in self.sanitizer.regions.regions if not r.freed and r.size]
        if subject.targets is None:
            return regions
        addresses = [launch.module.symbols[n] for n in subject.targets if n in launch.module.symbols]
        for variable, raw in zip(launch.function.params, launch.params, strict=True):
            if variable.name in subject.targets:
                addresses += np.frombuffer(raw[: len(raw) // 8 * 8], np.uint64).tolist()
        # Parts of one allocation are reached from each other.
        found = {id(r) for a in addresses for r in self._neighbours(a)}
        return [r for r in regions if id(r) in found]

    def _neighbours(self, address: int) -> list[Region]:
        allocation = self.memory.at(address)
        if allocation is None:
            return []
        end = allocation.address + max(allocation.size, 1)
        return [r for r in self.sanitizer.regions.regions if allocation.address <= r.base < end]

    # -- a close look ---------------------------------------------------------------------------

    def _look_closely(self, launch: Launch, subject: Subject, outcome: Outcome, before: Snapshot) -> None:
        after = Snapshot(before.regions, self._view.view, {}, self._threads())
        before.restore()
        steps = self.sanitizer.block_steps
        if outcome.left:
            self.sanitizer.block_steps = min(steps, RUNAWAY_STEPS)
        try:
            if self._as_whole(launch, subject, outcome):
                run_blocks(launch, self._view, self.sanitizer)
            else:
                self._some_blocks(launch, outcome)
        finally:
            self.sanitizer.block_steps = steps
            after.restore()

    def _as_whole(self, launch: Launch, subject: Subject, outcome: Outcome) -> bool:
        threads = launch.blocks * launch.threads
        between = any(n.kind == GRID_RACE for n in outcome.notes)
        return threads <= self._whole or (subject.blocks_meet and between and threads <= ORDERED_THREADS)

    def _some_blocks(self, launch: Launch, outcome: Outcome) -> None:
        first = self._serials - launch.blocks
        checks = {check for note in outcome.notes for check in _CHECKS[note.kind]}
        if outcome.left:
            checks |= {"run", "synccheck"}
        places: dict[tuple[int, int], list[set[int]]] = {}
        for note in sorted(outcome.notes, key=lambda n: n.block):
            others = set() if note.other is None else {note.other - first}
            places.setdefault((note.kind, note.site), []).append({note.block} | others)
        # The first of each place and kind come first, so that none is left out.
        chosen: set[int] = set(outcome.left[:1])
        for rank in range(max(map(len, places.values()), default=0)):
            for groups in places.values():
                if rank < len(groups) and len(chosen) < MANY_BLOCKS:
                    chosen |= groups[rank]
        findings_of_blocks(launch, self._view, self.sanitizer, sorted(chosen), frozenset(checks))


def _between_blocks(instruction: Instruction) -> bool:
    if instruction.opcode in ("fence", "membar"):
        return True
    spaces = {m.split("::")[0] for m in instruction.modifiers}
    strong = instruction.opcode in ATOMIC or bool(STRONG & set(instruction.modifiers))
    return strong and not spaces & {"shared", "local"}
