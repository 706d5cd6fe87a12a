"""Weights between the arrays of any framework and plain little-endian bytes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tessera.package.manifest import WeightRow
from tessera.program.dtype import DType, as_dtype
from tessera.program.errors import PackageError, SpecError

if TYPE_CHECKING:
    import numpy as np

if sys.byteorder != "little":  # pragma: no cover
    raise ImportError(
        "packages hold little-endian weights, which are mapped as they are; this machine is not"
    )


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant in memory, on its way into a package."""

    array: np.ndarray[Any, Any]
    """Elements of the memory layout of `dtype`, in any order of axes."""
    dtype: DType
    deflate: bool = False


def as_array(value: object, name: str) -> np.ndarray[Any, Any]:
    """The weight `value` as an array, without a copy where its memory can be shared.

    Args:
        value: A NumPy array, a torch tensor (any device), or anything with `.numpy()` or `__array__`.
        name: What to call it in a message.

    Raises:
        PackageError: It is none of these.
    """
    # numpy costs 70 ms; a package without weights does not pay it.
    import numpy as np

    if isinstance(value, np.ndarray):
        return value
    if callable(getattr(value, "detach", None)) and callable(getattr(value, "cpu", None)):
        return _torch_array(value)
    if callable(method := getattr(value, "numpy", None)):
        return np.asarray(method())
    if hasattr(value, "__array__"):
        return np.asarray(value)
    raise PackageError(
        f"weight {name!r}: {type(value).__name__} is no array",
        hint="give NumPy arrays, torch tensors, or objects with .numpy() or __array__",
    )


# torch types that NumPy does not have: the integers they are viewed as, and the ml_dtypes name.
_TORCH_VIEWS = {
    "torch.bfloat16": ("int16", "bfloat16"),
    "torch.float8_e4m3fn": ("int8", "float8_e4m3fn"),
    "torch.float8_e5m2": ("int8", "float8_e5m2"),
}


def _torch_array(tensor: Any) -> np.ndarray[Any, Any]:
    import numpy as np

    plain = tensor.detach().cpu().contiguous()
    view = _TORCH_VIEWS.get(str(plain.dtype))
    if view is None:
        return np.asarray(plain.numpy())
    import ml_dtypes

    integer, name = view
    # The torch that made the tensor is loaded already; this room never imports it.
    viewed = plain.view(getattr(sys.modules["torch"], integer))
    return np.asarray(viewed.numpy()).view(getattr(ml_dtypes, name))


def as_weight(value: object, name: str, *, dtype: DType | None = None, deflate: bool = False) -> Weight:
    """`value` as a weight.

    Args:
        value: What `as_array` takes.
        name: Its constant's name.
        dtype: The element type a program declares; it must have the memory layout of the array.
        deflate: Whether a container compresses it.

    Raises:
        PackageError: No array, an element type that Tessera lacks, or one unlike `dtype`.
    """
    array = as_array(value, name)
    try:
        found = as_dtype(array.dtype, what=f"weight {name!r}")
    except SpecError as error:
        raise PackageError(error.message, hint=error.hint) from None
    if dtype is not None and found.numpy != dtype.numpy:
        raise PackageError(f"weight {name!r} is {found}, but its program takes {dtype}")
    return Weight(array, dtype or found, deflate)


def weight_bytes(weight: Weight) -> memoryview:
    """The elements of `weight` in C order, little-endian; a view where it lies so already."""
    import numpy as np

    array = np.ascontiguousarray(weight.array, dtype=weight.dtype.numpy)
    return array.reshape(-1).view(np.uint8).data


def array_over(row: WeightRow, data: memoryview) -> np.ndarray[Any, Any]:
    """A read-only array of `row` whose elements lie in `data`: nothing is copied."""
    import numpy as np

    array: np.ndarray[Any, Any] = np.ndarray(row.shape, row.dtype.numpy, buffer=data if data else b"\0")
    array.flags.writeable = False
    return array


def check_shapes(
    weights: Mapping[str, Weight], rows: Mapping[str, tuple[str, DType, tuple[int, ...]]]
) -> None:
    """Compare weights with the constants that programs declare.

    Args:
        weights: By constant name.
        rows: Program, dtype and shape by constant name.

    Raises:
        PackageError: A weight has another shape or element type; the message names both.
    """
    for name, (program, dtype, shape) in rows.items():
        weight = weights.get(name)
        if weight is None:
            continue
        if tuple(weight.array.shape) != shape or weight.dtype.numpy != dtype.numpy:
            raise PackageError(
                f"weight {name!r} is {weight.dtype}{tuple(weight.array.shape)},"
                f" but program {program!r} takes {dtype}{shape}",
                hint="give the weights that the program was compiled with",
            )
