"""Our occupancy against NVIDIA's own calculator, `cuda_occupancy.h`, compiled here."""

from __future__ import annotations

import importlib.metadata
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tessera.profiler import Occupancy, occupancy
from tessera.program.arch import SM_LIMITS, Architecture
from tessera.program.errors import OptionError

LIMITER_BITS = {"warps": 0x01, "registers": 0x02, "shared memory": 0x04, "blocks": 0x08}
CASES = 10_000

ORACLE = r"""
#include <stdio.h>
#include "cuda_occupancy.h"

int main(void) {
    int major, minor, sm_threads, threads, registers, statics, dynamics;
    size_t sm_shared, optin, reserved;
    while (scanf("%d %d %d %zu %zu %zu %d %d %d %d", &major, &minor, &sm_threads, &sm_shared, &optin,
                 &reserved, &threads, &registers, &statics, &dynamics) == 10) {
        cudaOccDeviceProp device = {0};
        cudaOccFuncAttributes function = {0};
        cudaOccDeviceState state = {0};
        cudaOccResult result = {0};
        device.computeMajor = major;
        device.computeMinor = minor;
        device.maxThreadsPerBlock = 1024;
        device.maxThreadsPerMultiprocessor = sm_threads;
        device.regsPerBlock = 65536;
        device.regsPerMultiprocessor = 65536;
        device.warpSize = 32;
        device.sharedMemPerBlock = 49152;
        device.sharedMemPerMultiprocessor = sm_shared;
        device.numSms = 1;
        device.sharedMemPerBlockOptin = optin;
        device.reservedSharedMemPerBlock = reserved;
        function.maxThreadsPerBlock = 1024;
        function.numRegs = registers;
        function.sharedSizeBytes = statics;
        function.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
        function.maxDynamicSharedSizeBytes = optin;
        function.numBlockBarriers = 1;
        state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
        cudaOccError status = cudaOccMaxActiveBlocksPerMultiprocessor(
            &result, &device, &function, &state, threads, dynamics);
        printf("%d %d %u\n", (int)status, result.activeBlocksPerMultiprocessor, result.limitingFactors);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to build cuda_occupancy.h with")
    try:
        files = importlib.metadata.files("nvidia-cuda-runtime-cu12") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    header = next((f for f in files if f.name == "cuda_occupancy.h"), None)
    if header is None:
        pytest.skip("no cuda_occupancy.h: pip install nvidia-cuda-runtime-cu12")
    folder = tmp_path_factory.mktemp("occupancy")
    (folder / "oracle.c").write_text(ORACLE)
    include = Path(str(header.locate())).parent
    subprocess.run(
        [compiler, "-O1", "-w", "-I", str(include), "-o", str(folder / "oracle"), str(folder / "oracle.c")],
        check=True,
    )
    return folder / "oracle"


def random_case(rng: random.Random) -> tuple[Architecture, int, int, int, int]:
    cc = rng.choice(list(SM_LIMITS))
    optin = SM_LIMITS[cc].shared_optin_bytes
    threads = rng.choice([rng.randint(1, 1100), 32 * rng.randint(1, 32), 1024])
    registers = rng.choice([rng.randint(0, 260), 8 * rng.randint(1, 32)])
    total = rng.choice([0, rng.randint(0, 4096), rng.randint(0, 49152), rng.randint(0, optin + 2048), optin])
    # Static shared memory ends at 48 KB; what is above must be dynamic.
    statics = min(rng.randint(0, total), 49152)
    return Architecture(*cc), threads, registers, statics, total - statics


def test_occupancy_random_kernels_equals_cuda_occupancy_header(oracle: Path) -> None:
    rng = random.Random(20240917)
    cases = [random_case(rng) for _ in range(CASES)]
    lines = []
    for arch, threads, registers, statics, dynamics in cases:
        sm = SM_LIMITS[arch.cc]
        device = (*arch.cc, sm.threads, sm.shared_bytes, sm.shared_optin_bytes, sm.shared_reserved_bytes)
        lines.append(" ".join(map(str, (*device, threads, registers, statics, dynamics))))
    run = subprocess.run([oracle], input="\n".join(lines), capture_output=True, text=True, check=True)
    answers = [tuple(map(int, line.split())) for line in run.stdout.splitlines()]
    assert len(answers) == CASES
    for case, (status, blocks, limiters) in zip(cases, answers, strict=True):
        arch, threads, registers, statics, dynamics = case
        assert status == 0, case
        ours = occupancy(arch, threads=threads, registers=registers, shared_bytes=statics + dynamics)
        assert ours.blocks == blocks, (case, ours)
        assert ours.warps == blocks * -(-threads // 32)
        assert ours.ratio == pytest.approx(ours.warps * 32 / SM_LIMITS[arch.cc].threads)
        if blocks:
            assert LIMITER_BITS[ours.limiter] & limiters, (case, ours, limiters)


def test_occupancy_saxpy_on_hopper_is_full() -> None:
    found = occupancy(Architecture(9, 0), threads=256, registers=16, shared_bytes=0)
    assert found == Occupancy(blocks=8, warps=64, ratio=1.0, limiter="warps")


def test_occupancy_block_over_1024_threads_holds_no_block() -> None:
    found = occupancy(Architecture(8, 0), threads=1025, registers=16, shared_bytes=0)
    assert (found.blocks, found.ratio, found.limiter) == (0, 0.0, "block size")


def test_occupancy_block_without_threads_is_refused() -> None:
    with pytest.raises(OptionError, match="0 threads"):
        occupancy(Architecture(8, 0), threads=0, registers=16, shared_bytes=0)
