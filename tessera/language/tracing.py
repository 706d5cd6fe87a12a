"""From a Python function to a graph, by calling it with tensors that have no value."""

from __future__ import annotations

import difflib
import inspect
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tessera.language import operators as ops
from tessera.language.builder import GraphBuilder, recording
from tessera.language.emit import node_of
from tessera.language.location import definition_location, raised_location, return_location
from tessera.language.tensor import Tensor
from tessera.program.errors import SourceLocation, TesseraError, TraceError
from tessera.program.graph import Graph
from tessera.program.spec import TensorSpec

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

Structure = Literal["one", "tuple", "dict"]
Argument = TensorSpec | bool | int | float | str | None
"""What a parameter is traced with: a tensor to come, or a Python value that is built into the graph."""


_CALL = re.compile(r"(\w+)\(\) (?:got|missing|takes)")
"""Python's message on arguments that a function does not take."""
_HINTS = {
    "ellipsis": "put a function or a Module in place of ...",
    "does not support item": "a tensor is a value: make another with ts.where, ts.scatter or ts.concat",
}
"""By words of a TypeError."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Traced:
    """A traced function."""

    graph: Graph
    """The function; its inputs have the names of the parameters."""
    constants: dict[str, Array] = field(repr=False)
    """The weights by name, with the dtypes of the graph's `constant` nodes."""
    structure: Structure = "one"
    """Whether the function returns one tensor, a tuple or a dict."""


@dataclass(frozen=True, slots=True)
class Source:
    """A function that can be traced."""

    fn: Callable[..., Any]
    """What to call."""
    name: str
    """Name of the graph."""
    signature: inspect.Signature
    location: SourceLocation | None
    """Where it is defined."""
    weights: Callable[[], Mapping[str, Array]] = dict
    """Names of the arrays that the function uses."""


def source_of(fn: Callable[..., Any], name: str) -> Source:
    """`fn` as something to trace.

    Raises:
        TraceError: It is no plain function, or takes a number of arguments that is not fixed.
    """
    where = definition_location(fn)
    if inspect.isgeneratorfunction(fn) or inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
        raise TraceError(
            f"{name} is a generator or coroutine, which cannot be traced",
            hint="write a plain function that returns its tensors",
            location=where,
        )
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        raise TraceError(f"{name!r} has no signature to trace", hint="wrap it: lambda x: f(x)") from None
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind == parameter.VAR_POSITIONAL else "**"
            raise TraceError(
                f"{name} takes {stars}{parameter.name}: every input needs a name",
                hint="write the parameters out",
                location=where,
            )
    return Source(fn, name, signature, where)


def trace(source: Source, arguments: Mapping[str, Argument]) -> Traced:
    """The graph of `source` for tensors like `arguments`, by parameter.

    Raises:
        TraceError: The function cannot become a graph; `location` is the user's line.
        ShapeError: Shapes inside do not fit together; `location` is the user's line.
    """
    builder = GraphBuilder(source.name, snapshots=True)
    builder.line = (source.location.file, source.location.line) if source.location else (None, None)
    values = {name: _placeholder(builder, name, value, source) for name, value in arguments.items()}
    with recording(builder):
        builder.name_constants(source.weights())
        result = _called(source, values)
        structure, outputs = _outputs(source, builder, result)
    graph, constants = builder.finish(tuple(outputs.values()), tuple(outputs))
    return Traced(graph, constants, structure)


def _placeholder(builder: GraphBuilder, parameter: str, value: Argument, source: Source) -> Any:
    if not isinstance(value, TensorSpec):
        return value
    name = value.name or parameter
    if any(node.attrs.get("name") == name for node in builder.nodes):
        raise TraceError(
            f"{source.name}: two inputs are called {name!r}", hint="give every TensorSpec another name"
        )
    return Tensor.traced(builder, builder.add("input", (), value.dims(name), value.dtype, name=name))


def _called(source: Source, values: Mapping[str, Any]) -> Any:
    keywords = {
        name: values[name]
        for name, parameter in source.signature.parameters.items()
        if name in values and parameter.kind == parameter.KEYWORD_ONLY
    }
    positional = [value for name, value in values.items() if name not in keywords]
    try:
        return source.fn(*positional, **keywords)
    except TesseraError as error:
        if error.location is None:
            error.location = raised_location(error.__traceback__) or source.location
        raise
    except Exception as error:
        raise TraceError(
            f"{source.name} failed while it was traced: {type(error).__name__}: {error}",
            hint=_hint(error),
            location=raised_location(error.__traceback__) or source.location,
        ) from error


def _hint(error: Exception) -> str | None:
    if isinstance(error, NameError) and error.name and error.__traceback__:
        last = error.__traceback__
        while last.tb_next is not None:
            last = last.tb_next
        known = [*last.tb_frame.f_locals, *last.tb_frame.f_globals]
        near = difflib.get_close_matches(error.name, known, n=1)
        return f"did you mean {near[0]}?" if near else "define or import it first"
    if isinstance(error, AttributeError) and isinstance(error.name, str) and error.obj is not None:
        near = difflib.get_close_matches(error.name, dir(error.obj), n=1)
        return (
            f"did you mean {near[0]}?" if near else f"it must be set first, as in __init__: {error.name} = …"
        )
    if not isinstance(error, TypeError):
        return None
    called = _CALL.match(str(error))
    function = getattr(ops, called[1], None) if called and called[1] in ops.OPERATORS else None
    if called and function:
        return f"ts.{called[1]}({', '.join(inspect.signature(function).parameters)})"
    return next((hint for words, hint in _HINTS.items() if words in str(error)), None)


def _outputs(source: Source, builder: GraphBuilder, result: Any) -> tuple[Structure, dict[str, int]]:
    where = return_location(source.fn) or source.location
    structure: Structure = "one"
    named: dict[str, Any] = {"output": result}
    if isinstance(result, dict):
        structure, named = "dict", result
    elif isinstance(result, (tuple, list)):
        fields = getattr(result, "_fields", None) or [f"output_{i}" for i in range(len(result))]
        structure, named = "tuple", dict(zip(fields, result, strict=True))
    if not named:
        raise TraceError(f"{source.name} returns no tensor", hint="return at least one", location=where)
    twice = [name for name, count in Counter(map(str, named)).items() if count > 1]
    if twice:
        raise TraceError(
            f"{source.name} returns two outputs called {twice[0]!r}",
            hint="outputs are called by the text of their keys; give each another one",
            location=where,
        )
    return structure, {str(k): _output(source, builder, str(k), v, where) for k, v in named.items()}


def _output(
    source: Source, builder: GraphBuilder, name: str, value: Any, where: SourceLocation | None
) -> int:
    if type(value).__module__ == "numpy" and hasattr(value, "dtype"):
        value = Tensor(value)
    if not isinstance(value, Tensor):
        kind = "None" if value is None else f"{value!r:.40}, of type {type(value).__name__}"
        what = "" if name == "output" else f" as {name!r}"
        raise TraceError(
            f"{source.name} returns {kind}{what}: not a tensor",
            hint="does it lack a return statement?"
            if value is None
            else "return a tensor, a tuple of tensors or a dict of tensors",
            location=where,
        )
    try:
        return node_of(builder, value, "return")
    except TesseraError as error:
        error.location = error.location or where
        raise


def arguments_from_specs(source: Source, specs: Sequence[TensorSpec]) -> dict[str, Argument]:
    """Specs by parameter, in order; parameters with a default may be left out at the end.

    Raises:
        TraceError: Too few or too many specs.
    """
    parameters = list(source.signature.parameters.values())
    required = [p for p in parameters if p.default is p.empty]
    if not len(required) <= len(specs) <= len(parameters):
        names = ", ".join(p.name for p in parameters)
        raise TraceError(
            f"{source.name} takes {_count(len(required), 'input')} ({names}), "
            f"got {_count(len(specs), 'spec')}",
            hint=f"input_specs=[{', '.join(['ts.TensorSpec(...)'] * len(required))}], one for each parameter",
            location=source.location,
            expected=len(required),
            given=len(specs),
        )
    return {p.name: spec for p, spec in zip(parameters, specs, strict=False)}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def as_specs(values: object, *, name: str) -> list[TensorSpec]:
    """`values` as TensorSpecs: specs themselves, or tensors and arrays as examples.

    Raises:
        TraceError: `values` is no sequence of those.
    """
    if isinstance(values, (TensorSpec, str, bytes)) or not isinstance(values, Sequence):
        raise TraceError(
            f"{name}: input_specs is a list with one TensorSpec per input, not {type(values).__name__}",
            hint="input_specs=[ts.TensorSpec(shape=(None, 1024), dtype=ts.bf16)]",
        )
    return [_as_spec(value, name) for value in values]


def _as_spec(value: object, name: str) -> TensorSpec:
    if isinstance(value, TensorSpec):
        return value
    if isinstance(value, Tensor) or type(value).__module__ == "numpy":
        return TensorSpec(value.shape, value.dtype)  # type: ignore[attr-defined]
    raise TraceError(
        f"{name}: an input spec is a TensorSpec, not {type(value).__name__}",
        hint="ts.TensorSpec(shape=(None, 1024), dtype=ts.bf16)",
    )
