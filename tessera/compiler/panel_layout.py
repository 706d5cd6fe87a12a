"""Tiles of 16-bit rows in shared memory: columns in panels of 64 or 32, without bank conflicts.

A panel of 64 columns has rows of 128 bytes, whose eight 16-byte chunks are exchanged by the low 3 bits of the
row; the last panel may have 32 columns, rows of 64 bytes and four chunks, exchanged by bits 1 and 2. Eight
threads that read or write together then meet eight different chunks. `wgmma` reads panels of 64, too.

Source: PTX ISA 8.8, "Matrix Fragments for mma.m16n8k16", `ldmatrix`, and "Shared Memory Matrix Layout".
"""

from __future__ import annotations

from dataclasses import dataclass

from tessera.compiler.body import Body
from tessera.compiler.operand_view import Strided
from tessera.program.dim import Dim

ITEM_BYTES = 2
CHUNK_BYTES = 16
"""Bytes of one asynchronous copy."""
NARROW = 32
"""Columns of the last panel where no 64 are left; tiles are padded to a multiple of this."""
WIDE = 64
"""Columns of the others."""
MOST_NARROW = 192
"""From more columns on, all panels are wide."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Some columns of a tile."""

    first: int
    """The first column."""
    width: int
    offset: int
    """Bytes of the tile before it."""

    @property
    def pitch(self) -> int:
        """Bytes of a row."""
        return self.width * ITEM_BYTES


@dataclass(frozen=True, slots=True)
class Panels:
    """A tile of `rows` by `columns` elements, the latter a multiple of 32."""

    rows: int
    columns: int

    @property
    def bytes(self) -> int:
        """Bytes of the tile."""
        return self.rows * self.columns * ITEM_BYTES

    @property
    def all(self) -> tuple[Panel, ...]:
        """The panels, in order."""
        return tuple(
            Panel(first, min(WIDE, self.columns - first), first * self.rows * ITEM_BYTES)
            for first in range(0, self.columns, WIDE)
        )

    @property
    def widths(self) -> tuple[int, ...]:
        """The widths that occur."""
        return tuple(dict.fromkeys(panel.width for panel in self.all))

    def address(self, at: str, column: int, row: int) -> str:
        """Where a lane reads for 16 rows and 16 columns, `{at}64` and `{at}32` being its origins."""
        panel = self.all[column // WIDE]
        step = (column - panel.first) // 16
        name = f"{at}{panel.width}"
        # The next 16 columns are two chunks further on: their number's bits are free in the origin's.
        return f"{f'({name} ^ {32 * step})' if step else name} + {panel.offset + row * panel.pitch}"


def padded(columns: int) -> int:
    """Columns of the tile that holds so many."""
    # The few rows that fit such wide tiles leave too little in a narrow panel for all threads to copy.
    unit = NARROW if columns <= MOST_NARROW else WIDE
    return -(-columns // unit) * unit


def lane_origin(width: int, *, by_column: bool) -> str:
    """Where a lane begins to read in a panel, in bytes, in terms of `lane`.

    Args:
        width: Columns of the panel.
        by_column: Whether `ldmatrix_x4` loads a right operand whose columns are the tile's rows; else a left
            operand, or, transposing, a right operand as it lies.
    """
    row, half = (
        ("((lane & 7) + ((lane >> 4) << 3))", "((lane >> 3) & 1)")
        if by_column
        else ("(lane & 15)", "(lane >> 4)")
    )
    return f"{row} * {width * ITEM_BYTES} + (({half} ^ {_exchange('lane', width)}) << 4)"


def _exchange(row: str, width: int) -> str:
    """What the number of a chunk is combined with."""
    return f"({row} & 7)" if width == WIDE else f"(({row} >> 1) & 3)"


@dataclass(frozen=True, slots=True)
class TileCopies:
    """Writes how a block brings tile after tile of one operand into shared memory; 0 outside of it."""

    body: Body
    prefix: str
    """What its names begin with."""
    view: Strided
    """The operand; its last axis lies in order."""
    panels: Panels
    columns: int
    """Columns of the operand."""
    size: Dim
    """Rows of the operand."""
    threads: int

    def prepare(self, base: str, first: str) -> None:
        """The thread's first chunk of each width of panel.

        Args:
            base: Elements in memory before the matrix.
            first: Row of the matrix that the first tile begins with.
        """
        writer, p = self.body.writer, self.prefix
        pointer = self.body.pointer(self.view.node)
        stride = writer.size(self.view.strides[-2])
        for width in self.panels.widths:
            chunks = width * ITEM_BYTES // CHUNK_BYTES
            shift = chunks.bit_length() - 1
            row, chunk = f"(thread >> {shift})", f"(thread & {chunks - 1})"
            name = f"{p}{width}"
            writer.line(f"{name}_row = {first} + {row}")
            writer.line(f"{name}_left = {writer.size(self.size)} - {name}_row")
            start = f"{base} + {name}_row * {stride} + {chunk} * {CHUNK_BYTES // ITEM_BYTES}"
            writer.line(f"{name}_from = int64(gpu.address({pointer}, {start}))")
            to = f"{row} * {width * ITEM_BYTES} + (({chunk} ^ {_exchange(row, width)}) << 4)"
            writer.line(f"{name}_to = int64({to})")
            writer.line(f"{name}_column = {chunk} * {CHUNK_BYTES // ITEM_BYTES}")
            writer.line(f"{name}_apart = int64({self._rows(width) * ITEM_BYTES} * {stride})")
        writer.line(f"{p}_next = int64({self.panels.rows * ITEM_BYTES} * {stride})")

    def _rows(self, width: int) -> int:
        """Rows that all threads copy at a time."""
        return self.threads * CHUNK_BYTES // (width * ITEM_BYTES)

    def begin(self, slot: str) -> None:
        """Start to copy a tile to the address `slot`, and go on to the next."""
        writer, p = self.body.writer, self.prefix
        for panel in self.panels.all:
            name, rows = f"{p}{panel.width}", self._rows(panel.width)
            for number in range(self.panels.rows // rows):
                # Products rather than `and`: a branch less for Numba, whose time grows with them.
                inside = f"int64({name}_left > {number * rows})"
                if panel.first + panel.width > self.columns:
                    inside += f" * int64({name}_column < {self.columns - panel.first})"
                to = f"{slot} + {name}_to + {panel.offset + number * rows * panel.pitch}"
                source = f"{name}_from + {number} * {name}_apart + {panel.first * ITEM_BYTES}"
                writer.line(f"gpu.cp_async_16_fill({to}, {source}, {CHUNK_BYTES} * {inside})")
        for width in self.panels.widths:
            writer.line(f"{p}{width}_from += {p}_next")
            writer.line(f"{p}{width}_left -= {self.panels.rows}")
