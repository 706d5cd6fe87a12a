"""Intrinsics on matrices and memory: tensor cores, their loads, asynchronous copies, barriers, warpgroups."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from emulated import Array, emulate
from numba import cuda, float32, float64, int32, uint8

import tessera as ts
from tessera import gpu
from tessera.deploy import AOTCompiler

KINDS: dict[str, Any] = {
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "tf32": np.float32,
    "s8": np.int8,
    "u8": np.uint8,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
}


def draw(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Small whole numbers: their products and sums are exact in every type."""
    return rng.integers(0 if kind == "u8" else -4, 5, shape).astype(KINDS[kind])


def long_product(mma: Any, sums: ts.DType, zero: Any) -> Any:
    """c += a @ b.T for rows of 32 bytes, operands through shared memory and `ldmatrix`."""

    @ts.kernel(grid=1, block=32)
    def kernel(a: ts.Array[ts.u8, 512], b: ts.Array[ts.u8, 256], c: ts.Array[sums, 16, 8]):
        lane = cuda.threadIdx.x
        tile = cuda.shared.array(768, uint8, 16)
        start = gpu.shared_address(tile, 0)
        gpu.cp_async_16(start + lane * 16, gpu.address(a, lane * 16))
        if lane < 16:
            gpu.cp_async_16(start + 512 + lane * 16, gpu.address(b, lane * 16))
        gpu.cp_async_commit()
        gpu.cp_async_wait(0)
        cuda.syncthreads()
        x = gpu.ldmatrix_x4(start + lane % 16 * 32 + lane // 16 * 16)
        y = gpu.ldmatrix_x2(start + 512 + lane % 8 * 32 + lane // 8 % 2 * 16)
        row, column = lane // 4, lane % 4 * 2
        z = (c[row, column], c[row, column + 1], c[row + 8, column], c[row + 8, column + 1])
        z = mma(x, y, z)
        c[row, column] = z[0]
        c[row, column + 1] = z[1]
        c[row + 8, column] = z[2]
        c[row + 8, column + 1] = z[3]

    return kernel


def short_product(mma: Any, sums: ts.DType, zero: Any) -> Any:
    """The same for rows of 16 bytes, copied 8 and 4 bytes at a time."""

    @ts.kernel(grid=1, block=32)
    def kernel(a: ts.Array[ts.u8, 256], b: ts.Array[ts.u8, 128], c: ts.Array[sums, 16, 8]):
        lane = cuda.threadIdx.x
        tile = cuda.shared.array(384, uint8, 16)
        start = gpu.shared_address(tile, 0)
        gpu.cp_async_8(start + lane * 8, gpu.address(a, lane * 8))
        gpu.cp_async_4(start + 256 + lane * 4, gpu.address(b, lane * 4))
        gpu.cp_async_wait_all()
        cuda.syncthreads()
        x = gpu.ldmatrix_x2(start + lane % 16 * 16)
        y = gpu.ldmatrix_x1(start + 256 + lane % 8 * 16)
        row, column = lane // 4, lane % 4 * 2
        z = (c[row, column], c[row, column + 1], c[row + 8, column], c[row + 8, column + 1])
        z = mma(x, (y,), z)
        c[row, column] = z[0]
        c[row, column + 1] = z[1]
        c[row + 8, column] = z[2]
        c[row + 8, column + 1] = z[3]

    return kernel


@pytest.mark.parametrize(
    ("shape", "kind", "target"),
    [
        ("m16n8k16", "f16", "sm_80"),
        ("m16n8k16", "bf16", "sm_80"),
        ("m16n8k8", "tf32", "sm_80"),
        ("m16n8k32", "s8", "sm_80"),
        ("m16n8k32", "u8", "sm_80"),
        ("m16n8k32", "e4m3", "sm_89"),
        ("m16n8k32", "e5m2", "sm_89"),
        ("m16n8k8", "f16", "sm_80"),
        ("m16n8k8", "bf16", "sm_80"),
        ("m16n8k4", "tf32", "sm_80"),
        ("m16n8k16", "s8", "sm_80"),
        ("m16n8k16", "u8", "sm_80"),
    ],
)
def test_mma_multiplies_what_ldmatrix_loads(
    shape: str, kind: str, target: str, rng: np.random.Generator
) -> None:
    k = int(shape.rpartition("k")[2])
    a, b = draw(kind, (16, k), rng), draw(kind, (8, k), rng)
    sums = ts.i32 if kind in ("s8", "u8") else ts.f32
    c = rng.integers(-50, 50, (16, 8)).astype(sums.numpy)
    make = long_product if a.itemsize * k == 32 else short_product
    found = emulate(make(getattr(gpu, f"mma_{shape}_{kind}"), sums, 0), a, b, c, target=target)["c"]
    np.testing.assert_array_equal(found, a.astype(np.float64) @ b.astype(np.float64).T + c)


@pytest.mark.parametrize("kind", ["s8", "u8"])
def test_mma_of_bytes_on_the_first_tensor_cores_that_take_them(kind: str, rng: np.random.Generator) -> None:
    mma = getattr(gpu, f"mma_m8n8k16_{kind}")

    @ts.kernel(grid=1, block=32)
    def kernel(a: ts.Array[ts.u8, 128], b: ts.Array[ts.u8, 128], c: ts.Array[ts.i32, 8, 8]):
        lane = cuda.threadIdx.x
        tile = cuda.shared.array(256, uint8, 16)
        for i in range(4):
            tile[lane * 4 + i] = a[lane * 4 + i]
            tile[128 + lane * 4 + i] = b[lane * 4 + i]
        cuda.syncthreads()
        start = gpu.shared_address(tile, 0)
        x = gpu.ldmatrix_x1(start + lane % 8 * 16)
        y = gpu.ldmatrix_x1(start + 128 + lane % 8 * 16)
        row, column = lane // 4, lane % 4 * 2
        z = mma((x,), (y,), (c[row, column], c[row, column + 1]))
        c[row, column] = z[0]
        c[row, column + 1] = z[1]

    a, b = draw(kind, (8, 16), rng), draw(kind, (8, 16), rng)
    c = rng.integers(-50, 50, (8, 8)).astype(np.int32)
    found = emulate(kernel, a, b, c, target="sm_75")["c"]
    np.testing.assert_array_equal(found, a.astype(np.int32) @ b.astype(np.int32).T + c)


def test_short_halves_multiply_on_sm_75(rng: np.random.Generator) -> None:
    @ts.kernel(grid=1, block=32)
    def kernel(a: ts.Array[ts.u8, 256], b: ts.Array[ts.u8, 128], c: ts.Array[ts.f32, 16, 8]):
        lane = cuda.threadIdx.x
        tile = cuda.shared.array(384, uint8, 16)
        for i in range(12):
            tile[lane * 12 + i] = a[lane * 12 + i] if lane * 12 + i < 256 else b[lane * 12 + i - 256]
        cuda.syncthreads()
        start = gpu.shared_address(tile, 0)
        row, column = lane // 4, lane % 4 * 2
        z = (c[row, column], c[row, column + 1], c[row + 8, column], c[row + 8, column + 1])
        y = gpu.ldmatrix_x1(start + 256 + lane % 8 * 16)
        z = gpu.mma_m16n8k8_f16(gpu.ldmatrix_x2(start + lane % 16 * 16), (y,), z)
        c[row, column] = z[0]
        c[row, column + 1] = z[1]
        c[row + 8, column] = z[2]
        c[row + 8, column + 1] = z[3]

    a, b = draw("f16", (16, 8), rng), draw("f16", (8, 8), rng)
    c = rng.integers(-50, 50, (16, 8)).astype(np.float32)
    found = emulate(kernel, a, b, c, target="sm_75")["c"]
    np.testing.assert_array_equal(found, a.astype(np.float64) @ b.astype(np.float64).T + c)


def test_four_floats_are_rounded_to_tf32(rng: np.random.Generator) -> None:
    @ts.kernel(grid=1, block=32)
    def kernel(x: ts.Array[ts.i32, 32, 4], y: ts.Array[ts.i32, 32, 4]):
        i = cuda.threadIdx.x
        z = gpu.round_tf32_x4((x[i, 0], x[i, 1], x[i, 2], x[i, 3]))
        for j in range(4):
            y[i, j] = z[j]

    x = (rng.standard_normal((32, 4)) * 10.0 ** rng.integers(-20, 20, (32, 4))).astype(np.float32)
    found = emulate(kernel, x, np.zeros((32, 4), np.int32))["y"].view(np.float32)
    bits = x.view(np.uint32).astype(np.uint64)
    # To nearest, ties away from zero, of 13 bits less.
    np.testing.assert_array_equal(found.view(np.uint32), (bits + 0x1000) & 0xFFFFE000)


def test_mma_of_half_precision_sums_and_of_doubles(rng: np.random.Generator) -> None:
    @ts.kernel(grid=1, block=32)
    def halves(a: ts.Array[ts.i32, 32, 4], b: ts.Array[ts.i32, 32, 2], c: ts.Array[ts.i32, 32, 2]):
        i = cuda.threadIdx.x
        x = (a[i, 0], a[i, 1], a[i, 2], a[i, 3])
        z = gpu.mma_m16n8k16_f16_f16(x, (b[i, 0], b[i, 1]), (c[i, 0], c[i, 1]))
        c[i, 0] = z[0]
        c[i, 1] = z[1]

    # Every element of a matrix is the same, so that it does not matter where it lies.
    def filled(value: float, count: int) -> Array:
        return np.full((32, 2 * count), value, np.float16)

    found = emulate(halves, filled(0.5, 4), filled(3, 2), filled(1, 2))["c"]
    np.testing.assert_array_equal(found.view(np.float16), np.float16(16 * 1.5 + 1))

    @ts.kernel(grid=1, block=32)
    def doubles(a: ts.Array[ts.f64, 8, 4], b: ts.Array[ts.f64, 4, 8], c: ts.Array[ts.f64, 8, 8]):
        i = cuda.threadIdx.x
        g, m = i // 4, i % 4
        z = gpu.mma_m8n8k4_f64((a[g, m],), (b[m, g],), (float64(0), float64(0)))
        c[g, 2 * m] = z[0]
        c[g, 2 * m + 1] = z[1]

    a, b = rng.normal(size=(8, 4)), rng.normal(size=(4, 8))
    np.testing.assert_allclose(emulate(doubles, a, b, np.zeros((8, 8)))["c"], a @ b, atol=1e-14)


def moved(load: Any, store: Any, count: int) -> Any:
    """Matrices loaded from the first half of shared memory and stored to the second."""

    @ts.kernel(grid=1, block=32)
    def kernel(x: ts.Array[ts.i32, 128], y: ts.Array[ts.i32, 128]):
        lane = cuda.threadIdx.x
        tile = cuda.shared.array(256, int32, 16)
        start = gpu.shared_address(tile, 0)
        values = gpu.load_u32x4(gpu.address(x, 4 * lane))
        gpu.store_shared_u32x4(start + 16 * lane, values)
        gpu.store_shared_u32x4(start + 512 + 16 * lane, (0, 0, 0, 0))
        cuda.syncwarp()
        address = start + 16 * (lane % (8 * count))
        store(address + 512, load(address))
        cuda.syncwarp()
        gpu.store_u32x4(gpu.address(y, 4 * lane), gpu.load_shared_u32x4(start + 512 + 16 * lane))

    return kernel


@pytest.mark.parametrize("load_trans", [False, True])
@pytest.mark.parametrize("store_trans", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_stored_matrices_are_the_loaded_ones_transposed_once_for_each_trans(
    count: int, load_trans: bool, store_trans: bool, rng: np.random.Generator
) -> None:
    load = getattr(gpu, f"ldmatrix_x{count}{'_trans' * load_trans}")
    store = getattr(gpu, f"stmatrix_x{count}{'_trans' * store_trans}")
    x = rng.integers(0, 1 << 15, (4, 8, 8)).astype(np.int16)
    found = emulate(moved(load, store, count), x, np.zeros(128, np.int32), target="sm_90")["y"]
    expected = np.zeros_like(x)
    expected[:count] = x[:count].swapaxes(1, 2) if load_trans != store_trans else x[:count]
    np.testing.assert_array_equal(found.view(np.int16).reshape(4, 8, 8), expected)


def test_movmatrix_transposes(rng: np.random.Generator) -> None:
    @ts.kernel(grid=1, block=32)
    def kernel(x: ts.Array[ts.i32, 32], y: ts.Array[ts.i32, 32]):
        i = cuda.threadIdx.x
        y[i] = gpu.movmatrix_trans(x[i])

    x = rng.integers(0, 1 << 15, (8, 8)).astype(np.int16)
    found = emulate(kernel, x, np.zeros(32, np.int32))["y"]
    np.testing.assert_array_equal(found.view(np.int16).reshape(8, 8), x.T)


@pytest.mark.parametrize("size", [4, 8, 16])
def test_copies_fill_up_with_zeros(size: int, rng: np.random.Generator) -> None:
    copy = getattr(gpu, f"cp_async_{size}_fill")

    @ts.kernel(grid=1, block=32)
    def kernel(x: ts.Array[ts.u8, 512], y: ts.Array[ts.u8, 512]):
        lane = cuda.threadIdx.x
        tile = cuda.shared.array(512, uint8, 16)
        copy(gpu.shared_address(tile, lane * size), gpu.address(x, lane * size), lane % (size + 1))
        gpu.cp_async_commit()
        gpu.cp_async_wait(0)
        for i in range(size):
            y[lane * size + i] = tile[lane * size + i]

    x = rng.integers(1, 255, 512).astype(np.uint8)
    found = emulate(kernel, x, np.zeros(512, np.uint8))["y"][: 32 * size].reshape(32, size)
    kept = np.arange(size)[None, :] < (np.arange(32) % (size + 1))[:, None]
    np.testing.assert_array_equal(found, np.where(kept, x[: 32 * size].reshape(32, size), 0))


def sixteen(load: Any, store: Any, zero: Any, dtype: ts.DType) -> Any:
    @ts.kernel(grid=1, block=32)
    def kernel(x: ts.Array[dtype, 128], y: ts.Array[dtype, 128]):
        i = 4 * cuda.threadIdx.x
        store(gpu.address(y, i), load(gpu.address(x, i)))

    return kernel


@pytest.mark.parametrize("hint", ["", "_constant", "_streaming", "_bypass"])
@pytest.mark.parametrize("kind", ["u32", "f32"])
def test_sixteen_bytes_move_with_every_hint(kind: str, hint: str, rng: np.random.Generator) -> None:
    store = getattr(gpu, f"store_{kind}x4{'_streaming' if hint == '_streaming' else ''}")
    dtype = ts.f32 if kind == "f32" else ts.i32
    x = rng.integers(-99, 99, 128).astype(dtype.numpy)
    kernel = sixteen(getattr(gpu, f"load_{kind}x4{hint}"), store, 0, dtype)
    np.testing.assert_array_equal(emulate(kernel, x, np.zeros_like(x))["y"], x)


def test_shared_memory_in_every_width(rng: np.random.Generator) -> None:
    @ts.kernel(grid=1, block=32)
    def kernel(x: ts.Array[ts.f32, 32], y: ts.Array[ts.f32, 32, 8]):
        lane = cuda.threadIdx.x
        tile = cuda.shared.array((32, 4), float32, 16)
        here = gpu.shared_address(tile, (lane, 0))
        v = x[lane]
        gpu.store_shared_f32x4(here, (v, v + 1, v + 2, v + 3))
        gpu.store_shared_f32x2(here + 8, (v + 4, v + 5))
        a = gpu.load_shared_f32x4(here)
        b = gpu.load_shared_f32x2(here)
        gpu.store_shared_u32(here, gpu.load_shared_u32(here + 8))
        c = gpu.load_shared_u32x2(here + 8)
        gpu.store_shared_u32x2(here + 8, (c[1], c[0]))
        y[lane, 0], y[lane, 1], y[lane, 2], y[lane, 3] = a[0], a[1], a[2], a[3]
        y[lane, 4], y[lane, 5], y[lane, 6] = b[0], b[1], gpu.load_shared_f32(here)
        y[lane, 7] = tile[lane, 2]

    x = rng.normal(size=32).astype(np.float32)
    found = emulate(kernel, x, np.zeros((32, 8), np.float32))["y"]
    added = np.array([0, 1, 4, 5, 0, 1, 4, 5], np.float32)
    np.testing.assert_array_equal(found, x[:, None] + added)


# -- barriers, bulk copies ------------------------------------------------------------------------------


def test_bulk_copies_are_awaited_at_an_mbarrier(rng: np.random.Generator) -> None:
    @ts.kernel(grid=1, block=64)
    def kernel(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
        tile = cuda.shared.array(64, float32, 128)
        flag = cuda.shared.array(2, float64, 8)
        barrier, start = gpu.shared_address(flag, 0), gpu.shared_address(tile, 0)
        t = cuda.threadIdx.x
        if t == 0:
            gpu.mbarrier_init(barrier, 1)
            gpu.fence_mbarrier_init()
        cuda.syncthreads()
        if t == 0:
            gpu.mbarrier_arrive_expect_bytes(barrier, 256)
            gpu.bulk_load(start, gpu.address(x, 0), 256, barrier)
        while not gpu.mbarrier_try_wait_parity(barrier, 0):
            pass
        value = tile[t]
        cuda.syncthreads()
        tile[63 - t] = 2 * value
        gpu.fence_async_shared()
        cuda.syncthreads()
        if t == 0:
            gpu.bulk_store(gpu.address(y, 0), start, 256)
            gpu.bulk_commit()
            gpu.bulk_wait_read(0)
            gpu.bulk_wait(0)
            gpu.mbarrier_invalidate(barrier)

    x = rng.normal(size=64).astype(np.float32)
    found = emulate(kernel, x, np.zeros_like(x), target="sm_90")["y"]
    np.testing.assert_array_equal(found, 2 * x[::-1])


def test_copies_and_threads_arrive_at_an_mbarrier(rng: np.random.Generator) -> None:
    @ts.kernel(grid=1, block=64)
    def kernel(x: ts.Array[ts.f32, 64], y: ts.Array[ts.f32, 64]):
        tile = cuda.shared.array(64, float32, 16)
        flag = cuda.shared.array(2, float64, 8)
        barrier = gpu.shared_address(flag, 0)
        t = cuda.threadIdx.x
        if t == 0:
            gpu.mbarrier_init(barrier, 64)
        cuda.syncthreads()
        gpu.cp_async_4(gpu.shared_address(tile, t), gpu.address(x, t))
        gpu.cp_async_mbarrier_arrive(barrier)
        while not gpu.mbarrier_test_wait_parity(barrier, 0):
            pass
        y[t] = tile[63 - t]

    x = rng.normal(size=64).astype(np.float32)
    np.testing.assert_array_equal(emulate(kernel, x, np.zeros_like(x))["y"], x[::-1])


def test_named_barriers_let_one_warp_hand_over_to_another(rng: np.random.Generator) -> None:
    @ts.kernel(grid=1, block=64)
    def kernel(x: ts.Array[ts.f32, 32], y: ts.Array[ts.f32, 32]):
        tile = cuda.shared.array(32, float32)
        t = cuda.threadIdx.x
        if t < 32:
            tile[t] = x[t]
            gpu.barrier_arrive(1, 64)
        else:
            gpu.barrier_sync(1, 64)
            y[t - 32] = tile[63 - t]

    x = rng.normal(size=32).astype(np.float32)
    np.testing.assert_array_equal(emulate(kernel, x, np.zeros_like(x), target="sm_70")["y"], x[::-1])


# -- warpgroups -----------------------------------------------------------------------------------------


def warpgroup_product(wgmma: Any, sums: ts.DType, zeros: Any) -> Any:
    """(64, 32 bytes) times (16, 32 bytes) transposed: both without swizzle, as 8 rows of 16 bytes."""

    @ts.kernel(grid=1, block=128)
    def kernel(a: ts.Array[ts.u8, 64, 32], b: ts.Array[ts.u8, 16, 32], c: ts.Array[sums, 64, 16]):
        t = cuda.threadIdx.x
        tile = cuda.shared.array(2560, uint8, 128)
        start = gpu.shared_address(tile, 0)
        for i in range(t, 160, 128):
            row, half = i // 2, i % 2
            to = start + (row // 8) * 256 + half * 128 + row % 8 * 16
            if row < 64:
                gpu.cp_async_16(to, gpu.address(a, (row, half * 16)))
            else:
                gpu.cp_async_16(to, gpu.address(b, (row - 64, half * 16)))
        gpu.cp_async_wait_all()
        gpu.fence_async_shared()
        cuda.syncthreads()
        z = zeros(8)
        left, right = (
            gpu.wgmma_descriptor(start, 128, 256, 0),
            gpu.wgmma_descriptor(start + 2048, 128, 256, 0),
        )
        gpu.wgmma_fence()
        z = wgmma(z, left, right, 0)
        z = wgmma(z, left, right, 1)
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

    return kernel


@pytest.mark.parametrize("kind", KINDS)
def test_warpgroup_product_adds_up(kind: str, rng: np.random.Generator) -> None:
    k = 32 // np.dtype(KINDS[kind]).itemsize
    a, b = draw(kind, (64, k), rng), draw(kind, (16, k), rng)
    whole = kind in ("s8", "u8")
    zeros = gpu.zeros_i32 if whole else gpu.zeros_f32
    kernel = warpgroup_product(getattr(gpu, f"wgmma_{kind}"), ts.i32 if whole else ts.f32, zeros)
    before = np.full((64, 16), 7, np.int32 if whole else np.float32)
    found = emulate(kernel, a, b, before, target="sm_90a")["c"]
    np.testing.assert_array_equal(found, 2 * (a.astype(np.float64) @ b.astype(np.float64).T))


def test_registers_move_between_warpgroups_and_boxes_come_by_tensor_map() -> None:
    @ts.kernel(grid=1, block=256)
    def kernel(tensor_map: ts.Array[ts.i64, 16], y: ts.Array[ts.f32, 256]):
        tile = cuda.shared.array(1024, float32, 128)
        flag = cuda.shared.array(2, float64, 8)
        barrier, start = gpu.shared_address(flag, 0), gpu.shared_address(tile, 0)
        t = cuda.threadIdx.x
        if t == 0:
            gpu.tma_prefetch(gpu.address(tensor_map, 0))
            gpu.mbarrier_init(barrier, 1)
            gpu.fence_mbarrier_init()
        cuda.syncthreads()
        if t < 128:
            gpu.setmaxnreg_dec(40)
            if t == 0:
                gpu.mbarrier_expect_bytes(barrier, 4096)
                gpu.tma_load_2d(start, gpu.address(tensor_map, 0), 0, 32, barrier)
                gpu.mbarrier_arrive(barrier)
        else:
            gpu.setmaxnreg_inc(232)
            while not gpu.mbarrier_try_wait_parity(barrier, 0):
                pass
            y[t] = tile[t]
        cuda.syncthreads()
        if t == 0:
            gpu.tma_store_2d(gpu.address(tensor_map, 0), 0, 0, start)
            gpu.bulk_commit()
            gpu.bulk_wait(0)

    (cubin, ptx) = AOTCompiler(target_architectures=["sm_90a"]).compile(kernel).binaries
    assert cubin.data.startswith(b"\x7fELF")
    for text in (b"cp.async.bulk.tensor.2d", b"setmaxnreg.inc.sync.aligned.u32 232", b"prefetch.tensormap"):
        assert text in ptx.data


def test_wide_sums_stay_in_registers() -> None:
    """128 sums in a loop: no local memory, no spills, and the products are not serialized."""

    @ts.kernel(grid=1, block=128)
    def kernel(steps: ts.i64, y: ts.Array[ts.f32, "n"]):
        tile = cuda.shared.array(2048, float32, 1024)
        start = gpu.shared_address(tile, 0)
        z = gpu.zeros_f32(128)
        a, b = gpu.wgmma_descriptor(start, 16, 1024, 128), gpu.wgmma_descriptor(start, 16, 1024, 128)
        for _ in range(steps):
            gpu.wgmma_fence()
            z = gpu.wgmma_bf16_trans(z, a, b, 1, 0, 1)
            gpu.wgmma_commit()
            z = gpu.wgmma_wait(0, z)
        y[cuda.threadIdx.x] = z[0] + z[127]

    (cubin, _) = AOTCompiler(target_architectures=["sm_90a"]).compile(kernel).binaries
    assert cubin.resources is not None
    assert (cubin.resources.spill_bytes, cubin.resources.stack_bytes) == (0, 0)
