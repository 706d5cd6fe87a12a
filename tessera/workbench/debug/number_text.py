"""One value of a program as text."""

from __future__ import annotations

from typing import Any

import numpy as np

from tessera.workbench.failure import visible

NONE = "·"
"""Stands for a value that there is not."""


def number_text(value: Any, digits: int | None = None) -> str:
    """A value, as short as it can be read; floats with so many digits, by default those that they have."""
    if value is None:
        return NONE
    if isinstance(value, (bool, np.bool_)):
        return "True" if value else "False"
    if isinstance(value, (float, np.floating)):
        return _float_text(value, digits)
    if isinstance(value, tuple):
        return "(" + ", ".join(number_text(v) for v in value) + ")"
    return visible(str(value))


def _float_text(value: Any, digits: int | None) -> str:
    own = {2: 4, 4: 7}.get(getattr(getattr(value, "dtype", None), "itemsize", 8), 12)
    return f"{float(value):.{digits or own}g}"
