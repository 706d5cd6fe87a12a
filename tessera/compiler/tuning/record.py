"""What became of one configuration of a kernel, and which of several to take."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

PREDICTED_GAIN = 1.1
"""How many times cheaper a prediction must be to displace tiles that the compiler chooses by measured rules:
predictions rank, and close ranks mean little."""
Value = int | float | bool | str
Status = Literal["ok", "pruned", "compile", "runtime", "wrong"]
"""`ok`: it has a cost; `pruned`: not run, for a reason known before; `compile`, `runtime`: it failed there;
`wrong`: its results differ from the reference's."""
Kind = Literal["predicted", "measured"]
"""Where a cost comes from: the emulator's counters, or a device's clock."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One configuration of one kernel, tried for one GPU and shape bucket."""

    kernel: str
    """The kernel's name."""
    kernel_hash: str
    """Digest of its source, apart from the values of what is tuned."""
    target: str
    """Architecture that it was compiled for."""
    gpu: str
    """Model: of the datasheet for predictions, as its driver calls it for measurements."""
    driver: str
    """Version of the driver; for predictions that of the cost model."""
    kind: Kind
    bucket: dict[str, int]
    """Each size rounded up to a power of two: sizes of one bucket share their records."""
    sizes: dict[str, int]
    """Sizes that it was tried with."""
    configuration: dict[str, Value]
    status: Status
    reason: str = ""
    """Why there is no cost."""
    cost_ms: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """Time of one execution."""
    registers: int | None = None
    """Per thread; for several kernels the most."""
    spill_bytes: int | None = None
    shared_bytes: int | None = None
    """Per block, static and dynamic."""
    occupancy: float | None = None
    """Resident warps over the most a multiprocessor holds, 0 to 1."""
    trial: int | None = None
    """Its place in the order of trying, from 1, in the sweep that tried it first."""

    @property
    def sweep(self) -> str:
        """What records of one sweep have in common, as text."""
        return _text(
            [self.kernel, self.kernel_hash, self.target, self.gpu, self.driver, self.kind, self.bucket]
        )

    @property
    def key(self) -> str:
        """What tells this record from all others, as text."""
        return _text([self.sweep, self.configuration])


@dataclass(frozen=True, slots=True)
class Pick:
    """A configuration to compile, and the sizes it is for."""

    configuration: Mapping[str, Value]
    bucket: Mapping[str, int]
    """It is for sizes up to these; empty: for all."""
    kind: Kind
    cost_ms: float | None = None


def bucket_of(sizes: Mapping[str, int]) -> dict[str, int]:
    """Each size rounded up to a power of two; 0 stays 0."""
    return {name: 1 << (size - 1).bit_length() if size > 0 else 0 for name, size in sorted(sizes.items())}


def best(records: Iterable[Record]) -> Record | None:
    """The record of least cost; of equal ones the first by its configuration's text. None if all failed."""
    good = [r for r in records if r.status == "ok" and r.cost_ms is not None]
    return min(good, key=lambda r: (r.cost_ms, configuration_key(r.configuration)), default=None)


def configuration_key(configuration: Mapping[str, Value]) -> str:
    """A configuration as text, whatever the order of its names."""
    return _text(dict(configuration))


def picks(
    records: Iterable[Record],
    *,
    kernel: str,
    kernel_hash: str,
    target: str,
    own: Mapping[str, Value] | None = None,
) -> tuple[Pick, ...]:
    """What to compile for a target, smallest bucket first: the best of each, measurements before predictions.

    Of several GPUs of one architecture the one with the most records counts; the last pick is for all sizes.

    Args:
        records: Of any kernels.
        kernel: Name of the one.
        kernel_hash: What it is.
        target: Full name of an architecture.
        own: A configuration that only a prediction `PREDICTED_GAIN` times cheaper displaces.
    """
    these = [r for r in records if (r.kernel, r.kernel_hash, r.target) == (kernel, kernel_hash, target)]
    these = [r for r in these if r.kind == "measured"] or these
    by_gpu: dict[tuple[str, str], list[Record]] = {}
    for record in these:
        by_gpu.setdefault((record.gpu, record.driver), []).append(record)
    if not by_gpu:
        return ()
    chosen = by_gpu[min(by_gpu, key=lambda name: (-len(by_gpu[name]), name))]
    by_bucket: dict[str, list[Record]] = {}
    for record in chosen:
        by_bucket.setdefault(_text(record.bucket), []).append(record)
    winners = [w for w in (_winner(found, own) for found in by_bucket.values()) if w is not None]
    winners.sort(key=lambda r: (_volume(r.bucket), _text(r.bucket)))
    found: list[Pick] = []
    for winner in winners:
        pick = Pick(winner.configuration, winner.bucket, winner.kind, winner.cost_ms)
        if found and dict(found[-1].configuration) == winner.configuration:
            # Sizes between two buckets of one winner are its too.
            found[-1] = pick
        else:
            found.append(pick)
    return tuple(found)


def _winner(records: Sequence[Record], own: Mapping[str, Value] | None) -> Record | None:
    found = best(records)
    usual = next(
        (r for r in records if own is not None and r.configuration == own and r.status == "ok"), None
    )
    if found is None or usual is None or found.kind == "measured":
        return found
    assert found.cost_ms is not None  # noqa: S101 - the best has a cost
    assert usual.cost_ms is not None  # noqa: S101 - so has what works
    return found if found.cost_ms * PREDICTED_GAIN <= usual.cost_ms else usual


def _volume(bucket: Mapping[str, int]) -> int:
    total = 1
    for size in bucket.values():
        total *= max(size, 1)
    return total


def _text(data: object) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"))
