"""One way for every operator: into the graph being traced, or computed at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tessera.language.builder import GraphBuilder, active
from tessera.language.location import caller_line, caller_location
from tessera.language.promotion import number_dtype
from tessera.language.rules import RULES, Operand
from tessera.program.dim import Expr
from tessera.program.dtype import as_dtype
from tessera.program.errors import TesseraError, TraceError

if TYPE_CHECKING:
    from tessera.language.tensor import Tensor


def emit(op: str, *operands: object, **settings: Any) -> Tensor:
    """The result of operator `op`.

    Inside a trace it is a node of the graph, also if every operand has a value: so
    weights keep their names. Outside, `tessera.reference` computes it now.

    Raises:
        TraceError: An operand that cannot be one.
        ShapeError: Shapes that do not fit together.
    """
    from tessera.language.tensor import Tensor

    builder = active()
    target = builder or GraphBuilder(op)
    target.line = caller_line()
    try:
        values = [_operand(target, op, value) for value in operands]
        index = RULES[op](target, values, **settings)
    except TesseraError as error:
        raise _located(error) from None
    if builder is not None:
        return Tensor.traced(builder, index)
    return _compute(target, index)


def _located(error: TesseraError) -> TesseraError:
    if error.location is None:
        error.location = caller_location()
    return error


def _compute(builder: GraphBuilder, index: int) -> Tensor:
    # numpy and ml_dtypes cost 70 ms; only those who compute pay.
    from tessera.language.tensor import Tensor
    from tessera.reference import run_graph

    graph, constants = builder.finish((index,), ("output",))
    return Tensor(run_graph(graph, {}, constants)["output"], builder.nodes[index].dtype)


def _operand(builder: GraphBuilder, op: str, value: object) -> Operand:
    from tessera.language.tensor import Tensor

    if isinstance(value, (bool, int, float)):
        return Operand(None, number_dtype(value), (), str(value), value)
    if isinstance(value, Tensor):
        index = node_of(builder, value, op)
    elif _is_numpy(value):
        index = _constant(builder, value)
    else:
        raise _not_an_operand(op, value)
    node = builder.nodes[index]
    return Operand(index, node.dtype, node.shape, builder.label(index))


def node_of(builder: GraphBuilder, tensor: Tensor, op: str) -> int:
    """The node of a tensor: its own, or a constant.

    Raises:
        TraceError: It was made while another function was traced.
    """
    if not tensor.is_traced:
        return builder.constant(tensor.numpy(), tensor.dtype)
    owner, index = tensor.trace_node
    if owner is not builder:
        raise TraceError(
            f"{op}: {owner.label(index)} belongs to the trace of {owner.name}, which has ended",
            hint="a traced function must return its tensors, not store them in attributes or globals",
        )
    return index


def _is_numpy(value: object) -> bool:
    # Asked by module name, so that numpy is not imported where nobody uses it.
    return type(value).__module__.partition(".")[0] in ("numpy", "ml_dtypes") and hasattr(value, "dtype")


def _constant(builder: GraphBuilder, value: Any) -> int:
    import numpy as np

    dtype = as_dtype(value.dtype, what="operand")
    if isinstance(value, np.ndarray):
        return builder.constant(value, dtype)
    # A NumPy number keeps its dtype, unlike a Python one.
    return builder.scalar(float(value) if dtype.is_float else value.item(), dtype)


def _not_an_operand(op: str, value: object) -> TraceError:
    kind = type(value).__name__
    if isinstance(value, Expr):
        return TraceError(
            f"{op}: the size {value} has no value while a function is traced, so it cannot be an operand",
            hint="use ts.mean for an average, or give the TensorSpec a fixed size there",
        )
    if isinstance(value, (list, tuple)):
        hint = f"make a tensor of it first: ts.tensor({'[...]' if isinstance(value, list) else '(...)'})"
    elif value is ...:
        hint = "put a tensor in place of ..."
    else:
        hint = "operands are tensors, NumPy arrays and Python numbers"
    return TraceError(f"{op}: a {kind} is not a tensor", hint=hint)
