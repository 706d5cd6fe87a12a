"""CUDA C++ compiled with no driver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tessera.program.errors import CompileError


def _checked(result: tuple[Any, ...], program: Any = None) -> Any:
    if int(result[0]) != 0:
        log = f"\n{_log(program)}" if program is not None else ""
        raise CompileError(f"NVRTC: {result[0].name}{log}")
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
            CompileError: It does not compile; the message holds NVRTC's log.
        """
        from cuda.bindings import nvrtc
        from cuda.core import ObjectCode

        name = str(self._options.name or "program.cu")
        program = _checked(nvrtc.nvrtcCreateProgram(self._code.encode(), name.encode(), 0, [], []))
        flags = self._options.as_bytes("nvrtc")
        _checked(nvrtc.nvrtcCompileProgram(program, len(flags), flags), program)
        if logs is not None and _log(program):
            logs.write(_log(program))
        if kind == "ltoir":
            code = _sized(nvrtc.nvrtcGetLTOIRSize, nvrtc.nvrtcGetLTOIR, program)
            return ObjectCode.from_ltoir(code, name=name)
        code = _sized(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program)
        return ObjectCode.from_ptx(code.strip(b"\x00"), name=name)
