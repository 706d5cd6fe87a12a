"""The project's own files that the tests of the native runtime use."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = ROOT / "native" / "include"


def build_script(*arguments: object) -> str:
    """The one line that scripts/build_native.py prints."""
    command = [sys.executable, str(ROOT / "scripts" / "build_native.py"), "--require", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def example(name: str, file: str) -> object:
    """A module of examples/, under a name of its own."""
    path = ROOT / "examples" / name / file
    spec = importlib.util.spec_from_file_location(f"native_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def close(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(
        np.asarray(found, np.float64), np.asarray(expected, np.float64), rtol=tolerance, atol=tolerance
    )
