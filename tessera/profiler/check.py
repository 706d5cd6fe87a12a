"""The answer of one diagnostic check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "failure", "not applicable"]
"""`warning`: works, but something is missing or odd. `not applicable`: nothing here to check."""

STATUSES: tuple[Status, ...] = ("ok", "warning", "failure", "not applicable")


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found, and what to do about it."""

    name: str
    """What was looked at, such as `numba` or `GPU driver`."""
    status: Status
    detail: str
    """What was found, measured against what is needed."""
    fix: str | None = None
    """The next command to type or thing to change; None where nothing needs doing."""


def worst(checks: tuple[Check, ...]) -> Status:
    """The gravest status among `checks`; `not applicable` for none."""
    order: tuple[Status, ...] = ("failure", "warning", "ok")
    found = {check.status for check in checks}
    return next((status for status in order if status in found), "not applicable")
