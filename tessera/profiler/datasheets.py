"""The fastest that a device could do some work, by its datasheet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tessera.program.errors import OptionError

Precision = Literal["f32", "bf16"]


@dataclass(frozen=True, slots=True)
class Datasheet:
    """Peak rates that NVIDIA states for one GPU. None: it has no such unit."""

    name: str
    f32_tflops: float
    bf16_tflops: float | None
    """Dense, with float32 accumulation."""
    memory_tb_s: float
    capability: tuple[int, int]
    f64_tflops: float | None = None
    """Outside of tensor cores."""


DATASHEETS: dict[str, Datasheet] = {
    sheet.name: sheet
    for sheet in (
        Datasheet("V100 SXM2", 15.7, None, 0.9, (7, 0), 7.8),
        Datasheet("A100 SXM 80 GB", 19.5, 312.0, 2.039, (8, 0), 9.7),
        Datasheet("H100 SXM", 67.0, 989.0, 3.35, (9, 0), 34.0),
        Datasheet("H200 SXM", 67.0, 989.0, 4.8, (9, 0), 34.0),
        Datasheet("L4", 30.3, 121.0, 0.3, (8, 9), 30.3 / 64),
        Datasheet("L40S", 91.6, 362.0, 0.864, (8, 9), 91.6 / 64),
        Datasheet("RTX 4090", 82.6, 165.2, 1.008, (8, 9), 82.6 / 64),
    )
}
"""Source: NVIDIA's datasheet of each product (RTX 4090: the Ada architecture whitepaper); figures
given there "with sparsity" are halved; float64 of Ada, of which that whitepaper says that it is 1/64 of
float32. Always to be labelled *datasheet*."""


@dataclass(frozen=True, slots=True)
class Roofline:
    """The ceiling that a device sets for some work."""

    gpu: str
    intensity: float
    """FLOPs per byte of the work."""
    attainable_tflops: float
    """The lower of the two ceilings at that intensity."""
    bound: Literal["memory", "compute"]
    ridge: float
    """Intensity at which memory and compute ceilings meet, FLOPs per byte."""
    least_ms: float
    """Time below which the work cannot end."""


def roofline(gpu: str, *, flops: float, bytes_moved: float, precision: Precision = "f32") -> Roofline:
    """The datasheet ceiling of `gpu` for work of `flops` operations and `bytes_moved` bytes.

    Raises:
        OptionError: An unknown GPU, a precision it lacks, or work that is not positive.

    Source: Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009.
    """
    sheet = DATASHEETS.get(gpu)
    if sheet is None:
        raise OptionError(f"no datasheet for the GPU {gpu!r}", hint="known: " + ", ".join(DATASHEETS))
    peak = {"f32": sheet.f32_tflops, "bf16": sheet.bf16_tflops}.get(precision)
    if peak is None:
        raise OptionError(f"{gpu} has no {precision} rate in its datasheet", hint="precision='f32'")
    if flops <= 0 or bytes_moved <= 0:
        raise OptionError(f"a roofline needs work: {flops} FLOPs, {bytes_moved} bytes")
    intensity = flops / bytes_moved
    ridge = peak / sheet.memory_tb_s
    attainable = min(peak, intensity * sheet.memory_tb_s)
    return Roofline(
        gpu=gpu,
        intensity=intensity,
        attainable_tflops=attainable,
        bound="memory" if intensity < ridge else "compute",
        ridge=ridge,
        least_ms=flops / (attainable * 1e12) * 1e3,
    )
