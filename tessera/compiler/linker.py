"""Object code becomes a shared library, by whichever C compiler is at hand."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tessera.program.errors import ToolchainError

_TRIPLES = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}
_TIMEOUT_S = 120
_LONGEST_NAME = 80
"""Letters of a library's name; its file's has 255 bytes at most."""


@dataclass(frozen=True, slots=True)
class Linker:
    """A command that links."""

    command: tuple[str, ...]
    """The program and its first arguments."""
    description: str
    """What it is, for messages: `cc (Debian 12.2.0-14) 12.2.0`."""


def find_linker(machine: str) -> Linker:
    """A linker that makes shared libraries for Linux on `machine` (`x86_64` or `aarch64`).

    `TESSERA_CC` names one; otherwise the system's cc, gcc or clang if this machine is of that
    kind, then a cross compiler of the usual name, then the `ziglang` wheel.

    Raises:
        ToolchainError: There is none.
    """
    return _find_linker(machine, os.environ.get("TESSERA_CC", ""), os.environ.get("PATH", ""))


@cache
def _find_linker(machine: str, chosen: str, path: str) -> Linker:
    if chosen:
        program, *first = shlex.split(chosen)
        found = shutil.which(program, path=path)
        if found is None:
            raise ToolchainError(
                f"TESSERA_CC={chosen}: no such program", hint="unset TESSERA_CC, or give a C compiler's path"
            )
        return Linker((found, *first), _describe((found, *first)))
    for name in _candidates(machine):
        found = shutil.which(name, path=path)
        if found:
            return Linker((found,), _describe((found,)))
    if find_spec("ziglang"):
        command = (sys.executable, "-m", "ziglang", "cc", "-target", _TRIPLES[machine])
        return Linker(command, "zig cc " + _describe((sys.executable, "-m", "ziglang", "version")))
    raise ToolchainError(
        f"no C compiler to link the CPU code for {machine} with: looked for "
        + ", ".join(_candidates(machine))
        + " and the ziglang wheel",
        hint="pip install 'tessera[toolchain]', or install gcc, or leave the cpu target out",
    )


def _candidates(machine: str) -> tuple[str, ...]:
    here = os.uname().machine == machine
    cross = f"{_TRIPLES[machine]}-gcc"
    return ("cc", "gcc", "clang", cross) if here else (cross,)


def _describe(command: tuple[str, ...]) -> str:
    version = command if command[-1] == "version" else (*command, "--version")
    try:
        done = subprocess.run(version, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainError(f"{command[0]} does not start: {error}") from None
    return (done.stdout or done.stderr).split("\n", 1)[0].strip()


def link_shared(objects: list[bytes], name: str, machine: str) -> bytes:
    """The shared library `name.so` of object files, depending on libm and libc alone.

    Nothing of this machine goes in: no folder, time, build id or start-up file.

    Raises:
        ToolchainError: There is no linker, or it failed; the message holds what it said.
    """
    linker = find_linker(machine)
    name = re.sub(r"[^\w.-]", "_", name)[:_LONGEST_NAME]
    with tempfile.TemporaryDirectory(prefix="tessera-link-") as folder:
        inputs = [f"{i}.o" for i in range(len(objects))]
        for file, data in zip(inputs, objects, strict=True):
            Path(folder, file).write_bytes(data)
        command = [
            *linker.command,
            *("-shared", "-nostartfiles", "-s", "-o", f"{name}.so"),
            *(f"-Wl,-soname,{name}.so", "-Wl,--build-id=none", "-Wl,--no-undefined", "-Wl,-z,noexecstack"),
            *inputs,
            *("-lm", "-lc"),
        ]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ToolchainError(f"linking {name} with {linker.description} failed: {error}") from None
        library = Path(folder, f"{name}.so")
        if done.returncode != 0 or not library.is_file():
            said = (done.stderr or done.stdout).strip() or f"it ended with status {done.returncode}"
            raise ToolchainError(
                f"linking {name} with {linker.description} failed: {said}",
                hint="set TESSERA_CC to another C compiler, or pip install 'tessera[toolchain]'",
            )
        return library.read_bytes()
