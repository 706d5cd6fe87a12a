"""`RuntimeOptimizer`: measured points, and choices that follow from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from profiled_programs import linear_artifact

from tessera.deploy import RuntimeOptimizer
from tessera.package import Package
from tessera.profiler.runtime_optimizer import Point, RuntimeProfile
from tessera.program.errors import ConfigError, InputError, OptionError


@pytest.fixture(scope="module")
def package_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    return Package.from_artifact(linear_artifact(), name="linear").save(folder / "linear.tsd")


def point(batch: int, workers: int, p95_ms: float, items_per_s: float, peak_mb: int = 1) -> Point:
    return Point(batch, workers, 100, p95_ms * 0.8, p95_ms, items_per_s, peak_mb << 20)


POINTS = RuntimeProfile(
    "model",
    "cpu",
    (
        point(1, 1, 1.0, 1000),
        point(8, 1, 2.0, 4000),
        point(16, 1, 3.5, 4600),
        point(32, 1, 8.0, 4700, peak_mb=8),
        point(16, 2, 4.0, 8000, peak_mb=16),
        point(16, 4, 9.0, 8200, peak_mb=32),
    ),
)


@pytest.fixture
def optimizer(package_path: Path) -> RuntimeOptimizer:
    made = RuntimeOptimizer(package_path, device="reference")
    made._profile = POINTS
    return made


def test_analysis_takes_the_smallest_that_is_nearly_best(optimizer: RuntimeOptimizer) -> None:
    found = optimizer.analyze(POINTS)
    assert (found.optimal_batch_size, found.num_workers) == (16, 2)
    assert found.memory_pool_size == "18MB"
    assert "4.6 times those of 1" in found.reasons[0]


@pytest.mark.parametrize(
    ("latency", "wanted"), [(None, (16, 2)), (5.0, (16, 2)), (3.0, (8, 1)), (1.5, (1, 1)), (0.5, (1, 1))]
)
def test_choice_keeps_the_latency_if_anything_can(
    optimizer: RuntimeOptimizer, latency: float | None, wanted: tuple[int, int]
) -> None:
    chosen = optimizer.optimize(target_latency_ms=latency)
    assert (chosen.max_batch_size, chosen.workers) == wanted
    assert chosen.meets_latency is (None if latency is None else latency >= 1.0)
    assert bool(chosen.notes) is (chosen.meets_latency is False)


def test_throughput_that_is_missed_says_how_many_replicas_reach_it(optimizer: RuntimeOptimizer) -> None:
    chosen = optimizer.optimize(target_latency_ms=3.0, target_throughput_qps=10_000)
    assert (chosen.meets_latency, chosen.meets_throughput) == (True, False)
    assert "3 replicas" in chosen.notes[0]
    assert optimizer.optimize(target_throughput_qps=5000).meets_throughput is True


def test_profile_measures_every_point_and_the_server_reads_what_is_saved(
    package_path: Path, tmp_path: Path
) -> None:
    from tessera.serve import ServerConfig

    optimizer = RuntimeOptimizer(model_package=package_path, device="reference")
    inputs = np.random.default_rng(0).standard_normal((5, 64), dtype=np.float32)
    profile = optimizer.profile(test_inputs=inputs, num_iterations=4, batch_sizes=(8, 1), workers=(1, 2))
    assert profile.device == "reference"
    assert [(p.batch, p.workers) for p in profile.points[:2]] == [(1, 1), (8, 1)]
    assert profile.points[2].workers == 2
    assert all(p.calls == 4 and p.median_ms <= p.p95_ms and p.items_per_s > 0 for p in profile.points)
    assert profile.at(8, 1) == profile.points[1]
    path = optimizer.optimize(target_latency_ms=1e6, target_throughput_qps=1e-3).save(tmp_path / "c.json")
    loaded = ServerConfig.load(path, environment={})
    assert loaded.max_batch_size in (1, 8)
    assert loaded.device == "reference"
    assert json.loads(path.read_text())["memory_pool_size"] == "1MB"


def test_examples_come_as_list_or_by_name(package_path: Path) -> None:
    optimizer = RuntimeOptimizer(package_path, device="reference", program="linear")
    row = np.ones(64, np.float32)
    for given in ([row, row * 2], [{"x": row}], {"x": np.ones((3, 64), np.float32)}):
        (measured,) = optimizer.profile(given, 1, batch_sizes=(4,), workers=(1,)).points
        assert measured.batch == 4


def test_wrong_calls_are_refused(package_path: Path, tmp_path: Path) -> None:
    optimizer = RuntimeOptimizer(package_path, device="reference")
    with pytest.raises(ConfigError, match="nothing was measured"):
        optimizer.optimize()
    with pytest.raises(InputError, match="no test inputs"):
        optimizer.profile([])
    with pytest.raises(OptionError, match="at least 1"):
        optimizer.profile([np.ones(64, np.float32)], 0)
    with pytest.raises(InputError):
        optimizer.profile([np.ones(63, np.float32)], 1, batch_sizes=(1,), workers=(1,))
    optimizer.profile([np.ones(64, np.float32)], 1, batch_sizes=(1,), workers=(1,))
    with pytest.raises(ConfigError, match="No such file"):
        optimizer.optimize().save(tmp_path / "none" / "c.json")
