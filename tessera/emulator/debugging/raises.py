"""Python exceptions in kernels: Numba's debug mode notes the first, and ends the thread without a word."""

from __future__ import annotations

import numpy as np

from tessera.emulator.activation import Activation
from tessera.emulator.lanes import Array
from tessera.emulator.ptx import Instruction, ParamList, Symbol

SUFFIX = "_raise"
"""How the name of the function ends that notes an exception."""
_FINE = (0, -2)
"""Codes of a kernel that returns nothing: it ended as it should."""


def threads_that_raise(top: Activation, instruction: Instruction) -> Array:
    """Numbers of the threads that a call is about to end with an exception."""
    target, *arguments = instruction.operands
    if not isinstance(target, Symbol) or not target.name.endswith(SUFFIX):
        return np.zeros(0, np.int64)
    given = arguments[0].elements[0] if arguments and isinstance(arguments[0], ParamList) else None
    if not isinstance(given, Symbol) or given.name not in top.frame.local_at:
        return np.zeros(0, np.int64)
    codes = np.ascontiguousarray(top.frame.param(given.name, 4)).view(np.int32)[:, 0]
    return np.flatnonzero(top.going & ~np.isin(codes, _FINE))
