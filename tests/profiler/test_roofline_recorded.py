"""Predicted times against those that docs/matmul.md and docs/attention.md record of an H200.

A prediction is a least time: no record may lie below it. How far above they lie, docs/occupancy.md says.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator
from pathlib import Path

from tessera.profiler import Work, judge

DOCS = Path(__file__).parents[2] / "docs"
TYPES = {"f16": (2, 2), "bf16": (2, 2), "tf32": (4, 4), "i8": (1, 4), "f8e4m3": (1, 2)}
"""Bytes of an operand and of a result."""
SHAPE = re.compile(r"(\d+) × (\d+) × (\d+)")


def table_rows(page: str, heading: str) -> Iterator[tuple[list[str], list[str]]]:
    """(head, cells) of every row of every table below a heading."""
    text = (DOCS / page).read_text(encoding="utf-8")
    head: list[str] = []
    for line in text[text.index(heading) :].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            head = []
        elif not head:
            head = cells
        elif not line.startswith("| ---"):
            yield head, cells


def products() -> Iterator[float]:
    """Measured time over predicted time of every product of matrices on record."""
    for head, cells in table_rows("matmul.md", "## Speed"):
        found = SHAPE.fullmatch(cells[0])
        if found is None:
            continue
        m, n, k = map(int, found.groups())
        for title, cell in zip(head, cells, strict=True):
            # Products of few rows are f16; the last table has a column of types.
            kind = (cells[1] if head[1] == "type" else "f16") if title == "Tessera" else title
            name = kind.split()[0].strip("`")
            if name in TYPES:
                yield 2 * m * n * k / float(cell) / 1e9 / predicted_product(m, n, k, name)


def predicted_product(m: int, n: int, k: int, name: str) -> float:
    operand, result = TYPES[name]
    moved = float(operand * (m * k + k * n) + result * m * n)
    pipe = "f8 tensor" if name.startswith("f8") else f"{name} tensor"
    return judge(Work("product", ((pipe, 2.0 * m * n * k),), moved, moved, "graph"), "H200").predicted_ms


def attentions() -> Iterator[float]:
    """The same of attention: 16384 queries in all, heads of 2048 columns together, bf16."""
    for head, cells in table_rows("attention.md", "## Speed"):
        if head[0] != "columns":
            continue
        share = 0.5 if cells[1] == "yes" else 1.0
        operations = 4.0 * 16384 * int(cells[2]) * 2048 * share
        work = Work("attention", (("bf16 tensor", operations),), 4.0 * 16384 * 2048 * 2, 0.0, "graph")
        yield operations / float(cells[3]) / 1e9 / judge(work, "H200").predicted_ms


def summary(what: str, ratios: list[float]) -> str:
    """The sentence that the manual has."""
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    return f"| {what} | {len(ratios)} | {low:.2f} | {middle:.2f} | {high:.2f} |"


def test_no_record_is_faster_than_predicted_and_the_manual_says_how_much_slower() -> None:
    manual = (DOCS / "occupancy.md").read_text(encoding="utf-8")
    for what, ratios in (("products of matrices", list(products())), ("attention", list(attentions()))):
        assert len(ratios) >= 20
        assert min(ratios) >= 1
        assert summary(what, ratios) in manual
