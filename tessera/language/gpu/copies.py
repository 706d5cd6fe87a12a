"""Copies from global to shared memory that run while the thread goes on.

Addresses: shared ones 32 bits (`gpu.shared_address`), global ones 64 (`gpu.address`).
Source of all: PTX ISA 8.8, "Data Movement and Conversion Instructions: Asynchronous copy".
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tessera.language.gpu.assembly import SM_80, U32, U64, instruction, with_number

_make = partial(instruction, home=__name__, memory=True)


def _copy(size: int, *, fill: bool) -> Any:
    # 16 bytes may bypass the first-level cache: nobody reads them there again.
    cache = "cg" if size == 16 else "ca"
    if not fill:
        return _make(
            f"cp_async_{size}",
            f"cp.async.{cache}.shared.global [$0], [$1], {size};",
            None,
            f"Starts to copy {size} bytes; both addresses are multiples of {size}.",
            SM_80,
            to=U32,
            source=U64,
        )
    return _make(
        f"cp_async_{size}_fill",
        f"cp.async.{cache}.shared.global [$0], [$1], {size}, $2;",
        None,
        f"Starts to copy `count` bytes, 0 to {size}, and to fill up to {size} with zeros. With a count of 0 "
        "nothing is read.",
        SM_80,
        to=U32,
        source=U64,
        count=U32,
    )


cp_async_4, cp_async_8, cp_async_16 = (_copy(size, fill=False) for size in (4, 8, 16))
cp_async_4_fill, cp_async_8_fill, cp_async_16_fill = (_copy(size, fill=True) for size in (4, 8, 16))
cp_async_commit = _make(
    "cp_async_commit",
    "cp.async.commit_group;",
    None,
    "Makes the copies this thread has started since the last one into a group.",
    SM_80,
)
cp_async_wait = with_number(
    "cp_async_wait",
    "cp.async.wait_group {n};",
    "Waits until at most `count` of this thread's newest groups are under way. Others see the data after a "
    "barrier.",
    SM_80,
    range(64),
    home=__name__,
)
cp_async_wait_all = _make(
    "cp_async_wait_all",
    "cp.async.wait_all;",
    None,
    "Waits for every copy that this thread has started.",
    SM_80,
)
