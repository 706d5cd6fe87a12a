"""The graph stage as a file: nothing is lost, and a file that holds something else is refused by its node."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from random_lines import STEPS
from random_programs import random_program

import tessera as ts
from tessera.compiler.cache import CompileCache
from tessera.compiler.graph_file import SavedGraph, graph_from_json, graph_to_json
from tessera.deploy import AOTCompiler, AOTConfig, emit_stage, load_program
from tessera.program.errors import CompileError, OptionError
from tessera.reference import run_graph
from tests.operators.test_against_numpy import BY_NAME


def saved(fn: Any, specs: list[ts.TensorSpec] | None = None) -> SavedGraph:
    traced = fn.trace(specs)
    return SavedGraph(traced.graph, traced.constants)


def assert_same(found: SavedGraph, given: SavedGraph) -> None:
    assert found.graph == given.graph
    assert found.constants.keys() == given.constants.keys()
    for name, value in given.constants.items():
        assert (found.constants[name].dtype, found.constants[name].shape) == (value.dtype, value.shape)
        assert found.constants[name].tobytes() == value.tobytes()


@pytest.mark.parametrize("name", BY_NAME)
def test_every_operator_comes_back(name: str) -> None:
    case = BY_NAME[name]
    for dtype in (case.dtypes[0], case.dtypes[-1]):
        graph = saved(case.traced(dtype), case.specs(dtype))
        assert_same(graph_from_json(graph_to_json(graph)), graph)


@settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)
@given(random=st.randoms(use_true_random=False), special=st.booleans())
def test_random_programs_come_back(random: Random, special: bool) -> None:
    program = random_program(random, random.randint(2, 12), STEPS, special)
    note(str(program))
    graph = saved(program.function(), list(program.specs))
    text = graph_to_json(graph)
    back = graph_from_json(text)
    assert_same(back, graph)
    assert graph_to_json(back) == text
    inputs = dict(zip(graph.graph.leaves("input"), program.inputs, strict=True))
    with np.errstate(all="ignore"):
        before, after = (run_graph(g.graph, inputs, g.constants) for g in (graph, back))
    assert {n: v.tobytes() for n, v in before.items()} == {n: v.tobytes() for n, v in after.items()}


@settings(max_examples=4, suppress_health_check=list(HealthCheck), deadline=None)
@given(random=st.randoms(use_true_random=False))
def test_a_random_graph_compiles_to_the_same_bytes_from_each_stage(random: Random) -> None:
    program = random_program(random, random.randint(2, 4), STEPS)
    note(str(program))
    config = AOTConfig(["sm_80", "cpu"], generate_cubin=False)
    compiler = AOTCompiler(config, cache=CompileCache.off())
    function, specs = program.function(), list(program.specs)
    whole = compiler.compile(function, specs)
    for stage in ("graph", "kernels"):
        (file,) = emit_stage(function, stage, config, specs)
        assert_same_code(compiler.compile(load_program(file.data, stage)), whole)


def assert_same_code(found: Any, given: Any) -> None:
    assert found.programs == given.programs
    assert [(b.name, b.target, b.data) for b in found.binaries] == [
        (b.name, b.target, b.data) for b in given.binaries
    ]


@ts.jit
def layer(x: ts.Tensor[ts.f32, "n", 8]) -> Any:
    weight = ts.tensor(np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4))
    hidden = ts.matmul(x, weight)
    kept = ts.where(hidden > 0, hidden, float("-inf"))
    return ts.softmax(kept), ts.take(hidden, ts.tensor(np.array([0, 2])), axis=1), hidden[:, ::2]


def document() -> dict[str, Any]:
    return json.loads(graph_to_json(saved(layer)))  # type: ignore[no-any-return]


def node(data: dict[str, Any], op: str) -> dict[str, Any]:
    return next(n for n in data["graph"]["nodes"] if n["op"] == op)  # type: ignore[no-any-return]


def position(op: str) -> int:
    return [n["op"] for n in document()["graph"]["nodes"]].index(op)


LIES: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "operator": ("matmul", lambda n: n.update(op="matmull"), "matmull: no operator is called so"),
    "own operator": ("softmax", lambda n: n.update(op="copy"), "copy: no operator is called so"),
    "shape": ("matmul", lambda n: n.update(shape=["n", 5]), r"its shape is \(n, 5\), not \(n, 4\)"),
    "dtype": ("matmul", lambda n: n.update(dtype="f16"), "an operand is f32, not f16"),
    "kernel dtype": ("softmax", lambda n: n.update(dtype="u64"), "no operators on u64"),
    "axis": ("softmax", lambda n: n["attrs"].update(axis=2), "there is no axis 2 among 2"),
    "no axis": ("softmax", lambda n: n["attrs"].clear(), "it lacks 'axis'"),
    "attribute": ("softmax", lambda n: n["attrs"].update(axes=1), "it has no 'axes'"),
    "attribute type": ("softmax", lambda n: n["attrs"].update(axis="1"), "axis cannot be '1'"),
    "operands": ("softmax", lambda n: n.update(inputs=[]), "0 operands, not 1"),
    "size": ("softmax", lambda n: n.update(shape=["k", 4]), r"its shape is \(k, 4\)"),
    "input's size": ("take", lambda n: n.update(shape=["n", -2]), "a size of -2"),
    "slice": ("slice", lambda n: n.update(shape=["n", 3]), "3 elements from 0 on by 2 are not within 4"),
    "step": ("slice", lambda n: n["attrs"].update(steps=[1, 0]), "a step of 0"),
    "steps": ("slice", lambda n: n["attrs"].update(steps=[1]), "steps has 1 numbers, not 2"),
    "condition": ("gt", lambda n: n.update(dtype="f32"), "it is f32, not bool"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_node_that_is_not_what_its_operator_asks_for_is_named(lie: str) -> None:
    op, change, message = LIES[lie]
    data = document()
    change(node(data, op))
    with pytest.raises(CompileError, match=message) as caught:
        graph_from_json(json.dumps(data).encode(), "f.graph.json")
    assert caught.value.message.startswith(f"f.graph.json: graph.nodes[{position(op)}]: ")
    assert caught.value.fields["path"] == f"graph.nodes[{position(op)}]"
    assert caught.value.location is not None
    assert caught.value.location.file == __file__


DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "format": (lambda d: d.update(format="tessera kernels"), "format: it is 'tessera kernels', not"),
    "newer": (lambda d: d.update(schema="2.0"), r"schema: version '2.0' is not 1.x"),
    "no version": (lambda d: d.update(schema="new"), "schema: version 'new'"),
    "unknown field": (lambda d: d.update(passes=[]), "unknown field `passes`"),
    "no graph": (lambda d: d.pop("graph"), "missing required field `graph`"),
    "later operand": (lambda d: node(d, "matmul").update(inputs=[0, 99]), r"must be indices below"),
    "output": (lambda d: d["graph"].update(outputs=[99]), r"graph.outputs: \(99,\) must be indices below"),
    "names": (lambda d: d["graph"].update(output_names=["a"]), "1 names for 3 outputs"),
    "same names": (lambda d: d["graph"].update(output_names=["a"] * 3), "'a' appears twice"),
    "file name": (lambda d: d["graph"].update(name="../../etc/x"), r"graph.name: '../../etc/x' cannot be"),
    "dtype": (lambda d: node(d, "input").update(dtype="f33"), "unknown dtype 'f33'"),
    "size": (lambda d: node(d, "input").update(shape=["n n", 8]), "not a size expression"),
    "huge size": (lambda d: node(d, "input").update(shape=[2**70, 8]), "Integer value out of range|64 bits"),
    "no weight": (lambda d: d["constants"].popitem(), "it has no data"),
    "other weight": (
        lambda d: d["constants"].update(x=d["constants"]["constant_0"]),
        "constants.x: no node is called so",
    ),
    "short weight": (lambda d: d["constants"]["constant_0"].update(data="AAAA"), "3 bytes of data, not 128"),
    "no base64": (lambda d: d["constants"]["constant_0"].update(data="*"), "constants.*[Bb]ase64"),
    "weight's shape": (
        lambda d: d["constants"]["constant_0"].update(shape=[4, 8]),
        r"constants.constant_0: f32\(4, 8\), but its node is f32\(8, 4\)",
    ),
    "open weight": (lambda d: node(d, "constant").update(shape=["n", 4]), "fixed sizes"),
    "same inputs": (
        lambda d: d["graph"]["nodes"].append({**node(d, "input")}),
        "graph: input: 'x' appears twice",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_document_that_does_not_hold_together_is_refused(damage: str) -> None:
    change, message = DAMAGE[damage]
    data = document()
    change(data)
    with pytest.raises(CompileError, match=message) as caught:
        graph_from_json(json.dumps(data).encode(), "f.graph.json")
    assert caught.value.message.startswith("f.graph.json: ")


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_torn_file_is_refused_at_its_end(part: float) -> None:
    whole = graph_to_json(saved(layer))
    torn = whole[: int(len(whole) * part)]
    with pytest.raises(CompileError, match="not a JSON document") as caught:
        graph_from_json(torn, "f.graph.json")
    assert caught.value.location is not None
    assert caught.value.location.line == torn.count(b"\n") + 1


def test_no_text_at_all_is_refused() -> None:
    for data in (b"\xff\xfe\0", b"\0" * 64, b"[" * 100_000, b"null", b"[]", b'{"format": 1}'):
        with pytest.raises(CompileError, match=r"f\.json"):
            graph_from_json(data, "f.json")


@settings(max_examples=150, deadline=None)
@given(at=st.floats(0, 1), byte=st.integers(0, 255), length=st.integers(0, 3))
def test_any_other_bytes_give_a_graph_or_a_clear_error(at: float, byte: int, length: int) -> None:
    whole = graph_to_json(saved(layer))
    place = int(at * len(whole))
    data = whole[:place] + bytes([byte]) * length + whole[place + 1 :]
    try:
        found, said = graph_from_json(data, "f.json"), ""
    except CompileError as error:
        found, said = None, str(error)
    if found is None:
        assert "f.json" in said
        return
    # What is still a graph is one that can be written and read back.
    again = graph_to_json(found)
    assert graph_to_json(graph_from_json(again, "f.json")) == again


def test_a_graph_has_no_other_specs_and_is_no_kernel_stage() -> None:
    (stage,) = emit_stage(layer, "graph", AOTConfig(["sm_80"]))
    program = load_program(stage.data, "graph")
    with pytest.raises(CompileError, match="layer is a graph already"):
        AOTCompiler(target_architectures=["sm_80"]).compile(program, [ts.TensorSpec((4, 8))])
    with pytest.raises(OptionError, match="ptx holds no program"):
        load_program(b"", "ptx")
    assert stage.label == "layer"
    assert set(stage.seconds) == {"graph"}
