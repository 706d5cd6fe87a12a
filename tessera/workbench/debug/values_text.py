"""Values, lanes and variables as lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tessera.workbench.debug.array_text import GridStyle, array_part, array_text
from tessera.workbench.debug.number_text import number_text
from tessera.workbench.failure import paint

if TYPE_CHECKING:
    from tessera.emulator.debugging.view import Lane, Row

_MOST = 1024
"""Elements of an array that are written out."""


def value_text(value: Any, width: int = 80) -> list[str]:
    """A value of any kind as lines."""
    from tessera.emulator.debugging.values import ArrayValue

    if isinstance(value, ArrayValue):
        if value.count > _MOST:
            part = array_part(value)
            return [
                f"{value.type_name} in {value.space} memory, the first of it:",
                *array_text(part, GridStyle(width)),
            ]
        return [f"{value.type_name} in {value.space} memory:", *array_text(value.all(), GridStyle(width))]
    if isinstance(value, np.ndarray):
        return array_text(value, GridStyle(width))
    return [number_text(value)]


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
