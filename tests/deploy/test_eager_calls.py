"""Calling `@ts.jit` functions, Modules and kernels: compiled in memory, then run."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from kernels_for_tests import saxpy
from numba import cuda, float32

import tessera as ts
from tessera.deploy import eager
from tessera.program.errors import DeviceError, TesseraError


@ts.kernel(grid=lambda n: ts.cdiv(n, 32), block=32)
def block_sums(x: ts.Array[ts.f32, "n"], sums: ts.Array[ts.f32, "cdiv(n, 32)"]):
    tile = cuda.shared.array(32, float32)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    tile[t] = x[i] if i < x.size else float32(0)
    cuda.syncthreads()
    if t == 0:
        total = float32(0)
        for k in range(32):
            total += tile[k]
        sums[cuda.blockIdx.x] = total


@ts.kernel(grid=1, block=32)
def widen(x: ts.Array[ts.bf16, 32], y: ts.Array[ts.f32, 32]):
    i = cuda.grid(1)
    y[i] = float32(x[i]) * float32(2)


@cuda.jit(device=True)
def tell(value):
    print("value", value)


@ts.kernel(grid=1, block=2)
def told(y: ts.Array[ts.i32, 2]):
    i = cuda.grid(1)
    tell(y[i])
    y[i] = 0


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSERA_DEVICE", "cpu")


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was compiled while the test ran."""
    made: list[object] = []
    compiled = eager._compiled

    def count(what, where):
        made.append(what)
        return compiled(what, where)

    monkeypatch.setattr(eager, "_compiled", count)
    return made


def test_function_with_named_sizes_is_compiled_once_for_all_shapes(
    compilations: list[object], rng: np.random.Generator
) -> None:
    @ts.jit
    def shifted(x: ts.Tensor[ts.f32, "rows", 8]) -> ts.Tensor:
        return ts.relu(x) + 1.0

    for rows in (1, 5, 0, 64):
        x = rng.normal(size=(rows, 8)).astype(np.float32)
        np.testing.assert_allclose(shifted(x).numpy(), np.maximum(x, 0) + 1, rtol=1e-6)
    assert len(compilations) == 1


def test_function_without_sizes_is_compiled_for_each_shape_and_dtype(compilations: list[object]) -> None:
    @ts.jit
    def doubled(x: ts.Tensor) -> ts.Tensor:
        return x + x

    for x in (np.ones(3, np.float32), np.ones(4, np.float32), np.ones(3, np.float64), np.ones(3, np.float32)):
        result = doubled(x).numpy()
        assert result.dtype == x.dtype
        assert (result == 2).all()
    assert len(compilations) == 3


def test_bf16_and_several_results_come_back() -> None:
    @ts.jit
    def both(x: ts.Tensor):
        return x * 2, x.sum(axis=0)

    twice, total = both(ts.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=ts.bf16))
    assert twice.dtype is ts.bf16
    assert twice.numpy().astype(float).tolist() == [[2, 4], [6, 8]]
    assert total.numpy().astype(float).tolist() == [4, 6]


def test_module_is_called_with_its_weights(rng: np.random.Generator) -> None:
    layer = ts.Linear(6, 3)
    x = rng.normal(size=(4, 6)).astype(np.float32)
    state = layer.state_dict()
    weight = next(v for v in state.values() if v.ndim == 2)
    bias = next(v for v in state.values() if v.ndim == 1)
    expected = x @ (weight if weight.shape == (6, 3) else weight.T) + bias
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_kernel_writes_its_argument(compilations: list[object]) -> None:
    for n in (1000, 1, 257):
        x, y = np.arange(n, dtype=np.float32), np.ones(n, np.float32)
        result = saxpy(2.0, x, y)
        np.testing.assert_allclose(result.numpy(), 2 * x + 1)
        np.testing.assert_allclose(y, 2 * x + 1)
    assert len(compilations) <= 1


def test_kernel_is_compiled_anew_when_what_it_reads_changes() -> None:
    table = np.array([1, 2], np.float32)
    factor = 2.0

    @ts.kernel(grid=1, block=32)
    def apply(x: ts.Array[ts.f32, "n"]) -> None:
        i = cuda.grid(1)
        if i < x.size:
            x[i] = x[i] * factor + table[i % 2]

    def applied() -> list[float]:
        results = [np.full(2, 5, np.float32), np.full(2, 5, np.float32)]
        apply(results[0])
        apply[1, 32](results[1])
        np.testing.assert_array_equal(*results)
        return results[0].tolist()

    assert applied() == [11, 12]
    factor = 3.0
    assert applied() == [16, 17]
    table[:] = 10
    assert applied() == [25, 25]


def test_kernel_whose_threads_work_together_is_emulated_unless_the_cpu_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TESSERA_DEVICE")
    x = np.arange(100, dtype=np.float32)
    sums = np.zeros(4, np.float32)
    result = block_sums(x, sums)
    np.testing.assert_array_equal(sums, [x[i : i + 32].sum() for i in range(0, 100, 32)])
    np.testing.assert_array_equal(result.numpy(), sums)
    monkeypatch.setenv("TESSERA_DEVICE", "cpu")
    with pytest.raises(TesseraError, match="needs a GPU") as caught:
        block_sums(x, sums)
    assert "device emulator" in str(caught.value.hint)


def test_kernel_of_types_that_only_a_gpu_has_is_emulated(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.delenv("TESSERA_DEVICE")
    x = rng.standard_normal(32).astype(ts.bf16.numpy)
    np.testing.assert_array_equal(widen(x, np.zeros(32, "f4")).numpy(), x.astype(np.float32) * 2)
    monkeypatch.setenv("TESSERA_DEVICE", "cpu")
    with pytest.raises(TesseraError, match="x is bf16"):
        widen(x, np.zeros(32, np.float32))


def test_kernel_that_prints_is_emulated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TESSERA_DEVICE")
    told(np.array([4, 5], np.int32))
    assert capsys.readouterr().out == "value 4\nvalue 5\n"
    monkeypatch.setenv("TESSERA_DEVICE", "cpu")
    with pytest.raises(TesseraError, match="uses print"):
        told(np.array([4, 5], np.int32))


def test_threads_that_call_first_compile_once(compilations: list[object]) -> None:
    traced = ts.jit(lambda x: ts.exp(x) - 1.0).trace([ts.TensorSpec((5,))])
    results: list[np.ndarray] = []

    def call() -> None:
        results.append(eager.run(traced, (), {traced.graph.nodes[0].attrs["name"]: np.zeros(5, np.float32)}))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert len(compilations) == 1


def test_dropped_function_gives_its_code_back() -> None:
    traced = ts.jit(lambda x: x - 1.0).trace([ts.TensorSpec((5,))])
    eager.run(traced, (), {"x": np.zeros(5, np.float32)})
    runtime = weakref.ref(eager._runtime(traced))
    assert runtime() is not None
    del traced
    gc.collect()
    assert runtime() is None


def test_variable_chooses_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert eager.place() == eager.CPU
    monkeypatch.setenv("TESSERA_DEVICE", "reference")
    with pytest.raises(DeviceError, match="TESSERA_DEVICE=reference"):
        eager.place()
    monkeypatch.setenv("TESSERA_DEVICE", "gpu")
    with pytest.raises(DeviceError, match="unknown device 'gpu'"):
        eager.place()
    monkeypatch.setenv("TESSERA_DEVICE", "cuda:97")
    with pytest.raises(DeviceError, match=r"driver|no GPU 97"):
        eager.place()


@pytest.mark.parametrize(
    ("cc", "name"),
    [
        ((7, 0), "sm_70"),
        ((9, 0), "sm_90a"),
        ((12, 0), "sm_120a"),
        ((8, 9), "sm_89"),
        ((11, 0), "sm_103"),
        ((13, 5), "sm_121"),
    ],
)
def test_code_is_made_for_the_gpu_or_the_nearest_earlier_one(cc: tuple[int, int], name: str) -> None:
    assert eager.architecture_for(cc) == name


def test_gpu_that_is_too_old_is_an_error() -> None:
    with pytest.raises(DeviceError, match=r"6\.1 is too old"):
        eager.architecture_for((6, 1))
