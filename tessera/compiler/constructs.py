"""Python that no kernel can hold, found in its source before Numba sees it: where, and what to write.

Numba's own words for these are internal errors, or none that name the line.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import CodeType

from tessera.compiler.source import parsed
from tessera.program.errors import CompileError, SourceLocation

_REFUSED: dict[type[ast.AST], tuple[str, str]] = {
    ast.Try: ("try", "a GPU raises no exceptions that a kernel can catch: test the value with if"),
    ast.With: ("with", "open what it needs before the launch, and pass arrays"),
    ast.Yield: ("yield", "write each value into an array argument"),
    ast.YieldFrom: ("yield from", "write each value into an array argument"),
    ast.Await: ("await", "a launch is waited for by its caller"),
    ast.JoinedStr: ("an f-string", "print(a, b) shows values, each by itself"),
    ast.Dict: ("a dict", "use an array argument, or a chain of if"),
    ast.DictComp: ("a dict", "use an array argument, or a chain of if"),
    ast.SetComp: ("a set", "use an array argument"),
    ast.ListComp: ("a list", "loop with for, into cuda.local.array(…) or a number"),
    ast.GeneratorExp: ("a generator", "loop with for, and add up as you go"),
    ast.ClassDef: ("a class", "define it outside, and pass its numbers as arguments"),
    ast.Import: ("import", "import at the head of the file"),
    ast.ImportFrom: ("import", "import at the head of the file"),
    ast.Global: ("global", "write into an array argument: a kernel cannot change the host's variables"),
    ast.Match: ("match", "write it as a chain of if"),
    ast.MatMult: ("@", "write the sum of products as a loop, or use ts.matmul in a @ts.jit function"),
}
"""What it is called, and what to write instead."""


def check_constructs(code: CodeType) -> None:
    """Refuse what a kernel cannot hold.

    Args:
        code: Of the kernel, or of a function that it calls.

    Raises:
        CompileError: With the place of the first.
    """
    tree = parsed(code.co_filename)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name and _begins(node, code):
            for inner in _inside(node):
                _check(inner, code)
            return


def _begins(node: ast.FunctionDef, code: CodeType) -> bool:
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return code.co_firstlineno in (first, node.lineno)


def _inside(node: ast.FunctionDef) -> Iterator[ast.expr | ast.stmt]:
    """Its statements and expressions in the order of the text, without decorators and annotations."""
    pending: list[ast.AST] = list(reversed(node.body))
    while pending:
        found = pending.pop()
        if isinstance(found, (ast.expr, ast.stmt)):
            yield found
        children = list(ast.iter_child_nodes(found))
        if isinstance(found, ast.FunctionDef):
            children = list(found.body)
        pending += reversed(children)


def _check(node: ast.expr | ast.stmt, code: CodeType) -> None:
    key = type(node.op) if isinstance(node, ast.BinOp) else type(node)
    said = _REFUSED.get(key)
    if said is not None:
        raise _refusal(node, code, f"a kernel cannot use {said[0]}", said[1])
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        for argument in node.exc.args:
            if not isinstance(argument, ast.Constant):
                raise _refusal(
                    argument, code, "a kernel's exception takes constants alone",
                    'raise ValueError("too long"); print(i) before it tells a value',
                )  # fmt: skip


def _refusal(node: ast.expr | ast.stmt, code: CodeType, what: str, hint: str) -> CompileError:
    end = node.end_col_offset if node.end_lineno == node.lineno else None
    place = SourceLocation(code.co_filename, node.lineno, node.col_offset, end, code.co_name)
    return CompileError(f"{code.co_name}: {what}", hint=hint, location=place)
