"""Another CUDA toolkit in the same environment, as PyTorch for CUDA 13 brings one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tessera.emulator.cuda_libraries import WHEEL_FILES, wheel_library

CHILD = """
import site, sys
before = site.getsitepackages
site.getsitepackages = lambda *a: [sys.argv[1], *before(*a)]
import tessera as ts
from tessera.deploy import AOTCompiler
from tessera.profiler.check_software import check_libraries

compiled = AOTCompiler(target_architectures=["sm_70"]).compile(
    ts.jit(lambda x: ts.exp(x) * 2.0), [ts.TensorSpec((8,), "f16")]
)
compiled.save(sys.argv[2])
for check in check_libraries():
    print(check.status, check.detail)
"""

HIDDEN = """
from tessera.emulator import cuda_libraries
cuda_libraries.WHEEL_FILES.update(dict.fromkeys(cuda_libraries.WHEEL_FILES, ("none",)))
"""


@pytest.fixture
def cuda13(tmp_path: Path) -> Path:
    """A folder of packages with libraries of CUDA 13 that cannot be loaded."""
    folder = tmp_path / "site"
    libraries = folder / "nvidia" / "cu13" / "lib"
    libraries.mkdir(parents=True)
    for name in ("libnvvm.so.4", "libnvJitLink.so.13", "libnvrtc.so.13"):
        (libraries / name).write_text("no library")
    return folder


def test_the_wheels_of_the_extra_compile_where_cuda_13_is_installed_too(cuda13: Path, tmp_path: Path) -> None:
    assert all(wheel_library(name) for name in WHEEL_FILES), "the extra compile brings them"
    made = subprocess.run(
        [sys.executable, "-c", CHILD, str(cuda13), str(tmp_path / "made.tsc")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "made.tsc").is_file()
    rows = made.stdout.splitlines()
    assert len(rows) == len(WHEEL_FILES)
    assert all(row.startswith("ok ") and "the extra compile" in row for row in rows), made.stdout


def test_without_the_wheels_the_other_toolkit_would_be_taken(cuda13: Path, tmp_path: Path) -> None:
    """That the test above would fail without the preference."""
    made = subprocess.run(
        [sys.executable, "-c", HIDDEN + CHILD, str(cuda13), str(tmp_path / "made.tsc")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "cu13" in made.stdout + made.stderr
