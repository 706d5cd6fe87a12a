"""Every kind of GPU kernel that the compiler generates, run from its PTX against the float64 reference."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import cuda

import tessera as ts
from tessera.deploy import AOTCompiler
from tessera.emulator.sanitizer import Sanitizer
from tessera.program.artifact import Artifact
from tessera.reference import run_graph
from tessera.runtime import ArtifactSource
from tessera.runtime.emulator import EmulatorDevice

TOLERANCE = {"f64": 1e-12, "f32": 2e-5, "f16": 4e-3, "bf16": 4e-2}
"""Largest error relative to the largest result: one rounding to the type, and sums of up to 100 terms."""


def emulated(artifact: Artifact, inputs: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """The outputs of the only program, from its PTX, in which the sanitizer finds nothing.

    Lockstep execution hides a missing barrier; the sanitizer's race check does not.
    """
    (program,) = artifact.programs
    sanitizer = Sanitizer()
    loaded = EmulatorDevice(sanitizer=sanitizer).load(program, ArtifactSource(artifact))
    results = loaded.run([inputs[port.name] for port in program.inputs], None)
    assert sanitizer.findings == ()
    return {port.name: value for port, value in zip(program.outputs, results, strict=True)}


def check(fn: Any, specs: list[ts.TensorSpec], inputs: list[Any], *, target: str = "sm_80") -> None:
    """Compile, emulate, compare with the graph in float64."""
    artifact = AOTCompiler(target_architectures=[target]).compile(fn, specs).artifact
    (program,) = artifact.programs
    named = {p.name: np.asarray(v, p.dtype.numpy) for p, v in zip(program.inputs, inputs, strict=True)}
    found = emulated(artifact, named)
    traced = fn.trace(specs)
    expected = run_graph(traced.graph, named, traced.constants, precision="f64")
    kinds = [p.dtype.name for p in (*program.inputs, *program.outputs) if p.dtype.name in TOLERANCE]
    tolerance = max(TOLERANCE[k] for k in kinds)
    for name, value in expected.items():
        got = found[name].astype(np.float64)
        assert got.shape == value.shape
        scale = max(float(np.abs(value).max(initial=0)), 1e-3)
        assert np.abs(got - value).max(initial=0) <= tolerance * scale, name


def random_input(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    return rng.standard_normal(shape)


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "chain": lambda x, y: ts.relu(x * y + 0.5) - ts.exp(-ts.abs(y)),
    "division": lambda x, y: x / (1.5 + y * y),
    "gelu": lambda x, y: ts.gelu(x) + ts.gelu(y, approximate="tanh"),
    "gates": lambda x, y: ts.sigmoid(x) * ts.tanh(y) + ts.silu(x),
    "extrema": lambda x, y: ts.maximum(x, y) - ts.minimum(x, 0.25),
    "roots": lambda x, y: (
        ts.sqrt(ts.abs(x) + 1.0) * ts.rsqrt(ts.abs(y) + 1.0) + ts.erf(x) + ts.log(y * y + 1)
    ),
}


@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "bf16"])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_kernel_agrees_with_float64(name: str, dtype: str, rng: np.random.Generator) -> None:
    fn = ts.jit(ELEMENTWISE[name], name=name)
    specs = [ts.TensorSpec(("n", 37), dtype), ts.TensorSpec((37,), dtype)]
    check(fn, specs, [random_input(rng, 9, 37), random_input(rng, 37)])


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize(
    ("axes", "shape"),
    [((1,), (5, 100)), ((0,), (70, 9)), ((0, 1), (13, 11)), ((1,), (3, 33, 5)), ((0, 2), (4, 6, 10))],
)
def test_reduction_kernels_agree_with_float64(
    axes: tuple[int, ...], shape: tuple[int, ...], dtype: str, rng: np.random.Generator
) -> None:
    def reduce_all(x: Any) -> Any:
        scaled = x * 0.5 + 1.0
        return {
            "sum": ts.sum(scaled, axis=axes),
            "mean": ts.mean(scaled, axis=axes, keepdims=True),
            "max": ts.max(x, axis=axes),
            "min": ts.min(x, axis=axes),
        }

    spec = ts.TensorSpec(("n", *shape[1:]), dtype)
    check(ts.jit(reduce_all), [spec], [random_input(rng, *shape)])


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("width", [1, 31, 64, 300])
def test_softmax_and_layernorm_kernels_agree_with_float64(
    width: int, dtype: str, rng: np.random.Generator
) -> None:
    def normalize(x: Any, weight: Any, bias: Any) -> Any:
        return ts.softmax(x * 3.0, axis=-1), ts.layernorm(x, weight, bias)

    specs = [ts.TensorSpec(("n", width), dtype), *[ts.TensorSpec((width,), dtype)] * 2]
    check(
        ts.jit(normalize),
        specs,
        [random_input(rng, 4, width), random_input(rng, width), random_input(rng, width)],
    )


@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "bf16"])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 10, 64), (65, 33, 17), (70, 130, 40), (3, 5, 1)])
def test_matmul_kernel_with_epilogue_agrees_with_float64(
    m: int, n: int, k: int, dtype: str, rng: np.random.Generator
) -> None:
    def layer(x: Any, w: Any, b: Any) -> Any:
        return ts.gelu(ts.matmul(x, w) + b)

    specs = [ts.TensorSpec(("m", k), dtype), ts.TensorSpec((k, n), dtype), ts.TensorSpec((n,), dtype)]
    check(ts.jit(layer), specs, [random_input(rng, m, k), random_input(rng, k, n), random_input(rng, n)])


def test_attention_in_a_batch_agrees_with_float64(rng: np.random.Generator) -> None:
    def attention(q: Any, k: Any, v: Any) -> Any:
        scores = ts.matmul(q, ts.transpose(k, (0, 2, 1))) * 0.25
        return ts.matmul(ts.softmax(scores, axis=-1), v)

    spec = ts.TensorSpec(("heads", "rows", 16), "f32")
    check(ts.jit(attention), [spec] * 3, [random_input(rng, 3, 21, 16) for _ in range(3)])


def test_attention_kernel_with_shared_heads_agrees_with_float64(rng: np.random.Generator) -> None:
    def attention(q: Any, k: Any, v: Any) -> Any:
        return ts.attention(q, k, v, causal=True)

    few = ts.TensorSpec(("batch", 2, "keys", 24), "f32")
    specs = [ts.TensorSpec(("batch", 4, "rows", 24), "f32"), few, few]
    sizes = [(2, 4, 35, 24), (2, 2, 40, 24), (2, 2, 40, 24)]
    check(ts.jit(attention), specs, [random_input(rng, *size) for size in sizes])


def test_convolution_kernels_with_epilogue_agree_with_float64(rng: np.random.Generator) -> None:
    def block(x: Any, w: Any, b: Any, d: Any) -> Any:
        y = ts.conv2d(x, w, b, padding=1, stride=2)
        return ts.relu(ts.conv2d(y, d, padding=1, groups=5)), ts.max_pool2d(y, 2)

    specs = [ts.TensorSpec(s, "f32") for s in (("n", 3, 10, 9), (5, 3, 3, 3), (5,), (5, 1, 3, 3))]
    sizes = [(2, 3, 10, 9), (5, 3, 3, 3), (5,), (5, 1, 3, 3)]
    check(ts.jit(block), specs, [random_input(rng, *size) for size in sizes])


def test_kernels_along_lines_agree_with_float64(rng: np.random.Generator) -> None:
    def lines(x: Any) -> Any:
        best, where = ts.topk(x, 5)
        return ts.cumsum(x * 0.5, 1), ts.cumsum(x, 0), ts.sort(x, 0), best, where, ts.argmin(x, 1)

    check(ts.jit(lines), [ts.TensorSpec(("n", 300), "f32")], [random_input(rng, 3, 300)])


def test_gathering_kernels_agree_with_float64(rng: np.random.Generator) -> None:
    ids = rng.integers(-7, 9, (4, 3))

    def gather(x: Any) -> Any:
        return {
            "rows": ts.take(x, ids, axis=0),
            "joined": ts.concat([x[1:], ts.pad(x, 2, "reflect")[:, :5]]),
            "scattered": ts.scatter_add(x, ids[:, :1] + ts.zeros((4, 5), ts.i64), 2.0, axis=0),
        }

    check(ts.jit(gather), [ts.TensorSpec(("n", 5), "f32")], [random_input(rng, 7, 5)])


@pytest.mark.parametrize("target", ["sm_70", "sm_90"])
def test_a_model_with_weights_agrees_with_float64_on_other_architectures(
    target: str, rng: np.random.Generator
) -> None:
    model = ts.Sequential(
        ts.Linear(20, 40, dtype=ts.bf16, seed=1), ts.ReLU(), ts.LayerNorm(40, dtype=ts.bf16),
        ts.Linear(40, 7, dtype=ts.bf16, seed=2),
    )  # fmt: skip
    check(model, [ts.TensorSpec(("batch", 20), ts.bf16)], [random_input(rng, 6, 20)], target=target)


def test_raw_kernel_updates_its_array_in_place(rng: np.random.Generator) -> None:
    @ts.kernel(grid=lambda n: ts.cdiv(n, 64), block=64)
    def saxpy(a: ts.f32, x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
        i = cuda.grid(1)
        if i < x.size:
            y[i] = a * x[i] + y[i]

    artifact = AOTCompiler(target_architectures=["sm_80"]).compile(saxpy).artifact
    x, y = (rng.standard_normal(201).astype(np.float32) for _ in range(2))
    found = emulated(artifact, {"a": np.asarray(np.float32(1.5)), "x": x, "y": y})["y"]
    exact = 1.5 * x.astype(np.float64) + y
    np.testing.assert_array_equal(found, exact.astype(np.float32))
