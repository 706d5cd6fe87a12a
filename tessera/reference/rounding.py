"""From the type computed in to the dtype stored, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from tessera.program.dtype import DType, bf16, f8e4m3, f8e5m2, f64

Array = np.ndarray[Any, np.dtype[Any]]

FP8_MAX: dict[DType, float] = {f8e4m3: 448.0, f8e5m2: 57344.0}
"""Largest finite value. Source: OCP 8-bit Floating Point Specification, table 1."""


def compute_type(dtype: DType, *, double: bool) -> np.dtype[Any]:
    """The NumPy type in which an operator on `dtype` computes."""
    if not dtype.is_float:
        return dtype.numpy
    return np.dtype(np.float64 if double or dtype == f64 else np.float32)


def round_to(values: Array, dtype: DType) -> Array:
    """`values` stored as `dtype`: floats to nearest even, 8-bit floats saturating as PTX's
    `cvt.rn.satfinite` does; integers cut off toward zero, anything not 0 is True.

    A float beyond the range of an integer, or NaN, gives an unspecified integer.
    """
    target = dtype.numpy
    if values.dtype == target:
        return values
    with np.errstate(all="ignore"):
        if dtype in FP8_MAX:
            limit = np.float32(FP8_MAX[dtype])
            return np.clip(values.astype(np.float32), -limit, limit).astype(target)
        if dtype == bf16:
            # By way of f32, as the hardware does it.
            return values.astype(np.float32).astype(target)
        return values.astype(target)
