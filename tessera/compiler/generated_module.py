"""An LLVM module of one generated kernel, in numba-cuda's contexts but without its type inference."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from tessera.compiler.generated_ir import write_body
from tessera.compiler.generated_values import Value, Values
from tessera.compiler.numba_adapter import CudaIR, cuda_compiler, library_ir, no_driver


@cache
def _load_tables(typing: Any, target: Any) -> None:
    """What numba-cuda knows, once; `Values` looks for what was registered later when it misses something."""
    typing.refresh()
    target.refresh()


def lower_generated(
    tree: ast.FunctionDef,
    names: Mapping[str, Any],
    argument_types: Sequence[Any],
    *,
    cc: tuple[int | str, ...],
    opt_level: int = 3,
    fast_math: bool = False,
    threads: int | None = None,
    noalias: Sequence[bool] = (),
    branches: bool = False,
) -> CudaIR:
    """Lower a kernel that the code generator wrote, without numba-cuda's type inference.

    Args:
        tree: The kernel's syntax.
        names: Globals of its file.
        argument_types: Numba type of each argument: pointers and numbers.
        cc: Compute capability that lowering may look at.
        opt_level: Optimization level, 0 to 3.
        fast_math: Fast floating-point arithmetic.
        threads: Threads per block of every launch, if known.
        noalias: For each argument, whether nothing else points at its memory.
        branches: Whether `a if c else b` is a branch also where computing both would be less work.

    Raises:
        UnknownConstructError: It has something that only `lower_cuda` knows.
    """
    compiler = cuda_compiler()
    from llvmlite import ir
    from numba.cuda import types
    from numba.cuda.core.compiler import _make_subtarget
    from numba.cuda.core.compiler_lock import global_compiler_lock
    from numba.cuda.core.targetconfig import ConfigStack
    from numba.cuda.cudadrv import nvvm
    from numba.cuda.descriptor import cuda_target
    from numba.cuda.utils import numba_target_override

    flags = compiler.CUDAFlags()
    flags.fastmath, flags.compute_capability, flags.error_model = fast_math, cc, "numpy"
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.nvvm_options = {"fastmath": fast_math, "opt": 3 if opt_level > 0 else 0}
    with global_compiler_lock, no_driver(cc), ConfigStack().enter(flags), numba_target_override():
        typing, target = cuda_target.typing_context, cuda_target.target_context
        _load_tables(typing, target)
        target = _make_subtarget(target, flags)
        library = target.codegen().create_library(tree.name)
        module = library.create_ir_module(tree.name)
        kinds = [target.get_value_type(kind) for kind in argument_types]
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), tree.name)
        nvvm.set_cuda_kernel(function)
        nvvm.set_launch_bounds(function, None if threads is None else (threads,))
        for argument, marked in zip(function.args, noalias, strict=False):
            if marked:
                argument.add_attribute("noalias")
        arguments = [Value(kind, given) for kind, given in zip(argument_types, function.args, strict=True)]
        # Variables' stack slots go to the first block, which ends when all are known.
        entry, body = (function.append_basic_block(name) for name in ("entry", "body"))
        with target.push_code_library(library):
            values = Values((typing, target), types, ir.IRBuilder(body))
            write_body(values, tree, names, arguments, branches=branches)
        ir.IRBuilder(entry).branch(body)
        library.add_ir_module(module)
        return library_ir(library, tree.name)
