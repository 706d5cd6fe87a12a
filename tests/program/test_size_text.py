"""Sizes that are written as text."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.program.dim import Expr, ceildiv, format_dim, maximum, symbol
from tessera.program.errors import SpecError
from tessera.program.size_text import parse_size
from tessera.program.spec import TensorSpec
from tests.program.test_sizes import dims

n, m = symbol("n"), symbol("m")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("n", n),
        ("12", 12),
        ("cdiv(n, 256)", ceildiv(n, 256)),
        ("ts.cdiv(n,256)", ceildiv(n, 256)),
        ("2*n + 1", 2 * n + 1),
        (" (n - 1) // 2 ", (n - 1) // 2),
        ("max(n, m) % 4", maximum(n, m) % 4),
        ("n - n + 3", 3),
    ],
)
def test_text_is_the_size_it_says(text: str, size: Any) -> None:
    assert parse_size(text) == size


@given(dims)
def test_every_size_is_read_back_as_it_is_shown(size: Any) -> None:
    text = format_dim(size)
    if (isinstance(size, Expr) or size >= 0) and len(text) <= 200:
        assert parse_size(text) == size


@given(st.text(alphabet="nm12()+-*/%, .cdivax", max_size=30))
def test_any_text_is_a_size_or_a_spec_error(text: str) -> None:
    with contextlib.suppress(SpecError):
        assert isinstance(parse_size(text), int | Expr)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no size"),
        ("n / 2", "is no size"),
        ("n**2", "is no size"),
        ("open('x', 'w')", "is no size"),
        ("n.real", "is no size"),
        ("1.5", "is no size"),
        ("n // 0", "divides by 0"),
        ("cdiv(n, -2)", "divides by -2"),
        ("2 - 5", "is -3"),
        ("+".join(["n"] * 300), "is no size"),
        ("*".join(f"({chr(97 + i)}+{chr(65 + i)})" for i in range(26)), "is no size"),
    ],
)
def test_what_is_no_size_is_refused(text: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        parse_size(text)


def test_a_spec_takes_an_expression() -> None:
    spec = TensorSpec(("n", "cdiv(n, 256)"))
    assert spec.dims("x") == (n, ceildiv(n, 256))
    assert str(spec) == "f32[n, cdiv(n, 256)]"
