"""The command line as a whole: help, exit statuses, errors, imports."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tessera.program.errors import CompileError
from tessera.workbench import cli
from tessera.workbench.group import build_command
from tessera.workbench.registry import COMMANDS, CommandEntry

from .conftest import Tessera

HEAVY = ("numpy", "numba", "llvmlite", "textual", "rich", "plotly", "cupy", "msgspec", "tessera.compiler")


def commands(
    table: tuple[CommandEntry, ...] = COMMANDS, before: str = ""
) -> Iterator[tuple[str, CommandEntry]]:
    for entry in table:
        if entry.children:
            yield from commands(entry.children, f"{before}{entry.name} ")
        else:
            yield before + entry.name, entry


def loaded_after(code: str) -> set[str]:
    """Top-level names of what a fresh interpreter has imported after `code`."""
    script = f"{code}\nimport sys\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_help_imports_nothing_heavy() -> None:
    code = "from tessera.workbench.cli import main\nassert main(['--help']) == 0"
    assert not loaded_after(code) & set(HEAVY)


@pytest.mark.parametrize("name", ["compile", "package", "run", "serve", "diag"])
def test_help_of_a_command_imports_nothing_heavy(name: str) -> None:
    code = f"from tessera.workbench.cli import main\nassert main(['{name}', '--help']) == 0"
    assert not loaded_after(code) & set(HEAVY)


def test_help_lists_every_command_with_its_summary(tessera: Tessera) -> None:
    said = tessera("--help")
    assert said.status == 0
    for entry in COMMANDS:
        assert f"{entry.name} " in said.out
        assert entry.summary.split(".")[0][:40] in said.out
    assert all(len(line) <= 80 for line in said.out.splitlines())


@pytest.mark.parametrize(("name", "entry"), [pytest.param(n, e, id=n) for n, e in commands()])
def test_help_of_every_command_shows_its_example(name: str, entry: CommandEntry, tessera: Tessera) -> None:
    said = tessera(*name.split(), "--help")
    assert said.status == 0
    assert entry.example.startswith(f"tessera {name}")
    assert f"Example:\n  {entry.example}\n" in said.out


@pytest.mark.parametrize("entry", [e for _, e in commands()], ids=lambda e: e.target)
def test_every_command_can_be_built(entry: CommandEntry) -> None:
    assert build_command(entry).name == entry.name


def test_version_is_that_of_the_package(tessera: Tessera) -> None:
    import tessera as package

    assert tessera("--version").out == f"tessera {package.__version__}\n"


def test_unknown_command_is_status_2_and_suggests(tessera: Tessera) -> None:
    said = tessera("compil")
    assert said.status == 2
    assert said.err == "error: no such command 'compil'. Did you mean 'compile'?\nhint: tessera --help\n"


def test_unknown_option_is_status_2_and_names_the_command(tessera: Tessera) -> None:
    said = tessera("compile", "x.py", "--nope")
    assert said.status == 2
    assert "hint: tessera compile --help" in said.err


def test_missing_argument_with_json_is_an_object(tessera: Tessera) -> None:
    said = tessera("compile", "--json")
    assert said.status == 2
    assert said.json["error"]["kind"] == "UsageError"
    assert said.err == ""


def test_no_command_shows_help(tessera: Tessera) -> None:
    said = tessera()
    assert said.status == 0
    assert said.out.startswith("Usage: tessera")


def test_unexpected_error_is_one_line_and_names_debug(
    tessera: Tessera, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_arguments: list[str]) -> int:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(cli, "_run", broken)
    said = tessera("diag")
    assert said.status == 1
    assert said.err == "error: RuntimeError: first line (run again with --debug)\n"
    assert tessera("diag", "--json").json["error"]["kind"] == "RuntimeError"


def test_failed_import_names_its_cause_not_the_advice_above_it(
    tessera: Tessera, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_arguments: list[str]) -> int:
        raise ImportError("\n\nIMPORTANT: READ THIS\n\nOriginal error was: lib.so: file too short\n")

    monkeypatch.setattr(cli, "_run", broken)
    assert tessera("diag").err.startswith("error: ImportError: Original error was: lib.so: file too short (")


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback_wherever_it_stands(tessera: Tessera, project: Path, place: str) -> None:
    words = ["inspect", "nothing.py"]
    said = tessera(*(["--debug", *words] if place == "before" else [*words, "--debug"]))
    assert said.status == 2
    assert "Traceback (most recent call last)" in said.err
    assert "error: there is no file nothing.py" in said.err


def test_tessera_error_decides_the_status(tessera: Tessera, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_arguments: list[str]) -> int:
        raise CompileError("no", hint="do this")

    monkeypatch.setattr(cli, "_run", broken)
    said = tessera("diag")
    assert (said.status, said.err) == (1, "error: no\nhint: do this\n")


def test_prints_of_the_users_file_do_not_spoil_json(tessera: Tessera, project: Path) -> None:
    source = project / "kernels.py"
    source.write_text("print('hello from the file')\n" + source.read_text())
    said = tessera("inspect", "kernels.py", "--json")
    assert [e["name"] for e in said.json["entries"]] == ["saxpy", "linear_relu"]
    assert "hello from the file" in said.err


def test_ctrl_c_is_status_130(project: Path) -> None:
    (project / "slow.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "tessera", "inspect", "slow.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "tessera", "--help"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 1


def test_package_room_commands_refuse_a_path_that_is_not_there(tessera: Tessera, project: Path) -> None:
    for command in ("inspect", "verify"):
        said = tessera("package", command, "no.tsd")
        assert said.status == 2
        assert "there is no package no.tsd" in said.err
