"""The user's source files and code objects, read the way Python read them."""

from __future__ import annotations

import ast
import linecache
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import CodeType
from typing import Any

from tessera.program.errors import CompileError, SourceLocation


def parsed(file: str) -> ast.Module | None:
    """Syntax tree of a file, if it can be read and parsed."""
    linecache.checkcache(file)
    lines = linecache.getlines(file)
    try:
        return ast.parse("".join(lines)) if lines else None
    except SyntaxError:
        return None


@lru_cache(maxsize=32)
def parsed_module(text: str) -> ast.Module:
    """Syntax tree of generated source: it is run and lowered, and parsing costs as much as either."""
    return ast.parse(text)


def column_of_line(file: str, line: int) -> int | None:
    """0-based column of the first character of a line that is not a space, if the line is known."""
    text = linecache.getline(file, line)
    return len(text) - len(text.lstrip()) if text.strip() else None


def function_tree(function: Callable[..., Any]) -> ast.FunctionDef:
    """Syntax tree of a function, with the line numbers and columns of its file.

    Raises:
        CompileError: Its source is not there any more, or has changed since it was imported.
    """
    code = function.__code__
    file, line = code.co_filename, code.co_firstlineno
    tree = parsed(file)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name and _starts_at(node, line):
            return node
    raise CompileError(
        f"the source of {code.co_name} cannot be read",
        hint="keep the kernel in a file, and import it again after a change",
        location=SourceLocation(file, line, function=code.co_name),
    )


def nested_code(code: CodeType) -> Iterator[CodeType]:
    """`code`, and that of every function and comprehension inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested_code(constant)


def _starts_at(node: ast.FunctionDef, line: int) -> bool:
    return line in (node.lineno, *(d.lineno for d in node.decorator_list))


def shared_array_location(function: Callable[..., Any]) -> SourceLocation | None:
    """Where a kernel declares its largest array in shared memory; None where it declares none itself."""
    try:
        tree = function_tree(function)
    except CompileError:
        return None
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("shared.array")
    ]
    if not found:
        return None
    largest = max(found, key=_elements)
    same = largest.end_lineno == largest.lineno
    end = largest.end_col_offset if same else None
    return SourceLocation(function.__code__.co_filename, largest.lineno, largest.col_offset, end)


def _elements(call: ast.Call) -> int:
    """How many elements an array has, as far as its source says; 0 where it does not."""
    shapes = [*call.args[:1], *(k.value for k in call.keywords if k.arg == "shape")]
    try:
        shape = ast.literal_eval(shapes[0]) if shapes else 0
        return math.prod(shape) if isinstance(shape, tuple) else int(shape)
    except (ValueError, TypeError):
        return 0
