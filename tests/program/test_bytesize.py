"""Sizes in bytes as text, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.program.bytesize import format_bytes, parse_bytes

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (512 << 20, "512 MiB"),
        (5 << 30, "5.0 GiB"),
        (5 << 40, "5.0 TiB"),
    ],
)
def test_a_size_reads_well(count: int, text: str) -> None:
    assert format_bytes(count) == text


@given(st.integers(0, 2**50 - 1))
def test_a_formatted_size_is_short_and_means_about_the_same(count: int) -> None:
    text = format_bytes(count)
    assert len(text) <= 10
    read = parse_bytes(text)
    assert read is not None
    # One decimal below 100, so 0.05 of the unit at most, and the number is 1 or more.
    assert abs(read - count) <= 0.05 * count


@pytest.mark.parametrize("number", [1, 7, 1023])
@pytest.mark.parametrize("power", range(5))
def test_units_are_powers_of_1024_with_and_without_the_i(number: int, power: int) -> None:
    unit = UNITS[power]
    for text in (f"{number}{unit}", f"{number} {unit}", f"{number}{unit.replace('i', '').lower()}"):
        assert parse_bytes(text) == number * 1024**power, text


@pytest.mark.parametrize("text", ["", "GB", "four", "4XB", "-1GB", "1e9", "1 2", "0x10"])
def test_what_is_no_size_is_none(text: str) -> None:
    assert parse_bytes(text) is None
