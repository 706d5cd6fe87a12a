"""Kernels launched with a grid and block of the caller's choice."""

from __future__ import annotations

import numpy as np
import pytest

import tessera as ts
from tessera.language.execution import executors
from tessera.program.errors import InputError, KernelError, TraceError


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def saxpy(a: ts.f32, x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.shape[0]:
        y[i] += a * x[i]


def test_launch_hands_grid_block_and_checked_arguments_on() -> None:
    seen = []

    def launch(kernel, grid, block, shared_bytes, args) -> None:
        seen.append((kernel, grid, block, shared_bytes, args))

    x, y = np.ones(5, np.float32), np.zeros(5, np.float32)
    with executors(launch=launch):
        assert saxpy[np.int64(4), (32, 2), 0, 128](2, x, y) is None
    ((kernel, grid, block, shared_bytes, args),) = seen
    assert (kernel, grid, block, shared_bytes) == (saxpy, (4,), (32, 2), 128)
    assert isinstance(args[0], np.float32)
    assert args[2] is y


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (4, "a grid and a block"),
        ((1, 2, 3, 4, 5), "a grid and a block"),
        ((4, 2048), "2048 threads along axis 0"),
        ((4, (512, 4)), "2048 threads; a block has at most 1024"),
        ((0, 32), "0 blocks along axis 0"),
        (((1, 70_000), 32), "70000 blocks along axis 1"),
        ((1.5, 32), "one to three integers"),
        (((1, 1, 1, 1), 32), "one to three integers"),
        ((1, 32, 0, 10**9), "bytes of shared memory"),
    ],
)
def test_launch_outside_the_limits_is_refused_with_the_callers_line(shape, text) -> None:
    with pytest.raises(KernelError, match=text) as caught:
        saxpy[shape]
    assert caught.value.location.file == __file__


def test_launch_with_wrong_arguments_names_the_parameter() -> None:
    x = np.ones(5, np.float32)
    with pytest.raises(InputError, match="takes 3 arguments"):
        saxpy[1, 32](1.0, x)
    with pytest.raises(InputError, match="'y' is float64"):
        saxpy[1, 32](1.0, x, x.astype(np.float64))


def test_launch_while_a_function_is_traced_is_refused() -> None:
    @ts.jit
    def traced(x: ts.Tensor[ts.f32, 4]):
        saxpy[1, 32](1.0, x, x)
        return x

    with pytest.raises(TraceError, match="cannot be launched"):
        traced.trace()
