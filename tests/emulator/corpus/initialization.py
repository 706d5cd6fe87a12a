"""Reads of shared memory that nothing has written."""

from numba import cuda, float32, int32

import tessera as ts
from tests.emulator.corpus.case import Case


@ts.kernel(grid=1, block=64)
def half_written(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
    tile = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    if t < 32:
        tile[t] = x[t]
    cuda.syncthreads()
    y[t] = tile[63 - t]  # BUG


@ts.kernel(grid=1, block=64)
def fully_written(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
    tile = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    tile[t] = x[t]
    cuda.syncthreads()
    y[t] = tile[63 - t]


@ts.kernel(grid=1, block=64)
def counts_not_zeroed(x: ts.Array[ts.i32, 64], bins: ts.Array[ts.i32, 10]):
    counts = cuda.shared.array(10, int32)
    t = cuda.threadIdx.x
    cuda.atomic.add(counts, x[t], 1)  # BUG
    cuda.syncthreads()
    if t < 10:
        bins[t] = counts[t]


@ts.kernel(grid=1, block=64)
def counts_zeroed(x: ts.Array[ts.i32, 64], bins: ts.Array[ts.i32, 10]):
    counts = cuda.shared.array(10, int32)
    t = cuda.threadIdx.x
    if t < 10:
        counts[t] = 0
    cuda.syncthreads()
    cuda.atomic.add(counts, x[t], 1)
    cuda.syncthreads()
    if t < 10:
        bins[t] = counts[t]


@ts.kernel(grid=1, block=64)
def halo_not_loaded(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
    tile = cuda.shared.array(66, float32)
    t = cuda.threadIdx.x
    tile[t + 1] = x[t]
    cuda.syncthreads()
    y[t] = tile[t] + tile[t + 2]  # BUG


@ts.kernel(grid=1, block=64)
def halo_loaded(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
    tile = cuda.shared.array(66, float32)
    t = cuda.threadIdx.x
    tile[t + 1] = x[t]
    if t == 0:
        tile[0] = 0
        tile[65] = 0
    cuda.syncthreads()
    y[t] = tile[t] + tile[t + 2]


@ts.kernel(grid=lambda n: ts.cdiv(n, 64), block=64)
def rest_of_last_block(x: ts.Array[ts.f32, "n"], sums: ts.Array[ts.f32, "cdiv(n, 64)"]):
    part = cuda.shared.array(64, float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    if i < x.size:
        part[t] = x[i]
    cuda.syncthreads()
    width = 32
    while width > 0:
        if t < width:
            part[t] += part[t + width]  # BUG
        cuda.syncthreads()
        width //= 2
    if t == 0:
        sums[cuda.blockIdx.x] = part[0]


@ts.kernel(grid=lambda n: ts.cdiv(n, 64), block=64)
def zeros_in_last_block(x: ts.Array[ts.f32, "n"], sums: ts.Array[ts.f32, "cdiv(n, 64)"]):
    part = cuda.shared.array(64, float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    part[t] = x[i] if i < x.size else 0
    cuda.syncthreads()
    width = 32
    while width > 0:
        if t < width:
            part[t] += part[t + width]
        cuda.syncthreads()
        width //= 2
    if t == 0:
        sums[cuda.blockIdx.x] = part[0]


@ts.kernel(grid=1, block=32, shared_bytes=256)
def second_half_of_dynamic(x: ts.Array[ts.f32, 32], y: ts.Array[ts.f32, 32]):
    tile = cuda.shared.array(0, float32)
    t = cuda.threadIdx.x
    tile[t] = x[t]
    cuda.syncthreads()
    y[t] = tile[t + 32]  # BUG


@ts.kernel(grid=1, block=32, shared_bytes=256)
def first_half_of_dynamic(x: ts.Array[ts.f32, 32], y: ts.Array[ts.f32, 32]):
    tile = cuda.shared.array(0, float32)
    t = cuda.threadIdx.x
    tile[t] = x[t]
    cuda.syncthreads()
    y[t] = tile[31 - t]


@ts.kernel(grid=1, block=(8, 8))
def diagonal_left_out(x: ts.Array[ts.f32, 8, 8], y: ts.Array[ts.f32, 8, 8]):
    tile = cuda.shared.array((8, 8), float32)
    i, j = cuda.threadIdx.y, cuda.threadIdx.x
    if i != j:
        tile[i, j] = x[i, j]
    cuda.syncthreads()
    y[i, j] = tile[j, i]  # BUG


@ts.kernel(grid=1, block=(8, 8))
def diagonal_too(x: ts.Array[ts.f32, 8, 8], y: ts.Array[ts.f32, 8, 8]):
    tile = cuda.shared.array((8, 8), float32)
    i, j = cuda.threadIdx.y, cuda.threadIdx.x
    tile[i, j] = x[i, j]
    cuda.syncthreads()
    y[i, j] = tile[j, i]


@ts.kernel(grid=1, block=64)
def maximum_never_set(x: ts.Array[ts.i32, 64], y: ts.Array[ts.i32, 1]):
    best = cuda.shared.array(1, int32)
    t = cuda.threadIdx.x
    if x[t] > 100:
        cuda.atomic.exch(best, 0, x[t])
    cuda.syncthreads()
    if t == 0:
        y[0] = best[0]  # BUG


@ts.kernel(grid=1, block=64)
def maximum_set(x: ts.Array[ts.i32, 64], y: ts.Array[ts.i32, 1]):
    best = cuda.shared.array(1, int32)
    t = cuda.threadIdx.x
    if t == 0:
        best[0] = -1
    cuda.syncthreads()
    if x[t] > 100:
        cuda.atomic.exch(best, 0, x[t])
    cuda.syncthreads()
    if t == 0:
        y[0] = best[0]


CASES = [
    Case("uninitialized", maximum_never_set, maximum_set, index=(0,)),
    Case("uninitialized", half_written, fully_written, index=(63,)),
    Case("uninitialized", counts_not_zeroed, counts_zeroed),
    Case("uninitialized", halo_not_loaded, halo_loaded),
    Case("uninitialized", rest_of_last_block, zeros_in_last_block, {"n": 100}),
    Case("uninitialized", second_half_of_dynamic, first_half_of_dynamic, index=(32,)),
    Case("uninitialized", diagonal_left_out, diagonal_too, index=(0, 0)),
]
