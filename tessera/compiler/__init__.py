"""From graphs and kernels to machine code: passes, generated Numba kernels, PTX, cubins, native CPU code.

The names here are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tessera.compiler.aot import AOTCompiler, BatchCompiler, CompiledKernel, CompiledPackage
    from tessera.compiler.cache import CompileCache
    from tessera.compiler.options import AOTConfig, CompilationTarget

_HOMES = {
    "AOTCompiler": "aot",
    "AOTConfig": "options",
    "BatchCompiler": "aot",
    "CompilationTarget": "options",
    "CompileCache": "cache",
    "CompiledKernel": "aot",
    "CompiledPackage": "aot",
}

__all__ = [
    "AOTCompiler",
    "AOTConfig",
    "BatchCompiler",
    "CompilationTarget",
    "CompileCache",
    "CompiledKernel",
    "CompiledPackage",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
