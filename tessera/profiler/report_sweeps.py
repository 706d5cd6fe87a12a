"""Tuning records as the sweeps of a report: which configurations, in which order, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from tessera.compiler.tuning.record import Record, configuration_key
from tessera.profiler.report_runs import TunedSweep, TunedTrial, Value
from tessera.profiler.tuning.standing import by_cost, improvements


def sweeps_of(records: Iterable[Record]) -> tuple[TunedSweep, ...]:
    """The records, one sweep for each kernel, architecture, GPU, driver and range of sizes."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.sweep, []).append(record)
    return tuple(_sweep(groups[key]) for key in sorted(groups))


def _sweep(records: Sequence[Record]) -> TunedSweep:
    first = records[0]
    ordered = sorted(
        records, key=lambda r: (r.trial is None, r.trial or 0, configuration_key(r.configuration))
    )
    return TunedSweep(
        kernel=first.kernel,
        target=first.target,
        gpu=first.gpu,
        driver=first.driver,
        origin=first.kind,
        sizes=dict(first.sizes),
        trials=tuple(
            TunedTrial(
                configuration=dict(r.configuration),
                status=r.status,
                cost_ms=r.cost_ms,
                number=r.trial,
                reason=r.reason,
                registers=r.registers,
                spill_bytes=r.spill_bytes,
                occupancy=r.occupancy,
            )
            for r in ordered
        ),
    )


def ranked(sweep: TunedSweep) -> list[TunedTrial]:
    """The trials that have a cost, the least first; equal ones by their configuration's text."""
    return by_cost(sweep.trials)


def axes(sweep: TunedSweep) -> dict[str, list[Value]]:
    """Each tuned name that took more than one value, and its values in their order."""
    found: dict[str, list[Value]] = {}
    for trial in sweep.trials:
        for name, value in trial.configuration.items():
            values = found.setdefault(name, [])
            if value not in values:
                values.append(value)
    return {name: _sorted(values) for name, values in sorted(found.items()) if len(values) > 1}


def heat_axes(sweep: TunedSweep) -> tuple[str, str] | None:
    """The two names that change the cost most: those whose cells differ most in their least cost.

    None where fewer than two names took more than one value, or nothing has a cost.
    """
    names, good = list(axes(sweep)), ranked(sweep)
    if len(names) < 2 or not good:
        return None

    def spread(pair: tuple[str, str]) -> float:
        cells = least_by(good, pair).values()
        return max(cells) / max(min(cells), 1e-12)

    # With many names the pairs of the few that matter most alone are looked at.
    leading = sorted(names, key=lambda n: -_influence(good, n))[:6]
    return max(combinations(sorted(leading), 2), key=spread)


def least_by(trials: Iterable[TunedTrial], names: Sequence[str]) -> dict[tuple[Value, ...], float]:
    """For each combination of the names' values the least cost among the trials that have it."""
    found: dict[tuple[Value, ...], float] = {}
    for trial in trials:
        if trial.cost_ms is not None and all(n in trial.configuration for n in names):
            key = tuple(trial.configuration[n] for n in names)
            found[key] = min(found.get(key, trial.cost_ms), trial.cost_ms)
    return found


def best_so_far(sweep: TunedSweep) -> list[tuple[int, float]]:
    """Trial number and least cost up to it, where it fell; empty where the order is not on record."""
    if any(t.number is None for t in sweep.trials):
        return []
    return [(place, trial.cost_ms or 0.0) for place, trial in improvements(sweep.trials)]


def _influence(trials: Sequence[TunedTrial], name: str) -> float:
    cells = least_by(trials, [name]).values()
    return max(cells, default=1.0) / max(min(cells, default=1.0), 1e-12)


def _sorted(values: Sequence[Value]) -> list[Value]:
    return sorted(values, key=lambda v: (isinstance(v, str), v if not isinstance(v, str) else 0, str(v)))
