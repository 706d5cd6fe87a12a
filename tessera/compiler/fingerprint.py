"""What a function means, as a digest: the same however it is laid out and wherever it lies.

A function is described by its bytecode, which holds no comments, line numbers
or folders, and by everything it reads: globals, closure cells, defaults, module
attributes, and the functions it calls, transitively.
"""

from __future__ import annotations

import dis
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from enum import Enum, EnumMeta
from functools import cache
from pathlib import Path, PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import msgspec

from tessera.compiler.numba_adapter import intrinsic_body, is_dispatcher
from tessera.compiler.source import nested_code

_LIBRARIES = frozenset({"builtins", "cmath", "llvmlite", "math", "numba", "numpy", "operator", "tessera"})
"""Packages whose contents are known by version: their names stand for what they hold."""
_FLAGS = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS | inspect.CO_GENERATOR | inspect.CO_NESTED
"""Flags of code that say what it does; others say which `from __future__` its file has."""
_MISSING = object()


class UnknownValueError(Exception):
    """A function reads something that has no lasting description; the text says what."""


def function_digest(function: Callable[..., Any], *, lines: bool = False) -> str:
    """Digest of a Python function and everything it reads.

    Args:
        function: A plain function, or one decorated by Numba.
        lines: Whether line numbers and the file's name count too (for code with line information).

    Raises:
        UnknownValueError: It reads an object that cannot be told apart from a changed one.
    """
    return digest(_Describer(lines).value(function))


def digest(data: object) -> str:
    """Digest of JSON data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@cache
def own_digest() -> str:
    """Digest of the sources of Tessera that decide what code comes out; read once, in 2 ms."""
    root = Path(__file__).parent
    found = hashlib.sha256()
    for folder in (root, root.parent / "program", root.parent / "language" / "gpu"):
        for file in sorted(folder.rglob("*.py")):
            found.update(file.relative_to(root.parent).as_posix().encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


class _Describer:
    """One walk over a function; what was seen is named by number, so that cycles end."""

    def __init__(self, lines: bool) -> None:
        self._lines = lines
        self._seen: dict[int, int] = {}
        self._keep: list[object] = []

    def value(self, value: Any) -> Any:
        for kind, describe in _DESCRIBE:
            if isinstance(value, kind):
                return describe(self, value)
        return self._other(value)

    def function(self, value: FunctionType) -> Any:
        if _root(value.__module__) in _LIBRARIES:
            return ["library", value.__module__, value.__qualname__]
        if id(value) in self._seen:
            return ["seen", self._seen[id(value)]]
        self._seen[id(value)] = len(self._seen)
        self._keep.append(value)
        cells = [
            [name, self._cell(cell)]
            for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        ]
        return [
            "function",
            self.code(value.__code__, value.__doc__),
            [[".".join(path), self.value(v)] for path, v in _globals_read(value)],
            cells,
            self.value(value.__defaults__),
            self.value(value.__kwdefaults__),
        ]

    def _cell(self, cell: Any) -> Any:
        try:
            return self.value(cell.cell_contents)
        except ValueError:
            return "empty"

    def code(self, code: CodeType, doc: str | None = None) -> Any:
        constants = list(code.co_consts)
        if doc is not None and constants and constants[0] == doc:
            constants[0] = None
        found = [
            code.co_code.hex(),
            [self.code(c) if isinstance(c, CodeType) else self.value(c) for c in constants],
            [list(code.co_names), list(code.co_varnames), list(code.co_freevars), list(code.co_cellvars)],
            [code.co_argcount, code.co_kwonlyargcount, code.co_flags & _FLAGS],
        ]
        if self._lines:
            found.append([PurePath(code.co_filename).name, [list(p) for p in code.co_positions()]])
        return found

    def array(self, value: Any) -> Any:
        data = hashlib.sha256(value.tobytes()).hexdigest()
        return ["array", str(value.dtype), list(value.shape), data]

    def _other(self, value: Any) -> Any:
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if is_dispatcher(value):
            options = {k: v for k, v in value.targetoptions.items() if isinstance(v, (bool, int, str))}
            return ["numba", name, sorted(options.items()), self.value(value.py_func)]
        body = intrinsic_body(value)
        if body is not None:
            return ["intrinsic", self.value(body)]
        if name == "numpy.ndarray" or _root(kind.__module__) == "numpy":
            import numpy as np

            return self.array(np.asarray(value)) if not isinstance(value, np.dtype) else ["dtype", str(value)]
        if isinstance(value, msgspec.Struct) or _root(kind.__module__) in _LIBRARIES:
            # Types, dtypes and stubs of Numba, DTypes of Tessera: their text names them fully.
            text = repr(value)
            if " at 0x" not in text:
                return ["known", name, text]
        raise UnknownValueError(f"a value of type {name}")

    def sequence(self, value: Any) -> Any:
        return [type(value).__name__, [self.value(v) for v in value]]

    def mapping(self, value: dict[Any, Any]) -> Any:
        return ["dict", [[self.value(k), self.value(v)] for k, v in value.items()]]

    def unordered(self, value: Any) -> Any:
        return [type(value).__name__, sorted(json.dumps(self.value(v)) for v in value)]


def _named(_: _Describer, value: Any) -> Any:
    module = getattr(value, "__module__", None) or ""
    return ["name", module, getattr(value, "__qualname__", getattr(value, "__name__", ""))]


# The first kind that fits; an IntEnum is an int too.
_DESCRIBE: tuple[tuple[Any, Callable[[_Describer, Any], Any]], ...] = (
    (EnumMeta, lambda d, v: ["enum", _named(d, v), [[m.name, d.value(m.value)] for m in v]]),
    (Enum, lambda d, v: ["member", _named(d, type(v)), v.name, d.value(v.value)]),
    ((type(None), type(...)), lambda _, v: repr(v)),
    ((bool, str), lambda _, v: [type(v).__name__, v]),
    (int, lambda _, v: ["int", str(v)]),
    (float, lambda _, v: ["float", v.hex()]),
    (complex, lambda _, v: ["complex", v.real.hex(), v.imag.hex()]),
    (bytes, lambda _, v: ["bytes", v.hex()]),
    (FunctionType, _Describer.function),
    (MethodType, lambda d, v: ["method", d.value(v.__func__), d.value(v.__self__)]),
    (CodeType, lambda d, v: d.code(v)),
    (ModuleType, lambda _, v: ["module", v.__name__]),
    ((BuiltinFunctionType, type), _named),
    ((tuple, list), _Describer.sequence),
    (dict, _Describer.mapping),
    ((set, frozenset), _Describer.unordered),
)


def _root(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _globals_read(function: FunctionType) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every global that the code reads, and attributes of modules: (`("math", "pi")`, 3.14…)."""
    found: dict[tuple[str, ...], Any] = {}
    for code in nested_code(function.__code__):
        path: tuple[str, ...] = ()
        value: Any = _MISSING
        for instruction in dis.get_instructions(code):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                path = (str(instruction.argval),)
                value = _lookup(function, path[0])
            elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(value, ModuleType):
                path = (*path, str(instruction.argval))
                value = getattr(value, path[-1], _MISSING)
            elif instruction.opname not in ("CACHE", "EXTENDED_ARG"):
                value = _MISSING
            if value is not _MISSING:
                found[path] = value
    return iter(sorted(found.items(), key=lambda item: item[0]))


def _lookup(function: FunctionType, name: str) -> Any:
    builtins = function.__builtins__ if hasattr(function, "__builtins__") else {}
    return function.__globals__.get(name, builtins.get(name, _MISSING))
