"""Windows gathered into shared memory by 16-byte copies, zeros where a window reaches beyond its tensor."""

from __future__ import annotations

import math

from tessera.compiler.index import Index
from tessera.compiler.matmul_operand import CHUNK_BYTES, Copies
from tessera.compiler.patches import Patches
from tessera.program.dim import product


class PatchCopies(Copies):
    """A thread keeps where the windows of its lines begin, and goes through the depth in step with them.

    Its place in the depth is a number of mixed radix: along each axis of the window, then the channel. A
    tile further on is one addition with carries.
    """

    def prepare(self) -> None:
        """Where the thread's lines begin, and its first place in the depth."""
        side, writer, patches = self.side, self.writer, self.patches
        self.kind = "int32" if patches.narrow else "int64"
        chunk = self.chunk = side.layout.chunk(self.threads)
        p = side.prefix
        pointer = self.body.pointer(patches.node)
        writer.line(f"{p}_to = int64({chunk.to})")
        shape = self.batch_shape
        whole = Index(writer, shape, ((len(shape), self.batch),)) if shape else None
        start = writer.mul(whole.position, writer.size(patches.batch_stride)) if whole else "0"
        writer.line(f"{p}_base = int64(gpu.address({pointer}, int64({start})))")
        for i in range(chunk.passes):
            self._begin_line(i, f"{side.first} + {chunk.line} + {i * chunk.line_step}")
        writer.line(f"{p}_depth = int64({chunk.depth})")
        writer.line(f"{p}_left = {writer.size(side.depth)} - {p}_depth")
        self.skip("int64(0)")

    @property
    def patches(self) -> Patches:
        """The operand."""
        assert self.side.patches is not None  # noqa: S101 - asked of windows alone
        return self.side.patches

    def _begin_line(self, number: int, line: str) -> None:
        """Coordinates of a line's first element, far outside for lines that are not there."""
        writer, patches, p = self.writer, self.patches, self.side.prefix
        places = writer.let(f"{p}_place", line)
        index = Index(writer, patches.places, ((len(patches.places), places),))
        area = writer.size(product(patches.places))
        offsets = []
        for axis, (move, before) in enumerate(zip(patches.moves, patches.before, strict=True)):
            at = f"{index.axis(axis)} * {move} - {before}"
            far = -(1 << 29) if self.kind == "int32" else -(1 << 60)
            name = f"{p}_at{number}_{axis}"
            text = f"({at} if {places} < {area} else {far})" if axis == 0 else at
            writer.line(f"{name} = {self.kind}({text})")
            offsets.append(f"int64({name}) * {writer.size(patches.strides[axis])}")
        if set(patches.spread) == {1}:
            size = self.side.layout.itemsize
            writer.line(f"{p}_from{number} = {p}_base + ({' + '.join(offsets)}) * {size}")

    def skip(self, tiles: str) -> None:
        """Set the place in the depth, so many tiles further on."""
        writer, patches, p = self.writer, self.patches, self.side.prefix
        each = self.side.layout.depth
        writer.line(f"{p}_depth += {tiles} * {each}")
        writer.line(f"{p}_left -= {tiles} * {each}")
        writer.line(f"{p}_channel = {self.kind}(urem({p}_depth, {patches.channels}))")
        writer.line(f"{p}_rest = udiv({p}_depth, {patches.channels})")
        for axis in range(len(patches.window) - 1, -1, -1):
            last = axis == 0
            digit = f"{p}_rest" if last else f"urem({p}_rest, {patches.window[axis]})"
            writer.line(f"{p}_in{axis} = {self.kind}({digit})")
            if not last:
                writer.line(f"{p}_rest = udiv({p}_rest, {patches.window[axis]})")

    def begin(self, slot: str) -> None:
        """The copies of one tile, then on to the next."""
        p, writer, patches = self.side.prefix, self.writer, self.patches
        plain = set(patches.spread) == {1}
        moved = [f"{p}_channel"]
        for axis, dilation in enumerate(patches.dilations):
            writer.line(f"{p}_by{axis} = {self.kind}({p}_in{axis} * {dilation})")
            moved.append(f"int64({p}_by{axis}) * {writer.size(patches.strides[axis])}")
        if plain:
            writer.line(f"{p}_offset = int64(({' + '.join(moved)}) * {self.side.layout.itemsize})")
        for i in range(self.chunk.passes):
            (self._copy_plain if plain else self._copy_spread)(i, slot)
        self._advance()

    def _copy_plain(self, number: int, slot: str) -> None:
        p, writer, patches = self.side.prefix, self.writer, self.patches
        inside = [f"{p}_left > 0"]
        for axis, size in enumerate(patches.sizes):
            writer.line(f"{p}_z{axis} = {self.kind}({p}_at{number}_{axis} + {p}_by{axis})")
            inside.append(f"0 <= {p}_z{axis} and {p}_z{axis} < {writer.size(size)}")
        self._copy(number, slot, f"{p}_from{number} + {p}_offset", inside)

    def _copy_spread(self, number: int, slot: str) -> None:
        p, writer, patches = self.side.prefix, self.writer, self.patches
        inside, offset = [f"{p}_left > 0"], [f"{p}_channel"]
        for axis, (size, spread) in enumerate(zip(patches.sizes, patches.spread, strict=True)):
            writer.line(f"{p}_z{axis} = {self.kind}({p}_at{number}_{axis} + {p}_by{axis})")
            # What lies before the tensor is divided as if it were 0: it is left out anyway.
            writer.line(f"{p}_whole{axis} = {self.kind}(udiv(max(int64({p}_z{axis}), int64(0)), {spread}))")
            inside.append(f"0 <= {p}_z{axis} and {p}_whole{axis} < {writer.size(size)}")
            inside.append(f"{p}_whole{axis} * {spread} == {p}_z{axis}")
            offset.append(f"int64({p}_whole{axis}) * {writer.size(patches.strides[axis])}")
        size_bytes = self.side.layout.itemsize
        self._copy(number, slot, f"{p}_base + ({' + '.join(offset)}) * {size_bytes}", inside)

    def _copy(self, number: int, slot: str, source: str, inside: list[str]) -> None:
        p = self.side.prefix
        to = f"{slot} + {p}_to + {number * self.chunk.to_step}"
        count = f"{CHUNK_BYTES} if {' and '.join(inside)} else 0"
        self.writer.line(f"gpu.cp_async_16_fill({to}, {source}, {count})")

    def _advance(self) -> None:
        """A tile further on: each digit's share of it, then carries."""
        p, writer, patches = self.side.prefix, self.writer, self.patches
        each = self.side.layout.depth
        writer.line(f"{p}_left -= {each}")
        digits = [*(f"{p}_in{axis}" for axis in range(len(patches.window))), f"{p}_channel"]
        radices = [*patches.window, patches.channels]
        rest = each
        for position in range(len(digits) - 1, -1, -1):
            name, radix = digits[position], radices[position]
            share = rest if position == 0 else rest % radix
            rest = 0 if position == 0 else rest // radix
            if share:
                writer.line(f"{name} = {self.kind}({name} + {share})")
            if position > 0 and math.prod(radices[position:]) > 1:
                above = digits[position - 1]
                writer.line(f"{p}_over = {name} >= {radix}")
                writer.line(f"{name} = {self.kind}({name} - {radix} if {p}_over else {name})")
                writer.line(f"{above} = {self.kind}({above} + 1 if {p}_over else {above})")


def copies_for(patches: Patches | None) -> type[Copies]:
    """What copies an operand."""
    return Copies if patches is None else PatchCopies
