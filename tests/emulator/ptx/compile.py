"""Compiles the CUDA C++ programs beside this file to PTX, without the paths of the machine it runs on.

Needs nvcc; the tests read what it wrote. After a program changed:
`python tests/emulator/ptx/compile.py`.
"""

import re
import subprocess
from pathlib import Path

FOLDER = Path(__file__).parent
ARCH = {"hopper": "sm_90a", "clusters": "sm_90"}
"""Architecture by program, where it is not sm_80."""

for source in sorted(FOLDER.glob("*.cu")):
    target = source.with_suffix(".ptx")
    arch = ARCH.get(source.stem, "sm_80")
    command = ["nvcc", "-ptx", f"-arch={arch}", "-lineinfo", "-o", target.name, source.name]
    subprocess.run(command, check=True, cwd=FOLDER)
    text = re.sub(r'(\.file\s+\d+ ")[^"]*?([^/"]+")', r"\1\2", target.read_text())
    # Debug sections name folders, and nothing here reads them.
    text = re.sub(r"\n\s*\.section\s+\.debug\w*\s*\{.*?\n\s*\}", "", text, flags=re.DOTALL)
    target.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n")
