"""What a caller says about a tensor before it exists."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tessera.program.dim import Dim, Expr, format_dim, symbol
from tessera.program.dtype import DType, as_dtype, f32
from tessera.program.errors import SpecError
from tessera.program.size_text import parse_size


@dataclass(frozen=True, slots=True, init=False)
class TensorSpec:
    """Shape and dtype of a tensor that is not there yet.

    Args:
        shape: Sizes by axis. An int is fixed; a name (`"batch"`) is a symbol,
            the same wherever it appears; an expression of names (`"cdiv(n, 256)"`)
            follows from them; `None` is a symbol of its own.
        dtype: Element type.
        name: Name of the input, if it should differ from the argument's.

    Raises:
        SpecError: A size is negative or neither int, name nor None.
    """

    shape: tuple[int | str | Expr | None, ...]
    dtype: DType
    name: str | None

    def __init__(
        self,
        shape: Iterable[int | str | Expr | None] = (),
        dtype: DType | str | Any = f32,
        name: str | None = None,
    ) -> None:
        if isinstance(shape, (int, str)) or shape is None:
            raise SpecError(f"TensorSpec: shape must be a tuple, not {shape!r}", hint=f"shape=({shape!r},)")
        sizes = tuple(_check_size(axis, size) for axis, size in enumerate(shape))
        object.__setattr__(self, "shape", sizes)
        object.__setattr__(self, "dtype", as_dtype(dtype, what="TensorSpec"))
        object.__setattr__(self, "name", name)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def dims(self, name: str) -> tuple[Dim, ...]:
        """The shape with every symbol named; axis `i` that is None becomes `<name>_<i>`."""
        return tuple(
            symbol(f"{name}_{axis}") if size is None else symbol(size) if isinstance(size, str) else size
            for axis, size in enumerate(self.shape)
        )

    def __str__(self) -> str:
        sizes = ", ".join(
            "?" if s is None else s if isinstance(s, str) else format_dim(s) for s in self.shape
        )
        return f"{self.dtype}[{sizes}]"


def _check_size(axis: int, size: Any) -> int | str | Expr | None:
    if size is None or isinstance(size, Expr):
        return size
    if isinstance(size, str):
        if not size.isidentifier():
            return parse_size(size)
        symbol(size)
        return size
    if hasattr(size, "__index__") and not isinstance(size, bool):
        size = int(size.__index__())
        if size < 0:
            raise SpecError(
                f"TensorSpec: size {size} of axis {axis} is negative",
                hint="a name or None is a size that is open",
            )
        return int(size)
    raise SpecError(
        f"TensorSpec: size {size!r} of axis {axis} is neither an int, a name nor None",
        hint="TensorSpec(shape=(None, 1024), dtype=ts.bf16)",
    )
