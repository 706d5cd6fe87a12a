"""Operators as table rows: what each is called on, and NumPy's own answer in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import tessera as ts
from tessera.program.dim import evaluate
from tessera.program.dtype import DTYPES
from tessera.program.errors import TesseraError
from tessera.program.size_text import parse_size

Array = np.ndarray[Any, np.dtype[Any]]
FLOATS = ("f64", "f32", "f16", "bf16")
INTEGERS = ("i64", "i32", "i16", "i8", "u8")

TOLERANCE = {
    "f64": 1e-12, "f32": 3e-6, "tf32": 3e-6, "f16": 3e-3, "bf16": 2e-2, "f8e4m3": 7e-2, "f8e5m2": 1.4e-1,
}  # fmt: skip
"""Largest error relative to the largest result: the rounding of inputs' and results' dtype, and sums of some
hundred terms in float32."""


@dataclass(frozen=True, slots=True)
class Case:
    """One use of an operator."""

    name: str
    call: Callable[..., Any]
    """On tensors."""
    oracle: Callable[..., Any]
    """The same on NumPy arrays, floats in float64."""
    shapes: tuple[tuple[int | str, ...], ...]
    """Shapes of the operands; words are sizes known when it runs."""
    dtypes: tuple[str, ...] = FLOATS
    """Dtypes of the operands that have none in `fixed`."""
    fixed: Mapping[int, str] | None = None
    """Dtypes of operands that do not vary."""
    low: float = -2.0
    high: float = 2.0
    least: int = 1
    """Smallest value of a symbolic size."""
    slack: float = 1.0
    """How many times the tolerance it may be off."""
    make: Callable[[np.random.Generator, Sequence[tuple[int, ...]]], Sequence[Array]] | None = None
    """The operands, where random numbers will not do."""

    @property
    def multiplies(self) -> bool:
        """Whether it is made of matrix products, which may round operands of tf32 to 10 bits."""
        return self.name.startswith(("matmul", "linear", "conv", "einsum", "lstm", "gru"))

    def specs(self, dtype: str) -> list[ts.TensorSpec]:
        """Of the operands."""
        return [ts.TensorSpec(shape, self.dtype_of(i, dtype)) for i, shape in enumerate(self.shapes)]

    def dtype_of(self, position: int, dtype: str) -> str:
        return (self.fixed or {}).get(position, dtype)

    def claimed(self) -> list[str]:
        """The dtypes that the language takes for the operands that vary."""
        found = []
        for dtype in DTYPES:
            try:
                self.traced(dtype).trace(self.specs(dtype))
            except TesseraError:
                continue
            found.append(dtype)
        return found

    def traced(self, dtype: str) -> Any:
        """The call as a tensor function of the operands."""
        # Parameters that lambdas hold by default are Python's own, not inputs.
        names = ", ".join(f"x{i}" for i in range(len(self.shapes)))
        return ts.jit(
            eval(f"lambda {names}: call({names})", {"call": self.call}), name=f"{self.name}_{dtype}"
        )

    def symbols(self) -> list[str]:
        return sorted({s for shape in self.shapes for s in shape if isinstance(s, str) and s.isidentifier()})

    def operands(self, dtype: str, sizes: Mapping[str, int], rng: np.random.Generator) -> list[Array]:
        """Random ones, rounded to their dtypes."""
        shapes = [
            tuple(evaluate(parse_size(s), sizes) if isinstance(s, str) else s for s in shape)
            for shape in self.shapes
        ]
        made = self.make(rng, shapes) if self.make else [None] * len(shapes)
        return [
            random_array(rng, shape, self.dtype_of(i, dtype), self.low, self.high)
            if value is None
            else np.asarray(value).astype(ts.TensorSpec((), self.dtype_of(i, dtype)).dtype.numpy)
            for i, (shape, value) in enumerate(zip(shapes, made, strict=True))
        ]

    def exact(self, operands: Sequence[Array]) -> list[Array]:
        """NumPy's answers."""
        wide = [a.astype(np.float64) if a.dtype.kind in "fV" else a for a in operands]
        with np.errstate(all="ignore"):
            found = self.oracle(*wide)
        return [np.asarray(v) for v in (found if isinstance(found, tuple) else (found,))]


def random_array(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: str, low: float, high: float
) -> Array:
    kind = ts.TensorSpec((), dtype).dtype
    if kind.kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if not kind.is_float:
        least = 0 if kind.kind == "uint" else -9
        return rng.integers(max(least, int(low) * 5), 10, shape).astype(kind.numpy)
    return rng.uniform(low, high, shape).astype(kind.numpy)


def close(found: Array, exact: Array, dtype: str, slack: float, what: str) -> None:
    """Within the tolerance, relative to the largest result; NaN and infinity where they belong."""
    assert found.shape == exact.shape, f"{what}: {found.shape} is not {exact.shape}"
    if found.dtype.kind in "biu":
        np.testing.assert_array_equal(found, exact, err_msg=what)
        return
    got = found.astype(np.float64)
    finite = np.isfinite(exact)
    np.testing.assert_array_equal(got[~finite], exact[~finite], err_msg=what)
    scale = max(float(np.abs(exact[finite]).max(initial=0)), 1e-3)
    error = float(np.abs(got[finite] - exact[finite]).max(initial=0))
    assert error <= TOLERANCE[dtype] * slack * scale, f"{what}: off by {error:.3g}, results up to {scale:.3g}"
