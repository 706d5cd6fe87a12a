"""Rearranging elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tessera.language.emit import emit
from tessera.language.location import caller_location
from tessera.program.dim import Dim, Expr
from tessera.program.errors import TraceError

if TYPE_CHECKING:
    from tessera.language.tensor import Tensor, TensorLike


def reshape(x: TensorLike, *shape: Dim | Sequence[Dim]) -> Tensor:
    """The same elements in row-major order in another shape; one size may be -1."""
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    return emit("reshape", x, shape=[as_size("reshape", size) for size in sizes])


def as_size(op: str, size: object) -> Dim:
    """A size that a user gave.

    Raises:
        TraceError: It is no integer.
    """
    if isinstance(size, Expr):
        return size
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise TraceError(
            f"{op}: a size is an integer, not {size!r}",
            hint=f"ts.{op}(x, -1, 64)",
            location=caller_location(),
        )
    return int(size.__index__())


def transpose(x: TensorLike, axes: Sequence[int] | None = None) -> Tensor:
    """The axes in the order `axes`; reversed by default."""
    return emit("transpose", x, axes=axes)
