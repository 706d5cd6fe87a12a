"""Tracing: what graph a function becomes."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tessera as ts
from tessera.language.tracing import Traced
from tessera.program.codec import encode
from tessera.program.dim import symbol
from tessera.reference import run_graph

if TYPE_CHECKING:
    from nowhere import Missing

N = symbol("n")


def spec(*shape: Any, dtype: Any = ts.f32) -> ts.TensorSpec:
    return ts.TensorSpec(shape, dtype)


def ops(traced: Traced) -> list[str]:
    """The operators of a graph, leaves left out."""
    return [n.op for n in traced.graph.nodes if n.op not in ("input", "constant", "scalar")]


@ts.jit
def guide_kernel(x: ts.Tensor, W: ts.Tensor) -> ts.Tensor:
    y = ts.matmul(x, W)
    y = ts.relu(y)
    return y  # noqa: RET504 - as the guide writes it


def test_guide_kernel_becomes_its_graph() -> None:
    traced = guide_kernel.trace([spec(None, 1024, dtype=ts.bf16), spec(1024, 512, dtype=ts.bf16)])
    assert str(traced.graph) == (
        "graph guide_kernel\n"
        "%0 = input() name=x -> bf16(x_0, 1024)\n"
        "%1 = input() name=W -> bf16(1024, 512)\n"
        "%2 = matmul(%0, %1) -> bf16(x_0, 512)\n"
        "%3 = relu(%2) -> bf16(x_0, 512)\n"
        "return output=%3"
    )
    assert traced.constants == {}
    first = inspect.getsourcelines(guide_kernel.fn)[1]
    assert [(n.file, n.line) for n in traced.graph.nodes[2:]] == [
        (__file__, first + 2),
        (__file__, first + 3),
    ]


def test_spec_names_rename_inputs() -> None:
    named = [ts.TensorSpec((None, 4), name="tokens"), ts.TensorSpec((4, 4), name="table")]
    graph = guide_kernel.trace(named).graph
    assert list(graph.leaves("input")) == ["tokens", "table"]
    assert graph.nodes[0].shape == (symbol("tokens_0"), 4)


def test_example_tensors_serve_as_specs() -> None:
    graph = guide_kernel.trace([ts.randn(2, 3), np.zeros((3, 4), np.float32)]).graph  # type: ignore[list-item]
    assert graph.nodes[graph.outputs[0]].shape == (2, 4)


@ts.jit
def annotated(
    x: ts.Tensor[ts.bf16, "n", 8], w: Annotated[ts.Tensor, ts.TensorSpec((8, None), ts.bf16)]
) -> Any:
    return x @ w


def test_annotations_carry_specs_even_as_text() -> None:
    assert annotated.specs == [spec("n", 8, dtype=ts.bf16), spec(8, None, dtype=ts.bf16)]
    graph = annotated.trace().graph
    assert graph.nodes[graph.outputs[0]].shape == (N, symbol("w_1"))


def test_annotations_may_name_what_is_local() -> None:
    width = 16

    @ts.jit
    def f(x: ts.Tensor[ts.f16, "n", width]) -> Any:  # type: ignore[valid-type]
        return ts.exp(x)

    @ts.jit(name="g")
    def h(x: ts.Tensor[ts.f16, "n", width]) -> Any:  # type: ignore[valid-type]
        return ts.exp(x)

    assert f.specs == h.specs == [spec("n", 16, dtype=ts.f16)]
    assert h.name == h.trace().graph.name == "g"


def test_annotation_that_cannot_be_read_is_no_spec() -> None:
    @ts.jit
    def f(x: Missing) -> Any:
        return x

    assert f.specs is None
    assert f.trace([spec(3)]).graph.outputs == (0,)


def test_input_specs_of_the_decorator() -> None:
    @ts.jit(input_specs=[spec("n", 2)])
    def f(x: Any) -> Any:
        return -x

    assert f.specs == [spec("n", 2)]
    assert ops(f.trace()) == ["neg"]


@given(st.integers(1, 4))
def test_python_control_flow_on_python_values_unrolls(depth: int) -> None:
    def f(x: Any) -> Any:
        for step in range(depth):
            x = ts.relu(x) if step % 2 else ts.exp(x)
        return x

    assert ops(ts.jit(f).trace([spec("n")])) == [("exp", "relu")[i % 2] for i in range(depth)]


def test_branching_on_shapes_works() -> None:
    @ts.jit
    def f(x: Any) -> Any:
        return ts.relu(x) if x.shape[1] == 4 and x.ndim == 2 and len(x.T) == 4 else x

    assert ops(f.trace([spec("n", 4)])) == ["transpose", "relu"][1:]
    assert ops(f.trace([spec("n", 5)])) == []


def test_tuple_outputs_are_numbered_and_dict_outputs_named() -> None:
    class Pair(NamedTuple):
        low: Any
        high: Any

    x = spec("n", 4)
    several = ts.jit(lambda x: (x + 1, [x][0], x.sum())).trace([x])
    assert several.graph.output_names == ("output_0", "output_1", "output_2")
    assert several.graph.outputs[1] == 0
    assert several.structure == "tuple"
    named = ts.jit(lambda x: {"logits": x, "total": x.sum()}).trace([x])
    assert named.graph.output_names == ("logits", "total")
    assert ts.jit(lambda x: Pair(-x, x)).trace([x]).graph.output_names == ("low", "high")


def test_nested_jit_and_helper_functions_become_one_graph() -> None:
    def helper(x: Any) -> Any:
        return ts.exp(x)

    @ts.jit
    def inner(x: ts.Tensor[ts.f32, 3]) -> Any:
        return helper(x) * 2

    @ts.jit
    def outer(x: Any) -> Any:
        return inner(x) + inner(np.ones(3, np.float32))

    traced = outer.trace([spec(3)])
    assert ops(traced) == ["exp", "mul", "exp", "mul", "add"]
    lines = {n.op: n.line for n in traced.graph.nodes}
    assert lines["exp"] == inspect.getsourcelines(helper)[1] + 1
    assert lines["add"] == inspect.getsourcelines(outer.fn)[1] + 2


TABLE = np.arange(12, dtype=np.float32).reshape(3, 4)


def test_array_that_the_function_writes_into_keeps_its_value_at_each_use() -> None:
    def one_hot_sums(x: Any) -> Any:
        mask, total = np.zeros(3, np.float32), x * 0.0
        for i in range(3):
            mask[:] = 0
            mask[i] = i + 1
            total = total + x * mask
        return total - mask - mask

    traced = ts.jit(one_hot_sums).trace([spec(3)])
    found = run_graph(traced.graph, {"x": np.full(3, 10, np.float32)}, traced.constants)
    assert found["output"].tolist() == [10, 20, 24]
    assert len(traced.constants) == 3


def test_closures_become_constants_by_their_names() -> None:
    bias = ts.tensor([1.0, 2.0, 3.0, 4.0])
    unnamed = [np.ones(4, np.float32)]

    @ts.jit
    def f(x: Any) -> Any:
        return (x @ TABLE + bias) * unnamed[0] * TABLE.sum() + bias

    traced = f.trace([spec("n", 3)])
    assert set(traced.constants) == {"TABLE", "bias", "constant_0"}
    assert traced.constants["TABLE"] is TABLE
    assert traced.constants["bias"] is bias.numpy()
    assert [n.op for n in traced.graph.nodes].count("constant") == 3


def test_unused_nodes_go_and_unused_inputs_stay() -> None:
    @ts.jit
    def f(x: Any, y: Any) -> Any:
        _ = ts.exp(y) + TABLE
        return x * 2

    traced = f.trace([spec("n"), spec(3, 4)])
    assert [n.op for n in traced.graph.nodes] == ["input", "input", "scalar", "mul"]
    assert traced.constants == {}


def test_promotion_puts_casts_into_the_graph() -> None:
    @ts.jit
    def f(x: Any, y: Any) -> Any:
        return x * y + 1

    graph = f.trace([spec("n", dtype=ts.bf16), spec("n")]).graph
    assert [(n.op, str(n.dtype)) for n in graph.nodes[2:]] == [
        ("cast", "f32"), ("mul", "f32"), ("scalar", "f32"), ("add", "f32"),
    ]  # fmt: skip


def test_operands_of_binary_operators_are_of_the_result_dtype() -> None:
    dtypes = (ts.bf16, ts.f16, ts.i8, ts.i32, ts.u8, ts.f64)

    @ts.jit
    def f(x: Any, y: Any) -> Any:
        return ts.maximum(x + y, x / y) * 2

    for a in dtypes:
        for b in dtypes:
            nodes = f.trace([spec("n", dtype=a), spec("n", dtype=b)]).graph.nodes
            for node in nodes:
                if node.op in ("add", "div", "maximum", "mul"):
                    assert {nodes[i].dtype for i in node.inputs} == {node.dtype}


@pytest.mark.parametrize(
    ("left", "right", "result"),
    [((3,), (3,), ()), ((3,), (3, 4), (4,)), (("n", 3), (3,), (N,)), ((2, "n", 3), (3,), (2, N)),
     ((3,), (2, 3, 4), (2, 4)), ((5, 1, "n", 3), (7, 3, "n"), (5, 7, N, N))],
)  # fmt: skip
def test_matmul_shapes_as_in_numpy(left: Any, right: Any, result: Any) -> None:
    graph = ts.jit(ts.matmul, name="f").trace([spec(*left), spec(*right)]).graph
    assert graph.nodes[graph.outputs[0]].shape == result
    product = next(n for n in graph.nodes if n.op == "matmul")
    assert all(len(graph.nodes[i].shape) >= 2 for i in product.inputs)
    numbers = {i: np.ones([7 if s == "n" else s for s in shape]) for i, shape in enumerate((left, right))}
    assert len(np.matmul(numbers[0], numbers[1]).shape) == len(result)


@pytest.mark.parametrize(
    ("shape", "target", "result"),
    [
        (("n", 4), (-1,), (N * 4,)),
        (("n", 4, 6), (-1, 24), (N, 24)),
        (("n", "m"), lambda x: (x.shape[1], x.shape[0]), (symbol("m"), N)),
        (("n", "m", 6), lambda x: (x.shape[0], -1), (N, symbol("m") * 6)),
        (("n", 8), lambda x: (x.shape[0], 2, 4), (N, 2, 4)),
        (("n", 8), lambda x: (x.shape[0] * 2, -1), (N * 2, 4)),
        ((), (1, 1), (1, 1)),
        ((0, 3), (-1, 3), (0, 3)),
    ],
)
def test_reshape_of_symbolic_sizes(shape: Any, target: Any, result: Any) -> None:
    def f(x: Any) -> Any:
        return x.reshape(target(x) if callable(target) else target)

    graph = ts.jit(f).trace([spec(*shape)]).graph
    assert graph.nodes[graph.outputs[0]].shape == result


def test_axes_are_stored_from_the_front() -> None:
    @ts.jit
    def f(x: Any) -> Any:
        return ts.softmax(x, axis=-2).sum((-1, 0)), x.transpose(0, -1, 1), x.mean(), x.max(-1, keepdims=True)

    nodes = {n.op: n for n in f.trace([spec("n", 3, 4)]).graph.nodes}
    assert nodes["softmax"].attrs == {"axis": 1}
    assert nodes["sum"].attrs == {"axes": [0, 2], "keepdims": False}
    assert nodes["transpose"].attrs == {"perm": [0, 2, 1]}
    assert nodes["mean"].attrs == {"axes": [0, 1, 2], "keepdims": False}
    assert nodes["max"].attrs == {"axes": [2], "keepdims": True}
    assert nodes["max"].shape == (N, 3, 1)


def test_defaults_and_keyword_parameters_are_built_in() -> None:
    @ts.jit
    def f(x: Any, scale: float = 2.0, *, shift: float = 1.0) -> Any:
        return x * scale + shift

    graph = f.trace([spec("n")]).graph
    assert [n.attrs["value"] for n in graph.nodes if n.op == "scalar"] == [2.0, 1.0]
    assert list(graph.leaves("input")) == ["x"]


def test_same_literal_and_same_array_are_one_node() -> None:
    graph = ts.jit(lambda x: (x + 1) * (x + 1) + TABLE + TABLE).trace([spec(3, 4)]).graph
    assert [n.op for n in graph.nodes].count("scalar") == 1
    assert [n.op for n in graph.nodes].count("constant") == 1


def test_infinite_literals_survive_json() -> None:
    traced = ts.jit(lambda x: ts.maximum(x, float("-inf"))).trace([spec(3)])
    assert b"null" not in encode(traced.graph)
    assert float(next(iter(traced.constants.values()))) == float("-inf")


def test_jit_keeps_the_function_and_its_documentation() -> None:
    @ts.jit
    def f(x: Any) -> Any:
        """Doubles."""
        return x * 2

    assert f.fn(3) == 6
    assert (f.__doc__, f.__name__, f.name) == ("Doubles.", "f", "f")
    assert ts.jit(f, name="g").name == "g"
    assert ts.jit(f).fn is f.fn
    assert f.location is not None
    assert f.location.line == inspect.getsourcelines(f.fn)[1] + 1
    assert repr(f).startswith("<ts.jit f(")


def test_jit_on_a_method_binds_self() -> None:
    class Scale:
        def __init__(self, factor: float) -> None:
            self.factor = factor

        @ts.jit
        def apply(self, x: Any) -> Any:
            return x * self.factor

    traced = Scale(3.0).apply.trace([spec("n")])
    assert list(traced.graph.leaves("input")) == ["x"]
    assert traced.graph.nodes[1].attrs == {"value": 3.0}


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_graph_computes_what_the_function_says(m: int, k: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(size=(m, k)), rng.normal(size=(k, n)), rng.normal(size=n)

    @ts.jit
    def f(x: Any, w: Any, bias: Any) -> Any:
        y = ts.tanh(x @ w + bias)
        return y / ts.sqrt(ts.sum(y * y, -1, keepdims=True) + 1e-3)

    traced = f.trace([spec("m", "k", dtype=ts.f64), spec("k", "n", dtype=ts.f64), spec("n", dtype=ts.f64)])
    result = run_graph(traced.graph, {"x": a, "w": b, "bias": c}, traced.constants)["output"]
    y = np.tanh(a @ b + c)
    np.testing.assert_allclose(result, y / np.sqrt((y * y).sum(-1, keepdims=True) + 1e-3), rtol=1e-12)


def test_callable_objects_and_partials_are_traced() -> None:
    class Adder:
        def __call__(self, x: Any) -> Any:
            return x + TABLE

    import functools

    def scale(factor: float, x: Any) -> Any:
        return x * factor

    assert ops(ts.jit(Adder(), name="adder").trace([spec(3, 4)])) == ["add"]
    assert ops(ts.jit(functools.partial(scale, 3.0), name="triple").trace([spec("n")])) == ["mul"]


def test_numpy_numbers_keep_their_dtype() -> None:
    def dtypes(number: Any) -> list[tuple[str, str]]:
        graph = ts.jit(lambda x: x * number).trace([spec("n", dtype=ts.bf16)]).graph
        return [(n.op, str(n.dtype)) for n in graph.nodes[1:]]

    assert dtypes(np.float32(0.5)) == [("scalar", "f32"), ("cast", "f32"), ("mul", "f32")]
    assert dtypes(np.float32("inf")) == [("constant", "f32"), ("cast", "f32"), ("mul", "f32")]
    assert dtypes(np.int8(3)) == [("scalar", "i8"), ("cast", "bf16"), ("mul", "bf16")]
    # A float64 of NumPy is a Python float, so that x / np.sqrt(n) does not turn bf16 into f64.
    assert dtypes(np.sqrt(2)) == [("scalar", "bf16"), ("mul", "bf16")]


def test_nodes_of_layers_point_at_the_line_that_calls_them() -> None:
    layer = ts.Linear(4, 4)

    def f(x: Any) -> Any:
        return layer(x)

    nodes = ts.jit(f).trace([spec("n", 4)]).graph.nodes
    assert {n.line for n in nodes if n.op in ("matmul", "add")} == {inspect.getsourcelines(f)[1] + 1}
