"""The launcher script that every deployment carries."""

import subprocess
import sys
from pathlib import Path

import pytest

from tessera.package import Package
from tessera.program.artifact import Artifact


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
