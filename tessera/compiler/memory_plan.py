"""Where temporary tensors lie in the arena: memory is used again once nobody reads it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tessera.program.dim import Dim, Expr, align
from tessera.program.program import Buffer

ALIGNMENT_BYTES = 256
"""Every buffer begins at a multiple: what vector loads, TMA and BLAS libraries like best."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A temporary tensor and when it is in use."""

    name: str
    bytes: Dim
    first: int
    """Step that writes it."""
    last: int
    """Last step that reads it."""


@dataclass(slots=True)
class _Slot:
    offset: Dim
    bytes: Dim
    busy_until: int


def plan_memory(lifetimes: Iterable[Lifetime]) -> tuple[tuple[Buffer, ...], Dim]:
    """A place for every tensor, and the arena's size in bytes.

    Tensors in use at the same step never overlap. Where all sizes are fixed, the
    larger ones are placed first, each as low as it fits; else, and where that
    is no better, a tensor takes over the place of an earlier one that is surely
    large enough whatever the sizes turn out to be.
    """
    tensors = sorted(lifetimes, key=lambda t: t.first)
    buffers, arena = _take_over(tensors)
    fixed = [(tensor, tensor.bytes) for tensor in tensors if isinstance(tensor.bytes, int)]
    if len(fixed) == len(tensors) and isinstance(arena, int):
        packed, size = _pack(fixed)
        if size < arena:
            return packed, size
    return buffers, arena


def _take_over(tensors: Sequence[Lifetime]) -> tuple[tuple[Buffer, ...], Dim]:
    slots: list[_Slot] = []
    buffers: list[Buffer] = []
    arena: Dim = 0
    for tensor in tensors:
        free = [slot for slot in slots if slot.busy_until < tensor.first]
        slot = next((s for s in free if s.bytes == tensor.bytes), None)
        slot = slot or _tightest([s for s in free if never_exceeds(tensor.bytes, s.bytes)])
        if slot is None:
            slot = _Slot(arena, tensor.bytes, tensor.last)
            slots.append(slot)
            arena = arena + align(tensor.bytes, ALIGNMENT_BYTES)
        slot.busy_until = tensor.last
        buffers.append(Buffer(name=tensor.name, offset_bytes=slot.offset, bytes=tensor.bytes))
    return tuple(buffers), arena


def _tightest(slots: Sequence[_Slot]) -> _Slot | None:
    """A place that is surely no larger than any other of these, or at least the first of them."""
    best = None
    for slot in slots:
        if best is None or never_exceeds(slot.bytes, best.bytes):
            best = slot
    return best


def _pack(tensors: Sequence[tuple[Lifetime, int]]) -> tuple[tuple[Buffer, ...], int]:
    """Largest first, each in the lowest gap between those it lives together with.

    Source: Y. Pisarchyk and J. Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020,
    "greedy by size".
    """
    placed: list[tuple[Lifetime, int, int]] = []
    for tensor, size in sorted(tensors, key=lambda pair: (-pair[1], pair[0].first, pair[0].name)):
        together = [
            (start, end)
            for other, start, end in placed
            if other.first <= tensor.last and tensor.first <= other.last
        ]
        offset = 0
        for start, end in sorted(together):
            if offset + size <= start:
                break
            offset = max(offset, _aligned(end))
        placed.append((tensor, offset, offset + size))
    places = {id(tensor): start for tensor, start, _ in placed}
    buffers = tuple(
        Buffer(name=tensor.name, offset_bytes=places[id(tensor)], bytes=size) for tensor, size in tensors
    )
    return buffers, max((_aligned(end) for _, _, end in placed), default=0)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def never_exceeds(smaller: Dim, larger: Dim) -> bool:
    """Whether `smaller <= larger` holds for all symbols of 0 and more, as far as their terms show."""
    rest = larger - smaller
    if isinstance(rest, Expr):
        return all(
            coefficient >= 0 and all(isinstance(atom, str) for atom in monomial)
            for monomial, coefficient in rest.terms
        )
    return rest >= 0
