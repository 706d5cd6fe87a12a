"""Numba's private parts are still what `numba_adapter.py` takes them for.

If a test here fails after an upgrade of numba or numba-cuda, adapt that file; nothing else knows.
"""

import inspect

from sample_kernels import half, scale_c, scale_cpu, with_helpers

from tessera.compiler import abi, numba_adapter
from tessera.program.errors import MissingDependencyError


def test_front_door_of_numba_cuda_takes_what_the_adapter_passes():
    import numba.cuda.compiler as compiler

    parameters = set(inspect.signature(compiler._compile_pyfunc_with_fixup).parameters)
    passed = {"debug", "lineinfo", "device", "fastmath", "cc", "opt", "abi", "launch_bounds"}
    assert passed <= parameters, f"numba-cuda no longer takes {passed - parameters}"


def test_dispatcher_asks_for_the_device_by_the_name_that_is_replaced():
    import numba.cuda.dispatcher as dispatcher

    numba_adapter.cuda_compiler()
    assert dispatcher.get_current_device.__module__ == "tessera.compiler.numba_adapter"
    assert "get_current_device()" in inspect.getsource(dispatcher.CUDADispatcher.compile_device)


def test_library_of_a_kernel_has_modules_entry_and_linking_files():
    from numba.cuda import types

    ir = numba_adapter.lower_cuda(
        with_helpers, abi.numba_types(("array:f32:1", "array:f32:1"), types), cc=(8, 0), threads=256
    )
    assert f'@"{ir.entry}"' in ir.modules[0]
    assert len(ir.modules) == len(set(ir.modules)) == 4, "the kernel, quarter, and half of two types"
    assert ir.shims == ()


def test_noalias_mark_reaches_the_lowered_kernel():
    from numba.cuda import types

    kinds = abi.numba_types(("f32*", "f32*", "i64", "f32"), types)
    ir = numba_adapter.lower_cuda(scale_c, kinds, cc=(8, 0), noalias=(True, False))
    (define,) = [line for line in ir.modules[0].splitlines() if line.startswith("define void")]
    assert define.count("noalias") == 1


def test_stable_names_leave_nothing_of_the_process():
    from numba.cuda import types

    kinds = abi.numba_types(("array:f32:1", "array:f32:1"), types)
    ir = numba_adapter.lower_cuda(with_helpers, kinds, cc=(8, 0))
    texts = numba_adapter.stable_names(ir, "entry")
    assert not any("_ZN" in text for text in texts)
    assert '@"entry"' in texts[0]


def test_cpu_function_is_lowered_without_this_machines_optimizations():
    from numba.core import types

    kinds = abi.numba_types(("f32*", "f32*", "i64", "f32", "i64", "i64"), types)
    ir = numba_adapter.lower_cpu(scale_cpu, kinds, noalias=(True, True))
    assert " x float>" not in ir.module, "vectorized before the target was known"
    (define,) = [line for line in ir.module.splitlines() if line.startswith(f"define i32 @{ir.entry}(")]
    assert "%arg.x" in define
    assert define.count("ptr noalias %arg.") == 2


def test_dispatchers_are_told_from_plain_functions_without_importing():
    assert numba_adapter.is_dispatcher(half)
    assert not numba_adapter.is_dispatcher(scale_c)
    assert half.py_func.__name__ == "half"


def test_intrinsic_shows_its_body():
    from numba.cuda.extending import intrinsic

    @intrinsic
    def nothing(typingctx):
        return None

    body = numba_adapter.intrinsic_body(nothing)
    assert body is not None
    assert body.__name__ == "nothing"
    assert numba_adapter.intrinsic_body(scale_c) is None


def test_missing_compilers_name_the_extra():
    error = numba_adapter.missing_numba("compiling for a GPU")
    assert isinstance(error, MissingDependencyError)
    assert error.hint == "pip install 'tessera[compile]'"


def test_a_shim_of_somebodys_own_stays_whole():
    own = """#include "mine.h"
__device__ int helper(int a) { return a; }
extern "C" __device__ int mine(int &r, int a) { r = helper(a); return 0; }
__device__ int other() { return 1; }
"""
    assert numba_adapter.needed_functions(own, set()) == own


def test_functions_of_a_shim_are_those_called_in_the_order_of_their_names():
    head, one = '\n#include "x.h"\n', 'extern "C" __device__ int\nb(int &r) {\n  { r = 1; }\n}\n'
    two = one.replace("b(", "a(")
    assert numba_adapter.needed_functions(head + one + two, {"a", "b"}) == head + two + one
    assert numba_adapter.needed_functions(head + one + two, {"b", "f"}) == head + one
    assert numba_adapter.needed_functions(head + one + two, {"f"}) == ""


def test_implementations_can_be_taken_from_their_context():
    import operator

    from numba.cuda import types
    from numba.cuda.descriptor import cuda_target

    numba_adapter.cuda_compiler()
    typing, target = cuda_target.typing_context, cuda_target.target_context
    typing.refresh()
    target.refresh()
    function = typing.resolve_value_type(operator.add)
    signature = typing.resolve_function_type(function, (types.float32, types.float32), {})
    write, taken = numba_adapter.unbound(target.get_function(function, signature))
    assert taken == signature
    parameters = inspect.signature(write).parameters
    assert "loc" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
