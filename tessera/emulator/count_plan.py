"""Where the counters of a kernel lie, and what they mean: from sums over a launch to `Counters`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tessera.emulator.counters import Access, Counters, InstructionCounts, Operation, Space, merged
from tessera.emulator.instruction_mix import work_of
from tessera.emulator.ptx import Instruction, Module
from tessera.emulator.tally_ir import COUNTERS

SPACES: dict[str, tuple[Space, ...]] = {
    "global": ("global",), "shared": ("shared",), "local": ("local",),
    "generic": ("global", "shared", "local"),
}  # fmt: skip
"""State spaces that an access may go to, in the order of their counters."""


COUNTED = frozenset({"ld", "ldu", "st", "atom", "red", "ldmatrix", "stmatrix", "wmma", "cp"})
"""Opcodes whose accesses are counted. The others move nothing, or not through the units that are modelled:
barriers in memory, bulk copies, operands of `wgmma`."""


def counts_memory(instruction: Instruction) -> bool:
    """Whether the accesses of an instruction are counted."""
    apart = {"bulk", "mbarrier"} if instruction.opcode == "cp" else {"async"}
    return instruction.opcode in COUNTED and not apart & set(instruction.modifiers)


def operation_of(instruction: Instruction, *, write: bool) -> Operation:
    """What an access of an instruction counts as."""
    if instruction.opcode == "atom":
        return "atom"
    if instruction.opcode == "red":
        return "red"
    return "st" if write else "ld"


@dataclass(slots=True)
class PlannedAccess:
    """One place in the code that accesses memory."""

    spaces: tuple[Space, ...]
    operation: Operation
    size: int
    slot: int | None
    """Its first counter; None: every execution is one request of one pass, as all lanes mean one place."""


@dataclass(slots=True)
class Planned:
    """One instruction in the code."""

    origin: Instruction
    block: int
    """First of the counters of the executions that it shares: by warps, by threads."""
    on: int | None = None
    """Counter of threads whose guard let them; None: all of them."""
    divergent: int | None = None
    accesses: list[PlannedAccess] = field(default_factory=list)


@dataclass(slots=True)
class CountPlan:
    """Counters of a kernel's code: an array of 64-bit integers, all of which only ever grow."""

    size: int = 0
    """How many there are."""
    planned: dict[int, Planned] = field(default_factory=dict)
    """By the identity of the instruction in the code."""

    def reserve(self, count: int) -> int:
        """The first of so many new counters."""
        first, self.size = self.size, self.size + count
        return first

    def add(self, instruction: Instruction, block: int) -> None:
        """An instruction of the code, if it stands for a written one."""
        if instruction.origin is not None:
            self.planned[id(instruction)] = Planned(instruction.origin, block)

    def of(self, instruction: Instruction) -> Planned | None:
        """What was planned for an instruction; None if it is not counted."""
        return self.planned.get(id(instruction))


@dataclass(slots=True)
class Numbers:
    """What was counted of one written instruction."""

    executed: int = 0
    threads: int = 0
    threads_on: int = 0
    divergent: int = 0
    accesses: list[Access] = field(default_factory=list)


def numbers_of(plan: CountPlan, sums: np.ndarray[Any, Any]) -> Iterable[tuple[Instruction, Numbers]]:
    """The counts of each place in the code, by the written instruction it stands for.

    Args:
        plan: Of the kernel.
        sums: (plan.size,) uint64: its counters after a launch.
    """
    values = sums.tolist()
    for each in plan.planned.values():
        executed, threads = values[each.block : each.block + 2]
        on = threads if each.on is None else values[each.on]
        divergent = 0 if each.divergent is None else values[each.divergent]
        found = [a for planned in each.accesses for a in _accesses(planned, values, executed, on)]
        yield each.origin, Numbers(executed, threads, on, divergent, found)


def _accesses(planned: PlannedAccess, values: list[int], executed: int, on: int) -> Iterable[Access]:
    for i, space in enumerate(planned.spaces):
        if planned.slot is None:
            requests, threads, passes, ideal = executed, on, executed, executed
        else:
            start = planned.slot + COUNTERS * i
            requests, threads, passes, ideal = values[start : start + COUNTERS]
        if requests:
            asked = threads * planned.size
            yield Access(space, planned.operation, planned.size, requests, threads, asked, passes, ideal)


def assemble(
    module: Module, kernel: str, found: Iterable[tuple[Instruction, Numbers]], blocks: int, threads: int
) -> Counters:
    """Counters of one launch.

    Args:
        module: The kernel's.
        kernel: Its name.
        found: Counts by written instruction; several of one are added up.
        blocks: Of the launch.
        threads: Of a block.
    """
    places = {
        id(item): (function.name, position)
        for function in module.functions.values()
        for position, item in enumerate(function.body)
        if isinstance(item, Instruction)
    }
    totals: dict[tuple[str, int], tuple[Instruction, Numbers]] = {}
    for instruction, numbers in found:
        if not numbers.executed and not numbers.threads:
            continue
        _, total = totals.setdefault(places[id(instruction)], (instruction, Numbers()))
        total.executed += numbers.executed
        total.threads += numbers.threads
        total.threads_on += numbers.threads_on
        total.divergent += numbers.divergent
        total.accesses += numbers.accesses
    order = {name: i for i, name in enumerate(module.functions)}
    rows = tuple(
        _row(kernel, place, *totals[place], module.files)
        for place in sorted(totals, key=lambda p: (p[0] != kernel, order[p[0]], p[1]))
    )
    return Counters(rows, 1, blocks, blocks * threads, blocks * -(-threads // 32))


def _row(
    kernel: str, place: tuple[str, int], instruction: Instruction, numbers: Numbers, files: Mapping[int, str]
) -> InstructionCounts:
    work = work_of(instruction)
    return InstructionCounts(
        kernel=kernel,
        function=place[0],
        position=place[1],
        ptx_line=instruction.line,
        file=files.get(instruction.file, ""),
        source_line=instruction.source_line,
        mnemonic=instruction.mnemonic,
        kind=work.kind,
        group=work.group,
        precision=work.precision,
        executed=numbers.executed,
        threads=numbers.threads,
        threads_on=numbers.threads_on,
        divergent=numbers.divergent,
        flops=work.thread_flops * numbers.threads_on,
        tensor_flops=work.warp_flops * numbers.executed,
        accesses=merged(numbers.accesses),
        callers=tuple((files.get(file, ""), line) for file, line in instruction.callers),
    )
