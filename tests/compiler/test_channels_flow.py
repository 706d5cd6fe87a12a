"""Chains of convolutions whose values stay channels last: fewer kernels and bytes, and the same results."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from products import TOLERANCE, compiled

import tessera as ts
from tessera.compiler.explain import GraphReport, explain_graph
from tessera.compiler.matrix_units import MatrixUnits
from tessera.deploy import CompilationTarget
from tessera.emulator.sanitizer import Sanitizer
from tessera.program.dim import evaluate
from tessera.program.program import Choice, Program
from tessera.reference import run_graph
from tessera.runtime import ArtifactSource
from tessera.runtime.emulator import EmulatorDevice

HOPPER = CompilationTarget("sm_90", enable_hopper_features=True)
Sizes = tuple[int | str, ...]


def normed(x: Any, w: Any, scale: Any, shift: Any, **moves: int) -> Any:
    each = (1, w.shape[0], 1, 1)
    return ts.conv2d(x, w, **moves) * ts.reshape(scale, each) + ts.reshape(shift, each)


def basic(x: Any, w1: Any, s1: Any, b1: Any, w2: Any, s2: Any, b2: Any, w3: Any) -> Any:
    y = ts.relu(normed(x, w1, s1, b1, padding=1))
    y = ts.relu(normed(y, w2, s2, b2, padding=1) + x)
    return ts.conv2d(y, w3, padding=1)


def bottleneck(
    x: Any, w1: Any, s1: Any, b1: Any, w2: Any, s2: Any, b2: Any, w3: Any, s3: Any, b3: Any, w4: Any, w5: Any
) -> Any:
    y = ts.relu(normed(x, w1, s1, b1))
    y = ts.silu(normed(y, w2, s2, b2, padding=1, stride=2))
    y = ts.relu(normed(y, w3, s3, b3) + ts.conv2d(x, w4, stride=2))
    return ts.relu(ts.conv2d(y, w5, stride=2))


def read_twice(x: Any, w1: Any, w2: Any) -> Any:
    y = ts.conv2d(x, w1, padding=1)
    return ts.conv2d(ts.relu(y), w2, padding=1) + ts.conv2d(y, w2, padding=1)


WHOLE: list[tuple[Callable[..., Any], list[Sizes]]] = [
    (basic, [("n", 16, 11, 9), (16, 16, 3, 3), (16,), (16,), (16, 16, 3, 3), (16,), (16,), (24, 16, 3, 3)]),
    (
        bottleneck,
        [("n", 16, 8, 8), (8, 16, 1, 1), (8,), (8,), (8, 8, 3, 3), (8,), (8,),
         (32, 8, 1, 1), (32,), (32,), (32, 16, 1, 1), (8, 32, 1, 1)],
    ),
    (read_twice, [("n", 16, 6, 6), (16, 16, 3, 3), (8, 16, 3, 3)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "launches", "each", "copies"),
    # With each result copied for the next: 9 and 42768, 9 and 14400, 9 and 13248.
    [(0, 7, 30096, 1), (1, 7, 11840, 1), (2, 8, 10944, 2)],
)
def test_values_between_convolutions_are_written_and_read_once(
    number: int, launches: int, each: int, copies: int
) -> None:
    report = explained(number)
    # Copies of the input and of weights that are arguments, and the products.
    assert report.launches == launches
    assert evaluate(report.bytes, {"n": 3}) - evaluate(report.bytes, {"n": 2}) == each
    assert sum("copy" in k.operators and not isinstance(k.shape[0], int) for k in report.kernels) == copies


def test_what_a_product_does_not_write_is_computed_once_and_copied() -> None:
    report = explained(2)
    copied = [
        k.operators for k in report.kernels if "copy" in k.operators and not isinstance(k.shape[0], int)
    ]
    assert copied == [("copy",), ("relu", "copy")]


def test_small_images_stay_columns_of_warpgroups_narrow_tiles() -> None:
    for size, copies in ((7, 3), (14, 1)):
        shapes: list[Sizes] = [("n", 16, size, size), *WHOLE[0][1][1:]]
        graph = ts.jit(basic).trace([ts.TensorSpec(s, "f16") for s in shapes]).graph
        report = explain_graph(graph, units=MatrixUnits((9, 0), 227 << 10, warpgroups=True))
        written = [k for k in report.kernels if not isinstance(k.shape[0], int)]
        assert sum("copy" in k.operators for k in written) == copies


def explained(number: int) -> GraphReport:
    fn, shapes = WHOLE[number]
    graph = ts.jit(fn).trace([ts.TensorSpec(s, "f16") for s in shapes]).graph
    return explain_graph(graph, units=MatrixUnits((8, 0)))


def forced(program: Program, wanted: str) -> Program:
    """The program with the kernels that are called so, where there is a choice."""
    (plan,) = program.plans
    steps: list[Any] = []
    for step in plan.steps:
        options = step.options if isinstance(step, Choice) else ()
        chosen = [o for o in options if any(wanted in s.kernel for s in o.steps) and len(o.steps) == 1]
        steps += chosen[0].steps if chosen else (step,)
    return msgspec.structs.replace(program, plans=(msgspec.structs.replace(plan, steps=tuple(steps)),))


def check(number: int, batch: int | str, target: CompilationTarget | str, wanted: str, dtype: str) -> None:
    fn, shapes = WHOLE[number]
    rng = np.random.default_rng(number)
    specs = [ts.TensorSpec(tuple(batch if size == "n" else size for size in s), dtype) for s in shapes]
    artifact = compiled(ts.jit(fn), specs, target)
    (program,) = artifact.programs
    values = [rng.standard_normal([2 if size == "n" else size for size in s]) * 0.5 for s in shapes]
    named = {p.name: v.astype(p.dtype.numpy) for p, v in zip(program.inputs, values, strict=True)}
    traced = ts.jit(fn).trace(specs)
    (expected,) = run_graph(traced.graph, named, traced.constants, precision="f64").values()
    only = forced(program, wanted)
    names = [step.kernel for step in only.plans[0].steps if not isinstance(step, Choice)]
    assert any(wanted in name for name in names[:-1])
    sanitizer = Sanitizer()
    source = ArtifactSource(replace(artifact, programs=(only,)))
    (found,) = EmulatorDevice(sanitizer=sanitizer).load(only, source).run(list(named.values()), None)
    assert sanitizer.findings == ()
    error = np.abs(found.astype(np.float64) - expected).max()
    assert error <= 2 * TOLERANCE[dtype] * np.abs(expected).max()
    for binary in (b for b in artifact.binaries if b.format == "cubin" and b.resources is not None):
        assert binary.resources is not None
        assert (binary.resources.spill_bytes, binary.resources.stack_bytes) == (0, 0), binary.name


@pytest.mark.parametrize("number", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_results_are_those_of_float64(number: int) -> None:
    check(number, 2, "sm_80", "mma64x64", "f16")


@pytest.mark.slow
@pytest.mark.parametrize(("target", "wanted"), [("sm_80", "mma128x128"), (HOPPER, "wgmma128x64")])
def test_windows_as_rows_are_gathered_into_all_tiles(target: CompilationTarget | str, wanted: str) -> None:
    check(0, "n", target, wanted, "bf16" if wanted == "mma128x128" else "f16")
