"""Which of several installed CUDA toolkits compiles: that of the wheels Tessera asks for."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

WHEEL_FILES = {
    "nvvm": ("cuda_nvcc", "nvvm", "lib64", "libnvvm.so"),
    "nvJitLink": ("nvjitlink", "lib", "libnvJitLink.so.12"),
    "nvrtc": ("cuda_nvrtc", "lib", "libnvrtc.so.12"),
}
"""cuda-pathfinder's name of a library → where its CUDA 12 wheel has it, in the package `nvidia`."""


def wheel_library(name: str) -> Path | None:
    """The file of a library in the CUDA 12 wheels of the extra `compile`; None if it is not there."""
    spec = find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        found = Path(root, *WHEEL_FILES[name])
        if found.is_file():
            return found
    return None


@cache
def prefer_wheels() -> None:
    """Load the libraries of the CUDA 12 wheels, those that are there, before others are looked for (20 ms).

    cuda-pathfinder takes CUDA 13 where both are installed, as they are beside PyTorch for CUDA 13. NVVM 13
    has forgotten `compute_70`, and the versions that a package's provenance names would not be those that
    made it. What is loaded already, pathfinder takes.
    """
    for file in filter(None, map(wheel_library, WHEEL_FILES)):
        with suppress(OSError):  # torn or foreign: pathfinder looks elsewhere, and says what it finds
            ctypes.CDLL(str(file), os.RTLD_NOW | os.RTLD_LOCAL)
