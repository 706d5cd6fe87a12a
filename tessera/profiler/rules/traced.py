"""What rules read, from the trace of one block: what single threads did, one access after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tessera.profiler.rules.trace_table import (
    ATOMIC,
    LOAD,
    STORE,
    Accesses,
    Array,
    Values,
    accesses_of,
    add,
    add_distinct,
    group_starts,
)
from tessera.profiler.rules.traced_shared import shared_values

if TYPE_CHECKING:
    from tessera.emulator.block_trace import BlockTrace

NEAR = 8
"""Loads of a thread between two of one place, up to which its value might stay in a register."""
VECTOR_BYTES = 16
"""What one thread loads or stores at most."""


def traced_values(trace: BlockTrace) -> tuple[Values, dict[str, float]]:
    """Numbers by line, and those of the kernel as a whole."""
    found: Values = {}
    device = accesses_of(trace, "global")
    _totals(device, found)
    _repeats(device, found)
    _requests(device, found)
    for operation, word in ((LOAD, "ld"), (STORE, "st")):
        _vectors(device.where(device.operation == operation), word, found)
        _runs(device.where(device.operation == operation), word, found)
    shared = accesses_of(trace, "shared")
    kernel = shared_values(trace, shared, found)
    kernel["operand_reuse"] = _operand_reuse(device, shared)
    return found, kernel


def _totals(device: Accesses, found: Values) -> None:
    names = {LOAD: "global_ld_traced", STORE: "global_st_traced", ATOMIC: "global_atom_traced"}
    for operation, name in names.items():
        add(found, device, name, device.operation == operation)


def _repeats(device: Accesses, found: Values) -> None:
    """Loads of what the thread has in a register, and stores that nobody reads before the next."""
    if not len(device.at):
        return
    rank = _load_ranks(device)
    order = np.lexsort((device.seq, device.at))
    d = device.where(order)
    rank = rank[order]
    starts = group_starts(d.at)
    position = np.arange(len(d.at))
    first = np.maximum.accumulate(np.where(starts, position, 0))
    writes = (d.operation == STORE) | (d.operation == ATOMIC)
    last = np.maximum.accumulate(np.where(writes, position, -1))
    written = np.where(last >= first, d.seq[np.maximum(last, 0)], -1)
    overwritten = np.zeros(len(d.at), np.bool_)
    overwritten[:-1] = (
        ~starts[1:] & (d.operation[:-1] == STORE) & (d.operation[1:] == STORE)
        & (d.thread[:-1] == d.thread[1:]) & (d.size[:-1] == d.size[1:])
    )  # fmt: skip
    add(found, d, "global_st_overwritten", overwritten)
    again = np.lexsort((d.seq, d.at, d.thread))
    e, written, rank = d.where(again), written[again], rank[again]
    same = ~group_starts(e.at, e.thread)
    same[1:] &= e.size[1:] == e.size[:-1]
    before = np.r_[0, np.arange(len(e.at) - 1)]
    near = rank - rank[before] <= NEAR
    loads = same & (e.operation == LOAD) & near
    known = loads & (e.operation[before] == LOAD) & (written < e.seq[before])
    own = loads & (e.operation[before] == STORE) & (written == e.seq[before])
    add(found, e, "global_ld_again", known)
    add(found, e, "global_ld_own", own)


def _load_ranks(device: Accesses) -> Array:
    """How many loads each thread had made before."""
    order = np.lexsort((device.seq, device.thread))
    loads = (device.operation[order] == LOAD).cumsum()
    starts = group_starts(device.thread[order])
    base = np.maximum.accumulate(np.where(starts, loads, 0))
    rank = np.empty(len(order), np.int64)
    rank[order] = loads - base
    return rank


def _requests(device: Accesses, found: Values) -> None:
    """What the requests of warps had to do with each other."""
    loads = device.where(device.operation == LOAD)
    for name, keys in (
        ("global_ld_request_places", (loads.line, loads.seq, loads.warp, loads.at)),
        ("global_ld_places", (loads.line, loads.at)),
        ("global_ld_executions", (loads.line, loads.seq, loads.warp)),
        ("global_ld_warps", (loads.line, loads.warp)),
    ):
        add_distinct(loads, name, keys, found)
    _common(loads, found)
    stores = device.where(device.operation == STORE)
    keys = (stores.line, stores.seq, stores.warp, stores.at)
    add_distinct(stores, "global_st_places", keys, found)
    atomics = device.where(device.operation == ATOMIC)
    add_distinct(atomics, "global_atom_places", (atomics.line, atomics.seq, atomics.warp, atomics.at), found)
    add_distinct(atomics, "global_atom_block_places", (atomics.line, atomics.at), found)


def _common(loads: Accesses, found: Values) -> None:
    """Places that several threads load, at whatever line."""
    if not len(loads.at):
        return
    order = np.lexsort((loads.thread, loads.at))
    a = loads.where(order)
    starts = group_starts(a.at)
    first = np.maximum.accumulate(np.where(starts, np.arange(len(a.at)), 0))
    several = np.zeros(len(a.at), np.bool_)
    np.logical_or.at(several, first, a.thread != a.thread[first])
    add(found, a, "global_ld_common", several[first])


def _vectors(own: Accesses, word: str, found: Values) -> None:
    """Elements side by side that one thread takes one by one: 2, 4 or 8 of them, which a vector holds."""
    for size in np.unique(own.size).tolist():
        if size >= VECTOR_BYTES:
            continue
        some = own.where(own.size == size)
        order = np.lexsort((some.seq, some.at, some.thread))
        a = some.where(order)
        # Of each place of each thread, its first access.
        a = a.where(group_starts(a.thread, a.at))
        starts = group_starts(a.thread)
        starts[1:] |= a.at[1:] - a.at[:-1] != size
        begins = np.flatnonzero(starts)
        lengths = np.diff(np.r_[begins, len(a.at)])
        fits = np.isin(lengths, (2, 4, 8)) & (lengths * size <= VECTOR_BYTES)
        fits &= a.at[begins] % np.maximum(lengths * size, 1) == 0
        # Neighbours that other threads load too, as in a stencil, are nobody's own vector.
        _, place, count = np.unique(a.at, return_inverse=True, return_counts=True)
        fits &= ~np.logical_or.reduceat(count[place] > 1, begins)
        heads, widths = a.at[begins][fits], lengths[fits] * size
        side = np.argsort(heads, kind="stable")
        dense = np.zeros(len(heads), np.bool_)
        if len(heads) > 1:
            dense[side[1:]] = np.diff(heads[side]) == widths[side][:-1]
            dense[side[0]] = dense[side[1]]
        if not len(heads) or dense.mean() < 0.8:
            continue
        members = np.repeat(fits, lengths)
        add(found, a, f"vector_{word}_members", members)
        add(found, a.where(begins[fits]), f"vector_{word}_heads")
        _widest(a.where(begins[fits]), widths, f"vector_{word}_bytes", found)


def _widest(heads: Accesses, widths: Array, name: str, found: Values) -> None:
    for index in np.unique(heads.line).tolist():
        values = found.setdefault(heads.lines[index], {})
        values[name] = max(values.get(name, 0.0), float(widths[heads.line == index].max()))


def _runs(own: Accesses, word: str, found: Values) -> None:
    """Elements that follow, for a thread, the element before: it walks alone along a row."""
    if not len(own.at):
        return
    order = np.lexsort((own.at, own.thread, own.line))
    a = own.where(order)
    a = a.where(group_starts(a.line, a.thread, a.at))
    follows = ~group_starts(a.line, a.thread)
    follows[1:] &= a.at[1:] - a.at[:-1] == a.size[1:]
    add(found, a, f"run_{word}_places")
    add(found, a, f"run_{word}_followers", follows)


def _operand_reuse(device: Accesses, shared: Accesses) -> float:
    """How often each loaded place of global memory is used, by way of shared memory or not."""
    loads = [int((each.operation == LOAD).sum()) for each in (device, shared)]
    places = len(np.unique(device.at[device.operation == LOAD]))
    return max(loads) / places if places else 0.0
