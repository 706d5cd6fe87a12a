"""The assembler as a program of its own, for kernels that nvJitLink makes slower than they are.

nvJitLink assembles for linking, where any function might call an unknown one. There ptxas waits for each
`wgmma` before it starts the next ("serialized due to the presence of Extern calls", CUDA 12.9); in a whole
program it does not. Measured on a bf16 tile of 128 × 64: 4 waits a tile and 80 registers become 1 and 58.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tessera.compiler.options import ToolOptions
from tessera.program.artifact import Resources
from tessera.program.errors import ToolchainError

_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")


def gains(ptx: str) -> bool:
    """Whether a kernel is better assembled as a whole program."""
    return "wgmma.mma_async" in ptx


@cache
def find_ptxas() -> Path | None:
    """The tool from `nvidia-cuda-nvcc-cu12`, which the extra `compile` brings, or on the path; else None."""
    spec = find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        found = Path(root) / "cuda_nvcc" / "bin" / "ptxas"
        if found.is_file() and os.access(found, os.X_OK):
            return found
    on_path = shutil.which("ptxas")
    return Path(on_path) if on_path else None


def assemble(tool: Path, ptx: str, name: str, options: ToolOptions) -> tuple[bytes, Resources]:
    """The cubin of a whole program with one kernel, and what it needs.

    Args:
        tool: ptxas.
        ptx: The module.
        name: The kernel.
        options: Target and switches.

    Raises:
        ToolchainError: ptxas refused it.
    """
    switches = ["-lineinfo"] if options.lineinfo else []
    switches += ["-g"] if options.debug else []
    with tempfile.TemporaryDirectory(prefix="tessera-ptxas-") as folder:
        source, made = Path(folder) / "kernel.ptx", Path(folder) / "kernel.cubin"
        source.write_text(ptx, encoding="utf-8")
        level = "-O0" if options.debug else f"-O{options.opt_level}"
        # Relative names, so that the folder's does not get into the cubin.
        command = [str(tool), "-arch", options.target, "-v", level, *switches, source.name, "-o", made.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        if done.returncode != 0 or not made.is_file():
            said = (done.stderr or done.stdout).strip()
            raise ToolchainError(
                f"the assembler refused {name} for {options.target}: {said}",
                hint="look at the PTX with `tessera inspect FILE --ptx`",
            )
        return made.read_bytes(), report(done.stdout + done.stderr)


def report(log: str) -> Resources:
    """The numbers in ptxas's verbose report of one kernel; None where it gave none."""
    used, shared, stack = _USED.search(log), _SHARED.search(log), _STACK.search(log)
    return Resources(
        registers=int(used[1]) if used else None,
        stack_bytes=int(stack[1]) if stack else None,
        shared_bytes=(int(shared[1]) if shared else 0) if used else None,
        spill_bytes=int(stack[2]) + int(stack[3]) if stack else None,
    )
