"""Accesses that nothing orders, in a grid of one block: within the block and within a warp."""

import numpy as np
from numba import cuda, float32, int32

import tessera as ts
from tests.emulator.corpus.case import Case


@ts.kernel(grid=1, block=64)
def no_barrier(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
    tile = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    tile[t] = x[t]
    y[t] = tile[63 - t]  # BUG


@ts.kernel(grid=1, block=64)
def barrier(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
    tile = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    tile[t] = x[t]
    cuda.syncthreads()
    y[t] = tile[63 - t]


@ts.kernel(grid=1, block=64)
def tile_reused_at_once(x: ts.Array[ts.f32, 4, 64], y: ts.Array[ts.f32, 64]):
    tile = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    total = float32(0)
    for k in range(4):
        tile[t] = x[k, t]  # BUG
        cuda.syncthreads()
        total += tile[63 - t]
    y[t] = total


@ts.kernel(grid=1, block=64)
def tile_reused_after_barrier(x: ts.Array[ts.f32, 4, 64], y: ts.Array[ts.f32, 64]):
    tile = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    total = float32(0)
    for k in range(4):
        tile[t] = x[k, t]
        cuda.syncthreads()
        total += tile[63 - t]
        cuda.syncthreads()
    y[t] = total


@ts.kernel(grid=1, block=128)
def tree_without_barriers(x: ts.Array[ts.f32, 128], y: ts.Array[ts.f32, 1]):
    part = cuda.shared.array(128, float32)
    t = cuda.threadIdx.x
    part[t] = x[t]
    cuda.syncthreads()
    width = 64
    while width > 0:
        if t < width:
            part[t] += part[t + width]  # BUG
        width //= 2
    if t == 0:
        y[0] = part[0]


@ts.kernel(grid=1, block=128)
def tree_with_barriers(x: ts.Array[ts.f32, 128], y: ts.Array[ts.f32, 1]):
    part = cuda.shared.array(128, float32)
    t = cuda.threadIdx.x
    part[t] = x[t]
    cuda.syncthreads()
    width = 64
    while width > 0:
        if t < width:
            part[t] += part[t + width]
        cuda.syncthreads()
        width //= 2
    if t == 0:
        y[0] = part[0]


@ts.kernel(grid=1, block=64)
def counts_without_atomics(x: ts.Array[ts.i32, 64], bins: ts.Array[ts.i32, 10]):
    counts = cuda.shared.array(10, int32)
    t = cuda.threadIdx.x
    if t < 10:
        counts[t] = 0
    cuda.syncthreads()
    counts[x[t]] += 1  # BUG
    cuda.syncthreads()
    if t < 10:
        bins[t] = counts[t]


@ts.kernel(grid=1, block=64)
def counts_with_atomics(x: ts.Array[ts.i32, 64], bins: ts.Array[ts.i32, 10]):
    counts = cuda.shared.array(10, int32)
    t = cuda.threadIdx.x
    if t < 10:
        counts[t] = 0
    cuda.syncthreads()
    cuda.atomic.add(counts, x[t], 1)
    cuda.syncthreads()
    if t < 10:
        bins[t] = counts[t]


@ts.kernel(grid=1, block=32)
def warp_without_syncwarp(x: ts.Array[ts.f32, 32], y: ts.Array[ts.f32, 32]):
    tile = cuda.shared.array(32, float32)
    t = cuda.threadIdx.x
    tile[t] = x[t]
    y[t] = tile[t ^ 1]  # BUG


@ts.kernel(grid=1, block=32)
def warp_with_syncwarp(x: ts.Array[ts.f32, 32], y: ts.Array[ts.f32, 32]):
    tile = cuda.shared.array(32, float32)
    t = cuda.threadIdx.x
    tile[t] = x[t]
    cuda.syncwarp()
    y[t] = tile[t ^ 1]


@ts.kernel(grid=1, block=64)
def syncwarp_between_warps(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
    tile = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    tile[t] = x[t]
    cuda.syncwarp()
    y[t] = tile[t ^ 32]  # BUG


@ts.kernel(grid=1, block=64)
def shuffle_within_warps(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
    tile = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    tile[t] = x[t]
    own = cuda.shfl_xor_sync(0xFFFFFFFF, x[t], 1)
    y[t] = tile[t ^ 1] + own


@ts.kernel(grid=1, block=64)
def total_read_too_early(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
    total = cuda.shared.array(1, float32)
    t = cuda.threadIdx.x
    if t == 0:
        total[0] = x[0]
    cuda.syncthreads()
    scale = total[0]
    if t == 63:
        total[0] = x[63]  # BUG
    cuda.syncthreads()
    y[t] = scale * total[0]


@ts.kernel(grid=1, block=64)
def total_read_in_order(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
    total = cuda.shared.array(1, float32)
    t = cuda.threadIdx.x
    if t == 0:
        total[0] = x[0]
    cuda.syncthreads()
    scale = total[0]
    cuda.syncthreads()
    if t == 63:
        total[0] = x[63]
    cuda.syncthreads()
    y[t] = scale * total[0]


@ts.kernel(grid=1, block=64)
def scan_in_place(x: ts.Array[ts.i32, 64]):
    part = cuda.shared.array(64, int32)
    t = cuda.threadIdx.x
    part[t] = x[t]
    cuda.syncthreads()
    step = 1
    while step < 64:
        if t >= step:
            part[t] += part[t - step]  # BUG
        cuda.syncthreads()
        step *= 2
    x[t] = part[t]


@ts.kernel(grid=1, block=64)
def scan_two_barriers(x: ts.Array[ts.i32, 64]):
    part = cuda.shared.array(64, int32)
    t = cuda.threadIdx.x
    part[t] = x[t]
    cuda.syncthreads()
    step = 1
    while step < 64:
        left = part[t - step] if t >= step else 0
        cuda.syncthreads()
        part[t] += left
        cuda.syncthreads()
        step *= 2
    x[t] = part[t]


@ts.kernel(grid=1, block=(8, 8))
def transpose_without_barrier(x: ts.Array[ts.f32, 8, 8], y: ts.Array[ts.f32, 8, 8]):
    tile = cuda.shared.array((8, 8), float32)
    i, j = cuda.threadIdx.y, cuda.threadIdx.x
    tile[i, j] = x[i, j]
    y[i, j] = tile[j, i]  # BUG


@ts.kernel(grid=1, block=(8, 8))
def transpose_with_barrier(x: ts.Array[ts.f32, 8, 8], y: ts.Array[ts.f32, 8, 8]):
    tile = cuda.shared.array((8, 8), float32)
    i, j = cuda.threadIdx.y, cuda.threadIdx.x
    tile[i, j] = x[i, j]
    cuda.syncthreads()
    y[i, j] = tile[j, i]


@ts.kernel(grid=1, block=64)
def atomic_then_read(x: ts.Array[ts.i32, 64], y: ts.Array[ts.i32, 64]):
    best = cuda.shared.array(1, int32)
    t = cuda.threadIdx.x
    if t == 0:
        best[0] = 0
    cuda.syncthreads()
    cuda.atomic.max(best, 0, x[t])
    y[t] = best[0]  # BUG


@ts.kernel(grid=1, block=64)
def atomic_barrier_read(x: ts.Array[ts.i32, 64], y: ts.Array[ts.i32, 64]):
    best = cuda.shared.array(1, int32)
    t = cuda.threadIdx.x
    if t == 0:
        best[0] = 0
    cuda.syncthreads()
    cuda.atomic.max(best, 0, x[t])
    cuda.syncthreads()
    y[t] = best[0]


@ts.kernel(grid=1, block=32)
def lock_without_fence(count: ts.Array[ts.i32, 1], lock: ts.Array[ts.i32, 1]):
    while cuda.atomic.cas(lock, 0, 0, 1) != 0:
        pass
    count[0] += 1  # BUG
    cuda.atomic.exch(lock, 0, 0)


@ts.kernel(grid=1, block=32)
def lock_with_fences(count: ts.Array[ts.i32, 1], lock: ts.Array[ts.i32, 1]):
    while cuda.atomic.cas(lock, 0, 0, 1) != 0:
        pass
    cuda.threadfence()
    count[0] += 1
    cuda.threadfence()
    cuda.atomic.exch(lock, 0, 0)


@ts.kernel(grid=1, block=64)
def max_without_swap(x: ts.Array[ts.i32, 64], best: ts.Array[ts.i32, 1]):
    value = x[cuda.threadIdx.x]
    if value > best[0]:
        best[0] = value  # BUG


@ts.kernel(grid=1, block=64)
def max_by_compare_and_swap(x: ts.Array[ts.i32, 64], best: ts.Array[ts.i32, 1]):
    value = x[cuda.threadIdx.x]
    old = best[0]
    while value > old:
        seen = cuda.atomic.cas(best, 0, old, value)
        if seen == old:
            break
        old = seen


@ts.kernel(grid=1, block=64)
def pipeline_one_buffer(x: ts.Array[ts.f32, 4, 64], y: ts.Array[ts.f32, 64]):
    tile = cuda.shared.array((1, 64), float32)
    t = cuda.threadIdx.x
    total = float32(0)
    for k in range(4):
        tile[0, t] = x[k, t]  # BUG
        cuda.syncthreads()
        total += tile[0, 63 - t]
    y[t] = total


@ts.kernel(grid=1, block=64)
def pipeline_two_buffers(x: ts.Array[ts.f32, 4, 64], y: ts.Array[ts.f32, 64]):
    tile = cuda.shared.array((2, 64), float32)
    t = cuda.threadIdx.x
    total = float32(0)
    for k in range(4):
        tile[k % 2, t] = x[k, t]
        cuda.syncthreads()
        total += tile[k % 2, 63 - t]
    y[t] = total


@ts.kernel(grid=1, block=64)
def warp_sums_read_too_early(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 1]):
    sums = cuda.shared.array(2, float32)
    t = cuda.threadIdx.x
    value = x[t]
    for step in (16, 8, 4, 2, 1):
        value += cuda.shfl_down_sync(0xFFFFFFFF, value, step)
    if t % 32 == 0:
        sums[t // 32] = value
    if t == 0:
        y[0] = sums[0] + sums[1]  # BUG


@ts.kernel(grid=1, block=64)
def warp_sums_behind_barrier(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 1]):
    sums = cuda.shared.array(2, float32)
    t = cuda.threadIdx.x
    value = x[t]
    for step in (16, 8, 4, 2, 1):
        value += cuda.shfl_down_sync(0xFFFFFFFF, value, step)
    if t % 32 == 0:
        sums[t // 32] = value
    cuda.syncthreads()
    if t == 0:
        y[0] = sums[0] + sums[1]


@ts.kernel(grid=1, block=64)
def warp_tree_without_syncwarp(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 2]):
    part = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    lane = t % 32
    part[t] = x[t]
    cuda.syncwarp()
    width = 16
    while width > 0:
        if lane < width:
            part[t] += part[t + width]  # BUG
        width //= 2
    if lane == 0:
        y[t // 32] = part[t]


@ts.kernel(grid=1, block=64)
def warp_tree_with_syncwarp(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 2]):
    part = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    lane = t % 32
    part[t] = x[t]
    cuda.syncwarp()
    width = 16
    while width > 0:
        if lane < width:
            part[t] += part[t + width]
        cuda.syncwarp()
        width //= 2
    if lane == 0:
        y[t // 32] = part[t]


ZERO = np.zeros(1, np.int32)
LOCK = {"lock": ZERO, "count": ZERO}
CASES = [
    Case("race", no_barrier, barrier),
    Case("race", tile_reused_at_once, tile_reused_after_barrier),
    Case("race", tree_without_barriers, tree_with_barriers),
    Case("race", counts_without_atomics, counts_with_atomics),
    Case("race", warp_without_syncwarp, warp_with_syncwarp),
    Case("race", syncwarp_between_warps, shuffle_within_warps),
    Case("race", total_read_too_early, total_read_in_order, index=(0,)),
    Case("race", scan_in_place, scan_two_barriers),
    Case("race", transpose_without_barrier, transpose_with_barrier),
    Case("race", atomic_then_read, atomic_barrier_read, index=(0,)),
    Case("race", max_without_swap, max_by_compare_and_swap, index=(0,)),
    Case("race", pipeline_one_buffer, pipeline_two_buffers),
    Case("race", warp_sums_read_too_early, warp_sums_behind_barrier, index=(1,)),
    Case("race", lock_without_fence, lock_with_fences, inputs=LOCK, index=(0,)),
    Case("race", warp_tree_without_syncwarp, warp_tree_with_syncwarp),
]
