"""CUDA C++ becomes PTX of one kernel, by NVRTC: the same bytes in every folder."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tessera.compiler.cpp_types import (
    PROBE,
    PROBE_SOURCE,
    CppType,
    declared_as,
    dtypes_of,
    kernel_types,
)
from tessera.compiler.cuda_includes import Headers, find_headers, meaning, read_source
from tessera.compiler.job import Job
from tessera.compiler.options import ToolOptions
from tessera.compiler.ptx import UNBOUNDED, LaunchBounds, Ptx, toolkit_folders, virtual_lines
from tessera.language.cuda_source import CudaKernel
from tessera.language.kernel import Kernel
from tessera.program.dtype import as_dtype
from tessera.program.errors import CompileError, KernelError, SourceLocation

_MESSAGE = re.compile(
    r"^(?P<file>[^\s(]+)\((?P<line>\d+)\): (?:catastrophic )?error[^:]*: (?P<text>.+)$", re.MULTILINE
)
_NAMES = "__nv_name_map"
"""What NVRTC calls the file in which it looks for the entry."""
_NO_HEADER = re.compile(r'cannot open source file "(?P<name>[^"]+)"')
_CARET = re.compile(r"^(\s*)\^", re.MULTILINE)
_GLOBAL = re.compile(r"__global__[^;{}()]*?(?:__launch_bounds__\s*\([^)]*\)[^;{}()]*?)?\b(\w+)\s*\(")
_ENTRY = re.compile(r"^(?:\.visible |\.weak )?\.entry (\w+)", re.MULTILINE)
_OWN_FLAGS = (
    *("-arch", "--gpu-architecture", "-G", "--device-debug", "-lineinfo", "--generate-line-info"),
    *("-maxrregcount", "--maxrregcount", "-use_fast_math", "--use_fast_math"),
    *("-I", "--include-path", "-dlto", "--dlink-time-opt"),
)
"""Flags that a kernel's options cannot give: targets and `include_dirs` say these."""


@dataclass(frozen=True, slots=True)
class CppKernel:
    """A kernel of CUDA C++ source to compile."""

    name: str
    """Entry name in the PTX."""
    path: Path
    text: str = field(repr=False)
    headers: Headers = field(repr=False)
    entry: str
    """The function as C++ names it."""
    kinds: tuple[str, ...]
    """`f32*` for each pointer, `i32` for each number."""
    declared: tuple[str, ...]
    """The parameters' names."""
    outputs: tuple[str, ...] = ()
    """Those that the kernel writes."""
    flags: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()
    """Where headers are looked for."""
    location: SourceLocation | None = None
    bounds: LaunchBounds = UNBOUNDED

    def to_ptx(self, options: ToolOptions) -> Ptx:
        """PTX for one target, without limits of registers and blocks: `for_target` adds them.

        Raises:
            CompileError: It does not compile, there is no such function, or its parameters are others.
        """
        from tessera.emulator.nvrtc import NvrtcError, compile_cuda

        flags = [
            f"--gpu-architecture={options.target.replace('sm_', 'compute_')}",
            *(f"-I{folder}" for folder in toolkit_folders()),
            # Only these can find what a macro names; where they lie may then show in __FILE__.
            *(f"-I{folder}" for folder in (self.folders if self.headers.unknown else ())),
            *(["--use_fast_math"] if options.fast_math else []),
            *(["-lineinfo"] if options.lineinfo and not options.debug else []),
            *(["-G"] if options.debug else []),
            *self.flags,
        ]
        probe = f"{PROBE}<decltype(&{self.entry})>"
        try:
            made = compile_cuda(
                self.text + PROBE_SOURCE,
                self.path.name,
                flags,
                headers=self.headers.texts,
                names=[self.entry, probe],
            )
        except NvrtcError as error:
            raise self._explained(str(error.fields.get("log", "")) or error.message, options) from None
        text = one_entry(made.code.decode(), made.lowered[self.entry], self.name)
        types = kernel_types(made.lowered[probe])
        self._check_sizes(text, types or ())
        self._check_types(types)
        return Ptx(virtual_lines(text, {}))

    def parts(self, *, lines: bool) -> dict[str, object]:
        """JSON data that says what the kernel is, without its folder; with its layout if lines count."""
        layout = str if lines else meaning
        return {
            "form": "cuda c++",
            "name": self.name,
            "file": self.path.name,
            "text": layout(self.text),
            "headers": {name: layout(text) for name, text in self.headers.texts.items()},
            "entry": self.entry,
            "kinds": self.kinds,
            "outputs": self.outputs,
            "flags": self.flags,
            **({"bounds": self.bounds.parts, "block": self.bounds.block} if self.bounds.parts else {}),
        }

    def _check_sizes(self, ptx: str, types: Sequence[CppType]) -> None:
        from tessera.emulator.parser import parse_ptx
        from tessera.emulator.ptx import TYPE_BYTES

        params = parse_ptx(ptx).functions[self.name].params
        found = [TYPE_BYTES[p.type] * p.count for p in params]
        wanted = [_bytes_of(kind) for kind in self.kinds]
        # A half by value is an array of bytes in PTX, as structures are.
        numbers = {i for i, t in enumerate(types) if t.name in ("__half", "__nv_bfloat16")}
        if found == wanted and not any(p.count > 1 and i not in numbers for i, p in enumerate(params)):
            return
        place = self.location or SourceLocation(str(self.path), 1)
        given = ", ".join(f"{n} {k} ({w})" for n, k, w in zip(self.declared, self.kinds, wanted, strict=True))
        raise KernelError(
            f"{self.entry} in {self.path.name} has {len(found)} parameters of {_listing(found)} bytes, "
            f"declared are {len(wanted)}: {given}",
            hint="declare one per C++ parameter: ts.Array for a pointer, ts.f32 or ts.i32 for a number; "
            "structs by value cannot be passed",
            location=place,
        )

    def _check_types(self, types: Sequence[CppType] | None) -> None:
        if types is None:
            return
        place = self.location or SourceLocation(str(self.path), 1)
        for name, kind, found in zip(self.declared, self.kinds, types, strict=True):
            if not declared_as(kind, found):
                fits = " or ".join(f"ts.{dtype}" for dtype in dtypes_of(found))
                raise KernelError(
                    f"{self.entry} in {self.path.name} takes {name} as {found}, "
                    f"declared is {_declared(kind)}",
                    hint=f"declare {name} with {fits}" if fits else f"make it {_declared(kind)} in C++ too",
                    location=place,
                )
            if name in self.outputs and found.constant:
                raise KernelError(
                    f"{self.entry} in {self.path.name} only reads {name}, which is {found}, "
                    "but outputs names it",
                    hint=f"take {name} out of outputs, or const out of the C++",
                    location=place,
                )

    def _explained(self, log: str, options: ToolOptions) -> CompileError:
        """NVRTC's first complaint, with its line in the user's file."""
        first = _MESSAGE.search(log)
        if first is None:
            return CompileError(
                f"NVRTC cannot compile {self.path.name} for {options.target}: {log.partition(chr(10))[0]}",
                hint=f"its options are {' '.join(self.flags)}" if self.flags else None,
                location=self.location,
                log=log,
            )
        missing = self._missing_entry()
        if missing is not None:
            return missing
        if first["file"] == _NAMES:
            return CompileError(
                f"entry={self.entry!r}: {first['text'].strip()} (for {options.target})",
                hint="entry is the function as C++ names it, with its namespace and every template argument, "
                "such as ns::scale<float>",
                location=self.location or SourceLocation(str(self.path), 1),
                log=log,
            )
        path = self.headers.paths.get(first["file"], self.path)
        line, hint = int(first["line"]), None
        column = self._column(path, line, log[first.end() :])
        header = _NO_HEADER.search(first["text"])
        if header is not None:
            # NVRTC's caret is behind the name.
            column = max(self._line(path, line).find(header["name"]), 0)
            hint = self._searched()
        return CompileError(
            f"{first['text'].strip()} (for {options.target})",
            hint=hint,
            location=SourceLocation(str(path), line, column, function=self.name),
            log=log,
        )

    def _searched(self) -> str:
        lost = [folder for folder in self.folders if not folder.is_dir()]
        if lost:
            return f"include_dirs names a folder that is not there: {lost[0]}"
        places = ", ".join(dict.fromkeys(str(folder) for folder in (self.path.parent, *self.folders)))
        return f"looked for in {places} and among CUDA's headers: include_dirs=[…] adds folders"

    def _column(self, path: Path, line: int, shown: str) -> int | None:
        """Where NVRTC's caret points, in the file's own line: it shows lines with another indentation."""
        caret = _CARET.search(shown)
        text = shown.lstrip("\n").partition("\n")[0]
        own = self._line(path, line)
        if caret is None or text.strip() != own.strip():
            return None
        return len(caret[1]) - _indent(text) + _indent(own)

    def _line(self, path: Path, number: int) -> str:
        texts = {p: self.headers.texts[n] for n, p in self.headers.paths.items()}
        lines = texts.get(path, self.text).splitlines()
        return lines[number - 1] if number <= len(lines) else ""

    def _missing_entry(self) -> CompileError | None:
        """The error for a function that no file defines, if that is what is wrong."""
        known = [n for text in (self.text, *self.headers.texts.values()) for n in _GLOBAL.findall(text)]
        function = self.entry.partition("<")[0].rpartition("::")[2].strip()
        everything = "\n".join((self.text, *self.headers.texts.values()))
        if re.search(rf"\b{re.escape(function)}\b", everything):
            return None
        near = difflib.get_close_matches(function, known, n=1)
        return CompileError(
            f"{self.path.name} has no __global__ function {function!r}",
            hint=f'did you mean entry="{near[0]}"?' if near else f"it has: {', '.join(known) or 'none'}",
            location=SourceLocation(str(self.path), 1),
        )


def cpp_job(kernel: CudaKernel, kinds: tuple[str, ...], *, lines: bool) -> tuple[Job, list[str]]:
    """The job that builds a CUDA C++ kernel, and notes.

    Raises:
        CompileError: The file or a header cannot be read.
        KernelError: A flag that targets set.
    """
    source = kernel.source
    check_flags(kernel.name, source.options, kernel.location)
    text = read_source(source.path)
    headers = find_headers(source.path, text, source.include_dirs)
    made = CppKernel(
        name=kernel.name,
        path=source.path,
        text=text,
        headers=headers,
        entry=source.entry,
        kinds=kinds,
        declared=tuple(p.name for p in kernel.params),
        outputs=tuple(kernel.outputs),
        flags=source.options,
        folders=(source.path.parent, *source.include_dirs),
        location=kernel.location,
        bounds=LaunchBounds(kernel.block, kernel.min_blocks, kernel.max_registers),
    )
    notes = []
    if headers.unknown:
        notes.append(
            f"{kernel.name} is compiled anew each time: what #include {headers.unknown[0]} means is not known"
        )
    block, shared = kernel.block, kernel.shared_bytes
    job = Job(
        name=kernel.name,
        kind="cuda",
        parts=None if headers.unknown else made.parts(lines=lines),
        load=lambda: made,
        threads=block[0] * block[1] * block[2],
        dynamic_shared_bytes=shared if isinstance(shared, int) else None,
    )
    return job, notes


def not_for_the_cpu(kernel: Kernel) -> CompileError:
    """The error for CUDA C++ where the cpu is wanted."""
    return CompileError(
        f"{kernel.name} needs a GPU: it is CUDA C++",
        hint="compile it for a GPU, such as sm_80; --device emulator runs it without one",
        location=kernel.location,
        uses="CUDA C++",
    )


def check_flags(kernel: str, flags: tuple[str, ...], location: SourceLocation | None) -> None:
    """Refuse flags that targets set.

    Raises:
        KernelError: One of `_OWN_FLAGS`.
    """
    for flag in flags:
        if not flag.startswith("-"):
            raise KernelError(
                f"{kernel}: {flag!r} is not a flag", hint="options=('-DTILE=32',)", location=location
            )
        if flag.startswith(_OWN_FLAGS):
            raise KernelError(
                f"{kernel}: {flag} cannot be one kernel's option",
                hint="folders go to include_dirs, the rest to the target: "
                'CompilationTarget("sm_90", optimization_flags=[…])',
                location=location,
            )


def one_entry(ptx: str, lowered: str, name: str) -> str:
    """The module with this kernel alone, called `name`; functions and variables stay."""
    for entry in _ENTRY.findall(ptx):
        if entry != lowered:
            ptx = _without(ptx, entry)
    return re.sub(rf"\b{re.escape(lowered)}(?=\b|_param_)", name, ptx)


def _without(ptx: str, entry: str) -> str:
    start = re.search(rf"^(?:\.visible |\.weak )?\.entry {re.escape(entry)}\b", ptx, re.MULTILINE)
    assert start is not None  # noqa: S101 - it was found in this text
    at = ptx.index("{", start.start())
    depth = 0
    for match in re.finditer(r"[{}]|//[^\n]*|\"[^\"]*\"", ptx[at:]):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return ptx[: start.start()] + ptx[at + match.end() :].lstrip("\n")
    return ptx


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _bytes_of(kind: str) -> int:
    return 8 if kind.endswith("*") else as_dtype(kind).itemsize


def _declared(kind: str) -> str:
    return f"a pointer to ts.{kind[:-1]}" if kind.endswith("*") else f"a number of ts.{kind}"


def _listing(sizes: list[int]) -> str:
    return ", ".join(map(str, sizes)) or "no"
