"""The help screen: every key, and what the colours mean."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

KEYS: tuple[tuple[str, str], ...] = (
    ("c  esc", "compile the selection; stop compiling"),
    ("a  A", "next and previous architecture"),
    ("[  ]", "previous and next kernel of a function"),
    ("e", "edit in $EDITOR; changes are read by themselves"),
    ("enter", "from a file or kernel to its source"),
    ("tab", "to the next pane; shift+tab goes back"),
    ("z", "the focused pane alone, and back"),
    ("h j k l", "left, down, up, right; g G first and last line"),
    ("r", "read the project again"),
    ("n", "write an example project into an empty folder"),
    ("ctrl+p", "all commands by name; themes too"),
    ("q", "quit"),
)
"""Every key of the app."""

_COLOURS = (
    "A line of source and the PTX made from it have the same colour.\n"
    "The cursor in one lights up its lines in the other."
)


class HelpScreen(ModalScreen[None]):
    """Every key on one page."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q,question_mark,f1", "dismiss", "Close"),
    ]

    def compose(self) -> ComposeResult:
        """One page."""
        text = Text("Keys\n", style="bold")
        for key, meaning in KEYS:
            text.append(f"{key:>8}  ", style="bold")
            text.append(f"{meaning}\n", style="not bold")
        text.append("\nColours\n", style="bold")
        text.append(_COLOURS, style="not bold")
        text.append("\n\nesc closes this page", style="not bold dim")
        with VerticalScroll(id="help-page"):
            yield Static(text)
