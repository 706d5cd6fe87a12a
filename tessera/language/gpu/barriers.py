"""Barriers in shared memory that count arrivals and bytes, named barriers, and fences between proxies.

Source of all: PTX ISA 8.8, "Parallel Synchronization and Communication Instructions: mbarrier, barrier" and
"Memory Consistency Model: Proxies".
"""

from __future__ import annotations

from functools import partial
from typing import Any

from numba.cuda import types

from tessera.language.gpu.assembly import SM_70, SM_80, SM_90, U32, U64, Needs, instruction

_make = partial(instruction, home=__name__, memory=True)

mbarrier_init = _make(
    "mbarrier_init",
    "mbarrier.init.shared.b64 [$0], $1;",
    None,
    "Makes 8 bytes of shared memory a barrier of `count` arrivals. One thread does; the others see it after "
    "a fence and `syncthreads`.",
    SM_80,
    barrier=U32,
    count=U32,
)
mbarrier_invalidate = _make(
    "mbarrier_invalidate",
    "mbarrier.inval.shared.b64 [$0];",
    None,
    "Ends a barrier, so that its memory may be used for something else.",
    SM_80,
    barrier=U32,
)
mbarrier_arrive = _make(
    "mbarrier_arrive",
    "mbarrier.arrive.shared.b64 $0, [$1];",
    U64,
    "Counts one arrival; the state it was in names the phase.",
    SM_80,
    barrier=U32,
)
mbarrier_expect_bytes = _make(
    "mbarrier_expect_bytes",
    "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [$0], $1;",
    None,
    "Has the current phase wait for that many more bytes of bulk copies.",
    SM_90,
    barrier=U32,
    size=U32,
)
mbarrier_arrive_expect_bytes = _make(
    "mbarrier_arrive_expect_bytes",
    "mbarrier.arrive.expect_tx.shared.b64 $0, [$1], $2;",
    U64,
    "Counts one arrival, and has the phase wait for that many more bytes of bulk copies.",
    SM_90,
    barrier=U32,
    size=U32,
)


def _wait(name: str, text: str, doc: str, needs: Needs) -> Any:
    asked = f"{{ .reg .pred done; {text} done, [$1], $2; selp.b32 $0, 1, 0, done; }}"
    return _make(name, asked, types.boolean, doc, needs, barrier=U32, parity=U32)


mbarrier_test_wait_parity = _wait(
    "mbarrier_test_wait_parity",
    "mbarrier.test_wait.parity.shared.b64",
    "Whether the phase of that parity (0 for the first) is complete.",
    SM_80,
)
mbarrier_try_wait_parity = _wait(
    "mbarrier_try_wait_parity",
    "mbarrier.try_wait.parity.shared.b64",
    "Waits a while for the phase of that parity; whether it is complete. Ask until it is: "
    "`while not gpu.mbarrier_try_wait_parity(barrier, parity): pass`.",
    SM_90,
)
cp_async_mbarrier_arrive = _make(
    "cp_async_mbarrier_arrive",
    "cp.async.mbarrier.arrive.noinc.shared.b64 [$0];",
    None,
    "Has the barrier count an arrival of this thread when the copies it has started are done.",
    SM_80,
    barrier=U32,
)
fence_mbarrier_init = _make(
    "fence_mbarrier_init",
    "fence.mbarrier_init.release.cluster;",
    None,
    "Makes `mbarrier_init` visible to the other blocks of the cluster and to copies.",
    SM_90,
)
fence_async_shared = _make(
    "fence_async_shared",
    "fence.proxy.async.shared::cta;",
    None,
    "Makes ordinary stores to shared memory visible to bulk copies and to `wgmma`.",
    SM_90,
)
barrier_sync = _make(
    "barrier_sync",
    "barrier.sync $0, $1;",
    None,
    "Waits at barrier `number`, 0 to 15, for `threads` threads, a multiple of 32; `syncthreads` is number 0.",
    SM_70,
    number=U32,
    threads=U32,
)
barrier_arrive = _make(
    "barrier_arrive",
    "barrier.arrive $0, $1;",
    None,
    "Arrives at barrier `number` without waiting.",
    SM_70,
    number=U32,
    threads=U32,
)
