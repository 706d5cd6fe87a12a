"""The names that a kernel's source gives its shared arrays: machine code has none."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tessera.emulator.sanitizer import SharedArray

_PLAIN = (ast.Name, ast.Attribute, ast.Constant, ast.Tuple, ast.BinOp, ast.operator, ast.expr_context)
"""What a shape or dtype may be made of to be read here."""


def shared_arrays(fn: Callable[..., Any]) -> tuple[SharedArray, ...]:
    """The arrays that `fn` makes by `cuda.shared.array`, in the order of the source.

    None where the source cannot be read, or a size depends on more than names and arithmetic.
    """
    from tessera.emulator.sanitizer import SharedArray

    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(fn)))
    except (OSError, TypeError, SyntaxError):
        return ()
    names = _names(fn)
    found = []
    for name, call in _calls(tree):
        given = {k.arg: k.value for k in call.keywords}
        shape = call.args[0] if call.args else given.get("shape")
        dtype = call.args[1] if len(call.args) > 1 else given.get("dtype")
        sizes, itemsize = _value(shape, names), _itemsize(_value(dtype, names))
        if isinstance(sizes, int):
            sizes = (sizes,)
        if itemsize is None or not isinstance(sizes, tuple) or not all(isinstance(s, int) for s in sizes):
            return ()
        found.append(SharedArray(name, itemsize, sizes))
    return tuple(found)


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    assigned = [n for n in ast.walk(tree) if isinstance(n, ast.Assign) and isinstance(n.value, ast.Call)]
    for node in sorted(assigned, key=lambda n: n.lineno):
        call, target = node.value, node.targets[0]
        is_array = isinstance(call, ast.Call) and ast.unparse(call.func).endswith("shared.array")
        if is_array and isinstance(call, ast.Call) and isinstance(target, ast.Name):
            yield target.id, call


def _names(fn: Callable[..., Any]) -> dict[str, Any]:
    closed = inspect.getclosurevars(fn)
    return {**closed.builtins, **closed.globals, **closed.nonlocals}


def _value(node: ast.expr | None, names: Mapping[str, Any]) -> Any:
    if node is None or not all(isinstance(n, _PLAIN) for n in ast.walk(node)):
        return None
    try:
        code = compile(ast.Expression(node), "<shape>", "eval")
        return eval(code, {"__builtins__": {}}, dict(names))  # noqa: S307 - names and arithmetic of a file that ran
    except (NameError, AttributeError, TypeError, ArithmeticError):
        return None


def _itemsize(dtype: Any) -> int | None:
    """Bytes of a Numba or NumPy type, or of a Tessera dtype."""
    bits = getattr(dtype, "bitwidth", None)
    if isinstance(bits, int):
        return bits // 8
    size = getattr(dtype, "itemsize", None)
    if isinstance(size, int):
        return size
    # numpy costs 67 ms; whoever checks kernels has paid for it.
    import numpy as np

    try:
        return np.dtype(dtype).itemsize if dtype is not None else None
    except TypeError:
        return None
