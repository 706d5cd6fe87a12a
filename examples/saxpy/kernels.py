"""The smallest project: one kernel and one tensor function."""

from numba import cuda

import tessera as ts


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def saxpy(a: ts.f32, x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = a * x[i] + y[i]


@ts.jit
def linear_relu(x: ts.Tensor[ts.f32, "batch", 64], W: ts.Tensor[ts.f32, 64, 32]) -> ts.Tensor:
    return ts.relu(ts.matmul(x, W))
