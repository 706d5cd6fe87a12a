"""What NVIDIA states about one GPU: a row of the table of datasheets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["f64", "f32", "tf32", "f16", "bf16", "f8", "i8"]


@dataclass(frozen=True, slots=True)
class Datasheet:
    """Peak rates that NVIDIA states for one GPU, dense, in 10^12 operations a second.

    None: it has no such unit, or no document of NVIDIA's says how fast it is.
    """

    name: str
    f32_tflops: float
    """Outside of tensor cores, as all that is not called tensor."""
    bf16_tflops: float | None
    """Tensor cores, with float32 sums, as those below."""
    memory_tb_s: float
    capability: tuple[int, int]
    f64_tflops: float | None = None
    multiprocessors: int = 0
    f64_tensor_tflops: float | None = None
    tf32_tflops: float | None = None
    f16_tflops: float | None = None
    f8_tflops: float | None = None
    i8_tops: float | None = None
    l2_bytes_per_clock: int | None = None
    """Reads of the L2 cache, all multiprocessors together."""
    boost_ghz: float | None = None
    document: str = ""
    """Where the figures stand."""
    aliases: tuple[str, ...] = ()
    """Further names, such as the driver's."""
    l2_document: str = ""
    """Where the figure of the L2 cache stands."""

    def rate(self, pipe: str) -> float | None:
        """The rate of one of the `PIPES`, in 10^12 operations a second; None of any other."""
        value: float | None = getattr(self, PIPES[pipe]) if pipe in PIPES else None
        return value

    @property
    def l2_tb_s(self) -> float | None:
        """Reads of the L2 cache at the boost clock, computed from its width."""
        if self.l2_bytes_per_clock is None or self.boost_ghz is None:
            return None
        return self.l2_bytes_per_clock * self.boost_ghz / 1e3

    @property
    def shared_tb_s(self) -> float:
        """Shared memory of all multiprocessors: 128 bytes a clock each, at the clock of the float32 rate.

        Source: CUDA C++ Programming Guide, "Compute Capabilities", 32 banks of 4 bytes.
        """
        return 128 * self.f32_tflops / (2 * f32_lanes(self.capability))


PIPES: dict[str, str] = {
    "f64": "f64_tflops",
    "f32": "f32_tflops",
    "f64 tensor": "f64_tensor_tflops",
    "tf32 tensor": "tf32_tflops",
    "bf16 tensor": "bf16_tflops",
    "f16 tensor": "f16_tflops",
    "f8 tensor": "f8_tflops",
    "i8 tensor": "i8_tops",
}
"""Kinds of units and the field that has their rate."""
PRECISION_PIPES: dict[Precision, str] = {
    "f64": "f64",
    "f32": "f32",
    "tf32": "tf32 tensor",
    "f16": "f16 tensor",
    "bf16": "bf16 tensor",
    "f8": "f8 tensor",
    "i8": "i8 tensor",
}
"""The fastest units for a precision."""


def f32_lanes(capability: tuple[int, int]) -> int:
    """Single-precision units of a multiprocessor.

    Source: CUDA C++ Programming Guide, "Arithmetic Instructions".
    """
    return 64 if capability in ((7, 0), (7, 2), (7, 5), (8, 0)) else 128
