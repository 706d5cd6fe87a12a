"""When the temporary tensors of a plan are in use: read off its steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from tessera.program.dim import Dim, align, evaluate
from tessera.program.program import Buffer, Choice, Gemm, Plan, Pointer, Step

ALIGNMENT_BYTES = 256
"""Where buffers that lie apart begin: at multiples of it."""


@dataclass(frozen=True, slots=True)
class BufferLife:
    """A range of the arena and the steps that it is in use for."""

    name: str
    offset_bytes: Dim
    bytes: Dim
    first: int
    """Number of the step that writes it first, from 0."""
    last: int
    """Number of the last step that reads or writes it."""


def buffer_lives(plan: Plan) -> tuple[BufferLife, ...]:
    """Every buffer of a plan that a step uses, in the order in which they are written."""
    steps: dict[str, list[int]] = {}
    for number, step in enumerate(plan.steps):
        for pointer in _pointers(step):
            if pointer.space == "buffer":
                steps.setdefault(pointer.name, []).append(number)
    found = [
        BufferLife(b.name, b.offset_bytes, b.bytes, min(steps[b.name]), max(steps[b.name]))
        for b in plan.buffers
        if b.name in steps
    ]
    return tuple(sorted(found, key=lambda life: (life.first, life.name)))


def peak_bytes(plan: Plan, symbols: Mapping[str, int]) -> int:
    """Most bytes of buffers that are in use at one step: no arena can be smaller.

    Args:
        plan: The plan.
        symbols: A value for each symbol of its sizes.
    """
    lives = buffer_lives(plan)
    sizes = [evaluate(life.bytes, symbols) for life in lives]
    return max(
        (
            sum(size for life, size in zip(lives, sizes, strict=True) if life.first <= step <= life.last)
            for step in range(len(plan.steps))
        ),
        default=0,
    )


def lay_apart(plan: Plan, gap: int = 0) -> Plan:
    """The plan with all buffers apart from each other: none takes the place of another.

    Args:
        plan: The plan.
        gap: Bytes between buffers at least, which no buffer owns.
    """
    buffers, arena = _apart(plan.buffers, gap)
    persistent, size = _apart(plan.persistent, gap)
    return msgspec.structs.replace(
        plan,
        buffers=buffers,
        arena_bytes=arena,
        persistent=persistent,
        persistent_bytes=evaluate(size, {}),
    )


def _apart(buffers: Sequence[Buffer], gap: int) -> tuple[tuple[Buffer, ...], Dim]:
    placed: list[Buffer] = []
    position: Dim = 0
    for buffer in buffers:
        placed.append(msgspec.structs.replace(buffer, offset_bytes=position))
        position = position + align(buffer.bytes, ALIGNMENT_BYTES) + gap
    return tuple(placed), position


def _pointers(step: Step) -> Iterator[Pointer]:
    if isinstance(step, Choice):
        for option in step.options:
            for inner in option.steps:
                yield from _pointers(inner)
    elif isinstance(step, Gemm):
        yield from (step.a, step.b, step.c)
    else:
        yield from (arg for arg in step.args if isinstance(arg, Pointer))
