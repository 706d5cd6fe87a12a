"""Shared memory, barriers, branches, launches."""

from numba import cuda, float32, int32

import tessera as ts

SIZES = {
    "turned": {"n": 512}, "turned_good": {"n": 512}, "turned_in": {"n": 512}, "turned_in_good": {"n": 512},
    "counted": {"n": 65536}, "counted_good": {"n": 65536}, "waiting": {"n": 65536},
    "waiting_good": {"n": 65536}, "hesitating": {"n": 65536}, "hesitating_good": {"n": 65536},
    "tree": {"n": 65536}, "tree_good": {"n": 65536}, "idle_bytes": {"n": 65536},
    "idle_bytes_good": {"n": 65536}, "odd_even": {"n": 65536}, "odd_even_good": {"n": 65536},
    "half_warps": {"n": 65536}, "half_warps_good": {"n": 65536}, "one_block": {"n": 1 << 19},
    "one_block_good": {"n": 1 << 19}, "last_wave": {"n": 300000}, "last_wave_good": {"n": 300000},
    "crowded_out": {"n": 65536}, "crowded_out_good": {"n": 65536},
}  # fmt: skip


@ts.kernel(grid=lambda n: (ts.cdiv(n, 32), ts.cdiv(n, 32)), block=(32, 8))
def turned(x: ts.Array[ts.f32, "n", "n"], y: ts.Array[ts.f32, "n", "n"]):
    tile = cuda.shared.array((32, 32), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * 32, cuda.blockIdx.y * 32
    for row in range(ty, 32, 8):
        tile[row, tx] = x[top + row, left + tx]
    cuda.syncthreads()
    for row in range(ty, 32, 8):
        y[left + row, top + tx] = tile[tx, row]  # fault: bank-conflict-loads


@ts.kernel(grid=lambda n: (ts.cdiv(n, 32), ts.cdiv(n, 32)), block=(32, 8))
def turned_good(x: ts.Array[ts.f32, "n", "n"], y: ts.Array[ts.f32, "n", "n"]):
    tile = cuda.shared.array((32, 33), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * 32, cuda.blockIdx.y * 32
    for row in range(ty, 32, 8):
        tile[row, tx] = x[top + row, left + tx]
    cuda.syncthreads()
    for row in range(ty, 32, 8):
        y[left + row, top + tx] = tile[tx, row]


@ts.kernel(grid=lambda n: (ts.cdiv(n, 32), ts.cdiv(n, 32)), block=(32, 8))
def turned_in(x: ts.Array[ts.f32, "n", "n"], y: ts.Array[ts.f32, "n", "n"]):
    tile = cuda.shared.array((32, 32), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * 32, cuda.blockIdx.y * 32
    for row in range(ty, 32, 8):
        tile[tx, row] = x[top + row, left + tx]  # fault: bank-conflict-stores
    cuda.syncthreads()
    for row in range(ty, 32, 8):
        y[left + row, top + tx] = tile[row, tx]


@ts.kernel(grid=lambda n: (ts.cdiv(n, 32), ts.cdiv(n, 32)), block=(32, 8))
def turned_in_good(x: ts.Array[ts.f32, "n", "n"], y: ts.Array[ts.f32, "n", "n"]):
    # Columns are swizzled instead of padded.
    tile = cuda.shared.array((32, 32), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * 32, cuda.blockIdx.y * 32
    for row in range(ty, 32, 8):
        tile[tx, row ^ tx] = x[top + row, left + tx]
    cuda.syncthreads()
    for row in range(ty, 32, 8):
        y[left + row, top + tx] = tile[row, tx ^ row]


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def counted(x: ts.Array[ts.f32, "n"], counts: ts.Array[ts.i32, "cdiv(n, 256)"]):
    number = cuda.shared.array(1, int32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    if t == 0:
        number[0] = 0
    cuda.syncthreads()
    if i < x.size:
        cuda.atomic.add(number, 0, int32(x[i] * float32(8)))  # fault: shared-contention
    cuda.syncthreads()
    if t == 0:
        counts[cuda.blockIdx.x] = number[0]


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def counted_good(x: ts.Array[ts.f32, "n"], counts: ts.Array[ts.i32, "cdiv(n, 256)"]):
    number = cuda.shared.array(1, int32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    if t == 0:
        number[0] = 0
    cuda.syncthreads()
    value = int32(0)
    if i < x.size:
        value = int32(x[i] * float32(8))
    for step in (16, 8, 4, 2, 1):
        value += cuda.shfl_down_sync(0xFFFFFFFF, value, step)
    if t % 32 == 0:
        cuda.atomic.add(number, 0, value)
    cuda.syncthreads()
    if t == 0:
        counts[cuda.blockIdx.x] = number[0]


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def waiting(x: ts.Array[ts.f32, 16, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    total = float32(0)
    for k in range(x.shape[0]):
        total += x[k, i] * x[k, i] + float32(k)
        cuda.syncthreads()  # fault: needless-barriers
    y[i] = total


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def waiting_good(x: ts.Array[ts.f32, 16, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    total = float32(0)
    for k in range(x.shape[0]):
        total += x[k, i] * x[k, i] + float32(k)
    y[i] = total


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def hesitating(x: ts.Array[ts.f32, 16, "n"], y: ts.Array[ts.f32, "n"]):  # fault: many-barriers
    tile = cuda.shared.array(256, float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    total = float32(0)
    for k in range(x.shape[0]):
        tile[t] = x[k, i] + float32(1)
        cuda.syncthreads()
        total += tile[255 - t]
        cuda.syncthreads()
    y[i] = total


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def hesitating_good(x: ts.Array[ts.f32, 16, "n"], y: ts.Array[ts.f32, "n"]):
    tile = cuda.shared.array((16, 256), float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    total = float32(0)
    for k in range(x.shape[0]):
        tile[k, t] = x[k, i] + float32(1)
    cuda.syncthreads()
    for k in range(x.shape[0]):
        total += tile[k, 255 - t]
    y[i] = total


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def tree(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "cdiv(n, 256)"]):
    tile = cuda.shared.array(256, float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    tile[t] = x[i]
    cuda.syncthreads()
    step = 128
    while step > 0:
        if t < step:
            tile[t] += tile[t + step]  # fault: tree-reduction
        cuda.syncthreads()
        step //= 2
    if t == 0:
        y[cuda.blockIdx.x] = tile[0]


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def tree_good(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "cdiv(n, 256)"]):
    tile = cuda.shared.array(8, float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    value = x[i]
    for step in (16, 8, 4, 2, 1):
        value += cuda.shfl_down_sync(0xFFFFFFFF, value, step)
    if t % 32 == 0:
        tile[t // 32] = value
    cuda.syncthreads()
    if t < 32:
        value = tile[t] if t < 8 else float32(0)
        for step in (4, 2, 1):
            value += cuda.shfl_down_sync(0xFFFFFFFF, value, step)
        if t == 0:
            y[cuda.blockIdx.x] = value


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256, shared_bytes=16384)
def idle_bytes(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):  # fault: unused-shared-memory
    tile = cuda.shared.array(0, float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    tile[t] = x[i]
    cuda.syncthreads()
    y[i] = tile[255 - t]


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256, shared_bytes=1024)
def idle_bytes_good(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    tile = cuda.shared.array(0, float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    tile[t] = x[i]
    cuda.syncthreads()
    y[i] = tile[255 - t]


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def odd_even(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    value = x[i]
    if i % 2 == 0:  # fault: divergence
        for k in range(x.size - 65520):
            value = value * value + float32(k)
    else:
        for k in range(x.size - 65520):
            value = value * float32(3) - float32(k)
    y[i] = value


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def odd_even_good(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    value = x[i]
    if i // 32 % 2 == 0:
        for k in range(x.size - 65520):
            value = value * value + float32(k)
    else:
        for k in range(x.size - 65520):
            value = value * float32(3) - float32(k)
    y[i] = value


@ts.kernel(grid=lambda n: ts.cdiv(n, 48), block=48)
def half_warps(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):  # fault: partial-warps
    i = cuda.grid(1)
    if i < x.size:
        y[i] = x[i] + float32(1)


@ts.kernel(grid=lambda n: ts.cdiv(n, 64), block=64)
def half_warps_good(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = x[i] + float32(1)


@ts.kernel(grid=4, block=256)
def one_block(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):  # fault: few-blocks
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = x[i] * x[i] + float32(1)


@ts.kernel(grid=lambda n: ts.cdiv(n, 512), block=256)
def one_block_good(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = x[i] * x[i] + float32(1)


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def last_wave(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):  # fault: tail
    i = cuda.grid(1)
    if i < x.size:
        value = x[i]
        for k in range(512):
            value = value * value + float32(k)
        y[i] = value


@ts.kernel(grid=432, block=256)
def last_wave_good(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        value = x[i]
        for k in range(512):
            value = value * value + float32(k)
        y[i] = value


@ts.kernel(grid=lambda n: ts.cdiv(n, 128), block=128)
def crowded_out(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):  # fault: low-occupancy
    tile = cuda.shared.array((88, 128), float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    value = x[i]
    for k in range(88):
        tile[k, t] = value + float32(k)
    cuda.syncthreads()
    total = float32(0)
    for k in range(88):
        total += tile[k, 127 - t]
    y[i] = total


@ts.kernel(grid=lambda n: ts.cdiv(n, 128), block=128)
def crowded_out_good(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    tile = cuda.shared.array((8, 128), float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    value, total = x[i], float32(0)
    for start in range(0, 88, 8):
        for k in range(8):
            tile[k, t] = value + float32(start + k)
        cuda.syncthreads()
        for k in range(8):
            total += tile[k, 127 - t]
        cuda.syncthreads()
    y[i] = total
