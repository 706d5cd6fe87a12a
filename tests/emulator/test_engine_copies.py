"""`cp.async` on both implementations: whole, in part, and not at all."""

from typing import Any

import numpy as np
import pytest

from tessera.emulator import Emulator
from tessera.program.errors import DeviceError
from tests.emulator.warp import run

Array = np.ndarray[Any, Any]
ENGINE = Emulator(workers=1, memory_bytes=1 << 24, level=0)
EITHER = pytest.mark.parametrize("engine", [None, ENGINE], ids=["interpreter", "engine"])
LINE = """
    shl.b32 %w, %i, 4; add.u32 %w, %w, %s; mov.b32 %t9, -1;
    st.shared.v4.b32 [%w], {{%t9, %t9, %t9, %t9}};
    {copy}
    cp.async.commit_group; cp.async.wait_group 0;
    ld.shared.v4.b32 {{%o0, %o1, %o2, %o3}}, [%w];
"""


def bytes_of(out: Array) -> Array:
    return np.ascontiguousarray(out[:, :4]).view(np.uint8)


@EITHER
@pytest.mark.parametrize("size", [4, 8, 16])
def test_every_lane_copies_as_much_as_it_says(
    size: int, engine: Emulator | None, rng: np.random.Generator
) -> None:
    words = rng.integers(0, 1 << 32, (40, 8)).astype(np.uint32)
    cache = "cg" if size == 16 else "ca"
    copy = f"rem.u32 %t0, %i, {size + 2}; cp.async.{cache}.shared.global [%w], [%in], {size}, %t0;"
    found = bytes_of(run(LINE.format(copy=copy), words, engine))
    given = np.ascontiguousarray(words[:, :4]).view(np.uint8)
    count = np.minimum(np.arange(40) % (size + 2), size)
    for lane in range(40):
        expected = np.full(16, 255, np.uint8)
        expected[:size] = 0
        expected[: count[lane]] = given[lane, : count[lane]]
        np.testing.assert_array_equal(found[lane], expected)


@EITHER
@pytest.mark.parametrize("option", ["0", "%p0"])
def test_a_copy_of_nothing_reads_nothing(
    option: str, engine: Emulator | None, rng: np.random.Generator
) -> None:
    words = rng.integers(0, 1 << 32, (32, 8)).astype(np.uint32)
    nowhere = "setp.eq.u32 %p0, 0, 0; mov.b64 %d0, 64;"
    copy = f"{nowhere} cp.async.cg.shared.global [%w], [%d0], 16, {option};"
    np.testing.assert_array_equal(bytes_of(run(LINE.format(copy=copy), words, engine)), 0)


@EITHER
def test_a_cache_policy_is_no_count(engine: Emulator | None, rng: np.random.Generator) -> None:
    words = rng.integers(0, 1 << 32, (32, 8)).astype(np.uint32)
    policy = "createpolicy.fractional.L2::evict_last.b64 %d1, 1.0;"
    copy = f"{policy} cp.async.cg.shared.global.L2::cache_hint.L2::128B [%w], [%in], 16, %d1;"
    found = run(LINE.format(copy=copy), words, engine)
    np.testing.assert_array_equal(found[:, :4], words[:, :4])


@EITHER
@pytest.mark.parametrize("more", ["", ", 16", ", 9"])
def test_copies_from_outside_are_found(more: str, engine: Emulator | None) -> None:
    words = np.zeros((32, 8), np.uint32)
    copy = f"add.u64 %d0, %in, 1024; cp.async.ca.shared.global [%w], [%d0], 16{more};"
    with pytest.raises(DeviceError, match=r"out of bounds|nothing is allocated"):
        run(LINE.format(copy=copy), words, engine)
