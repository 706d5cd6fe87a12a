"""Program: kernels and the plan to launch them, the one contract between the rooms.

A Program says what goes in and out, which weights it needs and, for each
target, which kernels to launch with which arguments. It holds no code: kernel
binaries are found by name. Sizes are `Dim`s, evaluated once the shapes of the
inputs are known.

GPU kernels take the arguments of `Launch.args` in order, in the C ABI. CPU
kernels are `void name(void *const *args, int64_t begin, int64_t end)`, where
`args[i]` points to the i-th argument's value and `[begin, end)` is a part of
the work items `0 … grid[0]*grid[1]*grid[2]`, which may run in any order and at
the same time.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import msgspec

from tessera.program.dim import Dim, format_dim, format_shape
from tessera.program.dtype import DType, i64
from tessera.program.graph import Graph
from tessera.program.tensor_map import ElementName

SCHEMA_MAJOR = 1
SCHEMA_MINOR = 1
"""1: arguments may be tensor maps."""
SCHEMA = f"{SCHEMA_MAJOR}.{SCHEMA_MINOR}"
"""Schema version that this Tessera writes. A reader accepts every minor of its major."""


DEFAULT_PROGRAM = "forward"
"""What an exported model's program is called, and which of several is meant where none is named."""


class Port(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An input or output."""

    name: str
    dtype: DType
    shape: tuple[Dim, ...] = ()
    kind: Literal["tensor", "scalar"] = "tensor"
    """`scalar`: a number passed by value. An integer scalar also gives the symbol of its name a value."""
    initial: str | None = None
    """Outputs: the input whose contents the output starts with (a kernel that updates in place)."""

    @property
    def type_text(self) -> str:
        """`f32(batch, 64)`; a scalar has no shape: `i64`."""
        return f"{self.dtype}{format_shape(self.shape) if self.kind == 'tensor' else ''}"

    def __str__(self) -> str:
        return f"{self.name}: {self.type_text}"


class Constant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A weight, stored in the package under its name, C-contiguous."""

    name: str
    dtype: DType
    shape: tuple[int, ...]


class Buffer(msgspec.Struct, frozen=True, kw_only=True):
    """A range of the arena. Ranges of buffers that never live together may overlap."""

    name: str
    offset_bytes: Dim
    bytes: Dim


class Pointer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="pointer"):
    """The address of a tensor, plus an offset."""

    space: Literal["input", "output", "constant", "buffer", "persistent", "null"]
    name: str = ""
    offset_bytes: Dim = 0

    def __str__(self) -> str:
        offset = "" if self.offset_bytes == 0 else f" + {format_dim(self.offset_bytes)}"
        return "null" if self.space == "null" else f"{self.space} {self.name}{offset}"


class Extent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="extent"):
    """An integer that depends on the shapes."""

    value: Dim
    dtype: DType = i64

    def __str__(self) -> str:
        return format_dim(self.value)


class Immediate(msgspec.Struct, frozen=True, kw_only=True, tag="immediate"):
    """A fixed number."""

    value: float | int | bool
    dtype: DType

    def __str__(self) -> str:
        return str(self.value)


class ScalarInput(msgspec.Struct, frozen=True, kw_only=True, tag="scalar"):
    """A scalar input, by value."""

    name: str
    dtype: DType

    def __str__(self) -> str:
        return self.name


class BoxMap(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="tensor_map"):
    """How bulk tensor copies find boxes of a tensor: 128 bytes by value, which the device encodes.

    Dimensions begin with the innermost one. What may be asked for is what `tensor_map.TensorMap` takes;
    sm_90 and later.
    """

    tensor: Pointer
    """Where the tensor begins: at a multiple of 16 bytes."""
    element: ElementName
    """Type of the elements; `tf32` rounds float32 on the way."""
    sizes: tuple[Dim, ...]
    """Elements along one to five dimensions."""
    strides_bytes: tuple[Dim, ...] = ()
    """From one element to the next along each dimension but the first: multiples of 16."""
    box: tuple[int, ...]
    """Elements of a box along each dimension."""
    swizzle: Literal[0, 32, 64, 128] = 0
    """Pieces of 16 bytes change places within rows of so many bytes; 0: none do."""
    l2_promotion: Literal[0, 64, 128, 256] = 0
    """Bytes that are fetched at least; 0: no more than needed."""

    def __str__(self) -> str:
        box = " × ".join(map(str, reversed(self.box)))
        return f"map of {self.tensor}, boxes of {box} {self.element}"


Arg = Pointer | Extent | Immediate | ScalarInput | BoxMap
"""One kernel argument."""


class Launch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="launch"):
    """Launch of one kernel. A grid with a 0 in it is skipped."""

    kernel: str
    """Entry name."""
    grid: tuple[Dim, Dim, Dim]
    """Blocks by axis (CPU: their product is the number of work items)."""
    block: tuple[int, int, int] = (1, 1, 1)
    """Threads by axis (CPU: 1, 1, 1)."""
    shared_bytes: Dim = 0
    """Dynamic shared memory per block."""
    cluster: tuple[int, int, int] | None = None
    """Blocks of a cluster, sm_90 and later."""
    persistent: bool = False
    """Whether blocks go on until all is done, so that fewer do the same: a GPU starts no more along the first
    axis than it has multiprocessors. Schema 1.1; who does not know it starts them all, which is as right."""
    args: tuple[Arg, ...] = ()


class Gemm(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="gemm"):
    """`C = op(A) @ op(B)`, row-major and batched, done by the runtime's BLAS."""

    dtype: DType
    """f32 or f64."""
    m: Dim
    n: Dim
    k: Dim
    a: Pointer
    """(batch, m, k), or (batch, k, m) with `transpose_a`."""
    b: Pointer
    """(batch, k, n), or (batch, n, k) with `transpose_b`."""
    c: Pointer
    """(batch, m, n)."""
    transpose_a: bool = False
    transpose_b: bool = False
    batch: Dim = 1
    stride_a: Dim = 0
    """Elements from one matrix of the batch to the next; 0: the same for all."""
    stride_b: Dim = 0
    stride_c: Dim = 0


class Compare(msgspec.Struct, frozen=True, kw_only=True):
    """A condition on the shapes."""

    lhs: Dim
    op: Literal["<", "<=", "==", ">=", ">", "divides"]
    """`divides`: lhs divides rhs."""
    rhs: Dim

    def __str__(self) -> str:
        return f"{format_dim(self.lhs)} {self.op} {format_dim(self.rhs)}"


class Option(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Steps that may be taken where every condition of `guard` holds."""

    steps: tuple[Launch | Gemm, ...]
    guard: tuple[Compare, ...] = ()


class Choice(msgspec.Struct, frozen=True, kw_only=True, tag="choice"):
    """Variants of one piece of work: the first whose guard holds. The last has none."""

    options: tuple[Option, ...]


Step = Launch | Gemm | Choice


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a program runs on some targets."""

    targets: tuple[str, ...]
    """Architectures this plan is for, such as `sm_80` or `cpu-x86_64-v3`."""
    steps: tuple[Step, ...]
    """What to do, in order, for each execution."""
    buffers: tuple[Buffer, ...] = ()
    """Temporary tensors inside the arena."""
    arena_bytes: Dim = 0
    """Size of the arena; it may depend on the shapes."""
    setup: tuple[Step, ...] = ()
    """What to do once when the program is loaded: it reads constants and writes `persistent`."""
    persistent: tuple[Buffer, ...] = ()
    """Tensors that `setup` makes and that live as long as the program."""
    persistent_bytes: int = 0


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A compiled function: interface, weights and launch plans."""

    schema: str = SCHEMA
    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    constants: tuple[Constant, ...] = ()
    plans: tuple[Plan, ...] = ()
    graph: Graph | None = None
    """What the program computes, for the reference device and for `inspect`; None for raw kernels."""

    def plan_for(self, target: str) -> Plan | None:
        """The plan for an architecture, if there is one."""
        return next((p for p in self.plans if target in p.targets), None)

    @property
    def targets(self) -> tuple[str, ...]:
        """Every architecture that has a plan."""
        return tuple(t for p in self.plans for t in p.targets)


def default_program(names: Collection[str]) -> str | None:
    """Which of these programs is meant where none is named: the only one, or `DEFAULT_PROGRAM`; else None."""
    if len(names) == 1:
        return next(iter(names))
    return DEFAULT_PROGRAM if DEFAULT_PROGRAM in names else None
