"""The source lines of a package's machine code, instruction by instruction, by its disassembly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tessera.profiler.ncu_source import CodeLine, Lines
from tessera.program.errors import TesseraError


def line_tables(package: Path, program: str, kernels: Iterable[str], cc: str) -> Mapping[str, Lines]:
    """By kernel, file and line of each instruction; empty where no machine code of the package is run.

    Nsight Compute lists lines only of source files that it finds; the code itself names them all.

    Args:
        package: That was run.
        program: Which of its programs.
        kernels: Those that were launched.
        cc: Compute capability of the GPU, such as `9.0`.
    """
    from tessera.compiler.sass import disassemble
    from tessera.runtime import DeploymentPackage
    from tessera.runtime.cuda import choose_code

    major, _, minor = cc.partition(".")
    if not (major.isdigit() and minor.isdigit()):
        return {}
    found: dict[str, Lines] = {}
    try:
        loaded = DeploymentPackage.load(package)
        _, target, kind = choose_code(loaded.programs[program], loaded, (int(major), int(minor)))
        for kernel in dict.fromkeys(kernels):
            # What the driver made of PTX is in no file.
            binary = loaded.binary(program, kernel, target, "cubin") if kind == "cubin" else None
            if binary is not None:
                found[kernel] = {
                    i.offset: CodeLine(i.file, i.line, i.opcode.split(".")[0], i.callers)
                    for i in disassemble(binary.data, kernel)
                    if i.file and i.line
                }
    except TesseraError:
        # No disassembler, or none for this GPU: ncu's own lines remain.
        return found
    return found
