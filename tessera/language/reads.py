"""What a traced function reads besides its arguments, as a key that changes when it does.

Globals and closures of the function, and of the plain functions, methods and
modules that it reaches through them. What libraries hold does not count.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from tessera.language.tensor import Tensor

_LIBRARIES = frozenset({"builtins", "math", "ml_dtypes", "numba", "numpy", "operator", "tessera", "typing"})
_MISSING = object()
_PLAIN = (bool, int, str, bytes, type(None))


class Same:
    """Equal to itself alone, by the object it holds; it keeps that alive, so that no other gets its id."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def value_key(value: object) -> object:
    """A key that tells plain values apart by type and value (also 0.0 from -0.0), tensors by their data."""
    if isinstance(value, float):
        return float, value.hex()
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, Tensor) and not value.is_traced:
        return Same(value.numpy())
    return Same(value)


def function_key(function: object, seen: set[int] | None = None) -> tuple[object, ...]:
    """The key of everything that `function` reads.

    Args:
        function: A plain function, a method, or a `ts.jit` function.
        seen: Ids of what the key has been taken of already, so that cycles end.
    """
    found: list[object] = []
    _read(function, found, set() if seen is None else seen)
    return tuple(found)


def _read(value: Any, found: list[object], seen: set[int]) -> None:
    from tessera.language.jit import JitFunction
    from tessera.language.module import Module

    if isinstance(value, (JitFunction, MethodType, FunctionType, list, tuple, dict)):
        if id(value) in seen:
            return
        seen.add(id(value))
    if isinstance(value, JitFunction):
        _read(value.fn, found, seen)
    elif isinstance(value, MethodType):
        _read(value.__func__, found, seen)
        _read(value.__self__, found, seen)
    elif isinstance(value, FunctionType):
        found.append(Same(value))
        if not _is_library(value.__module__):
            for inner in _globals_and_cells(value):
                _read(inner, found, seen)
    elif isinstance(value, Module):
        found.append(value.state_key(seen))
    elif isinstance(value, (list, tuple, dict)):
        found.append((type(value), len(value)))
        for inner in (*value.keys(), *value.values()) if isinstance(value, dict) else value:
            _read(inner, found, seen)
    else:
        found.append(value_key(value))


def _globals_and_cells(function: FunctionType) -> Iterator[object]:
    names = function.__globals__
    for path in _paths(function.__code__):
        value = names.get(path[0], _MISSING)
        for attribute in path[1:]:
            if not isinstance(value, ModuleType) or _is_library(value.__name__):
                break
            value = getattr(value, attribute, _MISSING)
        if value is not _MISSING and not isinstance(value, ModuleType):
            yield value
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            # A variable of an outer function that has no value yet.
            yield _MISSING


@lru_cache(maxsize=1024)
def _paths(code: CodeType) -> tuple[tuple[str, ...], ...]:
    """Globals that the code loads, with the attributes it takes of them: `("config", "scale")`."""
    found: dict[tuple[str, ...], None] = {}
    path: tuple[str, ...] = ()
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            path = (str(instruction.argval),)
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and path:
            path = (*path, str(instruction.argval))
        elif instruction.opname not in ("CACHE", "EXTENDED_ARG"):
            found |= {path: None} if path else {}
            path = ()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= dict.fromkeys(_paths(constant))
    return tuple(found)


def _is_library(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _LIBRARIES
