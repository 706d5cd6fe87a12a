"""Whatever a compiler says about a kernel becomes one error: what, where, and what to do."""

from __future__ import annotations

import ast
import difflib
import dis
import linecache
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any

from tessera.compiler.constructs import check_constructs
from tessera.compiler.numba_adapter import error_location, is_dispatcher
from tessera.compiler.remedies import REMEDIES
from tessera.compiler.source import column_of_line, nested_code, parsed
from tessera.program.errors import ArchitectureError, CompileError, SourceLocation, TesseraError

_LIBRARY_MODULES = ("numba", "numpy", "math", "cmath", "operator", "llvmlite", "tessera", "builtins")
_PLACE = re.compile(r'File "([^"]+)", line (\d+):')
_ATOMIC = re.compile(r"not enough values to unpack|has no attribute 'dtype'|missing \d+ required")
"""What Numba says where the arguments of an atomic are others."""
_NOISE = re.compile(r"^(?:Failed in \S+ mode pipeline.*|During: .*|\s*)$")
_OPERATORS = {
    **{
        name: f"{{}} {sign} {{}}"
        for name, sign in (
            *(("add", "+"), ("sub", "-"), ("mul", "*"), ("truediv", "/"), ("floordiv", "//"), ("mod", "%")),
            *(("pow", "**"), ("matmul", "@"), ("and_", "&"), ("or_", "|"), ("xor", "^")),
            *(("lshift", "<<"), ("rshift", ">>"), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">=")),
            *(("eq", "=="), ("ne", "!="), ("iadd", "+="), ("isub", "-="), ("imul", "*=")),
        )
    },
    "getitem": "{}[{}]",
    "setitem": "{}[{}] = {}",
    "neg": "-{}",
}
"""How operators are written that Numba names as functions."""
_MODULE_HINTS = {
    ("numba.cuda", "synchronize"): "cuda.syncthreads() waits for the threads of a block",
    ("numba.cuda", "to_device"): "pass the array as an argument",
    ("numba.cuda", "device_array"): "use cuda.local.array or cuda.shared.array, or pass the array",
    ("random", ""): "numba.cuda.random has xoroshiro128p_uniform_float32(states, i)",
    ("numpy.random", ""): "numba.cuda.random has xoroshiro128p_uniform_float32(states, i)",
    ("time", ""): "measure the launch: tessera bench, or tessera profile",
}
"""By module and function; an empty name stands for all others of the module."""
_ARRAY_NAMES = ("size", "shape", "ndim", "strides", "dtype", "itemsize", "nbytes", "T", "flat")


_INDEXED = re.compile(
    r">>> [gs]etitem\(array\(\w+, (?P<axes>\d+)d, \w+\), "
    r"(?:UniTuple\([^\n]*? x (?P<same>\d+)\)|Tuple\((?P<others>(?:[^()\n]|\([^()\n]*\))*)\))"
)
"""Indices that do not fit, as Numba says it."""


def check_names(function: Callable[..., Any]) -> None:
    """Refuse Python that no kernel can hold, names that are not defined, attributes that modules lack.

    Raises:
        CompileError: With the place, and the name that was probably meant.
    """
    for reader, compiled in _functions(function):
        if compiled:
            check_constructs(reader.__code__)
        for code in nested_code(reader.__code__):
            _check_code(reader, code)


def _functions(function: Callable[..., Any]) -> Iterator[tuple[FunctionType, bool]]:
    """The function and the user's functions that it names, and whether each is compiled for sure."""
    pending: list[Any] = [function]
    seen: set[int] = set()
    while pending:
        value = pending.pop(0)
        compiled = value is function or is_dispatcher(value)
        value = value.py_func if is_dispatcher(value) else value
        if not isinstance(value, FunctionType) or id(value) in seen:
            continue
        seen.add(id(value))
        if (value.__module__ or "").partition(".")[0] in _LIBRARY_MODULES:
            continue
        yield value, compiled
        names = {name for code in nested_code(value.__code__) for name in code.co_names}
        pending += [value.__globals__[name] for name in sorted(names) if name in value.__globals__]


def _check_code(function: FunctionType, code: CodeType) -> None:
    builtins = function.__globals__.get("__builtins__", {})
    known = {**(vars(builtins) if isinstance(builtins, ModuleType) else builtins), **function.__globals__}
    module: ModuleType | None = None
    for instruction in dis.get_instructions(code):
        name = str(instruction.argval)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            if name not in known:
                raise _undefined(function, code, instruction, name, known)
            if isinstance(known[name], (list, dict, set)):
                raise _container(code, instruction, name, known[name])
            module = known[name] if isinstance(known[name], ModuleType) else None
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and module is not None:
            if not hasattr(module, name):
                raise _no_attribute(code, instruction, module, name)
            if (module.__name__, "") in _MODULE_HINTS:
                raise _for_the_host(code, instruction, module, name)
            inner = getattr(module, name)
            module = inner if isinstance(inner, ModuleType) else None
        elif instruction.opname not in ("CACHE", "EXTENDED_ARG", "PRECALL"):
            module = None


def _undefined(
    function: FunctionType, code: CodeType, instruction: dis.Instruction, name: str, known: Iterable[str]
) -> CompileError:
    scope = [*code.co_varnames, *code.co_freevars, *code.co_cellvars, *known]
    return CompileError(
        f"name {name!r} is not defined in {function.__name__}",
        hint=_did_you_mean(name, scope)
        or f"define or import {name} before the kernel, or pass it as an argument",
        location=_location(code, instruction, name),
        name=name,
    )


def _container(code: CodeType, instruction: dis.Instruction, name: str, value: object) -> CompileError:
    hint = f"make it a tuple, or {name} = numpy.array({name})" if isinstance(value, list) else None
    return CompileError(
        f"the global {name} is a {type(value).__name__}, which a kernel cannot read",
        hint=hint or "pass its numbers in an array",
        location=_location(code, instruction, name),
        name=name,
    )


def _no_attribute(
    code: CodeType, instruction: dis.Instruction, module: ModuleType, name: str
) -> CompileError:
    return CompileError(
        f"module {module.__name__} has no {name!r}",
        hint=_did_you_mean(name, [n for n in dir(module) if not n.startswith("_")])
        or f"see help({module.__name__})",
        location=_location(code, instruction, name),
        name=name,
    )


def _for_the_host(
    code: CodeType, instruction: dis.Instruction, module: ModuleType, name: str
) -> CompileError:
    # Whether Numba knows these depends on what else the process has compiled.
    message, hint = _unknown_attribute(name, f"Module(<module '{module.__name__}'")
    place = _location(code, instruction, name)
    return CompileError(f"{code.co_name}: {message}", hint=hint, location=place, name=name)


def _location(code: CodeType, instruction: dis.Instruction, name: str) -> SourceLocation:
    where = instruction.positions
    line = (where.lineno if where else None) or code.co_firstlineno
    end = where.end_col_offset if where else None
    column = where.col_offset if where else None
    if end is not None and instruction.opname != "LOAD_GLOBAL":
        column = end - len(name)
    return SourceLocation(code.co_filename, line, column, end, code.co_name)


def _did_you_mean(name: str, scope: Iterable[str]) -> str | None:
    # One letter is like every other letter.
    near = difflib.get_close_matches(name, sorted(set(scope)), n=1, cutoff=0.6) if len(name) > 1 else []
    return f"did you mean {near[0]}?" if near else None


def explain(
    error: Exception,
    kernel: str,
    function: Callable[..., Any],
    locations: Mapping[int, SourceLocation] | None = None,
) -> TesseraError:
    """The error to show for what a compiler raised while it worked on `kernel`.

    Args:
        error: As it was raised, with its traceback.
        kernel: Name for the message.
        function: What was compiled.
        locations: The user's line behind each line of generated source.
    """
    text = _plain(str(error))
    if isinstance(error, ArchitectureError) and error.location is None:
        # An intrinsic found that the architecture lacks it; Numba was at the line that calls it.
        error.location = _place(error, text, function, locations or {})
    if isinstance(error, TesseraError):
        return error
    place = _place(error, text, function, locations or {})
    message, hint = _message(text, place)
    if place is not None and "atomic." in linecache.getline(place.file, place.line) and _ATOMIC.search(text):
        message = "an atomic takes an array, an index and a value"
        hint = "cuda.atomic.add(y, i, 1.0); compare_and_swap and cas take old and new; several axes a tuple"
    return CompileError(f"{kernel}: {message}", hint=hint, location=place, compiler_output=text)


def _message(text: str, place: SourceLocation | None) -> tuple[str, str]:
    attribute = re.search(r"Unknown attribute '(\w+)' of type (?!list)([^\n]+)", text)
    if attribute:
        return _unknown_attribute(attribute[1], attribute[2])
    indexed = _INDEXED.search(text)
    if indexed:
        axes, count = int(indexed["axes"]), int(indexed["same"] or indexed["others"].count(",") + 1)
        if count > axes:
            axis = "axis is" if axes == 1 else "axes are"
            return f"an array's {axes} {axis} indexed by {count} numbers", "one index for each axis"
    for remedy in REMEDIES:
        match = remedy.pattern.search(text)
        if match:
            groups = {key: _tidy(value) for key, value in match.groupdict().items()}
            if "call" in groups:
                groups["call"] = _as_written(groups["call"])
            return remedy.message.format(**groups), remedy.hint.format(**groups)
    lines = [line for line in text.splitlines() if not _NOISE.match(line)]
    what = lines[0].strip() if lines else "it does not compile"
    return (
        what,
        "write that line with numbers, arrays and functions of math" if place else "see the kernel's source",
    )


def _unknown_attribute(name: str, kind: str) -> tuple[str, str]:
    module = re.match(r"Module\(<module '([\w.]+)'", kind)
    if module:
        hint = _MODULE_HINTS.get((module[1], name)) or _MODULE_HINTS.get((module[1], ""))
        return (
            f"{module[1]}.{name} is for the host: a kernel cannot call it",
            hint or "kernels call math, cmath, numba.cuda, and your functions under @cuda.jit(device=True)",
        )
    if kind.startswith("array("):
        hint = _did_you_mean(name, _ARRAY_NAMES) or f"an array has {', '.join(_ARRAY_NAMES)}"
    elif name == "astype":
        hint = "a number is cast by its type: float64(…), int32(…)"
    else:
        hint = f"a {kind} is one number; an array has {', '.join(_ARRAY_NAMES)}"
        hint = _did_you_mean(name, ("x", "y", "z")) or "it has .x, .y and .z" if kind == "Dim3" else hint
    return f"{_tidy(kind)} has no attribute {name!r}", hint


def _as_written(call: str) -> str:
    """`add(float32, str)` as `float32 + str`; other calls unchanged."""
    match = re.fullmatch(r"(\w+)\((.*)\)", call)
    sign = _OPERATORS.get(match[1]) if match else None
    if match is None or sign is None:
        return call
    # Commas inside brackets belong to one argument.
    arguments = re.split(r", (?![^\[(]*[\])])", match[2])
    return sign.format(*arguments) if sign.count("{}") == len(arguments) else call


def _tidy(text: str) -> str:
    text = re.sub(r"Literal\[(\w+)\]\(([^()]*)\)", r"\1 \2", text)
    text = re.sub(r"array\((\w+), (\d)d, \w\)", r"\1[\2-D]", text)
    return text.strip()


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _place(
    error: Exception, text: str, function: Callable[..., Any], locations: Mapping[int, SourceLocation]
) -> SourceLocation | None:
    code = getattr(getattr(function, "py_func", function), "__code__", None)
    found = error_location(error)
    if found is None:
        # Numba prints the innermost place first, with the file's name but not its folder.
        match = _PLACE.search(text)
        if match is None:
            return SourceLocation(code.co_filename, code.co_firstlineno) if code else None
        found = match[1], int(match[2]), None
    file, line, _ = found
    # Numba shortens paths against the working directory.
    if code is not None and PurePath(file).name == PurePath(code.co_filename).name:
        file = code.co_filename
    if code is not None and file == code.co_filename and line in locations:
        return locations[line]
    column = column_of_line(file, line)
    name = code.co_name if code is not None and file == code.co_filename else None
    quoted = re.search(r"(?:attribute|name|Variable) '(\w+)'", text)
    if quoted:
        exact = _find_name(file, line, quoted[1])
        if exact is not None:
            return SourceLocation(file, line, exact, exact + len(quoted[1]), name)
    return SourceLocation(file, line, column, None, name)


def _find_name(file: str, line: int, name: str) -> int | None:
    tree = parsed(file)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Name) and node.lineno == line and node.id == name:
            return node.col_offset
        if isinstance(node, ast.Attribute) and node.end_lineno == line and node.attr == name:
            return (node.end_col_offset or len(name)) - len(name)
    return None
