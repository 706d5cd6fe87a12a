"""How a table of names and numbers is laid out where the terminal is too narrow for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GAP = 2
"""Columns of the terminal between two of a table, and at its sides together."""
NAMES = 0.4
"""Share of the terminal that a column of names may take where there is not room for all."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    right: bool = False
    """Whether to align to the right, as numbers are."""
    wraps: bool = False
    """Whether the column gives way when the terminal is narrow."""


@dataclass(frozen=True, slots=True)
class Part:
    """A table, or as much of it as fits."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


def fit(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[Part]:
    """A table as one or more that fit: numbers are of no use in part.

    Names, which are the columns before the first number, lose letters in their middle; then columns go to
    further tables that begin with the same names. A table with a column that wraps stays as it is.

    Args:
        columns: From left to right.
        rows: One cell for each column.
        width: Of the terminal.
    """
    leading = next((i for i, c in enumerate(columns) if c.right), len(columns))
    whole = Part(tuple(columns), tuple(tuple(row) for row in rows))
    if any(c.wraps for c in columns) or not 0 < leading < len(columns) or _width(whole) <= width:
        return [whole]
    cells = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    names = [_shortened(cells[i], int(width * NAMES)) for i in range(leading)]
    own = [_room(column, texts) for column, texts in zip(columns, [*names, *cells[leading:]], strict=True)]
    groups: list[list[int]] = [[]]
    for i in range(leading, len(columns)):
        if groups[-1] and sum(own[j] + GAP for j in (*range(leading), *groups[-1], i)) > width:
            groups.append([])
        groups[-1].append(i)
    return [
        Part(
            (*columns[:leading], *(columns[i] for i in group)),
            tuple(zip(*names, *(cells[i] for i in group), strict=True)),
        )
        for group in groups
    ]


def _width(part: Part) -> int:
    cells = list(zip(*part.rows, strict=True)) if part.rows else [()] * len(part.columns)
    return sum(_room(column, texts) + GAP for column, texts in zip(part.columns, cells, strict=True))


def _room(column: Column, texts: Sequence[str]) -> int:
    return max(len(column.title), *map(len, texts)) if texts else len(column.title)


def _shortened(names: Sequence[str], width: int) -> Sequence[str]:
    """Names of at most so many letters; as they are if two would look the same."""
    cut = [_middle_cut(name, width) for name in names]
    return cut if len(set(cut)) == len(set(names)) else names


def _middle_cut(name: str, width: int) -> str:
    if len(name) <= width:
        return name
    end = (width - 1) // 2
    return f"{name[: width - 1 - end]}…{name[-end:]}"
