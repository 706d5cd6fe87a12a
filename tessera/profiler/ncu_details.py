"""What Nsight Compute's own rules say of a kernel: its details page.

Source: Nsight Compute CLI, "Pages" (`--page details`) and "Profiling" (`--apply-rules`, which is on).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tessera.profiler.ncu_csv import csv_rows, decimal_comma, kernel_name, number
from tessera.program.errors import RecordingError

URGENT = ("OPT", "WRN")
"""Kinds of findings that tell what to do; `INF` explains."""


@dataclass(frozen=True, slots=True)
class NcuFinding:
    """What one rule of Nsight Compute says of a kernel."""

    kernel: str
    section: str
    """`Occupancy`, `Source Counters`…"""
    rule: str
    """Its name, such as `UncoalescedGlobalAccess`; versions differ in how they write it."""
    kind: str
    """`OPT`, `WRN` or `INF`."""
    text: str
    speedup_percent: float | None = None
    """Estimated by Nsight Compute; None where it gives none."""
    speedup_scope: str = ""
    """`global`: of the kernel's time. `local`: of the unit that it speaks of."""


def read_findings(text: str) -> tuple[NcuFinding, ...]:
    """The findings of a details page, of each kernel and rule the one with the greatest speedup.

    Nothing where the page has no columns for rules, as in older versions.

    Raises:
        RecordingError: It is torn, or has numbers in two languages.
    """
    rows = csv_rows(text, open_end=True)
    start = next((i for i, row in enumerate(rows) if "Rule Name" in row and "Kernel Name" in row), None)
    if start is None:
        return ()
    head, body = rows[start], rows[start + 1 :]
    # A row of a metric ends where its rule would begin.
    short = head.index("Rule Name") + 1
    body = [row for row in body if not (len(row) == short and not row[-1])]
    torn = next((row for row in body if len(row) != len(head)), None)
    if torn is not None:
        raise RecordingError(
            f"ncu's page of rules is torn: a row of {len(torn)} cells where there are {len(head)} columns",
            hint="run it again; df -h shows whether the disk is full",
        )
    comma = "Estimated Speedup" in head and decimal_comma(
        row[head.index("Estimated Speedup")] for row in body
    )
    best: dict[tuple[str, str], NcuFinding] = {}
    for row in body:
        found = _finding(dict(zip(head, row, strict=True)), comma)
        if found is None:
            continue
        before = best.get((found.kernel, found.rule))
        if before is None or (found.speedup_percent or 0.0) > (before.speedup_percent or 0.0):
            best[found.kernel, found.rule] = found
    return ordered(tuple(best.values()))


def ordered(found: Sequence[NcuFinding]) -> tuple[NcuFinding, ...]:
    """What tells what to do first, by the speedup that it estimates."""
    return tuple(sorted(found, key=lambda f: (f.kind not in URGENT, -(f.speedup_percent or 0.0), f.rule)))


def _finding(row: dict[str, str], comma: bool) -> NcuFinding | None:
    rule, text = row.get("Rule Name", "").strip(), " ".join(row.get("Rule Description", "").split())
    if not rule or not text:
        return None
    return NcuFinding(
        kernel_name(row.get("Kernel Name", "")),
        row.get("Section Name", "").strip(),
        rule,
        row.get("Rule Type", "").strip(),
        text,
        number(row.get("Estimated Speedup", ""), comma),
        row.get("Estimated Speedup Type", "").strip(),
    )
