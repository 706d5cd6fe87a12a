"""Programs small enough to check by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tessera.package.package import Package
from tessera.program.artifact import Artifact
from tessera.program.dim import symbol
from tessera.program.dtype import DTYPES, DType, f32
from tessera.program.graph import Graph, Node
from tessera.program.program import Constant, Port, Program

WEIGHT = np.random.default_rng(7).standard_normal((4, 3)).astype(np.float32)
ROWS = symbol("rows")


def linear_program(dtype: DType = f32, name: str = "linear") -> Program:
    """`output = x @ w`, x: (rows, 4), w: (4, 3)."""
    nodes = (
        Node(op="input", attrs={"name": "x"}, shape=(ROWS, 4), dtype=dtype),
        Node(op="constant", attrs={"name": "w"}, shape=(4, 3), dtype=dtype),
        Node(op="matmul", inputs=(0, 1), shape=(ROWS, 3), dtype=dtype),
    )
    return Program(
        name=name,
        inputs=(Port(name="x", dtype=dtype, shape=(ROWS, 4)),),
        outputs=(Port(name="output", dtype=dtype, shape=(ROWS, 3)),),
        constants=(Constant(name="w", dtype=dtype, shape=(4, 3)),),
        graph=Graph(name=name, nodes=nodes, outputs=(2,)),
    )


def two_port_program() -> Program:
    """`total = a + b`, `product = a * b`, all (rows, 2)."""
    nodes = (
        Node(op="input", attrs={"name": "a"}, shape=(ROWS, 2), dtype=f32),
        Node(op="input", attrs={"name": "b"}, shape=(ROWS, 2), dtype=f32),
        Node(op="add", inputs=(0, 1), shape=(ROWS, 2), dtype=f32),
        Node(op="mul", inputs=(0, 1), shape=(ROWS, 2), dtype=f32),
    )
    return Program(
        name="pair",
        inputs=tuple(Port(name=n, dtype=f32, shape=(ROWS, 2)) for n in "ab"),
        outputs=tuple(Port(name=n, dtype=f32, shape=(ROWS, 2)) for n in ("total", "product")),
        graph=Graph(name="pair", nodes=nodes, outputs=(2, 3), output_names=("total", "product")),
    )


def log_program() -> Program:
    """`output = log(x)`, x: (rows, 2): the way to infinities and NaN."""
    nodes = (
        Node(op="input", attrs={"name": "x"}, shape=(ROWS, 2), dtype=f32),
        Node(op="log", inputs=(0,), shape=(ROWS, 2), dtype=f32),
    )
    return Program(
        name="log",
        inputs=(Port(name="x", dtype=f32, shape=(ROWS, 2)),),
        outputs=(Port(name="output", dtype=f32, shape=(ROWS, 2)),),
        graph=Graph(name="log", nodes=nodes, outputs=(1,)),
    )


def save(folder: Path, *programs: Program, **constants: np.ndarray[Any, Any]) -> Path:
    """A package of `programs`."""
    path = folder / f"{programs[0].name}.tsd"
    Package.from_artifact(Artifact(programs, (), constants), name=programs[0].name).save(path)
    return path


class NumpyModel:
    """A model in the test's own process, which can be slow, and remembers what it was given."""

    version = "1"
    device = "test"

    def __init__(self, program: Program, compute: Callable[..., Any], seconds: float = 0.0) -> None:
        self.program = program
        self.seconds = seconds
        self.batches: list[dict[str, np.ndarray[Any, Any]]] = []
        self.closed = False
        self._compute = compute

    def infer_batch(self, inputs: Any) -> dict[str, np.ndarray[Any, Any]]:
        self.batches.append(dict(inputs))
        time.sleep(self.seconds)
        return dict(self._compute(**inputs))

    def memory_usage(self) -> dict[str, int]:
        return {"in_use_bytes": 0}

    def close(self) -> None:
        self.closed = True


def linear_model(seconds: float = 0.0) -> NumpyModel:
    """`linear_program` in NumPy; each batch takes `seconds`."""
    return NumpyModel(linear_program(), lambda x: {"output": x @ WEIGHT}, seconds)


def echo_model(*dtypes: DType) -> NumpyModel:
    """`y_<dtype> = x_<dtype>`, (rows, 3) each, for `dtypes` or all; it does not batch."""
    chosen = dtypes or tuple(DTYPES.values())
    program = Program(
        name="echo",
        inputs=tuple(Port(name=f"x_{d}", dtype=d, shape=(ROWS, 3)) for d in chosen),
        outputs=tuple(Port(name=f"y_{d}", dtype=d, shape=(ROWS, 3)) for d in chosen),
    )
    return NumpyModel(program, lambda **xs: {f"y_{d}": xs[f"x_{d}"] for d in chosen})
