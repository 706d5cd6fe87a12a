"""Makes the package that `test_cuda.py` runs; needs no GPU.

    python tests/runtime/gpu_package.py gpu.tsp sm_90

A machine with a GPU and without a compiler then runs the tests with

    TESSERA_GPU_PACKAGE=gpu.tsp pytest -m gpu tests/runtime/test_cuda.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import tessera as ts
from tessera.program.dtype import DType, bf16, f16, f32

WIDTH = 200
"""Not a multiple of a warp, a tile or a vector."""


def mlp(x: ts.Tensor, w: ts.Tensor, b: ts.Tensor, v: ts.Tensor) -> ts.Tensor:
    return ts.matmul(ts.gelu(ts.matmul(x, w) + b), v)


def softmax(x: ts.Tensor) -> ts.Tensor:
    return ts.softmax(x, axis=-1)


def layernorm(x: ts.Tensor, weight: ts.Tensor, bias: ts.Tensor) -> ts.Tensor:
    return ts.layernorm(x, weight, bias)


def reductions(x: ts.Tensor) -> dict[str, ts.Tensor]:
    return {
        "sum": x.sum(axis=1),
        "mean": x.mean(axis=0),
        "max": x.max(axis=-1, keepdims=True),
        "min": ts.exp(x).min(axis=1),
    }


def scores(q: ts.Tensor, k: ts.Tensor) -> ts.Tensor:
    return ts.softmax(ts.matmul(q, ts.transpose(k, (0, 2, 1))) * 0.125, axis=-1)


FUNCTIONS: dict[str, tuple[Any, tuple[tuple[Any, ...], ...]]] = {
    "mlp": (mlp, (("batch", WIDTH), (WIDTH, 384), (384,), (384, 10))),
    "softmax": (softmax, (("batch", WIDTH),)),
    "layernorm": (layernorm, (("batch", WIDTH), (WIDTH,), (WIDTH,))),
    "reductions": (reductions, (("batch", WIDTH),)),
    "scores": (scores, (("batch", 33, 64), ("batch", 65, 64))),
}
CASES: list[tuple[str, DType]] = [(name, dtype) for name in FUNCTIONS for dtype in (f32, bf16)]
CASES += [("mlp", f16)]


def specs(name: str, dtype: DType) -> list[ts.TensorSpec]:
    """What a function is compiled for."""
    return [ts.TensorSpec(shape, dtype) for shape in FUNCTIONS[name][1]]


def build(path: Path, architectures: list[str]) -> None:
    """Compile every case and write the package."""
    from gpu_kernels import saxpy

    from tessera.deploy import AOTConfig, BatchCompiler

    compiler = BatchCompiler(AOTConfig(targets=architectures))
    for name, dtype in CASES:
        compiler.add_kernel(
            ts.jit(FUNCTIONS[name][0]), name=f"{name}_{dtype}", input_specs=specs(name, dtype)
        )
    compiler.add_kernel(saxpy)
    compiler.compile_all().save(path)


if __name__ == "__main__":
    build(Path(sys.argv[1]), sys.argv[2:] or ["sm_80", "sm_90"])
