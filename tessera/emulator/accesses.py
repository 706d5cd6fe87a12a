"""Accesses of one block to memory: memcheck, initcheck and racecheck."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from tessera.emulator.describe import conflict_text, place_of
from tessera.emulator.findings import Findings
from tessera.emulator.lanes import Array
from tessera.emulator.observed import ATOMIC_OPCODES, BlockView, LaunchState, Observer
from tessera.emulator.ptx import element_bytes
from tessera.emulator.shadow import Region, Regions, Touches
from tessera.emulator.unsettled import Copies, LocalBytes

STRONG = ("volatile", "relaxed", "acquire", "release", "mmio")
"""Qualifiers of loads and stores that are never part of a race: they are there to synchronize."""
_REACH = 1 << 23
"""How far outside an array an access may lie to be taken for one of it."""


Listener = Callable[[str, Array, Array, int, bool], None]
"""Takes state space, threads, addresses or offsets, bytes of each access, and whether it writes."""


class Locals(Protocol):
    """A function call with variables in local memory."""

    def local_extents(self) -> list[tuple[int, int]]:
        """Offset and bytes of what its threads may access in their local memory."""


class AccessObserver(Observer):
    """Checks accesses.

    Args:
        found: Where findings go.
        memory: Regions of device memory.
        launch: What the blocks of this launch share.
        view: The block.
    """

    def __init__(self, found: Findings, memory: Regions, launch: LaunchState, view: BlockView) -> None:
        super().__init__(found, launch, view)
        self._memory = memory
        self.shared = Regions()
        for region in view.shared:
            self.shared.add(region)
        self.cluster: Sequence[AccessObserver] = (self,)
        """The observers of the blocks of its cluster, by rank."""
        self._barrier = False
        """Whether the access under way is to an mbarrier."""
        self._locals = LocalBytes(view.threads)
        self._copies = Copies(view.threads)
        self._frame: Locals | None = None
        self._variables = Regions()
        self.listener: Listener | None = None
        """Told of every access that goes ahead."""

    def reserved(self, start: int, size: int, *, written: bool) -> None:
        """A function begins, with a variable in local memory, or with a parameter, which has a value."""
        self._locals.reserve(start, size, written=written)

    def access(
        self, frame: Locals, space: str, threads: Array, places: Array, size: int, align: int, *, write: bool,
        barrier: bool = False,
    ) -> Array:  # fmt: skip
        """Threads access memory, as part of the instruction that `executing` named.

        Args:
            frame: The function that is running; its variables lie in local memory.
            space: `global`, `shared` or `local`.
            threads: Numbers of the threads in the block.
            places: uint64, address or offset in the space.
            size: Bytes of each access.
            align: What each place must be a multiple of.
            write: Whether it writes. Atomics are known by their instruction.
            barrier: Whether what is accessed is an mbarrier that the instruction reports to.

        Returns:
            Which of the accesses may go ahead.
        """
        addresses = places.astype(np.int64)
        atomic = self._current().opcode in ATOMIC_OPCODES
        atomic = atomic and not barrier
        write = write or atomic
        self._barrier = barrier or self._current().opcode == "mbarrier"
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
        if space == "local":
            self._own(regions, threads[going], addresses[going], index[going], size, write, atomic)
        else:
            for i in np.unique(index[going]):
                region = regions.regions[int(i)]
                here = going & (index == i)
                if region.freed:
                    self._use_after_free(region, space, threads[here], addresses[here], size, write=write)
                    going = going & ~here
                else:
                    self._inside(region, space, threads[here], addresses[here], size, write, atomic)
        if self.listener is not None:
            self.listener(space, threads[going], addresses[going], size, write)
        return going

    def _regions(self, space: str) -> Regions:
        if space == "shared":
            return self.shared
        if space.startswith("shared@"):
            return self.cluster[int(space[7:])].shared
        return self._memory

    def _local(self, frame: Locals) -> Regions:
        if self._frame is not frame:
            self._frame, self._variables = frame, Regions()
            for base, size in frame.local_extents():
                self._variables.add(Region(base, size))
        return self._variables

    def _own(
        self, regions: Regions, threads: Array, addresses: Array, index: Array, size: int, write: bool,
        atomic: bool,
    ) -> None:  # fmt: skip
        """An access to the threads' own local memory."""
        if not write or atomic:
            unwritten = self._locals.unwritten(threads, addresses, size, element_bytes(self._current()))
            if unwritten.any():
                region = regions.regions[int(index[unwritten][0])]
                offsets = addresses[unwritten] - region.base
                self._uninitialized(region, "local", threads[unwritten], offsets, size)
                self._locals.write(threads[unwritten], addresses[unwritten], size)
        if write:
            self._locals.write(threads, addresses, size)

    def _unawaited(
        self, region: Region, threads: Array, addresses: Array, size: int, *, write: bool, atomic: bool
    ) -> None:
        """Copies to shared memory: reads of what they have not written yet."""
        instruction = self._current()
        if not write or atomic:
            early = self._copies.unsettled(addresses, size)
            if early.any():
                offset = int(addresses[early][0]) - region.base
                place = place_of(region, "shared", offset, size)
                text = f"{self._verb(write)} {place.text}, which an asynchronous copy may still be writing"
                self._report(
                    "unawaited-copy", instruction, threads[early], text, space="shared", region=region,
                    offset=offset, size=size,
                )  # fmt: skip
        else:
            copies = instruction.opcode == "cp" and not {"bulk", "mbarrier"} & set(instruction.modifiers)
            self._copies.write(threads, addresses, size, copies=copies)

    def _inside(
        self, region: Region, space: str, threads: Array, addresses: Array, size: int, write: bool,
        atomic: bool,
    ) -> None:  # fmt: skip
        offsets = addresses - region.base
        index = offsets[:, None] + np.arange(size)
        if (not write or atomic) and not region.complete:
            unwritten = ~region.written[index].all(axis=1)
            if unwritten.any():
                self._uninitialized(region, space, threads[unwritten], offsets[unwritten], size)
                # Each hole is told once.
                region.written[index] = True
        if write:
            region.written[index] = True
        if space == "shared":
            self._unawaited(region, threads, addresses, size, write=write, atomic=atomic)
        instruction = self._current()
        if self._barrier:
            waits = any(m in ("test_wait", "try_wait") for m in instruction.modifiers)
            (self._order.observe if waits else self._order.publish)(self._place(space), threads, addresses)
            return
        if any(m in STRONG for m in instruction.modifiers) and not atomic:
            self._order.strong(self._place(space), threads, addresses, writes=write)
            return
        if id(instruction) in self._launch.optimistic:
            return
        kind = "atomic" if atomic else "write" if write else "read"
        self._race(region, space, kind, threads, offsets, size)
        if atomic:
            self._order.strong(self._place(space), threads, addresses, writes=True)

    def _place(self, space: str) -> str:
        """The space's name among all blocks: each has shared memory of its own."""
        if not space.startswith("shared"):
            return space
        owner = self.cluster[int(space[7:])] if "@" in space else self
        return f"shared@{owner.view.number}"

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
