"""Where a block of threads stands in its grid and in its cluster."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tessera.emulator.ptx import Function
from tessera.program.errors import KernelError

Point = tuple[int, int, int]
"""x, y, z."""
ALONE: Point = (1, 1, 1)
"""The size of a cluster that is one block."""
PORTABLE_CLUSTER = 8
"""Most blocks of a cluster on every GPU that has clusters."""
LARGEST_CLUSTER = 16
"""Most blocks of a cluster on a GPU that allows more. Source: CUDA C++ Programming Guide, "Thread Block
Clusters"."""
RANK_SHIFT = 24
"""An address in the shared memory of a cluster's block holds, from this bit on, the block's rank plus 1; 0 is
the block that uses it."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where one block stands in its grid."""

    grid: Point
    block: Point
    """Threads by axis."""
    index: Point
    """Which block of the grid."""
    cluster: Point = ALONE
    """Blocks of a cluster by axis."""
    explicit: bool = False
    """Whether the launch asked for clusters."""

    @property
    def threads(self) -> int:
        """Threads of the block."""
        return math.prod(self.block)

    @property
    def number(self) -> int:
        """The block's number in its grid."""
        x, y, z = self.index
        return x + self.grid[0] * (y + self.grid[1] * z)

    @property
    def clusters(self) -> Point:
        """Clusters of the grid by axis."""
        x, y, z = (g // c for g, c in zip(self.grid, self.cluster, strict=True))
        return x, y, z

    @property
    def cluster_index(self) -> Point:
        """Which cluster of the grid the block belongs to."""
        x, y, z = (i // c for i, c in zip(self.index, self.cluster, strict=True))
        return x, y, z

    @property
    def place(self) -> Point:
        """Where it stands in its cluster."""
        x, y, z = (i % c for i, c in zip(self.index, self.cluster, strict=True))
        return x, y, z

    @property
    def rank(self) -> int:
        """Its number in the cluster."""
        x, y, z = self.place
        return x + self.cluster[0] * (y + self.cluster[1] * z)


def points(sizes: Point) -> Iterator[Point]:
    """Every point of a box, x first."""
    for z in range(sizes[2]):
        for y in range(sizes[1]):
            for x in range(sizes[0]):
                yield x, y, z


def cluster_at(grid: Point, cluster: Point, number: int) -> list[Point]:
    """The blocks of a cluster, by rank; clusters count along x first."""
    counts = (grid[0] // cluster[0], grid[1] // cluster[1], grid[2] // cluster[2])
    base = (number % counts[0], number // counts[0] % counts[1], number // (counts[0] * counts[1]))
    corner = [b * c for b, c in zip(base, cluster, strict=True)]
    return [(corner[0] + x, corner[1] + y, corner[2] + z) for x, y, z in points(cluster)]


def three(sizes: Sequence[int] | int) -> Point:
    """Sizes along x, y and z.

    Raises:
        KernelError: There are none, more than three, or one that is not a whole number.
    """
    given = tuple(sizes) if isinstance(sizes, Sequence) else (sizes,)
    if not 1 <= len(given) <= 3:
        raise KernelError(f"sizes have one to three axes, not {len(given)}")
    try:
        x, y, z = (*(operator.index(v) for v in given), 1, 1)[:3]
    except TypeError:
        raise KernelError(
            f"a grid or block of {sizes!r} is not made of whole numbers", hint="round up: -(-n // 256)"
        ) from None
    return x, y, z


def cluster_size(function: Function, grid: Point, wanted: Sequence[int] | int | None) -> tuple[Point, bool]:
    """The cluster of a launch, and whether anybody asked for one.

    Args:
        function: The kernel; `.reqnctapercluster` fixes its cluster.
        grid: Blocks by axis.
        wanted: What the launch asks for; None: what the kernel does.

    Raises:
        KernelError: The kernel or the grid does not allow it.
    """
    required = function.directives.get("reqnctapercluster") or ()
    declared = three(required) if required else None
    asked = None if wanted is None else three(wanted)
    if declared is not None and asked is not None and declared != asked:
        raise KernelError(
            f"{function.name} is compiled for clusters of {declared} blocks, the launch asks for {asked}",
            hint=f"cluster={declared}, or leave it out",
        )
    found = declared or asked
    if found is None:
        return ALONE, "explicitcluster" in function.directives
    size = math.prod(found)
    if min(found) < 1 or size > LARGEST_CLUSTER:
        raise KernelError(
            f"a cluster of {found} blocks: the largest has {LARGEST_CLUSTER}, {PORTABLE_CLUSTER} on every GPU"
        )
    if any(g % c for g, c in zip(grid, found, strict=True)):
        raise KernelError(
            f"a grid of {grid} blocks does not divide into clusters of {found}",
            hint="round each side of the grid up to a multiple of the cluster's",
        )
    return found, True
