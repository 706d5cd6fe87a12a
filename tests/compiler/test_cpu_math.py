"""Functions that loops are vectorized around, against float64: everywhere, and at the ends of their range."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest

from tessera.compiler import cpu_math

ERF = np.vectorize(math.erf, otypes=[np.float64])
FUNCTIONS = {
    "tanh": (np.tanh, 8),
    "log": (np.log, 2),
    "log2": (np.log2, 2),
    "log1p": (np.log1p, 2),
    "erf": (ERF, 2),
    "expm1": (np.expm1, 4),
    "sin": (np.sin, 2),
    "cos": (np.cos, 2),
}
"""What is computed, and how many units in the last place it may be off."""
EDGES = [0.0, -0.0, 1.0, -1.0, 4.0, -9.0, 1e-40, 3e-45, -1e-42, 3e38, np.inf, -np.inf, np.nan, 88.8, -104.5]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_within_its_bound_and_right_at_the_edges(name, rng):
    computed = getattr(cpu_math, f"{name}_f32")
    exact, bound = FUNCTIONS[name]

    @numba.njit
    def run(values, out):
        for i in range(values.size):
            out[i] = computed(values[i])

    parts = [rng.uniform(-10, 10, 50_000), rng.normal(0, 1e-3, 10_000), rng.normal(1, 1e-3, 10_000)]
    parts += [np.exp(rng.uniform(-87, 88, 30_000)), -np.exp(rng.uniform(-87, 3, 30_000)), np.array(EDGES)]
    values = np.concatenate(parts).astype(np.float32)
    out = np.empty_like(values)
    run(values, out)
    with np.errstate(all="ignore"):
        expected = exact(values.astype(np.float64))
        rounded = expected.astype(np.float32)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(out[~finite], rounded[~finite])
    last_place = np.spacing(np.maximum(np.abs(rounded[finite]), np.finfo(np.float32).tiny))
    error = np.abs(out[finite].astype(np.float64) - expected[finite]) / last_place
    assert error.max() < bound
