"""Where NVIDIA describes each function's instruction."""

from __future__ import annotations

import re

_MOVES = "Data Movement and Conversion Instructions: "
_SYNCHRONIZES = "Parallel Synchronization and Communication Instructions: "
_MATRIX = "Warp-Level Matrix Instructions: "
_WARPGROUP = "Asynchronous Warpgroup-Level Matrix Instructions: "

_SECTIONS: tuple[tuple[str, str], ...] = (
    (r"shuffle", _MOVES + "shfl.sync"),
    (r"redux_", _SYNCHRONIZES + "redux.sync"),
    (r"barrier_", _SYNCHRONIZES + "bar, barrier"),
    (r"cp_async_mbarrier_arrive", _SYNCHRONIZES + "cp.async.mbarrier.arrive"),
    (r"mbarrier_arrive_expect_bytes", _SYNCHRONIZES + "mbarrier.arrive"),
    (r"mbarrier_arrive", _SYNCHRONIZES + "mbarrier.arrive"),
    (r"mbarrier_expect_bytes", _SYNCHRONIZES + "mbarrier.expect_tx"),
    (r"mbarrier_init", _SYNCHRONIZES + "mbarrier.init"),
    (r"mbarrier_invalidate", _SYNCHRONIZES + "mbarrier.inval"),
    (r"mbarrier_\w+_wait", _SYNCHRONIZES + "mbarrier.test_wait, mbarrier.try_wait"),
    (r"fence_", _SYNCHRONIZES + "membar, fence"),
    (r"cp_async_commit", _MOVES + "cp.async.commit_group"),
    (r"cp_async_wait", _MOVES + "cp.async.wait_group, cp.async.wait_all"),
    (r"cp_async_", _MOVES + "cp.async"),
    (r"bulk_(load|store)", _MOVES + "cp.async.bulk"),
    (r"bulk_commit", _MOVES + "cp.async.bulk.commit_group"),
    (r"bulk_wait", _MOVES + "cp.async.bulk.wait_group"),
    (r"tma_(load|store)", _MOVES + "cp.async.bulk.tensor"),
    (r"tma_prefetch", _MOVES + "prefetch, prefetchu"),
    (r"ldmatrix", _MATRIX + "ldmatrix"),
    (r"stmatrix", _MATRIX + "stmatrix"),
    (r"movmatrix", _MATRIX + "movmatrix"),
    (r"mma_|zeros_", _MATRIX + "mma"),
    (r"wgmma_descriptor", _WARPGROUP + "Matrix Descriptor Format"),
    (r"wgmma_fence", _WARPGROUP + "wgmma.fence"),
    (r"wgmma_commit", _WARPGROUP + "wgmma.commit_group"),
    (r"wgmma_wait", _WARPGROUP + "wgmma.wait_group"),
    (r"wgmma_", _WARPGROUP + "wgmma.mma_async"),
    (r"setmaxnreg", "Miscellaneous Instructions: setmaxnreg"),
    (r"load_\w+_(constant|bypass)", _MOVES + "ld.global.nc"),
    (r"load_", _MOVES + "ld"),
    (r"store_", _MOVES + "st"),
    (r"(shared_)?address", _MOVES + "cvta"),
    (r"\w+_to_\w+|round_tf32", _MOVES + "cvt"),
    (r"(tanh|exp2)_approx_\w+x2", "Half Precision Floating Point Instructions: tanh, ex2"),
    (r"(\w+)_approx", "Floating Point Instructions: rcp, sqrt, rsqrt, sin, cos, lg2, ex2, tanh"),
    (r"(add|sub|mul|fma|fma_relu|min|max)_b?f16x2", "Half Precision Floating Point Instructions"),
)
"""By how names begin; the first that fits."""


def section_of(name: str) -> str:
    """The section of the PTX ISA on the instruction of `gpu.<name>`.

    Raises:
        KeyError: No section is written down for it.
    """
    for start, section in _SECTIONS:
        if re.match(start, name):
            return section
    raise KeyError(name)
