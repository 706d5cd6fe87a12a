"""What an observer knows about its block, and how it reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tessera.emulator.describe import place_of
from tessera.emulator.findings import BlockStoppedError, Finding, Findings, Other, Point
from tessera.emulator.lanes import Array
from tessera.emulator.ordering import BlockOrder, GridOrder
from tessera.emulator.ptx import Instruction
from tessera.emulator.shadow import Region

ATOMIC_OPCODES = ("atom", "red", "multimem")


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


class Observer:
    """One block: where it stands, what order its threads are in, and what is said about them.

    Args:
        found: Where findings go.
        launch: What the blocks of this launch share.
        view: The block.
    """

    def __init__(self, found: Findings, launch: LaunchState, view: BlockView) -> None:
        self.view = view
        self._found = found
        self._launch = launch
        self._order = BlockOrder(launch.order, view.number, view.threads)
        self._instruction: Instruction | None = None
        self._threads: Array = np.zeros(1, np.int64)

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
        self._found.add(
            self._finding(
                kind, instruction, threads, text, space=space, region=region, offset=offset, size=size, at=at,
                other=other, count=times,
            )
        )  # fmt: skip

    def _finding(
        self, kind: str, instruction: Instruction, threads: Array, text: str, *, space: str = "",
        region: Region | None = None, offset: int = 0, size: int | None = None, at: int | None = None,
        other: Other | None = None, count: int = 1,
    ) -> Finding:  # fmt: skip
        view = self.view
        place = place_of(region, space, offset, size or 1) if region is not None else None
        return Finding(
            kind=kind,
            message=text,
            kernel=view.kernel,
            file=view.files.get(instruction.file, ""),
            line=instruction.source_line,
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
            count=count,
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
