"""Clusters of blocks: each other's shared memory, their barrier, barriers in memory across blocks."""

import numpy as np
import pytest

from tessera.emulator.sanitizer import Sanitizer
from tessera.program.errors import DeviceError, KernelError
from tests.emulator.both import IMPLEMENTATIONS, cluster_sync, kernel, start

BOTH = pytest.mark.parametrize("where", IMPLEMENTATIONS)
SYNC = cluster_sync()


@BOTH
@pytest.mark.parametrize("form", ["shared::cluster", "generic"])
def test_a_block_reads_the_shared_memory_of_its_neighbour(where: str, form: str) -> None:
    if form == "generic":
        read = "cvt.u64.u32 %d0, %w; cvta.shared.u64 %d0, %d0; mapa.u64 %d1, %d0, %t1; ld.b32 %t2, [%d1];"
        read += "getctarank.u64 %t3, %d1;"
    else:
        read = "mapa.shared::cluster.u32 %t4, %w, %t1; ld.shared::cluster.b32 %t2, [%t4];"
        read += "getctarank.shared::cluster.u32 %t3, %t4;"
    body = f"""
    shl.b32 %w, %i, 2; add.u32 %w, %w, %s;
    st.shared.b32 [%w], %g;
    {SYNC}
    add.u32 %t1, %r, 1; rem.u32 %t1, %t1, %n;
    {read}
    mad.lo.u32 %t2, %t3, 100000, %t2;
    st.global.b32 [%at], %t2;
    {SYNC}
"""
    out = np.zeros(8 * 64, np.uint32)
    start(where, kernel(body), 8, 64, [out], cluster=(4, 1, 1))
    block, thread = np.divmod(np.arange(512), 64)
    neighbour = block // 4 * 4 + (block + 1) % 4
    np.testing.assert_array_equal(out, neighbour * 64 + thread + (block + 1) % 4 * 100000)


@BOTH
def test_cluster_registers_say_where_a_block_stands(where: str) -> None:
    names = [f"%cluster_{what}.{axis}" for what in ("ctaid", "nctaid") for axis in "xyz"]
    names += [f"%{what}.{axis}" for what in ("clusterid", "nclusterid") for axis in "xyz"]
    names += ["%cluster_ctarank", "%cluster_nctarank"]
    stores = "".join(f"mov.u32 %t2, {n}; st.global.b32 [%d0+{4 * i}], %t2;" for i, n in enumerate(names))
    body = f"""
    mov.u32 %t1, %ctaid.y; mad.lo.u32 %t1, %t1, 4, %bx; mov.u32 %t2, %ctaid.z;
    mad.lo.u32 %t1, %t2, 24, %t1; mul.wide.u32 %d0, %t1, 64; add.u64 %d0, %d0, %out;
    mov.pred %p0, %is_explicit_cluster; selp.b32 %t2, 1, 0, %p0; st.global.b32 [%d0+56], %t2;
    {stores}
"""
    out = np.zeros((2, 6, 4, 16), np.uint32)
    start(
        where, kernel(body, directives="\n.explicitcluster\n.reqnctapercluster 2, 3, 1"), (4, 6, 2), 1, [out]
    )
    for (z, y, x), found in zip(np.ndindex(2, 6, 4), out.reshape(-1, 16), strict=True):
        expected = [x % 2, y % 3, 0, 2, 3, 1, x // 2, y // 3, z, 2, 2, 2, x % 2 + 2 * (y % 3), 6, 1, 0]
        assert found.tolist() == expected


@BOTH
def test_sums_of_a_cluster_meet_in_its_first_block(where: str, rng: np.random.Generator) -> None:
    body = f"""
    setp.eq.u32 %p0, %i, 0;
    @%p0 st.shared.b32 [%s], 0;
    {SYNC}
    ld.global.b32 %t1, [%at];
    mov.u32 %t2, 0; mapa.shared::cluster.u32 %w, %s, %t2;
    red.relaxed.cluster.shared::cluster.add.u32 [%w], %t1;
    {SYNC}
    setp.eq.u32 %p1, %r, 0; and.pred %p1, %p1, %p0;
    @!%p1 bra END;
    ld.shared.b32 %t3, [%s]; st.global.b32 [%at], %t3;
END:
"""
    given = rng.integers(0, 1 << 32, 6 * 96).astype(np.uint32)
    out = given.copy()
    start(where, kernel(body, directives="\n.reqnctapercluster 3"), 6, 96, [out])
    sums = given.reshape(2, 3 * 96).sum(axis=1, dtype=np.uint32)
    np.testing.assert_array_equal(out[[0, 3 * 96]], sums)


@BOTH
@pytest.mark.parametrize("vector", ["", ".v2", ".v4"])
def test_asynchronous_stores_report_to_the_barrier_of_the_other_block(where: str, vector: str) -> None:
    count = int(vector[2:] or 1)
    values = ", ".join(f"%t{10 + k}" for k in range(count))
    values = "{" + values + "}" if vector else values
    makes = "".join(f"mad.lo.u32 %t{10 + k}, %g, 10, {k};" for k in range(count))
    loads = "".join(f"ld.shared.b32 %t1, [%w+{4 * k}]; mad.lo.u32 %t2, %t2, 7, %t1;" for k in range(count))
    body = f"""
    setp.ne.u32 %p0, %i, 0;
    @%p0 bra READY;
    mbarrier.init.shared.b64 [%s], 1;
    mbarrier.arrive.expect_tx.shared.b64 _, [%s], {64 * 4 * count};
READY:
    {SYNC}
    xor.b32 %t1, %r, 1;
    mad.lo.u32 %w, %i, {4 * count}, %s; add.u32 %w, %w, 16;
    mapa.shared::cluster.u32 %t3, %w, %t1; mapa.shared::cluster.u32 %t4, %s, %t1;
    {makes}
    st.async.weak.shared::cluster.mbarrier::complete_tx::bytes{vector}.b32 [%t3], {values}, [%t4];
LOOP:
    mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p1, [%s], 0, 1000;
    @!%p1 bra LOOP;
    mov.u32 %t2, 0;
    {loads}
    st.global.b32 [%at], %t2;
    {SYNC}
"""
    out = np.zeros(4 * 64, np.uint32)
    start(where, kernel(body), 4, 64, [out], cluster=2)
    other = (np.arange(256) + 64 * np.where(np.arange(256) // 64 % 2, -1, 1)).astype(np.uint32)
    expected = np.zeros(256, np.uint32)
    for k in range(count):
        expected = expected * np.uint32(7) + other * np.uint32(10) + np.uint32(k)
    np.testing.assert_array_equal(out, expected)


@BOTH
def test_asynchronous_reductions_and_arrivals_from_other_blocks(where: str) -> None:
    body = f"""
    setp.ne.u32 %p0, %i, 0;
    @%p0 bra READY;
    mbarrier.init.shared.b64 [%s], 128;
    st.shared.b32 [%s+16], 1000;
    mbarrier.expect_tx.relaxed.cta.shared.b64 [%s], 512;
READY:
    {SYNC}
    add.u32 %t1, %r, 1; rem.u32 %t1, %t1, %n;
    mapa.shared::cluster.u32 %t3, %s, %t1; add.u32 %t4, %t3, 16;
    red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%t4], %g, [%t3];
    mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%t3];
LOOP:
    mbarrier.try_wait.parity.shared::cta.b64 %p1, [%s], 0;
    @!%p1 bra LOOP;
    ld.shared.b32 %t2, [%s+16];
    st.global.b32 [%at], %t2;
    {SYNC}
"""
    out = np.zeros(3 * 128, np.uint32)
    start(where, kernel(body), 3, 128, [out], cluster=3)
    sums = np.arange(384, dtype=np.uint32).reshape(3, 128).sum(axis=1)
    np.testing.assert_array_equal(out.reshape(3, 128), np.tile(np.roll(sums, 1) + 1000, (128, 1)).T)


@BOTH
def test_threads_that_have_returned_are_not_waited_for(where: str) -> None:
    body = f"""
    setp.lt.u32 %p0, %i, 40;
    @!%p0 ret;
    {SYNC}
    st.global.b32 [%at], %g;
    barrier.cluster.arrive.relaxed; barrier.cluster.wait;
"""
    out = np.zeros(128, np.uint32)
    start(where, kernel(body), 2, 64, [out], cluster=2)
    np.testing.assert_array_equal(out, np.where(np.arange(128) % 64 < 40, np.arange(128), 0))


@BOTH
def test_shared_memory_of_a_block_that_has_ended_is_not_read(where: str) -> None:
    body = f"""
    {SYNC}
    setp.eq.u32 %p0, %r, 0;
    @%p0 ret;
    mov.u32 %t1, 1;
LOOP:
    add.u32 %t1, %t1, 1; setp.lt.u32 %p1, %t1, 1000;
    nanosleep.u32 100;
    @%p1 bra LOOP;
    mov.u32 %t1, 0; mapa.shared::cluster.u32 %w, %s, %t1;
    ld.shared::cluster.b32 %t2, [%w];
"""
    with pytest.raises(DeviceError, match="block 0 of its cluster, which has ended"):
        start(where, kernel(body), 2, 32, [np.zeros(64, np.uint32)], cluster=2)


@BOTH
@pytest.mark.parametrize(
    ("grid", "cluster", "directives", "message"),
    [
        ((6, 1, 1), (4, 1, 1), "", "does not divide into clusters"),
        ((64, 1, 1), (32, 1, 1), "", "the largest has 16"),
        ((8, 1, 1), (2, 1, 1), "\n.reqnctapercluster 4", "compiled for clusters of"),
        ((6, 1, 1), None, "\n.reqnctapercluster 4", "does not divide into clusters"),
    ],
)
def test_clusters_that_cannot_be_launched_are_refused(
    where: str, grid: tuple[int, ...], cluster: tuple[int, ...] | None, directives: str, message: str
) -> None:
    with pytest.raises(KernelError, match=message):
        start(where, kernel("", directives=directives), grid, 32, [np.zeros(4, np.uint32)], cluster=cluster)


@BOTH
def test_a_block_that_misses_the_cluster_barrier_is_a_deadlock(where: str) -> None:
    body = f"""
    setp.eq.u32 %p0, %r, 1;
    @%p0 bra OTHER;
    {SYNC}
    ret;
OTHER:
    mbarrier.init.shared.b64 [%s], 1;
LOOP:
    mbarrier.try_wait.parity.shared.b64 %p1, [%s], 0;
    @!%p1 bra LOOP;
"""
    with pytest.raises(DeviceError, match="deadlocked") as caught:
        start(where, kernel(body), 2, 64, [np.zeros(128, np.uint32)], cluster=2)
    assert caught.value.fields["kind"] == "deadlock"
    assert "barrier.cluster.wait" in caught.value.message
    assert "mbarrier.try_wait" in caught.value.message


def findings(body: str, cluster: int = 2) -> list[tuple[str, str]]:
    """What the sanitizer says of a kernel that runs in clusters."""
    from tessera.emulator.interpreter import Interpreter

    sanitizer = Sanitizer()
    interpreter = Interpreter(sanitizer)
    machine = interpreter.load(kernel(body))
    out = interpreter.alloc(4 * 64 * 4)
    interpreter.write(out, np.zeros(64 * 4, np.uint32))
    raw = np.uint64(out).tobytes()
    interpreter.launch_params(machine, "k", (4, 1, 1), (64, 1, 1), [raw], cluster=(cluster, 1, 1))
    return [(f.kind, f.message) for f in sanitizer.findings]


NEIGHBOUR = """
    shl.b32 %w, %i, 2; add.u32 %w, %w, %s;
    st.shared.b32 [%w], %g;
    {first}
    xor.b32 %t1, %r, 1; xor.b32 %t2, %i, 5; shl.b32 %t2, %t2, 2; add.u32 %t2, %t2, %s;
    mapa.shared::cluster.u32 %t4, %t2, %t1; ld.shared::cluster.b32 %t3, [%t4];
    st.global.b32 [%at], %t3;
    {last}
"""


def test_accesses_on_both_sides_of_a_cluster_barrier_do_not_race() -> None:
    assert findings(NEIGHBOUR.format(first=SYNC, last=SYNC)) == []


def test_a_missing_cluster_barrier_is_a_race_between_blocks() -> None:
    relaxed = "barrier.cluster.arrive.relaxed.aligned; barrier.cluster.wait.aligned;"
    found = findings(NEIGHBOUR.format(first=relaxed, last=SYNC))
    assert "race-between-blocks" in [kind for kind, _ in found]


def test_accesses_past_another_blocks_shared_memory_are_found() -> None:
    far = "mov.u32 %t1, 1; mapa.shared::cluster.u32 %w, %s, %t1; ld.shared::cluster.b32 %t2, [%w+4096];"
    found = findings(f"{SYNC} {far} {SYNC}")
    assert [kind for kind, _ in found] == ["out-of-bounds"]
    assert "memory[1024]" in found[0][1] or "memory" in found[0][1]
