"""A model and an example become one artifact, ready to be packaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tessera.compiler.aot import build_artifact
from tessera.compiler.build import Progress
from tessera.compiler.cache import CompileCache
from tessera.compiler.graph_unit import graph_unit, replace_name
from tessera.compiler.options import AOTConfig
from tessera.compiler.quantize import Quantized, quantize
from tessera.compiler.subject import tuned_targets
from tessera.program.artifact import Artifact
from tessera.program.errors import CompileError, TesseraError
from tessera.program.graph import Graph
from tessera.program.program import DEFAULT_PROGRAM
from tessera.program.spec import TensorSpec

if TYPE_CHECKING:
    import numpy as np

    from tessera.language.jit import JitFunction
    from tessera.language.module import Module
    from tessera.language.tracing import Traced

    Array = np.ndarray[Any, Any]

BATCH = "batch"
"""Symbol of the first axis of its inputs."""


def export_artifact(
    model: object,
    example_inputs: Any,
    config: AOTConfig,
    cache: CompileCache,
    *,
    quantization: str | None = None,
    progress: Progress | None = None,
) -> Artifact:
    """A model compiled for inputs like the example, with any batch size where the model allows it.

    Args:
        model: A `ts.Module` or a `@ts.jit` function.
        example_inputs: One tensor or array, or a sequence of them; axis 0 is the batch.
        config: Targets and options.
        cache: Where finished kernels are kept.
        quantization: `int8` stores the weights of matrix products in 8 bits.
        progress: Called as `progress(done, total, label)` after each kernel and target.

    Raises:
        TraceError: The model cannot become a graph.
        CompileError: `model` is neither, a kernel does not compile, or the quantization is unknown.
    """
    from tessera.language.jit import JitFunction
    from tessera.language.module import Module

    if not isinstance(model, (JitFunction, Module)):
        raise CompileError(
            f"{getattr(model, 'name', None) or getattr(model, '__name__', model)} is a "
            f"{type(model).__name__}, neither a ts.Module nor a @ts.jit function",
            hint="kernels are compiled by AOTCompiler().compile(…), and packaged by PackageBuilder",
        )
    examples = _examples(example_inputs)
    traced, notes = _trace(model, examples)
    graph, constants = replace_name(traced.graph, DEFAULT_PROGRAM), traced.constants
    if quantization is not None:
        done = quantize(graph, constants, quantization)
        notes += _quantization_notes(graph, constants, done, examples)
        graph, constants = done.graph, done.constants
    # Records are of the function, whatever its program is called.
    targets, tuned = tuned_targets(replace_name(graph, traced.graph.name), constants, config)
    unit = graph_unit(graph, constants, targets, config)
    unit = replace(unit, notes=(*unit.notes, *tuned), tuned=bool(tuned))
    artifact = build_artifact([unit], config, cache, progress)
    return replace(artifact, notes=(*notes, *artifact.notes))


def _examples(given: Any) -> list[Array]:
    import numpy as np

    values = list(given) if isinstance(given, (tuple, list)) else [given]
    if not values:
        raise CompileError("example_inputs is empty", hint="example_inputs=ts.randn(1, 512, 1024)")
    return [np.asarray(v.numpy() if hasattr(v, "numpy") else v) for v in values]


def _trace(model: JitFunction | Module, examples: Sequence[Array]) -> tuple[Traced, list[str]]:
    """The model traced with a symbolic batch, or with the example's where it needs a number."""
    fixed = [TensorSpec(value.shape, value.dtype) for value in examples]
    if not all(value.ndim for value in examples) or len({value.shape[0] for value in examples}) != 1:
        return model.trace(fixed), ["batch size fixed: the inputs have no common first axis"]
    free = [TensorSpec((BATCH, *value.shape[1:]), value.dtype) for value in examples]
    try:
        return model.trace(free), []
    except TesseraError as error:
        # If it does not trace with the example's size either, the error is the model's own.
        traced = model.trace(fixed)
        return traced, [f"batch size fixed at {examples[0].shape[0]}: {error.message}"]


def _quantization_notes(
    graph: Graph, constants: Mapping[str, Array], done: Quantized, examples: Sequence[Array]
) -> list[str]:
    notes = [f"int8 {weight}" for weight in done.weights]
    notes += [f"{name} was not quantized: it is used outside of matrix products too" for name in done.left]
    return [*notes, _output_error(graph, constants, done, examples)]


def _output_error(
    graph: Graph, constants: Mapping[str, Array], done: Quantized, examples: Sequence[Array]
) -> str:
    """What quantization does to the model's outputs on the example, computed in float64."""
    import numpy as np

    from tessera.reference import run_graph

    inputs = dict(zip(graph.leaves("input"), examples, strict=True))
    exact = run_graph(graph, inputs, constants, precision="f64")
    rounded = run_graph(done.graph, inputs, done.constants, precision="f64")
    parts = []
    for name, value in exact.items():
        wide = np.asarray(value, np.float64)
        difference = np.asarray(rounded[name], np.float64) - wide
        size = float(np.sqrt(np.mean(wide**2))) if wide.size else 0.0
        rms = float(np.sqrt(np.mean(difference**2))) if wide.size else 0.0
        worst = float(np.max(np.abs(difference), initial=0.0))
        parts.append(
            f"{name} changes by at most {worst:.3g}" + (f" ({rms / size:.2%} of its RMS)" if size else "")
        )
    return "int8 on the example: " + "; ".join(parts)
