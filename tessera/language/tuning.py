"""What may be tuned in a kernel: named values, which of them go together, and a kernel with some chosen."""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CellType, CodeType, FunctionType
from typing import Any

from tessera.program.errors import KernelError

Value = int | float | bool | str
"""A value of a tuning parameter; text is for CUDA C++ alone."""
Configuration = Mapping[str, Value]
"""One value for each tuning parameter."""
Where = str | Callable[..., Any] | None
"""A condition over the parameters: an expression such as `"BLOCK * UNROLL <= 1024"`, or a function that
takes those it needs by name."""

MAX_CONFIGURATIONS = 1_000_000
"""More combinations than this are refused: a sweep over them would never end."""
_EXAMPLE = 'tune={"BLOCK": [64, 128, 256], "UNROLL": [1, 2, 4]}'
_FUNCTIONS = {"min": min, "max": max, "abs": abs}
_NODES = (
    *(ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp, ast.Compare),
    *(ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Name, ast.Load, ast.Constant),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.Tuple, ast.List, ast.Call),
)
"""What an expression over the parameters may consist of."""


@dataclass(frozen=True, slots=True)
class Space:
    """Every configuration that a kernel may be compiled with."""

    parameters: tuple[tuple[str, tuple[Value, ...]], ...]
    """Names and values, in the order given."""
    allows: Callable[[Configuration], bool] = lambda _: True
    """Whether values go together."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters."""
        return tuple(name for name, _ in self.parameters)

    def configurations(self) -> Iterator[dict[str, Value]]:
        """All that are allowed; the last parameter changes fastest."""
        for values in itertools.product(*(values for _, values in self.parameters)):
            found = dict(zip(self.names, values, strict=True))
            if self.allows(found):
                yield found

    def holds(self, configuration: Configuration) -> bool:
        """Whether it gives every parameter one of its values, and these go together."""
        known = dict(self.parameters)
        return (
            set(configuration) == set(known)
            and all(any(_same(value, v) for v in known[name]) for name, value in configuration.items())
            and self.allows(configuration)
        )


def make_space(kernel: str, tune: Mapping[str, Sequence[Value]], where: Where) -> Space:
    """The space of `tune` under a condition.

    Raises:
        KernelError: A name or a value cannot be, or the condition is wrong or allows nothing.
    """
    parameters = tuple((name, _values(kernel, name, values)) for name, values in tune.items())
    if not parameters:
        raise KernelError(f"{kernel}: tune is empty", hint=_EXAMPLE)
    size = 1
    for _, values in parameters:
        size *= len(values)
    if size > MAX_CONFIGURATIONS:
        raise KernelError(
            f"{kernel}: tune has {size} combinations; allowed are {MAX_CONFIGURATIONS}",
            hint="give some of the parameters fewer values",
        )
    space = Space(parameters, _condition(kernel, where, [name for name, _ in parameters]))
    if next(space.configurations(), None) is None:
        raise KernelError(
            f"{kernel}: where allows none of the {size} configurations",
            hint="loosen the condition, or give the parameters other values",
        )
    return space


def first_configuration(space: Space, own: Mapping[str, Any]) -> dict[str, Value]:
    """What a kernel has before it is tuned: the values of its own globals, else the first allowed.

    Args:
        space: What may be chosen.
        own: Globals that the kernel's file defines.
    """
    wanted = {name: own[name] for name in space.names if name in own}
    return next(
        (c for c in space.configurations() if all(_same(c[n], v) for n, v in wanted.items())),
        next(space.configurations()),
    )


def configured_function(fn: FunctionType, configuration: Configuration) -> FunctionType:
    """The function as if its globals, and what it closes over, had the configuration's values."""
    cells = tuple(
        CellType(configuration[name]) if name in configuration else cell
        for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)
    )
    made = FunctionType(
        fn.__code__, {**fn.__globals__, **configuration}, fn.__name__, fn.__defaults__, cells or None
    )
    made.__kwdefaults__, made.__annotations__ = fn.__kwdefaults__, fn.__annotations__
    made.__module__, made.__qualname__, made.__doc__ = fn.__module__, fn.__qualname__, fn.__doc__
    return made


def check_read(kernel: str, fn: FunctionType, names: Sequence[str], elsewhere: set[str]) -> None:
    """Refuse parameters that nothing reads, and those that a called function reads: it would not see them.

    Raises:
        KernelError: One of these.
    """
    code = _names_read(fn.__code__)
    clash = next((n for n in names if n in fn.__code__.co_varnames), None)
    if clash is not None:
        raise KernelError(
            f"{kernel}: {clash!r} is tuned, but the kernel has a parameter or variable of that name",
            hint=f"rename one of them: a tuned name is read as a global, {clash} = … above the kernel",
        )
    unread = next((n for n in names if n not in code and n not in elsewhere), None)
    if unread is not None:
        raise KernelError(
            f"{kernel}: {unread!r} is tuned, but neither the kernel nor its launch rule reads it",
            hint=f"use {unread} in the kernel, or take it out of tune",
        )
    for name in sorted(code):
        value = fn.__globals__.get(name)
        called = getattr(value, "py_func", value)
        if isinstance(called, FunctionType):
            hidden = sorted(_names_read(called.__code__) & set(names) - set(called.__code__.co_varnames))
            if hidden:
                raise KernelError(
                    f"{kernel}: {name} reads the tuned {hidden[0]!r}, which only the kernel itself can see",
                    hint=f"hand it over: {name}(…, {hidden[0]})",
                )


class BoundRule:
    """A launch rule that takes sizes alone: what it takes of the configuration is filled in."""

    def __init__(self, rule: Callable[..., Any], configuration: Configuration) -> None:
        parameters = inspect.signature(rule).parameters
        self._rule = rule
        self._filled = {n: configuration[n] for n in parameters if n in configuration}
        self.__signature__ = inspect.Signature([p for n, p in parameters.items() if n not in configuration])
        self.__code__ = getattr(rule, "__code__", None)

    def __call__(self, **sizes: Any) -> Any:
        """What the rule gives."""
        return self._rule(**sizes, **self._filled)


def bound_rule(rule: Any, configuration: Configuration) -> Any:
    """A rule with the configuration filled in; a number as it is."""
    return BoundRule(rule, configuration) if callable(rule) and configuration else rule


def rule_names(*rules: Any) -> set[str]:
    """Names that launch rules take."""
    return {name for rule in rules if callable(rule) for name in inspect.signature(rule).parameters}


def configuration_text(configuration: Configuration) -> str:
    """`BLOCK=128 UNROLL=2`."""
    return " ".join(f"{name}={value}" for name, value in configuration.items())


def _names_read(code: CodeType) -> set[str]:
    found = {*code.co_names, *code.co_freevars}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _names_read(constant)
    return found


def _values(kernel: str, name: object, values: object) -> tuple[Value, ...]:
    if not isinstance(name, str) or not name.isidentifier():
        raise KernelError(f"{kernel}: tune: {name!r} cannot name a parameter", hint=_EXAMPLE)
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise KernelError(f"{kernel}: tune: {name} needs a list of values, not {values!r}", hint=_EXAMPLE)
    for index, value in enumerate(values):
        if not isinstance(value, (int, float, str)) or value != value:
            raise KernelError(
                f"{kernel}: tune: {name}: {value!r} is neither a number nor text", hint=_EXAMPLE
            )
        if any(_same(value, other) for other in values[:index]):
            raise KernelError(
                f"{kernel}: tune: {name}: {value!r} is given twice", hint="give each value once"
            )
    return tuple(values)


def _same(a: object, b: object) -> bool:
    return type(a) is type(b) and a == b


def _condition(kernel: str, where: Where, names: Sequence[str]) -> Callable[[Configuration], bool]:
    if where is None:
        return lambda _: True
    test = _expression(kernel, where, names) if isinstance(where, str) else where
    wanted = tuple(names) if isinstance(where, str) else tuple(inspect.signature(test).parameters)
    unknown = next((n for n in wanted if n not in names), None)
    if unknown is not None:
        raise KernelError(f"{kernel}: where: {unknown!r} is not tuned", hint="tuned are: " + ", ".join(names))

    def allows(configuration: Configuration) -> bool:
        try:
            return bool(test(**{name: configuration[name] for name in wanted}))
        except Exception as error:
            raise KernelError(
                f"{kernel}: where fails for {configuration_text(configuration)}: "
                f"{type(error).__name__}: {error}",
                hint="where=lambda BLOCK, UNROLL: BLOCK * UNROLL <= 1024",
            ) from error

    return allows


def _expression(kernel: str, text: str, names: Sequence[str]) -> Callable[..., Any]:
    hint = f'where="{names[0]} <= 1024": tuned names, numbers, + - * / // %, comparisons, and or not'
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise KernelError(f"{kernel}: where {text!r} is not an expression: {error.msg}", hint=hint) from None
    for node in ast.walk(tree):
        if not isinstance(node, _NODES):
            raise KernelError(f"{kernel}: where {text!r} has a {type(node).__name__}", hint=hint)
        if isinstance(node, ast.Name) and node.id not in names and node.id not in _FUNCTIONS:
            raise KernelError(
                f"{kernel}: where: {node.id!r} is not tuned", hint="tuned are: " + ", ".join(names)
            )
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Name):
            raise KernelError(f"{kernel}: where {text!r} calls more than min, max, abs", hint=hint)
    code = compile(tree, f"<where of {kernel}>", "eval")
    # Only the nodes above came through, so that nothing but arithmetic can run.
    return lambda **values: eval(code, {"__builtins__": {}, **_FUNCTIONS}, values)  # noqa: S307
