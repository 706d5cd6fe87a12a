"""LLVM IR that reads tiles of matrices in shared memory, as the descriptors of `wgmma` say where they lie.

A tile has 8 lines of 16 bytes. It becomes what a register of an `mma` fragment holds: lane 4 * line + member
has 4 of its bytes.

Source: PTX ISA 8.8, section 9.7.15.5.1.2 (shared memory matrix layout, matrix descriptor).
"""

from __future__ import annotations

from tessera.emulator.emit_ir import Value
from tessera.emulator.matrix_code import Code
from tessera.emulator.matrix_rows import joined, turned

LINES = 8
V8 = f"<{LINES} x i64>"


class SharedMatrix:
    """A matrix in shared memory, its descriptor taken apart.

    Args:
        w: Where the code goes.
        name: Begins the names of values.
        descriptor: 64 bits.
        across: Whether its lines run along the rows of A or the columns of B, not along k; elements of
            16 bits do.
    """

    def __init__(self, w: Code, name: str, descriptor: str, *, across: bool) -> None:
        self.w, self.across = w, across
        self.start = self._field(descriptor, 0)
        leading, stride = self._field(descriptor, 16), self._field(descriptor, 32)
        mode = w.let(f"lshr i64 {descriptor}, 62", name)
        plain = w.let(f"icmp eq i64 {mode}, 0")
        # Modes 1, 2 and 3 swizzle lines of 128, 64 and 32 bytes.
        self.shift = w.let(f"select i1 {plain}, i64 4, i64 {w.let(f'sub i64 8, {mode}')}")
        self.width = w.let(f"shl i64 1, {self.shift}")
        self.chunks = w.let(f"sub i64 {w.let(f'lshr i64 {self.width}, 4')}, 1")
        if across:
            self.along_k = w.let(f"select i1 {plain}, i64 {leading}, i64 {stride}")
            self.along_lines = w.let(f"select i1 {plain}, i64 {stride}, i64 {leading}")
        else:
            self.along_k = w.let(f"select i1 {plain}, i64 {leading}, i64 16")
            self.along_lines = stride

    def _field(self, descriptor: str, shift: int) -> str:
        moved = self.w.let(f"lshr i64 {descriptor}, {shift}")
        return self.w.let(f"shl i64 {self.w.let(f'and i64 {moved}, 16383')}, 4")

    def tile(self, group: str, step: int) -> Value:
        """Read a tile, transposed if the matrix runs `across`; leaves the function if it lies outside.

        Args:
            group: Which 8 rows of A or columns of B (i64).
            step: Which 16 bytes along k.
        """
        w = self.w
        places = self._places(group, step)
        parts = []
        for line in range(LINES):
            offset = w.let(f"extractelement {V8} {places}, i32 {line}")
            place = w.let(f"getelementptr i8, ptr %shared, i64 {offset}")
            parts.append(w.let(f"load <4 x i32>, ptr {place}, align 16"))
        tile = joined(w, parts)
        return Value(turned(w, tile) if self.across else tile, 32, vector=True)

    def _places(self, group: str, step: int) -> str:
        """Checked offsets of the 8 lines."""
        w = self.w
        first = w.let(f"add i64 {self.start}, {w.let(f'mul i64 {self.along_k}, {step}')}")
        if self.across:
            column = w.let(f"shl i64 {group}, 4")
            far = w.let(f"mul i64 {w.let(f'lshr i64 {column}, {self.shift}')}, {self.along_lines}")
            inside = w.let(f"and i64 {column}, {w.let(f'sub i64 {self.width}, 1')}")
            more = w.let(f"add i64 {far}, {inside}")
        else:
            more = w.let(f"mul i64 {group}, {self.along_lines}")
        first = w.let(f"add i64 {first}, {more}")
        numbers = ", ".join(f"i64 {i}" for i in range(LINES))
        steps = w.let(f"mul {V8} {self._every(self.width)}, <{numbers}>")
        plain = w.let(f"add {V8} {self._every(first)}, {steps}")
        high = w.let(f"lshr {V8} {plain}, {_constants(7)}")
        chunk = w.let(f"and {V8} {high}, {self._every(self.chunks)}")
        mixed = w.let(f"xor {V8} {plain}, {w.let(f'shl {V8} {chunk}, {_constants(4)}')}")
        w.declared.add(f"declare i64 @llvm.vector.reduce.umax.v{LINES}i64({V8})")
        highest = w.let(f"call i64 @llvm.vector.reduce.umax.v{LINES}i64({V8} {mixed})")
        far_out = w.let(f"icmp ugt i64 {w.let(f'add i64 {highest}, 16')}, %limit")
        fine = w.name("fine")[1:]
        w.raw(f"  store i64 {highest}, ptr %outside.at")
        w.raw(f"  br i1 {far_out}, label %outside, label %{fine}")
        w.label(fine)
        return mixed

    def _every(self, number: str) -> str:
        one = self.w.let(f"insertelement {V8} poison, i64 {number}, i32 0")
        return self.w.let(f"shufflevector {V8} {one}, {V8} poison, <{LINES} x i32> zeroinitializer")


def _constants(number: int) -> str:
    return "<" + ", ".join([f"i64 {number}"] * LINES) + ">"
