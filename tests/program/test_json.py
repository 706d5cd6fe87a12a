"""Programs as JSON: what goes out comes back, and what is wrong is named."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from whole_program import whole_program

from tessera.program.codec import check_schema, encode, program_from_json, program_to_json
from tessera.program.dim import symbol
from tessera.program.dtype import DTYPES, f32
from tessera.program.errors import ProgramError
from tessera.program.graph import Graph, Node
from tessera.program.program import (
    SCHEMA,
    BoxMap,
    Constant,
    Extent,
    Immediate,
    Launch,
    Plan,
    Pointer,
    Port,
    Program,
)
from tessera.program.validate import validate

DOCUMENT = json.loads(program_to_json(whole_program()))
Path = tuple[str | int, ...]


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every place in a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        # Inside a size expression only the whole is a field.
        if not (isinstance(inner, list) and inner and inner[0] in ("add", "mul", "ceildiv")):
            yield from paths(inner, (*path, key))


def put(path: Path, value: Any) -> Any:
    """The document with another value at `path`."""
    document = copy.deepcopy(DOCUMENT)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return document


def field_of(path: Path) -> str:
    """The last name in a path."""
    return next(str(key) for key in reversed(path) if isinstance(key, str))


def outcome(document: Any) -> Program | ProgramError:
    """The Program of a JSON document, or its error."""
    try:
        return program_from_json(json.dumps(document))
    except ProgramError as error:
        return error


def refusals(path: Path) -> list[ProgramError]:
    """The errors for values that do not belong at `path`."""
    wrong = (3.25, {"?": []}, [[]], "no such thing!", None, -(2**70))
    found = [outcome(put(path, value)) for value in wrong]
    return [error for error in found if isinstance(error, ProgramError)]


def refers(error: ProgramError) -> bool:
    """Whether the error is about a name that something else uses."""
    return "is called" in error.message or "gives the symbol" in error.message


# What the keys of `attrs` mean is up to each operator.
PLACES = [p for p in paths(DOCUMENT) if "attrs" not in p[:-1]]


def test_whole_program_comes_back_equal() -> None:
    program = whole_program()
    text = program_to_json(program)
    assert program_from_json(text) == program
    assert program_to_json(program_from_json(text)) == text
    validate(program)


def test_plan_is_found_by_target() -> None:
    program = whole_program()
    assert program.targets == ("sm_80", "sm_90a", "cpu-x86_64-v3")
    assert program.plan_for("sm_90a") is program.plans[0]
    assert program.plan_for("sm_70") is None


@pytest.mark.parametrize("place", PLACES, ids=lambda p: ".".join(map(str, p)))
def test_corrupted_field_is_named(place: Path) -> None:
    errors = refusals(place)
    assert errors, "every value was accepted"
    for error in errors:
        named = error.fields["path"]
        # The field itself, or a field elsewhere that refers to what is no longer there.
        assert str(place[0]) in named or field_of(place) in error.message or refers(error), error
        assert named in error.message or named == "document"


@pytest.mark.parametrize(
    "place", [p for p in PLACES if isinstance(p[-1], str)], ids=lambda p: ".".join(map(str, p))
)
def test_missing_field_is_named_or_has_a_default(place: Path) -> None:
    document = put(place, None)
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    error = outcome(document)
    if isinstance(error, ProgramError):
        assert error.fields["path"]
        assert field_of(place) in error.message or "threads" in error.message or refers(error), error


anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(PLACES), anything)
def test_any_document_is_a_valid_program_or_a_program_error(place: Path, value: Any) -> None:
    found = outcome(put(place, value))
    if isinstance(found, ProgramError):
        assert found.fields["path"]
    else:
        assert program_from_json(program_to_json(found)) == found


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60)))
def test_any_bytes_are_a_program_error(data: bytes | str) -> None:
    with pytest.raises(ProgramError):
        program_from_json(data)


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"schema":' * 50_000, b"\xff\xfe", b"", b"[]", b'"1.0"'])
def test_hostile_bytes_are_a_program_error(text: bytes) -> None:
    with pytest.raises(ProgramError) as raised:
        program_from_json(text)
    assert raised.value.fields["path"] in ("document", "schema")


def test_truncated_document_is_a_program_error() -> None:
    text = program_to_json(whole_program())
    for end in range(0, len(text) - 1, 97):
        with pytest.raises(ProgramError):
            program_from_json(text[:end])


def test_newer_minor_version_with_unknown_fields_is_read() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["schema"] = "1.7"
    document["speed"] = "fast"
    document["inputs"][0]["layout"] = "rows"
    assert program_from_json(json.dumps(document)).inputs == whole_program().inputs


@pytest.mark.parametrize("schema", ["2.0", "0.9", "", "1", "1.x", "1.0.0", "１.0", "99999999.0"])
def test_unknown_schema_version_is_refused_by_name(schema: str) -> None:
    with pytest.raises(ProgramError, match="schema: version") as raised:
        check_schema(schema)
    assert raised.value.fields["path"] == "schema"
    assert "pip install --upgrade" in str(raised.value.hint)
    with pytest.raises(ProgramError, match="schema: version"):
        program_from_json(json.dumps(put(("schema",), schema)))


def test_newer_minor_version_with_an_unknown_argument_is_said_to_be_newer() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["schema"] = "1.7"
    document["plans"][0]["steps"][0]["args"][0] = {"type": "texture", "name": "x"}
    with pytest.raises(ProgramError, match=r"of schema 1\.7, this Tessera reads up to 1\.\d") as raised:
        program_from_json(json.dumps(document))
    assert "pip install --upgrade" in str(raised.value.hint)
    assert raised.value.fields["path"].startswith("plans[0].steps[0].args[0]")


N, X = symbol("n"), Pointer(space="input", name="x")
BAD_MAPS = [
    (BoxMap(tensor=X, element="f32", sizes=(N, N), box=(4, 4)), "0 numbers for 2 dimensions, not 1"),
    (BoxMap(tensor=X, element="f32", sizes=(N, N), strides_bytes=(8,), box=(4, 4)), "multiple of 16"),
    (BoxMap(tensor=X, element="f32", sizes=(N,), box=(64,), swizzle=128), "does not fit swizzle 128"),
    (BoxMap(tensor=Pointer(space="input", name="q"), element="f32", sizes=(N,), box=(4,)), "no input is"),
    (BoxMap(tensor=X, element="f32", sizes=(symbol("q"),), box=(4,)), "the symbol 'q'"),
]


@pytest.mark.parametrize(("argument", "text"), BAD_MAPS)
def test_tensor_maps_that_no_gpu_takes_are_refused(argument: BoxMap, text: str) -> None:
    launch = Launch(kernel="k", grid=(1, 1, 1), args=(argument,))
    for target in ("sm_90a", "cpu-x86_64-v3"):
        plan = Plan(targets=(target,), steps=(launch,))
        found = "takes no tensor map" if target.startswith("cpu") else text
        with pytest.raises(ProgramError, match=found) as raised:
            validate(msgspec.structs.replace(whole_program(), plans=(plan,)))
        assert raised.value.fields["path"].startswith("plans[0].steps[0].args[0]")


def test_written_schema_is_read() -> None:
    check_schema(SCHEMA)


CHANGES: list[tuple[str, dict[str, Any], str]] = [
    ("name", {"name": ""}, "is empty"),
    ("inputs", {"inputs": whole_program().inputs * 2}, "'x' appears twice"),
    ("constants", {"constants": whole_program().constants * 2}, "'w' appears twice"),
    ("plans", {"plans": whole_program().plans * 2}, "appears twice"),
    ("constants[0].shape", {"constants": (Constant(name="w", dtype=f32, shape=(-1,)),)}, "negative"),
    ("outputs[0].shape", {"outputs": (Port(name="out", dtype=f32, shape=(symbol("q"),)),)}, "'q'"),
    ("outputs[0].initial", {"outputs": (Port(name="out", dtype=f32, initial="z"),)}, "'z'"),
    ("outputs[0].initial", {"outputs": (Port(name="out", dtype=f32, initial="x"),)}, "another shape"),
]


@pytest.mark.parametrize(("path", "change", "text"), CHANGES)
def test_program_that_does_not_hold_together_is_refused(path: str, change: dict[str, Any], text: str) -> None:
    with pytest.raises(ProgramError, match=text) as raised:
        validate(msgspec.structs.replace(whole_program(), **change))
    assert raised.value.fields["path"] == path


def launching(**change: Any) -> Plan:
    """A plan of one launch."""
    launch = Launch(kernel="k", grid=(1, 1, 1), block=(32, 1, 1))
    return Plan(targets=("sm_80",), steps=(msgspec.structs.replace(launch, **change),))


PLANS: list[tuple[str, Plan, str]] = [
    ("targets", Plan(targets=(), steps=()), "is empty"),
    ("targets", Plan(targets=("sm_81",), steps=()), "sm_81"),
    ("targets", Plan(targets=("compute_80",), steps=()), "not a full target name"),
    ("steps[0].kernel", launching(kernel=""), "is empty"),
    ("steps[0].block", launching(block=(1024, 2, 1)), "2048 threads"),
    ("steps[0].block", launching(block=(0, 1, 1)), "0 threads"),
    ("steps[0].grid", launching(grid=(symbol("q"), 1, 1)), "'q'"),
    ("steps[0].args[0]", launching(args=(Pointer(space="input", name="z"),)), "no input is called 'z'"),
    ("steps[0].args[0]", launching(args=(Pointer(space="input", name="k"),)), "no input is called 'k'"),
    ("steps[0].args[1]", launching(args=(Extent(value=1), Extent(value=symbol("q")))), "'q'"),
]


@pytest.mark.parametrize(("path", "plan", "text"), PLANS)
def test_plan_that_does_not_hold_together_is_refused(path: str, plan: Plan, text: str) -> None:
    with pytest.raises(ProgramError, match=text) as raised:
        validate(msgspec.structs.replace(whole_program(), plans=(plan,)))
    assert raised.value.fields["path"] == f"plans[0].{path}"


def test_setup_may_not_read_inputs() -> None:
    launch = Launch(kernel="k", grid=(1, 1, 1), args=(Pointer(space="input", name="x"),))
    plan = Plan(targets=("sm_80",), steps=(), setup=(launch,))
    with pytest.raises(ProgramError, match=r"plans\[0\].setup\[0\].args\[0\]"):
        validate(msgspec.structs.replace(whole_program(), plans=(plan,)))


def node(*inputs: int) -> Node:
    """An operator."""
    return Node(op="add", inputs=inputs, shape=(), dtype=f32)


GRAPHS: list[tuple[str, dict[str, Any]]] = [
    ("graph.nodes[1].inputs", {"nodes": (node(), node(1))}),
    ("graph.nodes[0].inputs", {"nodes": (node(-1),)}),
    ("graph.nodes[0].attrs", {"nodes": (Node(op="input", shape=(), dtype=f32),)}),
    ("graph.nodes[0].attrs", {"nodes": (Node(op="scalar", attrs={"value": "1"}, shape=(), dtype=f32),)}),
    ("graph.outputs", {"outputs": (9, 3)}),
    ("graph.output_names", {"output_names": ("one",)}),
]


@pytest.mark.parametrize(("path", "change"), GRAPHS)
def test_graph_that_does_not_hold_together_is_refused(path: str, change: dict[str, Any]) -> None:
    program = whole_program()
    assert program.graph is not None
    graph = msgspec.structs.replace(program.graph, **{"outputs": (0, 0), **change})
    with pytest.raises(ProgramError) as raised:
        validate(msgspec.structs.replace(program, graph=graph))
    assert raised.value.fields["path"] == path


numbers = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)
)


@given(numbers, st.sampled_from(list(DTYPES.values())), st.text("abcxyz._0", min_size=1, max_size=8))
def test_numbers_dtypes_and_names_come_back(value: Any, dtype: Any, name: str) -> None:
    launch = Launch(kernel=name, grid=(1, 1, 1), args=(Immediate(value=value, dtype=dtype),))
    graph = Graph(
        name=name,
        nodes=(Node(op="scalar", attrs={"value": value}, shape=(), dtype=dtype),),
        outputs=(0,),
    )
    program = Program(
        name=name,
        inputs=(Port(name=name, dtype=dtype),),
        outputs=(),
        plans=(Plan(targets=("sm_90",), steps=(launch,)),),
        graph=graph,
    )
    back = program_from_json(program_to_json(program))
    assert back == program
    step = back.plans[0].steps[0]
    assert isinstance(step, Launch)
    assert isinstance(step.args[0], Immediate)
    assert type(step.args[0].value) is type(value)


def test_encode_gives_equal_bytes_for_equal_values() -> None:
    program = whole_program()
    for other in (whole_program(), copy.deepcopy(program)):
        assert encode(other) == encode(program)


def test_program_survives_a_copy_and_the_way_to_another_process() -> None:
    program = whole_program()
    assert copy.deepcopy(program) == program
    assert pickle.loads(pickle.dumps(program)) == program
