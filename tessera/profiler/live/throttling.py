"""Why a GPU runs slower than it could, in words.

Source: nvml.h, nvmlClocksEventReasons.
"""

from __future__ import annotations

from typing import NamedTuple


class Reason(NamedTuple):
    """One bit of the driver's answer."""

    bit: int
    word: str
    """Short, for a table."""
    meaning: str
    slows: bool
    """Whether it takes speed from a kernel that runs; idling and settings do not count."""


REASONS: tuple[Reason, ...] = (
    Reason(0x001, "idle", "nothing runs", slows=False),
    Reason(0x002, "set clocks", "clocks were set by an application or administrator", slows=False),
    Reason(0x004, "power cap", "the power limit is reached", slows=True),
    Reason(0x008, "hw slowdown", "hardware halves the clocks: heat or power", slows=True),
    Reason(0x010, "sync boost", "held to the clocks of its sync boost group", slows=True),
    Reason(0x020, "heat", "the driver lowers the clocks: too hot", slows=True),
    Reason(0x040, "hw heat", "hardware lowers the clocks: too hot", slows=True),
    Reason(0x080, "power brake", "the power supply asks for less", slows=True),
    Reason(0x100, "display", "held to the clocks of a display", slows=False),
    Reason(0x200, "board limit", "the board's own limit is reached", slows=True),
    Reason(0x400, "reliability", "held down for the voltage to stay reliable", slows=True),
)


def reasons(bits: int) -> tuple[Reason, ...]:
    """The reasons that are set; bits that no driver of our time has are named by their number."""
    known = tuple(reason for reason in REASONS if bits & reason.bit)
    rest = bits & ~sum(reason.bit for reason in REASONS)
    return (
        (*known, Reason(rest, f"bits {rest:#x}", "a reason that is newer than Tessera", slows=True))
        if (rest)
        else known
    )


def describe(bits: int | None) -> str:
    """`power cap, heat`; `none`, or `N/A`."""
    if bits is None:
        return "N/A"
    return ", ".join(reason.word for reason in reasons(bits)) or "none"
