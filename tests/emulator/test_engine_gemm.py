"""Matrix products as kernels for tensor cores have them: pipelines of copies, swizzled tiles, warps and
warpgroups. On the engine, against float64 and, bit for bit, against the interpreter.
"""

from typing import Any

import ml_dtypes
import numpy as np
from numba import cuda, uint8

import tessera as ts
from tessera.deploy import AOTCompiler
from tessera.emulator import Emulator
from tessera.emulator.lockstep import launch
from tessera.language import gpu
from tessera.language.kernel import Kernel

Array = np.ndarray[Any, Any]
BF16: Any = ml_dtypes.bfloat16
ENGINE = Emulator(workers=2, memory_bytes=1 << 24)


def both(kernel: Kernel, target: str, grid: tuple[int, int], *arrays: Array) -> Array:
    """What the engine makes of the last array; the interpreter leaves the same bits."""
    artifact = AOTCompiler(target_architectures=[target]).compile(kernel).artifact
    (text,) = (binary.data.decode() for binary in artifact.binaries if binary.format == "ptx")
    module = ENGINE.load(text)
    found = []
    for run, source in ((ENGINE.launch, module), (launch, text)):
        copies = [x.copy() for x in arrays]
        run(source, module.entries[0], grid, (128,), flat(copies))
        found.append(copies[-1])
    np.testing.assert_array_equal(found[0].view(np.uint32), found[1].view(np.uint32))
    return found[0]


def flat(arrays: list[Array]) -> list[Any]:
    """Parameters as Numba has them for arrays."""
    params: list[Any] = []
    for x in arrays:
        params += [np.uint64(0), np.uint64(0), np.int64(x.size), np.int64(x.itemsize), x]
        params += [np.int64(n) for n in (*x.shape, *x.strides)]
    return params


M, N, K = 64, 96, 128


@ts.kernel(grid=(N // 32, M // 32), block=128)
def pipelined(a: ts.Array[ts.bf16, M, K], b: ts.Array[ts.bf16, K, N], c: ts.Array[ts.f32, M, N]):
    """Tiles of 32 by 32 by 32 in two stages; each of four warps has 16 rows and 16 columns."""
    t = cuda.threadIdx.x
    warp, lane = t // 32, t % 32
    row0, column0 = cuda.blockIdx.y * 32, cuda.blockIdx.x * 32
    # A line of 64 bytes, and 16 that keep lines of neighbours in other banks.
    tile = cuda.shared.array(2 * 2 * 32 * 80, uint8, 16)
    start = gpu.shared_address(tile, 0)
    line, chunk = t // 4, t % 4
    here = line * 80 + chunk * 16
    gpu.cp_async_16(start + here, gpu.address(a, (row0 + line, chunk * 8)))
    gpu.cp_async_16(start + 2560 + here, gpu.address(b, (line, column0 + chunk * 8)))
    gpu.cp_async_commit()
    left, right = gpu.zeros_f32(4), gpu.zeros_f32(4)
    for step in range(K // 32):
        stage = start + (step % 2) * 5120
        following = start + ((step + 1) % 2) * 5120
        if step + 1 < K // 32:
            k0 = (step + 1) * 32
            gpu.cp_async_16(following + here, gpu.address(a, (row0 + line, k0 + chunk * 8)))
            gpu.cp_async_16(following + 2560 + here, gpu.address(b, (k0 + line, column0 + chunk * 8)))
        gpu.cp_async_commit()
        gpu.cp_async_wait(1)
        cuda.syncthreads()
        for k in range(2):
            rows = stage + (warp // 2 * 16 + lane % 16) * 80 + k * 32 + lane // 16 * 16
            operand = gpu.ldmatrix_x4(rows)
            columns = stage + 2560 + (k * 16 + lane % 16) * 80 + warp % 2 * 32 + lane // 16 * 16
            both = gpu.ldmatrix_x4_trans(columns)
            left = gpu.mma_m16n8k16_bf16(operand, (both[0], both[1]), left)
            right = gpu.mma_m16n8k16_bf16(operand, (both[2], both[3]), right)
        cuda.syncthreads()
    row, column = row0 + warp // 2 * 16 + lane // 4, column0 + warp % 2 * 16 + lane % 4 * 2
    c[row, column], c[row, column + 1] = left[0], left[1]
    c[row + 8, column], c[row + 8, column + 1] = left[2], left[3]
    c[row, column + 8], c[row, column + 9] = right[0], right[1]
    c[row + 8, column + 8], c[row + 8, column + 9] = right[2], right[3]


def draw(rng: np.random.Generator, *shape: int) -> Array:
    """Random bfloat16."""
    return rng.standard_normal(shape).astype(BF16)


def test_pipeline_of_copies_and_mma(rng: np.random.Generator) -> None:
    a, b = draw(rng, M, K), draw(rng, K, N)
    found = both(pipelined, "sm_80", (N // 32, M // 32), a, b, np.zeros((M, N), np.float32))
    np.testing.assert_allclose(found, a.astype(np.float64) @ b.astype(np.float64), atol=1e-4)


@ts.kernel(grid=(2, 1), block=128)
def by_lines(a: ts.Array[ts.bf16, 64, K], b: ts.Array[ts.bf16, 128, K], c: ts.Array[ts.f32, 64, 128]):
    """A by rows times the transpose of B by rows: lines of 128 bytes run along k, swizzled."""
    t = cuda.threadIdx.x
    tile = cuda.shared.array(16384, uint8, 1024)
    start = gpu.shared_address(tile, 0)
    column0 = cuda.blockIdx.x * 64
    z = gpu.zeros_f32(32)
    for k0 in range(0, K, 64):
        for i in range(t, 512, 128):
            line, chunk = i // 8, i % 8
            to = start + line * 128 + (chunk ^ line % 8) * 16
            gpu.cp_async_16(to, gpu.address(a, (line, k0 + chunk * 8)))
            gpu.cp_async_16(to + 8192, gpu.address(b, (column0 + line, k0 + chunk * 8)))
        gpu.cp_async_wait_all()
        gpu.fence_async_shared()
        cuda.syncthreads()
        gpu.wgmma_fence()
        for k in range(4):
            left = gpu.wgmma_descriptor(start + k * 32, 16, 1024, 128)
            right = gpu.wgmma_descriptor(start + 8192 + k * 32, 16, 1024, 128)
            z = gpu.wgmma_bf16(z, left, right, 1)
        gpu.wgmma_commit()
        z = gpu.wgmma_wait(0, z)
        # Only the waits keep the next copies from overtaking the products of the other warps.
    row = t // 32 * 16 + t % 32 // 4
    for j in range(8):
        column = column0 + j * 8 + t % 4 * 2
        c[row, column], c[row, column + 1] = z[4 * j], z[4 * j + 1]
        c[row + 8, column], c[row + 8, column + 1] = z[4 * j + 2], z[4 * j + 3]


def test_warpgroups_on_swizzled_lines(rng: np.random.Generator) -> None:
    a, b = draw(rng, 64, K), draw(rng, 128, K)
    found = both(by_lines, "sm_90a", (2, 1), a, b, np.zeros((64, 128), np.float32))
    np.testing.assert_allclose(found, a.astype(np.float64) @ b.astype(np.float64).T, atol=1e-4)


@ts.kernel(grid=(2, 1), block=128)
def across(a: ts.Array[ts.bf16, K, 64], b: ts.Array[ts.bf16, K, 128], c: ts.Array[ts.f32, 64, 128]):
    """The transpose of A times B, both by rows: lines of 128 bytes run across k, swizzled."""
    t = cuda.threadIdx.x
    tile = cuda.shared.array(16384, uint8, 1024)
    start = gpu.shared_address(tile, 0)
    column0 = cuda.blockIdx.x * 64
    z = gpu.zeros_f32(32)
    for k0 in range(0, K, 64):
        for i in range(t, 512, 128):
            line, chunk = i // 8, i % 8
            to = start + line * 128 + (chunk ^ line % 8) * 16
            gpu.cp_async_16(to, gpu.address(a, (k0 + line, chunk * 8)))
            gpu.cp_async_16(to + 8192, gpu.address(b, (k0 + line, column0 + chunk * 8)))
        gpu.cp_async_wait_all()
        gpu.fence_async_shared()
        cuda.syncthreads()
        gpu.wgmma_fence()
        for k in range(4):
            left = gpu.wgmma_descriptor(start + k * 2048, 8192, 1024, 128)
            right = gpu.wgmma_descriptor(start + 8192 + k * 2048, 8192, 1024, 128)
            z = gpu.wgmma_bf16_trans(z, left, right, 1, 1, 1)
        gpu.wgmma_commit()
        z = gpu.wgmma_wait(0, z)
        cuda.syncthreads()
    row = t // 32 * 16 + t % 32 // 4
    for j in range(8):
        column = column0 + j * 8 + t % 4 * 2
        c[row, column], c[row, column + 1] = z[4 * j], z[4 * j + 1]
        c[row + 8, column], c[row + 8, column + 1] = z[4 * j + 2], z[4 * j + 3]


def test_warpgroups_on_lines_across_k(rng: np.random.Generator) -> None:
    a, b = draw(rng, K, 64), draw(rng, K, 128)
    found = both(across, "sm_90a", (2, 1), a, b, np.zeros((64, 128), np.float32))
    np.testing.assert_allclose(found, a.astype(np.float64).T @ b.astype(np.float64), atol=1e-4)
