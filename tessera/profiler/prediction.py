"""How long counted work takes at least on a GPU, by the rates of its datasheet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tessera.profiler.datasheet import Datasheet
from tessera.profiler.datasheets import DATASHEETS

if TYPE_CHECKING:
    from tessera.emulator.counters import Sums

TENSOR_SHARE = {
    "f16": 1.0,
    "bf16": 1.0,
    "tf32": 0.5,
    "s8": 2.0,
    "u8": 2.0,
    "e4m3": 2.0,
    "e5m2": 2.0,
}
"""Rate of tensor cores by the type of A, over that for bf16. Source: NVIDIA's Ampere, Ada and Hopper
architecture whitepapers."""
TENSOR_PIPES = {"s8": "i8 tensor", "u8": "i8 tensor", "e4m3": "f8 tensor", "e5m2": "f8 tensor"}
"""Units by the type of A, where they are not called what the type is."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The least time on one GPU: a ceiling of the datasheet, not a measurement."""

    gpu: str
    arithmetic_ms: float | None
    """Of all operations at the rates of their precisions; None where the datasheet has no rate for one."""
    best_memory_ms: float
    """If each input and output passes through memory once: with perfect caches."""
    worst_memory_ms: float
    """If every sector that was touched comes from memory: with no cache at all."""

    @property
    def best_ms(self) -> float:
        """The shorter of the two bounds that perfect and absent caches set."""
        return max(self.arithmetic_ms or 0.0, self.best_memory_ms)

    @property
    def worst_ms(self) -> float:
        """The longer of them."""
        return max(self.arithmetic_ms or 0.0, self.worst_memory_ms)

    @property
    def bound(self) -> Literal["memory", "arithmetic", "either"]:
        """What sets the time: `either` if caches decide."""
        arithmetic = self.arithmetic_ms or 0.0
        if arithmetic >= self.worst_memory_ms:
            return "arithmetic"
        return "memory" if arithmetic <= self.best_memory_ms else "either"


def predict(sums: Sums, once_bytes: int) -> tuple[Prediction, ...]:
    """The least time of counted work, for every GPU with a datasheet.

    Args:
        sums: What was counted.
        once_bytes: Bytes of inputs and outputs, each counted once.

    Source: Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009.
    """
    moved = sums.memory("global").moved_bytes + sums.memory("local").moved_bytes
    # What is never touched is never moved.
    least = min(once_bytes, moved)
    return tuple(
        Prediction(
            gpu=sheet.name,
            arithmetic_ms=_arithmetic_ms(sums, sheet),
            best_memory_ms=least / (sheet.memory_tb_s * 1e12) * 1e3,
            worst_memory_ms=moved / (sheet.memory_tb_s * 1e12) * 1e3,
        )
        for sheet in DATASHEETS.values()
    )


def _arithmetic_ms(sums: Sums, sheet: Datasheet) -> float | None:
    seconds = 0.0
    for pipe, count in operations(sums).items():
        rate = sheet.rate(pipe)
        if rate is None:
            return None
        seconds += count / (rate * 1e12)
    return seconds * 1e3


def operations(sums: Sums) -> dict[str, int]:
    """Counted operations by the kind of units that does them: `f32`, `bf16 tensor`.

    Float16 arithmetic outside of tensor cores counts as float32's: no GPU is slower at it.
    """
    found: dict[str, int] = {}
    scalar = [("f64" if p == "fp64" else "f32", count) for p, count in sums.flops_by_precision().items()]
    tensor = [(TENSOR_PIPES.get(a, f"{a} tensor"), count) for a, count in sums.tensor_flops_by_type().items()]
    for pipe, count in (*scalar, *tensor):
        found[pipe] = found.get(pipe, 0) + count
    return found
