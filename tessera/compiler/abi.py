"""How arguments reach a kernel: the Numba type of each kind, and how arrays are flattened.

A kind is a key of `POINTERS` (`f32*`: a bare pointer), a key of `SCALARS`
(`f32`: by value), or `array:<dtype>:<ndim>`: a Numba array, C-contiguous, which
the calling convention flattens into

    meminfo (null), parent (null), element count, element size, data pointer,
    the size of each axis, the stride of each axis in bytes

on the GPU and on the CPU alike, every integer an int64.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from tessera.compiler.kernel_source import POINTERS, SCALARS
from tessera.program.dim import Dim, product
from tessera.program.dtype import DType, bf16, f8e4m3, f8e5m2, f16, i64
from tessera.program.errors import KernelError
from tessera.program.program import Arg, Extent, Immediate, Pointer

_ARRAY = "array:"


def array_kind(dtype: DType, ndim: int) -> str:
    """The kind of a C-contiguous array argument."""
    return f"{_ARRAY}{dtype.name}:{ndim}"


def numba_types(kinds: Iterable[str], types: ModuleType) -> tuple[Any, ...]:
    """The Numba type of each kind, from Numba's (or numba-cuda's) module `types`.

    Raises:
        KernelError: A dtype has no Numba type there; `fields["dtype"]` names it.
    """
    return tuple(_numba_type(kind, types) for kind in kinds)


def _numba_type(kind: str, types: ModuleType) -> Any:
    if kind.startswith(_ARRAY):
        _, dtype, ndim = kind.split(":")
        element = _element_type(dtype, types)
        return types.Array(element, int(ndim), "C")
    if kind in POINTERS:
        return types.CPointer(getattr(types, POINTERS[kind]))
    if kind in SCALARS:
        return getattr(types, SCALARS[kind])
    return _element_type(kind, types)


NOT_ON_CPU = frozenset({f16.name, bf16.name, f8e4m3.name, f8e5m2.name})
"""Element types that Numba has no arithmetic for on the CPU."""
_NOT_ON_GPU = frozenset({f8e4m3.name, f8e5m2.name})
_ELEMENT_TYPES = {"bool": "boolean", "tf32": "float32", "f16": "float16", "bf16": "bfloat16"}


def _element_type(dtype: str, types: ModuleType) -> Any:
    on_gpu = "cuda" in types.__name__
    if dtype in (_NOT_ON_GPU if on_gpu else NOT_ON_CPU):
        raise KernelError(
            f"Numba cannot compute with {dtype} on {'a GPU' if on_gpu else 'the CPU'}",
            hint="pass the bits as ts.u8 or ts.u16, or use f32",
            dtype=dtype,
        )
    return getattr(types, _ELEMENT_TYPES.get(dtype) or SCALARS[dtype])


def llvm_arguments(kinds: Iterable[str]) -> Iterator[str]:
    """The kind of each primitive argument after flattening: `f32*`, `i64`…"""
    for kind in kinds:
        if kind.startswith(_ARRAY):
            _, dtype, ndim = kind.split(":")
            yield from ("u8*", "u8*", "i64", "i64", f"{dtype}*", *["i64"] * (2 * int(ndim)))
        else:
            yield kind


def flatten_array(pointer: Pointer, dtype: DType, shape: tuple[Dim, ...]) -> tuple[Arg, ...]:
    """The primitive launch arguments of one C-contiguous array argument."""
    null = Pointer(space="null")
    strides = [dtype.itemsize * product(shape[axis + 1 :]) for axis in range(len(shape))]
    return (
        null,
        null,
        Extent(value=product(shape)),
        Immediate(value=dtype.itemsize, dtype=i64),
        pointer,
        *(Extent(value=size) for size in shape),
        *(Extent(value=stride) for stride in strides),
    )
