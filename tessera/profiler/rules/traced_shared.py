"""What the trace of a block says of shared memory: places, patterns, and what barriers order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tessera.profiler.rules.trace_table import (
    ATOMIC,
    WARP,
    Accesses,
    Array,
    Line,
    Values,
    add,
    add_distinct,
    line_of,
)

if TYPE_CHECKING:
    from tessera.emulator.block_trace import BlockTrace

_UNSEEN = frozenset({"wgmma", "mbarrier", "cp", "multimem", "tcgen05"})
"""Opcodes that touch shared memory when nobody looks."""
TREE_STEPS = 4
"""Steps of 16 threads and less that make a reduction's end."""


def shared_values(trace: BlockTrace, shared: Accesses, found: Values) -> dict[str, float]:
    """Numbers by line, into `found`; those of the kernel are returned."""
    atomics = shared.where(shared.operation == ATOMIC)
    add(found, atomics, "shared_atom_traced")
    add_distinct(atomics, "shared_atom_places", (atomics.line, atomics.seq, atomics.warp, atomics.at), found)
    for write, word in ((False, "ld"), (True, "st")):
        _patterns(trace, word, write=write, found=found)
    _trees(trace, found)
    opcodes = {a.instruction.opcode for a in trace.accesses}
    code = {getattr(i, "opcode", "") for f in trace.module.functions.values() for i in f.body}
    kernel: dict[str, float] = {"shared_bytes": float(trace.shared_bytes)}
    if not (opcodes | code) & _UNSEEN:
        if not trace.named_barriers:
            _barriers(trace, found)
        if trace.complete:
            words = len(np.unique(np.concatenate(_words(shared.at, shared.size))))
            kernel["shared_untouched_bytes"] = max(trace.shared_bytes - 4.0 * words, 0.0)
    return kernel


def _patterns(trace: BlockTrace, word: str, *, write: bool, found: Values) -> None:
    """Requests that follow the threads' numbers: every warp's addresses differ alike, whatever the data."""
    seen: dict[int, bytes] = {}
    for access in trace.accesses:
        if access.space != "shared" or access.write != write:
            continue
        key = line_of(trace, access.instruction)
        values = found.setdefault(key, {})
        for warp in np.unique(access.threads // WARP).tolist():
            own = access.threads // WARP == warp
            at, lanes = access.addresses[own], access.threads[own] % WARP
            if len(at) < WARP:
                continue
            shape = (at - at[0] + lanes[0]).tobytes()
            alike = seen.setdefault(id(access.instruction), shape) == shape
            values[f"shared_{word}_shapes"] = values.get(f"shared_{word}_shapes", 0.0) + 1
            values[f"shared_{word}_alike"] = values.get(f"shared_{word}_alike", 0.0) + alike


def _trees(trace: BlockTrace, found: Values) -> None:
    """Loads by half as many threads after every barrier, down to one: the end of a reduction."""
    by_line: dict[Line, dict[int, set[int]]] = {}
    for access in trace.accesses:
        if access.space == "shared" and not access.write:
            key = line_of(trace, access.instruction)
            epochs = by_line.setdefault(key, {})
            for epoch in np.unique(access.epochs).tolist():
                epochs.setdefault(epoch, set()).update(access.threads[access.epochs == epoch].tolist())
    for key, epochs in by_line.items():
        counts = [len(epochs[e]) for e in sorted(epochs)]
        steps = max((_tail(counts[i:]) for i in range(len(counts))), default=0)
        if steps >= TREE_STEPS:
            found.setdefault(key, {})["shared_tree_steps"] = float(steps)


def _tail(counts: list[int]) -> int:
    """How many of the counts, from the first on, are 16, 8, 4, 2, 1 or an end of that."""
    if not counts or counts[0] > WARP // 2:
        return 0
    steps = 1
    while steps < len(counts) and counts[steps] * 2 == counts[steps - 1]:
        steps += 1
    return steps if counts[steps - 1] == 1 else 0


def _words(at: Array, size: Array) -> list[Array]:
    """Numbers of the 4-byte words of accesses, one array for each word of the widest."""
    widest = int(size.max()) if len(size) else 4
    return [(at[size > 4 * k] + 4 * k) >> 2 for k in range(max(widest // 4, 1))] or [at >> 2]


def _barriers(trace: BlockTrace, found: Values) -> None:
    """Barriers that nothing needs: no thread touches, before, what another writes behind, nor reverse."""
    epoch, word, thread, write = _touched(trace)
    needed: set[int] = set()
    if len(epoch):
        _, word = np.unique(word, return_inverse=True)
        order = np.lexsort((word, epoch))
        epoch, word, thread, write = epoch[order], word[order], thread[order], write[order]
        starts = np.flatnonzero(np.r_[True, (epoch[1:] != epoch[:-1]) | (word[1:] != word[:-1])])
        low, high = np.minimum.reduceat(thread, starts), np.maximum.reduceat(thread, starts)
        wrote_low = np.minimum.reduceat(np.where(write, thread, 1 << 30), starts)
        wrote_high = np.maximum.reduceat(np.where(write, thread, -1), starts)
        epochs, words = epoch[starts], word[starts]
        # The same words one epoch later.
        most = int(words.max()) + 1
        key, following = epochs * most + words, (epochs + 1) * most + words
        other = np.minimum(np.searchsorted(key, following), len(key) - 1)
        meets = key[other] == following
        first = (wrote_high >= 0) & ~_one(wrote_low, wrote_high, low[other], high[other])
        then = (wrote_high[other] >= 0) & ~_one(low, high, wrote_low[other], wrote_high[other])
        needed = set(epochs[meets & (first | then)].tolist())
    # What came after the last barrier that was seen is not known where the trace is cut off.
    last = max(trace.barriers, default=0) if not trace.complete else 1 << 60
    for number, instruction in trace.barriers.items():
        if number >= last:
            continue
        key_ = line_of(trace, instruction)
        values = found.setdefault(key_, {})
        values["barriers_traced"] = values.get("barriers_traced", 0.0) + 1
        values["barriers_idle"] = values.get("barriers_idle", 0.0) + (number not in needed)


def _one(a_low: Array, a_high: Array, b_low: Array, b_high: Array) -> Array:
    """Whether both sides are one thread, and the same."""
    found: Array = (a_low == a_high) & (b_low == b_high) & (a_low == b_low)
    return found


def _touched(trace: BlockTrace) -> tuple[Array, Array, Array, Array]:
    """Epoch, word, thread and whether it wrote, of every access to memory that others see."""
    parts: list[tuple[Array, Array, Array, Array]] = []
    for access in trace.accesses:
        if access.space == "local":
            continue
        # Shared addresses are small: no global one is like them.
        writes = access.write or access.instruction.opcode in ("atom", "red")
        for k in range(max(access.size // 4, 1)):
            word = (access.addresses + 4 * k) >> 2
            mark = np.full(len(word), writes)
            parts.append((access.epochs, word, access.threads, mark))
    if not parts:
        empty = np.zeros(0, np.int64)
        return empty, empty, empty, np.zeros(0, np.bool_)
    return (
        np.concatenate([p[0] for p in parts]),
        np.concatenate([p[1] for p in parts]),
        np.concatenate([p[2] for p in parts]),
        np.concatenate([p[3] for p in parts]),
    )
