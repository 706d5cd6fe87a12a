"""Tensor maps as the NVIDIA driver encodes them, which CuPy does not offer.

Source: CUDA Driver API 13.0, `cuTensorMapEncodeTiled`.
"""

from __future__ import annotations

import ctypes
from functools import cache

from tessera.program.errors import DeviceError
from tessera.program.tensor_map import (
    ELEMENTS,
    FILL,
    INTERLEAVE,
    L2_PROMOTION,
    MAP_BYTES,
    SWIZZLE,
    TensorMap,
)

_ALIGNMENT = 64


@cache
def _libcuda() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def encode_tensor_map(m: TensorMap) -> bytes:
    """The 128 bytes that a kernel takes.

    Raises:
        DeviceError: The driver refuses the map, or is older than tensor maps (12.0).
    """
    library = _libcuda()
    if not hasattr(library, "cuTensorMapEncodeTiled"):
        raise DeviceError(
            "this NVIDIA driver knows no tensor maps: it is older than CUDA 12.0",
            hint="update the driver, or compile without enable_hopper_features",
        )
    raw = ctypes.create_string_buffer(MAP_BYTES + _ALIGNMENT)
    at = -(-ctypes.addressof(raw) // _ALIGNMENT) * _ALIGNMENT
    status = library.cuTensorMapEncodeTiled(
        ctypes.c_void_p(at),
        ELEMENTS[m.element][0],
        m.rank,
        ctypes.c_void_p(m.address),
        (ctypes.c_uint64 * m.rank)(*m.sizes),
        (ctypes.c_uint64 * max(m.rank - 1, 1))(*(m.strides or (0,))),
        (ctypes.c_uint32 * m.rank)(*m.box),
        (ctypes.c_uint32 * m.rank)(*(m.steps or (1,) * m.rank)),
        INTERLEAVE[m.interleave],
        SWIZZLE[m.swizzle],
        L2_PROMOTION[m.l2_promotion],
        FILL[m.fill],
    )
    if status:
        raise DeviceError(
            f"tensor map of {m.sizes} {m.element}, strides {m.strides}, boxes {m.box}: "
            f"the driver gave CUDA error {status}",
            hint="tensor maps need a GPU of compute capability 9.0 or later",
            status=status,
        )
    return ctypes.string_at(at, MAP_BYTES)
