"""Architectures: names, which code runs where, and how much of a kernel fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.program.arch import (
    CPU_LEVELS,
    KNOWN,
    SM_LIMITS,
    best_match,
    host_cpu_targets,
    is_cpu,
    parse_arch,
    resolve_target,
)
from tessera.program.errors import ArchitectureError
from tessera.program.occupancy import occupancy


@pytest.mark.parametrize("name", KNOWN)
def test_every_known_name_parses_back(name: str) -> None:
    arch = parse_arch(name)
    assert arch.name == name
    assert arch.cc in SM_LIMITS
    assert parse_arch(name.replace("sm_", "compute_")) == arch
    assert resolve_target(name) == name


@pytest.mark.parametrize("name", ["sm_9", "sm_90b", "90", "sm_91", "sm_80a", "SM_80", "sm_110", "", "gpu"])
def test_unknown_name_is_an_error_that_lists_the_known(name: str) -> None:
    with pytest.raises(ArchitectureError, match="unknown architecture") as raised:
        parse_arch(name)
    assert "sm_90a" in str(raised.value.hint)
    assert raised.value.exit_status == 2


def test_near_miss_is_suggested() -> None:
    with pytest.raises(ArchitectureError, match="did you mean sm_90"):
        parse_arch("sm90")


@pytest.mark.parametrize(
    ("available", "device", "match"),
    [
        (["sm_70", "sm_80", "sm_90"], (8, 6), "sm_80"),
        (["sm_80", "sm_86"], (8, 9), "sm_86"),
        (["sm_80", "sm_86"], (8, 0), "sm_80"),
        (["sm_90", "sm_90a"], (9, 0), "sm_90a"),
        (["sm_100", "sm_100f", "sm_100a"], (10, 0), "sm_100a"),
        (["sm_100", "sm_100f", "sm_100a"], (10, 3), "sm_100f"),
        (["sm_100a"], (10, 3), None),
        (["sm_90"], (10, 0), None),
        (["sm_90"], (8, 0), None),
        (["sm_120"], (10, 3), None),
        ([], (9, 0), None),
    ],
)
def test_best_match(available: list[str], device: tuple[int, int], match: str | None) -> None:
    assert best_match(available, device) == match


@given(st.lists(st.sampled_from(KNOWN)), st.sampled_from(sorted(SM_LIMITS)))
def test_best_match_runs_on_the_device_and_is_the_newest(
    available: list[str], device: tuple[int, int]
) -> None:
    chosen = best_match(available, device)
    fit = [a for a in available if parse_arch(a).runs_on(device)]
    assert (chosen is None) == (not fit)
    if chosen:
        assert chosen in fit
        assert all(parse_arch(chosen).minor >= parse_arch(a).minor for a in fit)


def test_cpu_means_this_machine() -> None:
    assert is_cpu("cpu")
    assert is_cpu("cpu-x86_64-v3")
    assert not is_cpu("sm_90")
    levels = host_cpu_targets()
    assert set(levels) <= set(CPU_LEVELS)
    if levels:
        assert resolve_target("cpu") == levels[0]
    with pytest.raises(ArchitectureError, match="cpu-x86_64-v9"):
        resolve_target("cpu-x86_64-v9")


@pytest.mark.parametrize(
    ("arch", "threads", "registers", "shared", "blocks", "limiter"),
    [
        # NVIDIA's occupancy calculator, CUDA 12, for these kernels.
        ("sm_80", 256, 32, 0, 8, "warps"),
        ("sm_80", 256, 64, 0, 4, "registers"),
        ("sm_80", 256, 255, 0, 1, "registers"),
        ("sm_80", 32, 16, 0, 32, "blocks"),
        ("sm_80", 256, 32, 48 << 10, 3, "shared memory"),
        ("sm_90", 1024, 32, 0, 2, "warps"),
        ("sm_90", 128, 168, 100 << 10, 2, "shared memory"),
        ("sm_75", 256, 32, 0, 4, "warps"),
        ("sm_86", 256, 32, 0, 6, "warps"),
        ("sm_70", 128, 32, 0, 16, "warps"),
    ],
)
def test_occupancy_of_known_kernels(
    arch: str, threads: int, registers: int, shared: int, blocks: int, limiter: str
) -> None:
    found = occupancy(parse_arch(arch), threads=threads, registers=registers, shared_bytes=shared)
    assert (found.blocks, found.limiter) == (blocks, limiter)


kernels = st.fixed_dictionaries(
    {
        "threads": st.integers(1, 1024),
        "registers": st.integers(1, 255),
        "shared_bytes": st.integers(0, 256 << 10),
    }
)


@given(st.sampled_from(KNOWN), kernels)
def test_occupancy_never_passes_a_limit(name: str, kernel: dict[str, int]) -> None:
    arch = parse_arch(name)
    sm = SM_LIMITS[arch.cc]
    found = occupancy(arch, **kernel)
    assert 0 <= found.ratio <= 1
    assert found.blocks <= sm.blocks
    assert found.warps * 32 <= sm.threads
    assert found.blocks * kernel["shared_bytes"] <= sm.shared_bytes
    assert found.blocks * kernel["threads"] * kernel["registers"] <= sm.registers


@given(st.sampled_from(KNOWN), kernels, st.sampled_from(["registers", "shared_bytes"]), st.integers(1, 100))
def test_occupancy_never_grows_with_what_a_kernel_needs(
    name: str, kernel: dict[str, int], resource: str, more: int
) -> None:
    arch = parse_arch(name)
    before = occupancy(arch, **kernel).blocks
    after = occupancy(arch, **{**kernel, resource: kernel[resource] + more}).blocks
    assert after <= before
