"""Whatever a compiler says about a kernel becomes one error: what, where, and what to do."""

from __future__ import annotations

import ast
import difflib
import dis
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any

from tessera.compiler.numba_adapter import error_location, is_dispatcher
from tessera.compiler.source import column_of_line, nested_code, parsed
from tessera.program.errors import ArchitectureError, CompileError, SourceLocation, TesseraError

_LIBRARY_MODULES = ("numba", "numpy", "math", "cmath", "operator", "llvmlite", "tessera", "builtins")
_PLACE = re.compile(r'File "([^"]+)", line (\d+):')
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
_ARRAY_NAMES = ("size", "shape", "ndim", "strides", "dtype", "itemsize", "nbytes", "T", "flat")


@dataclass(frozen=True, slots=True)
class Remedy:
    """How one kind of message of Numba's is said to a user."""

    pattern: re.Pattern[str]
    message: str
    """Template over the groups of `pattern`."""
    hint: str


_INDEXED = re.compile(
    r">>> [gs]etitem\(array\(\w+, (?P<axes>\d+)d, \w+\), "
    r"(?:UniTuple\([^\n]*? x (?P<same>\d+)\)|Tuple\((?P<others>(?:[^()\n]|\([^()\n]*\))*)\))"
)
"""Indices that do not fit, as Numba says it."""

REMEDIES: tuple[Remedy, ...] = tuple(
    Remedy(re.compile(pattern, re.DOTALL), message, hint)
    for pattern, message, hint in (
        (
            r"cannot type infer runaway recursion|'insert_unresolved_ref'",
            "a function that calls itself, which Numba does not compile for GPUs",
            "write it as a loop; CUDA C++ has recursion, see ts.cuda_kernel",
        ),
        (
            r"(?P<what>gpu\.\w+ takes [^\n]+)",
            "{what}",
            "cast numbers with uint32(…) or float32(…); tuples need as many elements as it says",
        ),
        (
            r"Untyped global name '(?P<name>[^']+)': Cannot determine Numba type of <class 'function'>",
            "{name} is a plain Python function, which a kernel cannot call",
            "put @cuda.jit(device=True) above def {name}",
        ),
        (
            r"Untyped global name '(?P<name>[^']+)': Cannot determine Numba type of (?P<type>[^\n]+)",
            "the global {name} is a {type}, which a kernel cannot read",
            "pass it as an argument, or make it a number, a tuple or a NumPy array",
        ),
        (
            r"No implementation of function .+? found for signature:\s+>>> (?P<call>[^\n]+)",
            "there is no {call}",
            "check the types of the arguments; cast with float32(…) or int64(…), or index the array first",
        ),
        (
            r"No conversion from (?P<type>.+?) to none for '\$\w*return_value",
            "a kernel returns nothing, but this returns a {type}",
            "write the result into an array argument and return without a value",
        ),
        (
            r"Cannot unify (?P<a>.+?) and (?P<b>.+?) for '(?P<name>[^'.]+)",
            "{name} is {a} on one path and {b} on another",
            "give {name} one type everywhere",
        ),
        (
            r"Variable '(?P<name>[^']+)' (?:is not defined|referenced before assignment)",
            "{name} is read before it has a value",
            "assign {name} first",
        ),
        (
            r"(?:The|Use of) (?P<what>'[^']+'|unsupported opcode \(\S+\)|unknown opcode \S+)[^\n]*",
            "a kernel cannot use {what}",
            "kernels know numbers, tuples, arrays, if, for, while, and the functions of math and numba.cuda",
        ),
        (
            r"Only accept returning of array passed into the function",
            "a kernel cannot make arrays",
            "pass the memory in as an argument",
        ),
        (
            r"NRT required but not enabled",
            "a kernel cannot make a list, a set or a new array: there is no memory to put it into",
            "use cuda.local.array or cuda.shared.array, a tuple, or memory passed in as an argument",
        ),
        (
            r"(?:resolving|typing|Unsupported) .*?(?P<what>list|dict|set|str|unicode_type)",
            "a kernel cannot use a Python {what}",
            "use cuda.local.array or cuda.shared.array, or arguments",
        ),
    )
)
"""First match wins."""


def check_names(function: Callable[..., Any]) -> None:
    """Refuse names that are not defined, and attributes that a module does not have.

    Raises:
        CompileError: With the name's place and the name that was probably meant.
    """
    for reader in _functions(function):
        for code in nested_code(reader.__code__):
            _check_code(reader, code)


def _functions(function: Callable[..., Any]) -> Iterator[FunctionType]:
    """The function and the user's functions that it calls."""
    pending: list[Any] = [function]
    seen: set[int] = set()
    while pending:
        value = pending.pop(0)
        value = value.py_func if is_dispatcher(value) else value
        if not isinstance(value, FunctionType) or id(value) in seen:
            continue
        seen.add(id(value))
        if (value.__module__ or "").partition(".")[0] in _LIBRARY_MODULES:
            continue
        yield value
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
            module = known[name] if isinstance(known[name], ModuleType) else None
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and module is not None:
            if not hasattr(module, name):
                raise _no_attribute(code, instruction, module, name)
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
    return CompileError(f"{kernel}: {message}", hint=hint, location=place, compiler_output=text)


def _message(text: str, place: SourceLocation | None) -> tuple[str, str]:
    attribute = re.search(r"Unknown attribute '(\w+)' of type ([^\n]+)", text)
    if attribute:
        name, kind = attribute[1], attribute[2]
        names = _ARRAY_NAMES if kind.startswith("array(") else ()
        hint = _did_you_mean(name, names) or (
            f"an array has {', '.join(names)}" if names else f"{kind} has none"
        )
        return f"{kind} has no attribute {name!r}", hint
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
