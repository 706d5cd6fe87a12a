"""Pointers to local memory mean another place for every lane, also where all lanes hold the same bits."""

from typing import Any

import numpy as np
import pytest
from numba import cuda

import tessera as ts
from tessera.deploy import AOTCompiler
from tessera.runtime import open_artifact


def run(kernel: Any, *inputs: Any) -> np.ndarray[Any, Any]:
    artifact = AOTCompiler(target_architectures=["sm_80"]).compile(kernel).artifact
    with open_artifact(artifact, device="emulator") as runtime:
        return np.asarray(runtime.execute(*inputs))


@ts.kernel(grid=1, block=64)
def double_half(x: ts.Array[ts.f16, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        x[i] = x[i] + x[i]


@ts.kernel(grid=1, block=64)
def reverse_bits_of_a_table(x: ts.Array[ts.i32, "n"]):
    i = cuda.grid(1)
    table = cuda.local.array(8, np.int32)
    if i < x.size:
        for k in range(8):
            table[k] = x[i] * 8 + k
        x[i] = table[(x[i] * 5) % 8]


@pytest.mark.parametrize("count", [5, 64])
def test_half_precision_additions_are_those_of_each_lane(count: int, rng: np.random.Generator) -> None:
    x = rng.standard_normal(count).astype(np.float16)
    np.testing.assert_array_equal(run(double_half, x), x + x)


def test_local_arrays_are_those_of_each_lane() -> None:
    x = np.arange(50, dtype=np.int32)
    np.testing.assert_array_equal(run(reverse_bits_of_a_table, x), x * 8 + x * 5 % 8)
