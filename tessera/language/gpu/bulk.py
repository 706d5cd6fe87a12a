"""Copies of whole blocks by the tensor memory accelerator.

One thread starts them. Loads tell a barrier how many bytes have come (`mbarrier_arrive_expect_bytes` says
how many to wait for); stores are waited for in groups. A tensor map is 128 bytes that the driver encodes,
in constant, parameter or global memory, at a multiple of 64.
Source of all: PTX ISA 8.8, "Data Movement and Conversion Instructions: Bulk copy, Tensor copy".
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tessera.language.gpu.assembly import I32, SM_90, U32, U64, instruction, with_number

_make = partial(instruction, home=__name__, memory=True)

bulk_load = _make(
    "bulk_load",
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [$0], [$1], $2, [$3];",
    None,
    "Starts to copy `size` bytes from global to shared memory; addresses and size are multiples of 16.",
    SM_90,
    to=U32,
    source=U64,
    size=U32,
    barrier=U32,
)
bulk_store = _make(
    "bulk_store",
    "cp.async.bulk.global.shared::cta.bulk_group [$0], [$1], $2;",
    None,
    "Starts to copy `size` bytes from shared to global memory; addresses and size are multiples of 16.",
    SM_90,
    to=U64,
    source=U32,
    size=U32,
)


def _tensor_load(rank: int) -> Any:
    """`tma_load_2d` and its neighbours of more dimensions."""
    axes = ("column", "row", "plane", "box", "block")[:rank]
    places = ", ".join(f"${2 + i}" for i in range(rank))
    return _make(
        f"tma_load_{rank}d",
        f"cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
        f"[$0], [$1, {{{places}}}], [${2 + rank}];",
        None,
        f"Starts to copy the map's box at element ({', '.join(f'`{a}`' for a in reversed(axes))}) of a "
        f"{'matrix' if rank == 2 else 'tensor'} to shared memory, at a multiple of 128 bytes. What lies "
        "outside of it becomes zeros.",
        SM_90,
        to=U32,
        tensor_map=U64,
        **dict.fromkeys(axes, I32),
        barrier=U32,
    )


tma_load_2d = _tensor_load(2)
tma_load_3d = _tensor_load(3)
tma_load_4d = _tensor_load(4)
tma_load_5d = _tensor_load(5)
tma_store_2d = _make(
    "tma_store_2d",
    "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [$0, {$1, $2}], [$3];",
    None,
    "Starts to copy the map's box from shared memory to element (`row`, `column`) of a matrix. What lies "
    "outside of the matrix is left out.",
    SM_90,
    tensor_map=U64,
    column=I32,
    row=I32,
    source=U32,
)
tma_prefetch = _make(
    "tma_prefetch",
    "prefetch.tensormap [$0];",
    None,
    "Brings a tensor map into the cache.",
    SM_90,
    tensor_map=U64,
)
bulk_commit = _make(
    "bulk_commit",
    "cp.async.bulk.commit_group;",
    None,
    "Makes the stores this thread has started since the last one into a group.",
    SM_90,
)
bulk_wait = with_number(
    "bulk_wait",
    "cp.async.bulk.wait_group {n};",
    "Waits until at most `count` of this thread's newest groups of stores are under way.",
    SM_90,
    range(64),
    home=__name__,
)
bulk_wait_read = with_number(
    "bulk_wait_read",
    "cp.async.bulk.wait_group.read {n};",
    "As `bulk_wait`, until the shared memory has been read and may be written again.",
    SM_90,
    range(64),
    home=__name__,
)
