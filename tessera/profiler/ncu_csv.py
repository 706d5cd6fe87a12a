"""Nsight Compute's CSV: numbers in any language, and the raw page, one row per launch.

Source: Nsight Compute CLI, "Pages" (`--page raw`).
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
    cc: str = ""
    """Compute capability of the GPU, such as `9.0`."""


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
    rows = csv_rows("\n".join(lines[start:]))
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
            row.get("CC", ""),
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


def csv_rows(text: str, *, open_end: bool = False) -> list[list[str]]:
    """The rows of a page, without what else ncu said.

    Args:
        text: The page.
        open_end: Whether a row may end with a comma, as those of the details page do that hold no rule.

    Raises:
        RecordingError: It ends within a cell.
    """
    last = text.rstrip("\r\n").rpartition("\n")[2]
    # Every cell is quoted, the empty ones too: half a number would pass for a whole one.
    ends = ('"', '",') if open_end else '"'
    if last.startswith('"') and (last.count('"') % 2 or not last.endswith(ends)):
        raise RecordingError(
            f"what ncu printed is torn: its last line is {last[-60:]!r}",
            hint="run it again; df -h shows whether the disk is full",
        )
    return [row for row in csv.reader(io.StringIO(text)) if not _said(row)]


def _said(row: Sequence[str]) -> bool:
    """Whether a row is a message of ncu, or nothing."""
    return not row or row[0].startswith("==") or not any(cell.strip() for cell in row)
