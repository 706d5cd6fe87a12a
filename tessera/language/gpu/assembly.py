"""How a PTX instruction becomes a function that Numba CUDA kernels call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.cuda import types
from numba.cuda.core import errors
from numba.cuda.core.targetconfig import ConfigStack
from numba.cuda.extending import intrinsic

from tessera.language.gpu.sections import section_of
from tessera.program.errors import ArchitectureError

U16, U32, I32, U64 = types.uint16, types.uint32, types.int32, types.uint64
F32, F64 = types.float32, types.float64

_LETTERS = {U16: "h", U32: "r", I32: "r", U64: "l", F32: "f", F64: "d"}
"""Letter of a register in the constraints of inline PTX. Source: NVVM IR Specification, "Inline PTX"."""
_LLVM = {
    U16: ir.IntType(16),
    U32: ir.IntType(32),
    I32: ir.IntType(32),
    U64: ir.IntType(64),
    F32: ir.FloatType(),
    F64: ir.DoubleType(),
}


def many(kind: Any, count: int) -> Any:
    """`count` registers of one type, a tuple in a kernel."""
    return types.UniTuple(kind, count)


@dataclass(frozen=True, slots=True)
class Needs:
    """The architectures that have an instruction."""

    cc: tuple[int, int]
    """Lowest compute capability."""
    specific: bool = False
    """Only in code for one architecture, such as `sm_90a`."""

    @property
    def text(self) -> str:
        """`sm_80`, `sm_90a`."""
        return f"sm_{self.cc[0]}{self.cc[1]}{'a' if self.specific else ''}"

    def met_by(self, target: Sequence[Any]) -> bool:
        """Whether code for `target`, (major, minor) or (major, minor, suffix), may use it."""
        cc, suffix = tuple(target[:2]), target[2] if len(target) > 2 else ""
        return cc >= self.cc and (not self.specific or suffix == "a")


SM_70, SM_75, SM_80, SM_89, SM_90 = (Needs(cc) for cc in ((7, 0), (7, 5), (8, 0), (8, 9), (9, 0)))
SM_90A = Needs((9, 0), specific=True)


def check_target(name: str, needs: Needs) -> None:
    """See that what is being compiled may use an instruction.

    Raises:
        ArchitectureError: The architecture in hand lacks it.
    """
    flags = ConfigStack.top_or_none()
    target = getattr(flags, "compute_capability", None)
    if target is None or needs.met_by(target):
        return
    compiled_for = f"sm_{''.join(map(str, target))}"
    raise ArchitectureError(
        f"gpu.{name} needs {needs.text} or later"
        if not needs.specific
        else f"gpu.{name} needs an architecture of its own such as {needs.text}",
        hint=f"this is compiled for {compiled_for}: compile for {needs.text}, or leave {compiled_for} out",
        architecture=compiled_for,
        required=needs.text,
    )


def emit(
    builder: Any, text: str, result: Any, operands: Sequence[tuple[Any, Any]], *, memory: bool, tied: int = 0
) -> list[Any]:
    """Write inline PTX and return its result registers.

    Args:
        builder: LLVM builder.
        text: PTX, results and operands as `$0`, `$1`, …
        result: Numba type of the results: None, a number or a tuple of numbers.
        operands: LLVM value and Numba type of each register that goes in.
        memory: Whether it reads or writes memory, or orders what does.
        tied: How many of the last operands are the results' own registers.
    """
    kinds = registers_of(result)
    outputs = [f"={_LETTERS[kind]}" for kind in kinds]
    free = [_LETTERS[kind] for _, kind in operands[: len(operands) - tied]]
    constraints = [*outputs, *free, *(str(i) for i in range(tied)), *(["~{memory}"] if memory else [])]
    returned = [_LLVM[kind] for kind in kinds]
    ret: Any = (
        ir.VoidType() if not kinds else returned[0] if len(kinds) == 1 else ir.LiteralStructType(returned)
    )
    kind = ir.FunctionType(ret, [_LLVM[kind] for _, kind in operands])
    assembly = ir.InlineAsm(kind, text, ",".join(constraints), side_effect=True)
    # Warps run these together: LLVM may not move them under a condition.
    call = builder.call(assembly, [value for value, _ in operands], attrs=("convergent",))
    if len(kinds) < 2:
        return [call] if kinds else []
    return [builder.extract_value(call, i) for i in range(len(kinds))]


def registers_of(kind: Any) -> list[Any]:
    """The registers that a value of a type is in."""
    if kind is None or kind == types.void:
        return []
    if isinstance(kind, types.BaseTuple):
        return [part for element in kind for part in registers_of(element)]
    return [U32] if kind == types.boolean else [kind]


def unpack(builder: Any, value: Any, kind: Any) -> list[tuple[Any, Any]]:
    """A value as the registers it is in, each with its Numba type."""
    if isinstance(kind, types.BaseTuple):
        parts = [builder.extract_value(value, i) for i in range(len(kind))]
        return [(part, element) for part, element in zip(parts, kind, strict=True)]
    return [(value, kind)]


def pack(context: Any, builder: Any, registers: list[Any], kind: Any) -> Any:
    """Result registers as a value of a type."""
    if not registers:
        return context.get_dummy_value()
    if isinstance(kind, types.BaseTuple):
        return context.make_tuple(builder, kind, registers)
    if kind == types.boolean:
        return builder.icmp_unsigned("!=", registers[0], ir.Constant(registers[0].type, 0))
    return registers[0]


def fits(given: Any, wanted: Any) -> bool:
    """Whether a value of one type can be handed over as another: numbers as numbers, tuples as tuples."""
    if isinstance(wanted, types.BaseTuple):
        return (
            isinstance(given, types.BaseTuple)
            and len(given) == len(wanted)
            and all(fits(g, w) for g, w in zip(given, wanted, strict=True))
        )
    if isinstance(wanted, types.Float):
        return isinstance(given, (types.Float, types.Integer))
    return isinstance(given, (types.Integer, types.Boolean))


def refuse(name: str, wanted: str, given: Sequence[Any]) -> Any:
    """The typing error for arguments that do not fit."""
    return errors.TypingError(f"gpu.{name} takes ({wanted}), not ({', '.join(map(str, given))})")


Typer = Callable[..., Any]
"""(name by name, the Numba types of the arguments) → (signature, code generator)."""


def function(
    name: str, parameters: Sequence[str], doc: str, needs: Needs, home: str
) -> Callable[[Typer], Any]:
    """Make a typer into a function that kernels call.

    Args:
        name: What it is called.
        parameters: Names of its parameters.
        doc: First line and arguments of its docstring.
        needs: Architectures that have it.
        home: Module that it lives in.
    """

    def make(typer: Typer) -> Any:
        def typed(typingctx: Any, *given: Any) -> Any:  # noqa: ARG001 - Numba hands it over
            signature, codegen = typer(*given)

            def checked(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                # Not when it is typed: Numba remembers that for every architecture.
                check_target(name, needs)
                return codegen(context, builder, signature, values)

            return signature, checked

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        declared = [inspect.Parameter(p, kind) for p in ("typingctx", *parameters)]
        typed.__signature__ = inspect.Signature(declared)  # type: ignore[attr-defined]
        typed.__name__ = typed.__qualname__ = name
        typed.__module__ = home
        typed.__doc__ = f'{doc}\n\nSource: PTX ISA 8.8, "{section_of(name)}".'
        return intrinsic(typed)

    return make


def instruction(
    name: str,
    text: str,
    result: Any,
    doc: str,
    needs: Needs = SM_70,
    *,
    home: str,
    memory: bool = False,
    **parameters: Any,
) -> Any:
    """A function that is one piece of PTX with fixed types.

    Args:
        name: What it is called.
        text: PTX, results and arguments as `$0`, `$1`, …
        result: Numba type of what it returns; None for nothing.
        doc: First line of its docstring, and the source.
        needs: Architectures that have it.
        home: Module that it lives in.
        memory: Whether it reads or writes memory, or orders what does.
        parameters: Numba type of each parameter.
    """
    returned = types.void if result is None else result
    wanted = ", ".join(f"{p}: {kind}" for p, kind in parameters.items())

    def typer(*given: Any) -> Any:
        if len(given) != len(parameters) or not all(map(fits, given, parameters.values())):
            raise refuse(name, wanted, given)
        signature = returned(*parameters.values())

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            operands = [
                o for v, kind in zip(values, signature.args, strict=True) for o in unpack(builder, v, kind)
            ]
            registers = emit(builder, text, returned, operands, memory=memory)
            return pack(context, builder, registers, returned)

        return signature, codegen

    described = f"{doc}\n\n`gpu.{name}({wanted}) → {returned}`, {needs.text} and later. PTX: `{text}`"
    return function(name, tuple(parameters), described, needs, home)(typer)


def literal_of(kind: Any) -> int | None:
    """The number that a type is of, where it is a number written in the source."""
    found = getattr(kind, "literal_value", None)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def with_number(
    name: str,
    text: str,
    doc: str,
    needs: Needs,
    allowed: range,
    *,
    home: str,
    parameter: str = "count",
) -> Any:
    """A function whose only argument is a number written in the source, `{n}` in `text`."""

    def typer(count: Any) -> Any:
        number = literal_of(count)
        if number is None:
            # Numba asks again with the number, if it is one that the source says.
            raise refuse(name, f"{parameter}: a number in the source", [count])
        if number not in allowed:
            raise refuse(name, f"{parameter}: {allowed.start} to {allowed[-1]} by {allowed.step}", [number])

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
            emit(builder, text.format(n=number), None, [], memory=True)
            return context.get_dummy_value()

        return types.void(count), codegen

    return function(name, (parameter,), f"{doc}\n\n{needs.text} and later. PTX: `{text}`", needs, home)(typer)
