"""Accesses outside of arrays: global, shared, local, dynamic shared memory."""

import numpy as np
from numba import cuda, float32, float64, int32

import tessera as ts
from tests.emulator.corpus.case import Case


def blocks(n):
    return ts.cdiv(n, 64)


@ts.kernel(grid=blocks, block=64)
def no_guard(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    y[i] = 2 * x[i]  # BUG


@ts.kernel(grid=blocks, block=64)
def guard(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = 2 * x[i]


@ts.kernel(grid=blocks, block=64)
def guard_one_too_far(x: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i <= x.size:
        x[i] = 1  # BUG


@ts.kernel(grid=blocks, block=64)
def guard_exact(x: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        x[i] = 1


@ts.kernel(grid=blocks, block=64)
def right_neighbour(x: ts.Array[ts.f64, "n"], y: ts.Array[ts.f64, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = (
            x[i] + x[i + 1]  # BUG
        )


@ts.kernel(grid=blocks, block=64)
def right_neighbour_inside(x: ts.Array[ts.f64, "n"], y: ts.Array[ts.f64, "n"]):
    i = cuda.grid(1)
    if i < x.size - 1:
        y[i] = x[i] + x[i + 1]


@ts.kernel(grid=lambda n, m: (ts.cdiv(m, 16), ts.cdiv(n, 16)), block=(16, 16))
def axes_mixed_up(a: ts.Array[ts.f32, "n", "m"], b: ts.Array[ts.f32, "n", "m"]):
    j, i = cuda.grid(2)
    if i < a.shape[1] and j < a.shape[1]:
        b[i, j] = a[i, j]  # BUG


@ts.kernel(grid=lambda n, m: (ts.cdiv(m, 16), ts.cdiv(n, 16)), block=(16, 16))
def axes_right(a: ts.Array[ts.f32, "n", "m"], b: ts.Array[ts.f32, "n", "m"]):
    j, i = cuda.grid(2)
    if i < a.shape[0] and j < a.shape[1]:
        b[i, j] = a[i, j]


@ts.kernel(grid=lambda n, m: (ts.cdiv(m, 16), ts.cdiv(n, 16)), block=(16, 16))
def transpose_untransposed(a: ts.Array[ts.f32, "n", "m"], b: ts.Array[ts.f32, "m", "n"]):
    j, i = cuda.grid(2)
    if i < a.shape[0] and j < a.shape[1]:
        b[i, j] = a[i, j]  # BUG


@ts.kernel(grid=lambda n, m: (ts.cdiv(m, 16), ts.cdiv(n, 16)), block=(16, 16))
def transpose(a: ts.Array[ts.f32, "n", "m"], b: ts.Array[ts.f32, "m", "n"]):
    j, i = cuda.grid(2)
    if i < a.shape[0] and j < a.shape[1]:
        b[j, i] = a[i, j]


@ts.kernel(grid=blocks, block=64)
def shifted_store(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i + 1] = x[i]  # BUG


@ts.kernel(grid=blocks, block=64)
def shifted_store_inside(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i + 1 < y.size:
        y[i + 1] = x[i]


@ts.kernel(grid=1, block=64)
def tile_too_small(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
    tile = cuda.shared.array(63, float32)
    t = cuda.threadIdx.x
    tile[t] = x[t]  # BUG
    cuda.syncthreads()
    y[t] = tile[62 - t % 63]


@ts.kernel(grid=1, block=64)
def tile_large_enough(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
    tile = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    tile[t] = x[t]
    cuda.syncthreads()
    y[t] = tile[62 - t % 63]


@ts.kernel(grid=1, block=64)
def halo_forgotten(x: ts.Array[ts.f32, 66], y: ts.Array[ts.f32, 64]):
    tile = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    tile[t] = x[t]
    cuda.syncthreads()
    y[t] = (
        tile[t] + tile[t + 2]  # BUG
    )


@ts.kernel(grid=1, block=64)
def halo(x: ts.Array[ts.f32, 66], y: ts.Array[ts.f32, 64]):
    tile = cuda.shared.array(66, float32)
    t = cuda.threadIdx.x
    tile[t] = x[t]
    if t < 2:
        tile[64 + t] = x[64 + t]
    cuda.syncthreads()
    y[t] = tile[t] + tile[t + 2]


@ts.kernel(grid=1, block=32)
def first_runs_into_second(x: ts.Array[ts.f32, 32], y: ts.Array[ts.f32, 32]):
    first = cuda.shared.array(16, float32)
    second = cuda.shared.array(32, float32)
    t = cuda.threadIdx.x
    first[t] = x[t]  # BUG
    second[t] = 2 * x[t]
    cuda.syncthreads()
    y[t] = first[t % 16] + second[31 - t]


@ts.kernel(grid=1, block=32)
def both_fit(x: ts.Array[ts.f32, 32], y: ts.Array[ts.f32, 32]):
    first = cuda.shared.array(16, float32)
    second = cuda.shared.array(32, float32)
    t = cuda.threadIdx.x
    if t < 16:
        first[t] = x[t]
    second[t] = 2 * x[t]
    cuda.syncthreads()
    y[t] = first[t % 16] + second[31 - t]


@ts.kernel(grid=1, block=32)
def local_too_small(k: ts.Array[ts.i32, 32], y: ts.Array[ts.f32, 32]):
    own = cuda.local.array(8, float32)
    t = cuda.threadIdx.x
    for i in range(8):
        own[i] = t * i
    y[t] = own[k[t]]  # BUG


@ts.kernel(grid=1, block=32)
def local_large_enough(k: ts.Array[ts.i32, 32], y: ts.Array[ts.f32, 32]):
    own = cuda.local.array(8, float32)
    t = cuda.threadIdx.x
    for i in range(8):
        own[i] = t * i
    y[t] = own[k[t] % 8]


@ts.kernel(grid=blocks, block=64)
def scatter(index: ts.Array[ts.i64, "n"], y: ts.Array[ts.f32, "m"]):
    i = cuda.grid(1)
    if i < index.size:
        y[index[i]] = 1  # BUG


@ts.kernel(grid=blocks, block=64)
def scatter_checked(index: ts.Array[ts.i64, "n"], y: ts.Array[ts.f32, "m"]):
    i = cuda.grid(1)
    if i < index.size and index[i] < y.size:
        cuda.atomic.max(y, index[i], 1)


@ts.kernel(grid=blocks, block=64)
def histogram_missing_bin(x: ts.Array[ts.i32, "n"], bins: ts.Array[ts.i32, 9]):
    i = cuda.grid(1)
    if i < x.size:
        cuda.atomic.add(bins, x[i], 1)  # BUG


@ts.kernel(grid=blocks, block=64)
def histogram_all_bins(x: ts.Array[ts.i32, "n"], bins: ts.Array[ts.i32, 10]):
    i = cuda.grid(1)
    if i < x.size:
        cuda.atomic.add(bins, x[i], 1)


@ts.kernel(grid=2, block=64)
def stride_loop_too_far(x: ts.Array[ts.f32, "n"]):
    for i in range(cuda.grid(1), x.size + 1, cuda.gridsize(1)):
        x[i] = i  # BUG


@ts.kernel(grid=2, block=64)
def stride_loop(x: ts.Array[ts.f32, "n"]):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        x[i] = i


@ts.kernel(grid=blocks, block=64)
def last_tile_unguarded(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    tile = cuda.shared.array(64, float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    tile[t] = x[i]  # BUG
    cuda.syncthreads()
    if i < y.size:
        y[i] = tile[63 - t]


@ts.kernel(grid=blocks, block=64)
def last_tile_guarded(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    tile = cuda.shared.array(64, float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    tile[t] = x[i] if i < x.size else 0
    cuda.syncthreads()
    if i < y.size:
        y[i] = tile[63 - t]


@ts.kernel(grid=1, block=64, shared_bytes=32 * 8)
def dynamic_too_small(x: ts.Array[ts.f64, 64], y: ts.Array[ts.f64, 64]):
    tile = cuda.shared.array(0, float64)
    t = cuda.threadIdx.x
    tile[t] = x[t]  # BUG
    cuda.syncthreads()
    y[t] = tile[31 - t % 32]


@ts.kernel(grid=1, block=64, shared_bytes=64 * 8)
def dynamic_large_enough(x: ts.Array[ts.f64, 64], y: ts.Array[ts.f64, 64]):
    tile = cuda.shared.array(0, float64)
    t = cuda.threadIdx.x
    tile[t] = x[t]
    cuda.syncthreads()
    y[t] = tile[31 - t % 32]


@ts.kernel(grid=blocks, block=64)
def bytes_past_the_end(x: ts.Array[ts.u8, "n"], y: ts.Array[ts.i32, "n"]):
    i = cuda.grid(1)
    if i < y.size:
        y[i] = x[i + 3]  # BUG


@ts.kernel(grid=blocks, block=64)
def bytes_inside(x: ts.Array[ts.u8, "n"], y: ts.Array[ts.i32, "n"]):
    i = cuda.grid(1)
    if i + 3 < y.size:
        y[i] = x[i + 3]


@ts.kernel(grid=1, block=32)
def matrix_row_too_far(a: ts.Array[ts.f32, 8, 4], y: ts.Array[ts.f32, 32]):
    t = cuda.threadIdx.x
    total = float32(0)
    for j in range(4):
        total += a[t // 3, j]  # BUG
    y[t] = total


@ts.kernel(grid=1, block=32)
def matrix_rows(a: ts.Array[ts.f32, 8, 4], y: ts.Array[ts.f32, 32]):
    t = cuda.threadIdx.x
    total = float32(0)
    for j in range(4):
        total += a[t // 4, j]
    y[t] = total


@ts.kernel(grid=1, block=32)
def shared_atomic_outside(x: ts.Array[ts.i32, 32], bins: ts.Array[ts.i32, 8]):
    counts = cuda.shared.array(8, int32)
    t = cuda.threadIdx.x
    if t < 8:
        counts[t] = 0
    cuda.syncthreads()
    cuda.atomic.add(counts, x[t], 1)  # BUG
    cuda.syncthreads()
    if t < 8:
        bins[t] = counts[t]


@ts.kernel(grid=1, block=32)
def shared_atomic_inside(x: ts.Array[ts.i32, 32], bins: ts.Array[ts.i32, 8]):
    counts = cuda.shared.array(8, int32)
    t = cuda.threadIdx.x
    if t < 8:
        counts[t] = 0
    cuda.syncthreads()
    cuda.atomic.add(counts, x[t] % 8, 1)
    cuda.syncthreads()
    if t < 8:
        bins[t] = counts[t]


@ts.kernel(grid=1, block=1)
def far_off(y: ts.Array[ts.f32, 100], x: ts.Array[ts.f32, 100], z: ts.Array[ts.f32, 100]):
    x[1_000_000] = y[0] + z[0]


N = {"n": 100}
TEN = np.arange(100, dtype=np.int32) % 10
CASES = [
    Case("out-of-bounds", no_guard, guard, N, index=(100,)),
    Case("out-of-bounds", guard_one_too_far, guard_exact, N, index=(100,)),
    Case("out-of-bounds", right_neighbour, right_neighbour_inside, N, index=(100,)),
    Case("out-of-bounds", axes_mixed_up, axes_right, {"n": 21, "m": 30}),
    Case("out-of-bounds", transpose_untransposed, transpose, {"n": 33, "m": 18}),
    Case("out-of-bounds", shifted_store, shifted_store_inside, N, index=(100,)),
    Case("out-of-bounds", tile_too_small, tile_large_enough, index=(63,)),
    Case("out-of-bounds", halo_forgotten, halo, index=(64,)),
    Case("out-of-bounds", first_runs_into_second, both_fit, index=(16,)),
    Case("out-of-bounds", local_too_small, local_large_enough, inputs={"k": np.arange(32, dtype=np.int32)}),
    Case("out-of-bounds", scatter, scatter_checked, {"n": 1, "m": 5}, {"index": np.array([7])}, (7,)),
    Case("out-of-bounds", histogram_missing_bin, histogram_all_bins, N, {"x": TEN}, (9,)),
    Case("out-of-bounds", stride_loop_too_far, stride_loop, {"n": 300}, index=(300,)),
    Case("out-of-bounds", last_tile_unguarded, last_tile_guarded, N, index=(100,)),
    Case("out-of-bounds", dynamic_too_small, dynamic_large_enough, index=(32,)),
    Case("out-of-bounds", bytes_past_the_end, bytes_inside, N, index=(100,)),
    Case("out-of-bounds", matrix_row_too_far, matrix_rows, index=(8, 0)),
    Case(
        "out-of-bounds", shared_atomic_outside, shared_atomic_inside, inputs={"x": TEN[:32]}, index=(8,)
    ),
]  # fmt: skip
