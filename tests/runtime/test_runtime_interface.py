"""What `Runtime` takes, gives and refuses, whatever the device."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from handmade import B, N, mlp_program, mlp_weights, saxpy_program, softmax_program

import tessera as ts
from tessera.program.artifact import Artifact
from tessera.program.dtype import bf16, bool_, f32, i8, i32, i64
from tessera.program.errors import ConfigError, DeviceError, InputError
from tessera.program.graph import Graph, Node
from tessera.program.program import Port, Program
from tessera.runtime import DeviceFallbackWarning, Runtime, open_artifact

Build = Callable[..., Artifact]


def graph_program(name: str, dtype: ts.DType = f32, op: str = "neg") -> Program:
    """One operator, with no code for any target: for the reference device."""
    shape = (B, N)
    nodes = (
        Node(op="input", attrs={"name": "x"}, shape=shape, dtype=dtype),
        Node(op=op, inputs=(0,), shape=shape, dtype=dtype),
    )
    return Program(
        name=name,
        inputs=(Port(name="x", dtype=dtype, shape=shape),),
        outputs=(Port(name="output", dtype=dtype, shape=shape),),
        graph=Graph(name=name, nodes=nodes, outputs=(1,)),
    )


def reference(*programs: Program) -> Runtime:
    return open_artifact(Artifact(programs, ()), "reference")


@pytest.fixture
def softmax_runtime(build: Build) -> Runtime:
    return open_artifact(build(softmax_program()))


ROW = [[0.0, np.log(3.0)]]


@pytest.mark.parametrize(
    "given",
    [
        (np.array(ROW, np.float32),),
        (np.array(ROW, np.float64),),
        (ROW,),
        ([np.array(ROW, np.float32)],),
        ([np.array(ROW[0], np.float32)],),
        ({"x": ROW},),
        (ts.tensor(ROW, dtype=ts.f32),),
        ("softmax", ROW),
        ("softmax", [np.array(ROW, np.float32)]),
        ("softmax", {"x": np.array(ROW, np.float16)}),
    ],
)
def test_every_way_to_pass_a_single_input(softmax_runtime: Runtime, given: tuple[object, ...]) -> None:
    result = softmax_runtime.execute(*given)
    assert isinstance(result, np.ndarray)
    np.testing.assert_allclose(result, [[0.25, 0.75]], rtol=1e-3)


@pytest.mark.parametrize(
    "given",
    [
        (2, [1.0], [3.0]),
        ([2, [1.0], [3.0]],),
        ((2.0, np.ones(1, np.float32), [3]),),
        ({"y": [3.0], "a": np.float64(2), "x": [1]},),
        ("saxpy", 2, [1.0], [3.0]),
        ("saxpy", [np.array([2.0]), [1.0], [3.0]]),
    ],
)
def test_every_way_to_pass_several_inputs(build: Build, given: tuple[object, ...]) -> None:
    assert open_artifact(build(saxpy_program())).execute(*given).tolist() == [5.0]


def test_several_outputs_come_as_a_dict() -> None:
    shape = (N,)
    nodes = (
        Node(op="input", attrs={"name": "x"}, shape=shape, dtype=f32),
        Node(op="neg", inputs=(0,), shape=shape, dtype=f32),
        Node(op="abs", inputs=(0,), shape=shape, dtype=f32),
    )
    program = Program(
        name="two",
        inputs=(Port(name="x", dtype=f32, shape=shape),),
        outputs=(Port(name="low", dtype=f32, shape=shape), Port(name="high", dtype=f32, shape=shape)),
        graph=Graph(name="two", nodes=nodes, outputs=(1, 2), output_names=("low", "high")),
    )
    result = reference(program).execute([1.0, -2.0])
    assert {name: value.tolist() for name, value in result.items()} == {"low": [-1, 2], "high": [1, 2]}


def test_program_called_forward_is_the_default_of_several() -> None:
    runtime = reference(graph_program("other", op="abs"), graph_program("forward"))
    assert runtime.execute([[1.0]]).tolist() == [[-1.0]]
    assert runtime.execute("other", [[-1.0]]).tolist() == [[1.0]]


def test_several_programs_without_a_name_are_listed() -> None:
    runtime = reference(graph_program("first"), graph_program("second"))
    with pytest.raises(InputError, match="2 programs: say which one") as caught:
        runtime.execute([[1.0]])
    assert caught.value.hint == "programs: first, second"
    with pytest.raises(InputError, match="no program called 'third'"):
        runtime.execute("third", [[1.0]])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "takes 3 inputs, got 0"),
        (([1.0], [1.0]), "takes 3 inputs, got 2"),
        (({"a": 1, "x": [1.0]},), "'y' is missing"),
        (({"a": 1, "x": [1.0], "z": [1.0]},), "no input called 'z'"),
        ((1, [1.0], None), "'y' cannot be None"),
        ((1, [1.0], "text"), "'y' cannot be a str"),
        ((1, [[1.0], [1.0, 2.0]], [1.0]), "'x': this list cannot become an array"),
        ((1, [1.0, 2.0], [1.0]), "'y' .*axis 0 is 1, but n is 2"),
        ((1, np.ones((2, 2), np.float32), [1.0]), "'x' .*2 axes, expected 1"),
        (([1, 2], [1.0], [1.0]), "'a' is a scalar"),
        ((1, np.array([1j]), [1.0]), "'x' holds complex128 values"),
        ((1, np.array(["a"]), [1.0]), "'x' holds <U1 values"),
        ((1, np.array([object()]), [1.0]), "'x' holds object values"),
    ],
)
def test_wrong_inputs_are_named(build: Build, given: tuple[object, ...], message: str) -> None:
    runtime = open_artifact(build(saxpy_program()))
    with pytest.raises(InputError, match=message):
        runtime.execute(*given)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (f32, np.array([[1, 2]], np.int64)),
        (f32, np.array([[True]])),
        (f32, np.array([[1.5]], ml_dtypes.bfloat16)),
        (bf16, np.array([[1.5]], np.float64)),
        (i32, np.array([[7, -7]], np.int64)),
        (i32, np.array([[7]], np.uint64)),
        (i8, [[127, -128]]),
        (i64, [[True, False]]),
        (f32, np.zeros((0, 4), np.float64)),
        (i32, np.zeros((2, 0), np.int64)),
    ],
)
def test_values_that_fit_are_converted(dtype: ts.DType, value: object) -> None:
    result = reference(graph_program("p", dtype, "abs")).execute(value)
    assert result.dtype == dtype.numpy
    expected = np.abs(np.asarray(value).astype(dtype.numpy).astype(np.float64))
    if dtype is not i8:
        np.testing.assert_array_equal(result.astype(np.float64), expected)


def test_values_beyond_an_eight_bit_float_saturate() -> None:
    result = reference(graph_program("p", ts.f8e4m3, "abs")).execute([[1000.0, -np.inf, 3.0]])
    assert result.astype(float).tolist() == [[448, 448, 3]]


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        (i32, [[1.0]], "holds float64 values, which do not convert to i32 without loss"),
        (i32, np.array([[1.0]], np.float32), "holds float32 values"),
        (i8, [[1, 200]], "holds 200, but i8 holds -128 to 127"),
        (i32, np.array([[2**40]]), "holds 1099511627776, but i32"),
        (bool_, [[2]], "holds 2, but bool holds 0 to 1"),
    ],
)
def test_values_that_do_not_fit_are_refused(dtype: ts.DType, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        reference(graph_program("p", dtype, "abs")).execute(value)
    assert caught.value.input == "x"


def test_float64_beyond_float32_becomes_infinity_without_warning() -> None:
    assert np.isinf(reference(graph_program("p", f32, "abs")).execute(np.array([[1e300]]))).all()


def test_bf16_results_are_ml_dtypes_arrays() -> None:
    result = reference(graph_program("p", bf16)).execute([[1.0]])
    assert result.dtype == ml_dtypes.bfloat16


def test_with_block_may_be_entered_again_and_again(softmax_runtime: Runtime) -> None:
    for _ in range(3):
        with softmax_runtime as runtime:
            assert runtime.execute([[1.0]]).tolist() == [[1.0]]
    softmax_runtime.close()


def test_closed_runtime_says_so_and_close_may_be_repeated(softmax_runtime: Runtime) -> None:
    softmax_runtime.close()
    softmax_runtime.close()
    assert softmax_runtime.closed
    with pytest.raises(DeviceError, match="closed"):
        softmax_runtime.execute([[1.0]])
    with pytest.raises(DeviceError, match="closed"):
        softmax_runtime.__enter__()


def test_close_waits_for_the_block_under_way(softmax_runtime: Runtime) -> None:
    with softmax_runtime as runtime:
        thread = threading.Thread(target=softmax_runtime.close)
        thread.start()
        thread.join()
        assert runtime.execute([[1.0]]).tolist() == [[1.0]]
    with pytest.raises(DeviceError, match="closed"):
        softmax_runtime.execute([[1.0]])


def test_runtime_gives_its_device_back_when_dropped(build: Build) -> None:
    runtime = open_artifact(build(softmax_program()))
    runtime.execute([[1.0]])
    state = weakref.ref(runtime._state)
    del runtime
    gc.collect()
    assert state() is None


def test_results_outlive_the_runtime(build: Build) -> None:
    runtime = open_artifact(build(softmax_program()))
    result = runtime.execute([[1.0, 1.0]])
    runtime.close()
    del runtime
    assert result.tolist() == [[0.5, 0.5]]


def test_profile_has_every_step(build: Build, rng: np.random.Generator) -> None:
    artifact = build(mlp_program(), constants=mlp_weights(rng))
    runtime = open_artifact(artifact, enable_profiling=True)
    for _ in range(3):
        runtime.execute(np.ones((5, 16), np.float32))
    profile = runtime.profile
    assert profile is not None
    assert [s.name for s in profile.steps] == ["widen", "gemm", "bias_relu", "narrow"]
    assert [s.calls for s in profile.steps] == [3] * 4
    assert profile.executions == 3
    assert 0 < sum(s.total_ms for s in profile.steps) <= profile.total_ms
    assert all(s.min_ms <= s.mean_ms <= s.max_ms for s in profile.steps)
    runtime.reset_profile()
    assert runtime.profile.executions == 0
    assert open_artifact(artifact).profile is None


def test_memory_usage_counts_weights_and_working_memory(build: Build, rng: np.random.Generator) -> None:
    weights = mlp_weights(rng)
    runtime = open_artifact(build(mlp_program(), constants=weights), memory_pool_size="1MB")
    runtime.execute(np.ones((5, 16), np.float32))
    usage = runtime.memory_usage()
    assert usage["limit_bytes"] == 1 << 20
    assert usage["in_use_bytes"] == 0
    assert usage["reserved_bytes"] >= 5 * (16 + 24) * 4
    assert usage["weights_bytes"] == sum(w.nbytes for w in weights.values()) + 16 * 24 * 4


@pytest.mark.parametrize("size", ["lots", "-1GB", 0, -5, "0", True])
def test_wrong_pool_size_is_a_config_error(build: Build, size: object) -> None:
    with pytest.raises(ConfigError, match="memory_pool_size"):
        open_artifact(build(softmax_program()), memory_pool_size=size)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:1", "", "CUDA", 3])
def test_unknown_device_is_an_error_and_no_fallback(build: Build, name: object) -> None:
    with pytest.raises(DeviceError, match="unknown device") as caught:
        open_artifact(build(softmax_program()), name)
    assert "cpu, reference, cuda:0" in (caught.value.hint or "")


def test_reference_takes_over_where_there_is_no_code_for_the_cpu() -> None:
    with pytest.warns(DeviceFallbackWarning, match=r"cpu: .*no code for this CPU.* running on reference"):
        runtime = open_artifact(Artifact((graph_program("p"),), ()), "cpu")
    assert runtime.device == "reference"
    assert runtime.execute([[1.0]]).tolist() == [[-1.0]]
    with pytest.raises(DeviceError, match="no code for this CPU"):
        open_artifact(Artifact((graph_program("p"),), ()), "cpu", strict_device=True)


def test_reference_refuses_raw_kernels(build: Build) -> None:
    with pytest.raises(DeviceError, match="'saxpy' is a raw kernel"):
        open_artifact(build(saxpy_program()), "reference", strict_device=True)


def test_artifact_without_programs_is_an_error() -> None:
    with pytest.raises(DeviceError, match="no program"):
        open_artifact(Artifact((), ()))


def test_missing_weight_is_named(build: Build) -> None:
    with pytest.raises(ts.TesseraError, match="no weight called 'W'"):
        open_artifact(build(mlp_program()))


def test_weight_of_another_shape_is_named(build: Build, rng: np.random.Generator) -> None:
    weights = mlp_weights(rng) | {"b": np.zeros(3, np.float32)}
    with pytest.raises(ts.TesseraError, match=r"weight 'b' is float32\[3\], the program takes f32\[24\]"):
        open_artifact(build(mlp_program(), constants=weights))
