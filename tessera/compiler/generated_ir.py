"""Generated kernels straight to LLVM: one walk over their syntax, each name with one type.

numba-cuda infers types in many passes, which is most of the time that a generated kernel takes to compile.
The code generator writes a small part of Python in which every name has one type from its first assignment
on; that part is lowered here, statement by statement. Whatever else a kernel has is left to numba-cuda.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tessera.compiler.assigned_once import assigned_once
from tessera.compiler.generated_values import (
    OPERATORS,
    SPECIAL_REGISTERS,
    Known,
    Operand,
    UnknownConstructError,
    Value,
    Values,
)


@dataclass(frozen=True, slots=True)
class _Variable:
    type: Any
    place: Any
    """Its stack slot; LLVM makes registers of these."""


@dataclass(frozen=True, slots=True)
class _Loop:
    again: Any
    after: Any


def write_body(
    values: Values,
    tree: ast.FunctionDef,
    names: Mapping[str, Any],
    arguments: Sequence[Value],
    *,
    branches: bool = False,
) -> None:
    """Write a kernel's statements into an LLVM function.

    Args:
        values: Makes values, at the end of the function's first block.
        tree: The kernel.
        names: Globals of its file.
        arguments: Its parameters' values.
        branches: Whether of `a if c else b` only what is asked for is computed, however little the other is.

    Raises:
        UnknownConstructError: Something that this does not know.
    """
    parameters = [a.arg for a in tree.args.args]
    fixed = dict(zip(parameters, arguments, strict=True))
    walk = _Walk(values, names, fixed, assigned_once(tree), branches=branches)
    walk.body(tree.body)
    if not values.builder.block.is_terminated:
        values.builder.ret_void()


class _Walk:
    def __init__(
        self,
        values: Values,
        names: Mapping[str, Any],
        fixed: dict[str, Value],
        once: frozenset[str],
        *,
        branches: bool,
    ) -> None:
        self.values, self.builder = values, values.builder
        self.names, self.branches = names, branches
        self.fixed = fixed
        """Parameters, arrays and what is in `once`: never assigned again."""
        self.once = once
        """Names that are assigned once and then read."""
        self.variables: dict[str, _Variable] = {}
        self.loops: list[_Loop] = []

    # -- statements -----------------------------------------------------------------------------

    def body(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            if self.builder.block.is_terminated:
                return
            write = _STATEMENTS.get(type(statement))
            if write is None:
                raise UnknownConstructError(type(statement).__name__)
            write(self, statement)

    def assign(self, node: ast.Assign) -> None:
        if len(node.targets) != 1:
            raise UnknownConstructError("several targets")
        self.put(node.targets[0], self.expression(node.value))

    def put(self, target: ast.expr, operand: Operand) -> None:
        match target:
            case ast.Name(id=name):
                self.set(name, operand)
            case ast.Subscript():
                self.values.store(self.array(target.value), self.indices(target.slice), operand)
            case ast.Tuple(elts=parts):
                value = self.values.typed(operand)
                for position, part in enumerate(parts):
                    self.put(part, self.part(value, position))
            case _:
                raise UnknownConstructError(type(target).__name__)

    def set(self, name: str, operand: Operand) -> None:
        value = self.values.typed(operand)
        if isinstance(value.type, (self.values.types.Array, self.values.types.CPointer)):
            if name in self.fixed or name in self.variables or self.loops:
                raise UnknownConstructError(f"{name} is another array now")
            self.fixed[name] = value
            self.values.keep(value)
            return
        if name in self.fixed:
            raise UnknownConstructError(f"parameter {name} is assigned")
        if name in self.once:
            self.fixed[name] = value
            return
        variable = self.variables.get(name)
        if variable is None:
            with self.builder.goto_entry_block():
                place = self.builder.alloca(value.llvm.type, name=name)
            variable = self.variables[name] = _Variable(value.type, place)
        if value.type != variable.type:
            raise UnknownConstructError(f"{name} is {variable.type} and then {value.type}")
        self.builder.store(value.llvm, variable.place)

    def assign_more(self, node: ast.AugAssign) -> None:
        function = OPERATORS[type(node.op).__name__]
        if isinstance(node.target, ast.Name):
            old = self.expression(ast.Name(node.target.id, ast.Load()))
            self.set(node.target.id, self.values.apply(Known(function), [old, self.expression(node.value)]))
            return
        if not isinstance(node.target, ast.Subscript):
            raise UnknownConstructError(type(node.target).__name__)
        array, indices = self.array(node.target.value), self.indices(node.target.slice)
        old = self.values.load(array, indices)
        self.values.store(
            array, indices, self.values.apply(Known(function), [old, self.expression(node.value)])
        )

    def expression_alone(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.expression(node.value)

    def choose(self, node: ast.If) -> None:
        condition = self.values.truth(self.expression(node.test))
        if node.orelse:
            with self.builder.if_else(condition) as (then, otherwise):
                with then:
                    self.body(node.body)
                with otherwise:
                    self.body(node.orelse)
        else:
            with self.builder.if_then(condition):
                self.body(node.body)

    def repeat_while(self, node: ast.While) -> None:
        if node.orelse:
            raise UnknownConstructError("while … else")
        test = self.builder.append_basic_block("test")
        inside = self.builder.append_basic_block("loop")
        after = self.builder.append_basic_block("after")
        self.builder.branch(test)
        self.builder.position_at_end(test)
        self.builder.cbranch(self.values.truth(self.expression(node.test)), inside, after)
        self.builder.position_at_end(inside)
        with self.loop(_Loop(test, after)):
            self.body(node.body)
        if not self.builder.block.is_terminated:
            back = self.builder.branch(test)
            if isinstance(node.test, ast.Call) and ast.unparse(node.test.func) == "rolled":
                self.leave_rolled(back)
        self.builder.position_at_end(after)

    def leave_rolled(self, back: Any) -> None:
        """Keep NVVM from unrolling a loop, without the pragma that would keep ptxas from it.

        Source: LLVM Language Reference, "llvm.loop.unroll.runtime.disable".
        """
        from llvmlite import ir

        module = self.builder.module
        wish = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.runtime.disable")])
        # A loop's node names itself first, which llvmlite has no call for.
        loop = ir.MDValue(module, (), name=str(len(module.metadata)))
        loop.operands = (loop, wish)
        back.set_metadata("llvm.loop", loop)

    def repeat_for(self, node: ast.For) -> None:
        start, stop, step = self.range(node)
        if not isinstance(node.target, ast.Name):
            raise UnknownConstructError("target of for")
        types, builder = self.values.types, self.builder
        with builder.goto_entry_block():
            counter = builder.alloca(start.llvm.type)
        builder.store(start.llvm, counter)
        test = builder.append_basic_block("test")
        inside = builder.append_basic_block("loop")
        again = builder.append_basic_block("again")
        after = builder.append_basic_block("after")
        builder.branch(test)
        builder.position_at_end(test)
        builder.cbranch(builder.icmp_signed("<", builder.load(counter), stop.llvm), inside, after)
        builder.position_at_end(inside)
        self.set(node.target.id, Value(types.int64, builder.load(counter)))
        with self.loop(_Loop(again, after)):
            self.body(node.body)
        if not builder.block.is_terminated:
            builder.branch(again)
        builder.position_at_end(again)
        builder.store(builder.add(builder.load(counter), step.llvm), counter)
        builder.branch(test)
        builder.position_at_end(after)

    def range(self, node: ast.For) -> tuple[Value, Value, Value]:
        call = node.iter
        if node.orelse or not (isinstance(call, ast.Call) and self.expression(call.func) == Known(range)):
            raise UnknownConstructError("for over something other than range")
        given = [self.expression(a) for a in call.args]
        given = [Known(0), *given] if len(given) == 1 else given
        start, stop, step = given if len(given) == 3 else (*given, Known(1))
        if not (isinstance(step, Known) and step.value > 0):
            raise UnknownConstructError("step of range")
        found = [self.values.typed(part) for part in (start, stop, step)]
        if any(part.type != self.values.types.int64 for part in found):
            raise UnknownConstructError("range of other integers")
        return found[0], found[1], found[2]

    @contextmanager
    def loop(self, loop: _Loop) -> Iterator[None]:
        self.loops.append(loop)
        try:
            yield
        finally:
            self.loops.pop()

    def jump(self, node: ast.stmt) -> None:
        loop = self.loops[-1]
        self.builder.branch(loop.after if isinstance(node, ast.Break) else loop.again)

    def leave(self, node: ast.Return) -> None:
        if node.value is not None and not isinstance(node.value, ast.Constant):
            raise UnknownConstructError("return of a value")
        self.builder.ret_void()

    def nothing(self, node: ast.stmt) -> None:
        del node

    # -- expressions ----------------------------------------------------------------------------

    def expression(self, node: ast.expr) -> Operand:
        write = _EXPRESSIONS.get(type(node))
        if write is None:
            raise UnknownConstructError(type(node).__name__)
        found: Operand = write(self, node)
        return found

    def constant(self, node: ast.Constant) -> Operand:
        return Known(node.value)

    def name(self, node: ast.Name) -> Operand:
        variable = self.variables.get(node.id)
        if variable is not None:
            return Value(variable.type, self.builder.load(variable.place))
        if node.id in self.fixed:
            return self.fixed[node.id]
        if node.id in self.names:
            return Known(self.names[node.id])
        builtin = _BUILTINS.get(node.id)
        if builtin is None:
            raise UnknownConstructError(f"name {node.id}")
        return Known(builtin)

    def attribute(self, node: ast.Attribute) -> Operand:
        inner = node.value
        if isinstance(inner, ast.Attribute) and inner.attr in SPECIAL_REGISTERS:
            return self.values.special_register(inner.attr, node.attr)
        base = self.expression(inner)
        if not isinstance(base, Known) or not hasattr(base.value, node.attr):
            raise UnknownConstructError(f"attribute {node.attr}")
        return Known(getattr(base.value, node.attr), (base, node.attr))

    def call(self, node: ast.Call) -> Operand:
        function = self.expression(node.func)
        if not isinstance(function, Known) or node.keywords:
            raise UnknownConstructError("call")
        arguments = [self.expression(a) for a in node.args]
        if isinstance(function.value, self.values.types.Number | self.values.types.Boolean):
            (argument,) = arguments
            return self.values.cast(argument, function.value)
        return self.values.apply(function, arguments, literal=True)

    def binary(self, node: ast.BinOp) -> Operand:
        left, right = self.expression(node.left), self.expression(node.right)
        return self.operate(type(node.op).__name__, [left, right])

    def operate(self, name: str, operands: list[Operand]) -> Operand:
        function = OPERATORS.get(name)
        if function is None:
            raise UnknownConstructError(name)
        if all(isinstance(o, Known) for o in operands):
            return Known(function(*(o.value for o in operands if isinstance(o, Known))))
        return self.values.apply(Known(function), operands)

    def unary(self, node: ast.UnaryOp) -> Operand:
        if isinstance(node.op, ast.Not):
            return Value(
                self.values.types.boolean, self.builder.not_(self.values.truth(self.expression(node.operand)))
            )
        return self.operate(type(node.op).__name__, [self.expression(node.operand)])

    def compare(self, node: ast.Compare) -> Operand:
        if len(node.ops) > 1:
            return self.chain(node)
        operands = [self.expression(node.left), self.expression(node.comparators[0])]
        return self.operate(type(node.ops[0]).__name__, operands)

    def chain(self, node: ast.Compare) -> Operand:
        """`a < b < c` is `a < b and b < c` where computing b twice makes no difference."""
        operands = [node.left, *node.comparators]
        if not all(map(_is_plain, operands[1:-1])):
            raise UnknownConstructError("chain of comparisons of more than arithmetic")
        pairs = zip(operands, node.ops, operands[1:], strict=False)
        return self.both_or_either(ast.BoolOp(ast.And(), [ast.Compare(a, [op], [b]) for a, op, b in pairs]))

    def both_or_either(self, node: ast.BoolOp) -> Operand:
        """`a and b` is `b if a else False`, `a or b` is `True if a else b`."""
        first, *others = node.values
        rest = ast.BoolOp(node.op, others) if len(others) > 1 else others[0]
        short = ast.Constant(isinstance(node.op, ast.Or))
        parts = (rest, short) if isinstance(node.op, ast.And) else (short, rest)
        return self.either(ast.IfExp(first, *parts))

    def either(self, node: ast.IfExp) -> Operand:
        condition = self.values.truth(self.expression(node.test))
        if not self.branches and _is_plain(node.body) and _is_plain(node.orelse):
            first, second = self.alike(self.expression(node.body), self.expression(node.orelse))
            return Value(first.type, self.builder.select(condition, first.llvm, second.llvm))
        ends: list[tuple[Any, Value]] = []
        with self.builder.if_else(condition) as branches:
            for branch, part in zip(branches, (node.body, node.orelse), strict=True):
                with branch:
                    value = self.values.typed(self.expression(part))
                    ends.append((self.builder.block, value))
        kind = self.values.common_type(ends[0][1].type, ends[1][1].type)
        joined = self.builder.phi(self.values.target.get_value_type(kind))
        for block, value in ends:
            # Converted where the branch ends: before the two meet.
            with self.builder.goto_block(block):
                joined.add_incoming(self.values.cast(value, kind).llvm, block)
        return Value(kind, joined)

    def alike(self, first: Operand, second: Operand) -> tuple[Value, Value]:
        one, other = self.values.typed(first), self.values.typed(second)
        kind = self.values.common_type(one.type, other.type)
        return self.values.cast(one, kind), self.values.cast(other, kind)

    def subscript(self, node: ast.Subscript) -> Operand:
        base = self.expression(node.value)
        if isinstance(base, Known):
            index = self.expression(node.slice)
            if isinstance(index, Known):
                return Known(base.value[index.value])
            raise UnknownConstructError("index of a constant")
        if isinstance(base.type, self.values.types.BaseTuple):
            index = self.expression(node.slice)
            if not isinstance(index, Known):
                raise UnknownConstructError("index of a tuple")
            return self.part(base, index.value)
        return self.values.load(base, self.indices(node.slice))

    def part(self, value: Value, position: int) -> Value:
        if not isinstance(value.type, self.values.types.BaseTuple):
            raise UnknownConstructError(f"part of {value.type}")
        kinds = list(value.type)
        return Value(kinds[position], self.builder.extract_value(value.llvm, position % len(kinds)))

    def several(self, node: ast.Tuple) -> Operand:
        parts = [self.expression(part) for part in node.elts]
        if all(isinstance(part, Known) for part in parts):
            return Known(tuple(part.value for part in parts if isinstance(part, Known)))
        typed = [self.values.typed(part) for part in parts]
        kinds = {part.type for part in typed}
        if len(kinds) != 1:
            raise UnknownConstructError("tuple of several types")
        kind = self.values.types.UniTuple(typed[0].type, len(typed))
        return Value(kind, self.values.target.make_tuple(self.builder, kind, [part.llvm for part in typed]))

    def array(self, node: ast.expr) -> Value:
        found = self.expression(node)
        if isinstance(found, Known):
            raise UnknownConstructError("a constant is written")
        return found

    def indices(self, node: ast.expr) -> list[Operand]:
        return [self.expression(part) for part in (node.elts if isinstance(node, ast.Tuple) else [node])]


def _is_plain(node: ast.expr) -> bool:
    """Whether it may be computed although its value is not asked for: nothing is read, nothing can fail."""
    plain = (
        ast.Name, ast.Constant, ast.Compare, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.IfExp, ast.operator,
        ast.cmpop, ast.boolop, ast.unaryop, ast.expr_context,
    )  # fmt: skip
    divides = (ast.Div, ast.FloorDiv, ast.Mod)
    casts = {id(n) for n in ast.walk(node) if isinstance(n, ast.Call) and ast.unparse(n.func) in _CASTS}
    nodes = (n for n in ast.walk(node) if id(n) not in casts)
    return all(isinstance(n, plain) and not isinstance(n, divides) for n in nodes)


_CASTS = frozenset({"float32", "float64", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32"})
_BUILTINS: dict[str, Any] = {"range": range, "min": min, "max": max, "abs": abs, "int": int, "float": float}
_STATEMENTS: dict[type[ast.stmt], Callable[[_Walk, Any], None]] = {
    ast.Assign: _Walk.assign, ast.AugAssign: _Walk.assign_more, ast.Expr: _Walk.expression_alone,
    ast.If: _Walk.choose, ast.While: _Walk.repeat_while, ast.For: _Walk.repeat_for, ast.Break: _Walk.jump,
    ast.Continue: _Walk.jump, ast.Return: _Walk.leave, ast.Pass: _Walk.nothing,
}  # fmt: skip
_EXPRESSIONS: dict[type[ast.expr], Callable[[_Walk, Any], Operand]] = {
    ast.Constant: _Walk.constant, ast.Name: _Walk.name, ast.Attribute: _Walk.attribute, ast.Call: _Walk.call,
    ast.BinOp: _Walk.binary, ast.UnaryOp: _Walk.unary, ast.Compare: _Walk.compare,
    ast.BoolOp: _Walk.both_or_either, ast.IfExp: _Walk.either, ast.Subscript: _Walk.subscript,
    ast.Tuple: _Walk.several,
}  # fmt: skip
