"""Ranks, the line of best costs, and what is worth its cost."""

import random

from hypothesis import given
from hypothesis import strategies as st

from tessera.compiler.tuning.record import best
from tessera.profiler.tuning.standing import best_so_far, pareto, ranked
from tests.compiler.tuning.samples import record

COSTS = st.lists(st.none() | st.sampled_from([0.5, 1.0, 1.5, 2.0]), min_size=1, max_size=9)


def records(costs, **changes):
    return [
        record(cost, configuration={"BLOCK": i}, status="wrong" if cost is None else "ok", **changes)
        for i, cost in enumerate(costs)
    ]


@given(COSTS, st.randoms())
def test_ranks_are_those_of_the_choice_in_every_order(costs, shuffler):
    found = records(costs)
    first = ranked(found, found[0])
    shuffler.shuffle(found)
    assert [r.record for r in ranked(found)] == [r.record for r in first]
    assert [r.record for r in first if r.chosen] == [r for r in [best(found)] if r is not None]
    good = [r.record.cost_ms for r in first if r.rank is not None]
    assert good == sorted(good)
    assert len(first) == len(costs)
    assert [r.rank for r in first][: len(good)] == list(range(1, len(good) + 1))


def test_faster_is_told_against_the_reference():
    own, quick, broken = records([2.0, 0.5, None])
    assert [r.faster for r in ranked([own, quick, broken], own)] == [4.0, 1.0, None]
    assert [r.faster for r in ranked([own, quick])] == [None, None]


@given(COSTS)
def test_the_line_of_best_costs_falls_and_ends_with_the_best(costs):
    found = records(costs)
    line = best_so_far(found)
    values = [step.record.cost_ms for step in line]
    assert values == sorted(values, reverse=True)
    assert [step.tried for step in line] == sorted({step.tried for step in line})
    assert (line[-1].record if line else None) == best(found)


@given(st.lists(st.tuples(*[st.integers(1, 4)] * 3), min_size=1, max_size=12))
def test_the_front_holds_what_nothing_beats(points):
    found = [
        record(float(c), configuration={"BLOCK": i}, registers=r, shared_bytes=s)
        for i, (c, r, s) in enumerate(points)
    ]
    random.Random(1).shuffle(found)
    front = pareto(found)
    assert best(found) in front or any(r.cost_ms == best(found).cost_ms for r in front)
    point = {id(r): (r.cost_ms, r.registers, r.shared_bytes) for r in found}
    for one in found:
        beaten = any(
            all(a <= b for a, b in zip(point[id(o)], point[id(one)], strict=True))
            and point[id(o)] != point[id(one)]
            for o in found
        )
        assert (one in front) is not beaten
    assert pareto([record(1.0), record(None, status="wrong", configuration={"BLOCK": 3})]) == (record(1.0),)
