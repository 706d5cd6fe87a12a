"""What rules read, from Nsight Compute's counters: the same names as the emulator's, measured.

Source: `rules.VOCABULARY`, which says of each name which column it is, and of which instructions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tessera.profiler.ncu_source import COLUMNS, NcuInstruction, column
from tessera.profiler.rules import RULES, Advice, KernelMetrics, LineMetrics, apply
from tessera.profiler.source_lines import SourceFiles

LABEL = "counted by Nsight Compute"
BRANCHES = ("BRA", "BRX", "JMP", "JMX")
_LOADS = {"ld": ("LDG",), "st": ("STG",), "atom": ("ATOMG", "ATOM", "RED")}
_SHARED = {"ld": ("LDS", "LDSM"), "st": ("STS", "STSM"), "atom": ("ATOMS",)}

NAMES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "instructions": ("executed", ()),
    "thread_instructions": ("thread_executed", ()),
    "branches": ("executed", BRANCHES),
    "divergent_branches": ("divergent", ()),
    "barriers": ("executed", ("BAR",)),
    "fp64_instructions": ("executed", ("DADD", "DMUL", "DFMA")),
    "local_requests": ("executed", ("LDL", "STL")),
    "local_sectors": ("local_sectors", ()),
    **{
        f"global_{op}_{name}": (what, opcodes)
        for op, opcodes in _LOADS.items()
        for name, what in (
            ("requests", "requests"),
            ("sectors", "sectors"),
            ("ideal_sectors", "ideal_sectors"),
            ("threads", "thread_on"),
        )
    },
    **{
        f"shared_{op}_{name}": (what, opcodes)
        for op, opcodes in _SHARED.items()
        for name, what in (
            ("requests", "executed"),
            ("wavefronts", "wavefronts"),
            ("ideal_wavefronts", "ideal_wavefronts"),
            ("threads", "thread_on"),
        )
    },
}
"""Column, and the instructions whose numbers count; none for all."""


def measured_metrics(
    instructions: Sequence[NcuInstruction], files: SourceFiles, label: str = LABEL
) -> tuple[KernelMetrics, ...]:
    """The numbers of each kernel, for `rules.apply`.

    Args:
        instructions: Of one or more kernels.
        files: Where the source is read.
        label: Where the numbers come from.
    """
    titles = {title for i in instructions for title in i.metrics}
    known = frozenset(name for name, (what, _) in NAMES.items() if titles.intersection(COLUMNS[what]))
    kernels: dict[str, dict[tuple[str, int], list[NcuInstruction]]] = {}
    for each in instructions:
        # Opcodes say what is counted: sums by line alone are no use.
        if each.sass:
            kernels.setdefault(each.kernel, {}).setdefault((each.file, each.line), []).append(each)
    return tuple(
        KernelMetrics(
            kernel,
            label,
            known,
            tuple(
                LineMetrics(file, line, values(own, known), _text(files, own[0]))
                for (file, line), own in sorted(places.items())
                if line
            ),
            values([i for own in places.values() for i in own], known),
            lineless=_lineless(places, known),
        )
        for kernel, places in kernels.items()
    )


def advise_measured(
    instructions: Sequence[NcuInstruction], files: SourceFiles, label: str = LABEL
) -> tuple[Advice, ...]:
    """What stands out among measured lines, the costliest first."""
    found = [a for kernel in measured_metrics(instructions, files, label) for a in apply(RULES, kernel)]
    return tuple(sorted(found, key=lambda a: -a.cost))


def values(instructions: Sequence[NcuInstruction], known: frozenset[str]) -> dict[str, float]:
    """The numbers of some instructions together; what did not happen is left out."""
    found: dict[str, float] = {}
    for name in known:
        what, opcodes = NAMES[name]
        own = (i for i in instructions if not opcodes or i.opcode in opcodes)
        total = sum(column(i.metrics, what) or 0.0 for i in own)
        if total:
            found[name] = total
    return found


def _lineless(
    places: Mapping[tuple[str, int], Sequence[NcuInstruction]], known: frozenset[str]
) -> LineMetrics | None:
    rest = [i for (_, line), own in places.items() if not line for i in own]
    return LineMetrics("", 0, values(rest, known)) if rest else None


def _text(files: SourceFiles, instruction: NcuInstruction) -> str:
    return files.line(instruction.file, instruction.line) or instruction.source
