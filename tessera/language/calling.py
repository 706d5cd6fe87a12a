"""Calling a traceable function with values: traced once per kind of call, then run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tessera.language.builder import active
from tessera.language.execution import function_executor
from tessera.language.location import caller_location
from tessera.language.reads import value_key
from tessera.language.tensor import Tensor
from tessera.language.tracing import Argument, Source, Traced, trace
from tessera.program.errors import InputError
from tessera.program.spec import TensorSpec

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

REMEMBERED = 64
"""Most kinds of call that one function keeps the trace of."""


class Caller:
    """Runs one source, and remembers its traces.

    A trace keeps the values that constants had when it was made. Replacing one (`assign`, or
    another value for a global) changes `state` and makes a new trace; writing into its array
    does not.

    Args:
        source: What to trace and run.
        specs: TensorSpecs by parameter that the source declares; symbolic sizes in them
            save a trace, and a compilation, for each shape.
        state: What else a trace depends on.
    """

    def __init__(
        self,
        source: Source,
        specs: Mapping[str, TensorSpec],
        state: Callable[[], tuple[object, ...]] = tuple,
    ) -> None:
        self.source = source
        self.specs = specs
        self.state = state
        self._traces: OrderedDict[tuple[object, ...], Traced] = OrderedDict()

    def __call__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """What the function returns for these arguments; within a trace it becomes part of the graph."""
        if active() is not None:
            wrapped = {name: _wrapped(value) for name, value in kwargs.items()}
            return self.source.fn(*map(_wrapped, args), **wrapped)
        arguments: dict[str, Argument] = {}
        inputs: dict[str, Array] = {}
        for name, value in self._bound(args, kwargs).items():
            arguments[name] = self._argument(name, value)
            spec = arguments[name]
            if isinstance(spec, TensorSpec):
                inputs[spec.name or name] = _values(value)
        traced = self._trace(arguments)
        specs = [spec for spec in arguments.values() if isinstance(spec, TensorSpec)]
        results = function_executor()(traced, specs, inputs)
        return _structured(traced, results)

    def _bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        try:
            bound = self.source.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InputError(
                f"{self.source.name}: {error}",
                hint=f"arguments: {', '.join(self.source.signature.parameters)}",
                location=caller_location(),
            ) from None
        bound.apply_defaults()
        return bound.arguments

    def _argument(self, name: str, value: Any) -> Argument:
        if isinstance(value, Tensor) or _is_array(value):
            found = TensorSpec(tuple(value.shape), value.dtype)
            declared = self.specs.get(name)
            if declared is None:
                return found
            _check_declared(self.source.name, name, declared, found)
            return declared
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise InputError(
            f"{self.source.name}: argument {name!r} is a {type(value).__name__}",
            hint=f"arguments are tensors, NumPy arrays, numbers and strings: ts.tensor({name})",
            location=caller_location(),
            input=name,
        )

    def _trace(self, arguments: Mapping[str, Argument]) -> Traced:
        # 1, 1.0 and True are equal but do not trace alike, nor do 0.0 and -0.0.
        key = (*((name, _key(value)) for name, value in arguments.items()), *self.state())
        traced = self._traces.get(key)
        if traced is None:
            traced = self._traces[key] = trace(self.source, arguments)
            if len(self._traces) > REMEMBERED:
                self._traces.popitem(last=False)
        return traced


def _key(value: Argument) -> object:
    return value if isinstance(value, TensorSpec) else value_key(value)


def _is_array(value: object) -> bool:
    return type(value).__module__ == "numpy" and hasattr(value, "dtype") and hasattr(value, "shape")


def _wrapped(value: Any) -> Any:
    return Tensor(value) if _is_array(value) else value


def _values(value: Any) -> Array:
    import numpy as np

    array = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
    return np.asarray(array, order="C")


def _check_declared(function: str, name: str, declared: TensorSpec, found: TensorSpec) -> None:
    fits = len(declared.shape) == len(found.shape) and all(
        want == have for want, have in zip(declared.shape, found.shape, strict=True) if isinstance(want, int)
    )
    # tf32 is float32 in memory, so an array of float32 is one.
    if not fits or declared.dtype.numpy_name != found.dtype.numpy_name:
        raise InputError(
            f"{function}: argument {name!r} is {found}, declared is {declared}",
            hint=f"convert it, or change the annotation of {name}",
            location=caller_location(),
            input=name,
        )


def _structured(traced: Traced, results: Mapping[str, Array]) -> Any:
    graph = traced.graph
    tensors = {
        name: Tensor(results[name], graph.nodes[index].dtype)
        for name, index in zip(graph.output_names, graph.outputs, strict=True)
    }
    if traced.structure == "dict":
        return tensors
    return tuple(tensors.values()) if traced.structure == "tuple" else tensors["output"]
