"""LLVM IR as text: values of a warp, and the operations on them.

A value is one number for the whole warp (a scalar) or one per lane (a vector of 32). Scalars stay scalars
as long as all operands are: addresses of parameters, block indices and loop bounds cost one instruction
instead of 32 lanes of them. Registers hold bits, so a value has a width and the operation says how to read
it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WARP = 32
FLOAT = {"f16": "half", "f32": "float", "f64": "double", "tf32": "float"}
"""LLVM's name of a PTX float type."""
IOTA = "<" + ", ".join(f"i32 {i}" for i in range(WARP)) + ">"
"""The lane numbers."""


@dataclass(frozen=True, slots=True)
class Value:
    """Bits of a warp's register, or of a part of an expression."""

    text: str
    """A name or a constant in LLVM's syntax."""
    bits: int
    """1 for predicates."""
    vector: bool
    """One per lane; otherwise one for all lanes."""
    number: int | None = None
    """The constant's bits, if it is one."""
    loose: bool = False
    """An f32 that may be another NaN than instructions return: whoever needs its bits must settle that."""

    @property
    def type(self) -> str:
        """LLVM's type."""
        return vector_of(f"i{self.bits}") if self.vector else f"i{self.bits}"


def vector_of(scalar: str) -> str:
    """The vector type with one element per lane."""
    return f"<{WARP} x {scalar}>"


def constant(number: int, bits: int) -> Value:
    """A scalar constant."""
    number &= (1 << bits) - 1
    text = ("true" if number else "false") if bits == 1 else str(number)
    return Value(text, bits, vector=False, number=number)


def lanes_of(numbers: Sequence[int], bits: int) -> Value:
    """A vector constant."""
    return Value(vector_text(numbers, bits), bits, vector=True)


def vector_text(numbers: Sequence[int], bits: int) -> str:
    """A vector constant in LLVM's syntax."""
    mask = (1 << bits) - 1
    return "<" + ", ".join(f"i{bits} {n & mask}" for n in numbers) + ">"


def double_text(value: float) -> str:
    """A float constant in LLVM's syntax; good for `double`, and for `float` if it is exact there."""
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


class Writer:
    """Lines of one LLVM function, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.count = 0
        self.declared: set[str] = set()
        """Declarations of intrinsics in use."""
        self.splats: dict[tuple[str, int], Value] = {}
        """Vectors made of scalars; valid until the basic block ends."""

    # -- text -----------------------------------------------------------------------------------

    def name(self, hint: str = "v") -> str:
        """A fresh local name."""
        self.count += 1
        return f"%{hint}{self.count}"

    def raw(self, line: str) -> None:
        """A line as it is."""
        self.lines.append(line)

    def let(self, expression: str, hint: str = "v") -> str:
        """Name the result of an instruction."""
        name = self.name(hint)
        self.lines.append(f"  {name} = {expression}")
        return name

    def label(self, name: str) -> None:
        """Begin an LLVM basic block."""
        self.lines.append(f"{name}:")

    # -- shapes ---------------------------------------------------------------------------------

    def spread(self, value: Value) -> Value:
        """The value with one element per lane."""
        if value.vector:
            return value
        if value.number is not None:
            return lanes_of([value.number] * WARP, value.bits)
        key = (value.text, value.bits)
        if key not in self.splats:
            kind = vector_of(f"i{value.bits}")
            one = self.let(f"insertelement {kind} poison, {value.type} {value.text}, i32 0")
            zeros = f"<{WARP} x i32> zeroinitializer"
            every = self.let(f"shufflevector {kind} {one}, {kind} poison, {zeros}", "s")
            self.splats[key] = Value(every, value.bits, vector=True)
        return self.splats[key]

    def alike(self, *values: Value) -> list[Value]:
        """The values, all vectors if any is one."""
        if any(v.vector for v in values):
            return [self.spread(v) for v in values]
        return list(values)

    # -- integers -------------------------------------------------------------------------------

    def binary(self, operation: str, a: Value, b: Value) -> Value:
        """An integer instruction with two operands of one width."""
        a, b = self.alike(a, b)
        return Value(self.let(f"{operation} {a.type} {a.text}, {b.text}"), a.bits, a.vector)

    def compare(self, condition: str, a: Value, b: Value) -> Value:
        """`icmp`."""
        a, b = self.alike(a, b)
        return Value(self.let(f"icmp {condition} {a.type} {a.text}, {b.text}"), 1, a.vector)

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        """`condition ? a : b`."""
        condition, a, b = self.alike(condition, a, b)
        text = self.let(f"select {condition.type} {condition.text}, {a.type} {a.text}, {b.type} {b.text}")
        return Value(text, a.bits, a.vector)

    def invert(self, a: Value) -> Value:
        """Every bit inverted."""
        return self.binary("xor", a, constant(-1, a.bits))

    def resize(self, value: Value, bits: int, *, signed: bool = False) -> Value:
        """The value in another width: cut, or extended by zeros or by the sign."""
        if value.bits == bits:
            return value
        if value.number is not None and not (signed and bits > value.bits):
            return constant(value.number, bits)
        operation = "trunc" if bits < value.bits else ("sext" if signed else "zext")
        to = vector_of(f"i{bits}") if value.vector else f"i{bits}"
        return Value(self.let(f"{operation} {value.type} {value.text} to {to}"), bits, value.vector)

    def intrinsic(self, name: str, operands: Sequence[Value], extra: str = "") -> Value:
        """`llvm.<name>` on integers, with a result like the first operand."""
        values = self.alike(*operands)
        kind = values[0].type
        suffix = _suffix(kind)
        types = ", ".join(v.type for v in values) + (", i1" if extra else "")
        self.declared.add(f"declare {kind} @llvm.{name}.{suffix}({types})")
        arguments = ", ".join(f"{v.type} {v.text}" for v in values) + extra
        text = self.let(f"call {kind} @llvm.{name}.{suffix}({arguments})")
        return Value(text, values[0].bits, values[0].vector)

    # -- floats ---------------------------------------------------------------------------------

    def as_float(self, value: Value, kind: str) -> tuple[str, str]:
        """LLVM type and name of the value read as `kind` (an LLVM float type)."""
        to = vector_of(kind) if value.vector else kind
        return to, self.let(f"bitcast {value.type} {value.text} to {to}", "f")

    def as_bits(self, text: str, kind: str, bits: int, *, vector: bool) -> Value:
        """The bits of a float."""
        source = vector_of(kind) if vector else kind
        to = vector_of(f"i{bits}") if vector else f"i{bits}"
        return Value(self.let(f"bitcast {source} {text} to {to}"), bits, vector)

    def floating(self, form: str, kind: str, *operands: Value) -> Value:
        """An instruction on floats: `form` has `{t}` for the type and `{0}`, `{1}`… for the operands."""
        values = self.alike(*operands)
        typed = [self.as_float(v, kind) for v in values]
        text = self.let(form.format(*(t[1] for t in typed), t=typed[0][0]))
        return self.as_bits(text, kind, values[0].bits, vector=values[0].vector)

    def float_intrinsic(self, name: str, kind: str, *operands: Value) -> Value:
        """`llvm.<name>` on floats."""
        vector = any(v.vector for v in operands)
        to = vector_of(kind) if vector else kind
        suffix = _suffix(to)
        types = ", ".join([to] * len(operands))
        self.declared.add(f"declare {to} @llvm.{name}.{suffix}({types})")
        arguments = ", ".join(f"{{t}} {{{i}}}" for i in range(len(operands)))
        return self.floating(f"call {to} @llvm.{name}.{suffix}({arguments})", kind, *operands)

    def float_compare(self, condition: str, kind: str, a: Value, b: Value) -> Value:
        """`fcmp`."""
        a, b = self.alike(a, b)
        (to, first), (_, second) = self.as_float(a, kind), self.as_float(b, kind)
        return Value(self.let(f"fcmp {condition} {to} {first}, {second}"), 1, a.vector)

    def float_cast(self, operation: str, value: Value, source: str, target: str, bits: int) -> Value:
        """`fpext`, `fptrunc`, `sitofp`… between LLVM types; an integer type is named `iN`."""
        from_type, text = (value.type, value.text)
        if not source.startswith("i"):
            from_type, text = self.as_float(value, source)
        to = vector_of(target) if value.vector else target
        result = self.let(f"{operation} {from_type} {text} to {to}")
        if target.startswith("i"):
            return Value(result, bits, value.vector)
        return self.as_bits(result, target, bits, vector=value.vector)

    def by_lane(self, value: Value, function: Callable[[str], str], bits: int) -> Value:
        """A vector built lane by lane: `function` is given each element's name and returns its result's."""
        value = self.spread(value)
        kind, result = vector_of(f"i{bits}"), "poison"
        for lane in range(WARP):
            element = self.let(f"extractelement {value.type} {value.text}, i32 {lane}")
            done = function(element)
            result = self.let(f"insertelement {kind} {result}, i{bits} {done}, i32 {lane}")
        return Value(result, bits, vector=True)

    def lane_bits(self, value: Value) -> str:
        """An i32 with one bit per lane, from a predicate."""
        if value.number is not None:
            return "-1" if value.number else "0"
        if not value.vector:
            return self.let(f"sext i1 {value.text} to i32", "m")
        return self.let(f"bitcast <{WARP} x i1> {value.text} to i32", "m")

    def lane_predicate(self, mask: str) -> Value:
        """A predicate from an i32 with one bit per lane."""
        return Value(self.let(f"bitcast i32 {mask} to <{WARP} x i1>", "p"), 1, vector=True)


def _suffix(kind: str) -> str:
    short = {"half": "f16", "float": "f32", "double": "f64"}
    if kind.startswith("<"):
        scalar = kind.split(" x ")[1].rstrip(">")
        return f"v{WARP}{short.get(scalar, scalar)}"
    return short.get(kind, kind)
