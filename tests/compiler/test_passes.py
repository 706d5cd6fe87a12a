"""Graph rewrites: what they take away, what they leave alone, and that results stay."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Maker, random_array
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.compiler.explain import explain_graph
from tessera.compiler.matrix_units import MatrixUnits
from tessera.compiler.passes import optimize_graph
from tessera.compiler.passes.common_subexpressions import merge_common_subexpressions
from tessera.compiler.passes.constants import load_time_nodes
from tessera.compiler.passes.cpu_matmul import widen_cpu_matmuls
from tessera.compiler.passes.dead_code import remove_dead_code
from tessera.compiler.passes.fold_numbers import fold_numbers
from tessera.compiler.passes.outputs import separate_outputs
from tessera.compiler.passes.simplify import simplify
from tessera.compiler.passes.sink_reshapes import sink_reshapes
from tessera.program.dtype import f16
from tessera.program.errors import CompileError
from tessera.reference import run_graph


def ops(graph):
    return [node.op for node in graph.nodes]


def simplified(graph):
    return ops(remove_dead_code(simplify(graph)))


def test_dead_code_goes_and_inputs_stay():
    g = Maker()
    x, _unused, w = g.input("x", ("n",)), g.input("unused", (3,)), g.constant("w", np.ones(3))
    g.unary("exp", w)
    graph = remove_dead_code(g.graph(g.unary("neg", x)))
    assert ops(graph) == ["input", "input", "neg"]
    assert graph.nodes[2].inputs == (0,)


def test_equal_operators_become_one_and_different_ones_do_not():
    g = Maker()
    x = g.input("x", ("n", 4))
    same = [g.reduce("sum", x, [1]) for _ in range(2)]
    other = [g.reduce("sum", x, [0]), g.reduce("sum", x, [1], keepdims=True)]
    numbers = [g.scalar(0.0), g.scalar(-0.0), g.scalar(0, "i64")]
    graph = merge_common_subexpressions(g.graph(*same, *other, *numbers))
    assert len(graph.nodes) == 1 + 1 + 2 + 3
    assert graph.outputs[0] == graph.outputs[1]


IDENTITIES = {
    "cast to itself": lambda g, x: g.cast(x, "f32"),
    "cast up and back": lambda g, x: g.cast(g.cast(x, "f64"), "f32"),
    "reshape to itself": lambda g, x: g.reshape(x, g.shape(x)),
    "reshape and back": lambda g, x: g.reshape(g.reshape(x, (6, 4)), (4, 6)),
    "transpose in order": lambda g, x: g.transpose(x, (0, 1)),
    "transpose and back": lambda g, x: g.transpose(g.transpose(x, (1, 0)), (1, 0)),
    "minus minus": lambda g, x: g.unary("neg", g.unary("neg", x)),
    "times one": lambda g, x: g.binary("mul", g.scalar(1.0), x),
    "over one": lambda g, x: g.binary("div", x, g.scalar(1.0)),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_what_changes_nothing_is_left_out(name):
    g = Maker()
    x = g.input("x", (4, 6))
    assert simplified(g.graph(IDENTITIES[name](g, x))) == ["input"]


KEPT = {
    "cast down and back": lambda g, x: g.cast(g.cast(x, "bf16"), "f32"),
    "plus zero": lambda g, x: g.binary("add", x, g.scalar(0.0)),  # -0.0 + 0.0 is 0.0
    "one over": lambda g, x: g.binary("div", g.scalar(1.0), x),
    "times one, broadcast": lambda g, x: g.binary("mul", g.reshape(x, (24, 1)), g.constant("w", np.ones(3))),
    "transposes that turn": lambda g, x: g.transpose(g.reshape(x, (2, 3, 4)), (1, 2, 0)),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_may_change_a_result_stays(name):
    g = Maker()
    graph = g.graph(KEPT[name](g, g.input("x", (4, 6))))
    assert simplified(graph) == ops(graph)


def test_nested_views_and_casts_become_one():
    g = Maker()
    x = g.input("x", (2, 3, 4), "bf16")
    turned = g.transpose(g.transpose(x, (1, 2, 0)), (1, 2, 0))
    cast = g.cast(g.cast(x, "f32"), "f64")
    graph = remove_dead_code(simplify(g.graph(turned, cast)))
    assert ops(graph) == ["input", "transpose", "cast"]
    assert graph.nodes[1].attrs["perm"] == [2, 0, 1]


def test_a_cast_number_is_rounded_like_its_dtype():
    g = Maker()
    graph = simplify(g.graph(g.cast(g.scalar(0.1), "bf16"), g.cast(g.scalar(300, "i64"), "u8")))
    assert [n.attrs["value"] for n in graph.nodes if n.op == "scalar"][-1] == 44
    assert 0.10009765625 in [n.attrs["value"] for n in graph.nodes]


def test_a_number_that_no_integer_holds_is_not_folded():
    g = Maker()
    graph = g.graph(g.cast(g.scalar(float("inf")), "i32"))
    assert simplified(graph) == ["scalar", "cast"]


def test_load_time_nodes_depend_on_weights_alone():
    g = Maker()
    x, w = g.input("x", (3,)), g.constant("w", np.ones(3))
    scaled = g.binary("mul", w, g.binary("add", g.scalar(1.0), g.scalar(2.0)))
    y = g.binary("add", x, scaled)
    assert load_time_nodes(g.graph(y)) == {w, scaled}


def test_cpu_matmuls_are_float32_and_batched_by_one_stride():
    g = Maker()
    a, b = g.input("a", (2, 1, 5, 4), "bf16"), g.input("b", (1, 3, 4, 6), "bf16")
    graph = widen_cpu_matmuls(g.graph(g.matmul(a, b)))
    assert ops(graph) == ["input", "input", "cast", "expand", "cast", "expand", "matmul", "cast"]
    assert graph.nodes[-1].dtype.name == "bf16"
    assert {n.dtype.name for n in graph.nodes[2:7]} == {"f32"}


def test_cpu_matmuls_of_integers_stay():
    g = Maker()
    graph = g.graph(g.matmul(g.input("a", (2, 3), "i32"), g.input("b", (3, 2), "i32")))
    assert widen_cpu_matmuls(graph) == graph


def test_outputs_own_their_memory():
    g = Maker()
    x = g.input("x", (3,))
    y = g.unary("exp", x)
    graph = separate_outputs(g.graph(x, y, y))
    assert ops(graph) == ["input", "exp", "copy", "copy"]
    assert sorted(graph.outputs) == [1, 2, 3]


def test_elementwise_operators_move_before_a_reshape():
    g = Maker()
    x, w, b = g.input("x", ("n", 6, 4)), g.input("w", (8, 6)), g.input("b", (8, 1, 1))
    n = g.shape(x)[0]
    y = g.reshape(g.matmul(w, x), (n, 8, 2, 2))
    z = g.unary("relu", g.binary("add", y, b))
    graph = sink_reshapes(g.graph(z))
    ops = [node.op for node in remove_dead_code(graph).nodes if node.op not in ("input", "constant")]
    assert ops == ["matmul", "reshape", "add", "relu", "reshape"]
    assert graph.nodes[graph.outputs[0]].shape == (n, 8, 2, 2)
    rng = np.random.default_rng(3)
    values = {"x": rng.normal(size=(3, 6, 4)), "w": rng.normal(size=(8, 6)), "b": rng.normal(size=(8, 1, 1))}
    values = {name: value.astype(np.float32) for name, value in values.items()}
    before, after = (run_graph(each, values, {})["output"] for each in (g.graph(z), graph))
    np.testing.assert_array_equal(before, after)


def test_reshape_that_others_read_too_stays():
    g = Maker()
    x = g.unary("exp", g.input("x", ("n", 6)))
    y = g.reshape(x, (g.shape(x)[0], 2, 3))
    graph = g.graph(g.unary("neg", y), y)
    assert sink_reshapes(graph) == graph


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_an_unknown_operator_is_named_with_its_line(kind):
    g = Maker()
    graph = g.graph(g.unary("fft", g.input("x", (4,))))
    with pytest.raises(CompileError, match=r"model\.py:2: operator 'fft'.*cannot be compiled") as error:
        optimize_graph(graph, kind=kind)
    assert "matmul" in error.value.hint


@pytest.mark.parametrize(
    ("op", "dtype"), [("exp", "i32"), ("softmax", "i64"), ("sub", "bool"), ("div", "i32")]
)
def test_an_operator_on_a_dtype_it_does_not_take_says_what_to_write(op, dtype):
    g = Maker()
    x = g.input("x", (4,), dtype)
    node = g.binary(op, x, x) if op in ("sub", "div") else g.node(op, (x,), (4,), dtype, axis=0)
    with pytest.raises(CompileError, match="cannot be compiled") as error:
        optimize_graph(g.graph(node), kind="cpu")
    assert "ts.cast" in error.value.hint
    assert error.value.location.line == 2


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 2**32 - 1))
def test_random_graphs_compute_the_same_after_all_passes(data, seed):
    """Optimized and original agree to the last bit under the reference, NaN and -0.0 included."""
    g = Maker()
    made = [g.input("x", (3, 4)), g.constant("w", np.random.default_rng(seed).normal(size=(3, 4)))]
    made += [g.scalar(data.draw(st.sampled_from([0.0, -0.0, 1.0, 2.5])))]
    for _ in range(data.draw(st.integers(1, 10))):
        x = data.draw(st.sampled_from(made))
        make = data.draw(st.sampled_from([
            lambda x: g.unary("neg", x),
            lambda x: g.unary("relu", x),
            lambda x: g.cast(g.cast(x, "f64"), "f32"),
            lambda x: g.cast(g.cast(x, "bf16"), "f32"),
            lambda x: g.binary("mul", x, made[2]),
            lambda x: g.binary("add", made[2], x),
            lambda x: g.transpose(x, list(reversed(range(len(g.shape(x)))))),
            lambda x: g.reshape(x, (int(np.prod(g.shape(x), dtype=int)),)),
        ]))  # fmt: skip
        made.append(make(x))
    graph = g.graph(*data.draw(st.lists(st.sampled_from(made), min_size=1, max_size=3)))
    optimized = separate_outputs_of(graph)
    values = {"x": random_array(np.random.default_rng(seed), (3, 4))}
    values["x"][0] = [0.0, -0.0, np.nan, np.inf]
    before, after = run_graph(graph, values, g.constants), run_graph(optimized, values, g.constants)
    for name, value in before.items():
        assert value.tobytes() == after[name].tobytes()


def separate_outputs_of(graph):
    # The reference knows no `copy`: all passes but the one that adds it.
    return remove_dead_code(merge_common_subexpressions(simplify(remove_dead_code(graph))))


def test_numbers_alone_are_computed_once_and_for_all():
    g = Maker()
    total = g.binary("mul", g.binary("add", g.scalar(1.5), g.scalar(2.0)), g.scalar(2.0))
    graph = remove_dead_code(fold_numbers(g.graph(g.binary("add", g.input("x", (3,)), total))))
    assert ops(graph) == ["scalar", "input", "add"]
    assert graph.nodes[0].attrs["value"] == 7.0


def test_numbers_that_no_literal_holds_are_left_to_the_kernel():
    g = Maker()
    graph = g.graph(g.binary("add", g.input("x", (3,)), g.unary("log", g.scalar(0.0))))
    assert fold_numbers(graph) == graph


SIMPLER = {
    "minus zero": (lambda g, x: g.binary("sub", x, g.scalar(0.0)), []),
    "plus negative zero": (lambda g, x: g.binary("add", g.scalar(-0.0), x), []),
    "times minus one": (lambda g, x: g.binary("mul", x, g.scalar(-1.0)), ["neg"]),
    "over a power of two": (lambda g, x: g.binary("div", x, g.scalar(-8.0)), ["mul"]),
    "over three": (lambda g, x: g.binary("div", x, g.scalar(3.0)), ["div"]),
    "larger of one": (lambda g, x: g.binary("maximum", x, x), []),
    "either way": (lambda g, x: g.where(g.compare("lt", x, g.scalar(0.0)), x, x), []),
}


@pytest.mark.parametrize("name", SIMPLER)
def test_arithmetic_becomes_simpler_and_gives_the_same_bits(name, rng):
    make, left = SIMPLER[name]
    g = Maker()
    graph = g.graph(g.unary("abs", make(g, g.input("x", (8, 6)))))
    simple = remove_dead_code(simplify(graph))
    assert [op for op in ops(simple) if op not in ("input", "scalar")] == [*left, "abs"]
    values = {"x": random_array(rng, (8, 6))}
    values["x"][0] = [0.0, -0.0, np.nan, np.inf, 1e-45, -3e38]
    before, after = (run_graph(each, values, {})["output"] for each in (graph, simple))
    assert before.tobytes() == after.tobytes()


def test_a_sum_is_the_same_in_either_order():
    g = Maker()
    x, y = g.input("x", (3,)), g.input("y", (3,))
    graph = g.graph(
        g.binary("add", x, y), g.binary("add", y, x), g.binary("sub", x, y), g.binary("sub", y, x)
    )
    assert len(merge_common_subexpressions(graph).nodes) == 2 + 1 + 2


def test_convolutions_are_laid_out_for_tensor_cores_alone_and_said_so():
    import tessera as ts

    def convolved(x, w):
        return ts.conv2d(x, w, padding=1)

    specs = [ts.TensorSpec(shape, "f16") for shape in (("n", 20, 6, 7), (24, 20, 3, 3))]
    traced = ts.jit(convolved).trace(specs).graph
    plain, laid = explain_graph(traced), explain_graph(traced, units=MatrixUnits((8, 0)))
    assert "channels last" not in {each.name for each in plain.passes}
    (step,) = (each for each in laid.passes if each.name == "channels last")
    # Channels are filled up to 24, which is 48 bytes; windows over the copy take the place of the others.
    assert step.added == {"copy": 2, "pad": 2, "reshape": 3, "transpose": 4, "windows": 1}
    assert step.removed == {}
    copies = [node for node in laid.optimized.nodes if node.op == "copy"]
    assert sorted(node.shape[1:] for node in copies) == [(3, 3, 24), (6, 7, 24)]
    assert {node.dtype for node in copies} == {f16}
    assert [k.operators for k in laid.kernels] == [("pad", "copy"), ("pad", "copy"), ("windows", "matmul")]
    assert plain.launches == 1
