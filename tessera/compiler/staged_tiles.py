"""Tiles of operands that a block keeps in shared memory, several at a time: some arrive as one is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar


@dataclass(frozen=True, slots=True)
class StagedTiles:
    """The operands' tiles of a product: `rows` lines of the left one, `columns` of the right one."""

    rows: int
    columns: int
    stages: int
    """Tiles of both operands in shared memory."""
    line_bytes: ClassVar[int]
    """Bytes of a line, the depth of a tile."""

    @property
    def stage_bytes(self) -> int:
        """Shared memory of a tile of both operands."""
        return (self.rows + self.columns) * self.line_bytes


class _Shared(Protocol):
    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""


Tiles = TypeVar("Tiles", bound=_Shared)


def with_most_stages(make: Callable[[int], Tiles], least: int, most: int, shared_bytes: int) -> Tiles | None:
    """The tiles with as many stages as fit; None where not even the least do.

    Args:
        make: The tiles with a number of stages.
        least: Fewest stages.
        most: Most stages.
        shared_bytes: Most shared memory of a block.
    """
    sizes = (make(stages) for stages in range(most, least - 1, -1))
    return next((tiles for tiles in sizes if tiles.shared_bytes <= shared_bytes), None)
