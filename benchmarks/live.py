"""What watching GPUs costs: processor time of the sampler, and how long one sample takes.

python benchmarks/live.py --interval 0.1 --seconds 10
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

from tessera.profiler.live.sampler import Sampler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interval", type=float, default=0.1, help="seconds between samples")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to watch")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    sampler = Sampler(options.interval)
    fast, slow = timed(sampler)
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
        "fast_ms": round(fast, 4),
        "slow_ms": round(slow, 4),
    }
    if options.json:
        print(json.dumps(result))
        return
    print(
        f"{result['gpus']} GPUs, driver {result['driver']}, {1 / options.interval:.3g} samples/s: "
        f"{result['core_percent']:.2f} % of a core; a sample takes {fast:.3f} ms, "
        f"{slow:.3f} ms with the slow tier (medians, wall time)"
    )


def timed(sampler: Sampler) -> tuple[float, float]:
    """Median wall time of a sample without and with the slow tier, milliseconds."""
    sampler.sample()
    took: dict[bool, list[float]] = {False: [], True: []}
    for slow in (False,) * 50 + (True,) * 10:
        start = time.perf_counter()
        sampler.sample(slow=slow)
        took[slow].append(1000 * (time.perf_counter() - start))
    return statistics.median(took[False]), statistics.median(took[True])


if __name__ == "__main__":
    main()
