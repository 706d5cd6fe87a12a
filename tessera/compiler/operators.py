"""What kinds of operators there are, what they cost, and which the compiler can lower."""

from __future__ import annotations

from tessera.program.dtype import DType
from tessera.program.errors import CompileError
from tessera.program.graph import Graph

LEAVES = frozenset({"input", "constant", "scalar"})
_FLOAT_UNARY = frozenset(
    {"exp", "log", "sqrt", "rsqrt", "tanh", "sigmoid", "erf", "gelu", "silu", "exp2", "expm1", "log2",
     "log1p", "sin", "cos", "floor", "ceil", "round", "trunc"}
)  # fmt: skip
UNARY = _FLOAT_UNARY | {"neg", "abs", "relu", "sign", "copy"}
"""One operand, element by element. `copy` is the compiler's own: its operand, in memory of its own."""
TESTS = frozenset({"isnan", "isinf"})
"""One operand, of any dtype; the result is bool."""
BINARY = frozenset({"add", "sub", "mul", "div", "maximum", "minimum", "floordiv", "mod", "pow"})
COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})
"""Two operands of one dtype; the result is bool."""
POINTWISE = UNARY | TESTS | BINARY | COMPARISONS | {"cast", "where"}
"""Operators whose result at an index needs the operands at that index alone."""
VIEWS = frozenset({"reshape", "transpose", "expand", "slice", "roll"})
"""Operators that only rearrange."""
SOURCES = frozenset({"iota", "extent"})
"""Operators that follow from positions and sizes alone."""
GATHERS = frozenset({"concat", "pad", "take", "take_along", "windows"})
"""Operators that read their first operand at another index, or not at all."""
SCATTERS = frozenset({"scatter", "scatter_add"})
"""Operators that ask every update whether it is for this index."""
SEGMENTS = frozenset({"fold_segments"})
"""The compiler's own: an element folds the updates for it, which lie together."""
ORDERS = frozenset({"argsort"})
"""Operators whose template writes elements out of order: nothing can be fused behind them."""
POSITIONS = frozenset({"argmax", "argmin"})
"""Reductions whose result is a position, in i64."""
REDUCTIONS = frozenset({"sum", "prod", "mean", "max", "min"}) | POSITIONS
NORMALIZATIONS = frozenset({"softmax", "log_softmax", "layernorm", "rmsnorm"})
ROWS = REDUCTIONS | NORMALIZATIONS
"""Operators that fold along axes."""
CORES = ROWS | ORDERS | {"matmul", "cumsum", "attention"}
"""Operators that a template computes, one in a kernel."""
SUPPORTED = LEAVES | POINTWISE | VIEWS | SOURCES | GATHERS | SCATTERS | CORES

_CHEAP = VIEWS | SOURCES | {"concat", "pad", "windows", "scalar", "cast", "copy", "neg", "abs", "relu"}
_EXPENSIVE = CORES | _FLOAT_UNARY - {"sqrt", "rsqrt", "floor", "ceil", "round", "trunc"}
_EXPENSIVE |= SCATTERS | SEGMENTS | {"pow", "mod", "floordiv"}


def cost(op: str) -> int:
    """How bad it is to compute an operator's element again: 0 nothing, 1 some, 2 much."""
    return 0 if op in _CHEAP else 2 if op in _EXPENSIVE else 1


_ANY_DTYPE = LEAVES | VIEWS | SOURCES | GATHERS | COMPARISONS | TESTS | POSITIONS | ORDERS
_ANY_DTYPE |= {"cast", "matmul", "where", "copy", "max", "min", "scatter"}
_INTEGER = (
    _ANY_DTYPE | (BINARY - {"div"}) | {"neg", "abs", "relu", "sign", "sum", "prod", "cumsum", "scatter_add"}
)
_BOOL = _ANY_DTYPE | {"add", "mul", "maximum", "minimum", "sum"}


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
    return dtype.is_float or op in (_BOOL if dtype.kind == "bool" else _INTEGER)
