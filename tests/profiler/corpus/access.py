"""Accesses to global memory: order, alignment, width."""

from numba import cuda, float32

import tessera as ts
from tessera import gpu

SIZES = {
    "columns": {"n": 256}, "columns_good": {"n": 256}, "scatter_columns": {"n": 512},
    "scatter_columns_good": {"n": 512}, "strided": {"n": 32768}, "strided_good": {"n": 32768},
    "shifted": {"n": 65536}, "shifted_good": {"n": 65536}, "shifted_out": {"n": 65536},
    "shifted_out_good": {"n": 65536}, "pieces": {"n": 1 << 20}, "pieces_good": {"n": 1 << 20},
    "spread": {"n": 32768}, "spread_good": {"n": 32768}, "row_sums": {"n": 32768},
    "row_sums_good": {"n": 32768}, "quads": {"n": 1 << 18},
    "quads_good": {"n": 1 << 18}, "bytewise": {"n": 1 << 18}, "bytewise_good": {"n": 1 << 16},
    "gather": {"n": 65536}, "gather_good": {"n": 65536}, "differences_good": {"n": 65536},
    "sides": {"n": 65536}, "sides_good": {"n": 65536},
}  # fmt: skip


@ts.kernel(grid=lambda n: (ts.cdiv(n, 32), ts.cdiv(n, 8)), block=(32, 8))
def columns(x: ts.Array[ts.f32, "n", "n"], y: ts.Array[ts.f32, "n", "n"]):
    i, j = cuda.grid(2)
    if i < x.shape[0] and j < x.shape[1]:
        y[j, i] = x[i, j] + float32(1)  # fault: uncoalesced-loads


@ts.kernel(grid=lambda n: (ts.cdiv(n, 32), ts.cdiv(n, 8)), block=(32, 8))
def columns_good(x: ts.Array[ts.f32, "n", "n"], y: ts.Array[ts.f32, "n", "n"]):
    j, i = cuda.grid(2)
    if i < x.shape[0] and j < x.shape[1]:
        y[i, j] = x[i, j] + float32(1)


@ts.kernel(grid=lambda n: (ts.cdiv(n, 32), ts.cdiv(n, 8)), block=(32, 8))
def scatter_columns(x: ts.Array[ts.f32, "n", "n"], y: ts.Array[ts.f32, "n", "n"]):
    j, i = cuda.grid(2)
    if i < x.shape[0] and j < x.shape[1]:
        y[j, i] = x[i, j]  # fault: uncoalesced-stores


@ts.kernel(grid=lambda n: (ts.cdiv(n, 32), ts.cdiv(n, 32)), block=(32, 8))
def scatter_columns_good(x: ts.Array[ts.f32, "n", "n"], y: ts.Array[ts.f32, "n", "n"]):
    tile = cuda.shared.array((32, 33), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * 32, cuda.blockIdx.y * 32
    for row in range(ty, 32, 8):
        if top + row < x.shape[0] and left + tx < x.shape[1]:
            tile[row, tx] = x[top + row, left + tx]
    cuda.syncthreads()
    for row in range(ty, 32, 8):
        if left + row < x.shape[1] and top + tx < x.shape[0]:
            y[left + row, top + tx] = tile[tx, row]


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def strided(x: ts.Array[ts.f32, "8 * n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < y.size:
        y[i] = x[8 * i]  # fault: uncoalesced-loads


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def strided_good(x: ts.Array[ts.f32, 8, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < y.size:
        y[i] = x[0, i]


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def gather(x: ts.Array[ts.f32, "n"], keys: ts.Array[ts.i32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < y.size:
        y[i] = x[keys[i] * 40503 % x.size]  # fault: uncoalesced-loads


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def gather_good(x: ts.Array[ts.f32, "n"], keys: ts.Array[ts.i32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < y.size:
        y[i] = x[i] * float32(keys[i])


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def shifted(x: ts.Array[ts.f32, "n + 1"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < y.size:
        y[i] = x[i + 1]  # fault: misaligned-loads


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def shifted_good(x: ts.Array[ts.f32, "n + 8"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < y.size:
        y[i] = x[i + 8]


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def shifted_out(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n + 3"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i + 3] = x[i]  # fault: misaligned-stores


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def shifted_out_good(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if 0 < i < x.size - 1:
        # A stencil reads neighbours that begin inside a sector: no fault, as other threads need them too.
        y[i] = x[i - 1] + x[i + 1]


@ts.kernel(grid=lambda n: ts.cdiv(n, 64 * 128), block=128)
def pieces(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "cdiv(n, 64)"]):
    i = cuda.grid(1)
    total = float32(0)
    if i < y.size:
        for k in range(64):
            total += x[64 * i + k]  # fault: thread-runs-loads
        y[i] = total


@ts.kernel(grid=lambda n: ts.cdiv(n, 64 * 128), block=128)
def pieces_good(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "cdiv(n, 64)"]):
    i = cuda.grid(1)
    total = float32(0)
    if i < y.size:
        for k in range(i, x.size, cuda.gridsize(1)):
            total += x[k]
        y[i] = total


@ts.kernel(grid=lambda n: ts.cdiv(n, 128), block=128)
def row_sums(x: ts.Array[ts.f32, "n", 32], y: ts.Array[ts.f32, "n"]):
    row = cuda.grid(1)
    if row < x.shape[0]:
        total = float32(0)
        for k in range(32):
            total += x[row, k]  # fault: thread-runs-loads
        y[row] = total


@ts.kernel(grid=lambda n: ts.cdiv(n, 128), block=128)
def row_sums_good(x: ts.Array[ts.f32, 32, "n"], y: ts.Array[ts.f32, "n"]):
    column = cuda.grid(1)
    if column < x.shape[1]:
        total = float32(0)
        for k in range(32):
            total += x[k, column]
        y[column] = total


@ts.kernel(grid=lambda n: ts.cdiv(n, 128), block=128)
def spread(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n", 32]):
    row = cuda.grid(1)
    if row < x.size:
        value = x[row]
        for k in range(32):
            y[row, k] = value * float32(k)  # fault: thread-runs-stores


@ts.kernel(grid=lambda n: ts.cdiv(n, 4), block=(32, 4))
def spread_good(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n", 32]):
    k, row = cuda.grid(2)
    if row < x.size:
        y[row, k] = x[row] * float32(k)


@ts.kernel(grid=lambda n: ts.cdiv(n, 1024), block=256)
def quads(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = 4 * cuda.grid(1)
    if i + 3 < x.size:
        for k in range(4):
            y[i + k] = x[i + k] + float32(1)  # fault: scalar-loads scalar-stores


@ts.kernel(grid=lambda n: ts.cdiv(n, 1024), block=256, outputs=("y",))
def quads_good(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = 4 * cuda.grid(1)
    if i + 3 < x.size:
        a, b, c, d = gpu.load_f32x4(gpu.address(x, i))
        one = float32(1)
        gpu.store_f32x4(gpu.address(y, i), (a + one, b + one, c + one, d + one))


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def bytewise(x: ts.Array[ts.u8, "n"], y: ts.Array[ts.u8, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = x[i] ^ 255  # fault: narrow-loads narrow-stores


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def bytewise_good(x: ts.Array[ts.u32, "n"], y: ts.Array[ts.u32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = x[i] ^ 0xFFFFFFFF


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def differences_good(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    # Two neighbours, of which the next thread needs one too: no vector.
    i = cuda.grid(1)
    if i < x.size - 1:
        y[i] = x[i + 1] - x[i]


@ts.kernel(grid=lambda n: ts.cdiv(n, 128), block=128)
def sides(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):  # fault: merged-accesses
    # LLVM loads x[j] once, in front of both sides, and gives the load no line.
    i = cuda.grid(1)
    if i < x.size:
        j = (i * 32) & (x.size - 1)
        if i & 1024:
            y[i] = x[j] * float32(2)
        else:
            y[i] = x[j] - float32(3)


@ts.kernel(grid=lambda n: ts.cdiv(n, 128), block=128)
def sides_good(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        j = (i + 32) & (x.size - 1)
        if i & 1024:
            y[i] = x[j] * float32(2)
        else:
            y[i] = x[j] - float32(3)
