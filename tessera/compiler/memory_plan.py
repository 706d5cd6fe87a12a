"""Where temporary tensors lie in the arena: memory is used again once nobody reads it."""

from __future__ import annotations

from collections.abc import Iterable
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

    Tensors in use at the same step never overlap. A tensor takes over the
    place of an earlier one where that is surely large enough whatever the sizes
    turn out to be.
    """
    slots: list[_Slot] = []
    buffers: list[Buffer] = []
    arena: Dim = 0
    for tensor in sorted(lifetimes, key=lambda t: t.first):
        free = [slot for slot in slots if slot.busy_until < tensor.first]
        slot = next((s for s in free if s.bytes == tensor.bytes), None)
        slot = slot or next((s for s in free if never_exceeds(tensor.bytes, s.bytes)), None)
        if slot is None:
            slot = _Slot(arena, tensor.bytes, tensor.last)
            slots.append(slot)
            arena = arena + align(tensor.bytes, ALIGNMENT_BYTES)
        slot.busy_until = tensor.last
        buffers.append(Buffer(name=tensor.name, offset_bytes=slot.offset, bytes=tensor.bytes))
    return tuple(buffers), arena


def never_exceeds(smaller: Dim, larger: Dim) -> bool:
    """Whether `smaller <= larger` holds for all symbols of 0 and more, as far as their terms show."""
    rest = larger - smaller
    if isinstance(rest, Expr):
        return all(
            coefficient >= 0 and all(isinstance(atom, str) for atom in monomial)
            for monomial, coefficient in rest.terms
        )
    return rest >= 0
