"""Kernels that the debugger's tests step through. Line numbers count: append, do not insert."""

SOURCE = """\
from numba import cuda, float32, int32

import tessera as ts

SCALE = 3


@cuda.jit(device=True)
def mean(a, b):
    total = a + b
    return total * float32(0.5)


@ts.kernel(grid=lambda n: ts.cdiv(n, 64), block=64)
def smooth(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    tile = cuda.shared.array((4, 16), float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    tile[t // 16, t % 16] = x[i] if i < x.size else 0.0
    cuda.syncthreads()
    sums = cuda.local.array(3, float32)
    total = float32(0)
    for k in range(3):
        sums[k] = tile[(t + k) // 16 % 4, (t + k) % 16]
        total += sums[k]
    if i < y.size:
        if t % 2 == 0:
            y[i] = mean(total, x[i])
        else:
            y[i] = total * SCALE


@ts.kernel(grid=2, block=64)
def stuck(x: ts.Array[ts.i32, 128]):
    t = cuda.threadIdx.x
    if t < 32:
        cuda.syncthreads()
    else:
        return
    x[cuda.grid(1)] = int32(t)


@ts.kernel(grid=1, block=32)
def endless(x: ts.Array[ts.i32, 32]):
    count = 0
    while x[0] >= 0:
        count += 1
        x[0] = count & 7


@ts.kernel(grid=lambda n: ts.cdiv(n, 64), block=64)
def unguarded(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    shift = i + 1
    y[i] = x[i] * 2


@ts.jit
def scores(x: ts.Tensor[ts.f32, 4, 20], w: ts.Tensor[ts.f32, 20, 30]):
    return ts.softmax(ts.matmul(x, w), axis=-1)


@ts.kernel(grid=1, block=32)
def shapes(x: ts.Array[ts.i32, 32], y: ts.Array[ts.f64, 32]):
    t = cuda.threadIdx.x
    value = x[t]
    pair = (t, value)
    flag = t > 3
    value = 1.5
    row = x[4:8]
    y[t] = value + pair[1] + flag + row[0]
    last = 7


@ts.kernel(grid=1, block=32)
def quotient(x: ts.Array[ts.i32, 32], y: ts.Array[ts.i32, 32]):
    t = cuda.threadIdx.x
    y[t] = x[t] // (t - 3)
"""
