"""Global memory loaded, stored or updated more often than need be."""

from numba import cuda, float32, int32, uint32

import tessera as ts

SIZES = {
    "invariant": {"n": 65536}, "invariant_good": {"n": 65536}, "summed_in_memory": {"n": 65536},
    "summed_in_memory_good": {"n": 65536}, "every_step": {"n": 65536}, "every_step_good": {"n": 65536},
    "any_negative": {"n": 65536}, "any_negative_good": {"n": 65536}, "product": {"n": 256},
    "product_good": {"n": 256}, "total": {"n": 65536}, "total_good": {"n": 65536},
    "histogram": {"n": 1 << 20}, "histogram_good": {"n": 1 << 20},
}  # fmt: skip


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def invariant(x: ts.Array[ts.f32, "n"], w: ts.Array[ts.f32, 32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        for k in range(32):
            w[k, i] = x[i] * float32(k)  # fault: invariant-loads
        y[i] = float32(0)


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def invariant_good(x: ts.Array[ts.f32, "n"], w: ts.Array[ts.f32, 32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        value = x[i]
        for k in range(32):
            w[k, i] = value * float32(k)
        y[i] = float32(0)


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def summed_in_memory(x: ts.Array[ts.f32, 16, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < y.size:
        for k in range(x.shape[0]):
            # What was summed up so far may lie in x: the compiler has to load it again.
            y[i] += x[k, i]  # fault: reloaded-stores
            x[k, i] = float32(0)


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def summed_in_memory_good(x: ts.Array[ts.f32, 16, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < y.size:
        total = y[i]
        for k in range(x.shape[0]):
            total += x[k, i]
            x[k, i] = float32(0)
        y[i] = total


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def every_step(x: ts.Array[ts.f32, 16, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < y.size:
        total = float32(0)
        for k in range(x.shape[0]):
            total += x[k, i]
            y[i] = total  # fault: overwritten-stores


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def every_step_good(x: ts.Array[ts.f32, 16, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < y.size:
        total = float32(0)
        for k in range(x.shape[0]):
            total += x[k, i]
        y[i] = total


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def any_negative(x: ts.Array[ts.f32, "n"], found: ts.Array[ts.i32, "cdiv(n, 256)"]):
    i = cuda.grid(1)
    if i < x.size:
        found[cuda.blockIdx.x] = int32(cuda.blockDim.x)  # fault: same-place-stores


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def any_negative_good(x: ts.Array[ts.f32, "n"], found: ts.Array[ts.i32, "cdiv(n, 256)"]):
    i = cuda.grid(1)
    some = cuda.syncthreads_or(int32(i < x.size and x[i] < float32(0)))
    if cuda.threadIdx.x == 0:
        found[cuda.blockIdx.x] = some


@ts.kernel(grid=lambda n: (ts.cdiv(n, 16), ts.cdiv(n, 16)), block=(16, 16))
def product(a: ts.Array[ts.f32, "n", "n"], b: ts.Array[ts.f32, "n", "n"], c: ts.Array[ts.f32, "n", "n"]):
    j, i = cuda.grid(2)
    if i < c.shape[0] and j < c.shape[1]:
        total = float32(0)
        for k in range(a.shape[1]):
            total += a[i, k] * b[k, j]  # fault: block-rereads
        c[i, j] = total


@ts.kernel(grid=lambda n: (ts.cdiv(n, 16), ts.cdiv(n, 16)), block=(16, 16))
def product_good(a: ts.Array[ts.f32, "n", "n"], b: ts.Array[ts.f32, "n", "n"], c: ts.Array[ts.f32, "n", "n"]):
    left = cuda.shared.array((16, 16), float32)
    right = cuda.shared.array((16, 16), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    j, i = cuda.grid(2)
    total = float32(0)
    ahead_a, ahead_b = a[i, tx], b[ty, j]
    for start in range(0, a.shape[1], 16):
        left[ty, tx], right[ty, tx] = ahead_a, ahead_b
        cuda.syncthreads()
        if start + 16 < a.shape[1]:
            ahead_a, ahead_b = a[i, start + 16 + tx], b[start + 16 + ty, j]
        for k in range(16):
            total += left[ty, k] * right[k, tx]
        cuda.syncthreads()
    c[i, j] = total


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def total(x: ts.Array[ts.i32, "n"], y: ts.Array[ts.i32, 1]):
    i = cuda.grid(1)
    if i < x.size:
        cuda.atomic.add(y, 0, x[i] * i)  # fault: contended-atomics


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def total_good(x: ts.Array[ts.i32, "n"], y: ts.Array[ts.i32, 1]):
    i = cuda.grid(1)
    value = int32(0)
    if i < x.size:
        value = x[i] * int32(i)
    for step in (16, 8, 4, 2, 1):
        value += cuda.shfl_down_sync(0xFFFFFFFF, value, step)
    if i % 32 == 0:
        cuda.atomic.add(y, 0, value)


@ts.kernel(grid=lambda n: ts.cdiv(n, 256 * 32), block=256)
def histogram(x: ts.Array[ts.u32, "n"], counts: ts.Array[ts.u32, 256]):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        key = (x[i] * uint32(2654435761) + uint32(i) * uint32(40503)) >> uint32(8) & uint32(255)
        cuda.atomic.add(counts, key, uint32(1))  # fault: global-atomics


@ts.kernel(grid=lambda n: ts.cdiv(n, 256 * 32), block=256)
def histogram_good(x: ts.Array[ts.u32, "n"], counts: ts.Array[ts.u32, 256]):
    own = cuda.shared.array(256, uint32)
    t = cuda.threadIdx.x
    own[t] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        key = (x[i] * uint32(2654435761) + uint32(i) * uint32(40503)) >> uint32(8) & uint32(255)
        cuda.atomic.add(own, key, uint32(1))
    cuda.syncthreads()
    cuda.atomic.add(counts, t, own[t])
