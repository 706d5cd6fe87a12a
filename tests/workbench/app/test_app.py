"""The app, driven by keys, read as plain text."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

pytest.importorskip("textual")

from textual.pilot import Pilot

from tessera.workbench.app import WorkbenchApp
from tessera.workbench.app.project_tree import ProjectTree

SIZES = [pytest.param((80, 24), id="80x24"), pytest.param((160, 50), id="160x50")]
Size = tuple[int, int]


def screen(app: WorkbenchApp) -> list[str]:
    """What the terminal shows, row by row, without colours."""
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip).rstrip() for strip in strips]


@asynccontextmanager
async def opened(folder: Path, size: Size = (80, 24)) -> AsyncIterator[tuple[WorkbenchApp, Pilot[None]]]:
    app = WorkbenchApp(folder)
    async with app.run_test(size=size, notifications=True) as pilot:
        await pilot.pause()
        await pilot.pause()
        yield app, pilot


async def until(pilot: Pilot[None], condition: Callable[[], bool], seconds: float = 60) -> None:
    for _ in range(int(seconds * 20)):
        await pilot.pause(0.05)
        if condition():
            return
    raise AssertionError("it did not happen; the screen:\n" + "\n".join(screen(pilot.app)))  # type: ignore[arg-type]


async def compiled(app: WorkbenchApp, pilot: Pilot[None]) -> None:
    await pilot.press("c")
    await until(pilot, lambda: app.session.result() is not None and app._job is None)
    await pilot.pause()


@pytest.mark.parametrize("size", SIZES)
async def test_opens_with_files_source_and_the_key_to_press(project: Path, size: Size) -> None:
    async with opened(project, size) as (app, _):
        rows = screen(app)
        text = "\n".join(rows)
        assert len(rows) == size[1]
        assert all(len(row) <= size[0] for row in rows)
        assert rows[0].startswith(" Tessera · ")
        for word in (
            "kernels.py",
            "◆ saxpy",
            "ƒ linear_relu",
            "saxpy is not compiled yet.",
            "Press c to compile",
        ):
            assert word in text
        assert "def saxpy(a: ts.f32" in text
        assert "not compiled · c compiles" in rows[-2]
        for key in ("c Compile", "a Arch", "e Edit", "z Zoom", "? Help", "q Quit"):
            assert key in rows[-1]


@pytest.mark.parametrize("size", SIZES)
async def test_compiles_and_ties_source_to_ptx(project: Path, size: Size) -> None:
    async with opened(project, size) as (app, pilot):
        await compiled(app, pilot)
        rows = screen(app)
        assert "PTX · saxpy · sm_90" in "\n".join(rows)
        assert rows[-2].startswith(" sm_90 · ")
        assert " regs · 0 spills · 100 % occupancy (warps)" in rows[-2]
        await pilot.press("enter", "down", "down", "down")
        source, ptx = app.source.view, app.ptx.view
        lit = {
            ptx.text.splitlines()[line].split()[0]
            for line in ptx.matches
            if ptx.text.splitlines()[line].split()
        }
        assert source.text.splitlines()[source.cursor].strip() == "y[i] = a * x[i] + y[i]"
        assert "st.global.f32" in lit
        assert any(op.startswith("fma") for op in lit)
        await pilot.press("tab")
        ptx.go_to(min(ptx.matches))
        await pilot.press("down", "up")
        assert source.matches == {source.cursor}


async def test_ptx_opens_at_its_code_not_at_its_head(project: Path) -> None:
    async with opened(project, (80, 24)) as (app, pilot):
        await compiled(app, pilot)
        assert ".loc" in app.ptx.view.text.splitlines()[app.ptx.view.cursor]
        assert "ld.param" in "\n".join(screen(app))


async def test_architecture_turns_with_a(project: Path) -> None:
    async with opened(project) as (app, pilot):
        await compiled(app, pilot)
        seen = []
        for key in ("a", "a", "a", "A"):
            await pilot.press(key)
            seen.append(app.session.arch)
            assert screen(app)[-2].startswith(f" {app.session.arch} · ")
        assert seen == ["sm_70", "sm_80", "sm_90", "sm_80"]


async def test_an_error_is_shown_in_words_at_its_line(project: Path) -> None:
    path = project / "kernels.py"
    path.write_text(path.read_text().replace("x.size", "x.sze"))
    async with opened(project, (120, 30)) as (app, pilot):
        await compiled(app, pilot)
        text = "\n".join(screen(app))
        assert "error: saxpy:" in text
        assert "has no attribute 'sze'" in app.ptx.message.replace("\n", " ")
        assert "did you mean size?" in app.ptx.message
        assert app.source.view.cursor == 10
        assert "●" in text
        assert "did not compile · e edits, c compiles again" in screen(app)[-2]


async def test_brackets_and_escapes_in_source_are_shown_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "k.py").write_text("x = '[red]a[/red] [/] [@click=app.quit]'\ny = '\x1b[2J'\n")
    async with opened(tmp_path) as (app, pilot):
        text = "\n".join(screen(app))
        assert "x = '[red]a[/red] [/] [@click=app.quit]'" in text
        assert r"y = '\x1b[2J'" in text
        await pilot.press("c")
        assert "k.py has no kernel" in "\n".join(screen(app))


async def test_folder_with_brackets_in_its_name_opens(tmp_path: Path) -> None:
    folder = tmp_path / "[bold] [/x] project"
    folder.mkdir(parents=True)
    (folder / "[red].py").write_text("x = 1\n")
    async with opened(folder, (120, 30)) as (app, _):
        text = "\n".join(screen(app))
        assert "[bold] [/x] project" in text
        assert "[red].py" in text


async def test_empty_folder_names_the_key_and_n_writes_a_project(tmp_path: Path) -> None:
    async with opened(tmp_path) as (app, pilot):
        assert "Press n to write an example project" in " ".join(" ".join(screen(app)).split())
        assert "no files · n writes an example project" in screen(app)[-2]
        await pilot.press("n")
        await until(pilot, lambda: "◆ saxpy" in "\n".join(screen(app)), 5)
        assert (tmp_path / "tests" / "test_kernels.py").is_file()


async def test_changes_on_disk_are_read_and_told(project: Path) -> None:
    path = project / "kernels.py"
    async with opened(project) as (app, pilot):
        await compiled(app, pilot)
        path.write_text(path.read_text() + "\n\n@ts.jit\ndef added(x):\n    return ts.relu(x)\n")
        await until(pilot, lambda: "ƒ added" in "\n".join(screen(app)), 5)
        assert "changed, c compiles · sm_90" in screen(app)[-2]


async def test_escape_kills_the_compiler(project: Path) -> None:
    (project / "kernels.py").write_text(
        "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
        "import tessera as ts\n@ts.jit\ndef slow(x): ...\n"
    )
    async with opened(project) as (app, pilot):
        await pilot.press("c")
        await until(pilot, lambda: (project / "pid").exists() and (project / "pid").read_text() != "")
        assert "compiling kernels.py:slow for" in screen(app)[-2]
        await pilot.press("escape")
        await until(pilot, lambda: app._job is None, 5)
        with pytest.raises(ProcessLookupError):
            os.kill(int((project / "pid").read_text()), 0)
        assert "slow is not compiled yet" in app.ptx.message


async def test_quitting_leaves_no_compiler_behind(project: Path) -> None:
    (project / "kernels.py").write_text(
        "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
        "import tessera as ts\n@ts.jit\ndef slow(x): ...\n"
    )
    async with opened(project) as (_, pilot):
        await pilot.press("c")
        await until(pilot, lambda: (project / "pid").exists() and (project / "pid").read_text() != "")
        await pilot.press("q")
    await asyncio.sleep(0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(int((project / "pid").read_text()), 0)


async def test_zoom_shows_one_pane_and_comes_back(project: Path) -> None:
    async with opened(project) as (app, pilot):
        await pilot.press("enter", "z")
        text = "\n".join(screen(app))
        assert "def saxpy" in text
        assert "◆ saxpy" not in text
        assert "not compiled yet" not in text
        await pilot.press("z")
        assert "◆ saxpy" in "\n".join(screen(app))


async def test_help_lists_every_binding(project: Path) -> None:
    async with opened(project) as (app, pilot):
        await pilot.press("question_mark")
        text = "\n".join(screen(app))
        for words in (
            "Keys",
            "compile the selection",
            "stop compiling",
            "$EDITOR",
            "quit",
            "esc closes this page",
        ):
            assert words in text
        await pilot.press("escape")
        assert "◆ saxpy" in "\n".join(screen(app))


async def test_palette_has_our_commands(project: Path) -> None:
    async with opened(project, (100, 40)) as (app, pilot):
        await pilot.press("ctrl+p")
        await pilot.press(*"show: sm_7")
        await until(pilot, lambda: "Show: sm_70" in "\n".join(screen(app)), 5)
        await pilot.press("enter")
        await until(pilot, lambda: app.session.arch == "sm_70", 5)


async def test_wrong_project_file_is_told_and_the_app_still_opens(project: Path) -> None:
    (project / "tessera.toml").write_text("[compile]\narchs = []\n")
    async with opened(project, (120, 30)) as (app, pilot):
        await until(pilot, lambda: "unknown key 'archs'" in " ".join(" ".join(screen(app)).split()), 5)
        assert app.session.arches


async def test_a_theme_change_keeps_what_is_shown(project: Path) -> None:
    async with opened(project) as (app, pilot):
        await compiled(app, pilot)
        for theme in ("textual-light", "ansi-dark"):
            app.theme = theme
            await pilot.pause()
            assert "PTX · saxpy · sm_90" in "\n".join(screen(app))


async def test_a_definition_far_down_is_shown_when_it_is_selected(project: Path) -> None:
    path = project / "kernels.py"
    path.write_text(path.read_text().replace("@ts.kernel", "#\n" * 150 + "@ts.kernel"))
    async with opened(project) as (app, pilot):
        await pilot.pause()
        assert "def saxpy" in "\n".join(screen(app))


async def test_tree_moves_with_vim_keys(project: Path) -> None:
    async with opened(project) as (app, pilot):
        await pilot.press("j")
        tree = app.query_one(ProjectTree)
        assert tree.cursor_node is not None
        assert "linear_relu" in str(tree.cursor_node.label)
        assert "linear_relu is not compiled yet" in app.ptx.message
