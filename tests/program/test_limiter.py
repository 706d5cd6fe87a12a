"""What keeps more blocks of a compiled kernel from a multiprocessor."""

from __future__ import annotations

import pytest

from tessera.program.artifact import Resources
from tessera.program.errors import ArchitectureError
from tessera.program.occupancy import limiter_of


def test_dynamic_shared_memory_counts_as_static_does() -> None:
    static = Resources(registers=16, threads=128, shared_bytes=100 << 10)
    dynamic = Resources(registers=16, threads=128, shared_bytes=0, dynamic_shared_bytes=100 << 10)
    assert limiter_of(static, "sm_90") == limiter_of(dynamic, "sm_90") == "shared memory"
    assert limiter_of(Resources(registers=16, threads=128), "sm_90") == "warps"


@pytest.mark.parametrize(
    ("resources", "target"),
    [
        (None, "sm_90"),
        (Resources(threads=128), "sm_90"),
        (Resources(registers=16), "sm_90"),
        (Resources(registers=16, threads=128), "cpu-x86_64-v3"),
    ],
)
def test_what_is_not_known_limits_nothing(resources: Resources | None, target: str) -> None:
    assert limiter_of(resources, target) is None


def test_a_target_that_is_none_is_refused() -> None:
    with pytest.raises(ArchitectureError):
        limiter_of(Resources(registers=16, threads=128), "sm_42")
