"""What Numba CUDA's users write in kernels: it compiles for a GPU, and runs in the emulator as NumPy says."""

import math
from typing import Any

import numpy as np
import pytest
from emulated import emulate
from numba import cuda, float32, int32, int64, uint32, uint64
from numba.cuda import libdevice
from numba.cuda.types import float16

import tessera as ts
from tessera.deploy import AOTCompiler
from tessera.program.errors import CompileError, ToolchainError

WEIGHTS = np.array([0.5, -1.0, 2.0, 0.25], np.float32)
PAIR = (3, 4)
N = 32


@cuda.jit(device=True)
def blend(a, b, t):
    return a + (b - a) * t


@cuda.jit(device=True)
def both(a, b):
    return a + b, a - b


@pytest.fixture
def x(rng: np.random.Generator) -> Any:
    return rng.uniform(0.5, 2, N).astype(np.float32)


ZEROS = np.zeros(N, np.float32)


def test_device_functions_with_tuples_closures_and_globals(x: Any) -> None:
    @ts.kernel(grid=1, block=32, outputs="y")
    def kernel(x: ts.Array[ts.f32, N], y: ts.Array[ts.f32, N]):
        i = cuda.grid(1)
        total, rest = both(x[i], float32(PAIR[0]))
        scale = PAIR[1]

        def inner(v):
            return v * scale

        y[i] = inner(blend(total, rest, float32(0.25)))

    expected = ((x + 3) + ((x - 3) - (x + 3)) * 0.25) * 4
    np.testing.assert_allclose(emulate(kernel, x, ZEROS)["y"], expected, rtol=1e-5)


def test_constant_local_and_static_shared_arrays(x: Any) -> None:
    @ts.kernel(grid=1, block=32, outputs="y")
    def kernel(x: ts.Array[ts.f32, N], y: ts.Array[ts.f32, N]):
        i = cuda.threadIdx.x
        weights = cuda.const.array_like(WEIGHTS)
        window = cuda.local.array(4, float32)
        tile = cuda.shared.array((8, 4), float32)
        tile[i // 4, i % 4] = x[i]
        cuda.syncthreads()
        for k in range(4):
            window[k] = tile[(i + k) % 32 // 4, (i + k) % 4]
        total = float32(0)
        for k in range(4):
            total += window[k] * weights[k]
        y[i] = total

    expected = sum(np.roll(x, -k) * WEIGHTS[k] for k in range(4))
    np.testing.assert_allclose(emulate(kernel, x, ZEROS)["y"], expected, rtol=1e-5)


def test_dynamic_shared_memory_of_two_types(x: Any) -> None:
    @ts.kernel(grid=1, block=32, outputs="y", shared_bytes=32 * 4 + 32 * 8)
    def kernel(x: ts.Array[ts.f32, N], y: ts.Array[ts.f32, N]):
        i = cuda.threadIdx.x
        whole = cuda.shared.array(0, int64)
        parts = cuda.shared.array(0, float32)[64:]
        whole[i] = i * i
        parts[i] = x[i]
        cuda.syncthreads()
        y[i] = parts[31 - i] + whole[31 - i]

    back = np.arange(31, -1, -1)
    np.testing.assert_allclose(emulate(kernel, x, ZEROS)["y"], x[::-1] + back * back, rtol=1e-6)


def test_arrays_of_three_axes_grids_and_strides() -> None:
    @ts.kernel(grid=(2, 2, 1), block=(4, 2, 2), outputs="y")
    def kernel(x: ts.Array[ts.i32, 8, 4, 2], y: ts.Array[ts.i32, 2, 4, 8], s: ts.Array[ts.i64, 4]):
        i, j, k = cuda.grid(3)
        if i < x.shape[0] and j < x.shape[1] and k < x.shape[2]:
            y[k, j, i] = x[i, j, k] + cuda.gridsize(3)[0]
        if i == 0 and j == 0 and k == 0:
            y[0, 0, 0] += x.ndim + x.strides[0] + len(x) + x.size - x.itemsize + s.shape[0]

    x = np.arange(64, dtype=np.int32).reshape(8, 4, 2)
    expected = x.transpose(2, 1, 0) + 8
    expected[0, 0, 0] += 3 + 32 + 8 + 64 - 4 + 4
    found = emulate(kernel, x, np.zeros((2, 4, 8), np.int32), np.zeros(4, np.int64))["y"]
    np.testing.assert_array_equal(found, expected)


def test_atomics_on_integers_of_an_array_with_two_axes(rng: np.random.Generator) -> None:
    @ts.kernel(grid=1, block=32, outputs="y")
    def kernel(x: ts.Array[ts.i32, N], y: ts.Array[ts.i32, 3, 3]):
        i = cuda.threadIdx.x
        cuda.atomic.add(y, (0, 0), x[i])
        cuda.atomic.sub(y, (0, 1), x[i])
        cuda.atomic.max(y, (0, 2), x[i])
        cuda.atomic.min(y, (1, 0), x[i])
        cuda.atomic.and_(y, (1, 1), x[i])
        cuda.atomic.or_(y, (1, 2), x[i])
        cuda.atomic.xor(y, (2, 0), x[i])

    x = rng.integers(1, 60, N).astype(np.int32) | 1
    first = np.array([[5, 5, 5], [5, 63, 0], [3, 0, 0]], np.int32)
    expected = [
        [5 + x.sum(), 5 - x.sum(), max(5, x.max())],
        [min(5, x.min()), 63 & np.bitwise_and.reduce(x), np.bitwise_or.reduce(x)],
        [3 ^ np.bitwise_xor.reduce(x), 0, 0],
    ]
    np.testing.assert_array_equal(emulate(kernel, x, first)["y"], expected)


def test_counters_that_wrap() -> None:
    @ts.kernel(grid=1, block=32, outputs="y")
    def kernel(y: ts.Array[ts.i32, 2]):
        cuda.atomic.inc(y.view(np.uint32), 0, 9)
        cuda.atomic.dec(y.view(np.uint32), 1, 9)

    assert emulate(kernel, np.zeros(2, np.int32))["y"].tolist() == [32 % 10, -32 % 10]

    @ts.kernel(grid=1, block=32, outputs="y")
    def signed(y: ts.Array[ts.i32, 2]):
        cuda.atomic.inc(y, 0, 9)

    with pytest.raises(CompileError, match="inc counts in unsigned integers") as caught:
        emulate(signed, np.zeros(2, np.int32))
    assert "y.view(np.uint32)" in str(caught.value.hint)


def test_atomics_that_swap_count_and_take_floats(x: Any) -> None:
    @ts.kernel(grid=1, block=32, outputs=("y", "n", "d"))
    def kernel(
        x: ts.Array[ts.f32, N], y: ts.Array[ts.f32, 4], n: ts.Array[ts.i32, 4], d: ts.Array[ts.f64, 1]
    ):
        i = cuda.threadIdx.x
        cuda.atomic.add(y, 0, x[i])
        cuda.atomic.max(y, 1, x[i])
        cuda.atomic.min(y, 2, x[i])
        cuda.atomic.nanmax(y, 3, x[i])
        cuda.atomic.add(d, 0, 1.0)
        cuda.atomic.cas(n, 0, 0, 7)
        cuda.atomic.exch(n, 1, 9)
        cuda.atomic.compare_and_swap(n[2:], 0, 5)

    found = emulate(kernel, x, np.array([0, 0, 99, 0], np.float32), np.zeros(4, np.int32), np.zeros(1))
    np.testing.assert_allclose(found["y"], [x.sum(), x.max(), x.min(), x.max()], rtol=1e-5)
    assert found["n"].tolist() == [7, 9, 5, 0]
    assert found["d"].tolist() == [32]


def test_warp_intrinsics(x: Any) -> None:
    @ts.kernel(grid=1, block=32, outputs=("y", "n"))
    def kernel(x: ts.Array[ts.f32, N], y: ts.Array[ts.f32, N], n: ts.Array[ts.i32, N]):
        i = cuda.threadIdx.x
        full = 0xFFFFFFFF
        v = x[i]
        v += cuda.shfl_xor_sync(full, v, 16)
        v += cuda.shfl_down_sync(full, v, 1)
        v += cuda.shfl_up_sync(full, v, 2)
        v += cuda.shfl_sync(full, v, 5)
        y[i] = v
        n[i] = cuda.ballot_sync(full, i % 3 == 0)
        n[i] += cuda.popc(cuda.activemask()) + cuda.lanemask_lt() + cuda.laneid
        n[i] += cuda.any_sync(full, i == 4) + 2 * cuda.all_sync(full, i < 32) + cuda.eq_sync(full, i < 99)
        n[i] += cuda.match_any_sync(full, i // 16) & 1
        cuda.syncwarp(full)

    v, i = x.astype(np.float64), np.arange(32)
    v = v + v[i ^ 16]
    v = v + v[np.where(i < 31, i + 1, i)]
    v = v + v[np.where(i > 1, i - 2, i)]
    v = v + v[5]
    found = emulate(kernel, x, ZEROS, np.zeros(N, np.int32))
    np.testing.assert_allclose(found["y"], v, rtol=1e-5)
    ballot = sum(1 << int(lane) for lane in i[::3])
    expected = ballot + 32 + ((1 << i) - 1) + i + 1 + 2 + 1 + (i < 16)
    np.testing.assert_array_equal(found["n"].view(np.uint32), expected.astype(np.uint32))


def test_mathematics_bits_and_libdevice(x: Any) -> None:
    @ts.kernel(grid=1, block=32, outputs=("y", "n"))
    def kernel(x: ts.Array[ts.f32, N], y: ts.Array[ts.f32, N, 8], n: ts.Array[ts.i32, N, 4]):
        i = cuda.threadIdx.x
        v = x[i]
        y[i, 0] = math.sqrt(v) + math.exp(v) + math.log(v)
        y[i, 1] = math.sin(v) * math.cos(v) + math.tan(v)
        y[i, 2] = math.atan2(v, float32(2)) + math.hypot(v, v)
        y[i, 3] = math.erf(v) + math.gamma(v) + math.floor(v) + math.ceil(v)
        y[i, 4] = libdevice.fast_expf(v) + libdevice.rsqrtf(v)
        y[i, 5] = cuda.fma(v, v, float32(1)) + cuda.cbrt(v)
        y[i, 6] = cuda.selp(v > 1, v, -v) + max(v, float32(1)) + min(v, float32(1)) + abs(-v)
        y[i, 7] = v**2 + v // float32(0.3) + round(v) + pow(v, float32(0.5))
        n[i, 0] = cuda.popc(uint32(i * 77)) + cuda.clz(uint32(i + 1)) + cuda.ffs(uint32(i + 8))
        n[i, 1] = cuda.brev(uint32(i)) >> 27
        n[i, 2] = int32(v * 100) % 7 + (i << 3 | 5) ^ 3
        n[i, 3] = (-i) // 4 + (-i) % 5 + int32(uint64(i) * uint64(3))

    v, i = x.astype(np.float64), np.arange(32)
    found = emulate(kernel, x, np.zeros((N, 8), np.float32), np.zeros((N, 4), np.int32))
    vector = np.vectorize
    expected = np.stack(
        [
            np.sqrt(v) + np.exp(v) + np.log(v), np.sin(v) * np.cos(v) + np.tan(v),
            np.arctan2(v, 2) + np.hypot(v, v),
            vector(math.erf)(v) + vector(math.gamma)(v) + np.floor(v) + np.ceil(v),
            np.exp(v) + 1 / np.sqrt(v), v * v + 1 + np.cbrt(v),
            np.where(v > 1, v, -v) + np.maximum(v, 1) + np.minimum(v, 1) + v,
            v**2 + x // np.float32(0.3) + np.round(v) + np.sqrt(v),
        ],
        axis=1,
    )  # fmt: skip
    np.testing.assert_allclose(found["y"], expected, rtol=2e-5)
    count = np.array([bin(k * 77).count("1") + 32 - (k + 1).bit_length() for k in range(32)])
    lowest = np.array([(((k + 8) & -(k + 8)).bit_length()) for k in range(32)])
    np.testing.assert_array_equal(found["n"][:, 0], count + lowest)
    np.testing.assert_array_equal(found["n"][:, 1], [int(f"{k:05b}"[::-1], 2) for k in range(32)])
    np.testing.assert_array_equal(
        found["n"][:, 2], (x * np.float32(100)).astype(np.int32) % 7 + (i << 3 | 5) ^ 3
    )
    np.testing.assert_array_equal(found["n"][:, 3], (-i) // 4 + (-i) % 5 + 3 * i)


def test_half_precision_arithmetic_and_comparison(x: Any) -> None:
    @ts.kernel(grid=1, block=32, outputs="y")
    def kernel(x: ts.Array[ts.f16, N], y: ts.Array[ts.f16, N]):
        i = cuda.threadIdx.x
        v = x[i] * x[i] - float16(0.5) / x[i]
        y[i] = v if v > float16(1) else -v
        y[i] += abs(x[i])

    h = x.astype(np.float16)
    v = h.astype(np.float64) ** 2 - 0.5 / h.astype(np.float64)
    expected = np.where(v.astype(np.float16) > 1, v, -v) + h
    np.testing.assert_allclose(
        emulate(kernel, h, ZEROS.astype(np.float16))["y"], expected, atol=8e-3, rtol=4e-3
    )


def test_barrier_of_a_whole_grid_is_refused_with_what_to_do() -> None:
    @ts.kernel(grid=2, block=16, outputs="y")
    def kernel(x: ts.Array[ts.f32, N], y: ts.Array[ts.f32, N]):
        i = cuda.grid(1)
        y[i] = x[i]
        cuda.cg.this_grid().sync()
        y[i] += x[31 - i]

    with pytest.raises(ToolchainError, match="waits for its whole grid") as caught:
        AOTCompiler(target_architectures=["sm_80"]).compile(kernel)
    assert "split the kernel in two" in str(caught.value.hint)


def test_function_of_a_class_is_named_in_full() -> None:
    add = cuda.atomic.add

    @ts.kernel(grid=1, block=32, outputs="y")
    def kernel(y: ts.Array[ts.i32, N]):
        add(y, 0, 1)

    with pytest.raises(CompileError, match="add is a class of Numba's") as caught:
        AOTCompiler(target_architectures=["sm_80"]).compile(kernel)
    assert "cuda.atomic.add" in str(caught.value.hint)


def test_loops_conditions_and_early_return(x: Any) -> None:
    @ts.kernel(grid=1, block=64, outputs="y")
    def kernel(steps: ts.i32, x: ts.Array[ts.f32, N], y: ts.Array[ts.f32, N]):
        for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
            total, k = float32(0), 0
            while True:
                k += 1
                if k % 2:
                    continue
                if k > steps or total > 100:
                    break
                total += x[i] if k & 2 else -x[(i + k) % N]
            else:
                total = float32(-1)
            y[i] = total
        if cuda.grid(1) >= 32:
            return
        y[cuda.grid(1)] += 1 <= cuda.threadIdx.x < 4 and not False

    steps = 7
    expected = np.ones(N) * 0.0
    for k in range(2, steps + 1, 2):
        expected += x if k & 2 else -np.roll(x, -k)
    expected[1:4] += 1
    np.testing.assert_allclose(
        emulate(kernel, np.int32(steps), x, ZEROS)["y"], expected, rtol=1e-5, atol=1e-5
    )
