"""`ts.kernel` launched as Numba launches, on host arrays."""

from __future__ import annotations

import numpy as np
import pytest

import tessera as ts

cuda = pytest.importorskip("numba.cuda")


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def saxpy(a: ts.f32, x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.shape[0]:
        y[i] += a * x[i]


@ts.kernel(grid=1, block=64, shared_bytes=256)
def reverse(x: ts.Array[ts.i32, 64]):
    tile = cuda.shared.array(0, "int32")
    t = cuda.threadIdx.x
    tile[t] = x[t]
    cuda.syncthreads()
    x[t] = tile[63 - t]


def test_launch_writes_host_arrays_wherever_it_runs(rng) -> None:
    x, y = rng.random((2, 700), np.float32)
    expected = y + 2 * x
    saxpy[3, 256](2.0, x, y)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    # Fewer threads than elements: those that are there do their part.
    before = y.copy()
    saxpy[1, 32](1.0, x, y)
    np.testing.assert_allclose(y[:32], before[:32] + x[:32], rtol=1e-6)
    np.testing.assert_array_equal(y[32:], before[32:])


def test_launch_with_dynamic_shared_memory() -> None:
    x = np.arange(64, dtype=np.int32)
    reverse[1, 64, 0, 256](x)
    np.testing.assert_array_equal(x, np.arange(64)[::-1])
