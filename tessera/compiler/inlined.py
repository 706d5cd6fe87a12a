"""A kernel and the library functions that it calls, linked before they are optimized: so they are inlined.

numba-cuda's arithmetic on f16 and bf16 is CUDA C++, whose operands are passed by address. Called from PTX,
such a function keeps them in local memory; in LLVM's form both become a few instructions on registers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tessera.compiler.nvvm import nvvm_lto
from tessera.compiler.options import ToolOptions
from tessera.emulator.cuda_libraries import prefer_wheels
from tessera.program.errors import ToolchainError

_DEBUG_VERSION = re.compile(r'(!\{ ?)i32 2(, !"Debug Info Version")')
"""Numba asks for a warning where versions differ, NVRTC for an error, and linking for agreement on that."""


def inlined_ptx(modules: Sequence[str], shims: Sequence[str], arch: str, options: ToolOptions) -> str:
    """PTX of LLVM modules and CUDA C++ functions as one.

    Args:
        modules: LLVM IR of the kernel.
        shims: CUDA C++ of the functions.
        arch: Virtual architecture such as `compute_90a`.
        options: How it is compiled.

    Raises:
        ToolchainError: A function does not compile, or one is not defined anywhere.
        numba.cuda.cudadrv.error.NvvmError: NVVM refused a module.

    Source: nvJitLink documentation, "Link-time optimization".
    """
    # What is there imports this.
    from tessera.compiler.ptx import shim_code

    modules = [_DEBUG_VERSION.sub(r"\1i32 1\2", text) for text in modules]
    parts = [nvvm_lto(modules, arch=arch, opt_level=options.opt_level, fast_math=options.fast_math)]
    parts += [shim_code(shim, arch, kind="ltoir") for shim in shims]
    flags = ["-lto", "-ptx", f"-arch={arch.replace('compute_', 'sm_')}"]
    flags += ["-lineinfo"] if options.lineinfo else []
    flags += ["-ftz=1", "-prec-div=0", "-prec-sqrt=0"] if options.fast_math else []
    return _link(parts, flags).decode().strip("\x00").strip() + "\n"


def _link(parts: Sequence[bytes], flags: Sequence[str]) -> bytes:
    # cuda.core's linker writes `-ftz=true`, which nvJitLink does not know.
    prefer_wheels()
    from cuda.bindings import nvjitlink

    try:
        handle = nvjitlink.create(len(flags), flags)
    except nvjitlink.nvJitLinkError as error:
        raise ToolchainError(f"nvJitLink refuses {' '.join(flags)}: {error}") from None
    try:
        for number, part in enumerate(parts):
            nvjitlink.add_data(handle, nvjitlink.InputType.LTOIR, part, len(part), f"part{number}")
        nvjitlink.complete(handle)
        made = bytearray(nvjitlink.get_linked_ptx_size(handle))
        nvjitlink.get_linked_ptx(handle, made)
        return bytes(made)
    except nvjitlink.nvJitLinkError as error:
        log = bytearray(nvjitlink.get_error_log_size(handle))
        nvjitlink.get_error_log(handle, log)
        said = log.decode(errors="replace").strip("\x00").strip()
        raise ToolchainError(f"library functions cannot be inlined: {error}: {said}") from None
    finally:
        nvjitlink.destroy(handle)
