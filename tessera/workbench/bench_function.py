"""A plain Python function as a target: its inputs drawn from specs, the calls timed as they are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tessera.program.dim import Dim, symbol
from tessera.program.program import Port, Program
from tessera.workbench.failure import UsageError
from tessera.workbench.specs import order_specs, parse_named_specs

if TYPE_CHECKING:
    from tessera.profiler.bench_baseline import Baseline
    from tessera.profiler.bench_result import BenchResult
    from tessera.program.spec import TensorSpec
    from tessera.workbench.benching import Wanted


def plain_function(target: str) -> Callable[..., object] | None:
    """The function that `FILE:NAME` names, if it is one of Python's own; None if it is anything else.

    Raises:
        CompileError: The file does not run.
    """
    from tessera.workbench.source import is_package, load_module, split_target

    if is_package(target) or not target.rpartition(":")[2].isidentifier():
        return None
    path, name = split_target(target)
    found = getattr(load_module(path), name or "", None)
    return found if inspect.isfunction(found) or inspect.isbuiltin(found) else None


def bench_function(
    function: Callable[..., object], wanted: Wanted, label: str, baseline: Baseline
) -> BenchResult:
    """Measure a function on random inputs of the shapes that `--spec` gives.

    Raises:
        UsageError: An argument has no spec, or an option says where it should run.
        OptionError: The baseline is a library, which would need a graph.
    """
    from tessera.profiler.bench import bench_target
    from tessera.profiler.sizes import choose_sizes, random_inputs

    if wanted.device != "cpu":
        raise UsageError(
            f"{label} is a function of Python's own: --device {wanted.device} does not reach it",
            hint="decorate it with @ts.jit, or leave --device out",
        )
    program = _program(function, wanted.spec)

    def inputs(batch: int) -> Sequence[object]:
        values, _ = choose_sizes(program, batch=batch, given=wanted.sizes)
        arrays = random_inputs(program, values)
        return [arrays[port.name] for port in program.inputs]

    return bench_target(
        function,
        inputs=inputs,
        batch_sizes=wanted.batch,
        seconds=wanted.seconds,
        warmup_seconds=wanted.warmup,
        baseline=baseline,
        label=label,
    )


def _program(function: Callable[..., object], texts: Sequence[str]) -> Program:
    """A program of the function's inputs, which nobody runs: its ports say what to draw."""
    name = function.__name__
    named = parse_named_specs(texts)
    arguments = tuple(inspect.signature(function).parameters)
    given = {**named.get("", {}), **named.get(name, {})}
    specs = zip(arguments, order_specs(name, arguments, given), strict=True)
    ports = tuple(Port(name=a, dtype=spec.dtype, shape=_shape(a, spec)) for a, spec in specs)
    return Program(name=name, inputs=ports, outputs=())


def _shape(argument: str, spec: TensorSpec) -> tuple[Dim, ...]:
    """The shape with a symbol for every open size; the first axis is the batch."""
    sizes: list[Dim] = []
    for axis, size in enumerate(spec.shape):
        if size is None:
            sizes.append(symbol("batch" if axis == 0 else f"{argument}_{axis}"))
        else:
            sizes.append(symbol(size) if isinstance(size, str) else size)
    return tuple(sizes)
