"""Ctrl-C while many kernels are compiled: it ends soon, leaves no process and no half file."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tessera.compiler.cache_file import read_entry

KERNELS = 24


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project of many kernels, each slow to assemble."""
    text = "import tessera as ts\n" + "".join(
        f"""
@ts.jit
def f{i}(a: ts.Tensor[ts.f32, "m", "k"], b: ts.Tensor[ts.f32, "k", "n"]):
    return ts.softmax(ts.matmul(a, b) * {i + 1}.5)
"""
        for i in range(KERNELS)
    )
    (tmp_path / "kernels.py").write_text(text)
    return tmp_path


def begun(folder: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TESSERA_CACHE_DIR": str(folder / "cache"), "TMPDIR": str(folder / "tmp")}
    (folder / "tmp").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tessera", "compile", "kernels.py", *words]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def entries(folder: Path) -> list[Path]:
    return [path for path in (folder / "cache").rglob("*") if path.suffix == ".entry"]


def in_session(session: int) -> Iterator[int]:
    """Processes that belong to a session."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            yield int(stat.parent.name)


@pytest.mark.slow
def test_ctrl_c_leaves_no_process_and_no_half_file(folder: Path) -> None:
    process = begun(folder, "--arch", "sm_80,sm_86,sm_90,cpu", "-o", "out.tsp")
    deadline = time.monotonic() + 60
    while len(entries(folder)) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert not list(in_session(process.pid))
    kept = entries(folder)
    assert 3 <= len(kept) < KERNELS * 3
    assert all(read_entry(path) for path in kept)
    files = [path for path in folder.rglob("*") if path.is_file()]
    left = [
        p for p in files if p not in kept and p.name not in ("kernels.py", "pruned") and p.suffix != ".pyc"
    ]
    assert left == []


@pytest.mark.slow
def test_what_was_done_before_ctrl_c_is_used_by_the_next_call(folder: Path) -> None:
    (folder / "kernels.py").write_text(
        (folder / "kernels.py").read_text().partition("def f3(")[0].rpartition("@")[0]
    )
    process = begun(folder, "--arch", "sm_80")
    deadline = time.monotonic() + 60
    while not entries(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    known = len(entries(folder))
    again = begun(folder, "--arch", "sm_80", "--json")
    said, _ = again.communicate(timeout=60)
    assert again.returncode == 0
    assert said.count('"cached": true') == min(known, said.count('"cached"'))


def test_interrupt_while_the_commands_are_imported_is_no_traceback() -> None:
    script = """
import sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            sys.meta_path.remove(self)
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
sys.argv = ["tessera", "package", "keygen", "never"]
from tessera.workbench.cli import main
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 130, done.stderr
    assert done.stderr == "error: interrupted\n"
