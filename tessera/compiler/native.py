"""A Python kernel becomes native CPU code: built ahead of time, no Python inside.

Numba types the function and lowers it to LLVM. From there on it is ours: a
wrapper with the C ABI of `tessera.program` calls it, everything else becomes
internal, LLVM optimizes for the target's level (not for this machine), and a
linker makes one shared library of all kernels of a program.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tessera.compiler import abi
from tessera.compiler.linker import link_shared
from tessera.compiler.numba_adapter import CpuIR, Function, lower_cpu
from tessera.compiler.options import ToolOptions
from tessera.program.errors import CompileError, SourceLocation, ToolchainError


@dataclass(frozen=True, slots=True)
class CpuLevel:
    """What LLVM is told about a CPU target."""

    triple: str
    cpu: str
    machine: str
    """As `uname -m` says."""
    features: str = ""


LEVELS: dict[str, CpuLevel] = {
    "cpu-x86_64-v2": CpuLevel("x86_64-unknown-linux-gnu", "x86-64-v2", "x86_64"),
    "cpu-x86_64-v3": CpuLevel("x86_64-unknown-linux-gnu", "x86-64-v3", "x86_64"),
    "cpu-aarch64": CpuLevel("aarch64-unknown-linux-gnu", "generic", "aarch64", "+neon"),
}
"""By the names of `tessera.program.arch.CPU_LEVELS`."""


@dataclass(frozen=True, slots=True)
class CpuKernel:
    """A kernel to compile: a Python function of its arguments and the work items `begin`, `end`."""

    name: str
    """Entry name."""
    function: Function = field(repr=False)
    kinds: tuple[str, ...]
    """Kind of each argument without `begin` and `end`: see `abi`."""
    noalias: tuple[bool, ...] = ()
    """For each primitive argument, whether nothing else points at its memory."""
    locations: Mapping[int, SourceLocation] = field(default_factory=dict, repr=False)
    """The user's line behind each line of generated source."""


_LLVM_TYPES = {"f64": "double", "f32": "float", "i64": "i64", "i32": "i32", "i16": "i16", "u64": "i64",
               "u32": "i32", "u16": "i16"}  # fmt: skip
_MATH = (
    "acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp10 exp2 expm1 "
    "fabs floor fma fmax fmin fmod frexp hypot ldexp lgamma log log10 log1p log2 modf nearbyint pow "
    "remainder rint round roundeven sin sincos sinh sqrt tan tanh tgamma trunc"
)
_LIBRARY = frozenset(
    [base + suffix for base in _MATH.split() for suffix in ("", "f")]
    + ["memcmp", "memcpy", "memmove", "memset"]
)
"""What a kernel may call outside itself: libm and libc."""

_DEFINE = re.compile(r"^define (?!.*\binternal\b)([^@]*@)", re.MULTILINE)
_DECLARE = re.compile(r'^declare [^@]*@"?([\w.$]+)"?\(', re.MULTILINE)
_SYMBOL = re.compile(r"@(_ZN[\w.$]+)")
_COMMON = re.compile(r"^(@\S+ = )(?:common|external) (global ptr) null", re.MULTILINE)
_HEAD = re.compile(r"^(?:target (?:datalayout|triple)|source_filename) = .*\n", re.MULTILINE)


def kernel_to_object(kernel: CpuKernel, options: ToolOptions) -> bytes:
    """The ELF object of one kernel, which exports `void name(void *const *args, i64 begin, i64 end)`.

    Raises:
        numba.core.errors.NumbaError: The kernel does not type or lower.
        CompileError: It needs something that only Python has.
        ToolchainError: LLVM refused it.
    """
    from numba.core import types

    ir = lower_cpu(
        kernel.function,
        (*abi.numba_types(kernel.kinds, types), types.int64, types.int64),
        fast_math=options.fast_math,
        noalias=kernel.noalias,
    )
    return ir_to_object(with_wrapper(ir, kernel), kernel.name, options)


def with_wrapper(ir: CpuIR, kernel: CpuKernel) -> str:
    """The LLVM module with the C-ABI entry added, all else internal and under stable names.

    Raises:
        CompileError: The function calls something outside libm and libc.
    """
    for symbol in _DECLARE.findall(ir.module):
        if symbol not in _LIBRARY and not symbol.startswith("llvm."):
            raise _not_standalone(kernel.name, symbol)
    text = _HEAD.sub("", ir.module)
    text = _COMMON.sub(r"\1internal \2 null", text)
    text = _DEFINE.sub(r"define internal \1", text)
    text = re.sub(
        r"^define internal (?:linkonce_odr|weak_odr|weak) ", "define internal ", text, flags=re.MULTILINE
    )
    names = {ir.entry: f"{kernel.name}.body"}
    for symbol in _SYMBOL.findall(text):
        names.setdefault(symbol, f"{kernel.name}.{len(names)}")
    text = _SYMBOL.sub(lambda m: "@" + names[m[1]], text)
    return text + _wrapper(kernel)


def _wrapper(kernel: CpuKernel) -> str:
    lines = []
    call = ["ptr %ret", "ptr %exc"]
    for i, kind in enumerate(abi.llvm_arguments(kernel.kinds)):
        type_ = "ptr" if kind.endswith("*") else _LLVM_TYPES.get(kind, "i8")
        lines += [
            f"  %slot{i} = getelementptr inbounds ptr, ptr %args, i64 {i}",
            f"  %where{i} = load ptr, ptr %slot{i}, align 8",
            f"  %arg{i} = load {type_}, ptr %where{i}",
        ]
        call.append(f"{type_} %arg{i}")
    call += ["i64 %begin", "i64 %end"]
    return "\n".join(
        [
            "",
            f"define dso_local void @{kernel.name}(ptr noalias readonly %args, i64 %begin, i64 %end) {{",
            "  %ret = alloca ptr, align 8",
            "  %exc = alloca ptr, align 8",
            *lines,
            f"  %status = call i32 @{kernel.name}.body({', '.join(call)})",
            "  ret void",
            "}",
            "",
        ]
    )


def _not_standalone(name: str, symbol: str) -> CompileError:
    reasons = {"NRT_": "allocates memory", "Py": "uses Python objects", "numba_": "calls Numba's runtime"}
    why = next((text for start, text in reasons.items() if symbol.startswith(start)), "calls a library")
    return CompileError(
        f"{name} {why} ({symbol}), which code without Python cannot",
        hint="use scalars, arithmetic, math functions and the arrays that are passed in",
        symbol=symbol,
    )


@cache
def _target_machine(level: CpuLevel, opt_level: int) -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(level.triple).create_target_machine(
        cpu=level.cpu, features=level.features, opt=opt_level, reloc="pic", codemodel="default"
    )


def ir_to_object(text: str, name: str, options: ToolOptions) -> bytes:
    """LLVM text, optimized and assembled for a CPU target: an ELF object.

    Raises:
        ToolchainError: LLVM refused it.
    """
    import llvmlite.binding as llvm

    level = LEVELS[options.target]
    machine = _target_machine(level, options.opt_level)
    head = (
        f'source_filename = "{name}"\n'
        f'target datalayout = "{machine.target_data}"\n'
        f'target triple = "{level.triple}"\n'
    )
    try:
        module = llvm.parse_assembly(head + text)
        module.verify()
    except RuntimeError as error:
        raise ToolchainError(f"LLVM cannot compile {name} for {options.target}: {error}") from None
    tuning = llvm.create_pipeline_tuning_options(speed_level=options.opt_level)
    tuning.loop_vectorization = tuning.slp_vectorization = options.opt_level > 1
    tuning.loop_unrolling = tuning.loop_interleaving = options.opt_level > 1
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return bytes(machine.emit_object(module))


def link_program(objects: Sequence[bytes], name: str, options: ToolOptions) -> bytes:
    """One shared library of a program's kernels.

    Raises:
        ToolchainError: There is no linker, or it failed.
    """
    return link_shared(list(objects), name, LEVELS[options.target].machine)
