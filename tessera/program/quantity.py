"""Times, counts and ratios as people read them: `3.41 µs`, `137 G`, `1,365`."""

from __future__ import annotations


def format_ms(milliseconds: float) -> str:
    """A time in three digits and the unit that fits: `812 ns`, `3.41 µs`, `12.9 ms`, `1.23 s`."""
    # What rounds up to 1000 of a unit is 1 of the next: `1 ms`, not `1e+03 µs`.
    for least, factor, unit in ((999.5, 1e-3, "s"), (0.9995, 1.0, "ms"), (0.9995e-3, 1e3, "µs")):
        if abs(milliseconds) >= least:
            return f"{format_number(milliseconds * factor)} {unit}"
    return f"{milliseconds * 1e6:.3g} ns"


def format_count(count: float) -> str:
    """A count in three digits, with a prefix where it is large: `812`, `3.41 k`, `137 G`."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= factor * 0.9995:
            return f"{format_number(count / factor)} {prefix}"
    return f"{count:.3g}"


def format_decimal_bytes(count: float) -> str:
    """`12.6 MB`, in powers of 10 as bandwidths are; `bytesize.format_bytes` has those of 2, as memory is."""
    return f"{format_number(count)} B" if count < 999.5 else f"{format_count(count)}B"


def format_number(value: float) -> str:
    """Three digits, more where whole, and no exponent of what is large: `0.125`, `31.4`, `1,365`."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"
