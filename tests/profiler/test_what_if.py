"""What other registers, block sizes and shared memory would make of a kernel's occupancy."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.profiler import Needs, what_if
from tessera.profiler.occupancy_tables import MOST_REGISTERS, binary_what_if
from tessera.program.arch import SM_LIMITS, Architecture, parse_arch
from tessera.program.artifact import KernelBinary, Resources
from tessera.program.errors import OptionError

archs = st.sampled_from([Architecture(*cc) for cc in SM_LIMITS])
needs = st.builds(Needs, st.integers(1, 1024), st.integers(1, MOST_REGISTERS), st.integers(0, 232448))
SM90 = parse_arch("sm_90")


@given(archs, needs, st.integers(0, 64))
def test_more_registers_never_make_room_for_more_blocks(arch: Architecture, own: Needs, more: int) -> None:
    assert replace(own, registers=own.registers + more).on(arch).blocks <= own.on(arch).blocks


@given(archs, needs, st.integers(0, 1 << 16))
def test_more_shared_memory_never_makes_room_for_more_blocks(
    arch: Architecture, own: Needs, more: int
) -> None:
    assert replace(own, shared_bytes=own.shared_bytes + more).on(arch).blocks <= own.on(arch).blocks


@given(archs, needs, st.integers(0, 1023))
def test_larger_blocks_are_never_more_blocks(arch: Architecture, own: Needs, more: int) -> None:
    larger = replace(own, threads=min(own.threads + more, 1024))
    assert larger.on(arch).blocks <= own.on(arch).blocks


@given(archs, needs)
def test_tables_cover_every_value_once_and_mark_the_kernels_own(arch: Architecture, own: Needs) -> None:
    found = what_if(arch, own)
    for rows in (found.registers, found.shared):
        assert all(a.last + 1 == b.first for a, b in pairwise(rows))
        # Neighbours differ, else they would be one row.
        assert all(a.occupancy != b.occupancy for a, b in pairwise(rows))
    assert (found.registers[0].first, found.registers[-1].last) == (1, MOST_REGISTERS)
    assert (found.shared[0].first, found.shared[-1].last) == (0, SM_LIMITS[arch.cc].shared_optin_bytes)
    marked = [row for row in found.registers if row.here]
    assert len(marked) == 1
    assert marked[0].occupancy == found.occupancy
    assert [row.first for row in found.block_sizes if row.here] == [own.threads]
    fits = own.shared_bytes <= SM_LIMITS[arch.cc].shared_optin_bytes
    assert sum(row.here for row in found.shared) == fits


@given(archs, needs, st.data())
def test_every_value_of_a_row_has_the_rows_occupancy(
    arch: Architecture, own: Needs, data: st.DataObject
) -> None:
    found = what_if(arch, own)
    row = data.draw(st.sampled_from(found.registers))
    assert replace(own, registers=data.draw(st.integers(row.first, row.last))).on(arch) == row.occupancy
    row = data.draw(st.sampled_from(found.shared))
    assert replace(own, shared_bytes=data.draw(st.integers(row.first, row.last))).on(arch) == row.occupancy


def words(arch: Architecture, own: Needs) -> str:
    return "\n".join(what_if(arch, own).steps)


def test_the_next_step_in_registers_is_said() -> None:
    said = words(SM90, Needs(256, 42, 0))
    assert "with 40 registers instead of 42: 6 blocks of 256 instead of 5" in said
    assert "up to 48 registers or 45,568 bytes of shared memory cost no block" in said


def test_the_next_step_in_shared_memory_is_said_without_rounding() -> None:
    said = words(SM90, Needs(256, 42, 48 << 10))
    assert "with 45,568 bytes of shared memory instead of 48 KiB: 5 blocks of 256 instead of 4" in said


def test_two_limits_that_meet_are_said_together() -> None:
    said = words(SM90, Needs(256, 64, 56 << 10))
    assert (
        "with 48 registers and 45,568 bytes of shared memory together: 5 blocks of 256 instead of 4; "
        "neither alone gains one"
    ) in said


def test_a_better_block_size_is_said() -> None:
    assert "with blocks of 64 threads instead of 32: 64 of 64 warps instead of 32" in words(
        SM90, Needs(32, 24, 0)
    )


def test_a_block_size_that_gains_next_to_nothing_is_not_said() -> None:
    # 192 threads would have 48 warps resident.
    own = Needs(160, 38, 0)
    assert own.on(SM90).warps == 45
    assert "with blocks of" not in words(SM90, own)


def test_full_occupancy_has_nothing_to_gain() -> None:
    assert words(SM90, Needs(256, 16, 0)).startswith("all 64 warps of a multiprocessor are resident")


def test_a_block_that_does_not_fit_is_told_what_would() -> None:
    assert "with 64 registers instead of 100: 1 block of 1024 instead of 0" in words(
        SM90, Needs(1024, 100, 0)
    )


@given(archs, needs)
def test_a_promised_block_is_there(arch: Architecture, own: Needs) -> None:
    """What a sentence promises is what the occupancy of the changed kernel is."""
    held = own.on(arch).blocks
    for step in what_if(arch, own).steps:
        if step.startswith("with") and " registers instead of " in step:
            value = int(step.split()[1])
            promised = int(step.split(": ")[1].split()[0])
            assert replace(own, registers=value).on(arch).blocks == promised > held
            # It is the nearest that gains: one register more does not.
            assert replace(own, registers=value + 1).on(arch).blocks <= held


def test_impossible_needs_are_refused() -> None:
    for own in (Needs(0, 16, 0), Needs(32, -1, 0), Needs(32, 16, -1)):
        with pytest.raises(OptionError):
            what_if(SM90, own)


def binary(target: str, resources: Resources | None, form: str = "cubin") -> KernelBinary:
    return KernelBinary("p", "k", ("k",), target, form, b"", resources)  # type: ignore[arg-type]


def test_a_binarys_static_and_dynamic_shared_memory_count() -> None:
    resources = Resources(registers=32, threads=128, shared_bytes=1024, dynamic_shared_bytes=2048)
    found = binary_what_if(binary("sm_90a", resources))
    assert found is not None
    assert (found.target, found.needs, found.exact) == ("sm_90a", Needs(128, 32, 3072), True)
    open_size = binary_what_if(binary("sm_90", replace_dynamic(resources)))
    assert open_size is not None
    assert not open_size.exact


def replace_dynamic(resources: Resources) -> Resources:
    return Resources(
        registers=resources.registers, threads=resources.threads, shared_bytes=resources.shared_bytes
    )


@pytest.mark.parametrize(
    ("target", "resources", "form"),
    [
        ("sm_90", None, "cubin"),
        ("sm_90", Resources(registers=32), "cubin"),
        ("sm_90", Resources(threads=32), "cubin"),
        ("sm_90", Resources(registers=32, threads=32), "ptx"),
        ("cpu-x86_64-v3", Resources(registers=32, threads=32), "so"),
    ],
)
def test_what_is_not_known_has_no_tables(target: str, resources: Resources | None, form: str) -> None:
    assert binary_what_if(binary(target, resources, form)) is None
