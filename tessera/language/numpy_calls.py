"""NumPy functions called on tensors: `array + tensor`, `np.exp(tensor)`, `np.sin(tensor)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tessera.language import operators as ops
from tessera.language.emit import emit
from tessera.language.location import caller_location
from tessera.language.tensor import Tensor
from tessera.program.errors import TraceError

UFUNCS: dict[str, str] = {
    "absolute": "abs",
    "add": "add",
    "ceil": "ceil",
    "cos": "cos",
    "divide": "div",
    "equal": "eq",
    "exp": "exp",
    "exp2": "exp2",
    "expm1": "expm1",
    "floor": "floor",
    "floor_divide": "floordiv",
    "greater": "gt",
    "greater_equal": "ge",
    "isinf": "isinf",
    "isnan": "isnan",
    "less": "lt",
    "less_equal": "le",
    "log": "log",
    "log1p": "log1p",
    "log2": "log2",
    "logical_and": "logical_and",
    "logical_not": "logical_not",
    "logical_or": "logical_or",
    "logical_xor": "logical_xor",
    "matmul": "matmul",
    "maximum": "maximum",
    "minimum": "minimum",
    "multiply": "mul",
    "negative": "neg",
    "not_equal": "ne",
    "power": "pow",
    "reciprocal": "reciprocal",
    "remainder": "mod",
    "rint": "round",
    "sign": "sign",
    "sin": "sin",
    "sqrt": "sqrt",
    "square": "square",
    "subtract": "sub",
    "tanh": "tanh",
    "trunc": "trunc",
}
"""NumPy's ufuncs that are operators of ours. An array on the left, `array + tensor`, comes as one."""


def call_ufunc(ufunc: Any, method: str, inputs: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The operator of ours that `ufunc` is, or for tensors with values NumPy's own result.

    Raises:
        TraceError: A tensor is traced, and we have no such operator.
    """
    op = UFUNCS.get(ufunc.__name__) if method == "__call__" and not kwargs else None
    if op is not None:
        return emit(op, *inputs)
    name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
    return _with_values(name, getattr(ufunc, method), inputs, kwargs)


def call_function(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """NumPy's own result, for tensors with values.

    Raises:
        TraceError: A tensor is traced.
    """
    inner = str(getattr(function, "__module__", "") or "").partition("numpy.")[2]
    name = f"{inner}.{function.__name__}" if inner in ("linalg", "fft") else function.__name__
    return _with_values(name, function, args, kwargs)


def _with_values(name: str, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if any(_is_traced(value) for value in (*args, *kwargs.values())):
        ours = UFUNCS.get(name, name)
        raise TraceError(
            f"np.{name} is not an operator of Tessera, and a tensor has no value while a function is traced",
            hint=f"write ts.{ours}" if ours in ops.OPERATORS else f"operators: {', '.join(ops.OPERATORS)}",
            location=caller_location(),
        )
    return function(*map(_value, args), **{key: _value(value) for key, value in kwargs.items()})


def _is_traced(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_is_traced, value))
    return isinstance(value, Tensor) and value.is_traced


def _value(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_value, value))
    return value.numpy() if isinstance(value, Tensor) else value
