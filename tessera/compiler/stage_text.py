"""Checks of LLVM and PTX from elsewhere: that it is text, which kernels it has, and for what architecture."""

from __future__ import annotations

import re

from tessera.program.arch import parse_arch
from tessera.program.errors import ArchitectureError, CompileError, SourceLocation

HEAD = re.compile(
    r"^; tessera: (?P<kernel>\S+) for (?P<target>\w+), -arch=(?P<arch>\w+) -launch=(?P<bounds>\{.*\})$",
    re.MULTILINE,
)
_PTX = "tessera compile FILE --emit ptx -o FILE.ptx writes some"
_TARGET = re.compile(r"^\s*\.target\s+(sm_\w+)", re.MULTILINE)
_ENTRY = re.compile(r"\.entry\s+([\w$%.]+)")
_LLVM_KERNEL = re.compile(r"!\{[^\n}]*@\"?([\w$.]+)\"?, !?\s*(?:metadata )?!\"kernel\"")


def decoded(data: bytes, file: str) -> str:
    """The text of a file.

    Raises:
        CompileError: It is none; `location` is the line.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CompileError(
            f"no text: byte {error.start} is {data[error.start]:#04x}", location=SourceLocation(file, line)
        ) from None


def kernel_names(text: str, stage: str, file: str) -> tuple[str, ...]:
    """Names of the kernels in a text.

    Args:
        text: The contents of a file.
        stage: `nvvm` or `ptx`.
        file: Its name, for errors.

    Raises:
        CompileError: It has none.
    """
    if stage == "nvvm":
        head = HEAD.search(text)
        names = [head["kernel"]] if head else _LLVM_KERNEL.findall(text)
        hint = 'NVVM knows kernels by  !nvvm.annotations = !{!{… @name, !"kernel", i32 1}}'
    else:
        if ".version" not in text:
            raise CompileError("no PTX: it has no .version", hint=_PTX, location=SourceLocation(file, 1))
        names, hint = _ENTRY.findall(text), "a kernel is  .visible .entry name(…)"
    if not names:
        raise CompileError("it has no kernel", hint=hint, location=SourceLocation(file, 1))
    return tuple(dict.fromkeys(names))


def named_target(text: str, stage: str, file: str) -> str:
    """The architecture that a text names; of LLVM from elsewhere `sm_80`.

    Raises:
        CompileError: PTX names none.
    """
    if stage == "nvvm":
        head = HEAD.search(text)
        return head["target"] if head else "sm_80"
    match = _TARGET.search(text)
    if match is None:
        raise CompileError("no PTX: it has no .target", hint=_PTX, location=SourceLocation(file, 1))
    return match[1]


def check_ptx_target(text: str, target: str, file: str) -> None:
    """Refuse PTX for an architecture that the target does not contain.

    Source: PTX ISA, ".target": plain code runs on later ones too, `f` within a family, `a` there alone.
    """
    match = _TARGET.search(text)
    if match is None:
        raise CompileError("no PTX: it has no .target", hint=_PTX, location=SourceLocation(file or "ptx", 1))
    made, wanted = parse_arch(match[1]), parse_arch(target)
    fits = made.cc <= wanted.cc
    if made.suffix == "a":
        fits = match[1] == target
    elif made.suffix == "f":
        fits = fits and made.major == wanted.major and wanted.suffix in ("a", "f")
    if fits:
        return
    line = text.count("\n", 0, match.start(1)) + 1
    column = match.start(1) - text.rfind("\n", 0, match.start(1)) - 1
    raise ArchitectureError(
        f"this PTX is for {match[1]}, and cannot become code for {target}",
        hint=f"--arch {match[1]}" + ("" if made.suffix == "a" else " or later"),
        location=SourceLocation(file or "ptx", line, column),
    )
