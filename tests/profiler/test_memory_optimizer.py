"""`MemoryOptimizer`: what the plan says, and what executions are measured to take."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from profiled_programs import linear_artifact

import tessera as ts
from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget, MemoryOptimizer, load_model
from tessera.package import Package
from tessera.program.errors import (
    ConfigError,
    DeviceError,
    InputError,
    OptionError,
    OutOfMemoryError,
    PackageError,
)

ROW_BYTES = 4 * 64


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three products with a softmax between: five temporary tensors of 256 bytes a row, two at a time."""

    @ts.jit
    def forward(x: ts.Tensor[ts.f32, "batch", 64], w: ts.Tensor[ts.f32, 64, 64]) -> ts.Tensor:
        for _ in range(3):
            x = ts.softmax(ts.matmul(x, w), axis=-1)
        return x

    compiled = AOTCompiler(AOTConfig(targets=[CompilationTarget("cpu")])).compile(forward)
    folder = tmp_path_factory.mktemp("chain")
    return Package.from_artifact(compiled.artifact, name="chain").save(folder / "chain.tsd")


def test_analysis_reads_lifetimes_and_reuse_from_the_plan(chain: Path) -> None:
    found = MemoryOptimizer(device="cpu").analyze_model(chain, batch=100)
    assert found.device == "cpu"
    assert (dict(found.sizes), found.assumed) == ({"batch": 100}, ())
    assert [(b.first, b.last) for b in found.buffers] == [(i, i + 1) for i in range(5)]
    assert {b.bytes for b in found.buffers} == {100 * ROW_BYTES}
    first, second, *rest = found.buffers
    assert first.reuses == second.reuses == ()
    assert [b.reuses[0] for b in rest] == [first.name, second.name, first.name]
    assert found.arena_bytes == found.peak_bytes == found.execution_bytes == 2 * 100 * ROW_BYTES
    assert found.separate_bytes == 5 * 100 * ROW_BYTES
    assert found.reused_bytes == 3 * 100 * ROW_BYTES
    assert found.input_bytes == 100 * ROW_BYTES + 64 * ROW_BYTES
    assert found.output_bytes == 100 * ROW_BYTES
    text = str(found)
    assert f"in the place of {first.name}" in text
    assert "temporary tensors: 5, 50.0 KiB (125 KiB if none took the place of another)" in text


def test_sizes_that_nobody_gave_are_said_to_be_assumed(chain: Path) -> None:
    found = MemoryOptimizer(device="cpu").analyze_model(chain)
    assert found.assumed == ("batch",)
    assert "batch = 256 (assumed)" in str(found)


def test_reuse_and_pooling_are_measured(chain: Path) -> None:
    optimizer = MemoryOptimizer(device="cpu")
    found = optimizer.analyze_model(chain, batch=1024)
    effect = optimizer.apply_optimizations({"enable_memory_pooling": True, "pool_size": "8GB"}, executions=5)
    assert effect is optimizer.effect
    assert effect.device == "cpu"
    assert (effect.before.executions, effect.after.executions) == (5, 5)
    # A pool rounds up by at most an eighth.
    assert found.separate_bytes <= effect.before.peak_bytes <= found.separate_bytes * 9 // 8
    assert found.arena_bytes <= effect.after.peak_bytes <= found.arena_bytes * 9 // 8
    assert (effect.before.allocations, effect.after.allocations) == (5, 1)
    assert effect.before.kept_bytes == 0
    assert effect.after.kept_bytes == effect.after.peak_bytes
    assert min(effect.before.median_ms, effect.after.median_ms) > 0
    assert effect.largest_batch == (8 << 30) // (2 * ROW_BYTES)
    assert str(effect).startswith("measured on cpu (cpu-")


def test_what_is_switched_off_stays_as_it_was(chain: Path) -> None:
    optimizer = MemoryOptimizer(device="cpu")
    optimizer.analyze_model(chain, batch=64)
    effect = optimizer.apply_optimizations(
        {"enable_memory_pooling": False, "enable_tensor_reuse": False}, executions=4
    )
    assert effect.after.peak_bytes == effect.before.peak_bytes
    assert effect.after.allocations == effect.before.allocations == 4
    assert effect.largest_batch is None


def test_largest_batch_runs_and_one_more_does_not(chain: Path) -> None:
    optimizer = MemoryOptimizer(device="cpu")
    optimizer.analyze_model(chain, batch=10)
    effect = optimizer.apply_optimizations({"max_workspace_size": "100KB"}, executions=1)
    most = effect.largest_batch
    assert most == 100 * 1024 // (2 * ROW_BYTES)
    rng = np.random.default_rng(2)
    w = rng.standard_normal((64, 64)).astype(np.float32)
    pool = effect.settings.create_pool()
    with load_model(chain, device="cpu") as model, pool.get_buffer() as buffer:
        model(rng.standard_normal((most, 64)).astype(np.float32), w, workspace=buffer)
        with pytest.raises(OutOfMemoryError):
            model(rng.standard_normal((most + 1, 64)).astype(np.float32), w, workspace=buffer)


@pytest.mark.parametrize("name", ["pool_size", "max_workspace_size"])
def test_limit_below_one_execution_names_both_and_a_batch_that_fits(chain: Path, name: str) -> None:
    optimizer = MemoryOptimizer(device="cpu")
    optimizer.analyze_model(chain, batch=1000)
    with pytest.raises(OutOfMemoryError, match=f"needs 500 KiB .* {name} allows 100 KiB") as caught:
        optimizer.apply_optimizations({name: "100KB"})
    assert (caught.value.required, caught.value.available) == (1000 * 2 * ROW_BYTES, 100 << 10)
    assert "batch=200" in str(caught.value)
    optimizer.analyze_model(chain, batch=200)
    optimizer.apply_optimizations({name: "100KB"}, executions=1)


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"pool_size": "8 apples"}, ConfigError, "pool_size: '8 apples' is not a size"),
        ({"max_workspace_size": 0}, ConfigError, "max_workspace_size: 0 is not a size"),
        ({"pool_size": "1GB", "max_workspace_size": "2GB"}, ConfigError, "the whole pool"),
        ({"enable_magic": True}, OptionError, "no memory optimization called 'enable_magic'"),
        ({"enable_tensor_reuse": "yes"}, OptionError, "it is on or off"),
        ({"enable_gradient_checkpointing": True}, OptionError, "packages are for inference"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    chain: Path, settings: dict[str, object], error: type[Exception], match: str
) -> None:
    optimizer = MemoryOptimizer(device="cpu")
    optimizer.analyze_model(chain)
    with pytest.raises(error, match=match):
        optimizer.apply_optimizations(settings)
    assert optimizer.effect is None


def test_settings_are_saved_for_a_server(chain: Path, tmp_path: Path) -> None:
    from tessera.serve import ServerConfig

    optimizer = MemoryOptimizer(device="cpu")
    optimizer.analyze_model(chain, batch=8)
    effect = optimizer.apply_optimizations({"pool_size": "64MB"}, executions=1)
    path = effect.save(tmp_path / "runtime_config.json")
    assert json.loads(path.read_text()) == {"device": "cpu", "memory_pool_size": 64 << 20}
    assert ServerConfig.load(path, environment={}).memory_pool_size == 64 << 20
    with pytest.raises(ConfigError, match=r"cannot write .*mkdir -p"):
        effect.save(tmp_path / "missing" / "runtime_config.json")


def test_calls_that_are_wrong_say_what_to_do(chain: Path, tmp_path: Path) -> None:
    optimizer = MemoryOptimizer(device="cpu")
    with pytest.raises(ConfigError, match="no model was analyzed"):
        optimizer.apply_optimizations({})
    with pytest.raises(InputError, match="program 'backward'"):
        optimizer.analyze_model(chain, program="backward")
    with pytest.raises(InputError, match="no size called 'rows'"):
        optimizer.analyze_model(chain, sizes={"rows": 3})
    optimizer.analyze_model(chain)
    with pytest.raises(OptionError, match="executions=0"):
        optimizer.apply_optimizations({}, executions=0)
    unplanned = Package.from_artifact(linear_artifact(), name="linear").save(tmp_path / "linear.tsd")
    with pytest.raises(PackageError, match="has no plan"):
        optimizer.analyze_model(unplanned)


def test_package_for_other_machines_is_analyzed_but_not_measured(tmp_path: Path) -> None:
    double = ts.jit(lambda x: ts.softmax(ts.matmul(x, x.T), axis=-1), name="double")
    compiler = AOTCompiler(AOTConfig(targets=[CompilationTarget("sm_90")]))
    compiled = compiler.compile(double, [ts.TensorSpec((None, 64), "f32")])
    path = Package.from_artifact(compiled.artifact, name="double").save(tmp_path / "double.tsd")
    optimizer = MemoryOptimizer(device="cpu")
    found = optimizer.analyze_model(path)
    assert (found.device, found.target) == (None, "sm_90")
    # On a GPU inputs and outputs lie in the pool too.
    assert found.execution_bytes >= found.arena_bytes + found.input_bytes + found.output_bytes
    assert "no device here runs it" in str(found)
    with pytest.raises(DeviceError, match="nothing can be measured") as caught:
        optimizer.apply_optimizations({})
    assert "--arch cpu" in str(caught.value)
