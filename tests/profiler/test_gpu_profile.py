"""A timeline and Nsight Compute's counters on a real GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tessera as ts
from tessera.deploy import AOTConfig, BatchCompiler, CompilationTarget
from tessera.profiler.device_times import device_times
from tessera.profiler.ncu import find_ncu, profile_ncu
from tessera.program.errors import DeviceError, MissingDependencyError
from tessera.runtime import DeploymentPackage, Timeline
from tessera.runtime.cuda_driver import CupyDriver, open_driver


def missing() -> str | None:
    """Why there is nothing to run on."""
    try:
        open_driver(0)
    except (DeviceError, MissingDependencyError) as error:
        return error.message
    return None


REASON = missing()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=f"needs a GPU: {REASON}")]


@ts.jit
def scores(x: ts.Tensor[ts.f32, "batch", 1024], w: ts.Tensor[ts.f32, 1024, 1024]) -> ts.Tensor:
    return ts.softmax(ts.matmul(x, w), axis=-1)


@pytest.fixture(scope="module")
def driver() -> CupyDriver:
    return open_driver(0)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, driver: CupyDriver) -> Path:
    target = CompilationTarget(f"sm_{driver.cc[0]}{driver.cc[1]}")
    batch = BatchCompiler(AOTConfig(targets=[target], include_debug_info=True))
    batch.add_kernel(scores, name="scores")
    path = tmp_path_factory.mktemp("gpu") / "scores.tsp"
    batch.compile_all().save(str(path))
    return path


@pytest.fixture
def inputs(rng: np.random.Generator) -> dict[str, np.ndarray]:
    shapes = {"x": (512, 1024), "w": (1024, 1024)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_pieces_of_an_execution_fit_into_it(package: Path, inputs: dict[str, np.ndarray]) -> None:
    timeline = Timeline()
    runtime = DeploymentPackage.load(package).create_runtime(
        "cuda:0", strict_device=True, enable_profiling=timeline
    )
    for _ in range(20):
        runtime.execute("scores", inputs)
    times = device_times(timeline.spans)
    assert times is not None
    assert [p.kind for p in times.pieces][:3] == ["allocate", "upload", "upload"]
    assert all(p.median_ms > 0 for p in times.pieces)
    assert 0 < times.kernels_ms + times.copies_ms < times.whole_ms
    assert times.empty_ms is not None
    assert times.empty_ms < times.kernels_ms


def test_ncu_counts_every_launch_and_names_its_lines(package: Path, inputs: dict[str, np.ndarray]) -> None:
    if find_ncu() is None:
        pytest.skip("needs Nsight Compute")
    try:
        found = profile_ncu(package, "scores", inputs)
    except DeviceError as error:
        if "ERR_NVGPUCTRPERM" in error.message:
            pytest.skip(error.message)
        raise
    program = DeploymentPackage.load(package).programs["scores"]
    assert len(found.launches) >= len(program.plans[0].steps)
    assert all(launch.metrics["gpu__time_duration.sum"] > 0 for launch in found.launches)
    assert any(line.line and line.executed for line in found.lines)
