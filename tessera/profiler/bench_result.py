"""What a benchmark measured, and its JSON document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from tessera.profiler.timing import Timing
from tessera.program.errors import ConfigError


@dataclass(frozen=True, slots=True)
class StepTime:
    """Time of one step of a program, measured by itself."""

    index: int
    """Place among the steps of the plan."""
    name: str
    """The kernel's name, or `gemm`."""
    median_ms: float


@dataclass(frozen=True, slots=True)
class BatchResult:
    """One batch size: the target, its baseline, and the rates that follow."""

    batch: int | None
    """Batch size; None where the program has no symbolic batch."""
    sizes: dict[str, int]
    """Value of every symbolic size."""
    timing: Timing
    baseline: Timing | None
    """NumPy computing the same graph in the same run, interleaved; None without a graph."""
    device_timing: Timing | None
    """Time on the GPU by its own events, without copies to and from it; None on other devices."""
    per_second: float
    """Items per second at the median time: batch size over time."""
    bytes: int | None
    """Least memory traffic of one execution; None for a plain callable."""
    flops: int | None
    """Operations of one execution; None where they are not known."""
    max_difference: float | None
    """Largest absolute difference between the outputs of target and baseline."""
    steps: tuple[StepTime, ...] = ()
    """Time of each step, in a run of its own: measuring steps costs a little."""

    @property
    def gb_per_s(self) -> float | None:
        """Achieved GB/s: least traffic over the median time on the device."""
        return None if self.bytes is None else self.bytes / (self._seconds * 1e9)

    @property
    def gflop_per_s(self) -> float | None:
        """Achieved GFLOP/s over the median time on the device."""
        return None if self.flops is None else self.flops / (self._seconds * 1e9)

    @property
    def speedup(self) -> float | None:
        """How many times faster than the baseline, by medians."""
        return None if self.baseline is None else self.baseline.median_ms / self.timing.median_ms

    @property
    def _seconds(self) -> float:
        return (self.device_timing or self.timing).median_ms / 1e3


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Measured times of one target on one device."""

    target: str
    """What was measured: a package's file name, a function's name."""
    program: str | None
    """Program inside the package; None for a plain callable."""
    device: str
    """Device as it ran, such as `cpu` or `cuda:0`."""
    hardware: str
    """Name of the processor or GPU."""
    batches: tuple[BatchResult, ...]
    kind: Literal["measured"] = "measured"
    notes: tuple[str, ...] = ()
    """What a reader must know: a fallback, a size that was assumed, no baseline."""

    def to_data(self) -> dict[str, Any]:
        """JSON data, with the rates that follow from the times."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        for row, batch in zip(data["batches"], self.batches, strict=True):
            row["gb_per_s"] = batch.gb_per_s
            row["gflop_per_s"] = batch.gflop_per_s
            row["speedup"] = batch.speedup
        return data

    def to_json(self) -> bytes:
        """The JSON document; `from_json` reads it back."""
        return msgspec.json.format(msgspec.json.encode(self.to_data()), indent=2)

    @classmethod
    def from_json(cls, data: bytes | str) -> BenchResult:
        """The result that a document holds.

        Raises:
            ConfigError: The document is no benchmark result.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"not a benchmark result: {error}", hint="tessera bench TARGET --json"
            ) from None
