"""The cost model's predictions of matrix products beside times that an H200 took, and their ranks.

    python benchmarks/cost_ranks.py [--most-gflop 5]

The times are recorded: those of `docs/matmul.md`, measured by `benchmarks/gpu_matmul.py` on 2026-11-23. The
predictions are made here, from the emulator's counters, for the H100 SXM: as many multiprocessors, less
bandwidth.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Recorded:
    """One product of the tables."""

    how: str
    """`nn` is `a @ b`, `nt` is `a @ b.T`."""
    m: int
    n: int
    k: int
    tflops: float

    @property
    def gflop(self) -> float:
        """Work."""
        return 2e-9 * self.m * self.n * self.k

    @property
    def us(self) -> float:
        """Time."""
        return self.gflop / self.tflops * 1e3


RECORDED = (
    Recorded("nn", 16, 4096, 4096, 27),
    Recorded("nn", 1024, 1024, 1024, 202),
    Recorded("nt", 1024, 1024, 1024, 187),
    Recorded("nn", 64, 4096, 4096, 95),
    Recorded("nn", 1023, 1025, 1027, 70),
    Recorded("nn", 128, 4096, 4096, 206),
    Recorded("nn", 2048, 2048, 2048, 575),
)
"""In f16."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--most-gflop", type=float, default=20.0, help="larger products take minutes")
    most = arguments.parse_args().most_gflop
    chosen = [r for r in RECORDED if r.gflop <= most]
    print("m × n × k | kernels | recorded µs, H200 | predicted µs")
    predictions = []
    for each in chosen:
        kernels, us = predicted(each)
        predictions.append(us)
        print(f"{each.m} × {each.n} × {each.k} {each.how} | {kernels} | {each.us:.1f} | {us:.1f}", flush=True)
    if len(chosen) > 1:
        ranks = correlation(ranked([r.us for r in chosen]), ranked(predictions))
        print(f"correlation of ranks (Spearman): {ranks:.2f} over {len(chosen)}")


def predicted(what: Recorded) -> tuple[str, float]:
    """Names of a product's kernels, and their predicted time in microseconds."""
    import tessera as ts
    from tessera.compiler.options import AOTConfig, ToolOptions
    from tessera.compiler.tuning.function_step import function_steps
    from tessera.profiler.tuning.static import static_kernels
    from tessera.profiler.tuning.subject import step_subject
    from tessera.profiler.tuning.sweep import default_inputs
    from tessera.profiler.tuning.trial import EmulatorMeter

    def product(a: ts.Tensor, b: ts.Tensor) -> ts.Tensor:
        return ts.matmul(a, ts.transpose(b, (1, 0)) if what.how == "nt" else b)

    right = (what.n, what.k) if what.how == "nt" else (what.k, what.n)
    specs = [ts.TensorSpec((what.m, what.k), ts.f16), ts.TensorSpec(right, ts.f16)]
    traced = ts.jit(product, input_specs=specs).trace()
    options, config = ToolOptions("sm_90a"), AOTConfig(targets=("sm_90a",))
    subject = step_subject(function_steps(traced.graph, traced.constants, options, config)[-1])
    artifact = subject.compile(subject.reference)
    inputs, sizes = default_inputs(artifact.programs[0], {}, 0)
    kernels = static_kernels(artifact, "sm_90a", sizes)
    run = EmulatorMeter("sm_90a").run(artifact, kernels, inputs)
    return ", ".join(k.name.partition("matmul_")[2] for k in kernels), run.cost_ms * 1e3


def ranked(values: Sequence[float]) -> list[float]:
    """Places, equal values sharing theirs."""
    return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson's of two lists."""
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    both = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return both / (sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b)) ** 0.5


if __name__ == "__main__":
    main()
