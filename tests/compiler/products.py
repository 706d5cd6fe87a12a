"""Runs each variant of a product of matrices in the emulator, whatever its sizes would choose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

import tessera as ts
from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget
from tessera.emulator.sanitizer import Sanitizer
from tessera.program.artifact import Artifact
from tessera.program.bind import bind_symbols
from tessera.program.dim import evaluate
from tessera.program.program import Choice, Compare, Option, Program
from tessera.reference import run_graph
from tessera.runtime import ArtifactSource
from tessera.runtime.emulator import EmulatorDevice

TOLERANCE = {"f32": 2e-5, "tf32": 2e-3, "f16": 4e-3, "bf16": 2e-2, "f8e4m3": 0.13, "f8e5m2": 0.26}
"""Largest error relative to the largest result: a rounding to the result's type; tf32 rounds its operands."""


def compiled(fn: Any, specs: Sequence[ts.TensorSpec], target: CompilationTarget | str = "sm_80") -> Artifact:
    return AOTCompiler(AOTConfig(targets=[target])).compile(fn, list(specs)).artifact


def variants(program: Program) -> Iterator[tuple[str, Program, tuple[Compare, ...]]]:
    """Each way to run a program that ends in a product: the kernel's name, the program, when it may run."""
    (plan,) = program.plans
    *before, step = plan.steps
    options = step.options if isinstance(step, Choice) else (Option(steps=(step,)),)
    for option in options:
        only = msgspec.structs.replace(plan, steps=(*before, *option.steps))
        name = option.steps[0].kernel
        yield name, msgspec.structs.replace(program, plans=(only,)), option.guard


def aligned(program: Program, guard: tuple[Compare, ...], inputs: dict[str, Any]) -> bool:
    """Whether what a variant cannot do without holds: its copies' alignment."""
    symbols = bind_symbols(program, {name: np.shape(value) for name, value in inputs.items()})
    return all(evaluate(c.rhs, symbols) % evaluate(c.lhs, symbols) == 0 for c in guard if c.op == "divides")


def with_blocks(program: Program, blocks: int) -> Program:
    """The same program, its one launch of so many blocks."""
    (plan,) = program.plans
    (launch,) = plan.steps
    fewer = msgspec.structs.replace(launch, grid=(blocks, 1, 1))
    return msgspec.structs.replace(program, plans=(msgspec.structs.replace(plan, steps=(fewer,)),))


def check_variants(
    fn: Any,
    specs: Sequence[ts.TensorSpec],
    inputs: Sequence[Any],
    *,
    target: CompilationTarget | str = "sm_80",
    watched: bool = True,
    tolerance: float | None = None,
    blocks: int | None = None,
) -> list[str]:
    """Every variant that can run agrees with float64, without a finding; the names of those that ran.

    Those that pack operands have memory for large products alone, and are left out. With `blocks`, kernels
    that go from tile to tile get so many.
    """
    artifact = compiled(fn, specs, target)
    (program,) = artifact.programs
    named = {p.name: np.asarray(v).astype(p.dtype.numpy) for p, v in zip(program.inputs, inputs, strict=True)}
    traced = fn.trace(list(specs))
    (expected,) = run_graph(traced.graph, named, traced.constants, precision="f64").values()
    (port,) = program.outputs
    ran = []
    for name, only, guard in variants(program):
        if not aligned(program, guard, named) or "_pack_" in name:
            continue
        if blocks is not None and "_tma" in name:
            only = with_blocks(only, blocks)
        sanitizer = Sanitizer() if watched else None
        source = ArtifactSource(replace(artifact, programs=(only,)))
        (found,) = EmulatorDevice(sanitizer=sanitizer).load(only, source).run(list(named.values()), None)
        if sanitizer is not None:
            assert sanitizer.findings == (), name
        assert found.shape == expected.shape
        if port.dtype.is_float:
            bound = tolerance or max(TOLERANCE[p.dtype.name] for p in (*program.inputs, port))
            error = np.abs(found.astype(np.float64) - expected).max(initial=0)
            assert error <= bound * max(np.abs(expected).max(initial=0), 1e-3), name
        else:
            np.testing.assert_array_equal(found, expected, err_msg=name)
        ran.append(name)
    return ran
