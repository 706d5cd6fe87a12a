"""Launches of thread block clusters: `cuLaunchKernelEx`, which CuPy does not offer.

Source: CUDA Driver API, `CUlaunchConfig`, `CUlaunchAttribute`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

from tessera.program.errors import DeviceError
from tessera.runtime.schedule import LaunchCall

CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION = 4
CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED = 14
PORTABLE_CLUSTER = 8
"""Blocks of a cluster that every GPU with clusters takes."""


class LaunchAttribute(ctypes.Structure):
    """`CUlaunchAttribute` for the cluster's shape; the value is a union of 64 bytes."""

    _fields_ = (
        ("id", ctypes.c_int),
        ("pad", ctypes.c_char * 4),
        ("cluster", ctypes.c_uint * 3),
        ("rest", ctypes.c_char * 52),
    )


class LaunchConfig(ctypes.Structure):
    """`CUlaunchConfig`."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(LaunchAttribute)),
        ("attribute_count", ctypes.c_uint),
    )


@cache
def _libcuda() -> ctypes.CDLL:
    library = ctypes.CDLL("libcuda.so.1")
    library.cuFuncSetAttribute.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
    library.cuLaunchKernelEx.argtypes = (
        ctypes.POINTER(LaunchConfig),
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_void_p,
    )
    return library


def cluster_launcher(
    function: int, call: LaunchCall, cluster: tuple[int, int, int], params: int, stream: int
) -> Callable[[], None]:
    """What launches `call` in clusters of `cluster` blocks.

    Args:
        function: `CUfunction`.
        call: Grid, block and shared memory.
        cluster: Blocks of a cluster by axis; each divides the grid's.
        params: Host address of the argument array.
        stream: `CUstream`.
    """
    library = _libcuda()
    if cluster[0] * cluster[1] * cluster[2] > PORTABLE_CLUSTER:
        library.cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1)
    attribute = LaunchAttribute(id=CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, cluster=cluster)
    config = LaunchConfig(
        grid=call.grid,
        block=call.block,
        shared_bytes=call.shared_bytes,
        stream=stream,
        attributes=ctypes.pointer(attribute),
        attribute_count=1,
    )

    def launch() -> None:
        status = library.cuLaunchKernelEx(ctypes.byref(config), function, params, None)
        if status:
            raise DeviceError(
                f"kernel {call.kernel!r}: launch of grid {call.grid} in clusters of {cluster} "
                f"gave CUDA error {status}",
                hint="clusters need sm_90 or later, and must divide the grid",
                status=status,
            )

    return launch
