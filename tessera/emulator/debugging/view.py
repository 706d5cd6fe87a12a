"""What can be seen of a block that stands still: threads, warps, calls, variables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tessera.emulator.activation import Activation
from tessera.emulator.debugging.launches import Launch
from tessera.emulator.debugging.stop import WARP
from tessera.emulator.lockstep import BlockRun
from tessera.emulator.ptx import Instruction

Doing = Literal["running", "ready", "barrier", "lanes", "calling", "returned"]
"""What a thread does: its instruction is next; it could go on; it waits at a barrier, or for other lanes, or
for those it called a function with; it has returned."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one thread is."""

    doing: Doing
    depth: int
    """Calls under way, the kernel's own not counted; -1 once it has returned."""
    top: Activation | None = None
    """The innermost call that it takes part in."""
    instruction: Instruction | None = None
    """What it executes next."""
    barrier: int | None = None
    """The barrier that it waits at."""


@dataclass(frozen=True, slots=True)
class Group:
    """Lanes of a warp that are at the same place."""

    lanes: int
    """As bits."""
    doing: Doing
    function: str
    file: str
    line: int
    ptx_line: int
    barrier: int | None

    @property
    def count(self) -> int:
        """How many lanes."""
        return self.lanes.bit_count()


@dataclass(frozen=True, slots=True)
class Warp:
    """The lanes of one warp, group by group."""

    number: int
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One call in a backtrace."""

    function: str
    symbol: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Lane:
    """The value of something in one lane."""

    lane: int
    value: Any
    """None where there is none."""
    active: bool
    """Whether the lane executes the instruction that is next."""
    changed: bool = False
    """Whether it differs from what it was at the stop before."""
    note: str = ""
    """Why there is no value."""


@dataclass(frozen=True, slots=True)
class Row:
    """A variable in every lane of a warp."""

    name: str
    type: str
    space: str
    """Where an array lies; empty for other variables."""
    lanes: tuple[Lane, ...]

    @property
    def changed(self) -> bool:
        """Whether any lane's value changed."""
        return any(lane.changed for lane in self.lanes)


def place_of(run: BlockRun, thread: int) -> Place:
    """Where a thread is."""
    for depth in range(len(run.stack) - 1, -1, -1):
        top = run.stack[depth]
        if not top.mask[thread] or not top.alive[thread]:
            continue
        if top.call is not None and top.call.taken[thread]:
            return Place("calling", depth, top, top.call.instruction)
        if top.block is not None and top.going[thread]:
            return Place("running", depth, top, top.instruction)
        waiting = int(top.waiting[thread])
        doing: Doing = "barrier" if waiting >= 0 else "lanes" if top.stuck[thread] else "ready"
        if doing == "ready" and depth < len(run.stack) - 1:
            doing = "ready"
        return Place(doing, depth, top, _next(top, int(top.pc[thread])), waiting if waiting >= 0 else None)
    return Place("returned", -1)


def _next(top: Activation, block: int) -> Instruction | None:
    for following in top.frame.flow.blocks[block:]:
        if following.instructions:
            return following.instructions[0]
    return None


def calls_of(run: BlockRun, thread: int) -> list[Activation]:
    """The calls that a thread takes part in, the innermost first."""
    return [top for top in reversed(run.stack) if top.mask[thread] and top.alive[thread]]


def lanes_of(run: BlockRun, warp: int) -> range:
    """Numbers of a warp's threads."""
    return range(warp * WARP, min((warp + 1) * WARP, run.threads))


def bits_of(threads: Any, warp: int) -> int:
    """The lanes of a warp among threads of a block, as bits."""
    own = np.asarray(threads)[warp * WARP : (warp + 1) * WARP]
    return sum(1 << int(lane) for lane in np.flatnonzero(own))


def warps_of(launch: Launch, run: BlockRun) -> Iterator[Warp]:
    """Every warp of a block, with its lanes by where they are."""
    for number in range(-(-run.threads // WARP)):
        found: dict[tuple[Any, ...], int] = {}
        for thread in lanes_of(run, number):
            place = place_of(run, thread)
            item, name = place.instruction, ""
            if place.top is not None:
                symbol = place.top.frame.function.name
                known = launch.code.functions.get(symbol)
                name = known.name if known is not None else symbol
            file = launch.code.file_of(item) if item is not None else ""
            line, ptx_line = (item.source_line, item.line) if item is not None else (0, 0)
            key = (place.doing, name, file, line, ptx_line, place.barrier)
            found[key] = found.get(key, 0) | 1 << thread % WARP
        groups = (Group(bits, *key) for key, bits in found.items())
        order = {"running": 0, "ready": 1, "calling": 2, "lanes": 3, "barrier": 4, "returned": 5}
        yield Warp(number, tuple(sorted(groups, key=lambda g: (order[g.doing], g.ptx_line))))
