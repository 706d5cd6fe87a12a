"""What rules read, from Nsight Compute's counters: the same names as the emulator's, measured.

Source: `rules.VOCABULARY`, which says of each name which column it is, and of which instructions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tessera.profiler.ncu_csv import NcuLaunch
from tessera.profiler.ncu_kernels import LaunchNumbers, launch_numbers
from tessera.profiler.ncu_source import COLUMNS, NcuInstruction, column
from tessera.profiler.rules import RULES, Advice, KernelMetrics, LineMetrics, apply
from tessera.profiler.rules.counted import definition
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
    "shuffles": ("executed", ("SHFL", "VOTE", "VOTEU")),
    "asynchronous_copies": ("executed", ("LDGSTS", "UBLKCP", "UTMALDG")),
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
_Places = dict[tuple[str, int], list[NcuInstruction]]
"""Instructions by file and line."""


def measured_metrics(
    instructions: Sequence[NcuInstruction],
    files: SourceFiles,
    label: str = LABEL,
    launches: Sequence[NcuLaunch] = (),
) -> tuple[KernelMetrics, ...]:
    """The numbers of each kernel, for `rules.apply`.

    Args:
        instructions: Of one or more kernels.
        files: Where the source is read.
        label: Where the numbers come from.
        launches: Of the same kernels, for what is known of a kernel as a whole; of a kernel that has no
            instructions they are all there is.
    """
    titles = {title for i in instructions for title in i.metrics}
    known = frozenset(name for name, (what, _) in NAMES.items() if titles.intersection(COLUMNS[what]))
    kernels: dict[str, _Places] = {launch.kernel: {} for launch in launches}
    for each in instructions:
        # Opcodes say what is counted: sums by line alone are no use.
        if each.sass:
            kernels.setdefault(each.kernel, {}).setdefault((each.file, each.line), []).append(each)
    return tuple(
        _kernel(kernel, places, known if places else frozenset(), files, label,
                [launch for launch in launches if launch.kernel == kernel])
        for kernel, places in kernels.items()
    )  # fmt: skip


def _kernel(
    kernel: str, places: _Places, known: frozenset[str], files: SourceFiles, label: str,
    launches: Sequence[NcuLaunch],
) -> KernelMetrics:  # fmt: skip
    numbers = launch_numbers(launches) if launches else LaunchNumbers({})
    rest = [i for (_, line), own in places.items() if not line for i in own]
    weight = {place: len(own) for place, own in places.items() if place[1]}
    file, line = definition(weight, files)
    return KernelMetrics(
        kernel,
        label,
        known | numbers.values.keys(),
        tuple(
            LineMetrics(name, number, values(own, known), _text(files, own[0]))
            for (name, number), own in sorted(places.items())
            if number
        ),
        # What instructions add up to is what the lines are parts of.
        {**numbers.values, **values([i for own in places.values() for i in own], known)},
        file,
        line,
        limiter=numbers.limiter,
        arch=numbers.arch,
        lineless=LineMetrics("", 0, values(rest, known)) if rest else None,
    )


def advise_measured(
    instructions: Sequence[NcuInstruction],
    files: SourceFiles,
    label: str = LABEL,
    launches: Sequence[NcuLaunch] = (),
) -> tuple[Advice, ...]:
    """What stands out among measured lines and kernels, the costliest first."""
    kernels = measured_metrics(instructions, files, label, launches)
    found = [a for kernel in kernels for a in apply(RULES, kernel)]
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


def _text(files: SourceFiles, instruction: NcuInstruction) -> str:
    return files.line(instruction.file, instruction.line) or instruction.source
