"""Barriers that some threads miss, masks that do not fit, waits without end."""

import numpy as np
from numba import cuda, float32

import tessera as ts
from tests.emulator.corpus.case import Case


@ts.kernel(grid=1, block=64)
def barrier_in_branch(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
    tile = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    if t < 48:
        tile[t] = x[t]
        cuda.syncthreads()  # BUG
        y[t] = tile[47 - t]


@ts.kernel(grid=1, block=64)
def barrier_behind_branch(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
    tile = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    if t < 48:
        tile[t] = x[t]
    cuda.syncthreads()
    if t < 48:
        y[t] = tile[47 - t]


@ts.kernel(grid=lambda n: ts.cdiv(n, 64), block=64)
def return_before_barrier(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    tile = cuda.shared.array(64, float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    if i >= x.size:
        return
    tile[t] = x[i]
    cuda.syncthreads()  # BUG
    y[i] = tile[t ^ 1]


@ts.kernel(grid=lambda n: ts.cdiv(n, 64), block=64)
def no_return_before_barrier(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    tile = cuda.shared.array(64, float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    if i < x.size:
        tile[t] = x[i]
    cuda.syncthreads()
    if i < x.size:
        y[i] = tile[t ^ 1]


@ts.kernel(grid=1, block=64)
def barriers_in_both_branches(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
    t = cuda.threadIdx.x
    if t % 2 == 0:
        y[t] = x[t]
        cuda.syncthreads()  # BUG
        x[t] = y[t ^ 1]
    else:
        y[t] = -x[t]
        cuda.syncthreads()  # BUG
        x[t] = -y[t ^ 1]


@ts.kernel(grid=1, block=64)
def one_barrier_for_both(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
    t = cuda.threadIdx.x
    y[t] = x[t] if t % 2 == 0 else -x[t]
    cuda.syncthreads()
    x[t] = y[t ^ 1] if t % 2 == 0 else -y[t ^ 1]


@ts.kernel(grid=1, block=64)
def barrier_in_uneven_loop(k: ts.Array[ts.i32, 64], y: ts.Array[ts.i32, 64]):
    t = cuda.threadIdx.x
    total = 0
    for _ in range(k[t]):
        total += 1
        cuda.syncthreads()  # BUG
    y[t] = total


@ts.kernel(grid=1, block=64)
def barrier_in_even_loop(k: ts.Array[ts.i32, 64], y: ts.Array[ts.i32, 64]):
    t = cuda.threadIdx.x
    total = 0
    for i in range(9):
        if i < k[t]:
            total += 1
        cuda.syncthreads()
    y[t] = total


@ts.kernel(grid=1, block=32)
def mask_leaves_out_half(x: ts.Array[ts.f32, 32], y: ts.Array[ts.f32, 32]):
    t = cuda.threadIdx.x
    y[t] = cuda.shfl_xor_sync(0x0000FFFF, x[t], 1)  # BUG


@ts.kernel(grid=1, block=32)
def mask_names_all(x: ts.Array[ts.f32, 32], y: ts.Array[ts.f32, 32]):
    t = cuda.threadIdx.x
    y[t] = cuda.shfl_xor_sync(0xFFFFFFFF, x[t], 1)


@ts.kernel(grid=1, block=32)
def reads_idle_lane(x: ts.Array[ts.f32, 32], y: ts.Array[ts.f32, 32]):
    t = cuda.threadIdx.x
    if t < 16:
        y[t] = cuda.shfl_down_sync(0x0000FFFF, x[t], 8)  # BUG


@ts.kernel(grid=1, block=32)
def reads_lanes_of_its_half(x: ts.Array[ts.f32, 32], y: ts.Array[ts.f32, 32]):
    t = cuda.threadIdx.x
    if t < 16:
        y[t] = cuda.shfl_xor_sync(0x0000FFFF, x[t], 8)


@ts.kernel(grid=1, block=48)
def reads_lane_beyond_block(x: ts.Array[ts.f32, 48], y: ts.Array[ts.f32, 48]):
    t = cuda.threadIdx.x
    y[t] = cuda.shfl_xor_sync(0xFFFFFFFF, x[t], 16)  # BUG


@ts.kernel(grid=1, block=48)
def reads_lanes_of_block(x: ts.Array[ts.f32, 48], y: ts.Array[ts.f32, 48]):
    t = cuda.threadIdx.x
    y[t] = cuda.shfl_xor_sync(0xFFFFFFFF, x[t], 8)


@ts.kernel(grid=1, block=32)
def mask_of_waiting_lanes(x: ts.Array[ts.f32, 32], y: ts.Array[ts.f32, 32]):
    t = cuda.threadIdx.x
    if t < 16:
        y[t] = cuda.shfl_xor_sync(0xFFFFFFFF, x[t], 1)  # BUG
    cuda.syncthreads()
    x[t] = y[t ^ 1]


@ts.kernel(grid=1, block=32)
def mask_of_branch(x: ts.Array[ts.f32, 32], y: ts.Array[ts.f32, 32]):
    t = cuda.threadIdx.x
    if t < 16:
        y[t] = cuda.shfl_xor_sync(0x0000FFFF, x[t], 1)
    cuda.syncthreads()
    x[t] = y[t ^ 1]


@ts.kernel(grid=1, block=32)
def ballot_without_self(x: ts.Array[ts.f32, 32], y: ts.Array[ts.i32, 32]):
    t = cuda.threadIdx.x
    y[t] = cuda.ballot_sync(0x7FFFFFFF, x[t] > 0)  # BUG


@ts.kernel(grid=1, block=32)
def ballot_of_all(x: ts.Array[ts.f32, 32], y: ts.Array[ts.i32, 32]):
    t = cuda.threadIdx.x
    y[t] = cuda.ballot_sync(0xFFFFFFFF, x[t] > 0)


@ts.kernel(grid=1, block=32)
def waits_for_nobody(flag: ts.Array[ts.i32, 1], y: ts.Array[ts.i32, 1]):
    if cuda.threadIdx.x == 0:
        while cuda.atomic.add(flag, 0, 0) == 0:  # BUG
            pass
        y[0] = 1


@ts.kernel(grid=1, block=32)
def waits_for_a_thread(flag: ts.Array[ts.i32, 1], y: ts.Array[ts.i32, 1]):
    if cuda.threadIdx.x == 1:
        cuda.atomic.exch(flag, 0, 1)
    if cuda.threadIdx.x == 0:
        while cuda.atomic.add(flag, 0, 0) == 0:
            pass
        y[0] = 1


@ts.kernel(grid=1, block=64)
def barrier_for_one_warp(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
    t = cuda.threadIdx.x
    y[t] = x[t]
    if t // 32 == 0:
        cuda.syncthreads()  # BUG
        x[t] = y[t ^ 1]


@ts.kernel(grid=1, block=64)
def warp_barrier_for_one_warp(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
    t = cuda.threadIdx.x
    y[t] = x[t]
    if t // 32 == 0:
        cuda.syncwarp()
        x[t] = y[t ^ 1]


@ts.kernel(grid=1, block=32)
def sum_of_half_with_full_step(x: ts.Array[ts.f32, 32], y: ts.Array[ts.f32, 1]):
    t = cuda.threadIdx.x
    if t < 16:
        value = x[t]
        for step in (16, 8, 4, 2, 1):
            value += cuda.shfl_xor_sync(0x0000FFFF, value, step)  # BUG
        if t == 0:
            y[0] = value


@ts.kernel(grid=1, block=32)
def sum_of_half(x: ts.Array[ts.f32, 32], y: ts.Array[ts.f32, 1]):
    t = cuda.threadIdx.x
    if t < 16:
        value = x[t]
        for step in (8, 4, 2, 1):
            value += cuda.shfl_xor_sync(0x0000FFFF, value, step)
        if t == 0:
            y[0] = value


@ts.kernel(grid=1, block=32)
def syncwarp_of_other_half(x: ts.Array[ts.f32, 32], y: ts.Array[ts.f32, 32]):
    t = cuda.threadIdx.x
    y[t] = x[t]
    if t < 16:
        cuda.syncwarp(0x0000FF00)  # BUG
        x[t] = y[t]


@ts.kernel(grid=1, block=32)
def syncwarp_of_own_half(x: ts.Array[ts.f32, 32], y: ts.Array[ts.f32, 32]):
    t = cuda.threadIdx.x
    y[t] = x[t]
    if t < 16:
        cuda.syncwarp(0x0000FFFF)
        x[t] = y[t ^ 1]


FLAG = {"flag": np.zeros(1, np.int32)}
CASES = [
    Case("divergent-barrier", barrier_for_one_warp, warp_barrier_for_one_warp),
    Case("inactive-lane", sum_of_half_with_full_step, sum_of_half),
    Case("bad-mask", syncwarp_of_other_half, syncwarp_of_own_half),
    Case("divergent-barrier", barrier_in_branch, barrier_behind_branch),
    Case("divergent-barrier", return_before_barrier, no_return_before_barrier, {"n": 100}),
    Case("divergent-barrier", barriers_in_both_branches, one_barrier_for_both),
    Case("divergent-barrier", barrier_in_uneven_loop, barrier_in_even_loop),
    Case("bad-mask", mask_leaves_out_half, mask_names_all),
    Case("inactive-lane", reads_idle_lane, reads_lanes_of_its_half),
    Case("inactive-lane", reads_lane_beyond_block, reads_lanes_of_block),
    Case("bad-mask", mask_of_waiting_lanes, mask_of_branch),
    Case("bad-mask", ballot_without_self, ballot_of_all),
    Case("deadlock", waits_for_nobody, waits_for_a_thread, inputs=FLAG),
]
