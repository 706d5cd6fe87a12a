"""The debugger's help screen."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

KEYS: tuple[tuple[str, str], ...] = (
    ("s  n", "to the next line: into functions, over functions"),
    ("i", "to the next PTX instruction"),
    ("c", "to the next breakpoint or finding; esc stops a program that runs"),
    ("u", "to the line under the cursor"),
    ("f", "until this function has returned"),
    ("r  B", "to the line before: into functions, over functions"),
    ("I", "to the PTX instruction before"),
    ("R", "back to the last breakpoint or finding"),
    ("b", "set or remove a breakpoint on the line under the cursor"),
    ("[  ]", "another lane"),
    ("{  }", "another warp"),
    ("p", "show the PTX, or hide it"),
    (":", "the command line; esc leaves it, up and down are its history"),
    ("tab", "to the next pane"),
    ("q", "quit"),
)
"""Every key of the debugger."""

_COLOURS = (
    "Yellow values changed since the last stop; dim lanes do not take part.\n"
    "·  has no value: the variable is not assigned yet.\n"
    "The command line knows more: help lists its commands."
)


class DebugHelp(ModalScreen[None]):
    """Every key on one page."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q,question_mark,f1", "dismiss", "Close"),
    ]

    def compose(self) -> ComposeResult:
        """One page."""
        text = Text("Keys\n", style="bold")
        for key, meaning in KEYS:
            text.append(f"{key:>6}  ", style="bold")
            text.append(f"{meaning}\n", style="not bold")
        text.append("\nColours\n", style="bold")
        text.append(_COLOURS, style="not bold")
        text.append("\n\nesc closes this page", style="not bold dim")
        with VerticalScroll(id="help-page"):
            yield Static(text)
