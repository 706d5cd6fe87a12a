"""Graphs by hand, for tests of the compiler: shapes are worked out here, apart from the language's rules."""

from __future__ import annotations

import numpy as np

from tessera.program.dim import product, symbol
from tessera.program.dtype import as_dtype, f32
from tessera.program.graph import Graph, Node

UNARY = ("neg", "abs", "exp", "log", "sqrt", "rsqrt", "tanh", "sigmoid", "erf", "relu", "gelu", "silu")
MORE_UNARY = ("exp2", "expm1", "log2", "log1p", "sin", "cos", "floor", "ceil", "round", "trunc", "sign")
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum")
MORE_BINARY = ("floordiv", "mod", "pow")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
TESTS = ("isnan", "isinf")


class Maker:
    """Adds nodes; every method gives the new node's index."""

    def __init__(self, name: str = "forward") -> None:
        self.name = name
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}

    def node(self, op, inputs, shape, dtype, **attrs) -> int:
        line = len(self.nodes) + 1
        self.nodes.append(
            Node(op=op, inputs=tuple(inputs), attrs=attrs, shape=tuple(shape), dtype=as_dtype(dtype),
                 file="model.py", line=line)
        )  # fmt: skip
        return len(self.nodes) - 1

    def input(self, name, shape, dtype=f32) -> int:
        sizes = [symbol(s) if isinstance(s, str) else s for s in shape]
        return self.node("input", (), sizes, dtype, name=name)

    def constant(self, name, value, dtype=f32) -> int:
        dtype = as_dtype(dtype)
        self.constants[name] = np.ascontiguousarray(np.asarray(value).astype(dtype.numpy))
        return self.node("constant", (), np.shape(value), dtype, name=name)

    def scalar(self, value, dtype=f32) -> int:
        return self.node("scalar", (), (), dtype, value=value)

    def shape(self, i):
        return self.nodes[i].shape

    def dtype(self, i):
        return self.nodes[i].dtype

    def unary(self, op, x, **attrs) -> int:
        if op == "gelu":
            attrs.setdefault("approximate", "none")
        return self.node(op, (x,), self.shape(x), self.dtype(x), **attrs)

    def binary(self, op, a, b) -> int:
        return self.node(op, (a, b), broadcast(self.shape(a), self.shape(b)), self.dtype(a))

    def compare(self, op, a, b) -> int:
        return self.node(op, (a, b), broadcast(self.shape(a), self.shape(b)), "bool")

    def test(self, op, x) -> int:
        return self.node(op, (x,), self.shape(x), "bool")

    def where(self, c, a, b) -> int:
        shape = broadcast(self.shape(c), broadcast(self.shape(a), self.shape(b)))
        return self.node("where", (c, a, b), shape, self.dtype(a))

    def rmsnorm(self, x, *weights, eps=1e-5) -> int:
        return self.node("rmsnorm", (x, *weights), self.shape(x), self.dtype(x), eps=eps)

    def log_softmax(self, x, axis) -> int:
        return self.node("log_softmax", (x,), self.shape(x), self.dtype(x), axis=axis)

    def cast(self, x, dtype) -> int:
        return self.node("cast", (x,), self.shape(x), dtype)

    def reduce(self, op, x, axes, keepdims=False, dtype=None) -> int:
        shape = [
            1 if axis in axes else size
            for axis, size in enumerate(self.shape(x))
            if keepdims or axis not in axes
        ]
        return self.node(op, (x,), shape, dtype or self.dtype(x), axes=list(axes), keepdims=keepdims)

    def softmax(self, x, axis) -> int:
        return self.node("softmax", (x,), self.shape(x), self.dtype(x), axis=axis)

    def layernorm(self, x, *weights, eps=1e-5) -> int:
        return self.node("layernorm", (x, *weights), self.shape(x), self.dtype(x), eps=eps)

    def matmul(self, a, b, dtype=None) -> int:
        left, right = self.shape(a), self.shape(b)
        shape = (*broadcast(left[:-2], right[:-2]), left[-2], right[-1])
        return self.node("matmul", (a, b), shape, dtype or self.dtype(a))

    def reshape(self, x, shape) -> int:
        assert product(shape) == product(self.shape(x))
        return self.node("reshape", (x,), shape, self.dtype(x))

    def transpose(self, x, perm) -> int:
        return self.node("transpose", (x,), [self.shape(x)[p] for p in perm], self.dtype(x), perm=list(perm))

    def graph(self, *outputs) -> Graph:
        names = ("output",) if len(outputs) == 1 else tuple(f"output_{i}" for i in range(len(outputs)))
        return Graph(name=self.name, nodes=tuple(self.nodes), outputs=outputs, output_names=names)


def broadcast(a, b):
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + tuple(a), (1,) * (rank - len(b)) + tuple(b)
    return tuple(y if x == 1 else x for x, y in zip(a, b, strict=True))


def random_array(rng, shape, dtype=f32, low=-2.0, high=2.0):
    dtype = as_dtype(dtype)
    if dtype.kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if not dtype.is_float:
        return rng.integers(0 if dtype.kind == "uint" else -20, 20, shape).astype(dtype.numpy)
    return rng.uniform(low, high, shape).astype(dtype.numpy)
