"""Every operator on every architecture: machine code without spills."""

from __future__ import annotations

import pytest

from tessera.deploy import AOTCompiler
from tests.operators.test_against_numpy import BY_NAME, compiled_dtypes

ARCHITECTURES = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_NAME)
def test_no_kernel_spills_on_any_architecture(name: str) -> None:
    case = BY_NAME[name]
    for dtype in compiled_dtypes(case):
        compiler = AOTCompiler(target_architectures=ARCHITECTURES)
        artifact = compiler.compile(case.traced(dtype), case.specs(dtype)).artifact
        cubins = [binary for binary in artifact.binaries if binary.format == "cubin"]
        assert {binary.target for binary in cubins} >= set(ARCHITECTURES)
        for binary in cubins:
            assert binary.resources is not None
            assert binary.resources.spill_bytes == 0, f"{binary.name} for {binary.target}"
