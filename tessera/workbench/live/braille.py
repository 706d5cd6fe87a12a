"""Charts of braille dots: two columns and four rows of dots in a cell."""

from __future__ import annotations

from collections.abc import Sequence

_BLANK = 0x2800
_BITS = ((0x40, 0x80), (0x04, 0x20), (0x02, 0x10), (0x01, 0x08))
"""Bit of each dot, rows from the bottom, columns from the left. Source: Unicode, Braille Patterns."""


def area_chart(values: Sequence[float | None], height: int, top: float) -> list[str]:
    """Rows of text, the uppermost first: an area under `values`, one column of dots each.

    The axis goes from 0 to `top`, whatever the values are: a constant 100 % is a full area.
    What is None stays empty; what is above 0 has a dot at least.

    Args:
        values: One for each column of dots; two fit a cell.
        height: Rows of text.
        top: Value at the upper edge.
    """
    dots = [_dots(value, height * 4, top) for value in values]
    if len(dots) % 2:
        dots.append(0)
    rows = []
    for row in reversed(range(height)):
        cells = []
        for left, right in zip(dots[::2], dots[1::2], strict=True):
            code = _BLANK
            for line, (first, second) in enumerate(_BITS):
                level = row * 4 + line
                code |= (first if left > level else 0) | (second if right > level else 0)
            cells.append(chr(code))
        rows.append("".join(cells))
    return rows


def _dots(value: float | None, most: int, top: float) -> int:
    if value is None or value <= 0 or top <= 0:
        return 0
    return max(1, min(most, round(value / top * most)))


def bar(share: float | None, width: int) -> str:
    """A horizontal bar of eighths; dots where the share is unknown."""
    if share is None:
        return "·" * width
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    text = "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
    return text.ljust(width)[:width]
