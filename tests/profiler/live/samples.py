"""Machines and samples for tests, drawn at random."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from tessera.profiler.live.figures import Device, Figures, Machine, MigInstance, Process, Reading, Sample


def machine(gpus: int = 1) -> Machine:
    devices = tuple(
        Device(i, "NVIDIA H200", f"GPU-{i}", None, (9, 0), i < 0, 1980, 5, 16) for i in range(gpus)
    )
    return Machine("580.82.07", (13, 0), devices)


counts = st.none() | st.integers(0, 2**63)
names = st.text(max_size=12)
processes = st.builds(Process, counts.filter(lambda v: v is not None), names, counts, names, counts)
instances = st.builds(MigInstance, st.integers(0, 6), counts, names, counts, counts)
readings = st.builds(
    Reading,
    st.tuples(*[counts] * len(Figures._fields)).map(Figures._make),
    st.none() | st.lists(processes, max_size=2).map(tuple),
    st.lists(instances, max_size=2).map(tuple),
    st.dictionaries(names, names, max_size=2),
    st.none() | names,
)


@st.composite
def runs(draw: st.DrawFn) -> tuple[Machine, list[Sample]]:
    """A machine, and samples of it in order of time; few figures change from one to the next."""
    gpus = draw(st.integers(1, 3))
    now = [draw(readings) for _ in range(gpus)]
    samples, time_ns = [], 0
    for _ in range(draw(st.integers(0, 12))):
        time_ns += draw(st.integers(1, 10**10))
        if draw(st.booleans()):
            now[draw(st.integers(0, gpus - 1))] = draw(readings)
        launches = draw(st.lists(st.tuples(names, st.integers(1, 2**40)), max_size=2).map(tuple))
        samples.append(Sample(time_ns, tuple(now), launches))
    return machine(gpus), samples


def busy_samples(gpus: int, count: int, interval_s: float = 0.1) -> list[Sample]:
    """Samples as of a machine at work."""
    rng = random.Random(7)
    energy = [0] * gpus
    made = []
    for step in range(count):
        now = []
        for gpu in range(gpus):
            power = 200_000 + rng.randrange(400_000)
            energy[gpu] += int(power * interval_s)
            figures = Figures(
                utilization_percent=rng.randrange(101),
                memory_used_bytes=(rng.randrange(8) + 10) << 30,
                memory_total_bytes=141 << 30,
                power_mw=power,
                energy_mj=energy[gpu],
                temperature_c=40 + step // 100 % 20,
                pcie_tx_bytes_per_s=step * 1_000_000,
                throttle_reasons=4,
            )
            now.append(
                Reading(figures, (Process(7, "python", 1 << 30, "compute"),), (), {"fan_percent": "-"})
            )
        made.append(Sample(int((step + 1) * interval_s * 1e9), tuple(now)))
    return made
