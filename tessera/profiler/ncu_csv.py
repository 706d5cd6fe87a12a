"""Nsight Compute's CSV: its raw page, one row per launch, and its source page, one row per instruction.

Source: Nsight Compute CLI, "Pages" (`--page raw`, `--page source --print-source cuda,sass`).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tessera.program.errors import RecordingError

IDENTITY = ("ID", "Process ID", "Process Name", "Host Name", "Kernel Name", "Context", "Stream", "Block Size",
            "Grid Size", "Device", "CC", "Kernel Time", "Section Name")  # fmt: skip
"""Columns of the raw page that are no metrics."""
PLACES = ("#", "Line No", "Source", "Address")
"""Columns of the source page that are no metrics."""
SAMPLES = ("# Samples", "Warp Stall Sampling (All Samples)", "Warp Stall Sampling (All Cycles)",
           "Sampling Data (All)")  # fmt: skip
"""What the samples of a line are called, newest version first."""
EXECUTED = "Instructions Executed"
UNITS: Mapping[str, tuple[str, float]] = {
    **{unit: ("ns", scale) for scale, units in (
        (1.0, ("ns", "nsecond")), (1e3, ("us", "usecond")), (1e6, ("ms", "msecond")), (1e9, ("s", "second")),
    ) for unit in units},
    **{f"{prefix}{unit}": (unit, scale) for unit in ("byte", "byte/s", "byte/second", "hz")
       for prefix, scale in (("", 1.0), ("K", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12))},
}  # fmt: skip
"""By unit: the base unit and how many of it one is. Older versions write them out."""

_BLANKS = str.maketrans("", "", "\u00a0\u202f\u2009\u2007 '\u2019")
_POINT = re.compile(r"-?\d{1,3}(,\d{3})+\.\d+|-?\d{1,3}(,\d{3}){2,}|-?\d+\.(\d{1,2}|\d{4,})|-?0\.\d+")
_COMMA = re.compile(r"-?\d{1,3}(\.\d{3})+,\d+|-?\d{1,3}(\.\d{3}){2,}|-?\d+,(\d{1,2}|\d{4,})|-?0,\d+")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]+|[0-9a-fA-F]{4,}")


@dataclass(frozen=True, slots=True)
class NcuLaunch:
    """One launch of a kernel, counted."""

    index: int
    """Place among the launches that were counted."""
    kernel: str
    """Name without arguments."""
    grid: str
    block: str
    metrics: Mapping[str, float]
    """By Nsight Compute's names, in base units: ns, byte, hz, %."""


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
        return next((self.metrics[name] for name in SAMPLES if name in self.metrics), 0.0)

    @property
    def executed(self) -> float:
        """Instructions of machine code that warps executed."""
        return self.metrics.get(EXECUTED, 0.0)

    @property
    def stalls(self) -> Mapping[str, float]:
        """Samples by the reason why the warp waited; those that there were, the most frequent first."""
        found = {n.removeprefix("stall_"): v for n, v in self.metrics.items() if n.startswith("stall_") and v}
        named = {n: v for n, v in found.items() if "(" not in n and n != "selected"}
        return dict(sorted(named.items(), key=lambda item: -item[1]))


def decimal_comma(cells: Iterable[str]) -> bool:
    """Whether numbers have their decimals after a comma, as `1.234,5` has.

    Nsight Compute writes numbers as the language settings of its process say. `1,234` alone could be either:
    the numbers that can only be one of them decide for all, and a point is taken where none does.

    Raises:
        RecordingError: Some can only have a comma and others only a point.
    """
    comma = point = None
    for cell in cells:
        text = cell.translate(_BLANKS)
        comma = comma or (text if _COMMA.fullmatch(text) else None)
        point = point or (text if _POINT.fullmatch(text) else None)
        if comma and point:
            raise RecordingError(
                f"ncu wrote numbers in two languages: {point!r} and {comma!r}",
                hint="LC_ALL=C tessera profile …",
            )
    return comma is not None


def number(cell: str, comma: bool = False) -> float | None:
    """A number as ncu writes it; None for what is none, such as `n/a`, `-` and text.

    Args:
        cell: Of the CSV.
        comma: Whether decimals stand after a comma.
    """
    text = cell.translate(_BLANKS)
    text = text.replace(".", "").replace(",", ".") if comma else text.replace(",", "")
    if not re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", text):
        return None
    return float(text)


def kernel_name(text: str) -> str:
    """A kernel's name without its arguments, as in `saxpy(float *, long)`."""
    return text.split("(")[0].split("<")[0].removeprefix("void ").strip()


def read_launches(text: str) -> list[NcuLaunch]:
    """The launches of a raw page; what the profiled program printed before it is passed over.

    Raises:
        RecordingError: There is no such page in it, or it ends in the middle.
    """
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.lstrip("\ufeff").startswith('"ID"')), None)
    if start is None:
        said = " ".join(text.split())[:200]
        raise RecordingError(
            f"ncu printed no table of metrics{': ' + said if said else ''}",
            hint="ncu --version; tessera diag",
        )
    rows = _rows("\n".join(lines[start:]))
    head, body = [name.lstrip("\ufeff") for name in rows[0]], rows[1:]
    torn = next((row for row in body if len(row) != len(head)), None)
    if torn is not None:
        raise RecordingError(
            f"ncu's table of metrics is torn: a row of {len(torn)} cells where there are {len(head)} columns",
            hint="run it again; df -h shows whether the disk is full",
        )
    at = head.index("ID")
    units = next((dict(zip(head, row, strict=True)) for row in body if not row[at].strip()), {})
    launches = [dict(zip(head, row, strict=True)) for row in body if row[at].strip().isdigit()]
    names = [name for name in head if name not in IDENTITY]
    comma = decimal_comma(row[name] for row in launches for name in names)
    return [
        NcuLaunch(
            index,
            kernel_name(row.get("Kernel Name", "")),
            row.get("Grid Size", ""),
            row.get("Block Size", ""),
            dict(_scaled(row, names, units, comma)),
        )
        for index, row in enumerate(launches)
    ]


def _scaled(
    row: Mapping[str, str], names: Sequence[str], units: Mapping[str, str], comma: bool
) -> Iterator[tuple[str, float]]:
    for name in names:
        value = number(row[name], comma)
        if value is not None:
            yield name, value * UNITS.get(units.get(name, ""), ("", 1.0))[1]


def _rows(text: str) -> list[list[str]]:
    """The rows of a page, without what else ncu said."""
    last = text.rstrip("\n").rpartition("\n")[2]
    # Every cell is quoted: half a number would pass for a whole one.
    if last.count('"') % 2:
        raise RecordingError(
            f"what ncu printed is torn: its last line is {last[-60:]!r}",
            hint="run it again; df -h shows whether the disk is full",
        )
    return [row for row in csv.reader(io.StringIO(text)) if not _said(row)]


def _said(row: Sequence[str]) -> bool:
    """Whether a row is a message of ncu, or nothing."""
    return not row or row[0].startswith("==") or not any(cell.strip() for cell in row)


def read_lines(text: str) -> list[NcuLine]:
    """The lines of a source page, by kernel and file; launches of one kernel are added up.

    An instruction of a file that was inlined into another may be listed in the tables of both: it is counted
    where it is listed first.

    Raises:
        RecordingError: It ends in the middle, or has numbers in two languages.
    """
    rows = _rows(text)
    comma = decimal_comma(cell for row in rows if _is_data(row) for cell in row)
    tables = _Tables(comma)
    for row in rows:
        tables.take(row)
    return tables.lines()


def _is_data(row: Sequence[str]) -> bool:
    return len(row) > 4


class _Tables:
    """The tables of a source page, one after the other."""

    def __init__(self, comma: bool) -> None:
        self._comma = comma
        self._kernel = self._file = ""
        self._head: list[str] = []
        self._seen: dict[str, set[str]] = {}
        self._listed: set[tuple[str, str]] = set()
        self._place = (0, "")
        self._found: dict[tuple[str, str, int], _Sum] = {}

    def take(self, row: Sequence[str]) -> None:
        """The next row."""
        first = row[0].lstrip("\ufeff").strip()
        if first in ("Kernel Name", "Function Name") and len(row) > 1:
            self._open(kernel_name(row[1]))
        elif first == "File Path" and len(row) > 1:
            self._file, self._head = row[1], []
        elif "Source" in row and (first in PLACES or "Address" in row):
            self._head = [name.strip() for name in row]
            self._head[0] = first
            self._place = (0, "")
        elif self._head:
            self._data(row)

    def lines(self) -> list[NcuLine]:
        """What was found, the kernels in their order and the lines in theirs."""
        order = {kernel: i for i, kernel in enumerate(dict.fromkeys(key[0] for key in self._found))}
        return [
            NcuLine(kernel, file, line, own.source, own.instructions, own.metrics)
            for (kernel, file, line), own in sorted(
                self._found.items(), key=lambda item: (order[item[0][0]], item[0][1:])
            )
        ]

    def _open(self, kernel: str) -> None:
        self._kernel, self._head = kernel, []
        if (kernel, self._file) in self._listed:
            # The same table again is the next launch: its instructions are new ones.
            self._listed = {key for key in self._listed if key[0] != kernel}
            self._seen.pop(kernel, None)
        self._listed.add((kernel, self._file))

    def _data(self, row: Sequence[str]) -> None:
        cells = [*row, *[""] * (len(self._head) - len(row))]
        address = self._cell(cells, "Address")
        line = number(self._cell(cells, "Line No") or self._cell(cells, "#"))
        if line is not None:
            self._place = (int(line), cells[self._head.index("Source")])
        if address and _ADDRESS.fullmatch(address):
            seen = self._seen.setdefault(self._kernel, set())
            if address not in seen:
                seen.add(address)
                self._sum(self._place if self._file else (0, "")).add(self._head, cells, self._comma)
        elif line is not None and "Address" not in self._head:
            # A view of source alone: its rows are sums already.
            self._sum(self._place).add(self._head, cells, self._comma)

    def _cell(self, cells: Sequence[str], name: str) -> str:
        return cells[self._head.index(name)].strip() if name in self._head else ""

    def _sum(self, place: tuple[int, str]) -> _Sum:
        own = self._found.setdefault((self._kernel, self._file, place[0]), _Sum())
        own.source = own.source or place[1]
        return own


class _Sum:
    def __init__(self) -> None:
        self.source = ""
        self.instructions = 0
        self.metrics: dict[str, float] = {}

    def add(self, head: Sequence[str], cells: Sequence[str], comma: bool) -> None:
        self.instructions += 1
        taken: set[str] = set()
        for name, cell in zip(head, cells, strict=False):
            value = None if name in PLACES or name in taken else number(cell, comma)
            # Some versions list a column twice, and averages of instructions add up to nothing.
            taken.add(name)
            if value is not None and not name.startswith("Avg."):
                self.metrics[name] = self.metrics.get(name, 0.0) + value
