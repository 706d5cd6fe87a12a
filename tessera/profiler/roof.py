"""Rooflines: the ceilings of a GPU, each with where its figure comes from, and where work lies below them.

Everything here is data, ready to be drawn: rates in 10^12 operations a second (TFLOP/s, TOP/s), bandwidths in
TB/s, intensities in operations per byte.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tessera.profiler.datasheet import PIPES, PRECISION_PIPES, Datasheet, Precision
from tessera.profiler.datasheets import find_datasheet
from tessera.program.errors import OptionError

CeilingOrigin = Literal["datasheet", "computed", "measured"]
"""`computed`: by a formula from figures of a datasheet; `measured`: reached by a kernel on the GPU named."""
Bound = Literal["launch", "latency", "memory", "compute"]


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What a GPU cannot do faster; or the fastest that was measured on one."""

    name: str
    """`f32`, `bf16 tensor`; `DRAM`, `L2`, `shared memory`."""
    kind: Literal["compute", "memory"]
    rate: float
    """In `unit`."""
    unit: Literal["TFLOP/s", "TOP/s", "TB/s"]
    origin: CeilingOrigin
    source: str
    """The document, formula or measurement."""

    @property
    def label(self) -> str:
        """`bf16 tensor 989 TFLOP/s (datasheet)`."""
        return f"{self.name} {self.rate:,.4g} {self.unit} ({self.origin})"


@dataclass(frozen=True, slots=True)
class RooflinePoint:
    """One kernel, or a whole program, under the ceilings of a GPU."""

    name: str
    pipe: str
    """The ceiling of arithmetic that limits it, as compute ceilings are called; empty where it has none."""
    operations: float
    """Of that pipe."""
    bytes: float
    """To and from memory at the least: what is read and written, each once."""
    worst_bytes: float
    """Of every sector touched, as if there were no cache; `bytes` where that was not counted."""
    attainable: float | None
    """10^12 operations a second at its intensity, under the DRAM ceiling; None without arithmetic."""
    predicted_ms: float
    """One execution, launches included."""
    bound: Bound
    verdict: str
    """In words, with figures."""
    remedy: str
    """What to try."""
    origin: str
    """Where operations and bytes come from: `emulated, PTX level` or `graph`."""
    measured_ms: float | None = None
    """Where somebody has measured it."""

    @property
    def intensity(self) -> float | None:
        """Operations per byte; None where it moves or computes nothing."""
        return self.operations / self.bytes if self.bytes and self.operations else None

    @property
    def reached(self) -> float | None:
        """10^12 operations a second as measured; None where nobody has."""
        return self.operations / self.measured_ms / 1e9 if self.measured_ms and self.operations else None


@dataclass(frozen=True, slots=True)
class RooflineChart:
    """All that a drawing of one GPU's roofline shows."""

    gpu: str
    ceilings: tuple[Ceiling, ...]
    points: tuple[RooflinePoint, ...] = ()
    notes: tuple[str, ...] = ()
    """What the figures leave out, in words."""

    def ceiling(self, name: str, origin: CeilingOrigin | None = None) -> Ceiling:
        """A ceiling by its name; the first, which is never a measured one, if no origin is named.

        Raises:
            OptionError: This GPU has none of that name.
        """
        for each in self.ceilings:
            if each.name == name and origin in (None, each.origin):
                return each
        known = ", ".join(dict.fromkeys(c.name for c in self.ceilings))
        raise OptionError(f"{self.gpu} has no ceiling {name!r}", hint=f"known: {known}")

    def ridge(self, pipe: str, level: str = "DRAM") -> float:
        """Operations per byte at which a compute and a memory ceiling meet."""
        return self.ceiling(pipe).rate / self.ceiling(level).rate

    def roof(
        self, pipe: str, level: str = "DRAM", *, least: float = 0.01, most: float = 1e4
    ) -> tuple[tuple[float, float], ...]:
        """Corners of the roof that two ceilings make: (intensity, 10^12 operations a second).

        Args:
            pipe: Name of a compute ceiling.
            level: Name of a memory ceiling.
            least: Intensity at which the line begins.
            most: Intensity at which it ends.
        """
        top, slope = self.ceiling(pipe).rate, self.ceiling(level).rate
        between = [top / slope] if least < top / slope < most else []
        return tuple((x, min(top, x * slope)) for x in (least, *between, most))


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


_H200_RUN = "H200, 2026-11-23, driver 580.159, CUDA events; docs/matmul.md"
MEASURED: dict[str, tuple[Ceiling, ...]] = {
    "H200 SXM": tuple(
        Ceiling(f"{kind} tensor", "compute", rate, "TOP/s" if kind == "i8" else "TFLOP/s", "measured",
                f"{what} by Tessera on one {_H200_RUN}")
        for kind, rate, what in (
            ("tf32", 408.0, "4096 × 4096 × 4096"),
            ("bf16", 767.0, "4096 × 4096 × 4096"),
            ("f16", 750.0, "8192 × 8192 × 8192"),
            ("f8", 1483.0, "8192 × 8192 × 8192"),
            ("i8", 1561.0, "8192 × 8192 × 8192"),
        )
    )
}  # fmt: skip
"""The fastest products of matrices that were measured on a GPU of the model: what its clock under load leaves
of the datasheet's rate. There is no measurement of DRAM or L2 bandwidth."""


def ceilings(gpu: str) -> tuple[Ceiling, ...]:
    """The ceilings of a GPU model: arithmetic from slow to fast, memory from near to far, then measured ones.

    Raises:
        OptionError: No GPU is called that; the hint lists near names.
    """
    sheet = find_datasheet(gpu)
    return (*_compute_ceilings(sheet), *_memory_ceilings(sheet), *MEASURED.get(sheet.name, ()))


def _compute_ceilings(sheet: Datasheet) -> tuple[Ceiling, ...]:
    found = []
    for pipe in PIPES:
        rate = sheet.rate(pipe)
        if rate is not None:
            unit: Literal["TOP/s", "TFLOP/s"] = "TOP/s" if pipe == "i8 tensor" else "TFLOP/s"
            found.append(Ceiling(pipe, "compute", rate, unit, "datasheet", sheet.document))
    return tuple(sorted(found, key=lambda c: c.rate))


def _memory_ceilings(sheet: Datasheet) -> tuple[Ceiling, ...]:
    found = [
        Ceiling("shared memory", "memory", sheet.shared_tb_s, "TB/s", "computed",
                f"128 bytes a clock × {sheet.multiprocessors} multiprocessors, at the clock of the float32 "
                "rate; CUDA C++ Programming Guide")
    ]  # fmt: skip
    if sheet.l2_tb_s is not None:
        formula = f"{sheet.l2_bytes_per_clock} bytes a clock at {sheet.boost_ghz} GHz; {sheet.l2_document}"
        found.append(Ceiling("L2", "memory", sheet.l2_tb_s, "TB/s", "computed", formula))
    found.append(Ceiling("DRAM", "memory", sheet.memory_tb_s, "TB/s", "datasheet", sheet.document))
    return tuple(found)


def roofline_chart(gpu: str, points: Sequence[RooflinePoint] = ()) -> RooflineChart:
    """The roofline of a GPU model with points of work in it: pure data, for whoever draws it.

    Args:
        gpu: Name of a model, such as `H200`, `A100 PCIe 40 GB`, or what the driver calls it.
        points: From `tessera.profiler.verdict.judge`.

    Raises:
        OptionError: No GPU is called that, or several are; the hint lists near names.

    Source: Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009.
    """
    sheet = find_datasheet(gpu)
    notes = (
        [] if sheet.l2_tb_s else [f"no document of NVIDIA's says how fast the L2 cache of {sheet.name} is"]
    )
    if sheet.bf16_tflops is None and sheet.f16_tflops is None:
        notes.append(f"no document of NVIDIA's gives dense rates of the tensor cores of {sheet.name}")
    return RooflineChart(sheet.name, ceilings(sheet.name), tuple(points), tuple(notes))


def roofline(gpu: str, *, flops: float, bytes_moved: float, precision: Precision = "f32") -> Roofline:
    """The datasheet ceiling of `gpu` for work of `flops` operations and `bytes_moved` bytes.

    Raises:
        OptionError: An unknown GPU, a precision it lacks, or work that is not positive.

    Source: Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009.
    """
    sheet = find_datasheet(gpu)
    peak = sheet.rate(PRECISION_PIPES.get(precision, ""))
    if peak is None:
        known = [name for name, pipe in PRECISION_PIPES.items() if sheet.rate(pipe) is not None]
        raise OptionError(
            f"{sheet.name} has no {precision} rate in its datasheet", hint=f"one of: {', '.join(known)}"
        )
    if not (0 < flops < math.inf and 0 < bytes_moved < math.inf):
        raise OptionError(f"a roofline needs work: {flops} FLOPs, {bytes_moved} bytes")
    intensity = flops / bytes_moved
    ridge = peak / sheet.memory_tb_s
    attainable = min(peak, intensity * sheet.memory_tb_s)
    return Roofline(
        gpu=sheet.name,
        intensity=intensity,
        attainable_tflops=attainable,
        bound="memory" if intensity < ridge else "compute",
        ridge=ridge,
        least_ms=flops / (attainable * 1e12) * 1e3,
    )
