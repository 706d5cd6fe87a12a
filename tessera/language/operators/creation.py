"""Tensors of numbers that follow a rule, inside a graph or with values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tessera.language.emit import emit
from tessera.language.location import caller_location
from tessera.language.promotion import number_dtype
from tessera.program.dim import Dim, Expr
from tessera.program.dtype import DType, as_dtype, f32
from tessera.program.errors import TraceError

if TYPE_CHECKING:
    from tessera.language.tensor import Tensor, TensorLike


def full(shape: Dim | Sequence[Dim], value: TensorLike, dtype: DType | str | None = None) -> Tensor:
    """A tensor of one number; of its own dtype by default. Sizes may be symbolic, as in `x.shape[0]`."""
    sizes = list(shape) if isinstance(shape, Sequence) else [shape]
    for size in sizes:
        if not isinstance(size, Expr) and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
            raise TraceError(
                f"full: {size!r} is not a size", hint="ts.zeros((2, 3))", location=caller_location()
            )
    return emit("full", value, shape=sizes, dtype=dtype)


def zeros(shape: Dim | Sequence[Dim], dtype: DType | str = f32) -> Tensor:
    """A tensor of zeros. Sizes may be symbolic."""
    return full(shape, 0, dtype)


def ones(shape: Dim | Sequence[Dim], dtype: DType | str = f32) -> Tensor:
    """A tensor of ones. Sizes may be symbolic."""
    return full(shape, 1, dtype)


def arange(
    start: float | Expr, stop: float | Expr | None = None, step: float = 1, dtype: DType | str | None = None
) -> Tensor:
    """The numbers from `start` (0 if only one number is given) up to `stop`, without it, `step` apart.

    Args:
        start: A number; if it is the only argument, the stop, which may be symbolic: `x.shape[0]`.
        stop: A number, or with a step of 1 a symbolic size.
        step: Not 0.
        dtype: i64 for integers, f32 for floats by default.
    """
    first, last = (0, start) if stop is None else (start, stop)
    numbers = [n for n in (first, last, step) if not isinstance(n, Expr)]
    if any(isinstance(n, bool) or not isinstance(n, (int, float)) for n in numbers) or step == 0:
        raise TraceError(
            "arange: start, stop and step are numbers, and step is not 0",
            hint="ts.arange(10)",
            location=caller_location(),
        )
    if isinstance(first, Expr) or (isinstance(last, Expr) and (step != 1 or not isinstance(first, int))):
        raise TraceError(
            "arange: only the stop may be symbolic, with whole numbers and a step of 1",
            hint="ts.arange(x.shape[0])",
            location=caller_location(),
        )
    count: Dim = last - int(first) if isinstance(last, Expr) else max(math.ceil((last - first) / step), 0)
    natural = number_dtype(1.0 if any(isinstance(n, float) for n in numbers) else 1)
    wanted = natural if dtype is None else as_dtype(dtype, what="arange")
    return emit("arange", count=count, start=first, step=step, dtype=wanted)
