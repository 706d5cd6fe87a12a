"""Arrays as grids of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tessera.workbench.debug.number_text import number_text
from tessera.workbench.failure import paint

if TYPE_CHECKING:
    from tessera.emulator.debugging.values import ArrayValue

_PER_AXIS = 16
"""Elements of each axis that are shown of an array too large to be shown whole."""
_IN_A_ROW = (32, 16, 8, 4, 2, 1)
"""How many elements of a vector stand in a row: as many of these as fit."""


@dataclass(frozen=True, slots=True)
class GridStyle:
    """How a grid is drawn."""

    width: int = 80
    """Columns of the terminal."""
    digits: int | None = None
    """Of floats; None: all that they have."""
    color: bool = False
    """Whether marks are a colour rather than a star."""


def array_part(value: ArrayValue) -> np.ndarray[Any, Any]:
    """The beginning of an array."""
    return np.asarray(value.part(tuple(slice(0, _PER_AXIS) for _ in value.shape)))


def array_text(
    values: np.ndarray[Any, Any],
    style: GridStyle = GridStyle(),
    *,
    marks: np.ndarray[Any, Any] | None = None,
) -> list[str]:
    """An array with its indices: the last two axes as rows and columns, a vector in rows.

    Args:
        values: What to show.
        style: How.
        marks: Elements to mark, in the same shape.
    """
    if values.size == 0:
        return [f"empty, shape {values.shape}"]
    flags = np.zeros(values.shape, np.bool_) if marks is None else marks
    if values.ndim <= 1:
        return _vector(values.reshape(-1), flags.reshape(-1), style)
    if values.ndim == 2:
        return _grid(values, flags, style)
    lines = []
    for index in np.ndindex(values.shape[:-2]):
        lines.append(f"[{', '.join(map(str, index))}, :, :]")
        lines += _grid(values[index], flags[index], style)
    return lines


def _vector(values: np.ndarray[Any, Any], flags: np.ndarray[Any, Any], style: GridStyle) -> list[str]:
    cells = [number_text(v, style.digits) for v in values]
    cell = max(map(len, cells)) + 2
    room = max(1, (style.width - 8) // cell)
    across = len(cells) if len(cells) <= room else next(n for n in _IN_A_ROW if n <= room)
    return [
        f"{f'[{start}]':>7} " + _row(cells[start : start + across], flags[start:], cell, style)
        for start in range(0, len(cells), across)
    ]


def _grid(values: np.ndarray[Any, Any], flags: np.ndarray[Any, Any], style: GridStyle) -> list[str]:
    cells = [[number_text(v, style.digits) for v in row] for row in values]
    cell = max(len(str(values.shape[1] - 1)), *(len(c) for row in cells for c in row)) + 2
    across = max(1, (style.width - 6) // cell)
    lines = []
    for start in range(0, values.shape[1], across):
        stop = min(start + across, values.shape[1])
        lines.append(" " * 5 + "".join(f"{column:>{cell}}" for column in range(start, stop)))
        lines += [
            f"{number:>4} " + _row(row[start:stop], flags[number, start:stop], cell, style)
            for number, row in enumerate(cells)
        ]
    return lines


def _row(cells: Sequence[str], flags: np.ndarray[Any, Any], width: int, style: GridStyle) -> str:
    return "".join(_cell(text, bool(flag), width, style) for text, flag in zip(cells, flags, strict=False))


def _cell(text: str, marked: bool, width: int, style: GridStyle) -> str:
    if marked and style.color:
        return " " * (width - len(text)) + paint(text, "yellow", style.color)
    return f"{'*' + text if marked else text:>{width}}"
