"""Special registers: what each thread can ask about itself, its block and its grid.

Source: PTX ISA 8.8, chapter 10.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tessera.emulator.device_runtime import ARRIVED
from tessera.emulator.lanes import Array

if TYPE_CHECKING:
    from tessera.emulator.lockstep import BlockRun

WARP = 32
Reader = Callable[["BlockRun"], Array]
"""The value of a special register, one per thread of a block."""


def _linear(run: BlockRun) -> Array:
    return np.arange(run.threads, dtype=np.int64)


def _lane(run: BlockRun) -> Array:
    return _linear(run) % WARP


def _same(value: Callable[[BlockRun], Any]) -> Reader:
    return lambda run: np.full(run.threads, value(run))


def _thread_index(axis: int) -> Reader:
    def read(run: BlockRun) -> Array:
        block = run.geometry.block
        stride = int(np.prod(block[:axis], dtype=np.int64))
        index: Array = _linear(run) // stride % block[axis]
        return index

    return read


def _workspace(run: BlockRun) -> int:
    symbols: dict[str, int] = run.machine.symbols
    return symbols.get(ARRIVED, 0)


def _along(what: str, axis: int) -> Reader:
    return lambda run: np.full(run.threads, getattr(run.geometry, what)[axis])


def _axes() -> dict[str, Reader]:
    table: dict[str, Reader] = {}
    for i, axis in enumerate("xyz"):
        table |= {
            f"%tid.{axis}": _thread_index(i),
            f"%ntid.{axis}": _along("block", i),
            f"%ctaid.{axis}": _along("index", i),
            f"%nctaid.{axis}": _along("grid", i),
            f"%clusterid.{axis}": _along("cluster_index", i),
            f"%nclusterid.{axis}": _along("clusters", i),
            f"%cluster_ctaid.{axis}": _along("place", i),
            f"%cluster_nctaid.{axis}": _along("cluster", i),
        }
    return table


SPECIAL: dict[str, Reader] = {
    **_axes(),
    "%laneid": _lane,
    "%warpid": lambda run: _linear(run) // WARP,
    "%nwarpid": _same(lambda run: -(-run.threads // WARP)),
    "%lanemask_eq": lambda run: 1 << _lane(run),
    "%lanemask_lt": lambda run: (1 << _lane(run)) - 1,
    "%lanemask_le": lambda run: (2 << _lane(run)) - 1,
    "%lanemask_gt": lambda run: 0xFFFFFFFF & ~((2 << _lane(run)) - 1),
    "%lanemask_ge": lambda run: 0xFFFFFFFF & ~((1 << _lane(run)) - 1),
    "%clock": _same(lambda run: run.steps),
    "%clock_hi": _same(lambda _: 0),
    "%clock64": _same(lambda run: run.steps),
    "%globaltimer": _same(lambda run: run.steps),
    "%globaltimer_lo": _same(lambda run: run.steps & 0xFFFFFFFF),
    "%globaltimer_hi": _same(lambda _: 0),
    "%smid": _same(lambda _: 0),
    "%nsmid": _same(lambda _: 1),
    "%gridid": _same(lambda _: 1),
    "%cluster_ctarank": _same(lambda run: run.geometry.rank),
    "%cluster_nctarank": _same(lambda run: int(np.prod(run.geometry.cluster))),
    "%is_explicit_cluster": _same(lambda run: run.geometry.explicit),
    "%dynamic_smem_size": _same(lambda run: run.dynamic_bytes),
    "%total_smem_size": _same(lambda run: len(run.shared)),
    "%aggr_smem_size": _same(lambda run: len(run.shared)),
    "%current_graph_exec": _same(lambda _: 0),
    **{f"%envreg{i}": _same(lambda _: 0) for i in range(32)},
    **{f"%pm{i}": _same(lambda _: 0) for i in range(8)},
    "%reserved_smem_offset_begin": _same(lambda _: 0),
    "%reserved_smem_offset_end": _same(lambda _: 0),
    "%reserved_smem_offset_cap": _same(lambda _: 0),
    # Upper and lower half of the address of the grid's workspace.
    "%envreg1": _same(lambda run: _workspace(run) >> 32),
    "%envreg2": _same(lambda run: _workspace(run) & 0xFFFFFFFF),
}
"""What each special register holds. Time counts basic blocks."""
