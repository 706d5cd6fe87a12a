"""Rearranging elements: views, which cost nothing where another operator reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tessera.language.emit import emit
from tessera.language.location import caller_location
from tessera.program.dim import Dim, Expr, ceildiv
from tessera.program.errors import TraceError

if TYPE_CHECKING:
    from tessera.language.tensor import Tensor, TensorLike

Axis = int | Sequence[int] | None
"""One axis, several, or None for all; negative ones count from the end."""


def reshape(x: TensorLike, *shape: Dim | Sequence[Dim]) -> Tensor:
    """The same elements in row-major order in another shape; one size may be -1."""
    return emit("reshape", x, shape=_sizes("reshape", shape))


def _sizes(op: str, shape: Sequence[Dim | Sequence[Dim]]) -> list[Dim]:
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    return [_as_size(op, size) for size in sizes]


def _as_size(op: str, size: object) -> Dim:
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


def squeeze(x: TensorLike, axis: Axis = None) -> Tensor:
    """`x` without axes of size 1: those named, or all that are known to be 1."""
    return emit("squeeze", x, axis=axis)


def unsqueeze(x: TensorLike, axis: int | Sequence[int]) -> Tensor:
    """`x` with new axes of size 1, at these places of the result."""
    return emit("unsqueeze", x, axis=axis)


def broadcast_to(x: TensorLike, *shape: Dim | Sequence[Dim]) -> Tensor:
    """`x` stretched to a shape, where its sizes are equal or 1."""
    return emit("broadcast_to", x, shape=_sizes("broadcast_to", shape))


def tile(x: TensorLike, repeats: int | Sequence[int]) -> Tensor:
    """`x` over and over, so often along each axis, counted from the last."""
    return emit("tile", x, repeats=list(repeats) if isinstance(repeats, Sequence) else [repeats])


def repeat(x: TensorLike, repeats: int, axis: int) -> Tensor:
    """Every element along `axis` so often after itself."""
    return emit("repeat", x, repeats=repeats, axis=axis)


def flip(x: TensorLike, axis: Axis = None) -> Tensor:
    """The elements along `axis` in reverse."""
    return emit("flip", x, axis=axis)


def roll(x: TensorLike, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """The elements along `axis` moved on by `shift`, those at the end to the beginning.

    With `axis=None` the elements are taken in order, as one row.
    """
    return emit("roll", x, shift=shift, axis=axis)


def concat(tensors: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Tensors one after the other along `axis`; they have the same sizes elsewhere."""
    return emit("concat", *_several("concat", tensors), axis=axis)


def stack(tensors: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """Tensors of one shape along a new axis."""
    return emit("stack", *_several("stack", tensors), axis=axis)


def _several(op: str, tensors: object) -> Sequence[TensorLike]:
    if not isinstance(tensors, (list, tuple)) or not tensors:
        raise TraceError(
            f"{op}: it takes a list of tensors", hint=f"ts.{op}([a, b], axis=0)", location=caller_location()
        )
    return tensors


def split(x: TensorLike, parts: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
    """`x` cut along `axis` into so many equal parts, or into parts of these sizes."""
    count = len(parts) if isinstance(parts, Sequence) else parts
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise TraceError(
            f"split: parts={parts!r} is no number of 1 or more and no list of sizes",
            hint="parts=2 or parts=[3, 5]",
            location=caller_location(),
        )
    return tuple(emit("split", x, parts=parts, axis=axis, which=i) for i in range(count))


def chunk(x: TensorLike, chunks: int, axis: int = 0) -> tuple[Tensor, ...]:
    """`x` cut along `axis` into at most so many parts of one size; the last may be smaller.

    Raises:
        TraceError: The size of the axis is known only when it runs.
    """
    from tessera.language.tensor import Tensor

    shape = x.shape if isinstance(x, Tensor) else Tensor(x).shape
    position = axis + len(shape) if axis < 0 else axis
    size = shape[position] if 0 <= position < len(shape) else None
    if not isinstance(size, int) or not isinstance(chunks, int) or chunks < 1:
        raise TraceError(
            f"chunk: axis {axis} of a tensor with {len(shape)} axes does not have a fixed size, "
            f"or chunks={chunks!r} is not 1 or more",
            hint="ts.split(x, n) cuts an axis of any size into n equal parts",
            location=caller_location(),
        )
    each = max(int(str(ceildiv(size, chunks))), 1)
    count = max(int(str(ceildiv(size, each))), 1)
    return tuple(emit("chunk", x, each=each, axis=position, which=i) for i in range(count))


def pad(
    x: TensorLike,
    widths: int | Sequence[int] | Sequence[tuple[int, int]],
    mode: str = "constant",
    value: float = 0,
) -> Tensor:
    """`x` with more elements around it.

    Args:
        x: Any shape.
        widths: (before, after) for each axis; one pair, or one number, for all.
        mode: `constant` puts `value`, `edge` repeats the outermost elements, `reflect` mirrors at them.
        value: For `constant`.
    """
    from tessera.language.tensor import Tensor

    rank = len(x.shape if isinstance(x, Tensor) else Tensor(x).shape)
    pairs: list[tuple[int, int]]
    if not isinstance(widths, Sequence):
        pairs = [(widths, widths)] * rank
    elif all(isinstance(w, Sequence) and len(w) == 2 for w in widths):
        pairs = [(w[0], w[1]) for w in widths]  # type: ignore[index]
    elif len(widths) == 2:
        pairs = [(widths[0], widths[1])] * rank  # type: ignore[list-item]
    else:
        raise TraceError(
            f"pad: widths={widths!r} are no pairs", hint="widths=[(0, 0), (1, 2)]", location=caller_location()
        )
    return emit("pad", x, value, widths=pairs, mode=mode)
