"""PTX as data: modules, functions, variables, instructions, operands."""

from __future__ import annotations

from dataclasses import dataclass, field

FUNCTION_BASE, FUNCTION_STEP = 0x1000, 16
"""Address of the first function, and from one to the next, for calls through pointers."""


@dataclass(frozen=True, slots=True)
class Register:
    """A register (`%r1`) or special register (`%tid.x`), or the sink `_`."""

    name: str
    part: str = ""
    """Bytes or halves that a video instruction picks: `b2`, `h10`."""


@dataclass(frozen=True, slots=True)
class Immediate:
    """A literal. Floats written as hexadecimal keep their bits."""

    value: int | float
    """An int, or the float that an `0f…`, `0d…` or decimal literal means."""
    bits: int | None = None
    """The bit pattern of an `0f…` or `0d…` literal."""
    width: int = 0
    """Bits of that pattern: 32 or 64; 0 for other literals."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """The name of a variable, function or label."""

    name: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Vector:
    """`{a, b, …}`."""

    elements: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Address:
    """`[base + offset]`, with tensor coordinates in `[map, {x, y}]`."""

    base: Register | Symbol | Immediate
    offset: int = 0
    coordinates: Vector | None = None
    barrier: Register | Symbol | None = None


@dataclass(frozen=True, slots=True)
class Negated:
    """`!%p`, a predicate operand taken inverted, or `-%r`."""

    operand: Register


@dataclass(frozen=True, slots=True)
class Pair:
    """`%r|%p`, two destinations of one instruction."""

    first: Register
    second: Register


@dataclass(frozen=True, slots=True)
class ParamList:
    """`(a, b)`, the arguments or results of a call."""

    elements: tuple[Operand, ...]


Operand = Register | Immediate | Symbol | Vector | Address | Negated | Pair | ParamList


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, such as `@!%p1 ld.global.f32 %f1, [%rd1+4];`."""

    opcode: str
    """`ld`."""
    modifiers: tuple[str, ...]
    """`("global", "f32")`."""
    operands: tuple[Operand, ...]
    line: int
    """1-based line in the PTX text."""
    guard: Register | None = None
    guard_negated: bool = False
    file: int = 0
    """`.loc` file index; 0 where none is known."""
    source_line: int = 0
    """`.loc` line; 0 where none is known."""
    origin: Instruction | None = field(default=None, compare=False, repr=False)
    """In code made from what is written: the written instruction that this one stands for."""
    callers: tuple[tuple[int, int], ...] = field(default=(), compare=False, repr=False)
    """Of inlined code: file index and line of each call it was inlined at, the outermost first."""

    @property
    def mnemonic(self) -> str:
        """`ld.global.f32`."""
        return ".".join((self.opcode, *self.modifiers))


@dataclass(frozen=True, slots=True)
class Label:
    """A branch target."""

    name: str
    line: int


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable or parameter in some state space."""

    name: str
    space: str
    """`global`, `const`, `shared`, `local` or `param`."""
    type: str
    """Element type, such as `f32` or `b8`."""
    count: int = 1
    """Elements; 0 for an array of unknown size (`extern .shared`)."""
    align: int = 0
    """Bytes; 0: that of the type."""
    initial: tuple[Immediate | Symbol, ...] = ()
    external: bool = False


@dataclass(slots=True)
class Function:
    """A kernel (`.entry`) or device function (`.func`)."""

    name: str
    is_entry: bool
    params: tuple[Variable, ...]
    results: tuple[Variable, ...]
    body: list[Instruction | Label] = field(default_factory=list)
    registers: dict[str, str] = field(default_factory=dict)
    """Type by register name; scoped names are made unique."""
    variables: list[Variable] = field(default_factory=list)
    """Shared, local and param variables declared inside."""
    branch_tables: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """`.branchtargets` lists by their label, for `brx.idx`."""
    directives: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """`maxntid`, `reqntid`, `minnctapersm`, `reqnctapercluster`…"""
    line: int = 0


@dataclass(slots=True)
class Module:
    """One translation unit."""

    version: tuple[int, int] = (0, 0)
    target: str = ""
    functions: dict[str, Function] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    files: dict[int, str] = field(default_factory=dict)
    """Path by `.file` index."""

    def function_addresses(self) -> dict[str, int]:
        """What a pointer to each function is."""
        return {name: FUNCTION_BASE + FUNCTION_STEP * i for i, name in enumerate(self.functions)}


TYPE_BYTES: dict[str, int] = {
    **{f"{kind}{bits}": bits // 8 for kind in "bsu" for bits in (8, 16, 32, 64)},
    "b128": 16,
    "f16": 2, "bf16": 2, "f32": 4, "f64": 8, "f16x2": 4, "bf16x2": 4, "tf32": 4, "pred": 1,
    "u16x2": 4, "s16x2": 4,
}  # fmt: skip
"""Bytes of one element by type."""


_MATRIX_BYTES = {"ldmatrix": 16, "stmatrix": 16, "wgmma": 16, "wmma": 4}


def element_bytes(instruction: Instruction) -> int:
    """Bytes of each element that one lane reads or writes."""
    return TYPE_BYTES.get(instruction.modifiers[-1], 4) if instruction.modifiers else 4


def access_bytes(instruction: Instruction) -> int:
    """Bytes that one lane reads or writes; those of a line for what moves whole matrices."""
    if instruction.opcode in _MATRIX_BYTES:
        return _MATRIX_BYTES[instruction.opcode]
    size = TYPE_BYTES.get(instruction.modifiers[-1], 4)
    vectors = [op for op in instruction.operands if isinstance(op, Vector)]
    return size * (len(vectors[0].elements) if vectors else 1)
