"""What a rule is given: its operands, and how they come to one dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tessera.language.builder import GraphBuilder
from tessera.language.promotion import Number, number_dtype, promote, promote_weak
from tessera.language.shapes import Shape, Side
from tessera.program.dtype import DType, bool_, i64
from tessera.program.errors import TraceError


@dataclass(frozen=True, slots=True)
class Operand:
    """An operand: a node, or a Python number that takes the dtype of what it meets."""

    index: int | None
    """Node, or None for a Python number."""
    dtype: DType
    shape: Shape
    label: str
    number: Number | None = None

    def node(self, builder: GraphBuilder, dtype: DType) -> int:
        """The node of this operand in `dtype`."""
        if self.index is not None:
            return builder.cast(self.index, dtype)
        return builder.scalar(as_literal(self.number, dtype), dtype)

    def side(self, role: str = "operand") -> Side:
        """This operand, as messages call it."""
        return Side(role, self.label, self.shape)


def as_literal(number: Number | None, dtype: DType) -> Number:
    """A Python number of the kind that a scalar of `dtype` holds."""
    assert number is not None  # noqa: S101 - an operand is a node or a number
    return float(number) if dtype.is_float else bool(number) if dtype == bool_ else int(number)


Rule = Callable[..., int]
"""`rule(builder, operands, **settings)`: adds one operator and gives the index of its result."""


def common_dtype(operands: Sequence[Operand]) -> DType:
    """The dtype in which the operands meet."""
    nodes = [x for x in operands if x.number is None]
    numbers = [x.number for x in operands if x.number is not None]
    if not nodes:
        dtype = number_dtype(numbers[0])
        rest = numbers[1:]
    else:
        dtype = nodes[0].dtype
        for operand in nodes[1:]:
            dtype = promote(dtype, operand.dtype)
        rest = numbers
    for number in rest:
        dtype = promote_weak(dtype, number)
    return dtype


def refuse_bool(op: str, dtype: DType) -> None:
    """Raise a TraceError where an operator has no meaning for bool."""
    if dtype == bool_:
        raise TraceError(f"{op} has no meaning for bool", hint="cast first: ts.cast(x, ts.i32)")


def index_operand(op: str, operand: Operand, builder: GraphBuilder) -> int:
    """The node of an operand that counts positions, in i64.

    Raises:
        TraceError: It is no integer.
    """
    if operand.dtype.kind not in ("int", "uint"):
        raise TraceError(
            f"{op}: {operand.side('index')} is {operand.dtype}, not an integer",
            hint="ts.cast(index, ts.i64)",
        )
    return operand.node(builder, i64)


def checked_number(op: str, name: str, value: object, *, least: float | None = None) -> float:
    """A setting that must be a Python number.

    Raises:
        TraceError: It is none, or less than `least`.
    """
    wrong = not isinstance(value, (int, float)) or isinstance(value, bool)
    if wrong or (least is not None and not float(str(value)) >= least):
        bound = "" if least is None else f" of {least:g} or more"
        raise TraceError(f"{op}: {name}={value!r} is not a number{bound}", hint=f"{name}=1.0")
    return float(str(value))


def checked_count(op: str, name: str, value: object, *, least: int = 1) -> int:
    """A setting that must be a Python integer of `least` or more.

    Raises:
        TraceError: It is not.
    """
    if not hasattr(value, "__index__") or isinstance(value, bool):
        raise TraceError(f"{op}: {name}={value!r} is not an integer", hint=f"{name}={max(least, 1)}")
    number = int(value.__index__())
    if number < least:
        raise TraceError(f"{op}: {name}={number} is less than {least}", hint=f"{name}={max(least, 1)}")
    return number
