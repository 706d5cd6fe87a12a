"""`x[i, :, j]`: several tensors of positions in one index give what NumPy gives."""

from __future__ import annotations

import numpy as np
import pytest

import tessera as ts

I, J, K = np.array([[0, 1], [-1, 2]]), np.array([3, -2]), np.array([5, 0])
KEYS = {
    "side by side": lambda x: x[I, J],
    "behind a slice": lambda x: x[1:, J - 1, K],
    "before a slice": lambda x: x[I, J, ::2],
    "a slice between": lambda x: x[I, :, K],
    "everything between": lambda x: x[I, ..., K],
    "every axis": lambda x: x[I, J, K],
    "a number among them": lambda x: x[I, 1, K],
    "a new axis between": lambda x: x[I, None, J],
    "new axes around": lambda x: x[None, I, J, None, -3:],
}


@pytest.mark.parametrize("name", KEYS)
def test_several_tensors_of_positions_select_what_numpy_selects(name, rng):
    x = rng.normal(size=(4, 5, 6)).astype(np.float32)
    wanted = KEYS[name](x)
    found = np.asarray(ts.jit(KEYS[name])(x))
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(found, wanted)


def test_positions_are_arguments_and_sizes_are_open(rng):
    @ts.jit
    def pick(x: ts.Tensor[ts.f32, "n", "m"], i: ts.Tensor[ts.i32, "k"], j: ts.Tensor[ts.i64, "k"]):
        return x[i, j]

    for n, m in ((3, 7), (5, 2)):
        x = rng.normal(size=(n, m)).astype(np.float32)
        i, j = rng.integers(-n, n, 9).astype(np.int32), rng.integers(-m, m, 9)
        np.testing.assert_array_equal(np.asarray(pick(x, i, j)), x[i, j])
