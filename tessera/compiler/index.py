"""Positions in tensors, as text: how a kernel gets from where it is to an element's address."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from tessera.compiler.writer import ZERO, Name, Writer
from tessera.program.dim import Dim, product

_serial = itertools.count()

Part = tuple[int, Name]
"""Some adjacent axes and the position within them, row by row."""


def aligned_axes(shape: tuple[Dim, ...], target: tuple[Dim, ...]) -> list[tuple[int, int, int, int]]:
    """How a reshape of `shape` to `target` goes: which axes from where to where become which.

    Both have an axis at least. Each step is as short as is known to hold as many elements on both sides.
    """
    counts = list(itertools.accumulate(target, lambda a, b: a * b))
    steps: list[tuple[int, int, int, int]] = []
    start = begin = 0
    for stop in range(1, len(shape) + 1):
        total, last = product(shape[:stop]), stop == len(shape)
        ends = [i + 1 for i, count in enumerate(counts) if i >= begin and count == total]
        if ends or last:
            end = len(target) if last else ends[0]
            steps.append((start, stop, begin, end))
            start, begin = stop, end
    return steps


Place = Callable[[Writer, int, Name, Dim], Name]
"""A coordinate from another one."""


class Index:
    """The position of one element of a tensor of a shape.

    The axes are split into parts, each with one number for its axes together;
    a number is taken apart, which costs divisions, only where an operand needs it.
    """

    def __init__(self, writer: Writer, shape: tuple[Dim, ...], parts: tuple[Part, ...]) -> None:
        if sum(count for count, _ in parts) != len(shape):
            raise ValueError(f"parts {parts} do not cover shape {shape}")
        self.shape = shape
        self.serial = next(_serial)
        """Tells this position from every other."""
        self._writer = writer
        self._parts = parts
        self._derived: dict[object, Index] = {}

    @classmethod
    def flat(cls, writer: Writer, shape: tuple[Dim, ...], position: Name) -> Index:
        """The element at `position` of all elements in order."""
        return cls(writer, shape, ((len(shape), position),))

    @classmethod
    def of_axes(cls, writer: Writer, shape: tuple[Dim, ...], axes: tuple[Name, ...]) -> Index:
        """The element at one coordinate by axis."""
        return cls(writer, shape, tuple((1, axis) for axis in axes))

    @property
    def position(self) -> Name:
        """The element's number of all elements in order."""
        return self.span(0, len(self.shape))

    def axis(self, axis: int) -> Name:
        """The coordinate along one axis."""
        return self.span(axis, axis + 1)

    def span(self, start: int, stop: int) -> Name:
        """The position within axes `start` to `stop`."""
        total, begin = ZERO, 0
        for count, position in self._parts:
            end = begin + count
            low, high = max(start, begin), min(stop, end)
            if low < high:
                scale = self._writer.size(product(self.shape[low:high]))
                piece = self._piece(position, begin, end, low, high)
                total = self._writer.add(self._writer.mul(total, scale), piece)
            begin = end
        return total

    def _piece(self, position: Name, begin: int, end: int, low: int, high: int) -> Name:
        kept = product(self.shape[low:high])
        if kept == 1:
            return ZERO
        after, before = product(self.shape[high:end]), product(self.shape[begin:low])
        if after == 1 and before == 1:
            return position
        # Dividing by the axes after and keeping the remainder by the axes asked for.
        shifted = self._writer.div(position, self._writer.size(after))
        return shifted if before == 1 else self._writer.mod(shifted, self._writer.size(kept))

    def broadcast(self, shape: tuple[Dim, ...]) -> Index:
        """The position in an operand of `shape` that is broadcast to this tensor's."""
        if shape == self.shape:
            return self
        if shape not in self._derived:
            self._derived[shape] = Index(self._writer, shape, self._broadcast_parts(shape))
        return self._derived[shape]

    def _broadcast_parts(self, shape: tuple[Dim, ...]) -> tuple[Part, ...]:
        missing = len(self.shape) - len(shape)
        bounds = set(itertools.accumulate((count for count, _ in self._parts), initial=0))
        parts: list[Part] = []
        start = 0
        while start < len(shape):
            stop = start + 1
            kept = shape[start] == self.shape[start + missing]
            # A run of axes that are all kept within one part needs one division, not one each.
            while (
                kept
                and stop < len(shape)
                and stop + missing not in bounds
                and shape[stop] == self.shape[stop + missing]
            ):
                stop += 1
            parts.append((stop - start, self.span(start + missing, stop + missing) if kept else ZERO))
            start = stop
        return tuple(parts)

    def transposed(self, perm: tuple[int, ...]) -> Index:
        """The position in the operand of a transpose whose result this indexes."""
        key = ("transpose", perm)
        if key not in self._derived:
            axes = [ZERO] * len(perm)
            shape: list[Dim] = [0] * len(perm)
            for axis, source in enumerate(perm):
                axes[source], shape[source] = self.axis(axis), self.shape[axis]
            self._derived[key] = Index.of_axes(self._writer, tuple(shape), tuple(axes))
        return self._derived[key]

    def mapped(self, key: object, shape: tuple[Dim, ...], place: Place) -> Index:
        """The position in an operand of `shape`, each of its coordinates made of this one's.

        Args:
            key: Equal for maps that are the same.
            shape: As many axes as this tensor has.
            place: The coordinate in the operand, from the writer, the axis, the coordinate here and the
                operand's size.
        """
        if (key, shape) not in self._derived:
            axes = tuple(place(self._writer, a, self.axis(a), size) for a, size in enumerate(shape))
            self._derived[key, shape] = Index.of_axes(self._writer, shape, axes)
        return self._derived[key, shape]

    def reshaped(self, shape: tuple[Dim, ...]) -> Index:
        """The same position of all elements in order, in another shape."""
        key = ("reshape", shape)
        if key not in self._derived:
            self._derived[key] = Index(self._writer, shape, self._reshaped_parts(shape))
        return self._derived[key]

    def _reshaped_parts(self, shape: tuple[Dim, ...]) -> tuple[Part, ...]:
        """Axes that a reshape leaves together stay parts of their own, which saves taking the whole apart."""
        if not self.shape or not shape:
            return ((len(shape), self.position),)
        parts: list[Part] = []
        for start, stop, begin, end in aligned_axes(self.shape, shape):
            parts.append((end - begin, self.span(start, stop)))
        return tuple(parts)
