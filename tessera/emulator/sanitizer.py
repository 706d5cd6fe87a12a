"""The sanitizer: an observer that an engine tells about memory accesses and synchronization.

An engine makes a `Watch` for every block it runs and calls it; the answers say which accesses may go ahead.
The sanitizer neither reads nor writes the program's memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tessera.emulator.findings import Finding, Findings
from tessera.emulator.idioms import optimistic_loads
from tessera.emulator.observed import BlockView, LaunchState
from tessera.emulator.ptx import TYPE_BYTES, Module, Variable
from tessera.emulator.shadow import Region, Regions
from tessera.emulator.watch import Watch

if TYPE_CHECKING:
    from tessera.emulator.lockstep import BlockRun

GAP = 1 << 18
"""Bytes between allocations while sanitizing: an access that misses an array by less is still known by it."""
SPACING = 256
"""Bytes between variables of a block's shared memory and of a thread's local memory while sanitizing."""


@dataclass(frozen=True, slots=True)
class SharedArray:
    """How the source calls a shared array."""

    name: str
    itemsize: int
    shape: tuple[int, ...]


class Sanitizer:
    """Watches launches and collects what is wrong with them.

    Args:
        limit: Kinds and lines of findings after which the run ends.
        block_steps: Basic blocks that one block of threads may execute before it counts as runaway.
    """

    gap = GAP
    spacing = SPACING

    def __init__(self, *, limit: int = 100, block_steps: int = 2_000_000) -> None:
        self.found = Findings(limit)
        self.block_steps = block_steps
        self.regions = Regions()
        self.shared_names: dict[str, Sequence[SharedArray]] = {}
        """By kernel: its shared arrays in the order of the source, for messages."""
        self._launch = LaunchState()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found so far: one `Finding` per kind and line."""
        return self.found.all()

    # -- device memory ----------------------------------------------------------------------------

    def allocated(self, address: int, size: int, name: str | None = None) -> Region:
        """Memory was allocated; its contents are arbitrary."""
        return self.regions.add(Region(address, size, name))

    def describe(
        self, address: int, name: str, *, itemsize: int | None = None, shape: tuple[int, ...] | None = None
    ) -> None:
        """Say what the allocation at an address is."""
        region = self.regions.at(address)
        if region is not None:
            region.name, region.itemsize, region.shape = name, itemsize, shape

    def freed(self, address: int) -> None:
        """Memory was given back; its addresses stay unusable."""
        self.regions.heap.pop(address, None)
        region = self.regions.at(address)
        if region is not None:
            region.freed = True

    def finish(self) -> None:
        """The run is over: memory that kernels took and nobody gave back is lost.

        Raises:
            TooManyFindingsError: There are enough findings.
        """
        lost, self.regions.heap = self.regions.heap, {}
        for finding in lost.values():
            self.found.merge(finding)

    def reclaimed(self, start: int) -> None:
        """All memory from an address on will be handed out anew."""
        for region in [r for r in self.regions.regions if r.base >= start]:
            self.regions.forget(region)

    def forget(self, start: int, end: int) -> None:
        """Addresses in this range mean nothing any more."""
        for region in [r for r in self.regions.regions if start <= r.base < end or r.base == start]:
            self.regions.forget(region)

    def carve(self, address: int, parts: Sequence[tuple[int, int, str]]) -> None:
        """An allocation is an arena: only its parts (offset, bytes, name) may be accessed."""
        region = self.regions.at(address)
        if region is None:
            return
        self.regions.forget(region)
        for offset, size, name in parts:
            self.regions.add(Region(address + offset, size, name))

    def host_wrote(self, address: int, size: int) -> None:
        """The host copied bytes to the device."""
        region = self.regions.holding(address)
        if region is not None:
            region.wrote(address - region.base, size)

    # -- launches ---------------------------------------------------------------------------------

    def begin_launch(self, module: Module) -> None:
        """A kernel of a module starts: what happened before is in order with everything it does."""
        self._launch = LaunchState(optimistic=optimistic_loads(module))
        self.regions.forget_touches()

    def watch(self, view: BlockView) -> Watch:
        """The observer of one block of threads."""
        return Watch(self.found, self.regions, self._launch, view, self.block_steps)

    def watch_block(self, run: BlockRun) -> Watch:
        """The observer of a block that the lockstep interpreter begins."""
        module, kernel = run.machine.module, run.function.name
        dynamic = (len(run.shared) - run.dynamic_bytes, run.dynamic_bytes)
        shared = self._shared_regions(kernel, module, run.shared_at, dynamic)
        where = run.geometry
        return self.watch(BlockView(kernel, module.files, where.grid, where.block, where.index, shared))

    def _shared_regions(
        self, kernel: str, module: Module, places: Mapping[str, int], dynamic: tuple[int, int]
    ) -> list[Region]:
        variables = [v for v in module.variables.values() if v.space == "shared"]
        variables += [v for f in module.functions.values() for v in f.variables if v.space == "shared"]
        sized = [v for v in variables if v.count and not v.external and v.name in places]
        given = self.shared_names.get(kernel, ())
        names = [n for n in given if 0 not in n.shape]
        open_ended = [n for n in given if n.shape == (0,)]
        found = [_shared_region(v, places[v.name], i, len(sized), names) for i, v in enumerate(sized)]
        if dynamic[1]:
            region = Region(dynamic[0], dynamic[1], "dynamic shared memory")
            if len(open_ended) == 1:
                (only,) = open_ended
                count = dynamic[1] // only.itemsize
                region.name, region.itemsize, region.shape = only.name, only.itemsize, (count,)
            found.append(region)
        return found


def _shared_region(
    variable: Variable, base: int, index: int, count: int, names: Sequence[SharedArray]
) -> Region:
    size = TYPE_BYTES[variable.type] * variable.count
    if count == len(names):
        known = names[index]
        elements = 1
        for length in known.shape:
            elements *= length
        if elements * known.itemsize == size:
            return Region(base, size, known.name, known.itemsize, known.shape)
    return Region(base, size, variable.name)
