"""What a developer hands to the compiler: a kernel, a function, a model, or the file of a stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import isfunction
from typing import TYPE_CHECKING, Any

from tessera.compiler.gpu_code import Timings
from tessera.compiler.options import AOTConfig, ToolOptions
from tessera.compiler.unit import Unit
from tessera.program.errors import CompileError
from tessera.program.graph import Graph
from tessera.program.spec import TensorSpec

if TYPE_CHECKING:
    import numpy as np

    from tessera.compiler.graph_file import SavedGraph

Specs = Sequence[TensorSpec] | TensorSpec | None


def make_unit(
    fn: object,
    specs: list[TensorSpec] | None,
    name: str | None,
    config: AOTConfig,
    *,
    batched: bool = False,
    timings: Timings | None = None,
) -> Unit:
    """The program of a function, kernel or model, and the jobs that build its code.

    Args:
        fn: What to compile; also a graph or lowered program that was read from a file.
        specs: Of its inputs.
        name: Of the program; by default that of `fn`.
        config: Targets and options.
        batched: Whether the package holds other programs, which have arrays without a name too.
        timings: Where time spent is counted.

    Raises:
        CompileError: `fn` is none of these.
    """
    from tessera.language.kernel import Kernel

    targets, timings = config.tool_options(), timings or Timings()
    if isinstance(fn, Kernel):
        from tessera.compiler.raw_kernel import kernel_unit

        if fn.space is None or not (config.enable_autotuning or config.autotune_lock):
            return kernel_unit(fn, targets, name=name)
        from tessera.compiler.tuning.choice import choose

        found, notes = choose(fn, config)
        unit = kernel_unit(fn, targets, name=name, picks=found)
        return replace(unit, notes=(*unit.notes, *notes), tuned=True)
    from tessera.compiler.graph_unit import Lowered, lower_graph, lowered_unit, own_constants

    if isinstance(fn, Lowered):
        from tessera.compiler.kernels_file import narrowed

        if specs is not None:
            raise _has_shapes(fn.name)
        return lowered_unit(narrowed(fn, [options.target for options in targets], name), targets)
    saved = timings.timed("graph", lambda: graph_of(fn, specs, None))
    # Records are of the function, whatever its program is called.
    targets, notes = tuned_targets(saved.graph, saved.constants, config)
    saved = graph_of(saved, None, name)
    graph, constants = saved.graph, saved.constants
    if batched:
        graph, constants = own_constants(graph, constants)
    lowered = timings.timed("kernels", lambda: lower_graph(graph, constants, targets, config))
    unit = lowered_unit(lowered, targets)
    return replace(unit, notes=(*unit.notes, *notes), tuned=bool(notes))


def tuned_targets(
    graph: Graph, constants: Mapping[str, np.ndarray[Any, Any]], config: AOTConfig
) -> tuple[tuple[ToolOptions, ...], list[str]]:
    """The targets of a configuration, with the tiles that were tuned for a function; notes about each step.

    Raises:
        ConfigError: A lock file has nothing for a step as it is, or a file cannot be read.
    """
    targets = config.tool_options()
    if not (config.enable_autotuning or config.autotune_lock):
        return targets, []
    from tessera.compiler.tuning.choice import choose_tilings

    tilings, notes = choose_tilings(graph, constants, config)
    return tuple(replace(t, tilings=tilings.get(t.target, ())) for t in targets), notes


def graph_of(fn: object, specs: list[TensorSpec] | None, name: str | None) -> SavedGraph:
    """A function or model as a graph, before any pass.

    Args:
        fn: A `@ts.jit` function, a `ts.Module`, or a graph.
        specs: Of its inputs.
        name: Of the graph; by default that of `fn`.

    Raises:
        CompileError: `fn` has no graph.
        TraceError: It cannot become one.
    """
    from tessera.compiler.graph_file import SavedGraph
    from tessera.compiler.graph_unit import replace_name
    from tessera.language.jit import JitFunction
    from tessera.language.module import Module

    if isinstance(fn, SavedGraph):
        if specs is not None:
            raise _has_shapes(fn.name)
        found = fn
    elif isinstance(fn, (JitFunction, Module)):
        traced = fn.trace(specs)
        found = SavedGraph(traced.graph, traced.constants)
    else:
        kind = type(fn).__name__
        raise CompileError(
            f"{name_of(fn)} is a {kind}, neither a @ts.jit function, a @ts.kernel nor a ts.Module",
            hint=_remedy(fn),
        )
    return replace(found, graph=replace_name(found.graph, name)) if name else found


def _has_shapes(name: str) -> CompileError:
    return CompileError(
        f"{name} is a graph already, whose inputs have shapes and dtypes",
        hint="leave input_specs out, or compile the function it was made of",
    )


def spec_list(specs: Specs) -> list[TensorSpec] | None:
    """Specs as a list; None if the annotations say them."""
    if specs is None:
        return None
    return [specs] if isinstance(specs, TensorSpec) else list(specs)


def name_of(fn: object) -> str:
    """What to call it in messages."""
    return str(getattr(fn, "name", None) or getattr(fn, "__name__", None) or repr(fn)[:60])


def _remedy(fn: object) -> str:
    from tessera.language.module import Module

    if isinstance(fn, type) and issubclass(fn, Module):
        return f"make one first: {fn.__name__}(…)"
    return f"put @ts.jit above def {name_of(fn)}" if isfunction(fn) else "@ts.jit above def f(x): …"
