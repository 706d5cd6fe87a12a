"""Expressions over the variables of a program, written as in Python. Nothing of them is ever run as Python:
a table says what each form means, and what is not in it is refused.
"""

from __future__ import annotations

import ast
import difflib
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.emulator.debugging.stop import WARP
from tessera.emulator.debugging.values import ArrayValue, NoValueError, Record, Scope, plain
from tessera.program.errors import InputError

_REGISTER = re.compile(r"(?<![\w)\]])(?<![\w)\]]\s)%([A-Za-z_][\w@]*(?:\.[xyz])?)")
_PREFIX = "_register_"
_LONGEST = 2000
_LARGEST_SHIFT = 4096
_LARGEST_POWER = 64

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
    ast.LShift: operator.lshift, ast.RShift: operator.rshift, ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_, ast.BitXor: operator.xor,
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Invert: operator.invert, ast.Not: operator.not_,
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "min": min, "max": max, "len": len, "int": int, "float": float, "bool": bool, "round": round,
    "isnan": np.isnan, "isinf": np.isinf, "sum": np.sum, "hex": hex, "bin": bin,
}  # fmt: skip
_GEOMETRY = ("threadIdx", "blockIdx", "blockDim", "gridDim")
WORDS = ("lane", "warp", "block", "thread", "laneid", "warpsize")
"""Numbers of the thread that is looked at."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression."""

    text: str
    tree: ast.expr

    def names(self) -> set[str]:
        """Names that it reads."""
        return {node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name)}

    def value(self, scope: Scope) -> Any:
        """What it is for one thread: a number, text, an array (NumPy), an `ArrayValue` or a `Record`.

        Raises:
            InputError: A name is unknown, an index is outside, or the operation has no result.
            NoValueError: A variable has no value there.
        """
        try:
            with np.errstate(all="ignore"):
                return plain(_Evaluation(scope).value(self.tree))
        except (ArithmeticError, TypeError, ValueError, IndexError) as error:
            raise InputError(f"{self.text}: {error}") from None

    def place(self, scope: Scope) -> tuple[int, int, np.dtype[Any] | None]:
        """Address, bytes and element type of the element or array that it names.

        Raises:
            InputError: It names neither.
        """
        if isinstance(self.tree, ast.Subscript):
            evaluation = _Evaluation(scope)
            base = evaluation.value(self.tree.value)
            index = evaluation.index(self.tree.slice)
            if isinstance(base, ArrayValue) and all(isinstance(i, int) for i in index):
                place = base.address_of(tuple(int(i) for i in index if isinstance(i, int)))
                return place, base.dtype.itemsize, base.dtype
        elif isinstance(self.tree, (ast.Name, ast.Constant)):
            found = self.value(scope)
            if isinstance(found, ArrayValue):
                return found.address, int(np.prod(found.shape)) * found.dtype.itemsize, found.dtype
            if isinstance(self.tree, ast.Constant) and isinstance(found, int):
                return found, 4, None
        raise InputError(
            f"{self.text} is neither an array, an element of one, nor an address",
            hint="such as: watch out[17]",
        )


def parse_expression(text: str) -> Expression:
    """The expression that a text holds.

    Raises:
        InputError: It is none, or uses what is not allowed.
    """
    if len(text) > _LONGEST:
        raise InputError(f"an expression of {len(text)} characters is too long", hint=f"at most {_LONGEST}")
    plain_text = _REGISTER.sub(lambda m: _PREFIX + m[1].replace(".", "_dot_"), text.strip())
    try:
        tree = ast.parse(plain_text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        message = error.msg if isinstance(error, SyntaxError) else "it is no expression"
        raise InputError(f"{text.strip() or 'an empty expression'}: {message}") from None
    return Expression(text.strip(), tree)


class _Evaluation:
    """One expression for one thread."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def value(self, node: ast.expr) -> Any:
        method = _NODES.get(type(node))
        if method is None:
            raise InputError(
                f"{ast.unparse(node)}: this form is not allowed here",
                hint="names, numbers, arithmetic, comparisons, and, or, not, x[i], x[a:b], x.shape",
            )
        return method(self, node)

    def constant(self, node: ast.Constant) -> Any:
        if isinstance(node.value, (int, float)):
            return node.value
        raise InputError(f"{ast.unparse(node)}: only numbers are allowed here")

    def name(self, node: ast.Name) -> Any:
        if node.id.startswith(_PREFIX):
            return self.register("%" + node.id.removeprefix(_PREFIX).replace("_dot_", "."))
        try:
            return self.scope.value(node.id)
        except KeyError:
            pass
        numbers = self.numbers()
        if node.id in numbers:
            return numbers[node.id]
        raise unknown_name(node.id, self.scope)

    def numbers(self) -> Mapping[str, int]:
        """What `lane`, `warp` and the like are."""
        thread, place = self.scope.thread, self.scope.run.geometry
        x, y, z = place.index
        block = x + place.grid[0] * (y + place.grid[1] * z)
        values = (thread % WARP, thread // WARP, block, thread, thread % WARP, WARP)
        return dict(zip(WORDS, values, strict=True))

    def register(self, name: str) -> Any:
        try:
            return self.scope.register(name)
        except KeyError:
            near = difflib.get_close_matches(name, self.scope.top.frame.function.registers, 1)
            raise InputError(
                f"there is no register {name}", hint=f"did you mean {near[0]}?" if near else None
            ) from None

    def attribute(self, node: ast.Attribute) -> Any:
        base = ast.unparse(node.value).removeprefix("cuda.")
        if base in _GEOMETRY and node.attr in "xyz":
            return self.geometry(base)["xyz".index(node.attr)]
        if base == "cuda" and node.attr in ("laneid", "warpsize"):
            return self.numbers()[node.attr]
        value = self.value(node.value)
        if isinstance(value, ArrayValue) and node.attr in ("shape", "strides", "size", "ndim"):
            table = {
                "shape": value.shape, "strides": value.strides, "size": int(np.prod(value.shape)),
                "ndim": len(value.shape),
            }  # fmt: skip
            return table[node.attr]
        if isinstance(value, Record):
            members = dict(value.members)
            if node.attr in members:
                return members[node.attr]
        raise InputError(f"{ast.unparse(node)}: there is no attribute {node.attr!r}")

    def geometry(self, name: str) -> tuple[int, int, int]:
        place, thread = self.scope.run.geometry, self.scope.thread
        x, y, _ = place.block
        return {
            "threadIdx": (thread % x, thread // x % y, thread // (x * y)),
            "blockIdx": place.index,
            "blockDim": place.block,
            "gridDim": place.grid,
        }[name]

    def subscript(self, node: ast.Subscript) -> Any:
        base, index = self.value(node.value), self.index(node.slice)
        if isinstance(base, ArrayValue):
            return base.part(index)
        if isinstance(base, Record):
            base = tuple(value for _, value in base.members)
        if isinstance(base, (tuple, np.ndarray)):
            found = base[index[0] if len(index) == 1 else index]  # type: ignore[index]
            return plain(found)
        raise InputError(f"{ast.unparse(node.value)} is not an array")

    def index(self, node: ast.expr) -> tuple[int | slice, ...]:
        parts = node.elts if isinstance(node, ast.Tuple) else [node]
        return tuple(self.slice(p) if isinstance(p, ast.Slice) else self.integer(p) for p in parts)

    def slice(self, node: ast.Slice) -> slice:
        ends = (None if part is None else self.integer(part) for part in (node.lower, node.upper, node.step))
        start, stop, step = ends
        # Around the first elements x[i-2:i+3] begins before the array; Python would count from its end.
        if isinstance(node.lower, ast.BinOp) and start is not None:
            start = max(start, 0)
        return slice(start, stop, step)

    def integer(self, node: ast.expr) -> int:
        found = self.value(node)
        if isinstance(found, (int, np.integer)):
            return int(found)
        raise InputError(f"{ast.unparse(node)} is {found}, which is no index")

    def binary(self, node: ast.BinOp) -> Any:
        function = _BINARY.get(type(node.op))
        left, right = self.number(node.left), self.number(node.right)
        if function is None:
            raise InputError(f"{ast.unparse(node)}: this operator is not allowed here")
        limit = {ast.Pow: _LARGEST_POWER, ast.LShift: _LARGEST_SHIFT}.get(type(node.op))
        if limit is not None and isinstance(right, int) and abs(right) > limit:
            raise InputError(f"{ast.unparse(node)}: {right} is more than {limit}")
        return plain(function(left, right))

    def number(self, node: ast.expr) -> Any:
        """An operand: arrays of the program are read."""
        found = self.value(node)
        return found.all() if isinstance(found, ArrayValue) else found

    def unary(self, node: ast.UnaryOp) -> Any:
        return plain(_UNARY[type(node.op)](self.number(node.operand)))

    def boolean(self, node: ast.BoolOp) -> Any:
        found: Any = False
        for part in node.values:
            found = self.value(part)
            if bool(found) != isinstance(node.op, ast.And):
                return found
        return found

    def compare(self, node: ast.Compare) -> Any:
        left = self.number(node.left)
        for kind, part in zip(node.ops, node.comparators, strict=True):
            function = _COMPARE.get(type(kind))
            right = self.number(part)
            if function is None:
                raise InputError(f"{ast.unparse(node)}: this comparison is not allowed here")
            found = function(left, right)
            if isinstance(found, np.ndarray):
                return found
            if not found:
                return False
            left = right
        return True

    def choice(self, node: ast.IfExp) -> Any:
        return self.value(node.body if self.value(node.test) else node.orelse)

    def tuple_of(self, node: ast.Tuple) -> Any:
        return tuple(self.value(part) for part in node.elts)

    def call(self, node: ast.Call) -> Any:
        name = ast.unparse(node.func)
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            raise InputError(f"{ast.unparse(node)}: only plain arguments are allowed here")
        given = [self.number(a) for a in node.args]
        if name in ("cuda.grid", "cuda.gridsize", "grid", "gridsize") and given in ([1], [2], [3]):
            first, second = ("threadIdx", "blockIdx") if name.endswith("grid") else ("blockDim", "gridDim")
            sizes = self.geometry("blockDim")
            own, outer = self.geometry(first), self.geometry(second)
            axes = [
                a + b * s if name.endswith("grid") else a * b
                for a, b, s in zip(own, outer, sizes, strict=True)
            ]
            return axes[0] if given == [1] else tuple(axes[: given[0]])
        if name not in _FUNCTIONS:
            known = ", ".join(_FUNCTIONS)
            raise InputError(f"{name} cannot be called here", hint=f"functions: {known}")
        return plain(_FUNCTIONS[name](*given))


_NODES: dict[type[ast.expr], Callable[[_Evaluation, Any], Any]] = {
    ast.Constant: _Evaluation.constant,
    ast.Name: _Evaluation.name,
    ast.Attribute: _Evaluation.attribute,
    ast.Subscript: _Evaluation.subscript,
    ast.BinOp: _Evaluation.binary,
    ast.UnaryOp: _Evaluation.unary,
    ast.BoolOp: _Evaluation.boolean,
    ast.Compare: _Evaluation.compare,
    ast.IfExp: _Evaluation.choice,
    ast.Tuple: _Evaluation.tuple_of,
    ast.Call: _Evaluation.call,
}
"""What may stand in an expression."""


def unknown_name(name: str, scope: Scope) -> InputError:
    """The error for a name that means nothing; names what is near."""
    variables = [v.name for v in scope.variables()]
    known = list(dict.fromkeys([*variables, *scope.arrays, *scope.constants, *WORDS, *_GEOMETRY]))
    near = difflib.get_close_matches(name, known, 1)
    function = scope.function.name if scope.function is not None else scope.top.frame.function.name
    listing = f"variables: {', '.join(dict.fromkeys([*variables, *scope.arrays]))}"
    return InputError(
        f"there is no variable {name!r} in {function}", hint=f"did you mean {near[0]}?" if near else listing
    )


__all__ = ["Expression", "NoValueError", "parse_expression", "unknown_name"]
