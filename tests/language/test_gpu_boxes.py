"""Bulk tensor copies, the registers and barriers around them, and transposed warpgroup operands, emulated.

A tensor map is what the emulator takes for one. The kernel puts the tensor's address into it, which a GPU's
driver would have done.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from emulated import emulate
from numba import cuda, float32, float64, uint8

import tessera as ts
from tessera import gpu
from tessera.emulator.tensor_maps import encode_tensor_map
from tessera.program.tensor_map import TensorMap

Array = np.ndarray[Any, Any]
CORNERS = {2: (8, 5), 3: (-4, 3, 2), 4: (0, -1, 2, 1), 5: (4, 0, 1, -1, 1)}
"""Where a box is taken from, the innermost axis first: partly outside."""


def tensor_map(x: Array, box: tuple[int, ...]) -> Array:
    """A map of `x`, without its address, whose boxes have that shape."""
    strides = tuple(int(stride) for stride in x.strides[-2::-1])
    made = TensorMap("f32", 0, x.shape[::-1], strides, box[::-1])
    return np.frombuffer(encode_tensor_map(made), np.int64).copy()


def box_of(x: Array, box: tuple[int, ...], corner: tuple[int, ...]) -> Array:
    """What a load leaves: zeros outside."""
    found = np.zeros(box, x.dtype)
    for place in np.ndindex(*box):
        at = tuple(p + c for p, c in zip(place, corner[::-1], strict=True))
        if all(0 <= a < n for a, n in zip(at, x.shape, strict=True)):
            found[place] = x[at]
    return found


@cuda.jit(device=True)
def load_2(to, maps, barrier):
    gpu.tma_load_2d(to, maps, 8, 5, barrier)


@cuda.jit(device=True)
def load_3(to, maps, barrier):
    gpu.tma_load_3d(to, maps, -4, 3, 2, barrier)


@cuda.jit(device=True)
def load_4(to, maps, barrier):
    gpu.tma_load_4d(to, maps, 0, -1, 2, 1, barrier)


@cuda.jit(device=True)
def load_5(to, maps, barrier):
    gpu.tma_load_5d(to, maps, 4, 0, 1, -1, 1, barrier)


LOADS = {2: load_2, 3: load_3, 4: load_4, 5: load_5}


def loader(rank: int, sizes: tuple[int, ...]) -> ts.Kernel:
    load, count = LOADS[rank], int(np.prod(sizes))

    @ts.kernel(grid=1, block=64)
    def kernel(maps: ts.Array[ts.i64, 16], x: ts.Array[ts.f32, count], y: ts.Array[ts.f32, 128]):
        tile = cuda.shared.array(128, float32, 128)
        flag = cuda.shared.array(2, float64, 8)
        barrier, start = gpu.shared_address(flag, 0), gpu.shared_address(tile, 0)
        t = cuda.threadIdx.x
        if t == 0:
            maps[0] = gpu.address(x, 0)
            gpu.mbarrier_init(barrier, 1)
            gpu.fence_mbarrier_init()
            gpu.tma_prefetch(gpu.address(maps, 0))
            gpu.mbarrier_expect_bytes(barrier, 512)
            load(start, gpu.address(maps, 0), barrier)
            gpu.mbarrier_arrive(barrier)
        cuda.syncthreads()
        while not gpu.mbarrier_try_wait_parity(barrier, 0):
            pass
        y[t], y[t + 64] = tile[t], tile[t + 64]

    return kernel


SIZES = {2: ((10, 12), (16, 8)), 3: ((4, 5, 8), (4, 4, 8)), 4: ((3, 4, 5, 8), (2, 4, 4, 4)),
         5: ((2, 3, 4, 5, 8), (2, 2, 4, 2, 4))}  # fmt: skip
"""The tensor and the box, of 128 elements, by rank."""


@pytest.mark.parametrize("rank", SIZES)
def test_boxes_of_every_rank_come_by_a_tensor_map(rank: int, rng: np.random.Generator) -> None:
    sizes, box = SIZES[rank]
    x = rng.normal(size=sizes).astype(np.float32)
    found = emulate(loader(rank, sizes), tensor_map(x, box), x, np.zeros(128, np.float32), target="sm_90")[
        "y"
    ]
    np.testing.assert_array_equal(found.reshape(box), box_of(x, box, CORNERS[rank]))


def test_a_box_goes_out_and_what_is_outside_is_left_out(rng: np.random.Generator) -> None:
    @ts.kernel(grid=1, block=128)
    def kernel(maps: ts.Array[ts.i64, 16], x: ts.Array[ts.f32, 128], y: ts.Array[ts.f32, 10, 12]):
        tile = cuda.shared.array(128, float32, 128)
        t = cuda.threadIdx.x
        tile[t] = x[t]
        gpu.fence_async_shared()
        cuda.syncthreads()
        if t == 0:
            maps[0] = gpu.address(y, (0, 0))
            gpu.tma_store_2d(gpu.address(maps, 0), 8, 5, gpu.shared_address(tile, 0))
            gpu.bulk_commit()
            gpu.bulk_wait(0)

    x = rng.normal(size=128).astype(np.float32)
    before = rng.normal(size=(10, 12)).astype(np.float32)
    found = emulate(kernel, tensor_map(before, (16, 8)), x, before, target="sm_90")["y"]
    expected = before.copy()
    expected[5:, 8:] = x.reshape(16, 8)[:5, :4]
    np.testing.assert_array_equal(found, expected)


def test_registers_move_between_warpgroups_that_go_on_as_before(rng: np.random.Generator) -> None:
    @ts.kernel(grid=1, block=256)
    def kernel(x: ts.Array[ts.f32, 256], y: ts.Array[ts.u32, 256, 4]):
        tile = cuda.shared.array(256, float32)
        t = cuda.threadIdx.x
        if t < 128:
            gpu.setmaxnreg_dec(40)
            tile[t] = x[t]
        else:
            gpu.setmaxnreg_inc(232)
            tile[t] = 2 * x[t]
        cuda.syncthreads()
        bits = gpu.load_shared_u32(gpu.shared_address(tile, 255 - t))
        gpu.store_u32(gpu.address(y, (t, 0)), bits)
        gpu.store_u32(gpu.address(y, (t, 1)), t)
        gpu.store_u32x2(gpu.address(y, (t, 2)), (bits, t))

    x = rng.normal(size=256).astype(np.float32)
    found = emulate(kernel, x, np.zeros((256, 4), np.uint32), target="sm_90a")["y"]
    bits = np.where(np.arange(256) < 128, x, 2 * x).astype(np.float32)[::-1].view(np.uint32)
    t = np.arange(256, dtype=np.uint32)
    np.testing.assert_array_equal(found.view(np.uint32).reshape(256, 4), np.stack([bits, t, bits, t], 1))


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_warpgroup_operands_may_lie_across_the_depth(kind: str, rng: np.random.Generator) -> None:
    """a (16, 64) and b (16, 16) as they lie, both transposed: core matrices of 8 lines of 8 elements."""
    product = getattr(gpu, f"wgmma_{kind}_trans")

    @ts.kernel(grid=1, block=128)
    def kernel(a: ts.Array[ts.u8, 2048], b: ts.Array[ts.u8, 512], c: ts.Array[ts.f32, 64, 16]):
        t = cuda.threadIdx.x
        tile = cuda.shared.array(2560, uint8, 128)
        start = gpu.shared_address(tile, 0)
        for i in range(t, 160, 128):
            if i < 128:
                gpu.cp_async_16(start + i * 16, gpu.address(a, i * 16))
            else:
                gpu.cp_async_16(start + i * 16, gpu.address(b, (i - 128) * 16))
        gpu.cp_async_wait_all()
        gpu.fence_async_shared()
        cuda.syncthreads()
        z = gpu.zeros_f32(8)
        left = gpu.wgmma_descriptor(start, 128, 256, 0)
        right = gpu.wgmma_descriptor(start + 2048, 128, 256, 0)
        gpu.wgmma_fence()
        z = product(z, left, right, 0, 1, 1)
        gpu.wgmma_commit()
        z = gpu.wgmma_wait(0, z)
        row, column = t // 32 * 16 + t % 32 // 4, t % 4 * 2
        c[row, column], c[row, column + 1], c[row + 8, column], c[row + 8, column + 1] = (
            z[0],
            z[1],
            z[2],
            z[3],
        )
        column += 8
        c[row, column], c[row, column + 1], c[row + 8, column], c[row + 8, column + 1] = (
            z[4],
            z[5],
            z[6],
            z[7],
        )

    dtype = getattr(ts, kind).numpy
    a = rng.integers(-4, 5, (16, 64)).astype(dtype)
    b = rng.integers(-4, 5, (16, 16)).astype(dtype)
    # Core matrices: 8 lines of depth by 8 elements; along the lines first, then along the depth.
    cores_a = a.reshape(2, 8, 8, 8).transpose(2, 0, 1, 3)
    cores_b = b.reshape(2, 8, 2, 8).transpose(2, 0, 1, 3)
    found = emulate(
        kernel, np.ascontiguousarray(cores_a), np.ascontiguousarray(cores_b),
        np.zeros((64, 16), np.float32), target="sm_90a",
    )["c"]  # fmt: skip
    np.testing.assert_array_equal(found, a.astype(np.float64).T @ b.astype(np.float64))
