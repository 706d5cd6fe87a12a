"""Benchmarks of packages, artifacts and functions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from profiled_programs import linear, linear_artifact

from tessera.package import Package
from tessera.profiler import BenchResult, bench_target
from tessera.profiler.sizes import batch_symbol, choose_sizes, random_inputs
from tessera.program.artifact import Artifact
from tessera.program.dtype import bf16, bool_, f32, i32
from tessera.program.errors import ConfigError, DeviceError, InputError, OptionError
from tessera.program.graph import Graph, Node
from tessera.program.program import Port, Program

QUICK = {"seconds": 0.01, "warmup_seconds": 0.0}


def test_bench_artifact_on_reference_agrees_with_its_baseline() -> None:
    result = bench_target(linear_artifact(), device="reference", batch_sizes=(1, 16), **QUICK)
    assert (result.kind, result.device, result.program) == ("measured", "reference", "linear")
    assert result.hardware
    assert [row.batch for row in result.batches] == [1, 16]
    for row in result.batches:
        assert row.max_difference == 0.0
        assert row.baseline is not None
        assert row.flops == (row.batch or 0) * (2 * 64 * 16 + 16)
        assert row.gflop_per_s == pytest.approx((row.flops or 0) / (row.timing.median_ms * 1e6))
        assert row.gb_per_s == pytest.approx((row.bytes or 0) / (row.timing.median_ms * 1e6))
        assert row.per_second == pytest.approx((row.batch or 0) * 1e3 / row.timing.median_ms)
        assert row.device_timing is None


def test_bench_package_file_names_the_file(tmp_path: Path) -> None:
    path = Package.from_artifact(linear_artifact(), name="linear").save(tmp_path / "linear.tsd")
    result = bench_target(path, device="reference", batch_sizes=(2,), **QUICK)
    assert result.target == "linear.tsd"
    opened = bench_target(Package.load(path), device="reference", batch_sizes=(2,), **QUICK)
    assert opened.target == "linear.tsd"


def test_bench_missing_device_says_where_it_was_measured() -> None:
    result = bench_target(linear_artifact(), device="cpu", batch_sizes=(1,), **QUICK)
    assert result.device == "reference"
    assert any("Measured on reference, not cpu" in note for note in result.notes)


def test_bench_missing_device_under_strict_is_refused() -> None:
    with pytest.raises(DeviceError):
        bench_target(linear_artifact(), device="cpu", strict_device=True, **QUICK)


def test_bench_json_reads_back_equal_and_holds_the_rates() -> None:
    result = bench_target(linear_artifact(), device="reference", batch_sizes=(4,), **QUICK)
    assert BenchResult.from_json(result.to_json()) == result
    row = json.loads(result.to_json())["batches"][0]
    assert row["speedup"] == pytest.approx(result.batches[0].speedup)
    assert row["gb_per_s"] == pytest.approx(result.batches[0].gb_per_s)


def test_bench_json_of_something_else_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a benchmark"):
        BenchResult.from_json(b'{"target": 3}')


def test_bench_without_baseline_measures_the_target_alone() -> None:
    result = bench_target(linear_artifact(), device="reference", batch_sizes=(1,), baseline=False, **QUICK)
    assert result.batches[0].baseline is None
    assert result.batches[0].speedup is None


def test_bench_function_against_another_compares_outputs() -> None:
    result = bench_target(
        lambda x: x @ x,
        inputs=lambda n: (np.eye(n),),
        batch_sizes=(4,),
        baseline=lambda x: x + 0.5,
        **QUICK,
    )
    row = result.batches[0]
    assert row.max_difference == 0.5
    assert (row.bytes, row.flops, row.gb_per_s, row.gflop_per_s) == (None, None, None, None)


def test_bench_function_without_inputs_says_how_to_give_them() -> None:
    with pytest.raises(InputError) as caught:
        bench_target(lambda: None, **QUICK)
    assert "inputs=" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "wrong", [{"seconds": 0}, {"warmup_seconds": -1}, {"batch_sizes": ()}, {"batch_sizes": (0,)}]
)
def test_bench_with_impossible_settings_is_refused(wrong: dict) -> None:
    with pytest.raises(OptionError):
        bench_target(linear_artifact(), device="reference", **{**QUICK, **wrong})


def test_bench_unknown_program_lists_those_there() -> None:
    with pytest.raises(InputError) as caught:
        bench_target(linear_artifact(), device="reference", program="backward", **QUICK)
    assert "linear" in (caught.value.hint or "")


def test_bench_empty_artifact_is_refused() -> None:
    with pytest.raises(InputError, match="which program"):
        bench_target(Artifact(programs=(), binaries=()), **QUICK)


def test_sizes_of_unnamed_symbols_are_assumed_and_reported() -> None:
    program = linear()
    assert batch_symbol(program) == "batch"
    assert choose_sizes(program, batch=7, given={}) == ({"batch": 7}, ())
    assert choose_sizes(program, batch=None, given={}) == ({"batch": 256}, ("batch",))
    with pytest.raises(InputError, match="depth"):
        choose_sizes(program, batch=1, given={"depth": 3})


def test_random_inputs_have_the_dtypes_and_shapes_of_the_ports() -> None:
    program = Program(
        name="mixed",
        inputs=(
            Port(name="x", dtype=bf16, shape=(2, 3)),
            Port(name="mask", dtype=bool_, shape=(4,)),
            Port(name="n", dtype=i32, kind="scalar"),
            Port(name="a", dtype=f32, kind="scalar"),
        ),
        outputs=(),
    )
    made = random_inputs(program, {"n": 12}, seed=3)
    assert {name: (str(v.dtype), v.shape) for name, v in made.items()} == {
        "x": ("bfloat16", (2, 3)),
        "mask": ("bool", (4,)),
        "n": ("int32", ()),
        "a": ("float32", ()),
    }
    assert int(made["n"]) == 12
    again = random_inputs(program, {"n": 12}, seed=3)
    assert all(np.array_equal(made[name], again[name]) for name in made)


def fixed_artifact() -> Artifact:
    nodes = (
        Node(op="input", attrs={"name": "x"}, shape=(3, 8), dtype=f32),
        Node(op="exp", inputs=(0,), shape=(3, 8), dtype=f32),
    )
    program = Program(
        name="fixed",
        inputs=(Port(name="x", dtype=f32, shape=(3, 8)),),
        outputs=(Port(name="output", dtype=f32, shape=(3, 8)),),
        graph=Graph(name="fixed", nodes=nodes, outputs=(1,)),
    )
    return Artifact(programs=(program,), binaries=())


def test_bench_fixed_program_is_measured_once_and_says_so() -> None:
    assert batch_symbol(fixed_artifact().programs[0]) is None
    result = bench_target(fixed_artifact(), device="reference", batch_sizes=(1, 2), **QUICK)
    assert [row.batch for row in result.batches] == [None]
    assert any("fixed" in note for note in result.notes)


def test_bench_compiled_kernel_on_cpu_times_each_step() -> None:
    import tessera as ts
    from tessera.compiler.aot import AOTCompiler

    @ts.jit
    def scaled_relu(x: ts.Tensor[ts.f32, "batch", 64]):
        return ts.relu(x) * 0.5

    compiled = AOTCompiler(target_architectures=["cpu"]).compile(scaled_relu)
    result = bench_target(compiled, batch_sizes=(8,), strict_device=True, **QUICK)
    assert result.device == "cpu"
    row = result.batches[0]
    assert row.max_difference == 0.0
    assert row.timing.name.startswith("tessera cpu-")
    assert [step.index for step in row.steps] == [0]
    assert 0 < row.steps[0].median_ms < row.timing.p95_ms * 10
