"""Our occupancy against NVIDIA's own calculator, `cuda_occupancy.h`, compiled here."""

from __future__ import annotations

import importlib.metadata
import random
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest

from tessera.profiler import Occupancy, occupancy
from tessera.program import occupancy as rules
from tessera.program.arch import SM_LIMITS, Architecture, SmLimits
from tessera.program.errors import OptionError
from tessera.program.occupancy import best_block_size, block_limits

LIMITER_BITS = {"warps": 0x01, "registers": 0x02, "shared memory": 0x04, "blocks": 0x08, "barriers": 0x10}
EACH = 2_000
"""Random kernels on each architecture; every tenth is searched a block size for."""

ORACLE = r"""
#include <stdio.h>
#include "cuda_occupancy.h"

int main(void) {
    char kind;
    int major, minor, sm_threads, threads, registers, statics, dynamics, barriers, carveout, bound;
    size_t sm_shared, optin, reserved;
    while (scanf(" %c %d %d %d %zu %zu %zu %d %d %d %d %d %d %d", &kind, &major, &minor, &sm_threads,
                 &sm_shared, &optin, &reserved, &threads, &registers, &statics, &dynamics, &barriers,
                 &carveout, &bound) == 14) {
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
        function.maxThreadsPerBlock = bound;
        function.numRegs = registers;
        function.sharedSizeBytes = statics;
        function.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
        function.maxDynamicSharedSizeBytes = optin;
        function.numBlockBarriers = barriers;
        state.carveoutConfig = carveout;
        if (kind == 'b') {
            int grid = 0, block = 0;
            cudaOccError status = cudaOccMaxPotentialOccupancyBlockSize(
                &grid, &block, &device, &function, &state, 0, dynamics);
            printf("%d %d %d\n", (int)status, block, grid);
            continue;
        }
        cudaOccError status = cudaOccMaxActiveBlocksPerMultiprocessor(
            &result, &device, &function, &state, threads, dynamics);
        printf("%d %d %u\n", (int)status, result.activeBlocksPerMultiprocessor, result.limitingFactors);
    }
    return 0;
}
"""


@dataclass(frozen=True)
class Case:
    """One kernel on one architecture."""

    arch: Architecture
    threads: int
    registers: int
    statics: int
    dynamics: int
    barriers: int = 1
    carveout: int | None = None
    bound: int = 1024

    def line(self, kind: str) -> str:
        """What the oracle reads: the device, then the kernel."""
        sm = SM_LIMITS[self.arch.cc]
        device = (*self.arch.cc, sm.threads, sm.shared_bytes, sm.shared_optin_bytes, sm.shared_reserved_bytes)
        carveout = -1 if self.carveout is None else self.carveout
        own = (self.threads, self.registers, self.statics, self.dynamics, self.barriers, carveout, self.bound)
        return f"{kind} " + " ".join(map(str, (*device, *own)))

    def ours(self) -> Occupancy:
        return occupancy(
            self.arch,
            threads=self.threads,
            registers=self.registers,
            shared_bytes=self.statics + self.dynamics,
            barriers=self.barriers,
            carveout_percent=self.carveout,
        )


Oracle = Callable[[str, Sequence[Case]], list[tuple[int, int, int]]]
"""(`o` or `b`, cases) → for each: status, blocks and limiting factors, or block size and grid."""


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
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

    def ask(kind: str, cases: Sequence[Case]) -> list[tuple[int, int, int]]:
        text = "\n".join(case.line(kind) for case in cases)
        run = subprocess.run([folder / "oracle"], input=text, capture_output=True, text=True, check=True)
        answers = [tuple(map(int, line.split())) for line in run.stdout.splitlines()]
        assert len(answers) == len(cases)
        return answers  # type: ignore[return-value]

    return ask


def random_case(rng: random.Random, cc: tuple[int, int]) -> Case:
    sm = SM_LIMITS[cc]
    optin = sm.shared_optin_bytes
    threads = rng.choice([rng.randint(1, 1100), 32 * rng.randint(1, 32), 1024])
    registers = rng.choice([rng.randint(0, 260), 8 * rng.randint(1, 32), rng.randint(1, 64)])
    # Just about what lets one more block in.
    unit = sm.shared_granularity_bytes
    each = sm.shared_bytes // rng.randint(1, 32) // unit * unit
    edge = max(each - sm.shared_reserved_bytes + rng.choice([0, 0, 1, -1, unit]), 0)
    total = rng.choice([0, rng.randint(0, 49152), rng.randint(0, optin + 2048), optin, edge, edge])
    # Static shared memory ends at 48 KB; what is above must be dynamic.
    statics = min(rng.randint(0, total), 49152)
    barriers = rng.choice([0, 1, 1, rng.randint(1, 16)])
    if rng.random() < 0.25:
        # Few threads and registers, so that blocks and shared memory are what limits.
        threads, registers, barriers = rng.randint(1, 64), rng.randint(1, 32), rng.choice([0, 1])
    carveout = rng.choice([None, None, rng.randint(0, 100), 0, 50, 100])
    bound = rng.choice([1024, 1024, rng.randint(1, 1024)])
    return Case(Architecture(*cc), threads, registers, statics, total - statics, barriers, carveout, bound)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """As many random kernels on every architecture."""
    rng = random.Random(20240917)
    return [random_case(rng, cc) for cc in SM_LIMITS for _ in range(EACH)]


@pytest.fixture(scope="module")
def answers(oracle: Oracle, cases: list[Case]) -> list[tuple[int, int, int]]:
    return oracle("o", cases)


def differences(cases: Sequence[Case], answers: Sequence[tuple[int, int, int]]) -> list[str]:
    """Where our occupancy, or its limiter, is not the header's."""
    found = []
    for case, (status, blocks, limiters) in zip(cases, answers, strict=True):
        ours = case.ours()
        limiter = LIMITER_BITS.get(ours.limiter, 0) & limiters or not blocks
        if status or ours.blocks != blocks or not limiter:
            found.append(f"{case}: {ours}, the header says {blocks} blocks, {limiters:#x}, status {status}")
    return found


def test_occupancy_random_kernels_equals_cuda_occupancy_header(
    cases: list[Case], answers: list[tuple[int, int, int]]
) -> None:
    assert len(cases) >= 10_000
    assert {case.arch.cc for case in cases} == set(SM_LIMITS)
    assert differences(cases, answers) == []
    for case in cases[:1000]:
        ours = case.ours()
        assert ours.warps == ours.blocks * -(-case.threads // 32)
        assert ours.ratio == pytest.approx(ours.warps * 32 / SM_LIMITS[case.arch.cc].threads)
    # Every limiter was met, and with every one of them some that fit and some that do not.
    met = {case.ours().limiter for case in cases if case.ours().blocks}
    assert met == set(LIMITER_BITS)
    assert any(not blocks for _, blocks, _ in answers)


def test_occupancy_search_of_block_sizes_equals_cuda_occupancy_header(
    oracle: Oracle, cases: list[Case]
) -> None:
    few = [replace(case, barriers=1, carveout=None) for case in cases[::10]]
    assert {case.arch.cc for case in few} == set(SM_LIMITS)
    for case, (status, block, grid) in zip(few, oracle("b", few), strict=True):
        shared = case.statics + case.dynamics
        found = best_block_size(
            case.arch, registers=case.registers, shared_bytes=shared, max_threads=case.bound
        )
        assert (status, found) == (0, block), case
        if found:
            assert replace(case, threads=found).ours().blocks == grid


@pytest.mark.parametrize("field", [field.name for field in fields(SmLimits)])
@pytest.mark.parametrize("cc", list(SM_LIMITS))
def test_a_wrong_limit_of_any_architecture_is_noticed(
    cases: list[Case], answers: list[tuple[int, int, int]], cc: tuple[int, int], field: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    own = [(case, answer) for case, answer in zip(cases, answers, strict=True) if case.arch.cc == cc]
    right = getattr(SM_LIMITS[cc], field)
    # A larger opt-in changes nothing: such a block does not fit the multiprocessor either.
    value = right // 2 if field == "shared_optin_bytes" else right * 2 if right else 1024
    wrong = replace(SM_LIMITS[cc], **{field: value})
    monkeypatch.setitem(SM_LIMITS, cc, wrong)
    assert differences(*zip(*own, strict=True))


@pytest.mark.parametrize(
    ("constant", "wrong"),
    [
        ("_REGISTER_UNIT", 512),
        ("_REGISTER_UNIT", 128),
        ("_MAX_REGISTERS", 255),
        ("_CARVEOUTS_KB", (0, 8, 16, 32, 64, 128, 228)),
        ("_OLD_CARVEOUTS_KB", {}),
        ("_ONE_BARRIER", frozenset({(12, 0), (12, 1)})),
        ("MAX_BLOCK_THREADS", 1056),
    ],
)
def test_a_wrong_rule_is_noticed(
    cases: list[Case], answers: list[tuple[int, int, int]], constant: str, wrong: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(rules, constant, wrong)
    assert differences(cases, answers)


def test_occupancy_saxpy_on_hopper_is_full() -> None:
    found = occupancy(Architecture(9, 0), threads=256, registers=16, shared_bytes=0)
    assert found == Occupancy(blocks=8, warps=64, ratio=1.0, limiter="warps")


def test_occupancy_block_over_1024_threads_holds_no_block() -> None:
    found = occupancy(Architecture(8, 0), threads=1025, registers=16, shared_bytes=0)
    assert (found.blocks, found.ratio, found.limiter) == (0, 0.0, "block size")


def test_occupancy_block_without_threads_is_refused() -> None:
    with pytest.raises(OptionError, match="0 threads"):
        occupancy(Architecture(8, 0), threads=0, registers=16, shared_bytes=0)


def test_occupancy_counts_barriers_from_hopper_on() -> None:
    few = {"threads": 64, "registers": 16, "shared_bytes": 0}
    assert occupancy(Architecture(12, 0), **few, barriers=2) == Occupancy(12, 24, 0.5, "barriers")
    assert occupancy(Architecture(9, 0), **few, barriers=4).blocks == 16
    assert occupancy(Architecture(8, 0), **few, barriers=16).limiter != "barriers"


def test_occupancy_carveout_is_a_preference_that_one_block_overrides() -> None:
    large = {"threads": 128, "registers": 16, "shared_bytes": 48 << 10}
    assert occupancy(Architecture(9, 0), **large).blocks == 4
    assert occupancy(Architecture(9, 0), **large, carveout_percent=50).blocks == 2
    assert occupancy(Architecture(9, 0), **large, carveout_percent=0).blocks == 1


@pytest.mark.parametrize(
    "wrong",
    [{"registers": -1}, {"shared_bytes": -1}, {"barriers": -1}, {"carveout_percent": 101},
     {"carveout_percent": -1}],
)  # fmt: skip
def test_occupancy_of_impossible_sizes_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(OptionError):
        block_limits(Architecture(9, 0), **{"threads": 32, "registers": 16, "shared_bytes": 0, **wrong})
    with pytest.raises(OptionError, match="launch bound of 0"):
        best_block_size(Architecture(9, 0), registers=16, shared_bytes=0, max_threads=0)
