"""Random registers of matrix fragments, and how results are compared."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
BITS = {
    "f64": 64,
    "f32": 32,
    "tf32": 32,
    "s32": 32,
    "f16": 16,
    "bf16": 16,
    "e4m3": 8,
    "e5m2": 8,
    "s8": 8,
    "u8": 8,
}
FRACTIONS = {"f64": 52, "f32": 23, "tf32": 23, "f16": 10, "bf16": 7, "e4m3": 3, "e5m2": 2}


def elements(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> Array:
    """Elements of a floating type as unsigned integers: numbers near 1, and zeros, subnormal numbers,
    infinities and NaN in a few rows.
    """
    bits, fraction = BITS[kind], FRACTIONS[kind]
    raw = rng.integers(0, 1 << bits, shape, np.uint64)
    exponent = bits - 1 - fraction
    bias = (1 << exponent - 1) - 1
    spread = min(6, bias - 1)
    near = rng.integers(bias - spread, bias + spread, shape).astype(np.uint64) << np.uint64(fraction)
    keep = np.uint64((1 << fraction) - 1 | 1 << bits - 1)
    ordinary = raw & keep | near
    top = np.uint64((1 << exponent) - 1 << fraction)
    special = np.array(
        [
            0,
            1 << bits - 1,
            1,
            (1 << fraction) - 1,
            int(top),
            int(top) | 1 << bits - 1,
            int(top) | 1,
            int(top) - 1,
        ],
        np.uint64,
    )
    odd = rng.choice(special, shape)
    rows = rng.random(shape[0]) < 0.15
    chosen = rows.reshape(-1, *[1] * (len(shape) - 1)) & (rng.random(shape) < 0.1)
    found: Array = np.where(
        chosen, odd, np.where(rng.random(shape) < 0.1, special[rng.integers(0, 4, shape)], ordinary)
    )
    return found.astype(np.dtype(f"u{bits // 8}"))


def registers(rng: np.random.Generator, kind: str, threads: int, count: int) -> Array:
    """(threads, count): registers full of elements."""
    word = np.uint64 if kind == "f64" else np.uint32
    if kind not in FRACTIONS:
        return rng.integers(0, 1 << 32, (threads, count)).astype(word)
    per = np.dtype(word).itemsize * 8 // BITS[kind]
    return np.ascontiguousarray(elements(rng, kind, (threads, count * per))).view(word)


def fragments(
    rng: np.random.Generator, kinds: tuple[str, str, str], counts: tuple[int, ...], threads: int
) -> Array:
    """(threads, registers): those of A, B and C of these kinds, side by side."""
    groups = zip(kinds, counts, strict=True)
    return np.concatenate([registers(rng, kind, threads, count) for kind, count in groups], axis=1)


def agree(ours: Array, theirs: Array, kind: str) -> bool:
    """Whether registers hold the same bits. Which NaN an f64 result is has no meaning."""
    if kind != "f64":
        return bool((ours == theirs).all())
    a, b = ours.view(np.float64), theirs.view(np.float64)
    return bool(((ours == theirs) | (np.isnan(a) & np.isnan(b))).all())
