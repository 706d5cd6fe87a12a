"""A titled pane: code, or a message where there is none."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.widgets import ContentSwitcher, Static

from tessera.workbench.app.code_view import CodeView
from tessera.workbench.app.highlight import Line


class CodePane(Vertical):
    """A title row above code or a message."""

    def __init__(self, name: str) -> None:
        super().__init__(id=f"{name}-pane", classes="pane")
        self._key = name

    def compose(self) -> ComposeResult:
        """Title, code and message."""
        yield Static("", id=f"{self._key}-title", classes="pane-title", markup=False)
        with ContentSwitcher(initial=f"{self._key}-message", id=f"{self._key}-switch"):
            yield CodeView(id=self._key)
            with VerticalScroll(id=f"{self._key}-message", classes="message", can_focus=True):
                yield Static("", id=f"{self._key}-text", markup=False)

    def on_descendant_focus(self) -> None:
        """Light the title up."""
        self.add_class("focused")

    def on_descendant_blur(self) -> None:
        """Dim the title."""
        self.remove_class("focused")

    @property
    def view(self) -> CodeView:
        """The code."""
        return self.query_one(f"#{self._key}", CodeView)

    @property
    def message(self) -> str:
        """The message, if one is shown; else nothing."""
        return str(self.query_one(f"#{self._key}-text", Static).content) if self._shows_message else ""

    @property
    def _switch(self) -> ContentSwitcher:
        return self.query_one(f"#{self._key}-switch", ContentSwitcher)

    @property
    def _shows_message(self) -> bool:
        return self._switch.current == f"{self._key}-message"

    def set_title(self, title: str) -> None:
        """What the title row says."""
        self.query_one(f"#{self._key}-title", Static).update(title)

    def show_code(self, lines: list[Line], *, keep_place: bool = False) -> None:
        """Show code."""
        self.view.show(lines, keep_place=keep_place)
        self._switch_to(self._key)

    def show_message(self, text: str, *, error: bool = False) -> None:
        """Show words instead of code."""
        self.query_one(f"#{self._key}-text", Static).update(text)
        self.query_one(f"#{self._key}-message").set_class(error, "error")
        self._switch_to(f"{self._key}-message")

    def focus_inside(self) -> None:
        """Put the focus on what is shown."""
        self.query_one(f"#{self._switch.current}").focus()

    def _switch_to(self, child: str) -> None:
        had_focus = self.has_focus_within
        self._switch.current = child
        if had_focus:
            self.focus_inside()
