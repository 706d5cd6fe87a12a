"""Accesses that nothing orders, in grids of several blocks: between blocks, and within one."""

import numpy as np
from numba import cuda, float32

import tessera as ts
from tests.emulator.corpus.case import Case


def blocks(n):
    return ts.cdiv(n, 64)


@ts.kernel(grid=blocks, block=64)
def counter_without_atomic(x: ts.Array[ts.f32, "n"], count: ts.Array[ts.i32, 1]):
    i = cuda.grid(1)
    if i < x.size and cuda.threadIdx.x == 0:
        count[0] += 1  # BUG


@ts.kernel(grid=blocks, block=64)
def counter_with_atomic(x: ts.Array[ts.f32, "n"], count: ts.Array[ts.i32, 1]):
    i = cuda.grid(1)
    if i < x.size and cuda.threadIdx.x == 0:
        cuda.atomic.add(count, 0, 1)


@ts.kernel(grid=blocks, block=64)
def neighbours_in_place(x: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i + 64 < x.size:
        x[i] = x[i] + x[i + 64]  # BUG


@ts.kernel(grid=blocks, block=64)
def neighbours_apart(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i + 64 < x.size:
        y[i] = x[i] + x[i + 64]


@ts.kernel(grid=blocks, block=64)
def two_write_one(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i // 2] = x[i]  # BUG


@ts.kernel(grid=blocks, block=64)
def one_writes_one(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if 2 * i < x.size:
        y[i] = x[2 * i]


@ts.kernel(grid=blocks, block=64)
def sums_of_neighbour_block(x: ts.Array[ts.f32, "n"], sums: ts.Array[ts.f32, "cdiv(n, 64)"]):
    b, i = cuda.blockIdx.x, cuda.grid(1)
    if cuda.threadIdx.x == 0:
        sums[b] = x[i]
        if b > 0:
            x[i] = sums[b - 1]  # BUG


@ts.kernel(grid=blocks, block=64)
def sums_of_own_block(x: ts.Array[ts.f32, "n"], sums: ts.Array[ts.f32, "cdiv(n, 64)"]):
    b, i = cuda.blockIdx.x, cuda.grid(1)
    if cuda.threadIdx.x == 0:
        sums[b] = x[i]
        if b > 0:
            x[i] = sums[b]


@ts.kernel(grid=4, block=32)
def last_block_without_fence(
    x: ts.Array[ts.f32, 128], part: ts.Array[ts.f32, 4], done: ts.Array[ts.i32, 1], y: ts.Array[ts.f32, 1]
):
    b, t = cuda.blockIdx.x, cuda.threadIdx.x
    if t == 0:
        part[b] = x[32 * b]
        if cuda.atomic.add(done, 0, 1) == 3:
            total = float32(0)
            for i in range(4):
                total += part[i]  # BUG
            y[0] = total


@ts.kernel(grid=4, block=32)
def last_block_with_fence(
    x: ts.Array[ts.f32, 128], part: ts.Array[ts.f32, 4], done: ts.Array[ts.i32, 1], y: ts.Array[ts.f32, 1]
):
    b, t = cuda.blockIdx.x, cuda.threadIdx.x
    if t == 0:
        part[b] = x[32 * b]
        cuda.threadfence()
        if cuda.atomic.add(done, 0, 1) == 3:
            total = float32(0)
            for i in range(4):
                total += part[i]
            y[0] = total


@ts.kernel(grid=2, block=64)
def bytes_of_two_blocks(x: ts.Array[ts.u8, 127]):
    i = cuda.blockIdx.x * 63 + cuda.threadIdx.x
    x[i] = 1  # BUG


@ts.kernel(grid=2, block=64)
def bytes_of_one_block(x: ts.Array[ts.u8, 127]):
    i = cuda.blockIdx.x * 63 + cuda.threadIdx.x
    if i < 63 or cuda.blockIdx.x > 0:
        x[i] = 1


@ts.kernel(grid=lambda n, m: (ts.cdiv(m, 8), ts.cdiv(n, 8)), block=(8, 8))
def column_sums_plain(a: ts.Array[ts.f32, "n", "m"], sums: ts.Array[ts.f32, "m"]):
    j, i = cuda.grid(2)
    if i < a.shape[0] and j < a.shape[1]:
        sums[j] += a[i, j]  # BUG


@ts.kernel(grid=lambda n, m: (ts.cdiv(m, 8), ts.cdiv(n, 8)), block=(8, 8))
def column_sums_atomic(a: ts.Array[ts.f32, "n", "m"], sums: ts.Array[ts.f32, "m"]):
    j, i = cuda.grid(2)
    if i < a.shape[0] and j < a.shape[1]:
        cuda.atomic.add(sums, j, a[i, j])


@ts.kernel(grid=blocks, block=64)
def halo_written_by_neighbour(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = x[i]  # BUG
        if cuda.threadIdx.x == 63 and i + 1 < x.size:
            y[i + 1] = 0  # BUG


@ts.kernel(grid=blocks, block=64)
def halo_written_by_owner(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = 0 if cuda.threadIdx.x == 0 and i > 0 else x[i]


@ts.kernel(grid=8, block=32)
def look_back_without_fence(
    x: ts.Array[ts.f32, 256], sums: ts.Array[ts.f32, 8], ready: ts.Array[ts.i32, 8], y: ts.Array[ts.f32, 8]
):
    b = cuda.blockIdx.x
    if cuda.threadIdx.x == 0:
        total = float32(0)
        for j in range(32):
            total += x[b * 32 + j]
        if b > 0:
            while cuda.atomic.add(ready, b - 1, 0) == 0:
                pass
            cuda.threadfence()
            total += sums[b - 1]  # BUG
        sums[b] = total
        cuda.atomic.exch(ready, b, 1)
        y[b] = total


@ts.kernel(grid=8, block=32)
def look_back_with_fence(
    x: ts.Array[ts.f32, 256], sums: ts.Array[ts.f32, 8], ready: ts.Array[ts.i32, 8], y: ts.Array[ts.f32, 8]
):
    b = cuda.blockIdx.x
    if cuda.threadIdx.x == 0:
        total = float32(0)
        for j in range(32):
            total += x[b * 32 + j]
        if b > 0:
            while cuda.atomic.add(ready, b - 1, 0) == 0:
                pass
            cuda.threadfence()
            total += sums[b - 1]
        sums[b] = total
        cuda.threadfence()
        cuda.atomic.exch(ready, b, 1)
        y[b] = total


N = {"n": 200}
ZERO = np.zeros(1, np.int32)
CASES = [
    Case("race-between-blocks", counter_without_atomic, counter_with_atomic, N, index=(0,)),
    Case("race-between-blocks", neighbours_in_place, neighbours_apart, N),
    Case("race", two_write_one, one_writes_one, N),
    Case("race-between-blocks", sums_of_neighbour_block, sums_of_own_block, N),
    Case("race-between-blocks", last_block_without_fence, last_block_with_fence, inputs={"done": ZERO}),
    Case("race-between-blocks", bytes_of_two_blocks, bytes_of_one_block, index=(63,)),
    Case("race", column_sums_plain, column_sums_atomic, {"n": 20, "m": 12}),
    Case("race-between-blocks", halo_written_by_neighbour, halo_written_by_owner, N, index=(64,)),
    Case(
        "race-between-blocks",
        look_back_without_fence,
        look_back_with_fence,
        inputs={"ready": np.zeros(8, np.int32)},
        index=(0,),
    ),
]
