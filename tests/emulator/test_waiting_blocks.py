"""Blocks that wait for what other blocks write, and threads that wait for what never comes."""

from pathlib import Path

import numpy as np
import pytest

from tessera.program.errors import DeviceError
from tests.emulator.both import IMPLEMENTATIONS, kernel, start

BOTH = pytest.mark.parametrize("where", IMPLEMENTATIONS)

LOOKS = {
    "volatile": "LOOK: ld.volatile.global.b32 %t5, [%d2]; setp.eq.u32 %p1, %t5, 0; @%p1 bra LOOK;",
    "acquire": "LOOK: ld.acquire.gpu.global.b32 %t5, [%d2]; setp.eq.u32 %p1, %t5, 0; @%p1 bra LOOK;",
    "atomic": "LOOK: atom.global.add.u32 %t5, [%d2], 0; setp.eq.u32 %p1, %t5, 0; @%p1 bra LOOK;",
    "sleep": """mov.u32 %t9, 8;
LOOK:
    ld.volatile.global.b32 %t5, [%d2]; setp.ne.u32 %p1, %t5, 0; @%p1 bra SEEN;
    nanosleep.u32 %t9; shl.b32 %t9, %t9, 1; min.u32 %t9, %t9, 256; bra LOOK;
SEEN:""",
    "counted": """mov.u32 %t9, 0;
LOOK:
    ld.volatile.global.b32 %t5, [%d2]; add.u32 %t9, %t9, 1; setp.eq.u32 %p1, %t5, 0; @%p1 bra LOOK;""",
}
"""Ways to wait for a flag at `%d2`. The last two carry something from turn to turn."""


def chain(look: str, neighbour: str) -> str:
    """Each block adds 1 to what its neighbour published: one thread waits for the whole block."""
    return f"""
    setp.ne.u32 %p0, %i, 0;
    @%p0 bra DONE;
    mov.u32 %t6, %nctaid.x; sub.u32 %t6, %t6, 1;
    mov.u32 %t5, 1;
    {neighbour}
    @%p2 bra PUBLISH;
    mul.wide.u32 %d2, %t7, 4; add.u64 %d2, %d2, %out;
    {look}
    add.u32 %t5, %t5, 1;
PUBLISH:
    membar.gl;
    mul.wide.u32 %d3, %bx, 4; add.u64 %d3, %d3, %out;
    st.volatile.global.b32 [%d3], %t5;
DONE:
    bar.sync 0;
"""


EARLIER = "setp.eq.u32 %p2, %bx, 0; sub.u32 %t7, %bx, 1;"
LATER = "setp.eq.u32 %p2, %bx, %t6; add.u32 %t7, %bx, 1;"


@BOTH
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("neighbour", [EARLIER, LATER], ids=["earlier", "later"])
def test_blocks_wait_for_the_block_beside_them(where: str, look: str, neighbour: str) -> None:
    count = 12 if look in ("counted", "sleep") else 40
    out = np.zeros(count, np.uint32)
    start(where, kernel(chain(LOOKS[look], neighbour)), count, 64, [out])
    expected = np.arange(1, count + 1) if neighbour == EARLIER else np.arange(count, 0, -1)
    np.testing.assert_array_equal(out, expected)


@BOTH
def test_more_waiting_blocks_than_the_gpu_holds_are_a_deadlock(where: str) -> None:
    out = np.zeros(24, np.uint32)
    text = kernel(chain(LOOKS["volatile"], LATER))
    start(where, text, 24, 64, [out.copy()], resident=24)
    with pytest.raises(DeviceError, match="deadlocked") as caught:
        start(where, text, 24, 64, [out], resident=10)
    assert caught.value.fields["kind"] == "deadlock"
    assert "14 blocks have not begun, as the GPU holds 10 of these at once" in caught.value.message
    assert "ld.volatile.global.b32" in caught.value.message


@BOTH
def test_an_mbarrier_that_nobody_completes_is_a_deadlock(where: str) -> None:
    body = """
    setp.ne.u32 %p0, %i, 0;
    @!%p0 mbarrier.init.shared.b64 [%s], 65;
    bar.sync 0;
    mbarrier.arrive.shared.b64 %d0, [%s];
LOOP:
    mbarrier.test_wait.shared.b64 %p1, [%s], %d0;
    @!%p1 bra LOOP;
"""
    with pytest.raises(DeviceError, match="deadlocked") as caught:
        start(where, kernel(body), 2, 64, [np.zeros(128, np.uint32)])
    assert caught.value.fields["kind"] == "deadlock"
    assert "mbarrier.test_wait" in caught.value.message
    assert "64 threads" in caught.value.message


@BOTH
def test_a_lock_is_handed_from_block_to_block(where: str) -> None:
    body = """
    setp.ne.u32 %p0, %i, 0;
    @%p0 bra DONE;
LOCK:
    atom.global.cas.b32 %t1, [%out], 0, 1; setp.ne.u32 %p1, %t1, 0; @%p1 bra LOCK;
    membar.gl;
    ld.volatile.global.b32 %t2, [%out+4]; add.u32 %t2, %t2, 1; st.volatile.global.b32 [%out+4], %t2;
    membar.gl;
    atom.global.exch.b32 %t1, [%out], 0;
DONE:
"""
    out = np.zeros(2, np.uint32)
    start(where, kernel(body), 64, 32, [out])
    assert out.tolist() == [0, 64]


PROGRAM = (Path(__file__).parent / "ptx" / "clusters.ptx").read_text()


@BOTH
def test_a_scan_looks_back_over_many_blocks(where: str, rng: np.random.Generator) -> None:
    blocks = 60
    x = rng.integers(-1000, 1000, blocks * 256).astype(np.int32)
    y = np.zeros_like(x)
    start(
        where,
        PROGRAM,
        blocks,
        256,
        [x, y, *(np.zeros(blocks, np.int32) for _ in range(3))],
        entry="look_back",
    )
    np.testing.assert_array_equal(y, np.cumsum(x, dtype=np.int32))


@BOTH
def test_a_grid_waits_for_all_its_blocks_in_a_loop(where: str, rng: np.random.Generator) -> None:
    blocks, turns = 12, 6
    a = rng.standard_normal(blocks * 64).astype(np.float32)
    expected, b = a.copy(), np.zeros_like(a)
    for _ in range(turns):
        wide = np.pad(expected, 1)
        expected = (0.25 * wide[:-2] + 0.5 * wide[1:-1] + 0.25 * wide[2:]).astype(np.float32)
    start(where, PROGRAM, blocks, 64, [a, b, np.int32(a.size), np.int32(turns)], entry="relax")
    np.testing.assert_allclose(a, expected, rtol=1e-5, atol=1e-6)


@BOTH
def test_sums_of_clusters_that_the_compiler_asked_for(where: str, rng: np.random.Generator) -> None:
    x = rng.integers(-1000, 1000, 8 * 96).astype(np.int32)
    sums = np.zeros(2, np.int32)
    start(where, PROGRAM, 8, 96, [x, sums], entry="cluster_sum")
    np.testing.assert_array_equal(sums, x.reshape(2, -1).sum(axis=1))
