"""What kinds of operators there are, what they cost, and which the compiler can lower."""

from __future__ import annotations

from tessera.program.dtype import DType
from tessera.program.errors import CompileError
from tessera.program.graph import Graph

LEAVES = frozenset({"input", "constant", "scalar"})
UNARY = frozenset(
    {"neg", "abs", "exp", "log", "sqrt", "rsqrt", "tanh", "sigmoid", "erf", "relu", "gelu", "silu", "copy"}
)
"""One operand, element by element. `copy` is the compiler's own: its operand, in memory of its own."""
BINARY = frozenset({"add", "sub", "mul", "div", "maximum", "minimum"})
POINTWISE = UNARY | BINARY | {"cast"}
"""Operators whose result at an index needs the operands at that index alone."""
VIEWS = frozenset({"reshape", "transpose", "expand"})
"""Operators that only rearrange. `expand` is the compiler's own: its operand, broadcast to its shape."""
REDUCTIONS = frozenset({"sum", "mean", "max", "min"})
ROWS = REDUCTIONS | {"softmax", "layernorm"}
"""Operators that fold along axes."""
SUPPORTED = LEAVES | POINTWISE | VIEWS | ROWS | {"matmul"}

_CHEAP = VIEWS | {"scalar", "cast", "copy", "neg", "abs", "relu"}
_EXPENSIVE = ROWS | {"matmul", "exp", "log", "tanh", "sigmoid", "erf", "gelu", "silu"}


def cost(op: str) -> int:
    """How bad it is to compute an operator's element again: 0 nothing, 1 some, 2 much."""
    return 0 if op in _CHEAP else 2 if op in _EXPENSIVE else 1


_INTEGER_UNARY = frozenset({"neg", "abs", "relu", "copy"})
_INTEGER_BINARY = BINARY - {"div"}
_BOOL_BINARY = frozenset({"add", "mul", "maximum", "minimum"})


def check_supported(graph: Graph) -> None:
    """See that every operator can be lowered.

    Raises:
        CompileError: One cannot; the message names it, its line, and what to write instead.
    """
    for node in graph.nodes:
        if node.op not in SUPPORTED:
            raise CompileError(
                f"operator {node.op!r} of {graph.name!r} cannot be compiled",
                hint="operators that can be: " + ", ".join(sorted(SUPPORTED - LEAVES - {"copy", "expand"})),
                location=node.location,
                operator=node.op,
            )
        if not _takes(node.op, node.dtype):
            raise CompileError(
                f"{node.op} of {node.dtype} in {graph.name!r} cannot be compiled",
                hint=f"cast its operands to a float type first, as in ts.{node.op}(ts.cast(x, ts.f32))",
                location=node.location,
                operator=node.op,
                dtype=str(node.dtype),
            )


def _takes(op: str, dtype: DType) -> bool:
    if dtype.is_float or op in LEAVES | VIEWS | {"cast", "matmul"}:
        return True
    if op in BINARY:
        return op in (_BOOL_BINARY if dtype.kind == "bool" else _INTEGER_BINARY)
    if op in UNARY:
        return op == "copy" or (op in _INTEGER_UNARY and dtype.kind != "bool")
    return op in {"sum", "max", "min"}
