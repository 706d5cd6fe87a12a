"""The code that is debugged: PTX texts linked into one module, and what debug information says about it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tessera.emulator.debugging.dwarf import read_functions
from tessera.emulator.debugging.symbols import SourceFunction
from tessera.emulator.link import link_ptx
from tessera.emulator.ptx import Instruction, Module

_FILE = re.compile(r"^(\s*\.file\s+)(\d+)", re.MULTILINE)
_LOC = re.compile(r"^(\s*\.loc\s+)(\d+)", re.MULTILINE)
_STEP = 1000
"""Between the numbers of files of two texts."""


@dataclass(frozen=True, slots=True)
class Code:
    """One linked module."""

    text: str
    """All of its PTX; lines are counted through."""
    module: Module
    functions: dict[str, SourceFunction]
    """By name in PTX."""

    def file_of(self, instruction: Instruction) -> str:
        """The source file of an instruction, as the PTX names it; empty if unknown."""
        return self.module.files.get(instruction.file, "")

    def instructions(self) -> Iterator[tuple[str, Instruction]]:
        """Every instruction, with the name of its function."""
        for name, function in self.module.functions.items():
            for item in function.body:
                if isinstance(item, Instruction):
                    yield name, item

    def lines(self) -> dict[str, set[int]]:
        """Source lines that have code, by file."""
        found: dict[str, set[int]] = {}
        for _, item in self.instructions():
            if item.source_line:
                found.setdefault(self.file_of(item), set()).add(item.source_line)
        return found


def load_code(text: str) -> Code:
    """One module out of PTX; several texts are parted by NUL characters.

    Raises:
        CompileError: A text does not parse; names the line.
        MissingDependencyError: It has debug information, and pyelftools is not installed.
    """
    units: list[str] = []
    texts: list[str] = []
    functions: dict[str, SourceFunction] = {}
    padding = 0
    for number, unit in enumerate(part for part in text.split("\0") if part.strip()):
        # Lines and numbers of files count through, so that either names one place of all.
        shifted = _FILE.sub(lambda m, n=number: f"{m[1]}{int(m[2]) + _STEP * n}", unit)  # type: ignore[misc]
        shifted = _LOC.sub(lambda m, n=number: f"{m[1]}{int(m[2]) + _STEP * n}", shifted)  # type: ignore[misc]
        shifted = shifted.rstrip("\n") + "\n"
        texts.append(shifted)
        units.append("\n" * padding + shifted)
        functions |= {f.symbol: f for f in read_functions(units[-1])}
        padding += shifted.count("\n")
    module = link_ptx(units)
    for number, unit in enumerate(units[1:], 1):
        module.files.update(
            {int(m[2]): _name(unit, m.end()) for m in _FILE.finditer(unit) if int(m[2]) >= _STEP * number}
        )
    return Code("".join(texts), module, functions)


def _name(text: str, at: int) -> str:
    return text[at : text.index("\n", at)].split('"')[1]
