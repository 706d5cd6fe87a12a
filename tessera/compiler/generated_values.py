"""Values of a kernel that is lowered straight to LLVM: typed and made by Numba's own tables.

What an operator or function gives, and the LLVM that computes it, is asked of numba-cuda once for each
combination of types; so results are those of numba-cuda, without its type inference.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tessera.compiler.generated_arrays import array_parts, shared_array
from tessera.compiler.numba_adapter import unbound


class UnknownConstructError(Exception):
    """Something of the kernel that this way of lowering does not know; numba-cuda's own does."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value under a Numba type."""

    type: Any
    llvm: Any
    """LLVM value, in Numba's form for values."""


@dataclass(frozen=True, slots=True)
class Known:
    """A value known while compiling: a number, a tuple of numbers, a module, a function, a type."""

    value: Any
    home: tuple[Known, str] | None = None
    """What it is an attribute of, and its name there."""


Operand = Value | Known

SPECIAL_REGISTERS = {"threadIdx": "tid", "blockIdx": "ctaid", "blockDim": "ntid", "gridDim": "nctaid"}
OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": operator.add, "Sub": operator.sub, "Mult": operator.mul, "Div": operator.truediv,
    "FloorDiv": operator.floordiv, "Mod": operator.mod, "BitAnd": operator.and_, "BitOr": operator.or_,
    "BitXor": operator.xor, "LShift": operator.lshift, "RShift": operator.rshift,
    "Lt": operator.lt, "LtE": operator.le, "Gt": operator.gt, "GtE": operator.ge, "Eq": operator.eq,
    "NotEq": operator.ne, "USub": operator.neg, "Invert": operator.invert, "Not": operator.not_,
}  # fmt: skip
"""Python's operators by the name of their syntax."""

_function_types: dict[Any, Any] = {}
_signatures: dict[tuple[Any, ...], Any] = {}
"""Signature by function and argument types: what typing costs is paid once in a process."""
_implementations: dict[tuple[Any, Any], tuple[Any, Any]] = {}
"""What writes a call, and the signature that it takes, by function and signature."""


def _is_shared_array(function: Any) -> bool:
    from numba import cuda

    return function is cuda.shared.array


class Values:
    """Makes values in one LLVM function.

    Args:
        contexts: numba-cuda's typing and target contexts.
        types: numba-cuda's module `types`.
        builder: LLVM builder.
    """

    def __init__(self, contexts: tuple[Any, Any], types: Any, builder: Any) -> None:
        self.typing, self.target = contexts
        self.types = types
        self.builder = builder
        self._arrays: dict[int, tuple[Any, list[Any]]] = {}

    def typed(self, operand: Operand) -> Value:
        """The operand as a value.

        Raises:
            UnknownConstructError: It is none: a function, a module.
        """
        if isinstance(operand, Value):
            return operand
        number = operand.value
        kind = self._type_of(number)
        if isinstance(number, tuple):
            parts = [self.typed(Known(part)).llvm for part in number]
            return Value(kind, self.target.make_tuple(self.builder, kind, parts))
        return Value(kind, self.target.get_constant(kind, number))

    def _type_of(self, number: Any) -> Any:
        if isinstance(number, bool):
            return self.types.boolean
        if isinstance(number, int):
            return self.types.int64
        if isinstance(number, float):
            return self.types.float64
        if isinstance(number, tuple) and number:
            kinds = {self._type_of(part) for part in number}
            if len(kinds) == 1:
                return self.types.UniTuple(kinds.pop(), len(number))
        raise UnknownConstructError(f"{number!r} is no number")

    def cast(self, operand: Operand, kind: Any) -> Value:
        """The operand under another type, as Numba converts it."""
        if isinstance(operand, Known) and isinstance(operand.value, (bool, int, float)):
            number = float(operand.value) if isinstance(kind, self.types.Float) else operand.value
            if isinstance(number, float) == isinstance(kind, self.types.Float):
                return Value(kind, self.target.get_constant(kind, number))
        value = self.typed(operand)
        if value.type == kind:
            return value
        return Value(kind, self.target.cast(self.builder, value.llvm, value.type, kind))

    def common_type(self, one: Any, other: Any) -> Any:
        """The type of what is a value of one type or of another, as Numba joins them.

        Raises:
            UnknownConstructError: They are not alike, nor integers of one signedness.
        """
        if one == other:
            return one
        integers = isinstance(one, self.types.Integer) and isinstance(other, self.types.Integer)
        if not integers or one.signed != other.signed:
            raise UnknownConstructError(f"{one} or {other}")
        return max(one, other, key=lambda kind: kind.bitwidth)

    def apply(self, function: Known, operands: Sequence[Operand], *, literal: bool = False) -> Value:
        """A call of a function that numba-cuda knows.

        Args:
            function: An operator, a function of `math` or `cuda`, an intrinsic.
            operands: Its arguments.
            literal: Whether numbers known now are given as such; some functions need that.
        """
        given = [self._argument(operand, literal=literal) for operand in operands]
        signature = self._signature(function, tuple(value.type for value in given))
        if function.home is not None and function.home[1] == "array" and _is_shared_array(function.value):
            return self._shared_array(signature)
        implementation = self._implementation(function, signature)
        converted = [
            self.cast(value, kind).llvm if not isinstance(kind, self.types.Literal) else value.llvm
            for value, kind in zip(given, signature.args, strict=True)
        ]
        result = implementation(self.builder, converted)
        return Value(signature.return_type, result)

    def _implementation(self, function: Known, signature: Any) -> Callable[[Any, Any], Any]:
        """What writes the LLVM of a call: `(builder, arguments)`.

        Looking one up costs more than most write; those that link nothing are the same in every kernel.
        """
        key = (function.value, signature)
        known = _implementations.get(key)
        if known is None:
            found = self.target.get_function(self._function_type(function), signature)
            if getattr(found, "libs", ()):
                lookup: Callable[[Any, Any], Any] = found
                return lookup
            known = _implementations[key] = unbound(found)
        write, types = known
        return lambda builder, arguments: write(self.target, builder, types, arguments, loc=None)

    def _shared_array(self, signature: Any) -> Value:
        shape, _, *alignment = signature.args
        kind = signature.return_type
        if not isinstance(kind.dtype, self.types.Number):
            raise UnknownConstructError(f"shared array of {kind.dtype}")
        sizes = [
            part.literal_value for part in (shape if isinstance(shape, self.types.BaseTuple) else [shape])
        ]
        known = next((a.literal_value for a in alignment if isinstance(a, self.types.IntegerLiteral)), None)
        return Value(kind, shared_array(self.target, self.builder, kind, sizes, known))

    def _argument(self, operand: Operand, *, literal: bool) -> Value:
        if isinstance(operand, Value):
            return operand
        value = operand.value
        if isinstance(value, (self.types.Type, type)):
            kind = (
                self.types.NumberClass(value)
                if isinstance(value, self.types.Number)
                else self.typing.resolve_value_type(value)
            )
            return Value(kind, self.target.get_dummy_value())
        if literal and isinstance(value, int) and not isinstance(value, bool):
            kind = self.types.literal(value)
            return Value(kind, self.target.get_constant(self.types.int64, value))
        if literal and isinstance(value, tuple):
            kind = self.types.Tuple([self.types.literal(part) for part in value])
            parts = [self.target.get_constant(self.types.int64, part) for part in value]
            return Value(kind, self.target.make_tuple(self.builder, kind, parts))
        return self.typed(operand)

    def _function_type(self, function: Known) -> Any:
        found = _function_types.get(function.value)
        if found is None:
            found = self._resolved(function)
            if found is None:
                # Intrinsics register themselves where they are imported, which may have been just now.
                self.typing.refresh()
                self.target.refresh()
                found = self._resolved(function)
            if found is None:
                raise UnknownConstructError(f"{function.value}")
            _function_types[function.value] = found
        return found

    def _resolved(self, function: Known) -> Any:
        from numba.cuda.core.errors import TypingError

        try:
            if function.home is None:
                return self.typing.resolve_value_type(function.value)
            return self.typing.resolve_getattr(self._function_type(function.home[0]), function.home[1])
        except (TypingError, ValueError):
            return None

    def _signature(self, function: Known, kinds: tuple[Any, ...]) -> Any:
        key = (function.value, kinds)
        found = _signatures.get(key)
        if found is None:
            found = self.typing.resolve_function_type(self._function_type(function), kinds, {})
            if found is None:
                raise UnknownConstructError(f"{function.value} of {kinds}")
            _signatures[key] = found
        return found

    def truth(self, operand: Operand) -> Any:
        """Whether the operand is true, as an LLVM i1."""
        value = self.typed(operand)
        if value.type == self.types.boolean:
            return value.llvm
        return self.target.is_true(self.builder, value.type, value.llvm)

    def element(self, array: Value, indices: Sequence[Operand]) -> tuple[Any, Any]:
        """Address and type of an element of a pointer or of a C-contiguous array. No index is negative."""
        index, *more = (self.cast(i, self.types.int64).llvm for i in indices)
        if isinstance(array.type, self.types.CPointer) and not more:
            return self.builder.gep(array.llvm, [index]), array.type.dtype
        if not isinstance(array.type, self.types.Array) or array.type.ndim != len(indices):
            raise UnknownConstructError(f"index of {array.type}")
        data, shape = self._parts(array)
        for size, further in zip(shape[1:], more, strict=True):
            index = self.builder.add(self.builder.mul(index, size), further)
        return self.builder.gep(data, [index]), array.type.dtype

    def _parts(self, array: Value) -> tuple[Any, list[Any]]:
        """An array's data pointer and sizes; taken apart once, where the array is made."""
        found = self._arrays.get(id(array.llvm))
        if found is None:
            parts = array_parts(self.target, self.builder, array.type, array.llvm)
            found = self._arrays[id(array.llvm)] = parts
        return found

    def keep(self, array: Value) -> None:
        """Take an array apart here, so that what follows in any branch can use the parts."""
        if isinstance(array.type, self.types.Array):
            self._parts(array)

    def load(self, array: Value, indices: Sequence[Operand]) -> Value:
        """An element."""
        place, kind = self.element(array, indices)
        return Value(kind, self.target.unpack_value(self.builder, kind, place))

    def store(self, array: Value, indices: Sequence[Operand], operand: Operand) -> None:
        """Write an element."""
        place, kind = self.element(array, indices)
        self.target.pack_value(self.builder, kind, self.cast(operand, kind).llvm, place)

    def special_register(self, name: str, axis: str) -> Value:
        """`cuda.threadIdx.x` and the like."""
        from numba.cuda import nvvmutils

        return Value(self.types.int32, nvvmutils.call_sreg(self.builder, f"{SPECIAL_REGISTERS[name]}.{axis}"))
