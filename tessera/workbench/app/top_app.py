"""The app of `tessera top`: a screen that is drawn anew four times a second, and keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Static

from tessera.profiler.live.player import FASTEST, SLOWEST, Player
from tessera.profiler.live.sampler import Sampler
from tessera.workbench.live.screen import WINDOWS_S, View, draw, fitting_window

REDRAW_S = 0.25
"""Faster, a terminal over SSH falls behind."""
JUMP_S = 5.0


class TopApp(App[None]):
    """Shows a sampler or plays a recording.

    Args:
        feed: Where the figures come from.
        heading: What the screen says about where they come from, asked at each drawing.
        seconds: When to end; None: never.
    """

    TITLE = "tessera top"
    ENABLE_COMMAND_PALETTE = False
    CSS = "#screen { height: 1fr; }"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("down,j", "select(1)", "Next GPU"),
        Binding("up,k", "select(-1)", "GPU before", show=False),
        Binding("w", "window", "Window"),
        Binding("m", "mark", "Mark"),
        Binding("space", "pause", "Pause"),
        Binding("right", "jump(1)", "+5 s"),
        Binding("left", "jump(-1)", "-5 s"),
        Binding("plus,equals_sign", "speed(2)", "Faster", key_display="+"),
        Binding("minus", "speed(0.5)", "Slower", key_display="-"),
        Binding("home", "start", "Start", show=False),
    ]

    def __init__(
        self, feed: Sampler | Player, heading: Callable[[], str], *, seconds: float | None = None
    ) -> None:
        super().__init__()
        self.feed = feed
        self._heading = heading
        self._seconds = seconds
        self._selected = 0
        self._window = WINDOWS_S.index(fitting_window(feed))
        self._marks = 0

    def compose(self) -> ComposeResult:
        """The drawing, and the keys."""
        # Names of processes and GPUs may hold [brackets].
        yield Static(id="screen", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Draw from now on."""
        self.set_interval(REDRAW_S, self.redraw)
        self.call_after_refresh(self.redraw)
        if self._seconds is not None:
            self.set_timer(self._seconds, self.exit)

    def on_resize(self) -> None:
        """Draw for the new size."""
        self.call_after_refresh(self.redraw)

    def redraw(self) -> None:
        """Draw what is known now."""
        place = self.query_one("#screen", Static)
        width, height = place.size
        if width and height:
            view = View(self._heading(), self._selected, WINDOWS_S[self._window])
            place.update(Text("\n").join(draw(self.feed, view, width, height)))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys of a recording are for recordings, marks for what is live."""
        del parameters
        if action in ("pause", "jump", "speed", "start"):
            return isinstance(self.feed, Player)
        return action != "mark" or isinstance(self.feed, Sampler)

    def action_select(self, step: int) -> None:
        """Look at another GPU."""
        self._selected = (self._selected + step) % max(len(self.feed.machine.devices), 1)
        self.redraw()

    def action_window(self) -> None:
        """Show more or less of the past."""
        self._window = (self._window + 1) % len(WINDOWS_S)
        self.redraw()

    def action_mark(self) -> None:
        """Mark this moment in charts and recording."""
        if isinstance(self.feed, Sampler):
            self._marks += 1
            self.feed.mark(f"mark {self._marks}")
            self.redraw()

    def action_pause(self) -> None:
        """Stop time, or let it go on; from the end, from the start again."""
        if isinstance(self.feed, Player):
            if self.feed.ended:
                self.feed.seek(0)
                self.feed.resume()
            elif self.feed.paused:
                self.feed.resume()
            else:
                self.feed.pause()
            self.redraw()

    def action_jump(self, steps: int) -> None:
        """Go back or on."""
        if isinstance(self.feed, Player):
            self.feed.seek(self.feed.position_s + steps * JUMP_S * max(self.feed.speed, 1))
            self.redraw()

    def action_start(self) -> None:
        """Go to the start."""
        if isinstance(self.feed, Player):
            self.feed.seek(0)
            self.redraw()

    def action_speed(self, factor: float) -> None:
        """Go on faster or slower."""
        if isinstance(self.feed, Player):
            self.feed.set_speed(min(max(self.feed.speed * factor, SLOWEST), FASTEST))
            self.redraw()
