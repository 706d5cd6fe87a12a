"""Actual inputs give symbols their values, or say what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.program.bind import bind_symbols
from tessera.program.dim import ceildiv, symbol
from tessera.program.dtype import f32, i32
from tessera.program.errors import InputError
from tessera.program.program import Port, Program

N, M = symbol("n"), symbol("m")
PROGRAM = Program(
    name="f",
    inputs=(
        Port(name="x", dtype=f32, shape=(N, 4)),
        Port(name="y", dtype=f32, shape=(M, N * 2)),
        Port(name="count", dtype=i32, kind="scalar"),
    ),
    outputs=(Port(name="out", dtype=f32, shape=(ceildiv(N, 2), symbol("count"))),),
)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 100))
def test_every_symbol_gets_its_size(n: int, m: int, count: int) -> None:
    values = bind_symbols(PROGRAM, {"x": (n, 4), "y": (m, 2 * n)}, {"count": count})
    assert values == {"n": n, "m": m, "count": count}


@pytest.mark.parametrize(
    ("shapes", "name", "text"),
    [
        ({"y": (1, 2)}, "x", "is missing"),
        ({"x": (3,), "y": (1, 6)}, "x", "has 1 axes, expected 2"),
        ({"x": (3, 5), "y": (1, 6)}, "x", "axis 1 is 5, expected 4"),
        ({"x": (3, 4), "y": (1, 7)}, "y", "axis 1 is 7, expected 6"),
    ],
)
def test_wrong_input_is_named_with_its_axis(shapes: dict[str, tuple[int, ...]], name: str, text: str) -> None:
    with pytest.raises(InputError, match=text) as raised:
        bind_symbols(PROGRAM, shapes)
    assert raised.value.fields["input"] == name
    assert repr(name) in raised.value.message


def test_one_symbol_with_two_values_says_both() -> None:
    program = Program(
        name="add",
        inputs=(Port(name="a", dtype=f32, shape=(N,)), Port(name="b", dtype=f32, shape=(N,))),
        outputs=(),
    )
    with pytest.raises(InputError, match=r"input 'b' .*axis 0 is 4, but n is 3"):
        bind_symbols(program, {"a": (3,), "b": (4,)})
