"""A CUDA kernel without cooperation between threads becomes a loop over blocks and threads.

    def saxpy(a, x, y):                     def saxpy(a, x, y, gx, gy, gz, begin, end):
        i = cuda.grid(1)                        def thread(…, bx, by, bz, tx, ty, tz):
        if i < x.size:              →               i = bx * 256 + tx
            y[i] = a * x[i] + y[i]                  if i < x.size: …
                                                for block in range(begin, end):
                                                    for tz … ty … tx in the block: thread(…)

A work item is a block. What needs threads to run at the same time — barriers,
shared memory, shuffles, atomics — cannot be written so, and is refused by name.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

from tessera.compiler.numba_adapter import is_dispatcher
from tessera.compiler.source import function_tree
from tessera.program.errors import CompileError, SourceLocation

_GPU_MODULES = ("numba.cuda", "tessera.language.gpu")
"""Where the names come from that mean something on a GPU only."""
_AXES = ("x", "y", "z")
_PREFIX = "tessera_"
GRID_ARGUMENTS = tuple(f"{_PREFIX}grid_{axis}" for axis in _AXES)
"""Parameters that the serial form takes after the kernel's own: blocks by axis, int64."""
_INDICES = ("threadIdx", "blockIdx", "blockDim", "gridDim")
_WHY = {
    "syncthreads": "a barrier",
    "syncthreads_count": "a barrier",
    "syncthreads_and": "a barrier",
    "syncthreads_or": "a barrier",
    "syncwarp": "a barrier",
    "shared": "shared memory",
    "atomic": "an atomic operation",
    "shfl_sync": "a shuffle",
    "shfl_up_sync": "a shuffle",
    "shfl_down_sync": "a shuffle",
    "shfl_xor_sync": "a shuffle",
    "cg": "cooperative groups",
    "print": "text from threads",
}


@dataclass(frozen=True, slots=True)
class _Names:
    """What names in a kernel stand for."""

    globals: Mapping[str, Any]
    local: frozenset[str]

    def value(self, node: ast.expr) -> Any:
        """The object that a name or a chain of attributes stands for, or None."""
        if isinstance(node, ast.Name):
            return None if node.id in self.local else self.globals.get(node.id)
        if isinstance(node, ast.Attribute):
            base = self.value(node.value)
            return getattr(base, node.attr, None) if isinstance(base, ModuleType) else None
        return None

    def prints(self, node: ast.expr) -> bool:
        """Whether that is Python's `print`, which is code with Python in it on a CPU."""
        own = isinstance(node, ast.Name) and node.id == "print" and node.id not in self.local
        return own and self.globals.get("print", print) is print


@dataclass(frozen=True, slots=True)
class SerialForm:
    """A kernel in its serial form, not yet a function: to call device functions, that needs Numba."""

    name: str
    file: str
    tree: ast.Module
    scope: Mapping[str, Any]
    helpers: Mapping[str, Any]
    """Device functions by the name they are called by here, as plain Python functions."""

    def function(self) -> Callable[..., None]:
        """The function: the kernel's own parameters, then `GRID_ARGUMENTS`, then `begin` and `end`."""
        helpers = {alias: _inlined(function) for alias, function in self.helpers.items()}
        namespace = {**self.scope, **helpers}
        exec(compile(self.tree, self.file, "exec"), namespace)  # noqa: S102 - the user's own code
        made: Callable[..., None] = namespace[self.name]
        return made


def serial_form(function: Callable[..., Any], block: tuple[int, int, int]) -> SerialForm:
    """The serial form of a kernel. Imports nothing.

    Args:
        function: A plain Python function, a CUDA kernel.
        block: Threads by axis.

    Raises:
        CompileError: The kernel needs a GPU or the emulator; `fields["uses"]` says what for.
    """
    scope = _scope(function)
    tree = function_tree(function)
    params = [a.arg for a in (*tree.args.posonlyargs, *tree.args.args)]
    local = frozenset(function.__code__.co_varnames) | frozenset(function.__code__.co_cellvars)
    rewrite = _Threads(_Names(scope, local), block, function)
    body = [rewrite.visit(statement) for statement in _without_docstring(tree.body)]
    module = ast.Module([_outer(tree, params, body, block)], [])
    ast.fix_missing_locations(module)
    return SerialForm(tree.name, function.__code__.co_filename, module, scope, rewrite.helpers)


def _scope(function: Callable[..., Any]) -> dict[str, Any]:
    names = dict(function.__globals__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        names[name] = cell.cell_contents
    return names


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    is_doc = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] or [ast.Pass()] if is_doc else body


def _outer(
    tree: ast.FunctionDef, params: list[str], body: list[ast.stmt], block: tuple[int, int, int]
) -> ast.FunctionDef:
    """The loop nest around the kernel's body, as a syntax tree at the kernel's own lines."""
    own = [*(f"{_PREFIX}{what}_{axis}" for what in ("block", "thread") for axis in _AXES)]
    taken = [*params, *GRID_ARGUMENTS]
    text = f"""
def {tree.name}({", ".join([*taken, f"{_PREFIX}begin", f"{_PREFIX}end"])}):
    def {_PREFIX}body({", ".join([*taken, *own])}):
        pass
    for {_PREFIX}item in range({_PREFIX}begin, {_PREFIX}end):
        {_PREFIX}block_x = {_PREFIX}item % {GRID_ARGUMENTS[0]}
        {_PREFIX}rows = {_PREFIX}item // {GRID_ARGUMENTS[0]}
        {_PREFIX}block_y = {_PREFIX}rows % {GRID_ARGUMENTS[1]}
        {_PREFIX}block_z = {_PREFIX}rows // {GRID_ARGUMENTS[1]}
        for {_PREFIX}thread_z in range({block[2]}):
            for {_PREFIX}thread_y in range({block[1]}):
                for {_PREFIX}thread_x in range({block[0]}):
                    {_PREFIX}body({", ".join([*taken, *own])})
"""
    outer = ast.parse(text).body[0]
    assert isinstance(outer, ast.FunctionDef)  # noqa: S101 - narrows the type
    for node in ast.walk(outer):
        if hasattr(node, "lineno"):
            ast.copy_location(node, tree)
    inner = outer.body[0]
    assert isinstance(inner, ast.FunctionDef)  # noqa: S101 - narrows the type
    inner.body = body
    return outer


class _Threads(ast.NodeTransformer):
    """Replaces what asks which thread this is; refuses what needs the other threads."""

    def __init__(self, names: _Names, block: tuple[int, int, int], function: Callable[..., Any]) -> None:
        self._names = names
        self._block = block
        self._function = function
        self._cuda: Any = sys.modules.get("numba.cuda")
        self.helpers: dict[str, Any] = {}
        """Device functions by the name they are called by here, in a form the CPU compiler inlines."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        called = self._names.value(node.func)
        if called is not None and self._is_cuda(called):
            for name, term in (("grid", self._global_index), ("gridsize", self._grid_size)):
                if called is getattr(self._cuda, name, None):
                    return ast.copy_location(self._by_axis(node, term), node)
        return self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        base = self._names.value(node.value)
        if node.attr in _AXES and base is not None:
            for name in _INDICES:
                if base is getattr(self._cuda, name, None):
                    return ast.copy_location(self._index(name, _AXES.index(node.attr)), node)
        value = self._names.value(node)
        if value is not None:
            return self._check(node, value)
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if self._names.prints(node):
            raise needs_gpu(self._function, node.id, node.lineno, node.col_offset)
        value = self._names.value(node)
        return node if value is None else self._check(node, value)

    def _check(self, node: ast.expr, value: Any) -> ast.AST:
        if value is self._cuda or isinstance(value, ModuleType):
            return node
        if is_dispatcher(value):
            return self._helper(node, value)
        if self._is_cuda(value):
            raise needs_gpu(self._function, ast.unparse(node), node.lineno, node.col_offset)
        return node

    def _is_cuda(self, value: Any) -> bool:
        module = getattr(value, "__module__", None) or type(value).__module__
        return module.startswith(_GPU_MODULES) and not _is_type(value)

    def _helper(self, node: ast.expr, dispatcher: Any) -> ast.AST:
        """A device function may compute, but not ask which thread it is in."""
        function = dispatcher.py_func
        used = _cuda_use(function, self._is_cuda)
        if used is not None:
            raise needs_gpu(function, *used)
        alias = f"{_PREFIX}call_{function.__name__}_{len(self.helpers)}"
        self.helpers[alias] = function
        return ast.copy_location(ast.Name(alias, ast.Load()), node)

    def _by_axis(self, node: ast.Call, term: Callable[[int], ast.expr]) -> ast.expr:
        count = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
        if not isinstance(count, int) or count not in (1, 2, 3):
            raise CompileError(
                f"{ast.unparse(node)} in {self._function.__name__}: takes the number of axes, 1, 2 or 3",
                location=_where(self._function, node.lineno, node.col_offset),
            )
        terms = [term(axis) for axis in range(count)]
        return terms[0] if count == 1 else ast.Tuple(list(terms), ast.Load())

    def _global_index(self, axis: int) -> ast.expr:
        size = ast.Constant(self._block[axis])
        start = ast.BinOp(self._index("blockIdx", axis), ast.Mult(), size)
        return ast.BinOp(start, ast.Add(), self._index("threadIdx", axis))

    def _grid_size(self, axis: int) -> ast.expr:
        return ast.BinOp(self._index("gridDim", axis), ast.Mult(), ast.Constant(self._block[axis]))

    def _index(self, name: str, axis: int) -> ast.expr:
        if name == "blockDim":
            return ast.Constant(self._block[axis])
        what = {"threadIdx": "thread", "blockIdx": "block", "gridDim": "grid"}[name]
        return ast.Name(f"{_PREFIX}{what}_{_AXES[axis]}", ast.Load())


def _is_type(value: Any) -> bool:
    return ".types" in type(value).__module__ or ".types" in getattr(value, "__module__", "")


def _cuda_use(function: Any, is_cuda: Callable[[Any], bool]) -> tuple[str, int, int] | None:
    """What of numba.cuda a helper uses, with its line and column, if anything."""
    names = _Names(_scope(function), frozenset(function.__code__.co_varnames))
    for node in ast.walk(function_tree(function)):
        if isinstance(node, (ast.Name, ast.Attribute)):
            if names.prints(node):
                return "print", node.lineno, node.col_offset
            value = names.value(node)
            if value is None or isinstance(value, ModuleType) or is_dispatcher(value):
                continue
            if is_cuda(value) and not _in_decorator(function_tree(function), node):
                return ast.unparse(node), node.lineno, node.col_offset
    return None


def _in_decorator(tree: ast.FunctionDef, node: ast.AST) -> bool:
    return any(node is inner for d in tree.decorator_list for inner in ast.walk(d)) or (
        getattr(node, "lineno", 0) < tree.lineno
    )


def _inlined(function: Any) -> Any:
    """A device function for the CPU compiler, with those it calls; their bodies go where they are called."""
    from numba import njit

    scope = dict(function.__globals__)
    calls = [name for name in function.__code__.co_names if is_dispatcher(scope.get(name))]
    for name in calls:
        if scope[name].py_func is not function:
            scope[name] = _inlined(scope[name].py_func)
    copy = FunctionType(
        function.__code__, scope, function.__name__, function.__defaults__, function.__closure__
    )
    # What calls itself, or holds variables of a function around it, cannot be put in place.
    in_place = function.__name__ not in calls and not function.__code__.co_freevars
    return njit(inline="always" if in_place else "never")(copy)


def needs_gpu(function: Any, uses: str, line: int, column: int | None = None) -> CompileError:
    """The error for a kernel that cannot run one thread after another."""
    last = next((part for part in uses.split(".") if part in _WHY), None)
    what = f"{uses} ({_WHY[last]})" if last else uses
    return CompileError(
        f"{function.__name__} needs a GPU or the emulator: uses {what} at line {line}",
        hint="run it on the device emulator; to compile, leave the cpu target out, or write it with @ts.jit",
        location=_where(function, line, column),
        uses=uses,
    )


def _where(function: Any, line: int, column: int | None) -> SourceLocation:
    return SourceLocation(function.__code__.co_filename, line, column, function=function.__name__)
