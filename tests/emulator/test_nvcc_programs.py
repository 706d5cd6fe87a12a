"""CUDA C++ programs, compiled to PTX by nvcc, run on the lockstep interpreter and compared with NumPy. Those
with matrices run on the engine as well.

The programs and their PTX lie in `ptx/`; `ptx/compile.py` writes the latter.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tessera.emulator import Emulator
from tessera.emulator.lockstep import launch

Array = np.ndarray[Any, Any]
FOLDER = Path(__file__).parent / "ptx"
EITHER = pytest.mark.parametrize(
    "launcher", [launch, Emulator(memory_bytes=1 << 24).launch], ids=["interpreter", "engine"]
)


def run(
    name: str,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    *args: Any,
    entry: str | None = None,
    shared: int = 0,
    output: list[str] | None = None,
) -> None:
    launch((FOLDER / f"{name}.ptx").read_text(), entry or name, grid, block, args, shared, output=output)


def run_on(launcher: Any, name: str, grid: tuple[int, ...], *args: Any, entry: str) -> None:
    """One warp per block, on either implementation."""
    launcher((FOLDER / f"{name}.ptx").read_text(), entry, grid, (32,), args)


def test_reduction_sums_all_elements(rng: np.random.Generator) -> None:
    x = rng.standard_normal(1000).astype(np.float32)
    total = np.zeros(1, np.float32)
    run("reduce", (3,), (128,), x, total, np.int32(x.size))
    # 1000 additions in single precision, of terms of size 1.
    np.testing.assert_allclose(total[0], x.astype(np.float64).sum(), atol=1e-4)


@pytest.mark.parametrize("n", [64, 51])
def test_scan_gives_prefix_sums(n: int, rng: np.random.Generator) -> None:
    x = rng.integers(-100, 100, n, np.int32)
    y = np.zeros(n, np.int32)
    run("scan", (1,), (64,), x, y, np.int32(n), shared=64 * 4)
    np.testing.assert_array_equal(y, np.cumsum(x))


def test_tiled_matmul_with_ragged_edges(rng: np.random.Generator) -> None:
    m, n, k = 20, 18, 33
    a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)
    c = np.zeros((m, n), np.float32)
    run("matmul", (2, 2), (16, 16), a, b, c, np.int32(m), np.int32(n), np.int32(k))
    np.testing.assert_allclose(c, a.astype(np.float64) @ b, atol=1e-4)


def test_histogram_counts_every_byte(rng: np.random.Generator) -> None:
    data = rng.integers(0, 256, 3000, np.uint8)
    bins = np.zeros(256, np.uint32)
    run("histogram", (2,), (96,), data, bins, np.int32(data.size))
    np.testing.assert_array_equal(bins, np.bincount(data, minlength=256))


def test_stencil_moves_heat_and_keeps_the_border(rng: np.random.Generator) -> None:
    x = rng.standard_normal((11, 19))
    y = np.zeros_like(x)
    run("stencil", (3, 2), (8, 8), x, y, np.int32(19), np.int32(11), np.float64(0.1))
    expected = x.copy()
    around = x[1:-1, :-2] + x[1:-1, 2:] + x[:-2, 1:-1] + x[2:, 1:-1] - 4 * x[1:-1, 1:-1]
    expected[1:-1, 1:-1] += 0.1 * around
    np.testing.assert_allclose(y, expected, atol=1e-14)


@pytest.mark.parametrize("n", [128, 100])
def test_bitonic_sort_sorts(n: int, rng: np.random.Generator) -> None:
    keys = rng.integers(-1000, 1000, n, np.int32)
    expected = np.sort(keys)
    run("bitonic", (1,), (128,), keys, np.int32(n), shared=128 * 4)
    np.testing.assert_array_equal(keys, expected)


def test_transpose_through_a_tile(rng: np.random.Generator) -> None:
    x = rng.standard_normal((64, 32)).astype(np.float32)
    y = np.zeros((32, 64), np.float32)
    run("transpose", (1, 2), (8, 32), x, y, np.int32(32), np.int32(64))
    np.testing.assert_array_equal(y, x.T)


def test_warp_aggregated_atomics_keep_every_chosen_value(rng: np.random.Generator) -> None:
    x = rng.integers(0, 1000, 150, np.int32)
    kept, count = np.zeros(150, np.int32), np.zeros(1, np.int32)
    run("aggregate", (3,), (64,), x, kept, count, np.int32(x.size))
    expected = x[x % 3 == 0]
    assert count[0] == expected.size
    np.testing.assert_array_equal(np.sort(kept[: count[0]]), np.sort(expected))


def test_game_of_life_on_a_torus(rng: np.random.Generator) -> None:
    cells = rng.integers(0, 2, (16, 16), np.uint8)
    board = cells.copy()
    run("life", (1,), (16, 16), cells, np.int32(5))
    for _ in range(5):
        around = sum(np.roll(board, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)) - board
        board = ((around == 3) | ((around == 2) & (board == 1))).astype(np.uint8)
    np.testing.assert_array_equal(cells, board)


def test_compaction_keeps_the_order(rng: np.random.Generator) -> None:
    x = rng.integers(-5, 5, 110, np.int32)
    y, count = np.zeros(110, np.int32), np.zeros(1, np.int32)
    run("compact", (1,), (128,), x, y, count, np.int32(x.size))
    np.testing.assert_array_equal(y[: count[0]], x[x > 0])


def test_mandelbrot_counts_steps_exactly() -> None:
    width, height, limit = 24, 16, 30
    steps = np.zeros((height, width), np.uint16)
    run("mandelbrot", (3, 2), (8, 8), steps, np.int32(width), np.int32(height), np.int32(limit))
    f = np.float32
    for y in range(height):
        for x in range(width):
            cx = f(f(f(3) * f(x)) / f(width)) - f(2.25)
            cy = f(f(f(2.5) * f(y)) / f(height)) - f(1.25)
            zx = zy = f(0)
            n = 0
            while n < limit and zx * zx + zy * zy <= 4:
                # The product of two floats and one more float fit a double well enough to be rounded once.
                zx, zy = f(f(zx * zx - zy * zy) + cx), f(2.0 * float(zx) * float(zy) + float(cy))
                n += 1
            assert steps[y, x] == n, (x, y)


@EITHER
def test_wmma_matmul_in_half_precision(launcher: Any, rng: np.random.Generator) -> None:
    m, n, k = 32, 16, 48
    a, b = rng.standard_normal((m, k)).astype(np.float16), rng.standard_normal((k, n)).astype(np.float16)
    c = np.zeros((m, n), np.float32)
    run_on(
        launcher,
        "wmma",
        (1, 2),
        a,
        np.ascontiguousarray(b.T),
        c,
        np.int32(n),
        np.int32(k),
        entry="wmma_matmul",
    )
    np.testing.assert_allclose(c, 0.5 * (a.astype(np.float64) @ b.astype(np.float64)), atol=1e-5)


@EITHER
def test_ldmatrix_and_mma_give_the_matrix_product(launcher: Any, rng: np.random.Generator) -> None:
    a, b = (rng.integers(-8, 8, shape).astype(np.float32) for shape in ((16, 16), (16, 8)))
    c = np.zeros((16, 8), np.float32)
    halves = [(x.view(np.uint32) >> 16).astype(np.uint16) for x in (a, b)]
    run_on(launcher, "ldmatrix", (1,), *halves, c, entry="ldmatrix_matmul")
    np.testing.assert_array_equal(c, a @ b)


def test_half2_axpy_rounds_once(rng: np.random.Generator) -> None:
    x, y = (rng.standard_normal(90).astype(np.float16) for _ in range(2))
    a = np.float16(1.25)
    expected = np.maximum((float(a) * x.astype(np.float64) + y).astype(np.float16), np.float16(0))
    run("half2_axpy", (2,), (32,), a, x, y, np.int32(45))
    np.testing.assert_array_equal(y, expected)


def test_printf_formats_like_c() -> None:
    x = np.array([1.5, -2.25, 1e6])
    output: list[str] = []
    run("print", (1,), (32,), x, np.int32(3), output=output)
    assert output == [
        f"thread {i}: {v:8.3f} {-5000000000 * i} 0x{i * 255:08x} {'abc'[i]} {i}%\n" for i, v in enumerate(x)
    ]


def _reverse(value: int) -> int:
    return int(f"{value & 0xFFFFFFFF:032b}"[::-1], 2)


def test_jump_table_and_calls_through_pointers(rng: np.random.Generator) -> None:
    n = 90
    codes, x = rng.integers(0, 10, n, np.int32), rng.integers(-(2**31), 2**31, n).astype(np.int32)
    y = np.zeros(n, np.int32)
    run("jump_table", (3,), (32,), codes, x, y, np.int32(n))
    for i in range(n):
        v = int(x[i])
        cases = [
            v + 7, v * 3 - 1, v ^ 0x55, abs(v), 32 - (v & 0xFFFFFFFF).bit_length(), _reverse(v),
            int(np.trunc(v / 7)), int(np.fmod(v, 11)),
        ]  # fmt: skip
        v = int(np.array(cases[codes[i]] if codes[i] < 8 else -1, np.int64).astype(np.int32))
        expected = (2 * v, v * v, -v)[i % 3]
        assert y[i] == np.array(expected & 0xFFFFFFFF, np.uint32).view(np.int32), (codes[i], x[i])


def test_structs_go_by_value() -> None:
    box_type = np.dtype([("low", "f4", 4), ("high", "f4", 4), ("hits", "i4")])
    box = np.zeros((), box_type)
    box["low"], box["high"], box["hits"] = [-1, -0.5, 0, 0.5], [1, 0.75, 0.5, 1.5], 5
    points = np.linspace(-1.5, 1.75, 40).astype(np.float32)
    inside = np.zeros(40, np.int32)
    pairs = np.zeros(40, np.dtype([("a", "f8"), ("b", "i2")], align=True))
    run("structs", (2,), (32,), box[()], points, inside, pairs, np.int32(1), np.int32(40))
    i = np.arange(40)
    k, by = (1 + i) & 3, 0.25 * (i % 3)
    low, high = box["low"][k], box["high"][k]
    within = (points >= low - by) & (points <= high + by)
    np.testing.assert_array_equal(inside, within * 10 + 6 + (points >= low))
    np.testing.assert_array_equal(pairs["a"], points)
    np.testing.assert_array_equal(pairs["b"], (i * 1000).astype(np.int16))


def test_local_arrays_are_each_threads_own(rng: np.random.Generator) -> None:
    x = rng.standard_normal(50).astype(np.float32)
    medians = np.zeros(50, np.float32)
    run("local_array", (2,), (32,), x, medians, np.int32(50))
    expected = [np.median(np.roll(x, -i)[:9]) for i in range(50)]
    np.testing.assert_array_equal(medians, np.array(expected, np.float32))


def _bytes(value: int, *, signed: bool) -> list[int]:
    return [v - 256 if signed and v > 127 else v for v in value.to_bytes(4, "little")]


def _integers(a: int, b: int, c: int) -> list[int]:
    """What the intrinsics mean, in Python's integers."""

    def signed(v: int) -> int:
        return v - (1 << 32) if v >> 31 else v

    lanes = list(zip(_bytes(a, signed=False), _bytes(b, signed=False), strict=True))
    both = (b << 32 | a).to_bytes(8, "little")
    wide = a * b + c
    low = (a & 0xFFFF) + (b & 0xFFFF) & 0xFFFF
    high = (a >> 16) + (b >> 16) & 0xFFFF
    return [
        sum(x * y for x, y in zip(_bytes(a, signed=True), _bytes(b, signed=True), strict=True)) + c,
        sum(x * y for x, y in lanes) + c,
        int.from_bytes(bytes(both[(c & 0x7777) >> 4 * i & 7] for i in range(4)), "little"),
        (b << 32 | a) >> (32 - (c & 31)),
        (b << 32 | a) >> min(c & 63, 32),
        a * b >> 32,
        signed(a) * signed(b) >> 32,
        a.bit_count() + 100 * (32 - b.bit_length()) + 10000 * ((c & -c).bit_length()),
        abs(a - b) + c,
        (a & 0xFFFFFF) * (b & 0xFFFFFF),
        int.from_bytes(bytes(abs(x - y) for x, y in lanes), "little"),
        high << 16 | low,
        (wide & (1 << 64) - 1) ** 2 >> 64,
        a + b >> 1,
        int.from_bytes(bytes(255 * (x > y) for x, y in lanes), "little"),
        wide % (1 << 64) % 1000003,
    ]


def test_integer_intrinsics_agree_with_python(rng: np.random.Generator) -> None:
    n = 40
    x = rng.integers(0, 2**32, n).astype(np.uint32)
    y = np.zeros((n, 16), np.uint32)
    run("integers", (2,), (32,), x, y, np.int32(n))
    for i in range(n):
        expected = _integers(*(int(x[(i + j) % n]) for j in range(3)))
        np.testing.assert_array_equal(y[i], [v & 0xFFFFFFFF for v in expected])


def test_atomics_locks_and_compare_and_swap_loops(rng: np.random.Generator) -> None:
    n = 70
    x = rng.standard_normal(n).astype(np.float32)
    top, total, bits = np.zeros(1, np.float32), np.zeros(1), np.zeros(1, np.uint64)
    pair, lock, guarded = np.zeros(2, np.float16), np.zeros(1, np.int32), np.zeros(1, np.int32)
    run("atomics", (2,), (48,), x, top, total, bits, pair, lock, guarded, np.int32(n))
    assert top[0] == x.max()
    np.testing.assert_allclose(total[0], x.astype(np.float64).sum(), rtol=1e-12)
    assert bits[0] == 2**64 - 1
    np.testing.assert_array_equal(pair, [n, n / 2])
    assert guarded[0] == n * (n - 1) // 2


def test_producer_and_consumer_warps_share_a_ring_of_buffers(rng: np.random.Generator) -> None:
    tiles = 7
    x = rng.integers(-9, 9, (tiles, 64)).astype(np.float32)
    sums = np.zeros(32, np.float32)
    run("hopper", (1,), (64,), x, sums, np.int32(tiles))
    weights = np.arange(1, tiles + 1)[:, None]
    np.testing.assert_array_equal(sums, (x[:, :32] * weights + x[:, 32:]).sum(axis=0))


@EITHER
def test_wmma_of_doubles_nibbles_and_bits(launcher: Any, rng: np.random.Generator) -> None:
    a, b, c = rng.standard_normal((8, 4)), rng.standard_normal((4, 8)), rng.standard_normal((8, 8))
    total = np.ascontiguousarray(c.T)
    run_on(launcher, "wmma_types", (1,), a, b, total, entry="wmma_double")
    np.testing.assert_allclose(total.T, a @ b + c, rtol=1e-13, atol=1e-13)

    left, right = rng.integers(-8, 8, (8, 32)), rng.integers(-8, 8, (8, 32))
    nibbles = [((x[:, ::2] & 15) | (x[:, 1::2] & 15) << 4).astype(np.uint8) for x in (left, right)]
    found = np.zeros((8, 8), np.int32)
    run_on(launcher, "wmma_types", (1,), *nibbles, found, entry="wmma_nibbles")
    np.testing.assert_array_equal(found, left @ right.T + 3)

    left, right = rng.integers(0, 2, (8, 128)), rng.integers(0, 2, (8, 128))
    bits = [np.packbits(x.astype(np.uint8), axis=1, bitorder="little") for x in (left, right)]
    run_on(launcher, "wmma_types", (1,), *bits, found, entry="wmma_bits")
    np.testing.assert_array_equal(found, left @ right.T)
