# ruff: noqa: SLF001 - private parts are what this file is for
"""The one file that touches Numba's and numba-cuda's private parts.

Both compilers promise little beyond their decorators. What Tessera needs more
is here, and `tests/compiler/test_numba_adapter.py` fails with a plain message
when an upgrade changes it:

- lowering a kernel once and handing its LLVM modules out, in a fixed order,
  with `noalias` on the arguments that deserve it;
- lowering device functions with no driver: numba-cuda asks for the current
  device there, and is answered from a context variable;
- lowering for a debugger: device functions with debug information too, and no
  two variables in one place;
- lowering a CPU function to LLVM before optimization, so that it is optimized
  for the target's processor and not for this machine's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

from tessera.emulator.cuda_libraries import prefer_wheels
from tessera.program.errors import MissingDependencyError

Function = Callable[..., Any]
_CPU_FAST_MATH = ("afn", "arcp", "contract", "nsz", "reassoc")
"""What fast math allows LLVM on the CPU: not that inf and nan never occur, as CUDA's does not either."""
_SYMBOL = re.compile(r'"(_ZN[^"]+|_cudapy_\w+_\d+)"')
_DEFINED = re.compile(r'^define [^@]*@"([^"]+)"', re.MULTILINE)
_DECLARED = re.compile(r'^declare [^@]*@"([^"]+)"', re.MULTILINE)
_DECLARED_ANY = re.compile(r'^declare [^@]*@"?([^"(\s]+)', re.MULTILINE)
_SHIM_START = re.compile(r'(?m)^\s*extern "C"(?= __device__ int\s)')
_SHIM_NAME = re.compile(r"\s*__device__ int\s+(\w+)\s*\(")
_CALLED = re.compile(r'@"(_ZN[^"]+)"')
_ENV = re.compile(r'^@"_ZN08NumbaEnv[^"]*" = common global i8\* null\n', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class CudaIR:
    """One kernel, lowered: LLVM modules that NVVM turns into PTX."""

    modules: tuple[str, ...]
    """The kernel's own module first, then those of the device functions it calls."""
    entry: str
    """Mangled name of the kernel in `modules`."""
    shims: tuple[str, ...]
    """CUDA C++ sources that the kernel's calls need, such as bfloat16 arithmetic."""


@dataclass(frozen=True, slots=True)
class CpuIR:
    """One function, lowered: an LLVM module before optimization."""

    module: str
    entry: str
    """Mangled name; `i32 entry(ret*, excinfo**, flattened arguments…)`."""


@dataclass(frozen=True, slots=True)
class _NoDevice:
    compute_capability: tuple[int | str, ...]


_wanted_device: ContextVar[_NoDevice | None] = ContextVar("tessera_wanted_device", default=None)


def missing_numba(needed_for: str) -> MissingDependencyError:
    """The error for an installation without the `compile` extra."""
    return MissingDependencyError.extra("numba-cuda", "compile", needed_for=needed_for)


@cache
def cuda_compiler() -> Any:
    """numba-cuda's compiler module, with the answer for device functions in place (first call: 0.5 s)."""
    try:
        import numba.cuda.compiler as compiler
        import numba.cuda.dispatcher as dispatcher
    except ImportError:
        raise missing_numba("compiling for a GPU") from None
    prefer_wheels()
    ask_driver = dispatcher.get_current_device

    def current_device() -> Any:
        return _wanted_device.get() or ask_driver()

    dispatcher.get_current_device = current_device
    return compiler


@contextmanager
def no_driver(cc: tuple[int | str, ...]) -> Iterator[None]:
    """Within, numba-cuda takes the current device to be of this compute capability."""
    token = _wanted_device.set(_NoDevice(cc))
    try:
        yield
    finally:
        _wanted_device.reset(token)


@contextmanager
def _debugging() -> Iterator[None]:
    """Lowering as a debugger needs it: device functions too, and every variable in a place of its own.

    Numba lets variables of one name and several types share a place, which is the size of the type that
    comes last by name: a float64 overwrites what lies behind an int32.
    """
    from numba.cuda.dispatcher import CUDADispatcher
    from numba.cuda.lowering import CUDALower

    compile_device, pre_lower = CUDADispatcher.compile_device, CUDALower.pre_lower
    before: dict[Any, tuple[Any, Any]] = {}

    def with_debug(self: Any, args: Any, return_type: Any = None) -> Any:
        if self not in before:
            before[self] = self.targetoptions, self.overloads
            self.targetoptions = {**self.targetoptions, "debug": True, "opt": False}
            # What was compiled without is not what is asked for, and the other way round.
            self.overloads = self.__dict__.setdefault("_tessera_debug_overloads", type(self.overloads)())
        return compile_device(self, args, return_type)

    def apart(self: Any) -> None:
        pre_lower(self)
        self.poly_var_typ_map = {}

    CUDADispatcher.compile_device, CUDALower.pre_lower = with_debug, apart
    try:
        yield
    finally:
        CUDADispatcher.compile_device, CUDALower.pre_lower = compile_device, pre_lower
        for dispatcher, (options, overloads) in before.items():
            dispatcher.targetoptions, dispatcher.overloads = options, overloads


def lower_cuda(
    function: Function,
    argument_types: Sequence[Any],
    *,
    cc: tuple[int | str, ...],
    opt_level: int = 3,
    fast_math: bool = False,
    lineinfo: bool = False,
    debug: bool = False,
    threads: int | None = None,
    noalias: Sequence[bool] = (),
) -> CudaIR:
    """Lower a kernel.

    Args:
        function: Plain Python function.
        argument_types: Numba type of each argument.
        cc: Compute capability that lowering may look at, with the architecture's suffix if it has one.
        opt_level: Optimization level, 0 to 3.
        fast_math: Fast floating-point arithmetic.
        lineinfo: Keep source lines.
        debug: Keep full debug information.
        threads: Threads per block of every launch, if known.
        noalias: For each LLVM argument, whether nothing else points at its memory.

    Raises:
        numba.core.errors.NumbaError: The function does not type or lower; `diagnose` explains it.
    """
    compiler = cuda_compiler()
    from numba.cuda import types
    from numba.cuda.core.compiler_lock import global_compiler_lock

    with global_compiler_lock, no_driver(cc), _debugging() if debug else nullcontext():
        library, _ = compiler._compile_pyfunc_with_fixup(
            function,
            types.void(*argument_types),
            debug=debug,
            lineinfo=lineinfo,
            device=False,
            fastmath=fast_math,
            cc=cc,
            opt=opt_level > 0,
            abi="numba",
            launch_bounds=None if threads is None else (threads,),
        )
        kernel = library.get_function(library._entry_name)
        for argument, marked in zip(kernel.args, noalias, strict=False):
            if marked:
                argument.add_attribute("noalias")
        return library_ir(library, library._entry_name)


def unbound(implementation: Any) -> tuple[Any, Any]:
    """What writes a call of a function, `write(context, builder, signature, arguments, loc)`; its signature.

    Args:
        implementation: From a target context's `get_function`, which binds both to the context.
    """
    return implementation._imp, implementation._sig


def library_ir(library: Any, entry: str) -> CudaIR:
    """What numba-cuda has gathered in a code library for one kernel."""
    modules = _ordered_modules(entry, [str(m) for m in library.modules])
    sources = sorted(str(_shim_text(item)) for item in library._linking_files)
    called = {symbol for text in modules for symbol in _DECLARED_ANY.findall(text)}
    shims = tuple(filter(None, (needed_functions(source, called) for source in sources)))
    return CudaIR(modules, entry, shims)


def _shim_text(item: Any) -> Any:
    return item.data if hasattr(item, "data") else item


def needed_functions(shim: str, called: set[str]) -> str:
    """The functions of a shim that are called, in the order of their names; nothing if none is.

    numba-cuda hands out every function that any kernel of this process has needed, in the order
    they were needed in. A source that is not only such functions is somebody's own, and stays whole.
    """
    head, *functions = _SHIM_START.split(shim)
    named = [(match[1], text) for text in functions if (match := _SHIM_NAME.match(text))]
    if not functions or len(named) < len(functions) or not all(_is_one_block(text) for _, text in named):
        return shim
    kept = sorted((name, text.rstrip()) for name, text in named if name in called)
    return head.rstrip() + "\n" + "".join(f'extern "C"{text}\n' for _, text in kept) if kept else ""


def _is_one_block(text: str) -> bool:
    """Whether C++ text ends where its first block of braces does."""
    depth = 0
    code = text.rstrip()
    for index, character in enumerate(code):
        depth += (character == "{") - (character == "}")
        if character == "}" and depth == 0:
            return index == len(code) - 1
    return False


def _ordered_modules(entry: str, modules: list[str]) -> tuple[str, ...]:
    """The modules that `entry` reaches, callers before callees, each once.

    numba-cuda hands them out in the order of a hash set, which differs from process to process.
    """
    home = {name: text for text in modules for name in _DEFINED.findall(text)}
    ordered: dict[str, None] = {}
    pending = [entry]
    while pending:
        text = home.get(pending.pop(0))
        if text is not None and text not in ordered:
            ordered[text] = None
            pending += _CALLED.findall(text)
    return tuple(ordered)


def stable_names(ir: CudaIR, name: str) -> tuple[str, ...]:
    """The modules with every generated name replaced: the kernel is `name`, the others count up.

    Names of functions and of shared arrays hold counters of the process; machine code must not
    depend on what was compiled before. Functions that the shims define keep their names: they are C++.
    """
    names = {ir.entry: name}
    texts = [_ENV.sub("", text) for text in ir.modules]
    defined = {symbol for text in texts for symbol in _DEFINED.findall(text)}
    foreign = {symbol for text in texts for symbol in _DECLARED.findall(text)} - defined
    for text in texts:
        for symbol in _SYMBOL.findall(text):
            if symbol not in foreign:
                # What ends a thread with a Python exception keeps its name, for debuggers.
                suffix = "_raise" if symbol.endswith("__exc_helper__") else ""
                names.setdefault(symbol, f"{name}__{len(names)}{suffix}")
    return tuple(_SYMBOL.sub(lambda m: f'"{names.get(m[1], m[1])}"', text) for text in texts)


@cache
def _cpu_context() -> tuple[Any, Any]:
    """Numba's CPU typing context and a target context that leaves LLVM unoptimized (first call: 0.3 s)."""
    try:
        from numba.core import codegen
        from numba.core.registry import cpu_target
    except ImportError:
        raise missing_numba("compiling for the CPU") from None

    class Library(codegen.AOTCodeLibrary):  # type: ignore[misc]
        def _optimize_functions(self, ll_module: Any) -> None:
            ll_module.data_layout = self._codegen._data_layout

        def _optimize_final_module(self) -> None:
            """Left to `native.py`, which knows the target."""

    class Codegen(codegen.AOTCPUCodegen):  # type: ignore[misc]
        _library_class = Library

    context = cpu_target.target_context
    context.refresh()
    return cpu_target.typing_context, context.subtarget(_internal_codegen=Codegen("tessera"), aot_mode=True)


def lower_cpu(
    function: Function,
    argument_types: Sequence[Any],
    *,
    fast_math: bool = False,
    noalias: Sequence[bool] = (),
) -> CpuIR:
    """Lower a function that returns nothing, allocates nothing and needs no Python.

    Args:
        function: Plain Python function.
        argument_types: Numba type of each argument.
        fast_math: Fast floating-point arithmetic.
        noalias: For each flattened argument, whether nothing else points at its memory.

    Raises:
        numba.core.errors.NumbaError: The function does not type or lower; `diagnose` explains it.
    """
    typing_context, target_context = _cpu_context()
    from numba.core import compiler, types
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.cpu_options import FastMathOptions

    flags = compiler.Flags()
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    # Division by zero gives inf or nan, as on a GPU, instead of a Python exception.
    flags.error_model = "numpy"
    flags.nrt = False
    if fast_math:
        flags.fastmath = FastMathOptions(set(_CPU_FAST_MATH))
    with global_compiler_lock:
        typing_context.refresh()
        target_context.refresh()
        result = compiler.compile_extra(
            typing_context, target_context, function, tuple(argument_types), types.void, flags, {}
        )
        result.library.finalize()
        entry: str = result.fndesc.llvm_func_name
        return CpuIR(_mark_noalias(str(result.library._final_module), entry, noalias), entry)


def _mark_noalias(text: str, entry: str, noalias: Sequence[bool]) -> str:
    if not any(noalias):
        return text
    head = re.search(r"^define i32 @" + re.escape(entry) + r"\((.*)\) .*{$|", text, re.MULTILINE)
    start = text.index(f"define i32 @{entry}(") if head else 0
    end = text.index("\n", start)
    return text[:start] + _mark_arguments(text[start:end], noalias) + text[end:]


def _mark_arguments(line: str, noalias: Sequence[bool]) -> str:
    marks = iter(noalias)
    # The first two arguments are Numba's own: the return value and the exception.
    return re.sub(r"(\w+)( %arg\.)", lambda m: m[1] + (" noalias" if next(marks, False) else "") + m[2], line)


def versions() -> dict[str, str]:
    """Versions of the compilers, from package metadata: importing them would cost a second."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in (
        "numba",
        "numba-cuda",
        "llvmlite",
        "nvidia-cuda-nvcc-cu12",
        "nvidia-nvjitlink-cu12",
        "nvidia-cuda-nvrtc-cu12",
        "cuda-bindings",
    ):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def is_dispatcher(value: object) -> bool:
    """Whether `value` is a function decorated with `@cuda.jit` or `@njit`; imports nothing."""
    kind = type(value)
    return kind.__module__.startswith("numba") and hasattr(value, "py_func")


def error_location(error: BaseException) -> tuple[str, int, int | None] | None:
    """File, line and 0-based column that Numba was at when it raised `error`, if it can be known.

    Some errors lose their place on the way out; the frames of the traceback still hold it.
    """
    place = getattr(error, "loc", None)
    frame = error.__traceback__
    while frame is not None:
        local = frame.tb_frame.f_locals
        for holder in (
            local.get("loc"),
            getattr(local.get("self"), "loc", None),
            getattr(local.get("inst"), "loc", None),
        ):
            if isinstance(getattr(holder, "line", None), int) and getattr(holder, "filename", None):
                place = holder
        frame = frame.tb_next
    if place is None or not isinstance(getattr(place, "line", None), int):
        return None
    column = getattr(place, "col", None)
    return str(place.filename), place.line, column if isinstance(column, int) else None


def intrinsic_body(value: object) -> Function | None:
    """The Python function behind an `@intrinsic`, if `value` is one; imports nothing."""
    body = getattr(value, "_defn", None) if type(value).__module__.startswith("numba") else None
    return body if callable(body) else None
