"""The machine code of a cubin as text, by NVIDIA's nvdisasm.

Source: CUDA Binary Utilities, "nvdisasm"; its PyPI package is `nvidia-cuda-nvdisasm`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tessera.program.errors import MissingDependencyError, ToolchainError

_SECTION = re.compile(r"^\.text\.(?P<name>[\w$.]+):$")
_PLACE = re.compile(r'^\s*//## File "(?P<file>[^"]*)", line (?P<line>\d+)(?P<inlined> inlined at .*)?')
_TEXT_SECTION = re.compile(rb"(?<=\0)\.text\.([\w$.]+)(?=\0)")
_MACHINE, _EM_CUDA = slice(18, 20), 190
"""Where an ELF file says for which machine it is. Source: ELF, "e_machine"."""
_LABEL = re.compile(r"^\s*(?P<label>\.L\w+):")
_CODE = re.compile(r"^\s*/\*(?P<offset>[0-9a-f]{4,})\*/\s+(?P<text>.*?)\s*;?\s*$")
_FATAL = re.compile(r"^nvdisasm fatal\s*:\s*")
_DAMAGED = re.compile(r"invalid ELF|appears truncated|Invalid symbol")
_OPCODE = re.compile(r"^(?:\{\s*)?(?:@!?U?P\w+\s+)?(?P<opcode>[A-Z][\w.]*)")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a GPU."""

    offset: int
    """Bytes from the kernel's start."""
    text: str
    """`@P0 LDG.E R4, [R4.64]`."""
    file: str | None
    """Source file that it was made from, without folders, if the cubin has line information."""
    line: int | None
    """1-based line there."""
    label: str | None = None
    """Label before it."""
    callers: tuple[tuple[str, int], ...] = ()
    """Of inlined code: file and line of each call it was inlined at, the outermost first."""

    @property
    def opcode(self) -> str:
        """`LDG.E`."""
        match = _OPCODE.match(self.text)
        return match["opcode"] if match else self.text.split()[0]


def find_disassembler() -> Path | None:
    """nvdisasm: `$TESSERA_NVDISASM`, the PyPI package's, one on the path, the CUDA toolkit's, Triton's."""
    chosen = os.environ.get("TESSERA_NVDISASM")
    if chosen:
        return Path(chosen)
    return next((path for path in _candidates() if path.is_file() and os.access(path, os.X_OK)), None)


def _candidates() -> Iterator[Path]:
    for package, pattern in (("nvidia", "cu*/bin/nvdisasm"), ("nvidia", "cuda_nvdisasm/bin/nvdisasm")):
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            yield from sorted(Path(folder).glob(pattern), reverse=True)
    on_path = shutil.which("nvdisasm")
    if on_path:
        yield Path(on_path)
    yield Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin" / "nvdisasm"
    spec = find_spec("triton")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(folder) / "backends" / "nvidia" / "bin" / "nvdisasm"


def kernels_of(cubin: bytes, file: str = "the file") -> tuple[str, ...]:
    """Names of the functions of a cubin, kernels first, from the names of its sections.

    Raises:
        ToolchainError: It is no cubin.
    """
    machine = int.from_bytes(cubin[_MACHINE], "little")
    found = dict.fromkeys(_TEXT_SECTION.findall(cubin))
    # Kernels alone have parameters, in constants of their own.
    names = tuple(n.decode() for n in sorted(found, key=lambda n: b".nv.constant0." + n not in cubin))
    if cubin[:4] != b"\x7fELF" or machine != _EM_CUDA or not names:
        raise ToolchainError(
            f"{file} is no cubin: no ELF file with code for a GPU",
            hint="tessera compile FILE --arch sm_80 --emit cubin writes one",
        )
    return names


def disassemble(cubin: bytes, kernel: str, file: str = "the cubin") -> tuple[Instruction, ...]:
    """The instructions of one kernel of a cubin, in order.

    Args:
        cubin: An ELF file for a GPU.
        kernel: Entry name.
        file: Its name, for errors.

    Raises:
        MissingDependencyError: There is no nvdisasm.
        ToolchainError: nvdisasm cannot read the cubin, or it has no such kernel.
    """
    tool = find_disassembler()
    if tool is None:
        raise MissingDependencyError(
            "showing SASS needs nvdisasm, which is not here", hint="pip install 'tessera[compile]'"
        )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as copy:
        copy.write(cubin)
        copy.flush()
        text = _run(tool, copy.name, file)
    found = list(_instructions(text, kernel))
    if not found:
        raise ToolchainError(f"nvdisasm finds no kernel {kernel!r} in {file}")
    # What fills the last cache line is never reached.
    while len(found) > 1 and found[-1].text == "NOP":
        found.pop()
    return tuple(found)


def _run(tool: Path, cubin: str, shown: str) -> str:
    """What nvdisasm says of a copy of the file that the reader knows as `shown`."""
    try:
        command = [str(tool), "--print-line-info-inline", "--print-code", cubin]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ToolchainError(
            f"{tool} cannot be run: {error.strerror}", hint="unset TESSERA_NVDISASM, or let it name nvdisasm"
        ) from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        # It names the copy that it was given, which is gone by now.
        reason = _FATAL.sub("", said[-1]).replace(cubin, shown) if said else f"status {done.returncode}"
        raise ToolchainError(
            f"nvdisasm cannot read {shown}: {reason}",
            hint="the file is damaged: make it again"
            if _DAMAGED.search(reason)
            else "nvdisasm 13 reads sm_75 and later: --arch sm_80, or name another one in TESSERA_NVDISASM",
        )
    return done.stdout


def _instructions(text: str, kernel: str) -> Iterator[Instruction]:
    inside = False
    # The line itself first, then each call that it was inlined at.
    places: list[tuple[str, int]] = []
    inlined = False
    label: str | None = None
    for row in text.splitlines():
        section, place, mark, code = (p.match(row) for p in (_SECTION, _PLACE, _LABEL, _CODE))
        if section:
            inside, places, inlined = section["name"] == kernel, [], False
        elif place:
            places = [*(places if inlined else []), (place["file"].rpartition("/")[2], int(place["line"]))]
            inlined = place["inlined"] is not None
        elif mark:
            label = mark["label"]
        elif code and inside and code["text"]:
            file, line = places[0] if places else (None, None)
            callers = tuple(reversed(places[1:]))
            yield Instruction(int(code["offset"], 16), code["text"], file, line, label, callers)
            label, inlined = None, False


def with_source(sass: tuple[Instruction, ...], file: str | None, source: list[str]) -> str:
    """Instructions as text, each source line before the first instruction made from it.

    Args:
        sass: A kernel's instructions.
        file: Name of the source file, without folders; None shows places alone.
        source: Its lines.
    """
    rows: list[str] = []
    last: tuple[str | None, int | None] = (None, None)
    for instruction in sass:
        place = (instruction.file, instruction.line)
        if place != last and instruction.line is not None:
            known = instruction.file == file and 0 < instruction.line <= len(source)
            text = f": {source[instruction.line - 1].strip()}" if known else ""
            rows.append(f"// {instruction.file}:{instruction.line}{text}")
        last = place
        if instruction.label:
            rows.append(f"{instruction.label}:")
        rows.append(f"    /*{instruction.offset:04x}*/  {instruction.text}")
    return "\n".join(rows)
