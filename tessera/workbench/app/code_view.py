"""A read-only view of code: line numbers, a line cursor, tints that tie lines of two views together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tessera.workbench.app.highlight import Line

HUES = ("#3b82f6", "#10b981", "#f59e0b", "#8b5cf6", "#ef4444", "#06b6d4")
"""Colours that neighbouring source lines take in turn."""
_TINT = 0.14
_MATCH = 0.42
_CURSOR = 0.12


class CodeView(ScrollView, can_focus=True):
    """Lines of code. Lines are drawn when they are seen: 10,000 lines cost what 40 do."""

    DEFAULT_CSS = """
    CodeView { background: $background; height: 1fr; scrollbar-size: 1 1; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False),
        Binding("home,g", "to_line(0)", "First line", show=False),
        Binding("end,G", "to_line(-1)", "Last line", show=False),
        Binding("left,h", "scroll_side(-8)", "Left", show=False),
        Binding("right,l", "scroll_side(8)", "Right", show=False),
    ]

    cursor: reactive[int] = reactive(0)
    """0-based line of the cursor."""

    class LineSelected(Message):
        """The cursor moved to another line by the user's hand."""

        def __init__(self, view: CodeView, line: int) -> None:
            super().__init__()
            self.view = view
            """The view."""
            self.line = line
            """0-based line."""

        @property
        def control(self) -> CodeView:
            """The view, for `@on` selectors."""
            return self.view

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._lines: list[Line] = []
        self._tints: dict[int, int] = {}
        self._matches: frozenset[int] = frozenset()
        self._error_line: int | None = None
        self._stops: frozenset[int] = frozenset()
        self._current: int | None = None

    def show(self, lines: list[Line], *, keep_place: bool = False) -> None:
        """Show other lines; with `keep_place` cursor and scroll stay where they are."""
        self._lines = lines
        self._tints, self._matches, self._error_line = {}, frozenset(), None
        width = max((sum(cell_len(piece) for piece, _ in line) for line in lines), default=0)
        self.virtual_size = Size(self._gutter + width + 1, len(lines))
        if keep_place:
            self.cursor = min(self.cursor, max(0, len(lines) - 1))
        else:
            self.cursor = 0
            self.scroll_to(0, 0, animate=False)
        self.refresh()

    def tint(self, tints: Mapping[int, int]) -> None:
        """Tint lines: by 0-based line the number of a hue."""
        self._tints = dict(tints)
        self.refresh()

    def match(self, lines: Iterable[int]) -> None:
        """Mark the lines that belong to the other view's cursor."""
        self._matches = frozenset(lines)
        self.refresh()

    def mark_error(self, line: int | None) -> None:
        """Mark a 0-based line as the one that an error is about, and show it."""
        self._error_line = line
        self.refresh()
        if line is not None:
            self.go_to(line)

    def mark_stops(self, lines: Iterable[int], current: int | None) -> None:
        """Mark 0-based lines that a program stops at, and the one that it stands at."""
        self._stops, self._current = frozenset(lines), current
        self.refresh()

    def go_to(self, line: int) -> None:
        """Put the cursor on a 0-based line, as near as there is one, and show it."""
        if self._lines:
            self.cursor = max(0, min(line, len(self._lines) - 1))
            # Right after other code is shown the view does not have its size yet.
            self.call_after_refresh(self.reveal, self.cursor)

    def reveal(self, line: int) -> None:
        """Scroll so that a line is seen with some lines after it; it stays where it is if it is."""
        top, height = self.scroll_offset.y, self.scrollable_content_region.height
        if not top <= line < top + height * 3 // 4:
            self.scroll_to(y=max(0, line - height // 3), animate=False)

    @property
    def text(self) -> str:
        """What it shows, as plain text."""
        return "\n".join("".join(piece for piece, _ in line) for line in self._lines)

    @property
    def matches(self) -> frozenset[int]:
        """0-based lines that are marked."""
        return self._matches

    @property
    def _gutter(self) -> int:
        return max(3, len(str(len(self._lines)))) + 3

    def watch_cursor(self, before: int, after: int) -> None:
        """Redraw the two lines that changed."""
        for line in (before, after):
            y = line - self.scroll_offset.y
            self.refresh(Region(0, y, self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        """One row of the screen."""
        width = self.scrollable_content_region.width
        index = y + self.scroll_offset.y
        background, foreground = self._colors()
        if index >= len(self._lines):
            return Strip.blank(width, Style(bgcolor=background.rich_color))
        line_color = self._background_of(index, background, foreground)
        base = Style(color=foreground.rich_color, bgcolor=line_color.rich_color)
        code = [Segment(piece, base + style) for piece, style in self._lines[index]]
        left = self.scroll_offset.x
        body = Strip(code).crop_extend(left, left + max(0, width - self._gutter), base)
        return Strip.join([self._gutter_strip(index, line_color, foreground), body])

    def _gutter_strip(self, index: int, line_color: Color, foreground: Color) -> Strip:
        here = index == self.cursor
        number = Style(
            color=(foreground if here else foreground.blend(line_color, 0.6)).rich_color,
            bgcolor=line_color.rich_color,
            bold=here,
        )
        mark, mark_style = " ", number
        if index == self._error_line or index in self._stops:
            mark, mark_style = "●", number + Style(color="red", bold=True)
        elif index == self._current:
            mark, mark_style = "▶", number + Style(color="yellow", bold=True)
        elif index in self._tints:
            hue = Color.parse(HUES[self._tints[index] % len(HUES)])
            mark, mark_style = "▌", number + Style(color=hue.rich_color)
        text = f"{index + 1:>{self._gutter - 2}}"
        return Strip([Segment(text, number), Segment(mark, mark_style), Segment(" ", number)])

    def _background_of(self, index: int, background: Color, foreground: Color) -> Color:
        if index == self._error_line:
            return background.blend(Color.parse("red"), 0.25)
        if index == self._current:
            return background.blend(Color.parse("yellow"), 0.22)
        color = background
        if index in self._tints:
            hue = Color.parse(HUES[self._tints[index] % len(HUES)])
            color = background.blend(hue, _MATCH if index in self._matches else _TINT)
        elif index in self._matches:
            color = background.blend(foreground, _MATCH)
        return color.blend(foreground, _CURSOR) if index == self.cursor and self.has_focus else color

    def _colors(self) -> tuple[Color, Color]:
        _, _, background, foreground = self.colors
        return _opaque(background), _opaque(foreground)

    def action_move(self, lines: int) -> None:
        """Move the cursor."""
        self._select(self.cursor + lines)

    def action_page(self, pages: int) -> None:
        """Move the cursor by screens."""
        self._select(self.cursor + pages * max(1, self.scrollable_content_region.height - 1))

    def action_to_line(self, line: int) -> None:
        """Move the cursor to a line; -1 is the last."""
        self._select(line if line >= 0 else len(self._lines) + line)

    def action_scroll_side(self, cells: int) -> None:
        """Scroll sideways."""
        self.scroll_relative(x=cells, animate=False)

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the line clicked on."""
        self._select(event.y + self.scroll_offset.y)

    def on_focus(self) -> None:
        """Show the cursor."""
        self.refresh()

    def on_blur(self) -> None:
        """Hide the cursor."""
        self.refresh()

    def _select(self, line: int) -> None:
        if not self._lines:
            return
        self.cursor = max(0, min(line, len(self._lines) - 1))
        self.scroll_to_region(Region(self.scroll_offset.x, self.cursor, 1, 1), animate=False)
        self.post_message(self.LineSelected(self, self.cursor))


def _opaque(color: Color) -> Color:
    """A colour that Rich can show: themes of the terminal's own colours have no RGB of their own."""
    return color if color.ansi is None else Color(color.r, color.g, color.b)
