"""Tensors from data and from chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tessera.language.tensor import Tensor
from tessera.program.dtype import DType, as_dtype, f32, i64
from tessera.program.errors import SpecError

if TYPE_CHECKING:
    import numpy as np


def to_array(data: object, dtype: DType | str | None) -> tuple[np.ndarray[Any, Any], DType]:
    """`data` as an array, and its dtype: as given, that of the data, or f32 for Python floats.

    Raises:
        SpecError: No array can be made of `data`, or of a type that Tessera lacks.
    """
    # numpy costs 60 ms; only those who make tensors pay.
    import numpy as np

    from tessera.reference.rounding import FP8_MAX, round_to

    if isinstance(data, Tensor):
        wanted = data.dtype if dtype is None else as_dtype(dtype, what="tensor")
        return to_array(data.numpy(), wanted)
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise SpecError(f"tensor: {error}", hint="nested lists must be of equal length") from None
    if dtype is None:
        found = as_dtype(array.dtype, what="tensor")
        plain = not hasattr(data, "dtype")
        wanted = found if not plain or found == i64 or not found.is_float else f32
    else:
        wanted = as_dtype(dtype, what="tensor")
    try:
        with np.errstate(all="ignore"):
            # 8-bit floats saturate, as in a cast.
            if wanted in FP8_MAX:
                return round_to(array, wanted), wanted
            return np.asarray(array, dtype=wanted.numpy), wanted
    except (ValueError, TypeError, OverflowError) as error:
        raise SpecError(f"tensor: {error}", hint=f"numbers that {wanted} can hold") from None


def tensor(data: object, dtype: DType | str | None = None) -> Tensor:
    """A tensor of `data`: numbers, nested lists, an array or a tensor.

    Args:
        data: What NumPy makes an array of. A NumPy array of the same dtype is not copied.
        dtype: Element type; by default that of `data`, f32 for Python floats, i64 for Python ints.

    Raises:
        SpecError: No array can be made of `data`.
    """
    return Tensor(data, dtype)


def randn(*shape: int | tuple[int, ...], dtype: DType | str = f32, seed: int | None = None) -> Tensor:
    """A tensor of normally distributed numbers, mean 0, variance 1.

    Args:
        shape: Sizes by axis.
        dtype: A float type.
        seed: The same seed gives the same numbers; None gives new ones each time.

    Raises:
        SpecError: A size is not a number of 0 or more, or the dtype is not a float.
    """
    import numpy as np

    wanted = as_dtype(dtype, what="randn")
    if not wanted.is_float:
        raise SpecError(f"randn: normally distributed numbers are no {wanted}", hint="dtype=ts.f32")
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    for size in sizes:
        if not hasattr(size, "__index__") or isinstance(size, bool) or int(size) < 0:
            raise SpecError(f"randn: {size!r} is not a size", hint="ts.randn(1, 512, 1024)")
    values = np.random.default_rng(seed).standard_normal(tuple(int(s) for s in sizes))  # type: ignore[arg-type]
    return Tensor(values, wanted)
