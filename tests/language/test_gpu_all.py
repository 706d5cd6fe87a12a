"""No function of `tessera.gpu` goes without a test that runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from intrinsic_recorder import PLACE

from tessera import gpu

HERE = Path(__file__).parent
FILES = ("test_gpu_arithmetic.py", "test_gpu_matrices.py", "test_gpu_boxes.py")


@pytest.mark.slow
def test_every_function_is_run_in_the_emulator(tmp_path: Path) -> None:
    """The tests of these files, in a process that notes which functions the kernels call that were run."""
    record = tmp_path / "run.txt"
    more = {PLACE: str(record)}
    path = os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "intrinsic_recorder"]
    # The compile cache lies beside it: what is answered from that is compiled by nobody.
    command.append(f"--basetemp={tmp_path / 'own' / 'base'}")
    (tmp_path / "own").mkdir()
    said = subprocess.run(
        [*command, *(str(HERE / name) for name in FILES)],
        cwd=HERE.parents[1], env={**os.environ, **more, "PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout[-2000:]
    run = {line.split()[0] for line in record.read_text().splitlines()}
    assert run == set(gpu.__all__)
