"""Where the work of a program's kernels is, as stacks of source lines: for flame graphs and their like."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tessera.emulator.counters import InstructionCounts
    from tessera.profiler.emulated import KernelProfile
    from tessera.profiler.ncu_source import NcuInstruction

NO_LINE = "no line known"


@dataclass(frozen=True, slots=True)
class Site:
    """A kernel, a device function that is called, or a line of source."""

    name: str
    """Of the kernel or function; empty for a line."""
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Stack:
    """Work at one place: the kernel first, then the calls that were inlined, then the line itself."""

    sites: tuple[Site, ...]
    weight: float


@dataclass(slots=True)
class Branch:
    """A site below the one that it is called from."""

    site: Site
    own: float = 0.0
    """Work at the site itself."""
    total: float = 0.0
    """With all that it calls."""
    below: dict[Site, Branch] = field(default_factory=dict)

    def ordered(self) -> list[Branch]:
        """What is below, the heaviest first."""
        return sorted(self.below.values(), key=lambda b: (-b.total, b.site.file, b.site.line, b.site.name))


def emulated_stacks(kernels: Iterable[KernelProfile]) -> list[Stack]:
    """Stacks of what was counted in the emulator; the weight is instructions that warps executed."""
    return _merged(
        Stack(_sites(kernel.kernel, i), i.executed)
        for kernel in kernels
        for i in kernel.counters.instructions
        if i.executed
    )


def _sites(kernel: str, counts: InstructionCounts) -> tuple[Site, ...]:
    called = [Site(counts.function)] if counts.function != kernel else []
    lines = [Site("", file, line) for file, line in counts.callers if line]
    place = Site("", counts.file, counts.source_line) if counts.source_line else Site(NO_LINE)
    return (Site(kernel), *called, *lines, place)


def ncu_stacks(instructions: Iterable[NcuInstruction]) -> tuple[list[Stack], str]:
    """Stacks of what Nsight Compute counted, and what their weight is: samples, where it took any."""
    known = list(instructions)
    sampled = any(each.samples for each in known)
    stacks = (
        Stack(
            (
                Site(each.kernel),
                *(Site("", file, line) for file, line in each.callers),
                Site("", each.file, each.line) if each.line else Site(NO_LINE),
            ),
            each.samples if sampled else each.executed,
        )
        for each in known
    )
    return _merged(s for s in stacks if s.weight), "samples" if sampled else "instructions of machine code"


def _merged(stacks: Iterable[Stack]) -> list[Stack]:
    found: dict[tuple[Site, ...], float] = {}
    for stack in stacks:
        found[stack.sites] = found.get(stack.sites, 0.0) + stack.weight
    return [Stack(sites, weight) for sites, weight in found.items()]


def grow(stacks: Iterable[Stack]) -> Branch:
    """The tree of all stacks; its root is no site of its own."""
    root = Branch(Site(""))
    for stack in stacks:
        branch = root
        branch.total += stack.weight
        for site in stack.sites:
            branch = branch.below.setdefault(site, Branch(site))
            branch.total += stack.weight
        branch.own += stack.weight
    return root


def folded(stacks: Sequence[Stack], root: str = "") -> str:
    """Folded stacks, one a line: `kernel;file.py:12;maths.py:3 1024`, heaviest first.

    Args:
        stacks: What to write.
        root: What stands before all of them, such as the program.

    Source: Brendan Gregg's flamegraph.pl, stackcollapse formats; speedscope reads them.
    """
    texts: dict[str, float] = {}
    for stack in stacks:
        text = ";".join([_frame(root)] * bool(root) + [_frame(_label(site)) for site in stack.sites])
        texts[text] = texts.get(text, 0.0) + stack.weight
    ordered = sorted(texts.items(), key=lambda item: (-item[1], item[0]))
    return "".join(f"{text} {round(weight)}\n" for text, weight in ordered if round(weight))


def _label(site: Site) -> str:
    return site.name or f"{site.file or '?'}:{site.line}"


def _frame(text: str) -> str:
    """A frame without what the format gives a meaning to: `;` between frames, the end of the line."""
    return re.sub(r"\s+", " ", text.replace(";", ",")).strip() or "?"
