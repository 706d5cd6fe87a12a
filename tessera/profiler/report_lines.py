"""The source of a kernel line by line: what was counted there, what it costs, what it became."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tessera.profiler.report_runs import AssemblyRow, SourceLine, SourceListing
from tessera.profiler.source_lines import SourceFiles

if TYPE_CHECKING:
    from tessera.compiler.sass import Instruction
    from tessera.emulator.counters import Counters, LineCounts
    from tessera.profiler.advice import Advice

GAP = 6
"""Lines of source without code in between that are left out."""

_Cell = Callable[["LineCounts", "Counters"], str]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole and part else ""


def _sectors(line: LineCounts, _: Counters) -> str:
    access = line.memory("global")
    if not access.requests:
        return ""
    return f"{access.passes / access.requests:.3g} / {access.ideal / access.requests:.3g}"


COLUMNS: tuple[tuple[str, str, Callable[[Counters], bool], _Cell], ...] = (
    ("instructions", "executed by warps, of the kernel's", lambda c: bool(c.executed),
     lambda n, c: _percent(n.executed, c.executed)),
    ("threads", "active of 32, on average", lambda c: c.threads < 32 * c.executed,
     lambda n, _: f"{n.threads_per_instruction:.1f}" if n.threads_per_instruction is not None else ""),
    ("sectors", "of 32 bytes for each request of global memory, and the ideal",
     lambda c: bool(c.memory("global").requests), _sectors),
    ("conflicts", "wavefronts of shared memory beyond the ideal",
     lambda c: bool(c.memory("shared").requests),
     lambda n, _: f"{n.memory('shared').excess:,}" if n.memory("shared").requests else ""),
    ("divergent", "branches at which a warp went apart, of the line's", lambda c: bool(c.divergent),
     lambda n, _: _percent(n.divergent, n.branches)),
    ("FLOP", "floating-point operations", lambda c: bool(c.flops + c.tensor_flops),
     lambda n, _: f"{n.flops + n.tensor_flops:,}" if n.flops + n.tensor_flops else ""),
)  # fmt: skip
"""Title, meaning, whether a kernel has it at all, text of a line."""


@dataclass(frozen=True, slots=True)
class LineCode:
    """A kernel's code, and where each piece of it comes from."""

    ptx: str = ""
    """The text that was emulated, or would be."""
    ptx_target: str | None = None
    ptx_places: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    """Line of the PTX, from 1 → file and line of the source; for code that was not counted."""
    sass: Sequence[Instruction] = ()
    sass_target: str | None = None


def source_listings(
    program: str,
    kernel: str,
    code: LineCode,
    files: SourceFiles,
    *,
    counters: Counters | None = None,
    advice: Sequence[Advice] = (),
    device: str | None = None,
    sizes: Mapping[str, int] | None = None,
    notes: Sequence[str] = (),
) -> tuple[SourceListing, ...]:
    """The lines that a kernel comes from, one listing for each file.

    Args:
        program: Whose kernel it is.
        kernel: Its name.
        code: What it was compiled to.
        files: Where the source is read.
        counters: What was counted; None: nothing was.
        advice: What stands out; that of other kernels is left out.
        device: What counted.
        sizes: Sizes that were counted with.
        notes: What is missing, and why.
    """
    ptx, sass = _ptx_rows(code, counters), _sass_rows(code)
    counted = {(line.file, line.line): line for line in (counters.lines() if counters else ())}
    columns = [c for c in COLUMNS if counters is not None and c[2](counters)]
    places = sorted({*ptx, *sass, *counted} - {NOWHERE})

    def line_of(place: tuple[str, int]) -> SourceLine:
        found = counted.get(place)
        return SourceLine(
            number=place[1],
            text=files.line(*place),
            cells=tuple(cell(found, counters) if found and counters else "" for *_, cell in columns),
            share=found.executed / counters.executed if found and counters and counters.executed else None,
            advice=tuple(a.text for a in mine if (a.file, a.line) == place),
            ptx=tuple(ptx.get(place, ())),
            sass=tuple(sass.get(place, ())),
        )

    mine = [a for a in advice if a.kernel == kernel]
    own: list[SourceListing] = []
    for file in dict.fromkeys(file for file, _ in places) or ([""] if ptx or sass else []):
        numbers = _shown(files, file, [line for name, line in places if name == file])
        lines = [line_of((file, number)) for number in numbers]
        if not own and (NOWHERE in ptx or NOWHERE in sass):
            words = "(code of no line)" if places else "(the code has no line information)"
            rest = line_of(NOWHERE)
            lines.append(replace(rest, text=words, cells=("",) * len(columns), share=None))
        own.append(
            SourceListing(
                program=program,
                kernel=kernel,
                file=file,
                columns=tuple((title, meaning) for title, meaning, *_ in columns),
                lines=tuple(lines),
                device=device if counters is not None else None,
                sizes=dict(sorted((sizes or {}).items())),
                ptx_target=code.ptx_target,
                sass_target=code.sass_target,
                notes=tuple(notes),
                written=files.generated(file),
            )
        )
    shown = {(listing.file, line.number) for listing in own for line in listing.lines if line.number}
    shown |= {NOWHERE} if any(line.number == 0 for listing in own for line in listing.lines) else set()
    whole = [a.text for a in mine if (a.file, a.line) not in shown]
    # A kernel as a whole is found fault with where it is defined, which may have no code of its own.
    return (replace(own[0], notes=(*whole, *own[0].notes)), *own[1:]) if own and whole else tuple(own)


NOWHERE = ("", 0)
"""The place of code that has no line."""
_Rows = dict[tuple[str, int], list[AssemblyRow]]


def _ptx_rows(code: LineCode, counters: Counters | None) -> _Rows:
    """By place in the source; instructions as they were counted, or by the PTX's own line information."""
    text = code.ptx.splitlines()
    rows: _Rows = {}
    if counters is not None:
        for i in sorted(counters.instructions, key=lambda i: i.ptx_line):
            if 0 < i.ptx_line <= len(text):
                place = (i.file, i.source_line) if i.source_line else NOWHERE
                rows.setdefault(place, []).append(
                    AssemblyRow(i.ptx_line, text[i.ptx_line - 1].strip(), i.executed)
                )
        return rows
    for number, place in sorted(code.ptx_places.items()):
        if 0 < number <= len(text):
            rows.setdefault(place, []).append(AssemblyRow(number, text[number - 1].strip()))
    return rows


def _sass_rows(code: LineCode) -> _Rows:
    rows: _Rows = {}
    for instruction in code.sass:
        known = instruction.file is not None and bool(instruction.line)
        place = (instruction.file or "", instruction.line or 0) if known else NOWHERE
        rows.setdefault(place, []).append(AssemblyRow(instruction.offset, instruction.text))
    return rows


def _shown(files: SourceFiles, file: str, numbers: Sequence[int]) -> list[int]:
    """Numbers of lines, those between close ones as well."""
    found: list[int] = []
    for number in numbers:
        if found and number - found[-1] <= GAP:
            found += [n for n, _ in files.lines(file, found[-1] + 1, number - 1)]
        found.append(number)
    return found
