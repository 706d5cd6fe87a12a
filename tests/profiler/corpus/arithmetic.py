"""Arithmetic, and arrays of a thread's own."""

import math

import numpy as np
from numba import cuda, float32, int32

import tessera as ts

SIZES = {
    "halved": {"n": 65536}, "halved_good": {"n": 65536}, "waves": {"n": 65536}, "waves_good": {"n": 65536},
    "pick": {"n": 65536}, "pick_good": {"n": 65536}, "wrapped": {"n": 65536, "d": 7},
    "wrapped_good": {"n": 65536, "d": 7}, "scaled": {"n": 65536}, "scaled_good": {"n": 65536},
    "half_product": {"n": 256}, "half_product_good": {"n": 65536}, "staged": {"n": 65536, "m": 16},
    "staged_good": {"n": 65536, "m": 16}, "many_values": {"n": 65536}, "many_values_good": {"n": 65536},
}  # fmt: skip


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def halved(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = 0.5 * x[i] + 0.25  # fault: float64


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def halved_good(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = float32(0.5) * x[i] + float32(0.25)


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def waves(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = math.exp(x[i] * 0.5)  # fault: float64-function


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def waves_good(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = math.exp(x[i] * float32(0.5))


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def pick(x: ts.Array[ts.f32, "n"], k: ts.Array[ts.i32, "n"], y: ts.Array[ts.f32, "n"]):  # fault: local-memory
    own = cuda.local.array(8, float32)
    i = cuda.grid(1)
    if i < x.size:
        for j in range(8):
            own[j] = x[i] * float32(j)  # fault: local-memory
        y[i] = own[k[i] & 7]  # fault: local-memory


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def pick_good(x: ts.Array[ts.f32, "n"], k: ts.Array[ts.i32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = x[i] * float32(k[i] & 7)


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def wrapped(x: ts.Array[ts.i32, "n"], y: ts.Array[ts.i32, "n"], d: ts.i32):
    i = cuda.grid(1)
    if i < x.size:
        value = x[i]
        for k in range(32):
            value += (value + k) % d  # fault: integer-division
        y[i] = value


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def wrapped_good(x: ts.Array[ts.i32, "n"], y: ts.Array[ts.i32, "n"], d: ts.i32):
    i = cuda.grid(1)
    if i < x.size:
        value = int32(x[i])
        rest = value % d
        for _ in range(32):
            rest += int32(1)
            if rest == d:
                rest = int32(0)
            value += rest
        y[i] = value


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def scaled(x: ts.Array[ts.f32, 16, "n"], w: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < y.size:
        divisor, total = w[i], float32(0)
        for k in range(16):
            total += x[k, i] / divisor  # fault: float-division
        y[i] = total


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def scaled_good(x: ts.Array[ts.f32, 16, "n"], w: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < y.size:
        factor, total = float32(1) / w[i], float32(0)
        for k in range(16):
            total += x[k, i] * factor
        y[i] = total


@ts.kernel(grid=lambda n: (ts.cdiv(n, 16), ts.cdiv(n, 16)), block=(16, 16))
def half_product(a: ts.Array[ts.f16, "n", "n"], b: ts.Array[ts.f16, "n", "n"], c: ts.Array[ts.f32, "n", "n"]):
    left = cuda.shared.array((16, 16), np.float16)
    right = cuda.shared.array((16, 16), np.float16)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    j, i = cuda.grid(2)
    total = float32(0)
    for start in range(0, a.shape[1], 16):
        left[ty, tx], right[ty, tx] = a[i, start + tx], b[start + ty, j]
        cuda.syncthreads()
        for k in range(16):
            total += float32(left[ty, k]) * float32(right[k, tx])  # fault: tensor-cores
        cuda.syncthreads()
    c[i, j] = total


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def half_product_good(a: ts.Array[ts.f16, "n"], b: ts.Array[ts.f16, "n"], c: ts.Array[ts.f32, "n"]):
    # A polynomial of its own for each element: no product of matrices, and nothing for tensor cores.
    i = cuda.grid(1)
    if i < a.size:
        x, w, total = float32(a[i]), float32(b[i]), float32(0)
        for _ in range(16):
            total = total * x + w
        c[i] = total


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def staged(x: ts.Array[ts.f32, "m", "n"], y: ts.Array[ts.f32, "n"]):
    tile = cuda.shared.array(256, float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    total = float32(0)
    for k in range(x.shape[0]):
        tile[t] = x[k, i]  # fault: copies-through-registers
        cuda.syncthreads()
        for j in range(16):
            total += tile[(t + j) & 255] * float32(j)
        cuda.syncthreads()
    y[i] = total


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def staged_good(x: ts.Array[ts.f32, "m", "n"], y: ts.Array[ts.f32, "n"]):
    tile = cuda.shared.array(256, float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    total = float32(0)
    ahead = x[0, i]
    for k in range(x.shape[0]):
        tile[t] = ahead
        cuda.syncthreads()
        if k + 1 < x.shape[0]:
            ahead = x[k + 1, i]
        for j in range(16):
            total += tile[(t + j) & 255] * float32(j)
        cuda.syncthreads()
    y[i] = total


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256, max_registers=24)
def many_values(x: ts.Array[ts.f32, 64, "n"], y: ts.Array[ts.f32, 64, "n"]):  # fault: spills
    own = cuda.local.array(48, float32)
    i = cuda.grid(1)
    for k in range(48):
        own[k] = x[k, i]
    for k in range(48):
        y[k, i] = own[47 - k] * own[k]


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def many_values_good(x: ts.Array[ts.f32, 64, "n"], y: ts.Array[ts.f32, 64, "n"]):
    i = cuda.grid(1)
    for k in range(48):
        y[k, i] = x[47 - k, i] * x[k, i]
