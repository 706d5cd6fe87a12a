"""What programs are compared with: libraries that compute the graph, and functions of the caller's."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from profiled_programs import linear_artifact

import tessera as ts
from tessera.profiler import bench_target
from tessera.profiler.bench_baseline import NAMES, Case, agreement, make_contender, named_outputs, tolerances
from tessera.profiler.bench_cupy import cupy_call
from tessera.profiler.sizes import random_inputs
from tessera.program.artifact import Artifact
from tessera.program.dtype import as_dtype
from tessera.program.errors import InputError, MissingDependencyError, OptionError
from tessera.program.graph import Graph
from tessera.program.program import Port, Program
from tessera.program.spec import TensorSpec
from tessera.reference import run_graph

QUICK: dict[str, Any] = {"seconds": 0.01, "warmup_seconds": 0.0}
SHAPES: dict[str, tuple[tuple[Any, ...], ...]] = {
    "elementwise": (("n", 6), (6,)),
    "reductions": (("n", 5, 4),),
    "normalized": (("n", 8), (8,), (8,)),
    "moved": (("n", 6), ("n", 6)),
    "mlp": (("n", 16), (16, 8), (8,)),
    "causal": (("n", 2, 5, 4), ("n", 2, 5, 4), ("n", 2, 5, 4)),
    "several": (("n", 3),),
}


def elementwise(x, b):
    y = ts.exp(ts.tanh(x)) + ts.sigmoid(x) * ts.relu(b) - ts.gelu(x, approximate="tanh") / (1 + ts.abs(x))
    y = ts.where(x > b, y, ts.maximum(x, b)) + ts.silu(x) + ts.sqrt(ts.abs(x)) + ts.rsqrt(1 + x * x)
    return ts.minimum(y, 3.0) + ts.floor(x) + ts.erf(x) + ts.gelu(b) + ts.sin(x) * ts.cos(b)


def reductions(x):
    return ts.sum(x, axis=1) + ts.max(x, axis=1) - ts.min(x, axis=1) + ts.mean(x, axis=1)


def normalized(x, w, b):
    return ts.softmax(ts.layernorm(x, w, b)) + ts.rmsnorm(x, w) + ts.log_softmax(x)


def moved(x, y):
    return ts.matmul(ts.transpose(ts.reshape(x, (2, -1, 3)), (0, 2, 1)), ts.reshape(y, (2, -1, 3)))


def mlp(x, w, b):
    return ts.relu(ts.matmul(x, w) + b)


def causal(q, k, v):
    return ts.attention(q, k, v, causal=True)


def several(x):
    return {"double": x * 2, "row": ts.argmax(x, axis=1)}


FUNCTIONS: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (elementwise, reductions, normalized, moved, mlp, causal, several)
}


def traced(name: str, dtype: str = "f32") -> Program:
    return program_of(FUNCTIONS[name], SHAPES[name], dtype)


def program_of(function: Callable[..., Any], shapes: tuple[tuple[Any, ...], ...], dtype: str) -> Program:
    return _program_of_graph(
        ts.jit(function).trace([TensorSpec(shape, as_dtype(dtype)) for shape in shapes]).graph
    )


def _program_of_graph(graph: Graph) -> Program:
    nodes = {name: graph.nodes[index] for name, index in graph.leaves("input").items()}
    results = zip(graph.output_names, (graph.nodes[i] for i in graph.outputs), strict=True)
    return Program(
        name=graph.name,
        inputs=tuple(Port(name=name, dtype=node.dtype, shape=node.shape) for name, node in nodes.items()),
        outputs=tuple(Port(name=name, dtype=node.dtype, shape=node.shape) for name, node in results),
        graph=graph,
    )


def case_of(program: Program) -> Case:
    sizes = {"n": 6}
    return Case(program, random_inputs(program, sizes, seed=5), _no_constant, sizes, "cpu")


def _no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no constant")


def assert_equals_reference(program: Program, case: Case, found: object) -> None:
    assert program.graph is not None
    expected = run_graph(program.graph, case.inputs, {}, precision="f64")
    outputs = named_outputs(program, found)
    difference, agrees = agreement(outputs, expected, tolerances(program))
    assert agrees, difference


@pytest.mark.parametrize("name", FUNCTIONS)
def test_cupys_table_with_numpy_equals_the_reference(name: str) -> None:
    program = traced(name)
    case = case_of(program)
    assert program.graph is not None
    assert_equals_reference(program, case, cupy_call(np, program.graph, case.inputs, {}, case.sizes)())


@pytest.mark.parametrize("library", ["torch", "onnxruntime"])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("default")
def test_library_equals_the_reference(library: str, name: str) -> None:
    pytest.importorskip(library)
    if library == "onnxruntime":
        pytest.importorskip("onnx")
    program = traced(name)
    case = case_of(program)
    other = make_contender(library, case)
    assert other is not None
    assert other.label.startswith(f"{library} ")
    assert_equals_reference(program, case, other.call())


def rearranged(x, i):
    y = ts.pad(x[:, 1:5], ((0, 0), (1, 2))) + ts.roll(ts.concat([x, x[:, :1]], axis=1), 1, axis=1)
    y = ts.take(y, i, axis=1) + ts.cumsum(y, axis=1)[:, :3]
    return ts.where(y > 0, y // 2, y % 3.0), ts.argsort(x, axis=1)


def test_torch_moves_elements_as_the_reference_does() -> None:
    pytest.importorskip("torch")
    graph = ts.jit(rearranged).trace(
        [TensorSpec(("n", 6), as_dtype("f32")), TensorSpec((3,), as_dtype("i32"))]
    )
    program = _program_of_graph(graph.graph)
    case = case_of(program)
    case.inputs["i"][:] = [-1, 0, 4]  # type: ignore[index]
    other = make_contender("torch", case)
    assert other is not None
    assert_equals_reference(program, case, other.call())


def test_torch_takes_bfloat16() -> None:
    pytest.importorskip("torch")
    program = traced("mlp", "bf16")
    case = case_of(program)
    other = make_contender("torch", case)
    assert other is not None
    assert_equals_reference(program, case, other.call())


def test_function_gets_the_inputs_in_order_and_its_results_are_compared() -> None:
    artifact = linear_artifact()
    program = artifact.programs[0]
    seen: list[tuple[str, ...]] = []

    def right(*arrays: np.ndarray) -> Any:
        seen.append(tuple(str(a.shape) for a in arrays))
        constants = artifact.constants
        assert program.graph is not None
        named = dict(zip((p.name for p in program.inputs), arrays, strict=True))
        return tuple(run_graph(program.graph, named, constants).values())

    result = bench_target(artifact, device="reference", batch_sizes=(2,), baseline=right, **QUICK)
    row = result.batches[0]
    assert row.agrees is True
    assert row.baseline is not None
    assert row.baseline.name == "right"
    assert len(seen) >= row.baseline.repetitions
    assert not result.disagreements


def test_wrong_function_is_said_to_differ() -> None:
    result = bench_target(
        linear_artifact(), device="reference", batch_sizes=(2,), baseline=lambda *_: np.ones((2, 16)), **QUICK
    )
    assert [row.batch for row in result.disagreements] == [2]
    assert any("Outputs differ" in note for note in result.notes)


@pytest.mark.parametrize("returned", [(1, 2), {"other": 1}], ids=["too many", "another name"])
def test_function_that_returns_something_else_is_refused(returned: object) -> None:
    with pytest.raises(InputError, match="the baseline returned"):
        bench_target(
            linear_artifact(), device="reference", batch_sizes=(2,), baseline=lambda *_: returned, **QUICK
        )


def test_unknown_baseline_lists_those_there_are() -> None:
    with pytest.raises(OptionError) as caught:
        bench_target(linear_artifact(), device="reference", baseline="nunpy", **QUICK)
    assert all(name in (caught.value.hint or "") for name in NAMES)


def test_baseline_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "torch" else found(name, *a)
    )
    with pytest.raises(MissingDependencyError) as caught:
        bench_target(linear_artifact(), device="reference", baseline="torch", **QUICK)
    assert "pip install torch" in (caught.value.hint or "")


def test_operator_without_a_word_in_the_library_is_named() -> None:
    pytest.importorskip("cupy")

    program = program_of(lambda x: ts.argsort(x, axis=1), (("n", 4),), "f32")
    with pytest.raises(OptionError, match="operator 'argsort'"):
        bench_target(Artifact((program,), ()), device="reference", batch_sizes=(2,), baseline="cupy", **QUICK)


def test_no_baseline_by_name_measures_the_target_alone() -> None:
    row = bench_target(
        linear_artifact(), device="reference", batch_sizes=(1,), baseline="none", **QUICK
    ).batches[0]
    assert (row.baseline, row.agrees, row.max_difference) == (None, None, None)


@pytest.mark.parametrize(
    ("found", "expected", "verdict"),
    [
        ([1.0, 2.0], [1.0, 2.0], (0.0, True)),
        ([1.0, np.nan], [1.0, np.nan], (0.0, True)),
        ([1.0, np.inf], [1.0, np.inf], (0.0, True)),
        ([1.0, np.inf], [1.0, 2.0], (None, False)),
        ([1.0], [1.0, 2.0], (None, False)),
        ([1.0, 2.002], [1.0, 2.0], (pytest.approx(0.002), False)),
        ([1.0, 2.0001], [1.0, 2.0], (pytest.approx(0.0001), True)),
        ([], [], (0.0, True)),
    ],
)
def test_agreement_of_arrays(found: list[float], expected: list[float], verdict: tuple[Any, bool]) -> None:
    arrays = {"y": np.array(found)}, {"y": np.array(expected)}
    assert agreement(*arrays, {"y": 5e-4}) == verdict
