"""Operands of tensor cores in shared memory: where each byte of a tile lies, and how fragments are read.

A tile of an operand is `outer` lines (rows of A, columns of B) by 64 bytes of depth. It lies line by line
(`Lines`) where neighbours in memory are neighbours along the depth, and depth by depth (`Slices`,
`WideSlices`) where they are neighbours across. 16-byte chunks are exchanged within 128 bytes by their row
("swizzled"), so that neither copies nor `ldmatrix` meet in a bank: eight threads that read together read
eight different chunks.

Source of the fragments: PTX ISA 8.8, "Matrix Fragments for mma.m16n8k16" and its neighbours; `ldmatrix`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

DEPTH_BYTES = 64
"""Bytes of depth of a tile: two steps of the instructions, 32 bytes each."""
STEPS = 2
"""Instruction steps of a tile."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """16 bytes that a thread copies, in terms of its number `thread`."""

    to: str
    """Bytes from the tile's start."""
    line: str
    """Line of the operand, from the tile's first."""
    depth: str
    """Element along the depth, from the tile's first."""
    passes: int
    """How many such chunks a thread copies."""
    line_step: int
    """Lines from one pass to the next."""
    depth_step: int
    """Elements of depth from one pass to the next."""
    to_step: int
    """Bytes of the tile from one pass to the next."""


@dataclass(frozen=True, slots=True)
class Word:
    """4 bytes that a thread puts together, in terms of `word`, its number in the tile."""

    to: str
    """Bytes from the tile's start."""
    elements: tuple[tuple[str, str], ...]
    """Line and depth of each element, low bits first."""


class Shape(Protocol):
    """An operand's tile as copies see it."""

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""

    @property
    def bytes(self) -> int:
        """Bytes of a tile."""

    @property
    def depth(self) -> int:
        """Elements of depth of a tile."""

    def chunk(self, threads: int) -> Chunk:
        """What a thread copies of a tile."""


class Layout(ABC):
    """One operand's tile.

    Args:
        left: Whether this is A, of fragments of 16 lines, rather than B, of 8.
        outer: Lines of the tile.
        warp_outer: Lines of a warp.
        itemsize: Bytes of an element.
    """

    along_depth = True
    """Whether neighbours in memory are neighbours along the depth."""

    def __init__(self, *, left: bool, outer: int, warp_outer: int, itemsize: int) -> None:
        self.left, self.outer, self.warp_outer = left, outer, warp_outer
        self._itemsize = itemsize

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self._itemsize

    @property
    def bytes(self) -> int:
        """Bytes of a tile."""
        return self.outer * DEPTH_BYTES

    @property
    def depth(self) -> int:
        """Elements of depth of a tile."""
        return DEPTH_BYTES // self.itemsize

    @abstractmethod
    def chunk(self, threads: int) -> Chunk:
        """What a thread copies of a tile."""

    @abstractmethod
    def word(self) -> Word:
        """What a thread puts together of a tile."""

    @abstractmethod
    def origin(self, warp: str) -> str:
        """Where a lane begins to read: bytes from the tile's start, in terms of `lane` and its warp."""

    @abstractmethod
    def fragment(self, at: str, number: int, step: int) -> str:
        """Four registers: a fragment of A, or two of B, read from tile address `at` plus origin.

        Args:
            at: Name of the tile's address plus the origin.
            number: Which 16 lines of the warp's.
            step: Which 32 bytes of depth.
        """


class Lines(Layout):
    """Line after line of 64 bytes; chunks exchanged by bits 1 and 2 of the line."""

    def chunk(self, threads: int) -> Chunk:
        """Four threads a line."""
        per_pass = threads // 4
        each = 16 // self.itemsize
        return Chunk(
            to="(thread >> 2) * 64 + (((thread & 3) ^ ((thread >> 3) & 3)) << 4)",
            line="(thread >> 2)",
            depth=f"(thread & 3) * {each}",
            passes=self.outer // per_pass,
            line_step=per_pass,
            depth_step=0,
            to_step=per_pass * DEPTH_BYTES,
        )

    def word(self) -> Word:
        """Neighbours along the depth, or across where memory lies so."""
        per = 4 // self.itemsize
        shift = self.outer.bit_length() - 1
        line, column = (
            ("(word >> 4)", "(word & 15)")
            if self.along_depth
            else (f"(word & {self.outer - 1})", f"(word >> {shift})")
        )
        to = f"{line} * 64 + ((({column} >> 2) ^ (({line} >> 1) & 3)) << 4) + ({column} & 3) * 4"
        return Word(to, tuple((line, f"{column} * {per} + {e}") for e in range(per)))

    def origin(self, warp: str) -> str:
        """Lanes give the addresses of lines: A's halves of lines, then of depth; B's the other way."""
        if self.left:
            line, half = "(lane & 15)", "(lane >> 4)"
        else:
            line, half = "((lane & 7) + ((lane >> 4) << 3))", "((lane >> 3) & 1)"
        return f"({warp} * {self.warp_outer} + {line}) * 64 + (({half} ^ ((lane >> 1) & 3)) << 4)"

    def fragment(self, at: str, number: int, step: int) -> str:
        """The chunk two further on is the one with bit 1 exchanged."""
        address = f"({at} ^ {32 * step})" if step else at
        return f"gpu.ldmatrix_x4({address} + {number * 16 * DEPTH_BYTES})"


class ByteLines(Lines):
    """The same for 8-bit operands whose neighbours in memory are neighbours across: made of bytes."""

    along_depth = False


class Slices(Layout):
    """Depth after depth, 16-bit elements; chunks exchanged by the low 3 bits of the depth."""

    along_depth = False
    pattern = "({depth} & 7)"

    @property
    def row(self) -> int:
        """Bytes of one depth."""
        return self.outer * self.itemsize

    def chunk(self, threads: int) -> Chunk:
        """Neighbouring threads along a depth."""
        per_row = self.row // 16
        depth, column = f"(thread >> {per_row.bit_length() - 1})", f"(thread & {per_row - 1})"
        per_pass = threads // per_row
        return Chunk(
            to=f"{depth} * {self.row} + (({column} ^ {self.pattern.format(depth=depth)}) << 4)",
            line=f"{column} * {16 // self.itemsize}",
            depth=depth,
            passes=self.depth // per_pass,
            line_step=0,
            depth_step=per_pass,
            to_step=per_pass * self.row,
        )

    def word(self) -> Word:
        """Neighbours across."""
        per = 4 // self.itemsize
        words = self.row // 4
        depth, column = f"(word >> {words.bit_length() - 1})", f"(word & {words - 1})"
        place = f"((({column} >> 2) ^ {self.pattern.format(depth=depth)}) << 4) + ({column} & 3) * 4"
        return Word(
            f"{depth} * {self.row} + {place}", tuple((f"{column} * {per} + {e}", depth) for e in range(per))
        )

    def origin(self, warp: str) -> str:
        """Lanes give the addresses of depths; the loads transpose."""
        low, high = "((lane >> 3) & 1)", "(lane >> 4)"
        half, across = (high, low) if self.left else (low, high)
        chunk = f"({warp} * {self.warp_outer * self.itemsize // 16} + {across})"
        return f"((lane & 7) + ({half} << 3)) * {self.row} + (({chunk} ^ (lane & 7)) << 4)"

    def fragment(self, at: str, number: int, step: int) -> str:
        """The next 16 lines are two chunks further on, and their number's bits are free in the origin's."""
        address = f"({at} ^ {32 * number})" if number else at
        return f"gpu.ldmatrix_x4_trans({address} + {step * 16 * self.row})"


class WideSlices(Slices):
    """The same for 32-bit elements, which `ldmatrix` cannot transpose: each register is a load of its own."""

    pattern = "(({depth} & 3) << 1)"

    def origin(self, warp: str) -> str:
        """A lane reads at its own depth and line."""
        chunk = f"({warp} * {self.warp_outer // 4} + (lane >> 4))"
        place = f"(({chunk} ^ ((lane & 3) << 1)) << 4) + ((lane >> 2) & 3) * 4"
        return f"(lane & 3) * {self.row} + {place}"

    def fragment(self, at: str, number: int, step: int) -> str:
        """Lines of 8 further on are two chunks further on; depths of 4 keep the exchange."""
        loads = []
        for half in (0, 1):
            for group in (0, 1):
                place = f"({at} ^ {64 * number + 32 * group})" if number or group else at
                loads.append(f"gpu.load_shared_u32({place} + {(step * 8 + half * 4) * self.row})")
        if not self.left:
            # B: both halves of depth of the first 8 lines, then of the next.
            loads = [loads[0], loads[2], loads[1], loads[3]]
        return f"({', '.join(loads)})"


_ACROSS: dict[int, type[Layout]] = {1: ByteLines, 2: Slices, 4: WideSlices}
"""Layouts of operands whose neighbours in memory are neighbours across the depth, by bytes of an element."""


def choose_layout(*, left: bool, outer: int, warp_outer: int, itemsize: int, along_depth: bool) -> Layout:
    """The layout of an operand's tile.

    Args:
        left: Whether it is A.
        outer: Lines of the tile.
        warp_outer: Lines of a warp.
        itemsize: Bytes of an element.
        along_depth: Whether neighbours in memory are neighbours along the depth.
    """
    kind: type[Layout] = Lines if along_depth else _ACROSS[itemsize]
    return kind(left=left, outer=outer, warp_outer=warp_outer, itemsize=itemsize)
