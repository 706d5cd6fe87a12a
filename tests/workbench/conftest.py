"""A project folder, and the command line in this process."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tessera.workbench.cli import main

KERNELS = '''\
"""Two ways to write a kernel."""

from numba import cuda

import tessera as ts


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def saxpy(a: ts.f32, x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = a * x[i] + y[i]


@ts.jit
def linear_relu(x: ts.Tensor[ts.f32, "batch", 8], W: ts.Tensor[ts.f32, 8, 4]) -> ts.Tensor:
    return ts.relu(ts.matmul(x, W))
'''


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Settings of the machine that the tests run on must not change what they see."""
    monkeypatch.setenv("TESSERA_DATA_DIR", str(tmp_path_factory.mktemp("data")))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    for name in ("FORCE_COLOR", "TESSERA_PORT", "TESSERA_HOST", "TESSERA_STRICT_DEVICE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with kernels.py, which is the current one."""
    (tmp_path / "kernels.py").write_text(KERNELS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its one JSON object; anything else on stdout fails."""
        return json.loads(self.out)


Tessera = Callable[..., Said]


@pytest.fixture
def tessera(capsys: pytest.CaptureFixture[str]) -> Tessera:
    """The command line in this process."""

    def run(*arguments: object) -> Said:
        capsys.readouterr()
        status = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Said(status, captured.out, captured.err)

    return run
