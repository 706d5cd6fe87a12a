"""What watching GPUs costs: processor time of the sampler, and how long one sample takes.

python benchmarks/live.py --interval 0.1 --seconds 10
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tessera.profiler.live.figures import Device, Figures, Machine, Reading, Sample
from tessera.profiler.live.gpu_reader import Tier
from tessera.profiler.live.recorder import Recorder
from tessera.profiler.live.recording import Recording
from tessera.profiler.live.sampler import Sampler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", type=float, default=0.1, help="seconds between samples")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to watch")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--recording", action="store_true", help="write, open and seek an hour of eight GPUs instead"
    )
    options = parser.parse_args()
    if options.recording:
        recording()
        return

    sampler = Sampler(options.interval)
    took = timed(sampler)
    before = time.process_time()
    start = time.perf_counter()
    sampler.start()
    time.sleep(options.seconds)
    share = (time.process_time() - before) / (time.perf_counter() - start)
    samples = len(sampler.history(options.seconds * 2))
    sampler.stop()
    result = {
        "gpus": len(sampler.machine.devices),
        "driver": sampler.machine.driver,
        "interval_s": options.interval,
        "samples": samples,
        "core_percent": round(100 * share, 3),
        "sample_ms": {tier.name.lower(): round(ms, 4) for tier, ms in took.items()},
    }
    if options.json:
        print(json.dumps(result))
        return
    print(
        f"{result['gpus']} GPUs, driver {result['driver']}, {1 / options.interval:.3g} samples/s: "
        f"{result['core_percent']:.2f} % of a core; a sample takes {took[Tier.FAST]:.3f} ms, once a second "
        f"{took[Tier.SLOW]:.3f} ms, every 5 s {took[Tier.RARE]:.3f} ms (medians, wall time)"
    )


def timed(sampler: Sampler) -> dict[Tier, float]:
    """Median wall time of a sample of each tier, milliseconds."""
    sampler.sample(Tier.RARE)
    took: dict[Tier, list[float]] = {tier: [] for tier in Tier}
    for tier, count in ((Tier.FAST, 50), (Tier.SLOW, 10), (Tier.RARE, 10)):
        for _ in range(count):
            start = time.perf_counter()
            sampler.sample(tier)
            took[tier].append(1000 * (time.perf_counter() - start))
    return {tier: statistics.median(times) for tier, times in took.items()}


def recording(gpus: int = 8, seconds: int = 3600) -> None:
    """An hour of eight busy GPUs at ten samples a second: size, and times to open and to seek."""
    device = Device(0, "NVIDIA H200", None, None, (9, 0), False, 1980, 5, 16)  # noqa: FBT003 - by place
    machine = Machine("580", (13, 0), tuple(replace(device, index=i) for i in range(gpus)))
    rng = random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hour.tslive"
        with Recorder(path, machine, interval_s=0.1, started_unix_s=0.0) as recorder:
            for step in range(1, seconds * 10 + 1):
                recorder.write(Sample(step * 10**8, tuple(busy(rng, step) for _ in range(gpus))))
        start = time.perf_counter()
        opened = Recording(path)
        opening = time.perf_counter() - start
        places = [rng.randrange(len(opened)) for _ in range(20)]
        took = []
        for place in places:
            start = time.perf_counter()
            opened.sample(place)
            took.append(time.perf_counter() - start)
        start = time.perf_counter()
        count = sum(1 for _ in opened.samples())
        everything = time.perf_counter() - start
        print(
            f"{gpus} GPUs, {seconds} s, {count} samples: {path.stat().st_size / 1e6:.1f} MB; opened in "
            f"{1000 * opening:.0f} ms, any moment in {1000 * statistics.median(took):.1f} ms, "
            f"all of it decoded in {everything:.1f} s"
        )


def busy(rng: random.Random, step: int) -> Reading:
    """A GPU at work: power, clocks and counters never rest."""
    return Reading(
        Figures(
            utilization_percent=rng.randrange(90, 101),
            memory_utilization_percent=rng.randrange(40, 60),
            memory_used_bytes=(100 << 30) + rng.randrange(4) * (1 << 28),
            memory_total_bytes=141 << 30,
            power_mw=600_000 + rng.randrange(90_000),
            energy_mj=step * 65_000,
            temperature_c=60 + step // 100 % 5,
            sm_clock_mhz=1980 - step // 10 % 4 * 15,
            throttle_reasons=0,
            pcie_tx_bytes_per_s=rng.randrange(10**9),
            pcie_rx_bytes_per_s=rng.randrange(10**9),
            nvlink_tx_kib=step * 3_000_000,
            nvlink_rx_kib=step * 3_000_000,
        )
    )


if __name__ == "__main__":
    main()
