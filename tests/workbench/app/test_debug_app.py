"""The debugger's screen, driven by keys, read as plain text."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

pytest.importorskip("textual")
pytest.importorskip("elftools")

from textual.pilot import Pilot

from tessera.workbench.app.debug_app import DebugApp
from tessera.workbench.app.debug_panes import CommandLine, TextPane
from tessera.workbench.compilation import compile_request, make_request
from tessera.workbench.debugging import open_session

from ..debugged import SOURCE
from .test_terminal import Terminal

SIZES = [pytest.param((80, 24), id="80x24"), pytest.param((160, 50), id="160x50")]
Size = tuple[int, int]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernels to debug."""
    (tmp_path / "debugged.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "debugged.py"


def screen(app: DebugApp) -> str:
    """What the terminal shows, without colours."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


@asynccontextmanager
async def opened(
    file: Path, name: str = "smooth", size: Size = (160, 50), *, optimized: bool = False
) -> AsyncIterator[tuple[DebugApp, Pilot[None]]]:
    request = make_request(f"{file}:{name}", ["sm_80"], None, debug=not optimized, lineinfo=optimized)
    app = DebugApp(open_session(compile_request(request), (), {}, 0))
    async with app.run_test(size=size, notifications=True) as pilot:
        await pilot.pause()
        await pilot.pause()
        yield app, pilot


async def until(pilot: Pilot[None], condition: Callable[[], bool], seconds: float = 30) -> None:
    for _ in range(int(seconds * 20)):
        await pilot.pause(0.05)
        if condition():
            return
    raise AssertionError("it did not happen; the screen:\n" + screen(pilot.app))  # type: ignore[arg-type]


async def press(app: DebugApp, pilot: Pilot[None], *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await until(pilot, lambda: not app.running)
    await pilot.pause()
    await pilot.pause()


async def say(app: DebugApp, pilot: Pilot[None], line: str) -> None:
    app.query_one(CommandLine).value = line
    app.query_one(CommandLine).focus()
    await press(app, pilot, "enter")


@pytest.mark.parametrize("size", SIZES)
async def test_shows_source_warps_and_variables_at_once(file: Path, size: Size) -> None:
    async with opened(file, size=size) as (app, _):
        text = screen(app)
        rows = text.split("\n")
        assert len(rows) == size[1]
        assert all(len(row) <= size[0] for row in rows)
        assert "smooth sm_80 · block 0,0,0 warp 0 lane 0" in rows[0]
        for word in (
            "debugged.py:16",
            "Warps",
            "Shared memory",
            "Variables of warp 0",
            "(tdb)",
            "Step",
            "Quit",
        ):
            assert word in text
        assert "cuda.shared.array" in text
        assert "line 16   next" in text


@pytest.mark.parametrize("size", SIZES)
async def test_keys_step_forwards_and_back(file: Path, size: Size) -> None:
    async with opened(file, size=size) as (app, pilot):
        await press(app, pilot, *"nnnnnn")
        assert app.debugger.stop.line == 22
        assert "22▶     for k in range(3):" in screen(app)
        await press(app, pilot, "s", "r", "r")
        assert app.debugger.stop.line == 21
        await press(app, pilot, "i")
        moment = app.debugger.stop.clock
        await press(app, pilot, "i", "I")
        assert app.debugger.stop.clock == moment


async def test_breakpoint_is_set_shown_hit_and_removed(file: Path) -> None:
    async with opened(file) as (app, pilot):
        app.source.go_to(23)
        await pilot.pause()
        await press(app, pilot, "b")
        assert "24●" in screen(app)
        await press(app, pilot, "c")
        assert app.debugger.stop.line == 24
        assert "breakpoint 1" in screen(app)
        await press(app, pilot, "b")
        assert "24▶" in screen(app)
        await press(app, pilot, "c")
        assert "the program has ended" in screen(app)
        await press(app, pilot, "r")
        assert app.debugger.stop.reason == "step"


async def test_variables_of_every_lane_are_columns(file: Path) -> None:
    async with opened(file) as (app, pilot):
        await say(app, pilot, "until 23")
        text = screen(app)
        (row,) = [line for line in text.split("\n") if line.startswith(" t int32")]
        assert row.split()[2:8] == ["0", "1", "2", "3", "4", "5"]
        await press(app, pilot, "escape", "right_square_bracket")
        assert app.debugger.focus.lane == 1
        assert "▸1" in screen(app)
        await press(app, pilot, "right_curly_bracket")
        (row,) = [line for line in screen(app).split("\n") if line.startswith(" t int32")]
        assert row.split()[2:5] == ["33", "32", "34"]


async def test_shared_array_is_drawn_and_its_changes_are_marked(file: Path) -> None:
    async with opened(file) as (app, pilot):
        await say(app, pilot, "until 18")
        assert "tile float32[4, 16]" in screen(app)
        await press(app, pilot, "escape", "n")
        pane = app.query_one("#shared-box", TextPane).query_one(".text")
        styles = {str(span.style) for span in pane.content.spans}  # type: ignore[attr-defined]
        assert "yellow" in styles


async def test_command_line_answers_and_remembers(file: Path) -> None:
    async with opened(file) as (app, pilot):
        await say(app, pilot, "print blockDim.x + 1")
        assert "blockDim.x + 1 = 65" in screen(app)
        await say(app, pilot, "print totl")
        assert "did you mean total?" in screen(app)
        await pilot.press("up")
        assert app.query_one(CommandLine).value == "print totl"
        await pilot.press("up")
        assert app.query_one(CommandLine).value == "print blockDim.x + 1"
        await pilot.press("down", "down")
        assert app.query_one(CommandLine).value == ""


async def test_ptx_pane_shows_the_instruction_and_its_registers(file: Path) -> None:
    async with opened(file) as (app, pilot):
        await press(app, pilot, "n", "p", "i")
        stop = app.debugger.stop
        text = screen(app)
        assert f"PTX line {stop.ptx_line}" in text
        assert f"{stop.ptx_line}▶" in text
        await press(app, pilot, "p")
        assert "PTX line" not in screen(app)


async def test_narrow_screen_shows_ptx_instead_of_source(file: Path) -> None:
    async with opened(file, size=(80, 24)) as (app, pilot):
        await press(app, pilot, "p")
        text = screen(app)
        assert "PTX line" in text
        assert "tile = cuda.shared.array" not in text


async def test_finding_is_told_where_it_happens(file: Path) -> None:
    async with opened(file, "unguarded") as (app, pilot):
        await press(app, pilot, "c")
        text = screen(app)
        assert "out-of-bounds: reads x[101], but x has 101 elements" in text
        assert "hint: compare the index" in text
        assert app.debugger.stop.finding is not None


async def test_program_that_runs_away_is_stopped_by_escape(file: Path) -> None:
    async with opened(file, "endless") as (app, pilot):
        await say(app, pilot, "set findings off")
        await pilot.press("escape", "c")
        await until(pilot, lambda: app.running and app.debugger.timeline.clock > 400)
        await pilot.press("n")
        await pilot.press("escape")
        await until(pilot, lambda: not app.running)
        await pilot.pause()
        assert app.debugger.stop.reason == "interrupted"
        assert "interrupted" in screen(app)
        await press(app, pilot, "n")
        assert app.debugger.stop.reason == "step"


async def test_keys_typed_while_it_runs_are_carried_out_in_turn(file: Path) -> None:
    async with opened(file) as (app, pilot):
        await press(app, pilot, *"nnnnnn")
        wanted = app.debugger.stop.clock
        await press(app, pilot, *"rrrrrr")
        assert app.debugger.stop.line == 16
        # Without a pause between them: what runs in the meantime must not lose a key.
        for _ in range(6):
            app.action_run("next")
        app.action_lane(1)
        app.action_lane(1)
        app.action_break()
        await until(pilot, lambda: not app.running and app.debugger.focus.lane == 2)
        await until(pilot, lambda: bool(app.debugger.breakpoints))
        assert app.debugger.stop.clock == wanted
        assert [p.line for p in app.debugger.breakpoints.values()] == [22]


async def test_error_and_escape_drop_what_was_typed_after_them(file: Path) -> None:
    async with opened(file) as (app, pilot):
        app.action_run("print nothing_such")
        app.action_run("next")
        await until(pilot, lambda: not app.running)
        assert app.debugger.stop.line == 16
        app.action_run("next")
        app.action_run("next")
        app.action_escape()
        await until(pilot, lambda: not app.running)
        await pilot.pause()
        assert app.debugger.stop.line in (16, 17)


async def test_key_held_down_does_not_step_for_ever(file: Path) -> None:
    async with opened(file) as (app, pilot):
        app.action_run("next")
        for _ in range(1000):
            app.action_lane(1)
        # 64 wait; the others ring the bell.
        await until(pilot, lambda: not app.running)
        await pilot.pause()
        assert app.debugger.focus.lane == 64 % 32
        await press(app, pilot, "right_square_bracket")
        assert app.debugger.focus.lane == 1


async def test_optimized_code_says_what_is_not_known(file: Path) -> None:
    async with opened(file, optimized=True) as (app, _):
        text = screen(app)
        assert "its variables are not known" in text
        assert "x float32[101]" in text


@pytest.mark.parametrize("size", SIZES)
async def test_help_lists_the_keys(file: Path, size: Size) -> None:
    async with opened(file, size=size) as (app, pilot):
        await pilot.press("question_mark")
        await pilot.pause()
        assert "to the next line: into functions" in screen(app)
        await pilot.press("escape")
        await pilot.pause()
        assert "Variables of warp" in screen(app)


@pytest.fixture
def terminal(file: Path) -> Iterator[Terminal]:
    command = f"{sys.executable} -m tessera debug debugged.py:smooth"
    found = Terminal(file.parent / "tmux", command, file.parent)
    yield found
    subprocess.run(["tmux", "-S", found._socket, "kill-server"], check=False)


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_opens_steps_and_quits_in_tmux(terminal: Terminal) -> None:
    terminal.wait(lambda s: "Variables of warp 0" in s and "16▶" in s)
    terminal.tmux("send-keys", "n")
    terminal.wait(lambda s: "17▶" in s)
    terminal.tmux("send-keys", "r")
    terminal.wait(lambda s: "16▶" in s)
    terminal.tmux("send-keys", "q")
    terminal.wait(lambda s: "status=0" in s)
