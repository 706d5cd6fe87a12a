"""Kernels that several tests compile."""

import math

import numpy as np
from numba import cuda, float32

import tessera as ts

TABLE = np.array([1.0, 2.0, 5.0], np.float32)


@cuda.jit(device=True)
def half(v):
    return v * 0.5


@cuda.jit(device=True)
def quarter(v):
    return half(half(v))


def scale_c(x, y, n, a):
    """The C ABI: pointers and numbers."""
    i = cuda.grid(1)
    if i < n:
        y[i] = math.tanh(x[i]) * a + y[i]


def scale_cpu(x, y, n, a, begin, end):
    for i in range(begin, end):
        y[i] = math.tanh(x[i]) * a + y[i]


def reverse(x, y):
    """Static shared memory and a barrier."""
    tile = cuda.shared.array(256, float32)
    i = cuda.grid(1)
    tile[cuda.threadIdx.x] = x[i]
    cuda.syncthreads()
    y[i] = tile[255 - cuda.threadIdx.x]


def with_helpers(x, y):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = quarter(x[i]) + TABLE[i % 3]


def widen(x, y):
    """Conversions that numba-cuda takes from CUDA C++, both ways."""
    i = cuda.grid(1)
    if i < x.size:
        y[i] = float32(x[i]) * float32(3)


def add_reduced(x, y):
    """Arithmetic that numba-cuda takes from CUDA C++ for 16-bit floats."""
    i = cuda.grid(1)
    if i < x.size:
        y[i] = x[i] * x[i] + x[i]


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def saxpy(a: ts.f32, x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = a * x[i] + y[i]


@ts.kernel(grid=lambda m, n: (ts.cdiv(n, 16), ts.cdiv(m, 8)), block=(16, 8))
def transposed(x: ts.Array[ts.f32, "m", "n"], y: ts.Array[ts.f32, "n", "m"]):
    """Two axes, early returns inside a loop, a device function, a docstring."""
    j, i = cuda.grid(2)
    if i >= x.shape[0] or j >= x.shape[1]:
        return
    for k in range(3):
        if k == 2:
            y[j, i] = quarter(x[i, j]) + math.sqrt(abs(x[i, j]))
            return


@ts.kernel(grid=4, block=64)
def strided(x: ts.Array[ts.i32, "n"], y: ts.Array[ts.i32, "n"]):
    """A grid-stride loop: fewer threads than elements."""
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = x[i] * 2 + cuda.blockDim.x + cuda.gridDim.x * 1000


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def with_barrier(x: ts.Array[ts.f32, "n"]):
    cuda.syncthreads()
    x[0] = 1.0


@ts.kernel(grid=1, block=32)
def with_atomic(x: ts.Array[ts.f32, "n"]):
    cuda.atomic.add(x, 0, 1.0)
