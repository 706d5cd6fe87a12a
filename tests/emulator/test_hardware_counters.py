"""Counters against what Nsight Compute counted for the same kernels and inputs (an H200, ncu 2025.3).

`benchmarks/gpu_counters.py` says how they were recorded. What depends on addresses is equal to the last
sector and wavefront; where the assembler rewrote a kernel, `DIFFERENT` says why.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.counter_kernels import CASES
from benchmarks.gpu_counters import SEED

RECORDED: dict[str, dict[str, int]] = json.loads(
    (Path(__file__).parent / "hardware" / "counters.json").read_text()
)
ATOMIC_WAVEFRONTS = "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_atom.sum"
ATOMIC_CONFLICTS = "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_atom.sum"
DIFFERENT = {
    # Adding the constant 1 becomes ATOMS.POPC.INC, which counts the lanes that meet instead of taking turns.
    ("histogram_shared", ATOMIC_WAVEFRONTS), ("histogram_shared", ATOMIC_CONFLICTS),
    # 16-byte copies whose lanes do not land side by side take a sector for each lane.
    ("copied_16", "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum"),
    # PTX's vector accesses of local memory are split: more requests, the same sectors.
    ("local_doubles", "l1tex__t_requests_pipe_lsu_mem_local_op_ld.sum"),
    ("local_doubles", "l1tex__t_requests_pipe_lsu_mem_local_op_st.sum"),
    ("local_arrays", "l1tex__t_requests_pipe_lsu_mem_local_op_st.sum"),
}  # fmt: skip


@pytest.fixture(scope="module")
def counted() -> Mapping[str, Mapping[str, float]]:
    from tessera.deploy import AOTConfig, BatchCompiler, CompilationTarget
    from tessera.profiler import profile_emulated
    from tessera.runtime import ArtifactSource

    batch = BatchCompiler(AOTConfig(targets=[CompilationTarget("sm_90")], generate_ptx=True))
    for name, case in CASES.items():
        batch.add_kernel(case.source, name=name)
    artifact = batch.compile_all().artifact
    found = {}
    for program in artifact.programs:
        inputs = CASES[program.name].inputs(np.random.default_rng(SEED))
        arrays: dict[str, Any] = {name: np.asarray(value) for name, value in inputs.items()}
        profile = profile_emulated(program, ArtifactSource(artifact), arrays)
        found[program.name] = profile.counters.metrics()
    return found


@pytest.mark.parametrize("case", sorted(RECORDED))
def test_counts_that_depend_on_addresses_equal_a_gpus(
    case: str, counted: Mapping[str, Mapping[str, float]]
) -> None:
    same = {metric for metric in RECORDED[case] if (case, metric) not in DIFFERENT}
    assert len(same) >= 3
    assert {metric: counted[case].get(metric, 0) for metric in same} == {
        metric: RECORDED[case][metric] for metric in same
    }
