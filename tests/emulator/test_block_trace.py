"""One block of a launch, traced access by access before the launch."""

import numpy as np
import pytest

from tessera.emulator import Emulator
from tessera.emulator.block_trace import MOST_ACCESSES, BlockTrace, trace_block
from tessera.emulator.interpreter import Interpreter

HEAD = ".version 8.3\n.target sm_90\n.address_size 64\n"
BODY = """
.visible .entry k(.param .u64 x)
{
    .reg .b32 %i, %b, %n, %t<4>; .reg .f32 %f<4>; .reg .b64 %x, %d<4>; .reg .pred %p;
    .shared .align 4 .b8 tile[256];
    ld.param.u64 %x, [x]; mov.u32 %i, %tid.x; mov.u32 %b, %ctaid.x; mov.u32 %n, %ntid.x;
    mad.lo.u32 %t1, %b, %n, %i; mul.wide.u32 %d1, %t1, 4; add.u64 %d1, %d1, %x;
    .loc 1 7 0
    ld.global.f32 %f1, [%d1];
    shl.b32 %t2, %i, 2; mov.u32 %t3, tile; add.u32 %t2, %t2, %t3;
    st.shared.f32 [%t2], %f1;
    .loc 1 8 0
    bar.sync 0;
    .loc 1 9 0
    xor.b32 %t2, %t2, 4;
    ld.shared.f32 %f2, [%t2];
    add.f32 %f2, %f2, %f2;
    st.global.f32 [%d1], %f2;
    ret;
}
.file 1 "source.py"
"""
LOOP = """
.visible .entry k(.param .u64 x)
{
    .reg .b32 %i; .reg .f32 %f1; .reg .b64 %x, %d1;
    ld.param.u64 %x, [x]; mov.u32 %i, %tid.x; mul.wide.u32 %d1, %i, 4; add.u64 %d1, %d1, %x;
AGAIN:
    ld.global.f32 %f1, [%d1];
    bra AGAIN;
}
"""


def trace(
    text: str, engine: Emulator | Interpreter, blocks: int = 4
) -> tuple[BlockTrace | None, bytes, bytes]:
    """The trace of a kernel over an array of 64 floats a block, and the array before and after it."""
    values = np.random.default_rng(0).standard_normal(64 * blocks, dtype=np.float32)
    loaded = engine.load(HEAD + text)
    address = engine.alloc(values.nbytes)
    engine.write(address, values)
    params = [np.uint64(address).tobytes()]
    found = trace_block(loaded, engine.memory, "k", (blocks, 1, 1), (64, 1, 1), params, 0)
    return found, values.tobytes(), bytes(engine.read(address, values.nbytes))


@pytest.mark.parametrize("compiled", [True, False])
def test_accesses_of_a_block_are_told_by_thread_and_memory_stays(compiled: bool) -> None:
    found, before, after = trace(
        BODY, Emulator(memory_bytes=1 << 20, count=True) if compiled else Interpreter()
    )
    assert before == after
    assert found is not None
    assert found.complete
    assert (found.index, found.threads, found.shared_bytes) == ((2, 0, 0), 64, 256)
    assert [(a.space, a.write, a.instruction.source_line, len(a.threads)) for a in found.accesses] == [
        ("global", False, 7, 64), ("shared", True, 7, 64), ("shared", False, 9, 64), ("global", True, 9, 64),
    ]  # fmt: skip
    load, store, reload, last = found.accesses
    assert (np.diff(load.addresses) == 4).all()
    assert (store.addresses == 4 * np.arange(64) + store.addresses[0]).all()
    assert (reload.addresses - store.addresses[0] == 4 * (np.arange(64) ^ 1)).all()
    assert (load.addresses == last.addresses).all()
    assert [set(a.epochs.tolist()) for a in found.accesses] == [{0}, {0}, {1}, {1}]
    assert {epoch: i.source_line for epoch, i in found.barriers.items()} == {0: 8}
    assert not found.named_barriers


def test_endless_block_is_left_with_what_it_did() -> None:
    found, before, after = trace(LOOP, Emulator(memory_bytes=1 << 20, count=True))
    assert before == after
    assert found is not None
    assert not found.complete
    assert 64 <= sum(len(a.threads) for a in found.accesses) <= MOST_ACCESSES + 64


def test_block_behind_the_data_gives_way_to_one_that_has_some() -> None:
    guarded = BODY.replace("mad.lo.u32", "setp.gt.u32 %p, %b, 1; @%p exit; mad.lo.u32")
    found, _, _ = trace(guarded, Emulator(memory_bytes=1 << 20, count=True), blocks=8)
    assert found is not None
    assert found.index == (1, 0, 0)


def test_clusters_are_not_traced_alone() -> None:
    clustered = BODY.replace(
        ".visible .entry k(.param .u64 x)", ".visible .entry k(.param .u64 x)\n.reqnctapercluster 2, 1, 1"
    )
    found, _, _ = trace(clustered, Emulator(memory_bytes=1 << 20, count=True))
    assert found is None
