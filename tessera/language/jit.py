"""Functions of tensors that can be traced, compiled and called."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from tessera.language.annotations import annotated_spec, caller_names, resolve_annotations
from tessera.language.calling import Caller
from tessera.language.location import definition_location
from tessera.language.reads import function_key
from tessera.language.tensor import Tensor
from tessera.language.tracing import Source, Traced, arguments_from_specs, as_specs, source_of, trace
from tessera.program.errors import SourceLocation, TraceError
from tessera.program.spec import TensorSpec

if TYPE_CHECKING:
    import numpy as np

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""What a function may be called: it names files in a package."""


class JitFunction:
    """A Python function of tensors that becomes a graph; made by `ts.jit`.

    Called with tensors or NumPy arrays it runs, on the best device there is. Called
    within another traced function it becomes part of that one.

    Args:
        fn: A plain Python function.
        input_specs: One TensorSpec per parameter; by default those of the annotations.
        name: Name of the graph; by default the function's.
        names: What annotations given as text may name besides globals.

    Raises:
        TraceError: `fn` cannot be traced.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        input_specs: Sequence[TensorSpec] | None = None,
        name: str | None = None,
        names: Mapping[str, Any] | None = None,
    ) -> None:
        self.fn = fn
        """The Python function."""
        self.name = name or getattr(fn, "__name__", type(fn).__name__).replace("<lambda>", "function")
        """Name of the graph."""
        if not _NAME.fullmatch(self.name):
            raise TraceError(
                f"a function cannot be called {self.name!r}",
                hint="name='my_function': letters, digits, _, - and .",
                location=definition_location(fn),
            )
        source = source_of(fn, self.name)
        self._source = Source(source.fn, source.name, source.signature, source.location, self._closure)
        declared = _annotated_specs(fn, source, names or {})
        if input_specs is not None:
            given = arguments_from_specs(source, as_specs(input_specs, name=self.name))
            declared = {k: v for k, v in given.items() if isinstance(v, TensorSpec)}
        self._declared = declared
        self._caller = Caller(self._source, declared, lambda: function_key(self.fn))
        self._given = input_specs
        functools.update_wrapper(self, fn)

    @property
    def location(self) -> SourceLocation | None:
        """Where the function is defined."""
        return self._source.location

    @property
    def specs(self) -> list[TensorSpec] | None:
        """The inputs, from annotations or `input_specs`; None if they do not say all."""
        found: list[TensorSpec] = []
        for name, parameter in self._source.signature.parameters.items():
            if name in self._declared:
                found.append(self._declared[name])
            elif parameter.default is parameter.empty:
                return None
            else:
                break
        return found

    def trace(self, input_specs: Sequence[TensorSpec] | None = None) -> Traced:
        """The graph and constants of the function.

        Args:
            input_specs: One TensorSpec (or example tensor) per parameter; by default `specs`.

        Raises:
            TraceError: The function cannot become a graph, or specs are missing; `location` is the line.
            ShapeError: Shapes inside do not fit together; `location` is the line.
        """
        specs = self.specs if input_specs is None else as_specs(input_specs, name=self.name)
        if specs is None:
            raise missing_specs(self._source)
        return trace(self._source, arguments_from_specs(self._source, specs))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns for tensors or NumPy arrays; other arguments are built in."""
        return self._caller(args, kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> JitFunction:
        if instance is None:
            return self
        method = self.fn.__get__(instance, owner)
        return JitFunction(method, input_specs=self._given, name=self.name)

    def __repr__(self) -> str:
        return f"<ts.jit {self.name}{self._source.signature}>"

    def _closure(self) -> Mapping[str, np.ndarray[Any, Any]]:
        """Tensors and arrays that the function uses from outside, by their names there."""
        plain = inspect.unwrap(getattr(self.fn, "__func__", self.fn))
        try:
            variables = inspect.getclosurevars(plain)
        except (TypeError, ValueError):
            # A callable object, or a variable that has no value yet: its arrays go by numbers.
            return {}
        found: dict[str, Any] = {}
        for name, value in {**variables.globals, **variables.nonlocals}.items():
            if isinstance(value, Tensor) and not value.is_traced:
                found[name] = value.numpy()
            elif type(value).__module__ == "numpy" and type(value).__name__ == "ndarray":
                found[name] = value
        return found


def missing_specs(source: Source) -> TraceError:
    """The error for a function whose inputs are not known."""
    first = next(iter(source.signature.parameters), "x")
    return TraceError(
        f"{source.name}: the shapes and dtypes of its inputs are not known",
        hint=f"annotate them, {first}: ts.Tensor[ts.f32, 'batch', 1024], or pass "
        "input_specs=[ts.TensorSpec(shape=(None, 1024), dtype=ts.f32), ...]",
        location=source.location,
    )


def _annotated_specs(
    fn: Callable[..., Any], source: Source, names: Mapping[str, Any]
) -> dict[str, TensorSpec]:
    plain = inspect.unwrap(getattr(fn, "__func__", fn))
    annotations = resolve_annotations(plain, names)
    found = {name: annotated_spec(annotations.get(name), Tensor) for name in source.signature.parameters}
    return {name: spec for name, spec in found.items() if spec is not None}


@overload
def jit(
    fn: Callable[..., Any], *, input_specs: Sequence[TensorSpec] | None = None, name: str | None = None
) -> JitFunction: ...


@overload
def jit(
    fn: None = None, *, input_specs: Sequence[TensorSpec] | None = None, name: str | None = None
) -> Callable[[Callable[..., Any]], JitFunction]: ...


def jit(
    fn: Callable[..., Any] | None = None,
    *,
    input_specs: Sequence[TensorSpec] | None = None,
    name: str | None = None,
) -> JitFunction | Callable[[Callable[..., Any]], JitFunction]:
    """A function of tensors that can be traced, compiled and called: `@ts.jit`.

    Args:
        fn: A plain Python function of tensors that returns a tensor, or a tuple or dict of them.
        input_specs: One TensorSpec per parameter; by default those of the annotations.
        name: Name of the graph; by default the function's.

    Raises:
        TraceError: `fn` cannot be traced.
    """
    if fn is None:
        names = caller_names()
        return lambda function: _jitted(function, input_specs, name, names)
    return _jitted(fn, input_specs, name, caller_names())


def _jitted(
    fn: Callable[..., Any],
    input_specs: Sequence[TensorSpec] | None,
    name: str | None,
    names: Mapping[str, Any],
) -> JitFunction:
    if isinstance(fn, JitFunction):
        return JitFunction(fn.fn, input_specs=input_specs or fn.specs, name=name or fn.name, names=names)
    if not callable(fn) or isinstance(fn, type) or hasattr(fn, "forward"):
        kind = type(fn).__name__
        raise TraceError(
            f"ts.jit takes a function, not {fn.__name__ if isinstance(fn, type) else kind}",
            hint="a Module is traced as it is: model.trace([...])" if hasattr(fn, "forward") else "@ts.jit",
            location=definition_location(fn) if callable(fn) else None,
        )
    return JitFunction(fn, input_specs=input_specs, name=name, names=names)
