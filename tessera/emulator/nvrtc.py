"""CUDA C++ compiled by NVRTC, with no driver."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tessera.emulator.cuda_libraries import prefer_wheels
from tessera.program.errors import CompileError


@dataclass(frozen=True, slots=True)
class Compiled:
    """What NVRTC made."""

    code: bytes
    """PTX or LTO-IR."""
    lowered: Mapping[str, str]
    """Name in the PTX by C++ name, of the names asked for."""
    log: str
    """Warnings."""


class NvrtcError(CompileError):
    """NVRTC refused the source; `fields["log"]` is what it said."""


def compile_cuda(
    code: str,
    name: str,
    flags: Sequence[bytes | str],
    *,
    kind: str = "ptx",
    headers: Mapping[str, str] | None = None,
    names: Sequence[str] = (),
) -> Compiled:
    """PTX or LTO-IR of CUDA C++.

    Args:
        code: The source.
        name: What its file is called in messages and line information.
        flags: NVRTC's flags.
        kind: `ptx` or `ltoir`.
        headers: Text by the name that `#include` gives.
        names: C++ names whose names in the PTX are wanted; they are compiled although nothing uses them.

    Raises:
        NvrtcError: It does not compile.

    Source: NVRTC documentation, "Accessing Lowered Names".
    """
    prefer_wheels()
    from cuda.bindings import nvrtc

    texts = [text.encode() for text in (headers or {}).values()]
    files = [key.encode() for key in headers or {}]
    program = _checked(nvrtc.nvrtcCreateProgram(code.encode(), name.encode(), len(files), texts, files))
    try:
        for expression in names:
            _checked(nvrtc.nvrtcAddNameExpression(program, expression.encode()))
        raw = [flag if isinstance(flag, bytes) else flag.encode() for flag in flags]
        _checked(nvrtc.nvrtcCompileProgram(program, len(raw), raw), program)
        lowered = {n: _checked(nvrtc.nvrtcGetLoweredName(program, n.encode())).decode() for n in names}
        if kind == "ltoir":
            made = _sized(nvrtc.nvrtcGetLTOIRSize, nvrtc.nvrtcGetLTOIR, program)
        else:
            made = _sized(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program).strip(b"\x00")
        return Compiled(made, lowered, _log(program))
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _checked(result: tuple[Any, ...], program: Any = None) -> Any:
    if int(result[0]) != 0:
        log = _log(program) if program is not None else ""
        raise NvrtcError(f"NVRTC: {result[0].name}" + (f"\n{log}" if log else ""), log=log)
    return result[1] if len(result) == 2 else None


def _sized(size: Callable[..., Any], get: Callable[..., Any], program: Any) -> bytes:
    # NVRTC writes into this object. Python shares all bytes objects of one byte, so it must not be one.
    text = bytes(max(_checked(size(program)), 2))
    _checked(get(program, text))
    return text


def _log(program: Any) -> str:
    from cuda.bindings import nvrtc

    raw = _sized(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
    return raw.decode(errors="replace").strip("\x00").strip()


class Program:
    """cuda.core's `Program`, which would ask a driver for its version.

    Args:
        code: CUDA C++.
        code_type: `c++`.
        options: cuda.core's `ProgramOptions`.
    """

    def __init__(self, code: str, code_type: str, options: Any) -> None:
        del code_type
        self._code, self._options = code, options

    def compile(self, kind: str, logs: Any = None) -> Any:
        """The code as cuda.core's `ObjectCode`: `ptx` or `ltoir`.

        Raises:
            NvrtcError: It does not compile; the message holds NVRTC's log.
        """
        from cuda.core import ObjectCode

        name = str(self._options.name or "program.cu")
        made = compile_cuda(self._code, name, self._options.as_bytes("nvrtc"), kind=kind)
        if logs is not None and made.log:
            logs.write(made.log)
        wrap = ObjectCode.from_ltoir if kind == "ltoir" else ObjectCode.from_ptx
        return wrap(made.code, name=name)
