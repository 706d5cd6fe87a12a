"""Numbers from traces, compared with plain loops over random accesses."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.emulator.block_trace import BlockTrace, TracedAccess
from tessera.emulator.ptx import Function, Instruction, Module
from tessera.profiler.rules.traced import NEAR, traced_values

LOAD, STORE, ATOMIC = "ld", "st", "atom"
Step = tuple[str, int, int, int]
"""Opcode, space (0: global, 1: shared), thread, place; every step is an instruction of its own."""
STEPS = st.lists(
    st.tuples(
        st.sampled_from((LOAD, STORE, ATOMIC)), st.integers(0, 1), st.integers(0, 3), st.integers(0, 4)
    ),
    min_size=1,
    max_size=40,
)


def traced(steps: list[Step], epochs: list[int]) -> BlockTrace:
    """A block whose accesses are these, one thread at a time; line 1 loads, 2 stores, 3 is an atomic."""
    function = Function("k", is_entry=True, params=(), results=())
    trace = BlockTrace(function, Module(files={1: "k.py"}), 64, (0, 0, 0), shared_bytes=64)
    for number, ((opcode, space, thread, place), epoch) in enumerate(zip(steps, epochs, strict=True)):
        line = (LOAD, STORE, ATOMIC).index(opcode) + 1
        name = ("global", "shared")[space]
        instruction = Instruction(opcode, (name, "f32"), (), number, file=1, source_line=line)
        trace.accesses.append(
            TracedAccess(
                instruction, name, opcode == STORE, 4, np.array([thread]),
                np.array([(1 << 32) * (1 - space) + 4 * place]), np.array([epoch]),
            )
        )  # fmt: skip
    for epoch in range(max(epochs)):
        trace.barriers[epoch] = Instruction("bar", ("sync",), (), 99, file=1, source_line=9)
    return trace


def repeats(steps: list[Step]) -> dict[str, int]:
    """What threads load that they have, and store in vain, by looking back and ahead."""
    own = [s for s in steps if s[1] == 0]
    found = {"global_ld_again": 0, "global_ld_own": 0, "global_st_overwritten": 0}
    loads: dict[int, int] = {}
    rank = []
    for opcode, _, thread, _ in own:
        loads[thread] = loads.get(thread, 0) + (opcode == LOAD)
        rank.append(loads[thread])
    for i, (opcode, _, thread, place) in enumerate(own):
        before = [j for j in range(i) if own[j][3] == place]
        mine = [j for j in before if own[j][2] == thread]
        after = [j for j in range(i + 1, len(own)) if own[j][3] == place]
        if opcode == STORE and after and own[after[0]][0] == STORE and own[after[0]][2] == thread:
            found["global_st_overwritten"] += 1
        if opcode != LOAD or not mine or rank[i] - rank[mine[-1]] > NEAR:
            continue
        writes = [j for j in before if own[j][0] != LOAD]
        if own[mine[-1]][0] == LOAD and (not writes or writes[-1] < mine[-1]):
            found["global_ld_again"] += 1
        if own[mine[-1]][0] == STORE and writes[-1] == mine[-1]:
            found["global_ld_own"] += 1
    return found


@given(STEPS)
@settings(max_examples=200, deadline=None)
def test_repeated_loads_and_vain_stores_are_those_of_a_plain_search(steps: list[Step]) -> None:
    lines, _ = traced_values(traced(steps, [0] * len(steps)))
    totals = {name: sum(v.get(name, 0) for v in lines.values()) for name in repeats(steps)}
    assert totals == repeats(steps)


@given(STEPS, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_barriers_are_idle_where_no_pair_of_threads_meets(steps: list[Step], random: object) -> None:
    epochs = sorted(random.randrange(4) for _ in steps)  # type: ignore[attr-defined]
    needed = {
        a
        for (x, a) in zip(steps, epochs, strict=True)
        for (y, b) in zip(steps, epochs, strict=True)
        if b == a + 1 and x[1] == y[1] and x[3] == y[3] and x[2] != y[2] and {x[0], y[0]} != {LOAD}
    }
    lines, _ = traced_values(traced(steps, epochs))
    values = lines.get(("k.py", 9), {})
    assert values.get("barriers_traced", 0) == max(epochs)
    assert values.get("barriers_idle", 0) == max(epochs) - len(needed)


@pytest.mark.parametrize(("stride", "count", "bytes_"), [(4, 4, 16), (2, 2, 8), (8, 4, 0), (1, 2, 0)])
def test_neighbours_are_a_vector_where_threads_lie_side_by_side(stride: int, count: int, bytes_: int) -> None:
    trace = traced([(LOAD, 0, 0, 0)], [0])
    first = trace.accesses.pop()
    threads = np.arange(64)
    for k in range(count):
        at = (1 << 32) + 4 * (stride * threads + k)
        trace.accesses.append(replace(first, threads=threads, addresses=at, epochs=0 * threads))
    lines, _ = traced_values(trace)
    values = lines["k.py", 1]
    assert values.get("vector_ld_bytes", 0) == bytes_
    assert values.get("vector_ld_members", 0) == (64 * count if bytes_ else 0)
