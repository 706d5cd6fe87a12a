"""Reading and writing at positions that tensors hold, and order.

Positions count from the end where they are negative. One beyond the axis is brought back to its nearest
element, on every device: a GPU cannot raise an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.language.emit import emit
from tessera.program.dtype import DType, as_dtype, i64

if TYPE_CHECKING:
    from tessera.language.tensor import Tensor, TensorLike


def take(x: TensorLike, index: TensorLike, axis: int) -> Tensor:
    """The elements of `axis` at the positions in `index`.

    Args:
        x: (…, n, …).
        index: Integers of any shape.
        axis: Where n is.

    Returns:
        x with the shape of index in place of the axis.
    """
    return emit("take", x, index, axis=axis)


def take_along_axis(x: TensorLike, index: TensorLike, axis: int) -> Tensor:
    """For every position in `index`, the element of the same line of `x` along `axis`.

    Args:
        x: (…, n, …).
        index: Integers (…, k, …), with the other sizes of x.
        axis: Where n and k are.

    Returns:
        The shape of index.
    """
    return emit("take_along_axis", x, index, axis=axis)


def gather(x: TensorLike, index: TensorLike, axis: int) -> Tensor:
    """`take_along_axis`, by the name that PyTorch gave it."""
    return emit("gather", x, index, axis=axis)


def scatter(x: TensorLike, index: TensorLike, updates: TensorLike, axis: int) -> Tensor:
    """`x` with `updates` in place of the elements at `index` along `axis`; of several for one place the last.

    Args:
        x: (…, n, …).
        index: Integers (…, k, …), with the other sizes of x.
        updates: The shape of index, or a number.
        axis: Where n and k are.
    """
    return emit("scatter", x, index, updates, axis=axis)


def scatter_add(x: TensorLike, index: TensorLike, updates: TensorLike, axis: int) -> Tensor:
    """`x` with `updates` added to the elements at `index` along `axis`, in order.

    Args:
        x: (…, n, …).
        index: Integers (…, k, …), with the other sizes of x.
        updates: The shape of index, or a number.
        axis: Where n and k are.
    """
    return emit("scatter_add", x, index, updates, axis=axis)


def embedding(ids: TensorLike, table: TensorLike) -> Tensor:
    """The rows of `table` at `ids`.

    Args:
        ids: Integers of any shape.
        table: (words, features).

    Returns:
        The shape of ids, then features.
    """
    return emit("embedding", ids, table)


def one_hot(x: TensorLike, classes: int, dtype: DType | str = i64) -> Tensor:
    """1 where the class is that of `x`, else 0; on a new last axis. All 0 for what is no class."""
    return emit("one_hot", x, classes=classes, dtype=as_dtype(dtype, what="one_hot"))


def triu(x: TensorLike, diagonal: int = 0) -> Tensor:
    """The last two axes of `x` on and above a diagonal; 0 below it."""
    return emit("triu", x, diagonal=diagonal)


def tril(x: TensorLike, diagonal: int = 0) -> Tensor:
    """The last two axes of `x` on and below a diagonal; 0 above it."""
    return emit("tril", x, diagonal=diagonal)


def cumsum(x: TensorLike, axis: int) -> Tensor:
    """The sum of the elements up to each along `axis`; of integers in i64."""
    return emit("cumsum", x, axis=axis)


def sort(x: TensorLike, axis: int = -1, *, descending: bool = False) -> Tensor:
    """The elements along `axis` in order; NaN counts as the largest."""
    return emit("sort", x, axis=axis, descending=descending)


def argsort(x: TensorLike, axis: int = -1, *, descending: bool = False) -> Tensor:
    """The positions that put the elements along `axis` in order, i64; equal ones stay in their order."""
    return emit("argsort", x, axis=axis, descending=descending)


def topk(x: TensorLike, k: int, axis: int = -1, *, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The k largest (or smallest) elements along `axis` in order, and their positions.

    Args:
        x: (…, n, …), n fixed and not below k.
        k: How many.
        axis: Where n is.
        largest: Whether the largest come, else the smallest.

    Returns:
        Values and i64 positions, (…, k, …); of equal elements the first comes first.
    """
    settings = {"axis": axis, "descending": largest, "count": k}
    return emit("topk", x, **settings), emit("topk", x, **settings, positions=True)
