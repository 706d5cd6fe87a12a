"""Rates of counters, which are read more seldom than samples are taken."""

from __future__ import annotations

import pytest

from tessera.profiler.live.figures import Figures, Reading, Sample
from tessera.profiler.live.rates import per_second


def samples(seconds: float, *, every_s: float, per_s: int) -> list[Sample]:
    """Ten samples a second of a counter that is read every `every_s` seconds."""
    made = []
    for step in range(int(seconds * 10) + 1):
        read_at = step / 10 // every_s * every_s
        made.append(Sample(step * 10**8, (Reading(Figures(energy_mj=int(read_at * per_s))),)))
    return made


@pytest.mark.parametrize("seconds", [10.0, 12.3, 14.9, 30.0])
def test_rate_over_a_multiple_of_the_reading_time_is_exact(seconds: float) -> None:
    history = samples(seconds, every_s=5.0, per_s=600_000)
    assert per_second(history, 0, "energy_mj", over_s=10.0) == pytest.approx(600_000)


def test_rate_of_a_short_history_is_unknown_and_not_zero() -> None:
    history = samples(3.0, every_s=5.0, per_s=600_000)
    assert per_second(history, 0, "energy_mj", over_s=10.0) is None
    assert per_second([], 0, "energy_mj", over_s=10.0) is None


def test_rate_of_a_counter_that_went_back_is_unknown() -> None:
    history = samples(12.0, every_s=1.0, per_s=10)
    history[-1] = Sample(history[-1].time_ns, (Reading(Figures(energy_mj=1)),))
    assert per_second(history, 0, "energy_mj", over_s=10.0) is None
