"""The benchmark of packages runs, and judges what it measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "package.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )


def test_a_small_run_measures_everything_and_leaves_nothing(tmp_path: Path) -> None:
    done = run("--mib", "1", "--weights", "2", "--rounds", "1", "--folder", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    names = {"open", "np.load mmap", "verify", "SHA-256 of the file", "write", "copy, flushed"}
    assert names <= set(found["best_ms"])
    assert all(value > 0 for value in found["best_ms"].values())
    for goal in found["goals"]:
        assert goal["met"] == (goal["ratio"] <= goal["most"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["--mib=0", "--rounds=x", "--weights=-1"])
def test_a_wrong_call_is_refused(wrong: str) -> None:
    assert run(wrong).returncode == 2


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run("--mib", "1", "--folder", str(tmp_path / "missing"))
    assert done.returncode == 1
    assert "missing" in done.stderr
