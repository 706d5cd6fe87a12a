"""The table that reads like a flame graph, and folded stacks."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.profiler.flame import Site, Stack, folded, grow
from tessera.profiler.source_lines import SourceFiles
from tessera.workbench.profile_flame import ROWS, bar, print_flame

names = st.sampled_from(["", "k", "a;b", "two\nlines", "  "])
sites = st.builds(Site, names, st.just("a.py"), st.integers(1, 9))
stacks = st.lists(
    st.builds(Stack, st.lists(sites, min_size=1, max_size=4).map(tuple), st.integers(1, 10**6)), max_size=20
)


@given(stacks)
def test_folded_stacks_have_the_whole_weight_and_keep_the_format(given_stacks: list[Stack]) -> None:
    lines = folded(given_stacks, "the program").splitlines()
    assert all(re.fullmatch(r"the program(;[^;\n]+)+ \d+", line) for line in lines)
    assert sum(int(line.rsplit(" ", 1)[1]) for line in lines) == sum(s.weight for s in given_stacks)
    assert len({line.rsplit(" ", 1)[0] for line in lines}) == len(lines)


@given(stacks)
def test_totals_are_own_work_and_all_that_is_below(given_stacks: list[Stack]) -> None:
    pending = [grow(given_stacks)]
    while pending:
        branch = pending.pop()
        assert branch.total == branch.own + sum(b.total for b in branch.below.values())
        ordered = [b.total for b in branch.ordered()]
        assert ordered == sorted(ordered, reverse=True)
        pending += branch.below.values()


def test_every_heavy_kernel_has_its_heaviest_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Many middling lines of one kernel must not leave the other without any."""
    many = [Stack((Site("first"), Site("", "a.py", n)), 20) for n in range(1, 31)]
    print_flame([*many, Stack((Site("second"), Site("", "b.py", 5)), 300)], "instructions", SourceFiles())
    said = capsys.readouterr().out
    assert "first" in said
    assert "b.py:5" in said
    # Title and rule of the table, and its lines above and below.
    assert len([line for line in said.splitlines() if "%" in line]) == ROWS
    assert f"and {33 - ROWS} smaller ones" in said


def test_nothing_counted_is_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_flame([], "samples", SourceFiles())
    assert capsys.readouterr().out == ""


@given(st.floats(-1, 2), st.integers(1, 40))
def test_bars_have_at_most_their_length(share: float, length: int) -> None:
    drawn = bar(share, length)
    assert 1 <= len(drawn) <= length
    if share >= 1:
        assert drawn == "█" * length
