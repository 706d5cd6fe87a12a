"""Kernels that each do one thing a counter should see, and some that the compiler writes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import cuda, float32, float64, int32

import tessera as ts
from tessera import gpu

N = 1 << 14
SIDE = 192
F32 = ts.Array[ts.f32, "n"]


def blocks(n: int) -> Any:
    return ts.cdiv(n, 256)


@ts.kernel(grid=blocks, block=256)
def saxpy(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"], a: ts.f32):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = a * x[i] + y[i]


@ts.kernel(grid=blocks, block=256)
def shifted(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i + 1 < x.size:
        y[i] = x[i + 1]


@ts.kernel(grid=blocks, block=256)
def strided(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = x[(i * 5) % x.size] + x[(i * 33) % x.size]


@ts.kernel(grid=blocks, block=256)
def doubles(x: ts.Array[ts.f64, "n"], y: ts.Array[ts.f64, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = x[i] * x[i] + 1.0


@ts.kernel(grid=blocks, block=256)
def bytes_of(x: ts.Array[ts.u8, "n"], y: ts.Array[ts.u8, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = x[x.size - 1 - i]


@ts.kernel(grid=lambda n: ts.cdiv(n, 1024), block=256, outputs=("y",))
def quads(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = 4 * cuda.grid(1)
    if i + 3 < x.size:
        a, b, c, d = gpu.load_f32x4(gpu.address(x, i))
        gpu.store_f32x4(gpu.address(y, i), (d, c, b, a))


@ts.kernel(grid=lambda n: (ts.cdiv(n, 32), ts.cdiv(n, 8)), block=(32, 8))
def transpose_plain(x: ts.Array[ts.f32, "n", "n"], y: ts.Array[ts.f32, "n", "n"]):
    j, i = cuda.grid(2)
    if i < x.shape[0] and j < x.shape[1]:
        y[j, i] = x[i, j]


@ts.kernel(grid=lambda n: (ts.cdiv(n, 32), ts.cdiv(n, 32)), block=(32, 32))
def transpose_conflicts(x: ts.Array[ts.f32, "n", "n"], y: ts.Array[ts.f32, "n", "n"]):
    tile = cuda.shared.array((32, 32), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = 32 * cuda.blockIdx.x, 32 * cuda.blockIdx.y
    tile[ty, tx] = x[top + ty, left + tx]
    cuda.syncthreads()
    y[left + ty, top + tx] = tile[tx, ty]


@ts.kernel(grid=lambda n: (ts.cdiv(n, 32), ts.cdiv(n, 32)), block=(32, 32))
def transpose_padded(x: ts.Array[ts.f32, "n", "n"], y: ts.Array[ts.f32, "n", "n"]):
    tile = cuda.shared.array((32, 33), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = 32 * cuda.blockIdx.x, 32 * cuda.blockIdx.y
    tile[ty, tx] = x[top + ty, left + tx]
    cuda.syncthreads()
    y[left + ty, top + tx] = tile[tx, ty]


@ts.kernel(grid=blocks, block=256)
def shared_doubles(x: ts.Array[ts.f64, "n"], y: ts.Array[ts.f64, "n"]):
    tile = cuda.shared.array(256, float64)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    tile[t] = x[i]
    cuda.syncthreads()
    y[i] = tile[(t * 3) % 256] + tile[255 - t]


@ts.kernel(grid=lambda n: ts.cdiv(n, 1024), block=256, outputs=("y",))
def shared_quads(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    tile = cuda.shared.array(1280, float32)
    t, i = cuda.threadIdx.x, 4 * cuda.grid(1)
    a, b, c, d = gpu.load_f32x4(gpu.address(x, i))
    gpu.store_shared_f32x4(gpu.shared_address(tile, 4 * t), (a, b, c, d))
    cuda.syncthreads()
    e, f, g, h = gpu.load_shared_f32x4(gpu.shared_address(tile, 4 * ((t * 5) % 256)))
    gpu.store_f32x4(gpu.address(y, i), (e, f, g, h))


@ts.kernel(grid=blocks, block=256)
def histogram_shared(x: ts.Array[ts.i32, "n"], bins: ts.Array[ts.i32, 64]):
    own = cuda.shared.array(64, int32)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    if t < 64:
        own[t] = 0
    cuda.syncthreads()
    if i < x.size:
        cuda.atomic.add(own, x[i], 1)
    cuda.syncthreads()
    if t < 64:
        cuda.atomic.add(bins, t, own[t])


@ts.kernel(grid=blocks, block=256)
def histogram_global(x: ts.Array[ts.i32, "n"], bins: ts.Array[ts.i32, 64]):
    i = cuda.grid(1)
    if i < x.size:
        cuda.atomic.add(bins, x[i], 1)


@ts.kernel(grid=blocks, block=256)
def tickets(x: ts.Array[ts.i32, "n"], order: ts.Array[ts.i32, "n"], next_: ts.Array[ts.i32, 64]):
    i = cuda.grid(1)
    if i < x.size:
        order[i] = cuda.atomic.add(next_, x[i], 1)


@ts.kernel(grid=blocks, block=256)
def shared_sums(x: ts.Array[ts.i32, "n"], bins: ts.Array[ts.i32, 64]):
    own = cuda.shared.array(64, int32)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    if t < 64:
        own[t] = 0
    cuda.syncthreads()
    if i < x.size:
        cuda.atomic.add(own, x[i], x[i] + i)
    cuda.syncthreads()
    if t < 64:
        cuda.atomic.add(bins, t, own[t])


@ts.kernel(grid=blocks, block=256)
def shared_greatest(x: ts.Array[ts.i32, "n"], bins: ts.Array[ts.i32, 64]):
    own = cuda.shared.array(64, int32)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    if t < 64:
        own[t] = 0
    cuda.syncthreads()
    if i < x.size:
        cuda.atomic.max(own, (x[i] * 32) % 64, i)
    cuda.syncthreads()
    if t < 64:
        cuda.atomic.max(bins, t, own[t])


@ts.kernel(grid=blocks, block=256)
def one_place(x: ts.Array[ts.i32, "n"], bins: ts.Array[ts.i32, 64]):
    i = cuda.grid(1)
    if i < x.size:
        cuda.atomic.add(bins, 0, x[i])


@ts.kernel(grid=blocks, block=256)
def float_bins(x: ts.Array[ts.i32, "n"], bins: ts.Array[ts.f32, 64]):
    i = cuda.grid(1)
    if i < x.size:
        cuda.atomic.add(bins, x[i], 0.5)


@ts.kernel(grid=blocks, block=256)
def double_bins(x: ts.Array[ts.i32, "n"], bins: ts.Array[ts.f64, 64]):
    i = cuda.grid(1)
    if i < x.size:
        cuda.atomic.add(bins, x[i], 0.5)


@ts.kernel(grid=blocks, block=256)
def greatest(x: ts.Array[ts.i32, "n"], bins: ts.Array[ts.i32, 64]):
    i = cuda.grid(1)
    if i < x.size:
        cuda.atomic.max(bins, x[i], i)


@ts.kernel(grid=blocks, block=256)
def long_bins(x: ts.Array[ts.i32, "n"], bins: ts.Array[ts.i64, 64]):
    i = cuda.grid(1)
    if i < x.size:
        cuda.atomic.add(bins, x[i], i)


@ts.kernel(grid=blocks, block=256)
def exchanged(x: ts.Array[ts.i32, "n"], bins: ts.Array[ts.i32, 64], seen: ts.Array[ts.i32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        seen[i] = cuda.atomic.exch(bins, x[i], i)


@ts.kernel(grid=blocks, block=256)
def compared(x: ts.Array[ts.i32, "n"], bins: ts.Array[ts.i32, 64], seen: ts.Array[ts.i32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        seen[i] = cuda.atomic.cas(bins, x[i], 0, i)


@ts.kernel(grid=lambda n: ts.cdiv(n, 1024), block=256, outputs=("y",))
def copied_16(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    tile = cuda.shared.array(1024, float32, 16)
    t, i = cuda.threadIdx.x, 4 * cuda.grid(1)
    gpu.cp_async_16(gpu.shared_address(tile, 4 * ((t * 3) % 256)), gpu.address(x, i))
    gpu.cp_async_wait_all()
    cuda.syncthreads()
    gpu.store_f32x4(gpu.address(y, i), gpu.load_shared_f32x4(gpu.shared_address(tile, 4 * t)))


@ts.kernel(grid=blocks, block=256, outputs=("y",))
def copied_4(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    tile = cuda.shared.array(512, float32, 16)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    gpu.cp_async_4(gpu.shared_address(tile, 2 * t), gpu.address(x, x.size - 1 - i))
    gpu.cp_async_wait_all()
    cuda.syncthreads()
    y[i] = tile[2 * t]


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=32, outputs=("y",))
def matrices(x: ts.Array[ts.i32, "n"], y: ts.Array[ts.i32, "n"]):
    tile = cuda.shared.array(512, int32, 16)
    lane, start = cuda.threadIdx.x, 256 * cuda.blockIdx.x
    for k in range(8):
        tile[32 * k + lane] = x[start + 32 * k + lane]
    cuda.syncwarp()
    near = gpu.ldmatrix_x4(gpu.shared_address(tile, 4 * lane))
    far = gpu.ldmatrix_x4(gpu.shared_address(tile, (16 * lane) % 256))
    for k in range(4):
        y[start + 32 * k + lane] = near[k]
        y[start + 128 + 32 * k + lane] = far[k]


@ts.kernel(grid=blocks, block=256)
def local_doubles(x: ts.Array[ts.i32, "n"], y: ts.Array[ts.f64, "n"]):
    kept = cuda.local.array(16, float64)
    i = cuda.grid(1)
    if i < x.size:
        for k in range(16):
            kept[(x[i] + k) % 16] = k * i
        y[i] = kept[x[i] % 16] + kept[i % 16]


@ts.kernel(grid=blocks, block=256)
def divergent(x: ts.Array[ts.i32, "n"], y: ts.Array[ts.i32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        value, steps = x[i] + 2, 0
        while value != 1 and steps < 200:
            value = value // 2 if value % 2 == 0 else 3 * value + 1
            steps += 1
        y[i] = steps


@ts.kernel(grid=blocks, block=256)
def gathered(x: ts.Array[ts.f32, "n"], where: ts.Array[ts.i32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = x[where[i]]


@ts.kernel(grid=blocks, block=256)
def local_arrays(x: ts.Array[ts.i32, "n"], y: ts.Array[ts.i32, "n"]):
    kept = cuda.local.array(16, int32)
    i = cuda.grid(1)
    if i < x.size:
        for k in range(16):
            kept[(x[i] + k) % 16] = k * i
        y[i] = kept[x[i] % 16]


@ts.kernel(grid=blocks, block=256)
def warp_sums(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "cdiv(n, 32)"]):
    i = cuda.grid(1)
    value = x[i] if i < x.size else float32(0)
    step = 16
    while step > 0:
        value += cuda.shfl_down_sync(0xFFFFFFFF, value, step)
        step //= 2
    if cuda.laneid == 0 and i < x.size:
        y[i // 32] = value


@ts.jit
def softmax(x: ts.Tensor[ts.f32, "rows", 512]) -> ts.Tensor:
    return ts.softmax(x, axis=-1)


@ts.jit
def layernorm(x: ts.Tensor[ts.f16, "rows", 512]) -> ts.Tensor:
    return ts.layernorm(x)


@ts.jit
def column_sums(x: ts.Tensor[ts.f32, "rows", 512]) -> ts.Tensor:
    return ts.sum(x, axis=0)


@ts.jit
def chain(x: ts.Tensor[ts.f32, "rows", 512]) -> ts.Tensor:
    return ts.gelu(x * 2.0 + 1.0) * ts.sigmoid(x)


@ts.jit
def product_f32(a: ts.Tensor[ts.f32, "m", 96], b: ts.Tensor[ts.f32, 96, 128]) -> ts.Tensor:
    return ts.relu(ts.matmul(a, b))


@ts.jit
def product_f16(a: ts.Tensor[ts.f16, "m", 128], b: ts.Tensor[ts.f16, 128, 256]) -> ts.Tensor:
    return ts.matmul(a, b)


@ts.jit
def moved(x: ts.Tensor[ts.f32, "rows", 512]) -> ts.Tensor:
    return ts.transpose(x, (1, 0)) + 1.0


@dataclass(frozen=True)
class Case:
    """A kernel or function and what it is called with."""

    source: Any
    inputs: Callable[[np.random.Generator], Mapping[str, Any]]
    specs: tuple[Any, ...] = field(default=())


def _floats(*names: str, shape: tuple[int, ...] = (N,), dtype: Any = np.float32) -> Any:
    return lambda rng: {name: rng.standard_normal(shape).astype(dtype) for name in names}


def _integers(high: int, *names: str, **also: tuple[int, ...]) -> Any:
    def draw(rng: np.random.Generator) -> Mapping[str, Any]:
        found = {name: rng.integers(0, high, N, dtype=np.int32) for name in names}
        return found | {name: np.zeros(shape, np.int32) for name, shape in also.items()}

    return draw


def _bins(dtype: Any) -> Any:
    return lambda rng: {**_integers(64, "x")(rng), "bins": np.zeros(64, dtype)}


def _gathered(rng: np.random.Generator) -> Mapping[str, Any]:
    return dict(_floats("x", "y")(rng)) | {"where": rng.permutation(N).astype(np.int32)}


SQUARE = {"shape": (SIDE, SIDE)}
ROWS = {"shape": (200, 512)}
CASES: dict[str, Case] = {
    "saxpy": Case(saxpy, lambda rng: {**_floats("x", "y")(rng), "a": np.float32(1.5)}),
    "shifted": Case(shifted, _floats("x", "y")),
    "strided": Case(strided, _floats("x", "y")),
    "doubles": Case(doubles, _floats("x", "y", dtype=np.float64)),
    "bytes_of": Case(bytes_of, lambda rng: {n: rng.integers(0, 255, N, dtype=np.uint8) for n in "xy"}),
    "quads": Case(quads, _floats("x", "y")),
    "transpose_plain": Case(transpose_plain, _floats("x", "y", **SQUARE)),
    "transpose_conflicts": Case(transpose_conflicts, _floats("x", "y", **SQUARE)),
    "transpose_padded": Case(transpose_padded, _floats("x", "y", **SQUARE)),
    "shared_doubles": Case(shared_doubles, _floats("x", "y", dtype=np.float64)),
    "shared_quads": Case(shared_quads, _floats("x", "y")),
    "histogram_shared": Case(histogram_shared, _integers(64, "x", bins=(64,))),
    "histogram_global": Case(histogram_global, _integers(64, "x", bins=(64,))),
    "tickets": Case(tickets, _integers(64, "x", order=(N,), next_=(64,))),
    "shared_sums": Case(shared_sums, _integers(64, "x", bins=(64,))),
    "shared_greatest": Case(shared_greatest, _integers(64, "x", bins=(64,))),
    "one_place": Case(one_place, _integers(64, "x", bins=(64,))),
    "float_bins": Case(float_bins, _bins(np.float32)),
    "double_bins": Case(double_bins, _bins(np.float64)),
    "greatest": Case(greatest, _integers(64, "x", bins=(64,))),
    "long_bins": Case(long_bins, _bins(np.int64)),
    "exchanged": Case(exchanged, _integers(64, "x", bins=(64,), seen=(N,))),
    "compared": Case(compared, _integers(64, "x", bins=(64,), seen=(N,))),
    "copied_16": Case(copied_16, _floats("x", "y")),
    "copied_4": Case(copied_4, _floats("x", "y")),
    "matrices": Case(
        matrices, lambda rng: {name: rng.integers(0, 1 << 30, N, dtype=np.int32) for name in "xy"}
    ),
    "local_doubles": Case(
        local_doubles, lambda rng: {**_integers(16, "x")(rng), "y": np.zeros(N, np.float64)}
    ),
    "divergent": Case(divergent, _integers(1000, "x", "y")),
    "gathered": Case(gathered, _gathered),
    "local_arrays": Case(local_arrays, _integers(16, "x", "y")),
    "warp_sums": Case(warp_sums, lambda rng: {**_floats("x")(rng), "y": np.zeros(N // 32, np.float32)}),
    "softmax": Case(softmax, _floats("x", **ROWS)),
    "layernorm": Case(layernorm, _floats("x", dtype=np.float16, **ROWS)),
    "column_sums": Case(column_sums, _floats("x", **ROWS)),
    "chain": Case(chain, _floats("x", **ROWS)),
    "product_f32": Case(
        product_f32,
        lambda rng: {**_floats("a", shape=(200, 96))(rng), **_floats("b", shape=(96, 128))(rng)},
    ),
    "product_f16": Case(
        product_f16,
        lambda rng: {
            **_floats("a", shape=(256, 128), dtype=np.float16)(rng),
            **_floats("b", shape=(128, 256), dtype=np.float16)(rng),
        },
    ),
    "moved": Case(moved, _floats("x", **ROWS)),
}
