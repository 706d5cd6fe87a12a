"""The launcher script that every deployment carries."""

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tessera.package import Package
from tessera.program import dtype as dt
from tessera.program.artifact import Artifact
from tessera.program.dim import symbol
from tessera.program.graph import Graph, Node
from tessera.program.program import Constant, Port, Program


@pytest.fixture
def folder(artifact: Artifact, tmp_path: Path) -> Path:
    return Package.from_artifact(artifact, name="demo").unpack(tmp_path / "demo")


def test_without_tessera_the_launcher_says_what_to_install(folder: Path) -> None:
    # -S: no site-packages, so no Tessera and no NumPy.
    command = [sys.executable, "-I", "-S", "runtime/launcher.py", "--input", "x.npy"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install tessera" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_launcher_explains_itself(folder: Path) -> None:
    command = [sys.executable, "runtime/launcher.py", "--help"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert "--device" in done.stdout
    assert Package.load(folder).verify() == []


@pytest.fixture
def scaled(tmp_path: Path) -> Path:
    """A program that multiplies by a weight and has a graph, so that the reference device runs it."""
    shape = (symbol("n"), 3)
    port = {"dtype": dt.bf16, "shape": shape}
    nodes = (
        Node(op="input", attrs={"name": "x"}, **port),
        Node(op="constant", attrs={"name": "w"}, shape=(3,), dtype=dt.bf16),
        Node(op="mul", inputs=(0, 1), **port),
    )
    program = Program(
        name="scale",
        inputs=(Port(name="x", **port),),
        outputs=(Port(name="output", **port),),
        constants=(Constant(name="w", dtype=dt.bf16, shape=(3,)),),
        graph=Graph(name="scale", nodes=nodes, outputs=(2,)),
    )
    weights = {"w": np.array([1, 2, 4], dtype=ml_dtypes.bfloat16)}
    return Package.from_artifact(Artifact((program,), (), weights), name="scale").unpack(tmp_path / "scale")


def test_the_launcher_runs_the_package_it_lies_in(scaled: Path, tmp_path: Path) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "x.npy", x)
    command = [
        sys.executable,
        "runtime/launcher.py",
        "--device",
        "reference",
        "--input",
        str(tmp_path / "x.npy"),
    ]
    command += ["--output", str(tmp_path / "y.npy")]
    done = subprocess.run(command, cwd=scaled, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), x * [1, 2, 4])
    assert Package.load(scaled).verify() == []


def test_the_launcher_says_which_inputs_a_program_takes(scaled: Path) -> None:
    command = [sys.executable, "runtime/launcher.py", "--device", "reference"]
    done = subprocess.run(command, cwd=scaled, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "takes 1: x" in done.stderr
    assert "Traceback" not in done.stderr
