"""A Python kernel becomes PTX that is the same bytes in every process and folder."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from tessera.compiler import abi
from tessera.compiler.debug_variables import MARK, give_places
from tessera.compiler.generated_module import lower_generated
from tessera.compiler.generated_values import UnknownConstructError
from tessera.compiler.inlined import inlined_ptx
from tessera.compiler.map_parameters import with_maps, with_one_block
from tessera.compiler.numba_adapter import (
    CudaIR,
    Function,
    lower_cuda,
    stable_names,
)
from tessera.compiler.nvvm import NvvmRefusal, nvvm_ptx
from tessera.compiler.options import ToolOptions
from tessera.compiler.source import parsed_module
from tessera.program.arch import parse_arch
from tessera.program.errors import SourceLocation, ToolchainError

_DI_FILE = re.compile(r'!DIFile\(directory: "[^"]*", filename: "([^"]*)"\)')
_FILE = re.compile(r'^(\s*\.file\s+\d+\s+)"([^"]*)"[^\n]*$', re.MULTILINE)
_LOC = re.compile(r"^(\s*\.loc\s+)(\d+) (\d+)( \d+)(.*)$", re.MULTILINE)
_TARGET = re.compile(r"^\.target sm_\w+", re.MULTILINE)
_VERSION = re.compile(r"\.version (\d+)\.(\d+)")
_FUNCTION = re.compile(r"^\.visible \.func\s+(?:\([^)]*\)\s*)?(\w+)", re.MULTILINE)
_EXTERN = re.compile(r"^\.extern \.func\s+(?:\([^)]*\)\s*)?(\w+)[^;]*;\n", re.MULTILINE)

_FAST_TANH = (7, 5)
"""From here on numba-cuda lowers float32 tanh to one instruction under fast math."""
_BASE = (7, 0)
"""Lowest architecture there is; lowering for it holds for all, but for what is named here."""


@dataclass(frozen=True, slots=True)
class Ptx:
    """PTX of one kernel."""

    text: str
    """The kernel's module: one visible entry, named as asked."""
    linked: tuple[str, ...] = ()
    """Further modules to link with it: library functions that Numba calls."""


@dataclass(frozen=True, slots=True)
class LaunchBounds:
    """What a kernel asks of the assembler."""

    block: tuple[int, int, int] = (1, 1, 1)
    """Threads by axis of every launch."""
    min_blocks: int | None = None
    """Blocks that a multiprocessor is to hold at once."""
    max_registers: int | None = None
    """Most registers of a thread."""

    @property
    def parts(self) -> dict[str, int]:
        """What is asked for, as JSON data; nothing where nothing is."""
        wanted = {"min_blocks": self.min_blocks, "max_registers": self.max_registers}
        return {name: value for name, value in wanted.items() if value is not None}


UNBOUNDED = LaunchBounds()


@dataclass(frozen=True, slots=True)
class CudaKernel:
    """A kernel to compile: a plain Python function and how it is called."""

    name: str
    """Entry name."""
    function: Function = field(repr=False)
    kinds: tuple[str, ...]
    """Kind of each argument: see `abi`."""
    noalias: tuple[bool, ...] = ()
    """For each primitive argument, whether nothing else points at its memory."""
    threads: int | None = None
    """Threads per block of every launch."""
    cc_dependent: bool = False
    """Whether lowering looks at the compute capability."""
    least_cc: tuple[int | str, ...] = _BASE
    """Lowest architecture that has the kernel's instructions."""
    locations: Mapping[int, SourceLocation] = field(default_factory=dict, repr=False)
    """The user's line behind each line of generated source."""
    source: str | None = field(default=None, repr=False)
    """Text of the module that defines the function, if this compiler wrote it."""
    bounds: LaunchBounds = UNBOUNDED


def lowering_class(kernel: CudaKernel, options: ToolOptions) -> tuple[object, ...]:
    """What a kernel's LLVM depends on besides the kernel: equal for targets that can share it."""
    arch = parse_arch(options.target)
    cc: tuple[int | str, ...] = (arch.major, arch.minor, *([arch.suffix] if arch.suffix else []))
    if not kernel.cc_dependent:
        cc = kernel.least_cc
        if options.fast_math and arch.cc >= _FAST_TANH and cc[:2] < _FAST_TANH:
            cc = _FAST_TANH
    return cc, options.opt_level > 0, options.fast_math, options.lineinfo, options.debug


def ptx_arch(kernel: CudaKernel, options: ToolOptions) -> str:
    """The architecture that NVVM is asked for; its text serves every target that gives the same one here.

    NVVM writes the same text for all architectures below 10.0, and for all from there on, unless a kernel
    itself looks at the architecture: `tests/compiler/test_ptx.py` holds it to that.
    """
    cc = parse_arch(options.target).cc
    if kernel.cc_dependent:
        return options.target
    if cc >= (10, 0):
        return "sm_100"
    if options.fast_math and cc >= _FAST_TANH:
        return "sm_80" if cc >= (8, 0) else "sm_75"
    return "sm_70"


def lower(kernel: CudaKernel, options: ToolOptions, *, branches: bool = False) -> CudaIR:
    """LLVM modules of `kernel`; serves every target of the same `lowering_class`.

    Args:
        kernel: What to lower.
        options: The target, and how to compile for it.
        branches: Whether what is lowered in one walk has a branch for each `a if c else b`.

    Raises:
        numba.core.errors.NumbaError: The kernel does not type or lower.
    """
    from numba.cuda import types

    cc, *_ = lowering_class(kernel, options)
    assert isinstance(cc, tuple)  # noqa: S101 - narrows the type
    kinds = abi.numba_types(kernel.kinds, types)
    common: Any = {
        "cc": cc,
        "opt_level": options.opt_level,
        "fast_math": options.fast_math,
        "threads": kernel.threads,
        "noalias": kernel.noalias,
    }
    if kernel.source is not None and not (options.lineinfo or options.debug):
        tree = next(n for n in parsed_module(kernel.source).body if isinstance(n, ast.FunctionDef))
        with suppress(UnknownConstructError):
            return lower_generated(tree, kernel.function.__globals__, kinds, **common, branches=branches)
    return lower_cuda(kernel.function, kinds, lineinfo=options.lineinfo, debug=options.debug, **common)


def ir_to_ptx(ir: CudaIR, kernel: CudaKernel, options: ToolOptions) -> Ptx:
    """PTX of a lowered kernel for one target.

    Raises:
        ToolchainError: NVVM refused the kernel.
    """
    return for_target(shared_ptx(ir, kernel, options), options, kernel.bounds)


def nvvm_modules(ir: CudaIR, kernel: CudaKernel, options: ToolOptions) -> list[str]:
    """LLVM modules of a lowered kernel as NVVM takes them, the same in every process and folder."""
    modules = [
        _DI_FILE.sub(lambda m: f'!DIFile(directory: "", filename: "{virtual_file(m[1])}")', text)
        for text in stable_names(ir, kernel.name)
    ]
    return [give_places(text) for text in modules] if options.debug else modules


def _other_nvvm(said: str) -> str | None:
    """What helps against a library that lacks the architecture, as NVVM 13 lacks `compute_70`."""
    if "-arch=" not in said or "unsupported" not in said:
        return None
    return "another toolkit's libnvvm was loaded: pip install 'tessera[compile]'; tessera diag names the file"


def shared_ptx(ir: CudaIR, kernel: CudaKernel, options: ToolOptions) -> Ptx:
    """PTX of a lowered kernel, from which `for_target` makes that of every target of the same `ptx_arch`.

    Raises:
        ToolchainError: NVVM refused the kernel.
    """
    arch = ptx_arch(kernel, options).replace("sm_", "compute_")
    modules = nvvm_modules(ir, kernel, options)
    try:
        if ir.shims and not options.debug and options.opt_level:
            with suppress(ToolchainError):
                text = virtual_lines(inlined_ptx(modules, ir.shims, arch, options), kernel.locations)
                return Ptx(with_one_block(with_maps(text, kernel.name, kernel.kinds)))
        texts = nvvm_ptx(
            modules,
            arch=arch,
            opt_level=options.opt_level,
            fast_math=options.fast_math,
            debug=options.debug,
        )
    except NvvmRefusal as error:
        raise ToolchainError(
            f"NVVM cannot compile {kernel.name} for {options.target}: {error}", hint=_other_nvvm(str(error))
        ) from None
    main, *others = (virtual_lines(text, kernel.locations) for text in texts)
    main = with_one_block(with_maps(main, kernel.name, kernel.kinds))
    shims = [shim_code(shim, arch).decode() for shim in ir.shims]
    if options.debug:
        # Each module has its own debug sections, so they stay apart.
        main, *others = (f"{MARK}\n{text}" for text in (main, *others))
        return Ptx(main, (*others, *shims))
    return Ptx(_merge(main, shims))


def for_target(ptx: Ptx, options: ToolOptions, bounds: LaunchBounds = UNBOUNDED) -> Ptx:
    """The same code under a target's name, and with the limits of target and kernel."""
    main, *others = (
        _TARGET.sub(f".target {options.target}", text, count=1) for text in (ptx.text, *ptx.linked)
    )
    limits = [n for n in (options.max_registers, bounds.max_registers) if n is not None]
    directives = [f".maxnreg {min(limits)}"] if limits else []
    if bounds.min_blocks is not None:
        # The assembler takes it together with the block's size alone.
        if ".maxntid" not in _head(main):
            directives.insert(0, ".maxntid " + ", ".join(map(str, bounds.block)))
        directives.append(f".minnctapersm {bounds.min_blocks}")
    return Ptx(with_directives(main, directives), tuple(others))


def with_directives(text: str, directives: Sequence[str]) -> str:
    """Limits as directives: the assembler ignores its flags for a kernel that says its block size.

    Source: PTX ISA, "Performance-Tuning Directives".
    """
    if not directives:
        return text
    body = text.index("{", text.index(".entry "))
    return text[:body] + "".join(f"{line}\n" for line in directives) + text[body:]


def _head(text: str) -> str:
    """Of the entry: what stands before its body."""
    start = text.index(".entry ")
    return text[start : text.index("{", start)]


def _merge(main: str, libraries: Sequence[str]) -> str:
    """One module of a kernel's and those it calls: the functions go where they were declared extern."""
    for library in libraries:
        head, _, body = library.partition(".address_size 64\n")
        before, here, after = main.partition(".address_size 64\n")
        main = max(before, head, key=_isa) + here + body + _without_declarations(after, body)
    return main


def _isa(head: str) -> tuple[int, int]:
    found = _VERSION.search(head)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _without_declarations(text: str, defined: str) -> str:
    names = set(_FUNCTION.findall(defined))
    return _EXTERN.sub(lambda m: "" if m[1] in names else m[0], text)


def virtual_file(path: str) -> str:
    """What a source file is called inside machine code: its name without folders."""
    name = PurePath(path).name
    return name.strip("<>") if name.startswith("<") else name


def virtual_lines(text: str, locations: Mapping[int, SourceLocation]) -> str:
    """`.file` without folder, size and time, which the assembler would embed; `.loc` in the user's source."""
    files = {m[2]: int(m[1].split()[1]) for m in _FILE.finditer(text)}
    if not files:
        return text
    extra: dict[str, int] = {}

    def to_user(match: re.Match[str]) -> str:
        place = locations.get(int(match[3]))
        if place is None:
            return match[0]
        name = virtual_file(place.file)
        index = files.get(name) or extra.setdefault(name, max(files.values()) + len(extra) + 1)
        return f"{match[1]}{index} {place.line} {place.column or 0}{match[5]}"

    text = _LOC.sub(to_user, text)
    text = _FILE.sub(lambda m: f'{m[1]}"{virtual_file(m[2])}", 1, 1', text)
    return text + "".join(f'\t.file\t{index} "{name}", 1, 1\n' for name, index in extra.items())


def shim_code(source: str, arch: str, *, kind: str = "ptx") -> bytes:
    """PTX or LTO-IR (`kind="ltoir"`) of a CUDA C++ source that numba-cuda wants linked, by NVRTC.

    Raises:
        ToolchainError: NVRTC refused it.
    """
    from tessera.emulator.nvrtc import NvrtcError, compile_cuda

    flags = [f"--gpu-architecture={arch}", "-rdc=true", *(f"-I{folder}" for folder in toolkit_folders())]
    flags += ["-dlto"] if kind == "ltoir" else []
    try:
        return compile_cuda(source, "shim.cu", flags, kind=kind).code
    except NvrtcError as error:
        raise ToolchainError(f"NVRTC cannot compile a library function for {arch}: {error.log}") from None


def toolkit_folders() -> Sequence[str]:
    """Folders of the CUDA headers: the runtime's, libcu++'s, numba-cuda's."""
    from importlib.util import find_spec
    from pathlib import Path

    spec = find_spec("nvidia")
    roots = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    numba_cuda = find_spec("numba_cuda")
    folders = [r / part / "include" for r in roots for part in ("cuda_runtime", "cuda_cccl")]
    if numba_cuda and numba_cuda.submodule_search_locations:
        folders += [Path(p) / "numba" / "cuda" / "include" for p in numba_cuda.submodule_search_locations]
    return [str(f) for f in folders if f.is_dir()]
