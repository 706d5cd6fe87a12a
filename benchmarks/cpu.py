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


def log_softmax_numpy(x: Array) -> Array:
    less = x - x.max(axis=-1, keepdims=True)
    return less - np.log(np.exp(less).sum(axis=-1, keepdims=True))


def gelu_numpy(x: Array) -> Array:
    inner = np.float32(0.7978845608) * (x + np.float32(0.044715) * x * x * x)
    return np.float32(0.5) * x * (1 + np.tanh(inner))


def scatter_add_numpy(x: Array, index: Array, updates: Array) -> Array:
    found = x.copy()
    np.add.at(found, (index, np.arange(x.shape[1])[None, :]), updates)
    return found


def attention(q: Any, k: Any, v: Any) -> Any:
    return ts.attention(q, k, v)


def attention_numpy(q: Array, k: Array, v: Array) -> Array:
    return softmax_numpy(q @ np.swapaxes(k, -1, -2) * np.float32(q.shape[-1] ** -0.5)) @ v


def causal(q: Any, k: Any, v: Any) -> Any:
    return ts.attention(q, k, v, causal=True)


def causal_numpy(q: Array, k: Array, v: Array) -> Array:
    scores = q @ np.swapaxes(k, -1, -2) * np.float32(q.shape[-1] ** -0.5)
    seen = np.tri(*scores.shape[-2:], dtype=bool)
    return softmax_numpy(np.where(seen, scores, np.float32(-np.inf))) @ v


Case = tuple[str, Callable[..., Any], Callable[..., Array], list[tuple[int, ...]]]
MATRIX = (4096, 1000)

CASES: list[Case] = [
    ("elementwise chain, 1,000,000", chain, chain_numpy, [(1_000_000,), (1_000_000,)]),
    ("add a row, 4096 x 1000", lambda x, y: x + y, lambda x, y: x + y, [MATRIX, (1000,)]),
    ("exp", lambda x: ts.exp(x), np.exp, [MATRIX]),
    ("log of |x|", lambda x: ts.log(ts.abs(x)), lambda x: np.log(np.abs(x)), [MATRIX]),
    ("tanh", lambda x: ts.tanh(x), np.tanh, [MATRIX]),
    ("sin", lambda x: ts.sin(x), np.sin, [MATRIX]),
    ("gelu, by tanh", lambda x: ts.gelu(x, approximate="tanh"), gelu_numpy, [MATRIX]),
    ("sum of rows", lambda x: ts.sum(x, axis=1), lambda x: x.sum(axis=1), [MATRIX]),
    ("sum of columns", lambda x: ts.sum(x, axis=0), lambda x: x.sum(axis=0), [MATRIX]),
    ("sum of all", lambda x: ts.sum(x), lambda x: x.sum(), [MATRIX]),
    ("sum over the outer axes of three", lambda x: ts.sum(x, axis=(0, 2)), lambda x: x.sum(axis=(0, 2)),
     [(64, 64, 1000)]),
    ("max of rows", lambda x: ts.max(x, axis=1), lambda x: x.max(axis=1), [MATRIX]),
    ("argmax of rows", lambda x: ts.argmax(x, axis=1), lambda x: x.argmax(axis=1), [MATRIX]),
    ("argmax of columns", lambda x: ts.argmax(x, axis=0), lambda x: x.argmax(axis=0), [MATRIX]),
    ("variance of rows", lambda x: ts.var(x, axis=1), lambda x: x.var(axis=1), [MATRIX]),
    ("cumsum of rows", lambda x: ts.cumsum(x, axis=1), lambda x: x.cumsum(axis=1), [MATRIX]),
    ("softmax, 4096 x 1000", softmax, softmax_numpy, [MATRIX]),
    ("log_softmax", lambda x: ts.log_softmax(x, axis=-1), log_softmax_numpy, [MATRIX]),
    ("layernorm, 4096 x 1000", layernorm, layernorm_numpy, [MATRIX]),
    ("transpose", lambda x: ts.transpose(x), lambda x: np.ascontiguousarray(x.T), [MATRIX]),
    ("concat", lambda x, y: ts.concat([x, y], axis=1), lambda x, y: np.concatenate([x, y], axis=1),
     [MATRIX, MATRIX]),
    ("pad", lambda x: ts.pad(x, 1), lambda x: np.pad(x, 1), [MATRIX]),
    ("sort, 256 x 1000", lambda x: ts.sort(x, axis=-1), lambda x: np.sort(x, axis=-1), [(256, 1000)]),
    ("argsort, 256 x 1000", lambda x: ts.argsort(x, axis=-1), lambda x: np.argsort(x, axis=-1, kind="stable"),
     [(256, 1000)]),
    ("mlp 64-256-10, batch 1", mlp, mlp_numpy, [(1, 64), (64, 256), (256, 10)]),
    ("attention, 8 x 512 x 64", attention, attention_numpy, [(1, 8, 512, 64)] * 3),
    ("causal, 8 x 512 x 64", causal, causal_numpy, [(1, 8, 512, 64)] * 3),
    ("causal, 8 x 2048 x 64", causal, causal_numpy, [(1, 8, 2048, 64)] * 3),
    ("mlp 1024-4096-1024, batch 32", mlp, mlp_numpy, [(32, 1024), (1024, 4096), (4096, 1024)]),
]  # fmt: skip
INDEXED: list[Case] = [
    ("take rows", lambda x, i: ts.take(x, i, axis=0), lambda x, i: x[i], [MATRIX, (4096,)]),
    ("scatter_add, 1024 x 256", lambda x, i, u: ts.scatter_add(x, i, u, axis=0), scatter_add_numpy,
     [(1024, 256), (1024, 256), (1024, 256)]),
]  # fmt: skip
"""The second input holds positions along the first axis."""


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
    for name, function, by_hand, shapes in CASES + INDEXED:
        inputs = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        if any(name == case[0] for case in INDEXED):
            inputs[1] = rng.integers(0, shapes[0][0], shapes[1])
        specs = [ts.TensorSpec(i.shape, ts.i64 if i.dtype == np.int64 else ts.f32) for i in inputs]
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
