"""Numbers, lanes and arrays as lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tessera.workbench.failure import paint, visible

if TYPE_CHECKING:
    from tessera.emulator.debugging.values import ArrayValue
    from tessera.emulator.debugging.view import Lane, Row

NONE = "·"
"""Stands for a value that there is not."""
_MOST = 1024
"""Elements of an array that are written out."""


def number_text(value: Any) -> str:
    """A value, as short as it can be read."""
    if value is None:
        return NONE
    if isinstance(value, (bool, np.bool_)):
        return "True" if value else "False"
    if isinstance(value, (float, np.floating)):
        return _float_text(value)
    if isinstance(value, tuple):
        return "(" + ", ".join(number_text(v) for v in value) + ")"
    return visible(str(value))


def _float_text(value: Any) -> str:
    digits = {2: 4, 4: 7}.get(getattr(getattr(value, "dtype", None), "itemsize", 8), 12)
    return f"{float(value):.{digits}g}"


def value_text(value: Any, width: int = 80) -> list[str]:
    """A value of any kind as lines."""
    from tessera.emulator.debugging.values import ArrayValue

    if isinstance(value, ArrayValue):
        if value.count > _MOST:
            part = array_part(value)
            return [f"{value.type_name} in {value.space} memory, the first of it:", *array_text(part, width)]
        return [f"{value.type_name} in {value.space} memory:", *array_text(value.all(), width)]
    if isinstance(value, np.ndarray):
        return array_text(value, width)
    return [number_text(value)]


def array_part(value: ArrayValue) -> np.ndarray[Any, Any]:
    """The beginning of an array: at most 16 of each axis."""
    return np.asarray(value.part(tuple(slice(0, 16) for _ in value.shape)))


def array_text(
    values: np.ndarray[Any, Any], width: int = 80, *, marks: np.ndarray[Any, Any] | None = None,
    color: bool = False,
) -> list[str]:  # fmt: skip
    """An array as a grid with its indices: rows and columns of the last two axes.

    Args:
        values: What to show.
        width: Columns of the terminal.
        marks: Elements to mark, in the same shape.
        color: Whether to mark in colour rather than by a star.
    """
    if values.size == 0:
        return [f"empty, shape {values.shape}"]
    if values.ndim <= 1:
        flat = values.reshape(-1)
        cells = [number_text(v) for v in flat]
        cell = max(map(len, cells)) + 2
        across = max(1, (width - 8) // cell)
        across = next((n for n in (32, 16, 8, 4, 2, 1) if n <= across), 1)
        grid = flat.reshape(1, -1) if flat.size <= across else flat
        rows = [grid.reshape(-1)[i : i + across] for i in range(0, flat.size, across)]
        flags = None if marks is None else marks.reshape(-1)
        return [
            f"{f'[{i * across}]':>7} "
            + "".join(
                _cell(v, cell, flags is not None and bool(flags[i * across + k]), color)
                for k, v in enumerate(row)
            )
            for i, row in enumerate(rows)
        ]
    if values.ndim > 2:
        lines = []
        for index in np.ndindex(values.shape[:-2]):
            lines.append(f"[{', '.join(map(str, index))}, :, :]")
            lines += array_text(
                values[index], width, marks=None if marks is None else marks[index], color=color
            )
        return lines
    return _grid(values, width, marks, color)


def _grid(
    values: np.ndarray[Any, Any], width: int, marks: np.ndarray[Any, Any] | None, color: bool
) -> list[str]:
    cell = max(max(len(number_text(v)) for v in values.reshape(-1)), len(str(values.shape[1] - 1))) + 2
    across = max(1, (width - 6) // cell)
    lines = []
    for start in range(0, values.shape[1], across):
        stop = min(start + across, values.shape[1])
        lines.append(" " * 5 + "".join(f"{c:>{cell}}" for c in range(start, stop)))
        for r in range(values.shape[0]):
            cells = (
                _cell(values[r, c], cell, marks is not None and bool(marks[r, c]), color)
                for c in range(start, stop)
            )
            lines.append(f"{r:>4} " + "".join(cells))
    return lines


def _cell(value: Any, width: int, marked: bool, color: bool) -> str:
    text = number_text(value)
    if not marked:
        return f"{text:>{width}}"
    return " " * (width - len(text)) + paint(text, "yellow", color) if color else f"{'*' + text:>{width}}"


def lane_cell(lane: Lane, *, color: bool = False) -> tuple[str, str]:
    """A lane's value as plain text, and how it is drawn.

    In parentheses or dim if the lane is inactive, with a star or in yellow if it changed.
    """
    text = number_text(lane.value)
    if color:
        style = "yellow" if lane.changed else "dim" if not lane.active else ""
        return text, paint(text, style, color) if style else text
    text = f"*{text}" if lane.changed else text
    text = text if lane.active else f"({text})"
    return text, text


def lanes_text(lanes: Sequence[Lane], width: int = 80, *, color: bool = False) -> list[str]:
    """The values of a warp's lanes as a grid, the number of its first lane before each row."""
    cells = [lane_cell(lane, color=color) for lane in lanes]
    cell = max((len(plain) for plain, _ in cells), default=1) + 2
    across = next((n for n in (32, 16, 8, 4, 2) if n * cell + 5 <= width), 1)
    lines = []
    for start in range(0, len(cells), across):
        row = "".join(" " * (cell - len(plain)) + drawn for plain, drawn in cells[start : start + across])
        lines.append(f"{lanes[start].lane:>4} {row}")
    return lines


def row_text(row: Row, lane: int) -> str:
    """What a variable is in one lane, in few words; and of an array, what it is."""
    from tessera.emulator.debugging.values import ArrayValue

    found = next((item for item in row.lanes if item.lane == lane), None)
    if found is None:
        return row.type
    if isinstance(found.value, ArrayValue):
        if found.value.count <= 8 and found.value.space == "local":
            return "[" + ", ".join(number_text(v) for v in found.value.all().reshape(-1)) + "]"
        return f"in {found.value.space} memory"
    return (
        "not assigned yet"
        if found.value is None and "not assigned" in found.note
        else number_text(found.value)
    )


def uniform(row: Row) -> bool:
    """Whether a variable is the same in every lane that has it."""
    texts = {number_text(lane.value) for lane in row.lanes if lane.value is not None}
    return len(texts) <= 1
