"""The whole way: write, compile, save, load, run on the CPU; equal to the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tessera as ts
from tessera.deploy import AOTCompiler, BatchCompiler, DeploymentPackage, ModelExporter
from tessera.deploy import AOTConfig as Config
from tessera.program.dtype import DType, bf16, f16, f32, f64
from tessera.program.errors import InputError
from tessera.runtime import Runtime

WIDTH = 48


def mlp(x: ts.Tensor, w: ts.Tensor, b: ts.Tensor) -> ts.Tensor:
    return ts.gelu(ts.matmul(x, w) + b)


def attention(q: ts.Tensor, k: ts.Tensor) -> ts.Tensor:
    return ts.softmax(ts.matmul(q, k.T) * 0.125, axis=-1)


def normed(x: ts.Tensor) -> ts.Tensor:
    return ts.layernorm(x) * ts.sigmoid(x)


def reduced(x: ts.Tensor) -> dict[str, ts.Tensor]:
    return {"rows": x.sum(axis=1), "top": x.max(axis=-1, keepdims=True), "middle": ts.exp(x).mean(axis=1)}


def reshaped(x: ts.Tensor) -> ts.Tensor:
    y = ts.reshape(x, (x.shape[0], 6, 8))
    return ts.transpose(y, (0, 2, 1)) - 1.0


FUNCTIONS: dict[str, tuple[Any, tuple[tuple[Any, ...], ...]]] = {
    "mlp": (mlp, (("batch", WIDTH), (WIDTH, 20), (20,))),
    "attention": (attention, (("batch", WIDTH), ("keys", WIDTH))),
    "normed": (normed, (("batch", WIDTH),)),
    "reduced": (reduced, (("batch", WIDTH),)),
    "reshaped": (reshaped, (("batch", WIDTH),)),
}
CASES = [(name, dtype) for name in FUNCTIONS for dtype in (f32, bf16)] + [("mlp", f64), ("mlp", f16)]
TOLERANCE = {f64: 1e-12, f32: 2e-5, f16: 4e-3, bf16: 3e-2}
"""Absolute and relative: a few units of the last place, and of sums over `WIDTH` numbers."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> DeploymentPackage:
    """Every case, compiled for this CPU, saved and loaded."""
    compiler = BatchCompiler(Config(targets=["cpu"]))
    for name, dtype in CASES:
        fn, shapes = FUNCTIONS[name]
        specs = [ts.TensorSpec(shape, dtype) for shape in shapes]
        compiler.add_kernel(ts.jit(fn), name=f"{name}_{dtype}", input_specs=specs)
    path = tmp_path_factory.mktemp("deployment") / "all.tsp"
    compiler.compile_all().save(path)
    return DeploymentPackage.load(path)


@pytest.fixture(scope="module")
def cpu(package: DeploymentPackage) -> Runtime:
    return package.create_runtime("cpu", strict_device=True)


@pytest.fixture(scope="module")
def oracle(package: DeploymentPackage) -> Runtime:
    return package.create_runtime("reference", strict_device=True)


def inputs_for(name: str, dtype: DType, batch: int, rng: np.random.Generator) -> list[np.ndarray]:
    sizes = {"batch": batch, "keys": 11}
    shapes = [tuple(sizes.get(d, d) for d in shape) for shape in FUNCTIONS[name][1]]
    return [rng.normal(size=shape).astype(dtype.numpy) for shape in shapes]


@pytest.mark.parametrize("batch", [1, 7, 64, 0])
@pytest.mark.parametrize(("name", "dtype"), CASES, ids=lambda v: str(v))
def test_cpu_code_equals_the_reference(
    cpu: Runtime, oracle: Runtime, rng: np.random.Generator, name: str, dtype: DType, batch: int
) -> None:
    given = inputs_for(name, dtype, batch, rng)
    found, expected = (r.execute(f"{name}_{dtype}", *given) for r in (cpu, oracle))
    if not isinstance(found, dict):
        found, expected = {"output": found}, {"output": expected}
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert value.dtype == dtype.numpy
        assert value.shape == expected[key].shape
        np.testing.assert_allclose(
            value.astype(np.float64),
            expected[key].astype(np.float64),
            rtol=TOLERANCE[dtype],
            atol=TOLERANCE[dtype],
            err_msg=key,
        )


def test_nan_stays_nan(cpu: Runtime) -> None:
    x = np.zeros((2, WIDTH), np.float32)
    x[1, 3] = np.nan
    result = cpu.execute("normed_f32", x)
    assert np.isfinite(result[0]).all()
    assert np.isnan(result[1]).all()


def test_batch_in_parts_equals_the_whole(cpu: Runtime, rng: np.random.Generator) -> None:
    x, w, b = inputs_for("mlp", f32, 70, rng)
    whole = cpu.execute("mlp_f32", x, w, b)
    parts = cpu.execute_batch("mlp_f32", x, w, b, max_batch_size=32)
    np.testing.assert_allclose(parts, whole, rtol=1e-6, atol=1e-6)


def test_wrong_input_names_what_the_function_takes(cpu: Runtime) -> None:
    with pytest.raises(InputError, match=r"'x' .*axis 1 is 5, expected 48") as caught:
        cpu.execute("normed_f32", np.zeros((2, 5), np.float32))
    assert caught.value.hint == "it takes f32(batch, 48)"


def test_targets_say_what_code_runs(cpu: Runtime, oracle: Runtime) -> None:
    assert all(target.startswith("cpu-") for target in cpu.targets.values())
    assert set(oracle.targets.values()) == {"reference"}


class Model(ts.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = [ts.Linear(32, 64), ts.GELU(), ts.LayerNorm(64), ts.Linear(64, 10)]

    def forward(self, x: ts.Tensor) -> ts.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.parametrize(("quantization", "tolerance"), [(None, 2e-5), ("int8", 2e-5)])
def test_exported_model_runs_from_its_file(
    tmp_path: Path, rng: np.random.Generator, quantization: str | None, tolerance: float
) -> None:
    model = Model()
    path = tmp_path / "model.tsd"
    x = rng.normal(size=(5, 32)).astype(np.float32)
    ModelExporter(model=model, example_inputs=ts.tensor(x), target_architectures=["cpu"]).export(
        output_path=path, quantization=quantization
    )
    package = DeploymentPackage.load(path)
    with package.create_runtime("cpu", strict_device=True) as runtime:
        found = runtime.execute(x)
    expected = package.create_runtime("reference", strict_device=True).execute(x)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    exact = model(ts.tensor(x)).numpy()
    np.testing.assert_allclose(found, exact, rtol=0.1, atol=0.05 if quantization else 2e-5)


def test_kernel_runs_from_its_file(tmp_path: Path) -> None:
    from kernels_for_tests import saxpy

    path = tmp_path / "saxpy.tsc"
    AOTCompiler(target_architectures=["cpu"]).compile(saxpy).save(path)
    x, y = np.arange(1000, dtype=np.float32), np.ones(1000, np.float32)
    runtime = DeploymentPackage.load(path).create_runtime("cpu", strict_device=True)
    np.testing.assert_allclose(runtime.execute(2.0, x, y), 2 * x + 1)
    assert (y == 1).all()
