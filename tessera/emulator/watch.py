"""The observer of one block of threads: memcheck, initcheck, racecheck and synccheck, access by access."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

import numpy as np

from tessera.emulator.describe import conflict_text, place_of
from tessera.emulator.findings import BlockStoppedError, Finding, Findings, Other, Point
from tessera.emulator.lanes import Array
from tessera.emulator.ordering import BlockOrder, GridOrder
from tessera.emulator.ptx import Instruction
from tessera.emulator.shadow import Region, Regions, Touches

WARP = 32
WHOLE_WARP = ("mma", "wmma", "ldmatrix", "stmatrix", "movmatrix", "wgmma", "setmaxnreg")
"""Opcodes that name no lanes: every one takes part."""
ATOMIC_OPCODES = ("atom", "red", "multimem")
STRONG = ("volatile", "relaxed", "acquire", "release", "mmio")
"""Qualifiers of loads and stores that are never part of a race: they are there to synchronize."""
FENCES = ("membar", "fence")
_REACH = 1 << 23
"""How far outside an array an access may lie to be taken for one of it."""


class Locals(Protocol):
    """A function call with variables in local memory."""

    def local_extents(self) -> list[tuple[int, int]]:
        """Offset and bytes of what its threads may access in their local memory."""


@dataclass(slots=True)
class LaunchState:
    """What the blocks of one launch share."""

    order: GridOrder = field(default_factory=GridOrder)
    sites: list[Instruction] = field(default_factory=list)
    """Instructions that accessed memory, by the number that the shadow stores."""
    optimistic: frozenset[int] = frozenset()
    """Identities of loads that are no part of a race."""
    _numbers: dict[int, int] = field(default_factory=dict)

    def site_of(self, instruction: Instruction) -> int:
        """The number of an instruction."""
        number = self._numbers.setdefault(id(instruction), len(self.sites))
        if number == len(self.sites):
            self.sites.append(instruction)
        return number


@dataclass(slots=True)
class BlockView:
    """Which block it is, and what the engine knows about its memory."""

    kernel: str
    files: Mapping[int, str]
    """Path by `.file` index."""
    grid: Point
    block: Point
    """Threads by axis."""
    index: Point
    """Which block of the grid."""
    shared: list[Region] = field(default_factory=list)
    """Shared variables, by offset."""

    @property
    def number(self) -> int:
        """The block's number in its grid."""
        x, y, z = self.index
        return x + self.grid[0] * (y + self.grid[1] * z)

    @property
    def threads(self) -> int:
        """Threads of the block."""
        return self.block[0] * self.block[1] * self.block[2]


class Watch:
    """Callbacks of an engine that runs one block.

    Args:
        found: Where findings go.
        memory: Regions of device memory.
        launch: What the blocks of this launch share.
        view: The block.
        steps: Basic blocks after which the block counts as one that never ends.
    """

    def __init__(
        self, found: Findings, memory: Regions, launch: LaunchState, view: BlockView, steps: int
    ) -> None:
        self.view = view
        self._found = found
        self._memory = memory
        self._shared = Regions()
        for region in view.shared:
            self._shared.add(region)
        self._launch = launch
        self._order = BlockOrder(launch.order, view.number, view.threads)
        self._instruction: Instruction | None = None
        self._threads: Array = np.zeros(1, np.int64)
        self._steps = steps
        self._frame: Locals | None = None
        self._variables = Regions()

    # -- what the engine calls --------------------------------------------------------------------

    def executing(self, instruction: Instruction, threads: Array) -> None:
        """The threads with these numbers execute an instruction; accesses that follow belong to it."""
        self._instruction, self._threads = instruction, threads
        if instruction.opcode in FENCES:
            self._order.fence(threads)

    def access(
        self, frame: Locals, space: str, threads: Array, places: Array, size: int, align: int, *, write: bool
    ) -> Array:
        """Threads access memory, as part of the instruction that `executing` named.

        Args:
            frame: The function that is running; its variables lie in local memory.
            space: `global`, `shared` or `local`.
            threads: Numbers of the threads in the block.
            places: uint64, address or offset in the space.
            size: Bytes of each access.
            align: What each place must be a multiple of.
            write: Whether it writes. Atomics are known by their instruction.

        Returns:
            Which of the accesses may go ahead.
        """
        addresses = places.astype(np.int64)
        atomic = self._current().opcode in ATOMIC_OPCODES
        write = write or atomic
        regions = self._local(frame) if space == "local" else self._regions(space)
        index = regions.find(addresses, size)
        outside = index < 0
        if outside.any():
            self._outside(regions, space, threads[outside], addresses[outside], size, write=write)
        crooked = ~outside & (addresses % align != 0)
        if crooked.any():
            found = threads[crooked], addresses[crooked], index[crooked]
            self._misaligned(regions, space, *found, size, align, write=write)
        going: Array = ~outside & ~crooked
        if space != "local":
            for i in np.unique(index[going]):
                region = regions.regions[int(i)]
                here = going & (index == i)
                if region.freed:
                    self._use_after_free(region, space, threads[here], addresses[here], size, write=write)
                    going = going & ~here
                else:
                    self._inside(region, space, threads[here], addresses[here], size, write, atomic)
        return going

    def arrived(self, threads: Array, barrier: int) -> None:
        """The threads passed `bar.arrive`."""
        self._order.arrive(threads, barrier)

    def synchronized(
        self, places: Mapping[int, Instruction], at: Array, waiting: Array, alive: Array, barrier: int, *,
        whole_block: bool,
    ) -> None:  # fmt: skip
        """A barrier completes.

        Args:
            places: The barrier instruction by basic block.
            at: Basic block of each thread.
            waiting: Which threads wait at this barrier.
            alive: Which threads have not returned.
            barrier: Its number.
            whole_block: Whether it is for the whole block, rather than for a number of threads.
        """
        threads = np.flatnonzero(waiting)
        if whole_block:
            self._check_whole(places, at, threads, alive)
        self._order.synchronize(threads, barrier)

    def _check_whole(
        self, places: Mapping[int, Instruction], at: Array, threads: Array, alive: Array
    ) -> None:
        instruction = places[int(at[threads[0]])]
        gone = np.flatnonzero(~alive)
        if gone.size:
            text = (
                f"{_count(len(threads), 'thread')} of the block wait at this barrier, but "
                f"{_count(len(gone), 'thread')} (first: {self._thread_text(int(gone[0]))}) returned "
                "without coming to it"
            )
            self._report("divergent-barrier", instruction, threads[:1], text, count=len(gone))
            return
        elsewhere = threads[at[threads] != at[threads[0]]]
        if elsewhere.size:
            other = places[int(at[elsewhere[0]])]
            text = (
                f"{_count(len(threads) - len(elsewhere), 'thread')} of the block wait at this barrier, "
                f"{_count(len(elsewhere), 'thread')} (first: {self._thread_text(int(elsewhere[0]))}) at "
                f"{self._line_text(other)}"
            )
            side = self._other(int(elsewhere[0]), "barrier", other)
            self._report(
                "divergent-barrier", instruction, threads[:1], text, other=side, count=len(elsewhere)
            )

    def converged(self, instruction: Instruction, threads: Array, masks: Array) -> None:
        """Lanes execute a warp-wide instruction together.

        Args:
            instruction: Which.
            threads: Numbers of the threads in the block.
            masks: The mask that each of them names.
        """
        self._instruction, self._threads = instruction, threads
        if "sync" not in instruction.modifiers and "warp" not in instruction.modifiers:
            return
        lanes = threads % WARP
        missing = (masks >> lanes.astype(np.uint32)) & 1 == 0
        if missing.any() and instruction.opcode not in WHOLE_WARP:
            first = int(np.flatnonzero(missing)[0])
            text = (
                f"lane {int(lanes[first])} executes {instruction.mnemonic} with the mask "
                f"{int(masks[first]):#010x}, which does not name it"
            )
            self._report("bad-mask", instruction, threads[missing], text)
        for warp in np.unique(threads // WARP):
            here = threads // WARP == warp
            for mask in np.unique(masks[here]):
                together = threads[here & (masks == mask)]
                self._order.synchronize(together)

    def shuffled(self, instruction: Instruction, taking_part: Array, sources: Array, masks: Array) -> None:
        """Lanes read registers of other lanes.

        Args:
            instruction: The shuffle.
            taking_part: By thread of the block: whether it executes the shuffle.
            sources: By thread: whose register it reads.
            masks: By thread: the lanes that it names.
        """
        threads = np.flatnonzero(taking_part)
        sources = sources[threads]
        inside = (sources >= 0) & (sources < len(taking_part))
        bad = ~inside | ~taking_part[np.where(inside, sources, 0)]
        if "sync" in instruction.modifiers:
            bad |= (masks[threads] >> (sources % WARP).astype(np.uint32)) & 1 == 0
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            lane = int(sources[first]) % WARP
            text = (
                f"lane {int(threads[first]) % WARP} reads the value of lane {lane}, "
                "which takes no part in the shuffle: it is undefined"
            )
            self._report("inactive-lane", instruction, threads[bad], text)

    def stuck(self, waits: Mapping[int, Instruction], at: Array, alive: Array) -> NoReturn:
        """No thread can go on.

        Args:
            waits: The instruction at which threads wait, by basic block.
            at: Basic block of each thread.
            alive: Which threads have not returned.
        """
        places = sorted({int(i) for i in at[alive]})
        parts = []
        for place in places:
            there = np.flatnonzero(alive & (at == place))
            parts.append(
                f"{_count(len(there), 'thread')} (first: {self._thread_text(int(there[0]))}) "
                f"at {self._line_text(waits[place])}"
            )
        gone = int((~alive).sum())
        if gone:
            parts.append(f"{_count(gone, 'thread')} returned")
        instruction = waits[places[0]]
        warp_wide = "sync" in instruction.modifiers and instruction.opcode not in ("bar", "barrier")
        kind = "bad-mask" if warp_wide or "warp" in instruction.modifiers else "deadlock"
        if kind == "deadlock" and len(places) > 1 and all(_is_barrier(waits[p]) for p in places):
            kind = "divergent-barrier"
        what = "the lanes that the mask names never meet" if kind == "bad-mask" else "threads wait for ever"
        threads = np.flatnonzero(alive & (at == places[0]))
        other = None
        if len(places) > 1:
            second = int(np.flatnonzero(alive & (at == places[1]))[0])
            other = self._other(second, "barrier", waits[places[1]])
        self._report(kind, instruction, threads, f"{what}: {'; '.join(parts)}", other=other)
        raise BlockStoppedError(f"{self.view.kernel}: {what}")

    def count_step(self, steps: int) -> None:
        """The block has executed that many basic blocks.

        Raises:
            BlockStoppedError: They are too many.
        """
        if steps > self._steps:
            text = f"this block has not ended after {self._steps} basic blocks"
            self.failed("runaway", text)
            raise BlockStoppedError(f"{self.view.kernel}: {text}")

    def failed(self, kind: str, text: str) -> None:
        """The block ended by force: `failed` or `runaway`."""
        if self._instruction is not None:
            self._report(kind, self._instruction, self._threads, text)

    # -- checks -----------------------------------------------------------------------------------

    def _regions(self, space: str) -> Regions:
        return self._shared if space == "shared" else self._memory

    def _local(self, frame: Locals) -> Regions:
        if self._frame is not frame:
            self._frame, self._variables = frame, Regions()
            for base, size in frame.local_extents():
                self._variables.add(Region(base, size))
        return self._variables

    def _inside(
        self, region: Region, space: str, threads: Array, addresses: Array, size: int, write: bool,
        atomic: bool,
    ) -> None:  # fmt: skip
        offsets = addresses - region.base
        index = offsets[:, None] + np.arange(size)
        if not write or atomic:
            unwritten = ~region.written[index].all(axis=1)
            if unwritten.any():
                self._uninitialized(region, space, threads[unwritten], offsets[unwritten], size)
                # Each hole is told once.
                region.written[index] = True
        if write:
            region.written[index] = True
        instruction = self._current()
        if _is_memory_barrier(instruction, space, size, write=write):
            waits = any(m in ("test_wait", "try_wait") for m in instruction.modifiers)
            (self._order.observe if waits else self._order.publish)(space, threads, addresses)
            return
        if any(m in STRONG for m in instruction.modifiers) and not atomic:
            self._order.strong(space, threads, addresses, writes=write)
            return
        if id(instruction) in self._launch.optimistic:
            return
        kind = "atomic" if atomic else "write" if write else "read"
        self._race(region, space, kind, threads, offsets, size)
        if atomic:
            self._order.strong(space, threads, addresses, writes=True)

    def _race(self, region: Region, space: str, kind: str, threads: Array, offsets: Array, size: int) -> None:
        if region.touches is None:
            region.touches = Touches(region.size)
        per_block, own = self.view.threads, self._order.block

        def before(thread: Array, other: Array, clock: Array) -> Array:
            return self._order.before(thread, other // per_block, other % per_block, clock)

        who = own * per_block + threads
        clock = self._order.clock[threads]
        site = self._site()
        conflict = region.touches.touch(kind, who, threads, offsets, size, clock, site, before)
        if conflict is None:
            return
        block, thread = divmod(conflict.other, per_block)
        instruction = self._current()
        other = self._other(thread, conflict.access, self._launch.sites[conflict.site], block)
        name = "race" if block == own else "race-between-blocks"
        place = place_of(region, space, conflict.byte, size)
        text = conflict_text(kind, place, other, (instruction.file, instruction.source_line), block == own)
        self._report(
            name, instruction, np.array([conflict.thread]), text, space=space, region=region,
            offset=conflict.byte, size=size, other=other, count=conflict.count,
        )  # fmt: skip

    def _outside(
        self, regions: Regions, space: str, threads: Array, addresses: Array, size: int, *, write: bool
    ) -> None:
        address = int(addresses[0])
        verb = self._verb(write)
        region = regions.nearest(address, _REACH if space == "global" else 1 << 62)
        if region is None:
            what = f"{address:#x}" if space == "global" else f"offset {address:#x}"
            text = f"{verb} {size} bytes of {space} memory at {what}, where nothing is allocated"
            self._report("out-of-bounds", self._current(), threads, text, space=space, size=size, at=address)
            return
        offset = address - region.base
        if offset >= 0:
            # A wide access may begin inside: what lies outside is meant.
            offset = max(offset, region.size)
        place = place_of(region, space, offset, size)
        text = f"{verb} {place.text}, but {place.extent}"
        self._report(
            "out-of-bounds", self._current(), threads, text, space=space, region=region,
            offset=offset, size=size,
        )  # fmt: skip

    def _misaligned(
        self, regions: Regions, space: str, threads: Array, addresses: Array, index: Array, size: int,
        align: int, *, write: bool,
    ) -> None:  # fmt: skip
        region = regions.regions[int(index[0])]
        offset = int(addresses[0]) - region.base
        place = place_of(region, space, offset, size)
        text = (
            f"{self._verb(write)} {size} bytes at {place.text}, whose address {int(addresses[0]):#x} "
            f"is not a multiple of {align}"
        )
        self._report(
            "misaligned", self._current(), threads, text, space=space, region=region, offset=offset, size=size
        )

    def _use_after_free(
        self, region: Region, space: str, threads: Array, addresses: Array, size: int, *, write: bool
    ) -> None:
        offset = int(addresses[0]) - region.base
        place = place_of(region, space, offset, size)
        text = f"{self._verb(write)} {place.text}, which was freed"
        self._report(
            "use-after-free", self._current(), threads, text, space=space, region=region, offset=offset,
            size=size,
        )  # fmt: skip

    def _uninitialized(self, region: Region, space: str, threads: Array, offsets: Array, size: int) -> None:
        place = place_of(region, space, int(offsets[0]), size)
        self._report(
            "uninitialized", self._current(), threads, f"reads {place.text}, which nothing has written",
            space=space, region=region, offset=int(offsets[0]), size=size,
        )  # fmt: skip

    # -- reports ----------------------------------------------------------------------------------

    def _report(
        self, kind: str, instruction: Instruction, threads: Array, text: str, *, space: str = "",
        region: Region | None = None, offset: int = 0, size: int | None = None, at: int | None = None,
        other: Other | None = None, count: int | None = None,
    ) -> None:  # fmt: skip
        view, times = self.view, count or len(threads)
        line = instruction.source_line
        if self._found.has(kind, view.kernel, line, instruction.line):
            self._found.count(kind, view.kernel, line, instruction.line, times)
            return
        place = place_of(region, space, offset, size or 1) if region is not None else None
        self._found.add(
            Finding(
                kind=kind,
                message=text,
                kernel=view.kernel,
                file=view.files.get(instruction.file, ""),
                line=line,
                ptx_line=instruction.line,
                instruction=instruction.mnemonic,
                block=view.index,
                thread=self._point(int(threads[0])),
                space=space,
                array=region.name if region is not None else None,
                shape=region.shape if region is not None else None,
                index=place.index if place is not None else None,
                address=at if region is None else region.base + offset,
                bytes=size,
                other=other,
                count=times,
            )
        )

    def _current(self) -> Instruction:
        if self._instruction is None:
            raise BlockStoppedError(f"{self.view.kernel}: an access before the first instruction")
        return self._instruction

    def _site(self) -> int:
        instruction = self._current()
        # Instructions live as long as their module: the identity of one is its own.
        return self._launch.site_of(instruction)

    def _verb(self, write: bool) -> str:
        if self._current().opcode in ATOMIC_OPCODES:
            return "updates"
        return "writes" if write else "reads"

    def _other(self, thread: int, access: str, instruction: Instruction, block: int | None = None) -> Other:
        return Other(
            block=self.view.index if block is None else self._block_point(block),
            thread=self._point(thread),
            access=access,
            file=self.view.files.get(instruction.file, ""),
            line=instruction.source_line,
            ptx_line=instruction.line,
        )

    def _point(self, thread: int) -> Point:
        x, y, _ = self.view.block
        return thread % x, thread // x % y, thread // (x * y)

    def _block_point(self, block: int) -> Point:
        x, y, _ = self.view.grid
        return block % x, block // x % y, block // (x * y)

    def _thread_text(self, thread: int) -> str:
        return "thread " + ", ".join(map(str, self._point(thread))).join("()")

    def _line_text(self, instruction: Instruction) -> str:
        if instruction.source_line:
            return f"line {instruction.source_line}"
        return f"PTX line {instruction.line}"


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"


def _is_memory_barrier(instruction: Instruction, space: str, size: int, *, write: bool) -> bool:
    """Whether an access is to an mbarrier: by its own instructions, or by a copy that reports there."""
    if instruction.opcode == "mbarrier":
        return True
    copies = "bulk" in instruction.modifiers or "mbarrier" in instruction.modifiers
    # Copies that report to a barrier move multiples of 16 bytes.
    return instruction.opcode == "cp" and copies and space == "shared" and size == 8 and not write


def _is_barrier(instruction: Instruction) -> bool:
    return instruction.opcode in ("bar", "barrier") and "warp" not in instruction.modifiers
