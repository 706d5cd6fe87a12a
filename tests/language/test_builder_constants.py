"""Constants of a trace: one node for each array, wherever arrays lie in memory."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import tessera as ts


@ts.jit
def apart(x: ts.Tensor[ts.f32, "n"]) -> ts.Tensor:
    # Either array is gone once its line has run: the second is likely to be made where the first was.
    first = ts.take(x, np.array([1, 0]), 0)
    return first + ts.take(x, np.array([1, 0]), 0)


@ts.jit
def apart_in_other_memory(x: ts.Tensor[ts.f32, "n"]) -> ts.Tensor:
    kept = [np.array([1, 0])]
    first = ts.take(x, kept[0], 0)
    kept += [np.arange(2) for _ in range(50)]
    kept.append(np.array([1, 0]))
    return first + ts.take(x, kept[-1], 0)


@ts.jit
def once(x: ts.Tensor[ts.f32, "n"]) -> ts.Tensor:
    index = np.array([1, 0])
    return ts.take(x, index, 0) + ts.take(x, index, 0)


@ts.jit
def written_between(x: ts.Tensor[ts.f32, "n"]) -> ts.Tensor:
    index = np.array([1, 0])
    first = ts.take(x, index, 0)
    index[:] = [0, 1]
    return first + ts.take(x, index, 0)


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (apart, [[1, 0], [1, 0]]),
        (apart_in_other_memory, [[1, 0], [1, 0]]),
        (once, [[1, 0]]),
        (written_between, [[1, 0], [0, 1]]),
    ],
)
def test_arrays_are_told_apart_by_what_they_are_not_by_where_they_lie(
    function: ts.JitFunction, values: list[list[int]]
) -> None:
    for _ in range(20):
        found = function.trace().constants
        assert [value.tolist() for value in found.values()] == values
        gc.collect()
