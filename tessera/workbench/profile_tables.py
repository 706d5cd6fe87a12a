"""What `tessera profile` found, for people: the worst lines, tables, the annotated source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tessera.program.bytesize import format_bytes
from tessera.workbench.draw import say_drawn
from tessera.workbench.failure import short_path, visible
from tessera.workbench.output import (
    Column,
    number_text,
    print_table,
    print_wrapped,
    terminal_width,
    time_text,
)

if TYPE_CHECKING:
    from tessera.emulator.counters import Counters, LineCounts
    from tessera.profiler.emulated import KernelProfile
    from tessera.profiler.rules import Advice
    from tessera.profiler.source_lines import SourceFiles
    from tessera.workbench.profiling import Counted

SHOWN = 8
"""Lines that are said something about."""
NOTHING = "with these sizes no kernel is launched: there is nothing to count and nothing to judge"
GAP = 6
"""Lines of source without code in between that are left out."""


def print_counted(result: Counted, seed: int) -> None:
    """A counted program: what stands out, its kernels, their source, occupancy and predicted times."""
    from tessera.emulator.counters import LABEL

    say_drawn(result.inputs, seed)
    profile = result.profile
    sizes = "".join(f", {name} = {value}" for name, value in sorted(result.sizes.items()))
    print_wrapped(f"{profile.program.name}: {LABEL} ({profile.target}{sizes})")
    if not profile.kernels:
        print_wrapped(NOTHING)
        print()
        return
    _print_advice(result)
    _print_kernels(profile.kernels)
    # The flame table speaks of sums in this module's words.
    from tessera.profiler.flame import emulated_stacks
    from tessera.workbench.profile_flame import print_flame

    print_flame(emulated_stacks(profile.kernels), "instructions", result.files)
    for kernel in profile.kernels:
        _print_source(kernel, result)
    shown = [t for t, there, _ in CELLS if any(there(k.counters) for k in profile.kernels)]
    print_wrapped("; ".join(f"{title}: {LEGEND[title]}" for title in shown if title in LEGEND))
    print()
    _print_occupancy(result)
    _print_predictions(result)


# -- what stands out ----------------------------------------------------------------------------


def _print_advice(result: Counted) -> None:
    print()
    print_advice(result.advice, result.files, several=len(result.profile.kernels) > 1)


def print_advice(found: Sequence[Advice], files: SourceFiles, *, several: bool) -> None:
    """What rules found, the costliest first; `several` is whether there is more than one kernel."""
    advice = [a for a in found if not files.generated(a.file)]
    hidden = len(found) - len(advice)
    if not advice:
        print_wrapped("no line stands out: no rule applies to one (tessera profile --rules lists them)")
    for number, each_one in enumerate(advice[:SHOWN], 1):
        line = f"line {each_one.line}" if each_one.line else "no line known"
        where = f"{each_one.kernel}, {line}" if several else line
        print_wrapped(f"{where}: {each_one.what}", start=f"{number}. ", color="yellow")
        print_wrapped(each_one.remedy, start="   ")
        print_wrapped(each_one.gain_text, start="   ")
    if len(advice) > SHOWN:
        print(f"   and {len(advice) - SHOWN} more; --json has all")
    if hidden:
        print(f"   {hidden} in code that the compiler wrote; --json has them")


# -- kernels ------------------------------------------------------------------------------------


def _print_kernels(kernels: Sequence[KernelProfile]) -> None:
    right = (
        "Launches", "Blocks", "Threads", "Instructions", "Active", "Divergent", "Barriers",
        "Sectors/req.", "Ideal", "Moved", "Conflicts", "FLOP", "Tensor", "FLOP/B",
    )  # fmt: skip
    rows = []
    for kernel in kernels:
        c = kernel.counters
        device, shared = c.memory("global"), c.memory("shared")
        rows.append(
            (kernel.kernel, str(c.launches), short(c.blocks), short(c.block_threads), short(c.executed),
             number_text(c.threads_per_instruction, "{:.1f}"), share(c.divergent, c.branches),
             short(c.count("barrier")), each(device.passes, device.requests),
             each(device.ideal, device.requests), format_bytes(device.moved_bytes),
             short(shared.excess) if shared.requests else "–", short(c.flops), short(c.tensor_flops),
             number_text(c.arithmetic_intensity, "{:.3g}"))
        )  # fmt: skip
    print_table([Column("Kernel"), *(Column(t, right=True) for t in right)], rows)


def short(count: float) -> str:
    """A count in a few letters: `9,999`, `12.3 k`, `1.23 M`."""
    if abs(count) < 10_000:
        return f"{count:,.0f}"
    for unit in ("k", "M", "G", "T"):
        count /= 1000
        if abs(count) < 999.5:
            return f"{count:.3g} {unit}"
    return f"{count:,.0f} T"


def share(part: float, whole: float) -> str:
    """A part in percent; `–` of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def each(total: int, count: int) -> str:
    """How many for one; `–` where there is none."""
    return f"{total / count:.1f}" if count else "–"


# -- source -------------------------------------------------------------------------------------

Cell = Callable[["LineCounts", "KernelProfile"], str]
CELLS: tuple[tuple[str, Callable[[Counters], bool], Cell], ...] = (
    ("Instr.", lambda c: bool(c.executed), lambda n, k: percent(n.executed, k.counters.executed)),
    ("Active", lambda c: c.threads < 32 * c.executed,
     lambda n, _: number_text(n.threads_per_instruction, "{:.1f}")),
    ("Sectors", lambda c: bool(c.memory("global").requests), lambda n, _: _sectors(n)),
    ("Confl.", lambda c: bool(c.memory("shared").excess),
     lambda n, _: short(n.memory("shared").excess) if n.memory("shared").requests else ""),
    ("Div.", lambda c: bool(c.divergent), lambda n, _: percent(n.divergent, n.branches)),
    ("FLOP", lambda c: bool(c.flops + c.tensor_flops),
     lambda n, _: short(n.flops + n.tensor_flops) if n.flops + n.tensor_flops else ""),
)  # fmt: skip
"""Columns beside the source: title, whether a kernel has it at all, text of a line."""
LEGEND = {
    "Instr.": "share of the kernel's instructions",
    "Active": "threads of 32",
    "Sectors": "per request of global memory, after the slash the ideal",
    "Confl.": "bank conflicts",
    "Div.": "branches that divide a warp",
}
"""What the columns are, for those who see them first."""


def percent(part: float, whole: float) -> str:
    """A part in percent, to a tenth where it is small; empty of nothing."""
    if not whole:
        return ""
    value = 100 * part / whole
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.1f} %"


def _sectors(line: LineCounts) -> str:
    access = line.memory("global")
    if not access.requests:
        return ""
    found = f"{access.passes / access.requests:.3g}"
    return f"{found}/{access.ideal / access.requests:.3g}" if access.excess else found


def _print_source(kernel: KernelProfile, result: Counted) -> None:
    lines = kernel.counters.lines()
    if not lines:
        print(f"{visible(kernel.kernel)} has no line information")
        return
    cells = [(title, cell) for title, there, cell in CELLS if there(kernel.counters)]
    for file in dict.fromkeys(line.file for line in lines if not result.files.generated(line.file)):
        own = {line.line: line for line in lines if line.file == file}
        rows = []
        for number, text in _shown(result, file, sorted(own)):
            line = own.get(number)
            values = [cell(line, kernel) for _, cell in cells] if line else [""] * len(cells)
            rows.append([str(number) if number else "…", *values, text])
        print(visible(f"{kernel.kernel}, {short_path(result.files.path(file))}"))
        _print_lines(["Line", *(title for title, _ in cells)], rows)
    hidden = sum(line.executed for line in lines if result.files.generated(line.file))
    if hidden:
        print_wrapped(
            f"{kernel.kernel}: {share(hidden, kernel.counters.executed)} of its instructions are in code "
            "that the compiler wrote; --json has its lines"
        )
        print()


def _print_lines(titles: Sequence[str], rows: Sequence[list[str]]) -> None:
    """Lines of source beside their numbers; the source gives way where the terminal is narrow."""
    # rich shrinks every column alike, and numbers are of no use in part.
    widths = [max(len(title), *(len(row[i]) for row in rows)) for i, title in enumerate(titles)]
    room = max(terminal_width() - sum(widths) - 2 * len(widths) - 2, 20)
    for row in rows:
        if room < 60:
            text = row[-1].lstrip()
            row[-1] = " " * ((len(row[-1]) - len(text)) // 2) + text
        row[-1] = row[-1] if len(row[-1]) <= room else row[-1][: room - 1] + "…"
    print_table([*(Column(title, right=True) for title in titles), Column("Source")], rows)


def _shown(result: Counted, file: str, counted: Sequence[int]) -> list[tuple[int, str]]:
    """Lines of source around those that were counted; number 0 stands for some left out."""
    found: list[tuple[int, str]] = []
    before = None
    for number in counted:
        if before is not None and number - before > GAP:
            found.append((0, ""))
        elif before is not None:
            found += [(n, text) for n, text in result.files.lines(file, before + 1, number - 1)]
        found.append((number, result.files.line(file, number)))
        before = number
    indent = min((len(t) - len(t.lstrip()) for _, t in found if t.strip()), default=0)
    return [(n, t[indent:]) for n, t in found]


# -- what a GPU would make of it ----------------------------------------------------------------


def _print_occupancy(result: Counted) -> None:
    rows = [
        (o.kernel, o.target, str(o.registers), number_text(o.spill_bytes), format_bytes(o.shared_bytes),
         str(o.occupancy.blocks), f"{100 * o.occupancy.ratio:.0f} %", o.occupancy.limiter)
        for o in result.profile.occupancy
    ]  # fmt: skip
    if rows:
        right = ("Registers", "Spills", "Shared", "Blocks/SM", "Occupancy")
        columns = [Column("Kernel"), Column("Arch"), *(Column(t, right=True) for t in right)]
        print("occupancy, from the assembler's figures")
        print_table([*columns, Column("Limited by")], rows)


def _print_predictions(result: Counted) -> None:
    right = ("Arithmetic", "Memory once", "Every sector")
    rows = [
        (
            p.gpu,
            "–" if p.arithmetic_ms == 0 else time_text(p.arithmetic_ms),
            time_text(p.best_memory_ms),
            time_text(p.worst_memory_ms),
            p.bound,
        )
        for p in result.predictions
    ]
    if not result.profile.counters.moved_bytes:
        return
    print_wrapped(
        "predicted least time at full rates, from datasheets, without launches and latency; memory with "
        "perfect caches and with none"
    )
    print_table([Column("GPU"), *(Column(t, right=True) for t in right), Column("Bound")], rows)
