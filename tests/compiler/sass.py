"""Machine code as text, where NVIDIA's disassembler is installed (`pip install nvidia-cuda-nvdisasm`)."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

_OPCODE = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+\s+)?([A-Z][A-Z0-9_.]*)", re.MULTILINE)


def disassembler() -> str | None:
    spec = find_spec("nvidia")
    for root in (spec.submodule_search_locations or []) if spec else []:
        for found in Path(root).glob("*/bin/nvdisasm"):
            return str(found)
    return shutil.which("nvdisasm")


needs_disassembler = pytest.mark.skipif(
    disassembler() is None, reason="needs nvdisasm: pip install nvidia-cuda-nvdisasm"
)


def opcodes(cubin: bytes) -> Counter[str]:
    """How often each instruction stands in a cubin: `HMMA.16816.F32.BF16` and so on."""
    tool = disassembler()
    assert tool is not None
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tool, "-c", file.name], capture_output=True, text=True, check=True).stdout
    return Counter(_OPCODE.findall(text))


def families(cubin: bytes) -> Counter[str]:
    """The same by the opcode's first word."""
    found: Counter[str] = Counter()
    for name, count in opcodes(cubin).items():
        found[name.partition(".")[0]] += count
    return found
