"""How good a configuration 24 proposals find: Tessera's strategies (Optuna's samplers) and Kernel Tuner's.

    python benchmarks/tuning_strategies.py                  # Tessera's
    python benchmarks/tuning_strategies.py --kernel-tuner   # pip install kernel-tuner: its simulation mode

292 configurations of four parameters, three surfaces of costs; best found over optimum, means of 10 seeds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

PARAMETERS = {"TILE": (16, 32, 64, 128, 256), "WARPS": (1, 2, 4, 8), "STAGES": (2, 3, 4, 5, 6)}
PARAMETERS["SPLIT"] = (1, 2, 4, 8)
WHERE = ("TILE * STAGES <= 768", "WARPS * 16 <= TILE * 2")
BUDGET, SEEDS = 24, 10
Configuration = dict[str, int]


def configurations() -> Iterator[Configuration]:
    for values in itertools.product(*PARAMETERS.values()):
        found = dict(zip(PARAMETERS, values, strict=True))
        if found["TILE"] * found["STAGES"] <= 768 and found["WARPS"] * 16 <= found["TILE"] * 2:
            yield found


def smooth(c: Configuration) -> float:
    tile, warps, split = (math.log2(c[name]) for name in ("TILE", "WARPS", "SPLIT"))
    return 1 + 0.3 * (tile - 6) ** 2 + 0.2 * (warps - 2) ** 2 + 0.05 * (c["STAGES"] - 4) ** 2 + 0.1 * split**2


def coupled(c: Configuration) -> float:
    tile, warps, split = (math.log2(c[name]) for name in ("TILE", "WARPS", "SPLIT"))
    held = abs(c["STAGES"] * c["TILE"] / 128 - 3)
    return 1 + 0.5 * abs(tile - warps - 4) + 0.2 * held + 0.15 * abs(split - 1)


def rugged(c: Configuration) -> float:
    return smooth(c) * random.Random(str(sorted(c.items()))).uniform(0.7, 1.6)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--kernel-tuner", action="store_true")
    side = kernel_tuner_found if arguments.parse_args().kernel_tuner else tessera_found
    names = ("random_sample", "genetic_algorithm", "bayes_opt", "simulated_annealing")
    strategies = names if side is kernel_tuner_found else ("random", "genetic", "bayesian")
    for surface in (smooth, coupled, rugged):
        least = min(map(surface, configurations()))
        for name in strategies:
            ratio = statistics.fmean(side(name, surface, seed) for seed in range(SEEDS)) / least
            print(f"{surface.__name__} {name} {ratio:.3f}", flush=True)


def tessera_found(name: str, surface: Callable[[Configuration], float], seed: int) -> float:
    """The least cost that a strategy of Tessera's finds."""
    from tessera.compiler.tuning.strategy import make_strategy
    from tessera.language.tuning import make_space

    space = make_space("k", PARAMETERS, " and ".join(WHERE))
    strategy = make_strategy(name, space, seed=seed, budget=BUDGET)
    costs = []
    for _ in range(BUDGET):
        proposed = strategy.ask()
        if proposed is None:
            break
        costs.append(surface({key: int(value) for key, value in proposed.items()}))
        strategy.tell(proposed, costs[-1])
    return min(costs)


def kernel_tuner_found(name: str, surface: Callable[[Configuration], float], seed: int) -> float:
    """The least cost that a strategy of Kernel Tuner's finds, simulated from a complete cache."""
    import kernel_tuner
    import numpy as np

    times = dict.fromkeys(("verification_time", "strategy_time", "framework_time"), 0.0)
    times |= {"compile_time": 1.0, "benchmark_time": 1.0}
    entries = {
        ",".join(map(str, c.values())): {
            **c, "time": surface(c), "times": [surface(c)], **times, "timestamp": "2026-01-01 00:00:00+00:00",
        }
        for c in configurations()
    }  # fmt: skip
    head = {
        "schema_version": "1.1.0", "device_name": "Simulation", "kernel_name": "k", "problem_size": 1,
        "tune_params_keys": list(PARAMETERS), "tune_params": PARAMETERS, "objective": "time",
    }  # fmt: skip
    random.seed(seed)
    np.random.seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder, "cache.json")
        cache.write_text(json.dumps({**head, "cache": entries}))
        results, _ = kernel_tuner.tune_kernel(
            "k", "__global__ void k(float *x) {}", 1, [np.zeros(1, "f4")],
            {key: list(values) for key, values in PARAMETERS.items()},
            restrictions=list(WHERE), strategy=name,
            strategy_options={"max_fevals": BUDGET}, cache=str(cache), simulation_mode=True, lang="CUDA",
            quiet=True, seed=seed,
        )  # fmt: skip
    return min(float(r["time"]) for r in results if isinstance(r["time"], float))


if __name__ == "__main__":
    main()
