"""LLVM modules become PTX: NVVM, with what it needs and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tessera.compiler.numba_adapter import cuda_compiler


class NvvmRefusal(Exception):  # noqa: N818 - what NVVM answers, which becomes an error of ours
    """NVVM's refusal of a module.

    Args:
        status: Its status, in words.
        log: What it said, with line and column.
    """

    def __init__(self, status: str, log: str) -> None:
        super().__init__(log or status)
        self.log = log


def nvvm_ptx(
    modules: Sequence[str],
    *,
    arch: str,
    opt_level: int = 3,
    fast_math: bool = False,
    debug: bool = False,
) -> tuple[str, ...]:
    """PTX of LLVM modules; one text, or one for each module with `debug`.

    Args:
        modules: LLVM IR, as `stable_names` returns it.
        arch: Virtual architecture such as `compute_90a`.
        opt_level: 0 or more: NVVM knows 0 and 3.
        fast_math: Fast floating-point arithmetic.
        debug: Keep full debug information.

    Raises:
        NvvmRefusal: NVVM refused a module.
    """
    cuda_compiler()
    options: dict[str, Any] = {"arch": arch, "fastmath": fast_math, "opt": 3 if opt_level else 0}
    if debug:
        options["g"] = None
    # NVVM takes debug information in one module at a time only.
    units: list[list[str]] = [[m] for m in modules] if debug else [list(modules)]
    return tuple(_compile_ir(unit, dict(options)).decode().strip("\x00").strip() + "\n" for unit in units)


def nvvm_lto(modules: Sequence[str], *, arch: str, opt_level: int = 3, fast_math: bool = False) -> bytes:
    """LLVM modules as one in the form that nvJitLink optimizes; arguments as for `nvvm_ptx`.

    Raises:
        numba.cuda.cudadrv.error.NvvmError: NVVM refused a module.
    """
    cuda_compiler()
    options = {"arch": arch, "fastmath": fast_math, "opt": 3 if opt_level else 0, "gen-lto": None}
    return _compile_ir(list(modules), options)


def _compile_ir(modules: list[str], options: dict[str, Any]) -> bytes:
    """PTX of modules; the library of mathematical functions, 2 ms, is read for those that call it."""
    from cuda.bindings.nvvm import nvvmError
    from numba.cuda.cudadrv import nvvm

    if options.pop("fastmath", False):
        options.update(ftz=True, fma=True, prec_div=False, prec_sqrt=False)
    unit = nvvm.CompilationUnit(options)
    try:
        for text in modules:
            unit.add_module(nvvm.llvm_replace(text).encode())
        unit.verify()
        if any("__nv_" in text for text in modules):
            # After the verifier, which it does not pass.
            unit.lazy_add_module(nvvm.LibDevice().get())
        made: bytes = unit.compile()
    except nvvmError as error:
        raise NvvmRefusal(str(error), str(unit.get_log() or "").strip()) from None
    return made
