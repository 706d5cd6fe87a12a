"""Nsight Compute's source page: what it counted instruction by instruction, and by line of source.

Source: Nsight Compute CLI, "Pages" (`--page source`, `--print-source sass` and `cuda,sass`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tessera.profiler.ncu_csv import csv_rows, decimal_comma, kernel_name, number

PLACES = ("#", "Line No", "Source", "Address")
"""Columns that are no metrics."""
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "samples": ("# Samples", "Warp Stall Sampling (All Samples)", "Warp Stall Sampling (All Cycles)",
                "Sampling Data (All)", "smsp__pcsamp_sample_count"),
    "executed": ("Instructions Executed", "inst_executed"),
    "thread_executed": ("Thread Instructions Executed", "thread_inst_executed"),
    "thread_on": ("Predicated-On Thread Instructions Executed", "thread_inst_executed_true"),
    "divergent": ("Divergent Branches", "smsp__sass_branch_targets_threads_divergent"),
    "requests": ("L1 Tag Requests Global", "memory_l1_tag_requests_global"),
    "sectors": ("L2 Theoretical Sectors Global", "memory_l2_theoretical_sectors_global"),
    "ideal_sectors": ("L2 Theoretical Sectors Global Ideal", "memory_l2_theoretical_sectors_global_ideal"),
    "local_sectors": ("L2 Theoretical Sectors Local", "memory_l2_theoretical_sectors_local"),
    "wavefronts": ("L1 Wavefronts Shared", "memory_l1_wavefronts_shared"),
    "ideal_wavefronts": ("L1 Wavefronts Shared Ideal", "memory_l1_wavefronts_shared_ideal"),
}  # fmt: skip
"""Columns by what they hold: the newest version's title first, and the metric's own name."""
SAMPLE = 64
"""Instructions by which the begin of a kernel is found."""
_ADDRESS = re.compile(r"(?:0x)?([0-9a-fA-F]{2,})")
_GUARD = re.compile(r"^(?:\{\s*)?(?:@!?U?P\w+\s+)?")


@dataclass(frozen=True, slots=True)
class CodeLine:
    """Where an instruction of machine code comes from."""

    file: str
    line: int
    opcode: str
    """`LDG`, which tells whether it is the instruction that was counted."""
    callers: tuple[tuple[str, int], ...] = ()
    """Of inlined code: file and line of each call it was inlined at, the outermost first."""


Lines = Mapping[int, CodeLine]
"""By the offset of an instruction."""


def column(metrics: Mapping[str, float], what: str) -> float | None:
    """The number of the first column of that meaning that there is; None without one."""
    return next((metrics[name] for name in COLUMNS[what] if name in metrics), None)


@dataclass(frozen=True, slots=True)
class NcuInstruction:
    """One instruction of machine code in one kernel, all launches together."""

    kernel: str
    offset: int | None
    """Bytes from the kernel's first instruction; None of a view that has sums by line alone."""
    sass: str
    """`@P0 LDG.E R4, [R4.64]`."""
    file: str
    """Empty where it is not known."""
    line: int
    """0 where it is not known."""
    source: str
    """Text of the line, where ncu found the file."""
    metrics: Mapping[str, float]
    """By title of the column."""
    callers: tuple[tuple[str, int], ...] = ()
    """Of inlined code: file and line of each call it was inlined at, the outermost first."""

    @property
    def samples(self) -> float:
        """How often a warp was found here; 0 without samples."""
        return column(self.metrics, "samples") or 0.0

    @property
    def executed(self) -> float:
        """How often warps executed it."""
        return column(self.metrics, "executed") or 0.0

    @property
    def opcode(self) -> str:
        """`LDG`."""
        return _GUARD.sub("", self.sass, count=1).split(" ")[0].split(".")[0]


@dataclass(frozen=True, slots=True)
class NcuLine:
    """One line of source in one kernel, all of its instructions and launches together."""

    kernel: str
    file: str
    """Empty where the code has no line information."""
    line: int
    source: str
    instructions: int
    """Instructions of machine code that come from it."""
    metrics: Mapping[str, float]
    """By the columns of the source page: `Instructions Executed`, `stall_long_sb`, …"""

    @property
    def samples(self) -> float:
        """How often a warp was found here; 0 without samples."""
        return column(self.metrics, "samples") or 0.0

    @property
    def executed(self) -> float:
        """Instructions of machine code that warps executed."""
        return column(self.metrics, "executed") or 0.0

    @property
    def stalls(self) -> Mapping[str, float]:
        """Samples by the reason why the warp waited; those that there were, the most frequent first."""
        found = {n.removeprefix("stall_"): v for n, v in self.metrics.items() if n.startswith("stall_") and v}
        named = {n: v for n, v in found.items() if "(" not in n and n != "selected"}
        return dict(sorted(named.items(), key=lambda item: -item[1]))


def read_instructions(text: str) -> list[NcuInstruction]:
    """The instructions of a source page, the kernels in their order; launches of one kernel are added up.

    An instruction of a file that was inlined into another may be listed in the tables of both: it is counted
    where it is listed first.

    Raises:
        RecordingError: It ends in the middle, or has numbers in two languages.
    """
    rows = csv_rows(text)
    tables = _Tables(decimal_comma(cell for row in rows if len(row) > len(PLACES) for cell in row))
    for row in rows:
        tables.take(row)
    return tables.instructions()


def located(instructions: Iterable[NcuInstruction], tables: Mapping[str, Lines]) -> list[NcuInstruction]:
    """Instructions with the lines that the machine code itself says they come from.

    Args:
        instructions: Of `read_instructions`.
        tables: By kernel; what is not in them, or another instruction there, keeps the line that it has.
    """
    known = list(instructions)
    starts = {
        kernel: _start([i for i in known if i.kernel == kernel], table) for kernel, table in tables.items()
    }
    found = []
    for each in known:
        start = starts.get(each.kernel)
        place = None
        if start is not None and each.offset is not None:
            place = tables[each.kernel].get(each.offset - start)
        if place is not None and place.opcode == each.opcode:
            each = replace(each, file=place.file, line=place.line, source="", callers=place.callers)
        found.append(each)
    return found


def _start(instructions: Sequence[NcuInstruction], table: Lines) -> int | None:
    """Where a kernel begins among its instructions: functions that it calls may lie before it."""
    if not table:
        return None
    opcodes = {i.offset: i.opcode for i in instructions if i.offset is not None}
    first = min(table)
    sample = [(offset, table[offset].opcode) for offset in sorted(table)[:SAMPLE]]
    starts = [at - first for at, opcode in opcodes.items() if opcode == table[first].opcode]
    fits = {at: sum(opcodes.get(offset + at) == opcode for offset, opcode in sample) for at in starts}
    return max(fits, key=lambda at: (fits[at], -at)) if fits else None


def lines_of(instructions: Iterable[NcuInstruction]) -> list[NcuLine]:
    """Sums by line, in the order of the kernels and of the source."""
    found: dict[tuple[str, str, int], list[NcuInstruction]] = {}
    for each in instructions:
        found.setdefault((each.kernel, each.file, each.line), []).append(each)
    order = {kernel: i for i, kernel in enumerate(dict.fromkeys(key[0] for key in found))}
    return [
        NcuLine(
            kernel, file, line, next((i.source for i in own if i.source), ""), len(own),
            added(i.metrics for i in own),
        )
        for (kernel, file, line), own in sorted(
            found.items(), key=lambda item: (order[item[0][0]], item[0][1:])
        )
    ]  # fmt: skip


def added(metrics: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Sums by title; averages of instructions add up to nothing and are left out."""
    found: dict[str, float] = {}
    for each in metrics:
        for name, value in each.items():
            if not name.startswith("Avg."):
                found[name] = found.get(name, 0.0) + value
    return found


@dataclass(slots=True)
class _Row:
    """One row of numbers."""

    kernel: str
    launch: int
    address: int | None
    sass: str
    file: str
    line: int
    source: str
    metrics: Mapping[str, float]


@dataclass(slots=True)
class _Tables:
    """The tables of a source page, one after the other."""

    comma: bool
    kernel: str = ""
    file: str = ""
    head: list[str] = field(default_factory=list)
    place: tuple[int, str] = (0, "")
    """Line under which the next instructions stand."""
    launches: dict[str, int] = field(default_factory=dict)
    listed: set[tuple[str, str]] = field(default_factory=set)
    seen: set[tuple[str, int, int]] = field(default_factory=set)
    found: list[_Row] = field(default_factory=list)

    def take(self, row: Sequence[str]) -> None:
        """The next row."""
        first = row[0].lstrip("\ufeff").strip()
        if first in ("Kernel Name", "Function Name") and len(row) > 1:
            self._open(kernel_name(row[1]))
        elif first == "File Path" and len(row) > 1:
            self.file, self.head = row[1], []
        elif "Source" in row and (first in PLACES or "Address" in row):
            self.head, self.place = [first, *(name.strip() for name in row[1:])], (0, "")
        elif self.head:
            self._data(row)

    def instructions(self) -> list[NcuInstruction]:
        """What was found, launches added up: an instruction is the same at the same offset."""
        starts: dict[tuple[str, int], int] = {}
        for row in self.found:
            if row.address is not None:
                key = row.kernel, row.launch
                starts[key] = min(starts.get(key, row.address), row.address)
        sums: dict[tuple[str, int | None, str, int], NcuInstruction] = {}
        for row in self.found:
            offset = None if row.address is None else row.address - starts[row.kernel, row.launch]
            place = ("", 0) if offset is not None else (row.file, row.line)
            before = sums.get((row.kernel, offset, *place))
            metrics = row.metrics if before is None else added((before.metrics, row.metrics))
            sums[row.kernel, offset, *place] = NcuInstruction(
                row.kernel, offset, row.sass, row.file, row.line, row.source, metrics
            )
        return list(sums.values())

    def _open(self, kernel: str) -> None:
        self.kernel, self.head = kernel, []
        if (kernel, self.file) in self.listed:
            # The same table again is the next launch: its instructions are new ones.
            self.listed = {key for key in self.listed if key[0] != kernel}
            self.launches[kernel] = self.launches.get(kernel, 0) + 1
        self.listed.add((kernel, self.file))

    def _data(self, row: Sequence[str]) -> None:
        cells = [*row, *[""] * (len(self.head) - len(row))]
        line = number(self._cell(cells, "Line No") or self._cell(cells, "#"))
        if line is not None:
            self.place = int(line), cells[self.head.index("Source")]
        match = _ADDRESS.fullmatch(self._cell(cells, "Address"))
        address = int(match[1], 16) if match else None
        launch = self.launches.get(self.kernel, 0)
        # A view of source alone has sums in its rows; elsewhere a row without an address repeats the others.
        if (address is None and (line is None or "Address" in self.head)) or (
            address is not None and (self.kernel, launch, address) in self.seen
        ):
            return
        if address is not None:
            self.seen.add((self.kernel, launch, address))
        texts = [cells[i] for i, name in enumerate(self.head) if name == "Source"]
        place, source = self.place if self.file else (0, "")
        sass = texts[-1].strip() if address is not None and texts else ""
        metrics = self._metrics(cells)
        self.found.append(_Row(self.kernel, launch, address, sass, self.file, place, source, metrics))

    def _cell(self, cells: Sequence[str], name: str) -> str:
        return cells[self.head.index(name)].strip() if name in self.head else ""

    def _metrics(self, cells: Sequence[str]) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, cell in zip(self.head, cells, strict=False):
            value = None if name in PLACES or name in found else number(cell, self.comma)
            # Some versions list a column twice.
            if value is not None:
                found[name] = value
        return found
