"""Kernels over unsigned integers: their arithmetic, on every device that runs them, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import cuda

import tessera as ts
from tessera.deploy import AOTCompiler, DeploymentPackage
from tessera.program.arch import host_cpu_targets
from tessera.program.errors import InputError, TraceError

Array = np.ndarray[Any, Any]


@ts.kernel(grid=lambda n: ts.cdiv(n, 128), block=128)
def mixed(
    x: ts.Array[ts.u32, "n"], y: ts.Array[ts.u64, "n"], z: ts.Array[ts.u16, "n"], seed: ts.u32, scale: ts.u64
):
    i = cuda.grid(1)
    if i < x.size:
        h = x[i] ^ seed
        h ^= h >> 16
        x[i] = h * np.uint32(0x85EBCA6B)
        y[i] = y[i] // scale + np.uint64(h)
        z[i] = (z[i] >> 1) ^ np.uint16(i)


def operands(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "x": rng.integers(0, 2**32, 500, dtype=np.uint32),
        "y": rng.integers(2**63, 2**64, 500, dtype=np.uint64),
        "z": rng.integers(0, 2**16, 500, dtype=np.uint16),
        "seed": np.uint32(4_000_000_000),
        "scale": np.uint64(3),
    }


def expected(x: Array, y: Array, z: Array, seed: np.uint32, scale: np.uint64) -> tuple[Array, Array, Array]:
    h = x ^ seed
    h = h ^ (h >> np.uint32(16))
    return h * np.uint32(0x85EBCA6B), y // scale + h, (z >> 1) ^ np.arange(len(z), dtype=np.uint16)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unsigned") / "mixed.tsc"
    targets = ["sm_70", "sm_90", *host_cpu_targets()[:1]]
    AOTCompiler(target_architectures=targets).compile(mixed).save(str(path))
    return path


@pytest.mark.parametrize("device", ["cpu", "emulator"])
def test_unsigned_kernel_wraps_shifts_and_divides_as_numpy(
    package: Path, device: str, rng: np.random.Generator
) -> None:
    if device == "cpu" and not host_cpu_targets():
        pytest.skip("no CPU target for this machine")
    given = operands(rng)
    with DeploymentPackage.load(str(package)).create_runtime(device=device, strict_device=True) as runtime:
        found = runtime.execute(given)
    for name, exact in zip("xyz", expected(**given), strict=True):
        assert found[name].dtype == exact.dtype
        np.testing.assert_array_equal(found[name], exact)


def test_lists_of_numbers_beyond_int64_keep_every_bit(package: Path, rng: np.random.Generator) -> None:
    given = operands(rng)
    exact = expected(**given)
    listed = {name: value.tolist() for name, value in given.items()}
    listed["y"][0] = 5
    with DeploymentPackage.load(str(package)).create_runtime(device="emulator") as runtime:
        found = runtime.execute(listed)
    np.testing.assert_array_equal(found["y"][1:], exact[1][1:])


def test_called_unsigned_kernel_updates_its_arrays(rng: np.random.Generator) -> None:
    given = operands(rng)
    exact = expected(**{name: value.copy() for name, value in given.items()})
    results = mixed(*given.values())
    for found, wanted in zip(results, exact, strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("x", np.full(500, -1), "holds -1, but u32 holds 0 to 4294967295"),
        ("z", np.full(500, 65536), "holds 65536, but u16 holds 0 to 65535"),
        ("seed", -3, "holds -3, but u32 holds 0 to 4294967295"),
        ("y", np.full(500, 0.5), "float64 values, which do not convert to u64 without loss"),
    ],
)
def test_unsigned_input_that_does_not_fit_is_refused(
    package: Path, rng: np.random.Generator, name: str, value: Any, message: str
) -> None:
    with (
        DeploymentPackage.load(str(package)).create_runtime(device="emulator") as runtime,
        pytest.raises(InputError, match=message),
    ):
        runtime.execute({**operands(rng), name: value})


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ts.cast(ts.tensor([1, 2]), ts.u32),
        lambda: ts.add(ts.tensor(np.ones(3, np.uint16)), 1),
        lambda: ts.jit(lambda x: x + np.uint64(1)).trace([ts.TensorSpec((3,), ts.i64)]),
        lambda: ts.jit(lambda x: x + 1).trace([ts.TensorSpec((3,), ts.u32)]),
    ],
)
def test_operators_refuse_dtypes_of_kernels(wrong: Any) -> None:
    with pytest.raises(TraceError, match=r"there are no operators on u(16|32|64)") as raised:
        wrong()
    assert "ts.kernel" in str(raised.value)
