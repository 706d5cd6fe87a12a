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
    ("c", "compile what is selected, for every architecture of the project"),
    ("esc", "stop a compilation"),
    ("a  A", "next and previous architecture"),
    ("[  ]", "previous and next kernel, where a function has several"),
    ("e", "edit the file in $EDITOR; it is read again when it changes"),
    ("enter", "from a file or kernel to its source"),
    ("tab", "to the next pane; shift+tab goes back"),
    ("z", "the focused pane alone, and back"),
    ("j k", "down and up; h l left and right; g G first and last line"),
    ("r", "read the project again"),
    ("n", "write an example project, in an empty folder"),
    ("ctrl+p", "all commands by name; themes too"),
    ("q", "quit"),
)
"""Every key of the app."""

_COLOURS = (
    "A line of source and the PTX made from it have the same colour. Move the cursor in one to "
    "light up its lines in the other."
)


class HelpScreen(ModalScreen[None]):
    """Every key on one page."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q,question_mark,f1", "dismiss", "Close"),
    ]

    def compose(self) -> ComposeResult:
        """One page."""
        text = Text("Keys\n\n", style="bold")
        for key, meaning in KEYS:
            text.append(f"{key:>7}  ", style="bold")
            text.append(f"{meaning}\n", style="not bold")
        text.append("\nColours\n\n", style="bold")
        text.append(_COLOURS, style="not bold")
        text.append("\n\nEsc closes this page.", style="not bold dim")
        with VerticalScroll(id="help-page"):
            yield Static(text)
