"""Parts of the debugger's screen: variables by lanes, text that scrolls, the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import ScrollableContainer, Vertical
from textual.widgets import DataTable, Input, Static

from tessera.workbench.debug.number_text import number_text
from tessera.workbench.debug.values_text import row_text
from tessera.workbench.failure import visible

if TYPE_CHECKING:
    from tessera.emulator.debugging.view import Lane, Row

_LONGEST = 14
"""Letters of a cell; the rest is cut off."""


class Variables(DataTable[Text]):
    """Variables of the function down, lanes of the warp across."""

    def on_mount(self) -> None:
        """Lanes scroll under the names."""
        self.cursor_type = "cell"
        self.zebra_stripes = False

    def show(self, rows: Sequence[Row], lane: int, active: int) -> None:
        """Other values.

        Args:
            rows: Variables with their values in every lane.
            lane: The lane in focus; its column comes first.
            active: Lanes that take part in the next instruction, as bits.
        """
        at = self.cursor_coordinate
        # Arrays that all lanes share say the same in every lane: they come last.
        rows = sorted(rows, key=lambda row: row.space in ("global", "shared"))
        lanes = [item.lane for item in max((r.lanes for r in rows), key=len, default=())]
        order = [lane, *(n for n in lanes if n != lane)] if lane in lanes else lanes or [lane]
        table = [[self._head(row), *self._cells(row, order, lane)] for row in rows]
        self.clear(columns=True)
        self.fixed_columns = 1
        for i, title in enumerate([Text("variable"), *(_title(n, lane, active) for n in order)]):
            # Without a width the table measures every cell, which takes longer than all the rest.
            width = max(title.cell_len, *(line[i].cell_len for line in table if i < len(line)), 1)
            self.add_column(title, width=width, key=str(i))
        for line in table:
            self.add_row(*line)
        self.move_cursor(row=min(at.row, max(len(rows) - 1, 0)), column=min(at.column, len(order)))

    def _head(self, row: Row) -> Text:
        text = Text(visible(row.name), style="bold yellow" if row.changed else "bold", no_wrap=True)
        return text.append(f" {visible(row.type)}", style="not bold dim")

    def _cells(self, row: Row, order: Sequence[int], lane: int) -> list[Text]:
        if row.space in ("global", "shared"):
            return [Text(row.space, style="dim"), *(Text("") for _ in order[1:])]
        by_lane = {item.lane: item for item in row.lanes}
        cells = []
        for number in order:
            item = by_lane.get(number)
            text = "" if item is None else row_text(row, number) if row.space else number_text(item.value)
            cells.append(Text(_cut(text), style=_style(item, focused=number == lane), no_wrap=True))
        return cells


def _title(number: int, lane: int, active: int) -> Text:
    if number == lane:
        return Text(f"▸{number}", style="bold")
    return Text(str(number), style="" if active >> number & 1 else "dim")


def _style(lane: Lane | None, *, focused: bool) -> str:
    if lane is None or not lane.active:
        return "dim"
    return "yellow" if lane.changed else "bold" if focused else ""


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


class TextPane(Vertical):
    """A caption, and text under it that scrolls both ways."""

    def __init__(self, caption: str, *, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes="scroller")
        self._caption = caption

    def compose(self) -> ComposeResult:
        """Caption and text."""
        yield Static(self._caption, classes="caption", markup=False)
        with ScrollableContainer():
            yield Static("", classes="text", markup=False)

    def show(self, text: Text | str, caption: str | None = None) -> None:
        """Other text."""
        if caption is not None:
            self.query_one(".caption", Static).update(caption)
        self.query_one(".text", Static).update(text)

    @property
    def text(self) -> str:
        """What it shows, as plain text."""
        return str(self.query_one(".text", Static).content)


class CommandLine(Input):
    """The debugger's command line, with its history."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "earlier(1)", "Earlier", show=False),
        Binding("down", "earlier(-1)", "Later", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(id="command", placeholder="a command, such as print x[i-2:i+3]; help lists them")
        self.history: list[str] = []
        self._back = 0

    def remember(self, line: str) -> None:
        """A line was carried out."""
        if line and (not self.history or self.history[-1] != line):
            self.history.append(line)
        self._back = 0
        self.value = ""

    def action_earlier(self, step: int) -> None:
        """A line of the history."""
        self._back = max(0, min(self._back + step, len(self.history)))
        self.value = self.history[-self._back] if self._back else ""
        self.cursor_position = len(self.value)
