"""Models: parameters and submodules in attributes, and a forward function."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tessera.language.annotations import annotated_spec, resolve_annotations
from tessera.language.builder import active
from tessera.language.calling import Caller
from tessera.language.creation import to_array
from tessera.language.jit import missing_specs
from tessera.language.location import caller_location, definition_location
from tessera.language.reads import function_key, value_key
from tessera.language.tensor import Tensor
from tessera.language.tracing import Source, Traced, arguments_from_specs, as_specs, source_of, trace
from tessera.program.dim import format_shape
from tessera.program.errors import ConfigError, ShapeError, TraceError
from tessera.program.spec import TensorSpec

if TYPE_CHECKING:
    import numpy as np

    NdArray = np.ndarray[Any, np.dtype[Any]]


_CALLER = "_tessera_caller"
"""Attribute that keeps the traces of a Module; not part of its state."""


class Parameter(Tensor):
    """A weight of a Module.

    Args:
        data: Anything that NumPy makes an array of.
        dtype: Element type; by default that of `data`.
    """

    __slots__ = ()


class Module:
    """A model: subclass it, put Parameters and Modules in attributes, write `forward`.

    Submodules may also be in lists, tuples and dicts. Their parameters are called by the way to
    them, as in `layers.0.weight`.
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002 - a subclass says which
        """What the model computes; a subclass writes it, with a parameter for every input."""
        raise TraceError(
            f"{type(self).__name__} has no forward",
            hint="def forward(self, x): ...",
            location=definition_location(type(self).__init__),
        )

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter once, with its name, in the order in which they were set.

        Raises:
            TraceError: A `...` stands where a Module belongs.
        """
        leaves = _leaves(self, "", type(self).__name__, set())
        return ((name, leaf) for name, leaf in leaves if isinstance(leaf, Tensor))

    def parameters(self) -> Iterator[Tensor]:
        """Every parameter once."""
        return (parameter for _, parameter in self.named_parameters())

    def state_dict(self) -> dict[str, NdArray]:
        """The values of the parameters by name, sharing memory with them."""
        return {name: parameter.numpy() for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, object], *, strict: bool = True) -> None:
        """Replace the values of the parameters; each is converted to the dtype it has.

        Args:
            state: Tensors or arrays by parameter name.
            strict: Whether names that are missing or not known are an error.

        Raises:
            ConfigError: Names are missing or not known; `fields` has `missing` and `unexpected`.
            ShapeError: A value has another shape. Nothing was replaced then.
        """
        parameters = dict(self.named_parameters())
        missing = [name for name in parameters if name not in state]
        unexpected = [name for name in state if name not in parameters]
        if strict and (missing or unexpected):
            raise _names_error(type(self).__name__, missing, unexpected, list(parameters))
        arrays = {
            name: _fitting(type(self).__name__, name, parameter, state[name])
            for name, parameter in parameters.items()
            if name in state
        }
        for name, array in arrays.items():
            parameters[name].assign(array)

    @property
    def specs(self) -> list[TensorSpec] | None:
        """The inputs, from the annotations of `forward`; None if they do not say all."""
        declared = _declared(self)
        needed = [p.name for p in _source(self).signature.parameters.values() if p.default is p.empty]
        return list(declared.values()) if needed and all(n in declared for n in needed) else None

    def trace(self, input_specs: Sequence[TensorSpec] | None = None) -> Traced:
        """The graph of `forward`; its constants are the parameters, by their names.

        Args:
            input_specs: One TensorSpec (or example tensor) per input; by default `specs`.

        Raises:
            TraceError: `forward` cannot become a graph, or specs are missing; `location` is the line.
            ShapeError: Shapes inside do not fit together; `location` is the line.
        """
        source = _source(self)
        specs = self.specs if input_specs is None else as_specs(input_specs, name=source.name)
        if specs is None:
            raise missing_specs(source)
        return trace(source, arguments_from_specs(source, specs))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the model returns for tensors or NumPy arrays; other arguments are built in."""
        builder = active()
        if builder is not None:
            builder.name_constants(self.state_dict())
            return self.forward(*args, **kwargs)
        caller: Caller | None = vars(self).get(_CALLER)
        if caller is None:
            caller = vars(self)[_CALLER] = Caller(
                _source(self), _declared(self), lambda: self.state_key(set())
            )
        return caller(args, kwargs)

    def state_key(self, seen: set[int]) -> tuple[object, ...]:
        """What the graph of the model depends on: its weights, its plain values, what its code reads.

        Args:
            seen: Ids of what the key has been taken of already.
        """
        found: list[object] = []
        for name, leaf in _leaves(self, "", type(self).__name__, seen):
            if isinstance(leaf, Module):
                found += [(name, type(leaf)), *function_key(type(leaf).forward, seen)]
            else:
                found.append((name, value_key(leaf)))
        return tuple(found)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != _CALLER}

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}: {p.dtype}{list(p.shape)}" for name, p in self.named_parameters())
        return f"{type(self).__name__}({inner})"


def _leaves(value: object, name: str, path: str, seen: set[int]) -> Iterator[tuple[str, object]]:
    """Every module, parameter and plain value below `value`, with its name; each object once."""
    if value is ...:
        raise TraceError(
            f"{path} is ...: put a Module or a function there",
            hint="... stands for what you fill in",
            location=caller_location(),
        )
    if isinstance(value, (Module, list, tuple, dict, Tensor)):
        # One weight under two names is one weight; and a module may lead back to itself.
        if id(value) in seen:
            return
        seen.add(id(value))
    inner: Iterable[tuple[str, str, object]] = ()
    if isinstance(value, Module):
        inner = ((str(k), f".{k}", v) for k, v in vars(value).items() if k != _CALLER)
    elif isinstance(value, dict):
        inner = ((str(k), f"[{k!r}]", v) for k, v in value.items())
    elif isinstance(value, (list, tuple)):
        inner = ((str(i), f"[{i}]", v) for i, v in enumerate(value))
    elif isinstance(value, (Tensor, bool, int, float, str)) or callable(value) or _is_array(value):
        yield name, value
    if isinstance(value, Module):
        yield name, value
    for key, step, child in inner:
        yield from _leaves(child, f"{name}.{key}" if name else key, path + step, seen)


def _is_array(value: object) -> bool:
    return type(value).__module__ == "numpy" and hasattr(value, "dtype")


def _source(module: Module) -> Source:
    found = source_of(module.forward, type(module).__name__)
    return Source(found.fn, found.name, found.signature, found.location, module.state_dict)


def _declared(module: Module) -> dict[str, TensorSpec]:
    plain = inspect.unwrap(getattr(module.forward, "__func__", module.forward))
    annotations = resolve_annotations(plain, {})
    names = inspect.signature(module.forward).parameters
    found = {name: annotated_spec(annotations.get(name), Tensor) for name in names}
    return {name: spec for name, spec in found.items() if spec is not None}


def _names_error(model: str, missing: list[str], unexpected: list[str], known: list[str]) -> ConfigError:
    parts = []
    if missing:
        parts.append(f"missing {_listed(missing)}")
    if unexpected:
        parts.append(f"unexpected {_listed(unexpected)}")
    near = difflib.get_close_matches(unexpected[0], known, n=1) if unexpected else []
    return ConfigError(
        f"{model}.load_state_dict: {', '.join(parts)}",
        hint=f"did you mean {near[0]}?" if near else "strict=False loads the names that both have",
        missing=missing,
        unexpected=unexpected,
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _fitting(model: str, name: str, parameter: Tensor, value: object) -> NdArray:
    array, _ = to_array(value, parameter.dtype)
    if array.shape != parameter.shape:
        raise ShapeError(
            f"{model}.load_state_dict: {name!r} has shape {array.shape}, "
            f"the parameter {format_shape(parameter.shape)}",
            hint="the state belongs to a model of other sizes",
            parameter=name,
        )
    return array
