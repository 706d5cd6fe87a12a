"""A GPU in software: runs PTX on the CPU, checks it and counts what it does."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tessera.emulator.counters import Counters
    from tessera.emulator.engine import Emulator, LaunchResult, LoadedModule
    from tessera.emulator.findings import Finding
    from tessera.emulator.numba_context import as_cuda
    from tessera.emulator.parser import parse_ptx
    from tessera.emulator.sanitizer import Sanitizer
    from tessera.emulator.tensor_maps import encode_tensor_map
    from tessera.program.tensor_map import Im2col, TensorMap

__all__ = [
    "Counters",
    "Emulator",
    "Finding",
    "Im2col",
    "LaunchResult",
    "LoadedModule",
    "Sanitizer",
    "TensorMap",
    "as_cuda",
    "encode_tensor_map",
    "parse_ptx",
]

_HOMES = {
    "Counters": "tessera.emulator.counters",
    "Emulator": "tessera.emulator.engine",
    "Finding": "tessera.emulator.findings",
    "Im2col": "tessera.program.tensor_map",
    "LaunchResult": "tessera.emulator.engine",
    "LoadedModule": "tessera.emulator.engine",
    "Sanitizer": "tessera.emulator.sanitizer",
    "TensorMap": "tessera.program.tensor_map",
    "as_cuda": "tessera.emulator.numba_context",
    "encode_tensor_map": "tessera.emulator.tensor_maps",
    "parse_ptx": "tessera.emulator.parser",
}


def __getattr__(name: str) -> Any:
    # NumPy and llvmlite cost 0.1 s and more: they are imported when a name is first used.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
