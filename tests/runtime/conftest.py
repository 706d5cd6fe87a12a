"""Native code from a C compiler, for the programs of `handmade`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from handmade import KERNELS, TARGETS

from tessera.program.artifact import Artifact, KernelBinary
from tessera.program.program import Program
from tessera.program.validate import validate


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a shared library of all kernels in `kernels.c`."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    out = tmp_path_factory.mktemp("native") / "kernels.so"
    source = Path(__file__).with_name("kernels.c")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", str(source), "-o", str(out), "-lm"], check=True)
    return out.read_bytes()


@pytest.fixture(scope="session")
def build(library: bytes) -> Callable[..., Artifact]:
    """Makes an artifact of programs, their kernels for this CPU, and weights."""

    def make(*programs: Program, constants: dict[str, np.ndarray] | None = None) -> Artifact:
        for program in programs:
            validate(program)
        binaries = tuple(
            KernelBinary(p.name, p.name, KERNELS, TARGETS[0], "so", library) for p in programs if p.plans
        )
        return Artifact(programs, binaries, constants or {})

    return make
