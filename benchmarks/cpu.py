"""The cpu device against NumPy: the same functions on the same inputs, call by call in turns.

    .venv/bin/python benchmarks/cpu.py [--seconds 1.0]

Prints, for each function, the median time of one call and how many times faster than NumPy it is. The NumPy
side is what a user would write by hand, not the reference executor.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import tessera as ts
from tessera.deploy import AOTCompiler
from tessera.runtime import open_artifact

Array = np.ndarray[Any, Any]


def chain(x: Any, y: Any) -> Any:
    return ts.relu(x * y + 0.5) - ts.maximum(x, y) * 0.25


def chain_numpy(x: Array, y: Array) -> Array:
    return np.maximum(x * y + np.float32(0.5), 0) - np.maximum(x, y) * np.float32(0.25)


def softmax(x: Any) -> Any:
    return ts.softmax(x, axis=-1)


def softmax_numpy(x: Array) -> Array:
    odds = np.exp(x - x.max(axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


def layernorm(x: Any) -> Any:
    return ts.layernorm(x)


def layernorm_numpy(x: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(1e-5))


def mlp(x: Any, up: Any, down: Any) -> Any:
    return ts.matmul(ts.relu(ts.matmul(x, up)), down)


def mlp_numpy(x: Array, up: Array, down: Array) -> Array:
    return np.maximum(x @ up, 0) @ down


CASES: list[tuple[str, Callable[..., Any], Callable[..., Array], list[tuple[int, ...]]]] = [
    ("elementwise chain, 1,000,000", chain, chain_numpy, [(1_000_000,), (1_000_000,)]),
    ("softmax, 4096 x 1000", softmax, softmax_numpy, [(4096, 1000)]),
    ("layernorm, 4096 x 1000", layernorm, layernorm_numpy, [(4096, 1000)]),
    ("mlp 64-256-10, batch 1", mlp, mlp_numpy, [(1, 64), (64, 256), (256, 10)]),
    ("mlp 1024-4096-1024, batch 32", mlp, mlp_numpy, [(32, 1024), (1024, 4096), (4096, 1024)]),
]


def in_turns(first: Callable[[], Any], second: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """Median seconds of one call of each, measured in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for call in (first, second) * 3:
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for call, found in zip((first, second), times, strict=True):
            start = time.perf_counter()
            call()
            found.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="measured time per function")
    seconds = parser.parse_args().seconds
    rng = np.random.default_rng(0)
    print(f"{'function':32} {'tessera cpu':>12} {'NumPy':>12} {'times faster':>13}")
    for name, function, by_hand, shapes in CASES:
        inputs = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        specs = [ts.TensorSpec(shape, ts.f32) for shape in shapes]
        artifact = AOTCompiler(target_architectures=["cpu"]).compile(ts.jit(function), specs).artifact
        with open_artifact(artifact, device="cpu") as runtime:
            found, expected = runtime.execute(*inputs), by_hand(*inputs)
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
            ours, theirs = in_turns(
                lambda: runtime.execute(*inputs),  # noqa: B023 - called before the loop goes on
                lambda: by_hand(*inputs),  # noqa: B023
                seconds,
            )
        print(f"{name:32} {ours * 1e3:9.3f} ms {theirs * 1e3:9.3f} ms {theirs / ours:12.2f}x")


if __name__ == "__main__":
    main()
