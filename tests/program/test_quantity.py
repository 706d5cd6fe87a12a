"""Times, counts and ratios as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.program.quantity import format_count, format_ms, format_number

MS = {"ns": 1e-6, "µs": 1e-3, "ms": 1.0, "s": 1e3}
PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0 ns"),
        (8.12e-4, "812 ns"),
        (3.412e-3, "3.41 µs"),
        (0.9994, "999 µs"),
        (0.9996, "1 ms"),
        (999.6, "1 s"),
        (1234.0, "1.23 s"),
        (7_200_000.0, "7,200 s"),
        (-0.25, "-250 µs"),
    ],
)
def test_a_time_has_the_unit_that_fits(milliseconds: float, text: str) -> None:
    assert format_ms(milliseconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (812, "812"), (3412, "3.41 k"), (999_600, "1 M"), (137e9, "137 G"), (1.25e16, "12,500 T")],
)
def test_a_count_has_the_prefix_that_fits(count: float, text: str) -> None:
    assert format_count(count) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.125, "0.125"), (31.42, "31.4"), (999.6, "1,000"), (1365.3, "1,365")]
)
def test_a_number_has_three_digits_or_is_whole(value: float, text: str) -> None:
    assert format_number(value) == text


@given(st.floats(1e-6, 1e8))
def test_a_time_reads_back_within_its_digits_and_without_an_exponent(milliseconds: float) -> None:
    number, unit = format_ms(milliseconds).split(" ")
    assert "e" not in number
    assert float(number.replace(",", "")) * MS[unit] == pytest.approx(milliseconds, rel=5.1e-3)


@given(st.floats(1e-3, 1e16))
def test_a_count_reads_back_within_its_digits_and_without_an_exponent(count: float) -> None:
    number, _, prefix = format_count(count).partition(" ")
    assert "e" not in number
    assert float(number.replace(",", "")) * PREFIXES[prefix] == pytest.approx(count, rel=5.1e-3)
