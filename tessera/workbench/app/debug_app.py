"""The debugger's screen: source, PTX, warps, shared memory, variables by lanes, a command line."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Footer, Input, RichLog, Static

from tessera.program.errors import TesseraError
from tessera.workbench.app.code_view import CodeView
from tessera.workbench.app.debug_help import DebugHelp
from tessera.workbench.app.debug_panes import CommandLine, TextPane, Variables
from tessera.workbench.app.highlight import highlight
from tessera.workbench.debug.array_text import GridStyle, array_part, array_text
from tessera.workbench.debug.number_text import number_text
from tessera.workbench.debug.shell import Reply, Shell
from tessera.workbench.debug.stop_text import DOING, lanes_of
from tessera.workbench.debugging import Session
from tessera.workbench.failure import visible

if TYPE_CHECKING:
    from tessera.emulator.debugging.view import Warp

_MOST_SHARED = 1 << 12
"""Elements of a shared array that are drawn as a whole."""
_SHARED_WIDTH = 400
"""Columns of a shared array's grid before it is broken; the pane scrolls."""
_MOST_WAITING = 64
"""Keys that wait for the program to stop: a key held down must not step for minutes afterwards."""


class DebugApp(App[None]):
    """Steps a program.

    Args:
        session: The program, standing at its first line.
    """

    CSS_PATH = "debug.tcss"
    TITLE = "tessera debug"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - Textual declares it
        (0, "-narrow"),
        (110, "-wide"),
    ]

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "run('next')", "Next"),
        Binding("s", "run('step')", "Step"),
        Binding("c", "run('continue')", "Cont"),
        Binding("b", "break", "Break"),
        Binding("r", "run('back')", "Back"),
        Binding("R", "run('reverse-continue')", "Rev", key_display="R"),
        Binding("colon", "command", "Cmd", key_display=":"),
        Binding("p", "ptx", "PTX"),
        Binding("question_mark,f1", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
        Binding("i", "run('stepi')", "Instr"),
        Binding("u", "until", "Until"),
        Binding("f", "run('finish')", "Finish"),
        Binding("right_square_bracket", "lane(1)", "Lane", key_display="]"),
        Binding("right_curly_bracket", "warp(1)", "Warp", key_display="}"),
        Binding("left_square_bracket", "lane(-1)", "Lane before", show=False),
        Binding("left_curly_bracket", "warp(-1)", "Warp before", show=False),
        Binding("B", "run('back-next')", "Back over", show=False),
        Binding("I", "run('backi')", "Instr back", show=False),
        Binding("ctrl+c", "interrupt", "Stop", show=False, priority=True),
        Binding("escape", "escape", "Stop", show=False),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.debugger = session.debugger
        self.shell = Shell(session.debugger)
        self.running = False
        """Whether a command is being carried out."""
        self._waiting: deque[Callable[[], None]] = deque()
        """What was asked for meanwhile, in that order."""
        self._file = ""
        self._ptx_of: object = None

    def compose(self) -> ComposeResult:
        """Title; code and its surroundings; variables; answers and the command line; keys."""
        yield Static("", id="title", markup=False)
        with Horizontal(id="above"):
            with Vertical(id="code"):
                with Vertical(id="source-box"):
                    yield Static("", id="source-caption", classes="caption", markup=False)
                    yield CodeView(id="source")
                with Vertical(id="ptx-box"):
                    yield Static("", id="ptx-caption", classes="caption", markup=False)
                    yield CodeView(id="ptx")
            with Vertical(id="side"):
                yield TextPane("Warps", id="warps-box")
                yield TextPane("Shared memory", id="shared-box")
        with Vertical(id="below"):
            yield Static("", id="variables-caption", classes="caption", markup=False)
            yield Variables(id="variables")
        yield RichLog(id="answers", markup=False, wrap=True, max_lines=2000)
        with Horizontal(id="line"):
            yield Static("(tdb)", id="prompt", markup=False)
            yield CommandLine()
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Show where the program stands."""
        self.source.focus()
        inputs = self.session.inputs
        if inputs.assumed:
            sizes = ", ".join(f"{name}={value}" for name, value in inputs.assumed.items())
            self._say([f"sizes assumed: {sizes}; --size says otherwise"])
        if self.session.optimized:
            self._say(["optimized code: its variables are not known"])
        self._show(Reply(stop=self.debugger.stop))

    @property
    def source(self) -> CodeView:
        """The pane with the source."""
        return self.query_one("#source", CodeView)

    # -- commands ---------------------------------------------------------------------------------

    def action_run(self, line: str) -> None:
        """Carry out a command, once the program stands."""
        self._once_stopped(lambda: self._start(line))

    def _once_stopped(self, act: Callable[[], None]) -> None:
        """Act now, or when what was asked for before is done; then it sees what that led to."""
        if not self.running:
            act()
        elif len(self._waiting) < _MOST_WAITING:
            self._waiting.append(act)
            self._title(self._doing())
        else:
            self.bell()

    def _doing(self) -> str:
        count = len(self._waiting)
        return f"running, {count} more to do; esc stops" if count else "running; esc stops"

    def _start(self, line: str) -> None:
        self.running = True
        self._title(self._doing())
        self._work(line)

    @work(thread=True, exclusive=True, group="command")
    def _work(self, line: str) -> None:
        reply = self.shell.execute(line)
        self.call_from_thread(self._done, line, reply)

    def _done(self, line: str, reply: Reply) -> None:
        self.running = False
        self.debugger.timeline.interrupted = False
        if reply.quit:
            self.exit()
            return
        moved = reply.stop is not None
        if reply.error is not None or not moved or self._tells(reply):
            self._say([f"(tdb) {line}", *reply.lines] if not moved else self._why(reply))
        self._show(reply)
        if reply.error is not None:
            # What was typed after it was meant for a program that had done it.
            self._waiting.clear()
        while self._waiting and not self.running:
            self._waiting.popleft()()

    def _tells(self, reply: Reply) -> bool:
        stop = reply.stop
        return stop is not None and (bool(stop.message) or len(reply.lines) > 2)

    def _why(self, reply: Reply) -> list[str]:
        """What a stop says besides where it is, which the panes show."""
        from tessera.workbench.debug.stop_text import reason_lines

        assert reply.stop is not None  # noqa: S101 - the caller looked
        shown = list(reply.data.get("display", ()))
        extra = [line for line in reply.lines if shown and line.split(":")[0].strip().isdigit()]
        return [*reason_lines(reply.stop), *extra]

    @on(Input.Submitted, "#command")
    def _submitted(self, event: Input.Submitted) -> None:
        self.query_one(CommandLine).remember(event.value.strip())
        self.action_run(event.value)

    def action_break(self) -> None:
        """Set or remove a breakpoint on the line under the cursor."""
        self._once_stopped(self._toggle_break)

    def _toggle_break(self) -> None:
        line = self.source.cursor + 1
        found = [p for p in self.debugger.breakpoints.values() if p.line == line and p.file == self._file]
        if found:
            self.action_run(f"delete {found[0].number}")
        else:
            self.action_run(f"break {self._file}:{line}")

    def action_until(self) -> None:
        """Run to the line under the cursor."""
        self._once_stopped(lambda: self.action_run(f"until {self._file}:{self.source.cursor + 1}"))

    def action_lane(self, step: int) -> None:
        """Look at the next lane."""
        self._turn(lambda: f"lane {(self.debugger.focus.lane + step) % 32}")

    def action_warp(self, step: int) -> None:
        """Look at the next warp."""
        self._turn(lambda: f"warp {(self.debugger.focus.warp + step) % self._warp_count()}")

    def _warp_count(self) -> int:
        block = self.debugger.timeline.launch.block
        return -(-block[0] * block[1] * block[2] // 32)

    def _turn(self, command: Callable[[], str]) -> None:
        def turn() -> None:
            if self.debugger.timeline.run is None:
                self.bell()
            else:
                self.action_run(command())

        self._once_stopped(turn)

    def action_interrupt(self) -> None:
        """Stop a program that runs."""
        if self.running:
            self._waiting.clear()
            self.debugger.timeline.interrupted = True
        else:
            self.notify("q quits", timeout=2, markup=False)

    def action_escape(self) -> None:
        """Stop a program that runs, or go back to the source."""
        if self.running:
            self.action_interrupt()
        else:
            self.source.focus()

    def action_command(self) -> None:
        """Type a command."""
        self.query_one(CommandLine).focus()

    def action_ptx(self) -> None:
        """Show the PTX, or hide it."""
        self.screen.toggle_class("-ptx")
        if not self.running:
            self._show_ptx()
            self.call_after_refresh(self._reveal)

    def action_help(self) -> None:
        """Show every key."""
        self.push_screen(DebugHelp())

    async def action_quit(self) -> None:
        """End; a program that runs is stopped."""
        self._waiting.clear()
        self.debugger.timeline.interrupted = True
        self.exit()

    # -- panes ------------------------------------------------------------------------------------

    def _say(self, lines: list[str]) -> None:
        log = self.query_one(RichLog)
        for line in lines:
            log.write(Text(line))

    def _show(self, reply: Reply) -> None:
        """Every pane, as the program stands now."""
        self._title("")
        self._show_source(moved=reply.stop is not None)
        self._show_ptx()
        if self.debugger.timeline.run is None:
            self.query_one("#warps-box", TextPane).show("the program has ended; r goes back")
            return
        try:
            self._show_warps()
            self._show_shared()
            self._show_variables()
        except TesseraError as error:
            self._say([f"error: {error.message}"])

    def _title(self, doing: str) -> None:
        stop, session = self.debugger.stop, self.session
        block = ",".join(map(str, stop.focus.block))
        where = f"block {block} warp {stop.focus.warp} lane {stop.focus.lane}"
        state = doing or stop.message
        text = f"{visible(session.program.name)} {session.target} · {where} · moment {stop.clock}"
        text += f" · {visible(state)}" if state else ""
        self.query_one("#title", Static).update(text.splitlines()[0])

    def _show_source(self, *, moved: bool) -> None:
        stop = self.debugger.stop
        file = stop.file if stop.file in self.debugger.sources else self._file
        if not file:
            file = next(iter(self.debugger.sources), "")
        source = self.debugger.sources.get(file)
        if source is None:
            self.query_one("#source-caption", Static).update(
                "the source of this code is not there; p shows the PTX"
            )
            return
        if file != self._file:
            self._file = file
            self.source.show(highlight(source.text, "python", self.theme_variables))
        calls = f", in {visible(stop.function)}" if stop.function else ""
        self.query_one("#source-caption", Static).update(f"{visible(file)}:{stop.line}{calls}")
        points = {p.line - 1 for p in self.debugger.breakpoints.values() if p.file == file and p.enabled}
        current = stop.line - 1 if stop.file == file and stop.line and stop.reason != "end" else None
        self.source.mark_stops(points, current)
        if moved and current is not None:
            self.source.go_to(current)

    def _reveal(self) -> None:
        for view in (self.source, self.query_one("#ptx", CodeView)):
            view.reveal(view.cursor)

    def _show_ptx(self) -> None:
        if not self.screen.has_class("-ptx"):
            return
        view, code = self.query_one("#ptx", CodeView), self.debugger.timeline.launch.code
        if self._ptx_of is not code:
            self._ptx_of = code
            view.show(highlight(code.text, "ptx", self.theme_variables))
        stop = self.debugger.stop
        view.mark_stops((), stop.ptx_line - 1 if stop.ptx_line else None)
        view.go_to(stop.ptx_line - 1)
        held = ""
        if self.debugger.timeline.run is not None:
            found = self.debugger.inspector.operands(stop.focus.thread)
            held = "  ".join(f"{name}={number_text(value)}" for name, value in found)
        self.query_one("#ptx-caption", Static).update(f"PTX line {stop.ptx_line}  {held}")

    def _show_warps(self) -> None:
        warps = self.debugger.inspector.warps()
        lines = [line for warp in warps for line in self._warp(warp)]
        self.query_one("#warps-box", TextPane).show(Text("\n").join(lines))

    def _warp(self, warp: Warp) -> Iterator[Text]:
        """A line for each place that lanes of a warp are at, short enough for 32 columns."""
        focused = warp.number == self.debugger.focus.warp
        for i, group in enumerate(warp.groups):
            head = f"{'>' if focused else ' '}{warp.number:<3}" if i == 0 else "    "
            lanes = "all" if group.count == 32 else lanes_of(group.lanes)
            place = (
                ""
                if group.doing == "returned"
                else f"line {group.line}"
                if group.line
                else f"PTX {group.ptx_line}"
            )
            doing = DOING[group.doing] + (f" {group.barrier}" if group.barrier is not None else "")
            style = "bold" if group.doing == "running" else "" if group.doing == "ready" else "dim"
            yield Text(f"{head}{_cut(lanes, 9):<9} {place:<9} {doing}", style=style)

    def _show_shared(self) -> None:
        debugger = self.debugger
        found = debugger.inspector.shared(debugger.focus.thread)
        text = Text(no_wrap=True)
        for name, array in found.items():
            whole = array.count <= _MOST_SHARED
            values = array.all() if whole else array_part(array)
            marks = debugger.changed_elements(array) if whole else None
            text.append(f"{visible(name)} {array.type_name}\n", style="bold")
            for line in array_text(values, GridStyle(_SHARED_WIDTH, digits=4), marks=marks):
                _append_marked(text, line)
        if not found:
            text.append("no shared array is assigned", style="dim")
        self.query_one("#shared-box", TextPane).show(text)

    def _show_variables(self) -> None:
        debugger, stop = self.debugger, self.debugger.stop
        self.query_one(Variables).show(debugger.rows(), debugger.focus.lane, stop.active)
        active = lanes_of(stop.active) if stop.active.bit_count() not in (0, 32) else ""
        who = (
            "all lanes active"
            if stop.active.bit_count() == 32
            else f"active: lanes {active}"
            if active
            else "waits"
        )
        caption = f"Variables of warp {debugger.focus.warp}, {who}"
        calls = debugger.inspector.calls(debugger.focus.thread)
        if len(calls) > 1:
            caption += "  ·  " + " ← ".join(f"{c.function}:{c.line}" for c in calls)
        self.query_one("#variables-caption", Static).update(visible(caption))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _append_marked(text: Text, line: str) -> None:
    """A line of a grid; values that begin with a star are yellow instead."""
    for piece in line.split(" "):
        if piece.startswith("*"):
            text.append(" " + piece[1:] + " ", style="yellow")
        else:
            text.append(piece + " ")
    text.append("\n")
