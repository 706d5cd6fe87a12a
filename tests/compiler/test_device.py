"""Conversions and divisions that generated kernels call, against ml_dtypes and NumPy, bit for bit."""

from __future__ import annotations

import ml_dtypes
import numba
import numpy as np
import pytest
from numba import types

from tessera.compiler import device

FORMATS = {
    "bf16": (ml_dtypes.bfloat16, np.uint16, types.uint16),
    "f16": (np.float16, np.uint16, types.uint16),
    "f8e4m3": (ml_dtypes.float8_e4m3fn, np.uint8, types.uint8),
    "f8e5m2": (ml_dtypes.float8_e5m2, np.uint8, types.uint8),
}


def _widener(name):
    convert = getattr(device, f"{name}_to_f32")

    @numba.njit
    def widen(bits, out):
        for i in range(bits.size):
            out[i] = convert(bits[i])

    return widen


def _narrower(name):
    convert = getattr(device, f"f32_to_{name}")

    @numba.njit
    def narrow(values, out):
        for i in range(values.size):
            out[i] = convert(values[i])

    return narrow


def _interesting_floats() -> np.ndarray:
    random = np.random.default_rng(7)
    bits = random.integers(0, 2**32, 400_000, dtype=np.uint32)
    near_one = random.normal(0, 1, 100_000).astype(np.float32)
    small = (random.normal(0, 1, 100_000) * 2.0 ** random.integers(-45, -3, 100_000)).astype(np.float32)
    large = (random.normal(0, 1, 100_000) * 2.0 ** random.integers(5, 20, 100_000)).astype(np.float32)
    # Every float16 and bfloat16, and the midpoints between neighbours, where ties are decided.
    halves = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
    brains = (np.arange(65536, dtype=np.uint32) << 16).view(np.float32)
    ties = ((np.arange(65536, dtype=np.uint32) << 16) | 0x8000).view(np.float32)
    half_ties = halves.view(np.uint32) + np.uint32(1 << 12)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 448, 464, 464.01, 480, 65504, 65520], np.float32)
    eighths = np.arange(-600, 600, 0.0625, dtype=np.float32)
    every = [bits.view(np.float32), near_one, small, large, halves, brains, ties, special, eighths]
    return np.concatenate([*every, half_ties.view(np.float32)])


@pytest.mark.parametrize("name", FORMATS)
def test_widening_is_exact_for_every_pattern(name):
    kind, storage, _ = FORMATS[name]
    bits = np.arange(np.iinfo(storage).max + 1, dtype=storage)
    out = np.empty(bits.size, np.float32)
    _widener(name)(bits, out)
    with np.errstate(invalid="ignore"):
        expected = bits.view(kind).astype(np.float32)
    nan = np.isnan(expected)
    assert np.array_equal(np.isnan(out), nan)
    assert np.array_equal(out[~nan].view(np.uint32), expected[~nan].view(np.uint32))


@pytest.mark.parametrize("name", FORMATS)
def test_narrowing_rounds_as_ml_dtypes_does_and_saturates_eight_bits(name):
    kind, storage, _ = FORMATS[name]
    values = _interesting_floats()
    out = np.empty(values.size, storage)
    _narrower(name)(values, out)
    bound = np.float32(ml_dtypes.finfo(kind).max if storage == np.uint8 else np.inf)
    with np.errstate(all="ignore"):
        expected = np.clip(values, -bound, bound).astype(kind)
    nan = np.isnan(expected.astype(np.float32))
    assert np.array_equal(np.isnan(out.view(kind).astype(np.float32)), nan)
    wrong = np.flatnonzero(out[~nan] != expected[~nan].view(storage))
    assert wrong.size == 0, (values[~nan][wrong[:5]], out[~nan][wrong[:5]], expected[~nan][wrong[:5]])


@pytest.mark.parametrize("name", FORMATS)
def test_conversions_compile_for_the_gpu_inline(name):
    from numba import cuda

    widen, narrow = getattr(device, f"{name}_to_f32"), getattr(device, f"f32_to_{name}")
    storage = FORMATS[name][2]

    def double(p, q, n):
        i = cuda.threadIdx.x
        if i < n:
            q[i] = narrow(widen(p[i]) * numba.float32(2))

    signature = (types.CPointer(storage), types.CPointer(storage), types.int64)
    ptx, _ = cuda.compile(double, signature, device=False, abi="numba", cc=(7, 0))
    assert ".extern" not in ptx
    assert "call." not in ptx


def test_division_of_sizes_is_unsigned_and_checks_nothing():
    udiv, urem = device.udiv, device.urem

    @numba.njit
    def split(a, b):
        return udiv(a, b), urem(a, b)

    random = np.random.default_rng(3)
    for a, b in zip(random.integers(0, 2**62, 200), random.integers(1, 2**40, 200), strict=True):
        assert split(a, b) == divmod(int(a), int(b))


def test_division_of_floats_by_zero_gives_infinity():
    div_f32, div_f64 = device.div_f32, device.div_f64

    @numba.njit
    def divide(a, b):
        return div_f32(numba.float32(a), numba.float32(b)), div_f64(a, b)

    assert divide(1.0, 0.0) == (np.inf, np.inf)
    assert divide(-1.0, 0.0) == (-np.inf, -np.inf)
    assert all(np.isnan(v) for v in divide(0.0, 0.0))


def test_exp_is_within_two_ulp_everywhere_and_right_at_the_edges():
    @numba.njit
    def exponentials(values, out):
        for i in range(values.size):
            out[i] = device.exp_f32(values[i])

    rng = np.random.default_rng(5)
    edges = [0.0, -0.0, 1.0, -1.0, 88.72, 88.73, -87.3, -87.4, -103.9, -104.1, 1e30, -1e30, np.inf, -np.inf]
    values = np.concatenate([np.array(edges), rng.uniform(-110, 95, 400_000), rng.normal(0, 1e-3, 50_000)])
    values = values.astype(np.float32)
    out = np.empty_like(values)
    exponentials(values, out)
    with np.errstate(over="ignore", under="ignore"):
        expected = np.exp(values.astype(np.float64))
        rounded = expected.astype(np.float32)
    infinite = np.isinf(rounded)
    np.testing.assert_array_equal(out[infinite], rounded[infinite])
    last_place = np.spacing(np.maximum(np.abs(rounded[~infinite]), np.finfo(np.float32).tiny))
    error = np.abs(out[~infinite].astype(np.float64) - expected[~infinite]) / last_place
    assert error.max() < 2
    assert out[0] == out[1] == 1.0
    exponentials(np.array([np.nan], np.float32), out)
    assert np.isnan(out[0])
