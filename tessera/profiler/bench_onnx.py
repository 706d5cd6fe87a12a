"""A program's graph as an ONNX model with fixed sizes, computed by ONNX Runtime."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tessera.program.dim import evaluate
from tessera.program.errors import OptionError
from tessera.program.graph import Graph, Node, attr_ints
from tessera.reference.movement import axis_of, sizes

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

OPSET = 20
"""Of ONNX 1.15, the first with Gelu."""
IR_VERSION = 9
"""Of the same release; what later libraries write, earlier runtimes refuse."""

TYPES = {
    "f64": "DOUBLE", "f32": "FLOAT", "tf32": "FLOAT", "f16": "FLOAT16",
    "i64": "INT64", "i32": "INT32", "i16": "INT16", "i8": "INT8", "u8": "UINT8", "bool": "BOOL",
}  # fmt: skip
"""By dtype, the element type of ONNX. ONNX Runtime computes next to nothing in bfloat16 on a CPU."""

Operation = Callable[["_Model", Node, Sequence[str]], str]
"""(model, node with sizes as numbers, names of the operands) → name of the result."""


def onnx_call(
    graph: Graph,
    inputs: Mapping[str, Array],
    constants: Mapping[str, Array],
    symbols: Mapping[str, int],
    device: str,
) -> Callable[[], list[Array]]:
    """What computes the graph's outputs in an ONNX Runtime session, from NumPy and to NumPy.

    Args:
        graph: One whose operators and types are all known here.
        inputs: Arrays by name.
        constants: Weights by name, part of the model.
        symbols: Value of every symbolic size.
        device: `cpu`, or `cuda:0` where ONNX Runtime has its CUDA provider.
    """
    onnxruntime = importlib.import_module("onnxruntime")
    model = to_onnx(graph, constants, symbols)
    providers = ["CPUExecutionProvider"]
    if device.startswith("cuda"):
        providers.insert(0, "CUDAExecutionProvider")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=providers)
    given = {name: inputs[name] for name in graph.leaves("input")}
    return lambda: list(session.run(None, given))


def to_onnx(graph: Graph, constants: Mapping[str, Array], symbols: Mapping[str, int]) -> Any:
    """The graph as an `onnx.ModelProto`."""
    import msgspec

    model = _Model(constants)
    for node in graph.nodes:
        fixed = msgspec.structs.replace(node, shape=tuple(evaluate(dim, symbols) for dim in node.shape))
        model.append(fixed)
    return model.finish(graph)


class _Model:
    """The ONNX nodes so far, and the name of each value."""

    def __init__(self, constants: Mapping[str, Array]) -> None:
        self.onnx: Any = importlib.import_module("onnx")
        self.constants = constants
        self.names: list[str] = []
        self.nodes: list[Node] = []
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._initializers: list[Any] = []
        self._count = 0

    def append(self, node: Node) -> None:
        """Add one node of the graph."""
        self.names.append(self._named(node))
        self.nodes.append(node)

    def _named(self, node: Node) -> str:
        if node.op == "input":
            name = str(node.attrs["name"])
            made = self.onnx.helper.make_tensor_value_info(name, self._type(node), list(sizes(node)))
            self._inputs.append(made)
            return name
        if node.op == "constant":
            return self.tensor(self.constants[str(node.attrs["name"])])
        if node.op == "scalar":
            return self.filled(node.attrs["value"], node)
        if node.op == "cast":
            return self.cast(self.names[node.inputs[0]], node)
        return OPERATIONS[node.op](self, node, [self.names[i] for i in node.inputs])

    def add(self, kind: str, operands: Sequence[str], **attributes: Any) -> str:
        """One ONNX node; the name of its result."""
        self._count += 1
        result = f"_{self._count}"
        self._nodes.append(self.onnx.helper.make_node(kind, list(operands), [result], **attributes))
        return result

    def tensor(self, value: Array) -> str:
        """A constant; its name."""
        import numpy as np

        self._count += 1
        name = f"_{self._count}"
        self._initializers.append(self.onnx.numpy_helper.from_array(np.array(value), name))
        return name

    def integers(self, values: Sequence[int]) -> str:
        """A constant vector of 64-bit integers, as shapes and axes are given; its name."""
        import numpy as np

        return self.tensor(np.array(values, np.int64))

    def filled(self, value: object, node: Node) -> str:
        """A constant of rank 0 and the type of a node."""
        import numpy as np

        return self.tensor(np.array(value, node.dtype.numpy))

    def cast(self, name: str, node: Node) -> str:
        """A value in the type of a node."""
        return self.add("Cast", [name], to=self._type(node))

    def finish(self, graph: Graph) -> Any:
        """The model."""
        helper, outputs = self.onnx.helper, []
        for name, index in zip(graph.output_names, graph.outputs, strict=True):
            # An output may be an input, or stand twice: each gets a name of its own.
            result = f"{name}_out"
            self._nodes.append(helper.make_node("Identity", [self.names[index]], [result]))
            outputs.append(helper.make_tensor_value_info(result, self._type(graph.nodes[index]), None))
        made = helper.make_graph(self._nodes, graph.name, self._inputs, outputs, self._initializers)
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION)

    def _type(self, node: Node) -> int:
        return int(getattr(self.onnx.TensorProto, TYPES[node.dtype.name]))


def _named(kind: str) -> Operation:
    return lambda model, _node, operands: model.add(kind, operands)


def _reduction(kind: str, *, axes_are_input: bool) -> Operation:
    def build(model: _Model, node: Node, operands: Sequence[str]) -> str:
        axes, keep = attr_ints(node, "axes"), int(bool(node.attrs["keepdims"]))
        if axes_are_input:
            return model.add(kind, [operands[0], model.integers(axes)], keepdims=keep)
        return model.add(kind, operands, axes=list(axes), keepdims=keep)

    return build


def _position(kind: str) -> Operation:
    def build(model: _Model, node: Node, operands: Sequence[str]) -> str:
        (axis,) = attr_ints(node, "axes")
        found = model.add(kind, operands, axis=axis, keepdims=int(bool(node.attrs["keepdims"])))
        return model.cast(found, node)

    return build


def _along(kind: str) -> Operation:
    return lambda model, node, operands: model.add(kind, operands, axis=axis_of(node))


def _rsqrt(model: _Model, _node: Node, operands: Sequence[str]) -> str:
    return model.add("Reciprocal", [model.add("Sqrt", operands)])


def _silu(model: _Model, _node: Node, operands: Sequence[str]) -> str:
    return model.add("Mul", [operands[0], model.add("Sigmoid", operands)])


def _ne(model: _Model, _node: Node, operands: Sequence[str]) -> str:
    return model.add("Not", [model.add("Equal", operands)])


def _layernorm(model: _Model, node: Node, operands: Sequence[str]) -> str:
    import numpy as np

    width = node.shape[-1]
    scale = operands[1] if len(operands) > 1 else model.tensor(np.ones(int(str(width)), node.dtype.numpy))
    rest = [operands[2]] if len(operands) > 2 else []
    return model.add(
        "LayerNormalization", [operands[0], scale, *rest], axis=-1, epsilon=float(str(node.attrs["eps"]))
    )


def _rmsnorm(model: _Model, node: Node, operands: Sequence[str]) -> str:
    x = operands[0]
    power = model.add("ReduceMean", [model.add("Mul", [x, x]), model.integers([-1])], keepdims=1)
    root = model.add("Sqrt", [model.add("Add", [power, model.filled(node.attrs["eps"], node)])])
    result = model.add("Div", [x, root])
    return model.add("Mul", [result, operands[1]]) if len(operands) > 1 else result


def _attention(model: _Model, node: Node, operands: Sequence[str]) -> str:
    import numpy as np

    q, k, v = operands[:3]
    heads, shared = (sizes(model.nodes[i])[-3] for i in node.inputs[:2])
    if heads != shared:
        raise OptionError(
            f"onnxruntime: no attention of {heads} heads that share {shared}", hint="--baseline torch"
        )
    rank = len(node.shape)
    swapped = [*range(rank - 2), rank - 1, rank - 2]
    product = model.add("MatMul", [q, model.add("Transpose", [k], perm=swapped)])
    scores = model.add("Mul", [product, model.filled(node.attrs["scale"], node)])
    hidden = model.filled(-math.inf, node)
    if len(operands) > 3:
        is_bool = model.nodes[node.inputs[3]].dtype.name == "bool"
        shown = [operands[3], scores, hidden] if is_bool else [scores, operands[3]]
        scores = model.add("Where" if is_bool else "Add", shown)
    if node.attrs["causal"]:
        rows, columns = sizes(node)[-2], sizes(model.nodes[node.inputs[1]])[-2]
        below = np.tril(np.ones((rows, columns), bool), columns - rows)
        scores = model.add("Where", [model.tensor(below), scores, hidden])
    return model.add("MatMul", [model.add("Softmax", [scores], axis=-1), v])


def _reshape(model: _Model, node: Node, operands: Sequence[str]) -> str:
    return model.add("Reshape", [operands[0], model.integers(sizes(node))], allowzero=1)


def _expand(model: _Model, node: Node, operands: Sequence[str]) -> str:
    return model.add("Expand", [operands[0], model.integers(sizes(node))])


def _cumsum(model: _Model, node: Node, operands: Sequence[str]) -> str:
    import numpy as np

    return model.add("CumSum", [operands[0], model.tensor(np.array(axis_of(node), np.int64))])


def _gelu(model: _Model, node: Node, operands: Sequence[str]) -> str:
    return model.add("Gelu", operands, approximate=str(node.attrs["approximate"]))


OPERATIONS: dict[str, Operation] = {
    **{
        name: _named(kind)
        for name, kind in {
            "neg": "Neg", "abs": "Abs", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "tanh": "Tanh",
            "sigmoid": "Sigmoid", "erf": "Erf", "relu": "Relu", "sin": "Sin", "cos": "Cos", "sign": "Sign",
            "floor": "Floor", "ceil": "Ceil", "round": "Round", "isnan": "IsNaN", "isinf": "IsInf",
            "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "maximum": "Max", "minimum": "Min",
            "pow": "Pow", "eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater",
            "ge": "GreaterOrEqual", "where": "Where", "matmul": "MatMul",
        }.items()
    },
    "ne": _ne,
    "rsqrt": _rsqrt,
    "silu": _silu,
    "gelu": _gelu,
    "sum": _reduction("ReduceSum", axes_are_input=True),
    "prod": _reduction("ReduceProd", axes_are_input=True),
    "mean": _reduction("ReduceMean", axes_are_input=True),
    "max": _reduction("ReduceMax", axes_are_input=True),
    "min": _reduction("ReduceMin", axes_are_input=True),
    "argmax": _position("ArgMax"),
    "argmin": _position("ArgMin"),
    "softmax": _along("Softmax"),
    "log_softmax": _along("LogSoftmax"),
    "concat": _along("Concat"),
    "layernorm": _layernorm,
    "rmsnorm": _rmsnorm,
    "attention": _attention,
    "cumsum": _cumsum,
    "reshape": _reshape,
    "expand": _expand,
    "transpose": lambda model, node, xs: model.add("Transpose", xs, perm=list(attr_ints(node, "perm"))),
}  # fmt: skip
"""By operator. Those that take more than a few nodes of ONNX are missing."""
