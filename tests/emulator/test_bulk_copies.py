"""Bulk copies and the barriers that they report to: rings of stages, copies to other blocks, reductions."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tessera.emulator.interpreter import Interpreter
from tessera.emulator.sanitizer import Sanitizer
from tessera.program.errors import DeviceError
from tests.emulator.both import IMPLEMENTATIONS, cluster_sync, kernel, start

BOTH = pytest.mark.parametrize("where", IMPLEMENTATIONS)
SYNC = cluster_sync()
Array = np.ndarray[Any, Any]

RING = """
    // Two stages of 512 bytes at 1024; barriers of full stages at 0 and 8, of empty ones at 16 and 24.
    setp.ne.u32 %p0, %i, 0;
    @%p0 bra READY;
    mbarrier.init.shared.b64 [%s], 1; mbarrier.init.shared.b64 [%s+8], 1;
    mbarrier.init.shared.b64 [%s+16], 128; mbarrier.init.shared.b64 [%s+24], 128;
    fence.mbarrier_init.release.cluster;
READY:
    bar.sync 0;
    ld.param.u64 %in, [values]; mul.wide.u32 %d0, %bx, {block_bytes}; add.u64 %in, %in, %d0;
    mov.u32 %t1, 0;
    setp.ge.u32 %p1, %i, 128;
    @%p1 bra PRODUCER;
    mov.u32 %t2, 0;
CONSUME:
    and.b32 %t3, %t1, 1; shr.u32 %t4, %t1, 1; and.b32 %t4, %t4, 1;
    shl.b32 %t5, %t3, 3; add.u32 %t5, %t5, %s;
FULL:
    mbarrier.try_wait.parity.shared.b64 %p2, [%t5], %t4;
    @!%p2 bra FULL;
    shl.b32 %t6, %t3, 9; add.u32 %t6, %t6, %s; shl.b32 %t7, %i, 2; add.u32 %t6, %t6, %t7;
    ld.shared.b32 %t8, [%t6+1024]; mad.lo.u32 %t2, %t2, 3, %t8;
    mbarrier.arrive.shared.b64 _, [%t5+16];
    add.u32 %t1, %t1, 1; setp.lt.u32 %p3, %t1, {count};
    @%p3 bra CONSUME;
    mul.lo.u32 %t9, %bx, 128; add.u32 %t9, %t9, %i; mul.wide.u32 %d1, %t9, 4; add.u64 %d1, %d1, %out;
    st.global.b32 [%d1], %t2;
    ret;
PRODUCER:
    setp.ne.u32 %p4, %i, 128;
    @%p4 ret;
PRODUCE:
    and.b32 %t3, %t1, 1; shr.u32 %t4, %t1, 1; and.b32 %t4, %t4, 1; xor.b32 %t4, %t4, 1;
    shl.b32 %t5, %t3, 3; add.u32 %t5, %t5, %s;
EMPTY:
    mbarrier.try_wait.parity.shared.b64 %p2, [%t5+16], %t4;
    @!%p2 bra EMPTY;
    shl.b32 %t6, %t3, 9; add.u32 %t6, %t6, %s; add.u32 %t6, %t6, 1024;
    mbarrier.arrive.expect_tx.shared.b64 _, [%t5], 512;
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%t6], [%in], 512, [%t5];
    add.u64 %in, %in, 512;
    add.u32 %t1, %t1, 1; setp.lt.u32 %p3, %t1, {count};
    @%p3 bra PRODUCE;
"""


def ring(count: int, text: str = RING) -> str:
    return kernel(
        text.format(count=count, block_bytes=512 * count), params=".param .u64 values, .param .u64 out"
    )


@BOTH
def test_a_producer_fills_a_ring_of_stages_for_consumers(where: str, rng: np.random.Generator) -> None:
    blocks, count = 5, 9
    values = rng.integers(0, 1 << 32, (blocks, count, 128)).astype(np.uint32)
    out = np.zeros((blocks, 128), np.uint32)
    start(where, ring(count), blocks, 160, [values, out])
    expected = np.zeros((blocks, 128), np.uint32)
    for step in range(count):
        expected = expected * np.uint32(3) + values[:, step]
    np.testing.assert_array_equal(out, expected)


def checked(text: str, arrays: list[Array], threads: int, blocks: int = 1) -> list[tuple[str, str]]:
    """What the sanitizer says of a launch."""
    sanitizer = Sanitizer()
    interpreter = Interpreter(sanitizer)
    places = []
    for array in arrays:
        places.append(interpreter.alloc(array.nbytes))
        interpreter.write(places[-1], array)
    params = [np.uint64(p).tobytes() for p in places]
    interpreter.launch_params(interpreter.load(text), "k", (blocks, 1, 1), (threads, 1, 1), params)
    return [(f.kind, f.instruction) for f in sanitizer.findings]


def test_a_ring_of_stages_raises_no_alarm() -> None:
    arrays = [np.arange(2 * 6 * 128, dtype=np.uint32), np.zeros((2, 128), np.uint32)]
    assert checked(ring(6), arrays, 160, blocks=2) == []


def test_a_consumer_that_does_not_wait_is_found() -> None:
    hasty = RING.replace("@!%p2 bra FULL;", "")
    arrays = [np.arange(6 * 128, dtype=np.uint32), np.zeros(128, np.uint32)]
    assert {kind for kind, _ in checked(ring(6, hasty), arrays, 160)} & {"race", "uninitialized"}


@BOTH
def test_a_copy_reaches_several_blocks_of_a_cluster(where: str, rng: np.random.Generator) -> None:
    body = f"""
    setp.ne.u32 %p0, %i, 0;
    @%p0 bra READY;
    mbarrier.init.shared.b64 [%s], 1;
    mbarrier.arrive.expect_tx.shared.b64 _, [%s], 256;
READY:
    {SYNC}
    setp.eq.u32 %p1, %r, 1; setp.eq.u32 %p2, %i, 0; and.pred %p1, %p1, %p2;
    @!%p1 bra LOOP;
    ld.param.u64 %in, [values]; add.u32 %t1, %s, 1024; cvt.u16.u32 %h0, 13;
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster
        [%t1], [%in], 256, [%s], %h0;
LOOP:
    setp.eq.u32 %p4, %r, 1; @%p4 bra LAST;
    mbarrier.try_wait.parity.shared.b64 %p3, [%s], 0;
    @!%p3 bra LOOP;
    shl.b32 %w, %i, 2; add.u32 %w, %w, %s; ld.shared.b32 %t2, [%w+1024]; st.global.b32 [%at], %t2;
LAST:
    {SYNC}
"""
    given = rng.integers(0, 1 << 32, 64).astype(np.uint32)
    out = np.zeros((4, 64), np.uint32)
    text = kernel(body, params=".param .u64 values, .param .u64 out", shared=".reg .b16 %h0;")
    start(where, text, 4, 64, [given, out], cluster=4)
    np.testing.assert_array_equal(out, np.stack([given, np.zeros_like(given), given, given]))


@BOTH
def test_a_block_copies_its_shared_memory_to_its_neighbour(where: str) -> None:
    body = f"""
    setp.ne.u32 %p0, %i, 0;
    shl.b32 %w, %i, 2; add.u32 %w, %w, %s; st.shared.b32 [%w+512], %g;
    @%p0 bra READY;
    mbarrier.init.shared.b64 [%s], 1;
    mbarrier.arrive.expect_tx.shared.b64 _, [%s], 256;
READY:
    fence.proxy.async;
    {SYNC}
    xor.b32 %t1, %r, 1; mapa.shared::cluster.u32 %t2, %s, %t1; add.u32 %t3, %t2, 1024; add.u32 %t4, %s, 512;
    @%p0 bra LOOP;
    cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%t3], [%t4], 256, [%t2];
LOOP:
    mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p3, [%s], 0;
    @!%p3 bra LOOP;
    ld.shared.b32 %t5, [%w+1024]; st.global.b32 [%at], %t5;
    {SYNC}
"""
    out = np.zeros(128, np.uint32)
    start(where, kernel(body), 2, 64, [out], cluster=2)
    np.testing.assert_array_equal(out, np.roll(np.arange(128), 64))


KINDS: dict[str, tuple[Any, str]] = {
    "u32": (np.uint32, "add"), "s32": (np.int32, "min"), "u64": (np.uint64, "add"),
    "f32": (np.float32, "add"), "f64": (np.float64, "add"),
    "f16": (np.float16, "add.noftz"), "bf16": (ml_dtypes.bfloat16, "add.noftz"),
    "b32": (np.uint32, "xor"),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_reduce_their_shared_memory_into_device_memory(where: str, kind: str) -> None:
    dtype, operation = KINDS[kind]
    small = np.arange(1024 // np.dtype(dtype).itemsize) % 7
    given, out = small.astype(dtype), (small[::-1] + 1).astype(dtype)
    expected = out.copy()
    for _ in range(3):
        expected = {
            "add": lambda a, b: a + b, "min": np.minimum, "xor": lambda a, b: a ^ b,
        }[operation.split(".")[0]](expected, given)  # fmt: skip
    body = f"""
    ld.param.u64 %in, [values]; mul.wide.u32 %d0, %i, 4; add.u64 %d0, %d0, %in;
    shl.b32 %w, %i, 2; add.u32 %w, %w, %s; ld.global.b32 %t1, [%d0]; st.shared.b32 [%w], %t1;
    fence.proxy.async; bar.sync 0;
    setp.ne.u32 %p0, %i, 0;
    @%p0 bra DONE;
    cp.reduce.async.bulk.global.shared::cta.bulk_group.{operation}.{kind} [%out], [%s], 1024;
    cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0;
DONE:
"""
    start(where, kernel(body, params=".param .u64 values, .param .u64 out"), 3, 256, [given, out])
    np.testing.assert_array_equal(out, expected)


@BOTH
def test_threads_arrive_when_their_copies_are_done(where: str) -> None:
    body = """
    setp.ne.u32 %p0, %i, 0;
    @!%p0 mbarrier.init.shared.b64 [%s], 64;
    bar.sync 0;
    ld.param.u64 %in, [values]; mul.wide.u32 %d0, %i, 4; add.u64 %d0, %d0, %in;
    shl.b32 %w, %i, 2; add.u32 %w, %w, %s; add.u32 %w, %w, 1024;
    cp.async.ca.shared.global [%w], [%d0], 4;
    cp.async.mbarrier.arrive.noinc.shared.b64 [%s];
LOOP:
    mbarrier.test_wait.parity.shared.b64 %p1, [%s], 0;
    @!%p1 bra LOOP;
    xor.b32 %t1, %i, 63; shl.b32 %t1, %t1, 2; add.u32 %t1, %t1, %s;
    ld.shared.b32 %t2, [%t1+1024]; st.global.b32 [%at], %t2;
"""
    values, out = np.arange(64, dtype=np.uint32) * 7, np.zeros(64, np.uint32)
    start(where, kernel(body, params=".param .u64 values, .param .u64 out"), 1, 64, [values, out])
    np.testing.assert_array_equal(out, values[::-1])


@BOTH
def test_more_arrivals_than_an_mbarrier_expects_are_an_error(where: str) -> None:
    body = "mbarrier.init.shared.b64 [%s], 1; mbarrier.arrive.noComplete.shared.b64 %d0, [%s], 2;"
    with pytest.raises(DeviceError, match="arrives at an mbarrier"):
        start(where, kernel(body), 1, 1, [np.zeros(1, np.uint32)])
