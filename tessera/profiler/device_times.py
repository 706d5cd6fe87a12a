"""What the executions of a program took, piece by piece, out of a timeline: medians, and what is overhead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tessera.runtime import Span

Key = tuple[str, str, int | None]

HOST_PIECES = ("allocate",)
"""Work of the host that has a row of its own: the GPU has no part in it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One copy, launch or allocation, over all executions."""

    kind: str
    """`upload`, `copy`, `kernel`, `download` (by the GPU's clock) or `allocate` (by the host's)."""
    name: str
    """The kernel, input or output."""
    step: int | None
    """Place of a kernel among the steps of the plan."""
    size_bytes: int | None
    """Bytes copied or allocated."""
    calls: int
    median_ms: float
    min_ms: float
    max_ms: float
    host_ms: float | None
    """Median time that the host took to issue it; None where it is the host's own work."""

    @property
    def gbps(self) -> float | None:
        """Bytes of a copy per time, in GB/s; None where nothing was copied or no time passed."""
        if self.size_bytes is None or self.kind == "allocate" or not self.median_ms:
            return None
        return self.size_bytes / self.median_ms / 1e6


@dataclass(frozen=True, slots=True)
class DeviceTimes:
    """Medians over the executions."""

    pieces: tuple[Piece, ...]
    """In the order of the execution."""
    whole_ms: float
    """An execution as its caller sees it."""
    kernels_ms: float
    """All kernels of one."""
    copies_ms: float
    """All copies of one."""
    launches_ms: float
    """The host's time to launch all kernels of one."""
    empty_ms: float | None
    """Two marks with nothing in between: what is in every piece's time."""

    @property
    def overhead_ms(self) -> float:
        """What an execution takes beyond its kernels and copies: allocation, launching, waiting."""
        return max(self.whole_ms - self.kernels_ms - self.copies_ms, 0.0)


def device_times(spans: Iterable[Span]) -> DeviceTimes | None:
    """Medians over the executions of one program; None where no piece was timed by a GPU's clock."""
    kept = list(spans)
    if not any(span.track == "device" for span in kept):
        return None
    device = _grouped(s for s in kept if s.track == "device" and s.kind != "empty")
    host = _grouped(s for s in kept if s.track == "host" and s.kind not in ("execution", "wait"))
    pieces = [_piece(key, own, None) for key, own in host.items() if key[0] in HOST_PIECES]
    for key, own in device.items():
        issued = host.get(("launch" if key[0] == "kernel" else key[0], *key[1:]))
        pieces.append(_piece(key, own, issued))
    empty = [s.duration_ns for s in kept if s.kind == "empty"]
    return DeviceTimes(
        pieces=tuple(pieces),
        whole_ms=_middle(_sums(kept, "host", "execution")),
        kernels_ms=_middle(_sums(kept, "device", "kernel")),
        copies_ms=_middle(_sums(kept, "device", "upload", "copy", "download")),
        launches_ms=_middle(_sums(kept, "host", "launch")),
        empty_ms=median(empty) / 1e6 if empty else None,
    )


def _grouped(spans: Iterable[Span]) -> dict[Key, list[Span]]:
    found: dict[Key, list[Span]] = {}
    for span in spans:
        found.setdefault((span.kind, span.name, span.step), []).append(span)
    return found


def _piece(key: Key, spans: Sequence[Span], issued: Sequence[Span] | None) -> Piece:
    times = [s.duration_ns / 1e6 for s in spans]
    return Piece(
        kind=key[0],
        name=key[1],
        step=key[2],
        size_bytes=spans[0].size_bytes,
        calls=len(spans),
        median_ms=median(times),
        min_ms=min(times),
        max_ms=max(times),
        host_ms=median(s.duration_ns / 1e6 for s in issued) if issued else None,
    )


def _sums(spans: Iterable[Span], track: str, *kinds: str) -> list[int]:
    """Time of such spans in each execution."""
    sums: dict[int, int] = {}
    for span in spans:
        own = span.duration_ns if span.track == track and span.kind in kinds else 0
        sums[span.execution] = sums.get(span.execution, 0) + own
    return list(sums.values())


def _middle(values: Sequence[int]) -> float:
    return median(values) / 1e6 if values else 0.0
