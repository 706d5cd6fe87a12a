"""Ranges around executions and launches, as a tool that NVTX loads sees them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from handmade import HIDDEN, mlp_weights
from stand_in import StandIn
from test_cuda_without_gpu import for_gpu, layered_program

from tessera.program.artifact import Artifact
from tessera.program.errors import MissingDependencyError
from tessera.runtime import ArtifactSource, Timeline, launches, nvtx
from tessera.runtime.cuda import CudaDevice

Build = Callable[..., Artifact]
HERE = Path(__file__).parent

SCRIPT = """
import sys
sys.path[:0] = [{here!r}]
import tessera.runtime.cuda as cuda
from stand_in import IdleGpu
cuda.open_driver = lambda index: IdleGpu()
import tessera.runtime.cuda_driver as driver
driver.open_driver = cuda.open_driver
from tessera.workbench.cli import main
main()
"""


class Heard:
    """Ranges that are only written down."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def push(self, category: str, name: str) -> None:
        self.said.append(f"{category} {name}")

    def pop(self) -> None:
        self.said.append("end")


@pytest.fixture
def heard() -> Heard:
    found = Heard()
    launches.set_ranges(found)
    yield found
    launches.set_ranges(None)


@pytest.mark.parametrize("recorded", [False, True])
def test_execution_holds_a_range_for_each_launch(
    build: Build, rng: np.random.Generator, heard: Heard, recorded: bool
) -> None:
    artifact = for_gpu(build(layered_program(), constants={"b": mlp_weights(rng)["W"][0]}))
    program = CudaDevice(StandIn(), "cuda:0").load(artifact.programs[0], ArtifactSource(artifact))
    heard.said.clear()
    program.run([np.zeros((2, HIDDEN), np.float32)], Timeline() if recorded else None)
    launch = ["kernel bias_relu", "end"]
    assert heard.said == ["execution layered", *launch, *launch, "end"]


def test_ranges_end_when_a_launch_fails(build: Build, rng: np.random.Generator, heard: Heard) -> None:
    artifact = for_gpu(build(layered_program(), constants={"b": mlp_weights(rng)["W"][0]}))
    driver = StandIn()
    program = CudaDevice(driver, "cuda:0").load(artifact.programs[0], ArtifactSource(artifact))
    heard.said.clear()
    driver.broken = True
    with pytest.raises(Exception, match="broken"):
        program.run([np.zeros((2, HIDDEN), np.float32)], None)
    assert sum(word == "end" for word in heard.said) * 2 == len(heard.said)


def test_block_of_ranges_leaves_things_as_they_were() -> None:
    pytest.importorskip("nvtx")
    assert not nvtx.enabled()
    with nvtx.nvtx_ranges():
        assert nvtx.enabled()
    assert not nvtx.enabled()
    with pytest.raises(KeyError), nvtx.nvtx_ranges():
        raise KeyError
    assert not nvtx.enabled()


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvtx", None)
    with pytest.raises(MissingDependencyError) as caught:
        nvtx.enable()
    assert caught.value.hint == "pip install 'tessera[nvtx]'"
    # A variable of the environment must not keep a server from starting.
    monkeypatch.setenv(nvtx.VARIABLE, "1")
    with pytest.warns(UserWarning, match=r"TESSERA_NVTX: .*tessera\[nvtx\]"):
        nvtx.enable_as_asked()
    monkeypatch.setenv(nvtx.VARIABLE, "0")
    nvtx.enable_as_asked()
    assert not nvtx.enabled()


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tool, compiled."""
    pytest.importorskip("nvtx")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    library = tmp_path_factory.mktemp("nvtx") / "listener.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, HERE / "nvtx_listener.c"],
        check=True,
    )
    return library


@pytest.mark.parametrize("how", ["option", "variable", "neither"])
def test_tool_sees_kernels_by_name(listener: Path, tmp_path: Path, how: str) -> None:
    (tmp_path / "slow.py").write_text(
        "from numba import cuda\nimport tessera as ts\n\n\n"
        "@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)\n"
        'def twice(x: ts.Array[ts.f32, "n"]):\n'
        "    i = cuda.grid(1)\n    if i < x.size:\n        x[i] = 2 * x[i]\n"
    )
    options = ["--device", "cuda:0", "--repeat", "2", "--no-ncu", *(["--nvtx"] if how == "option" else [])]
    command = [sys.executable, "-c", SCRIPT.format(here=str(HERE)), "profile", "slow.py", *options]
    environment = {**os.environ, "NVTX_INJECTION64_PATH": str(listener), "PYTHONPATH": str(Path.cwd())}
    environment |= {"TESSERA_NVTX": "1"} if how == "variable" else {}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith(("domain", "push", "pop"))]
    if how == "neither":
        assert said == []
        return
    once = ["push tessera: twice", "push tessera: twice", "pop tessera", "pop tessera"]
    # The first execution is not counted, and seen all the same.
    assert said == ["domain tessera", *once * 3]
