"""The names of shared arrays, read from the source of kernels."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import cuda, float32, int64

from tessera.emulator.sanitizer import SharedArray
from tessera.workbench.shared_arrays import shared_arrays

TILE = 16
HALF = np.float16


def constants_and_keywords(x):
    a = cuda.shared.array((TILE, TILE + 1), dtype=float32)
    if x.size:
        b = cuda.shared.array(shape=TILE * 2, dtype=HALF)
        b[0] = 1
    a[0, 0] = 1


def dynamic(x):
    whole = cuda.shared.array(0, int64)
    whole[0] = x.size


def none_at_all(x):
    x[0] = cuda.threadIdx.x


def size_of_an_argument(x):
    a = cuda.shared.array(x.size, float32)
    a[0] = 1


def size_of_a_call(x):
    a = cuda.shared.array(max(3, 4), float32)
    a[0] = x[0]


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (
            constants_and_keywords,
            (SharedArray("a", 4, (16, 17)), SharedArray("b", 2, (32,))),
        ),
        (dynamic, (SharedArray("whole", 8, (0,)),)),
        (none_at_all, ()),
        # What cannot be read is left alone: no name is better than a wrong one.
        (size_of_an_argument, ()),
        (size_of_a_call, ()),
    ],
)
def test_arrays_are_found_in_the_order_of_the_source(
    fn: Callable[..., Any], expected: tuple[SharedArray, ...]
) -> None:
    assert shared_arrays(fn) == expected


def test_enclosing_names_count() -> None:
    size = 5

    def inner(x: Any) -> None:
        part = cuda.shared.array(size, float32)
        part[0] = x[0]

    assert shared_arrays(inner) == (SharedArray("part", 4, (5,)),)


def test_function_without_source_has_no_names() -> None:
    names: dict[str, Any] = {}
    exec("def made(x):\n    a = cuda.shared.array(3, float32)", names)
    assert shared_arrays(names["made"]) == ()
