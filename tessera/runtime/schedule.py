"""A plan with every size known: what one shape of the inputs makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from tessera.program.arch import MAX_GRID
from tessera.program.dim import Dim, evaluate
from tessera.program.dtype import DType
from tessera.program.errors import DeviceError, InputError, ProgramError
from tessera.program.program import (
    Arg,
    BoxMap,
    Buffer,
    Choice,
    Compare,
    Extent,
    Gemm,
    Immediate,
    Launch,
    Plan,
    Pointer,
    Port,
    Program,
    ScalarInput,
    Step,
)
from tessera.program.tensor_map import ElementName, TensorMap

if TYPE_CHECKING:
    import numpy as np

Space = Literal["input", "output", "constant", "arena", "persistent", "null"]


@dataclass(frozen=True, slots=True)
class Address:
    """A place in memory, relative to something whose address is known when a call is made."""

    space: Space
    name: str
    """Name of the input, output or constant; empty otherwise."""
    offset_bytes: int


@dataclass(frozen=True, slots=True)
class Value:
    """A number, as the bytes a kernel reads."""

    data: bytes
    """At most 8 bytes, little-endian."""


@dataclass(frozen=True, slots=True)
class MapValue:
    """A tensor map with every number but its address."""

    tensor: Address
    element: ElementName
    sizes: tuple[int, ...]
    strides_bytes: tuple[int, ...]
    box: tuple[int, ...]
    swizzle: Literal[0, 32, 64, 128]
    l2_promotion: Literal[0, 64, 128, 256]

    def at(self, address: int) -> TensorMap:
        """The map of a tensor that begins at a device address.

        Raises:
            KernelError: No GPU takes such a map.
        """
        return TensorMap(
            self.element,
            address,
            self.sizes,
            self.strides_bytes,
            self.box,
            swizzle=self.swizzle,
            l2_promotion=self.l2_promotion,
        )


Argument = Address | Value | ScalarInput | MapValue


@dataclass(frozen=True, slots=True)
class LaunchCall:
    """One launch with all its numbers."""

    kernel: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    cluster: tuple[int, int, int] | None
    args: tuple[Argument, ...]
    persistent: bool = False
    """Whether fewer blocks do the same."""

    @property
    def items(self) -> int:
        """Work items on a CPU: blocks of the grid."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    def on(self, multiprocessors: int) -> LaunchCall:
        """The launch for a GPU of so many multiprocessors: a persistent one has a block on each at most."""
        if not self.persistent or self.grid[0] <= multiprocessors:
            return self
        return replace(self, grid=(multiprocessors, *self.grid[1:]))

    def check_grid(self) -> None:
        """Whether a GPU takes so many blocks.

        Raises:
            DeviceError: It does not; names the axis.
        """
        for size, limit, axis in zip(self.grid, MAX_GRID, "xyz", strict=True):
            if size > limit:
                raise DeviceError(
                    f"kernel {self.kernel!r}: {size} blocks along {axis}, a GPU takes {limit}",
                    hint="use smaller inputs, or give a block more work",
                )


@dataclass(frozen=True, slots=True)
class Matrices:
    """Where the matrices of a product lie."""

    address: Address
    shape: tuple[int, ...]
    """(rows, columns), or (batch, rows, columns)."""
    strides_bytes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GemmCall:
    """`c = a @ b`. A product over nothing (k = 0) is zero."""

    dtype: DType
    a: Matrices
    b: Matrices
    c: Matrices


@dataclass(frozen=True, slots=True)
class Output:
    """One result."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    initial: int | None
    """Index of the input whose contents it starts with."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Calls in order, for one shape of the inputs."""

    calls: tuple[LaunchCall | GemmCall, ...]
    arena_bytes: int
    outputs: tuple[Output, ...]


def make_schedule(program: Program, plan: Plan, symbols: Mapping[str, int]) -> Schedule:
    """The schedule of `plan.steps` where the symbols have those values.

    Raises:
        InputError: A size does not fit the number that a kernel takes.
        ProgramError: The plan reaches outside its memory.
    """
    index = {p.name: i for i, p in enumerate(program.inputs)}
    outputs = tuple(
        Output(
            port.name,
            port.dtype.numpy,
            tuple(_size(d, symbols, f"output {port.name!r}") for d in port.shape),
            None if port.initial is None else index[port.initial],
        )
        for port in program.outputs
    )
    arena = _size(plan.arena_bytes, symbols, "the arena")
    extents = _fixed_extents(program, plan) | {("arena", ""): arena}
    extents |= {("input", p.name): _port_bytes(p, symbols) for p in program.inputs if p.kind == "tensor"}
    extents |= {("output", p.name): _port_bytes(p, symbols) for p in program.outputs}
    ranges = _buffers(plan.buffers, "arena", arena, symbols)
    resolver = _Resolver(program, symbols, ranges | _persistent(plan), extents)
    return Schedule(resolver.calls(plan.steps), arena, outputs)


def make_setup(program: Program, plan: Plan) -> Schedule:
    """The schedule of `plan.setup`, which reads constants and writes persistent buffers."""
    resolver = _Resolver(program, {}, _persistent(plan), _fixed_extents(program, plan))
    return Schedule(resolver.calls(plan.setup), 0, ())


def _fixed_extents(program: Program, plan: Plan) -> dict[tuple[str, str], int]:
    extents = {("persistent", ""): plan.persistent_bytes, ("null", ""): 0}
    for constant in program.constants:
        size = constant.dtype.itemsize
        for length in constant.shape:
            size *= length
        extents["constant", constant.name] = size
    return extents


def _persistent(plan: Plan) -> dict[tuple[str, str], Address]:
    return _buffers(plan.persistent, "persistent", plan.persistent_bytes, {})


def _buffers(
    buffers: Sequence[Buffer], space: Literal["arena", "persistent"], limit: int, symbols: Mapping[str, int]
) -> dict[tuple[str, str], Address]:
    found = {}
    for buffer in buffers:
        what = f"{'buffer' if space == 'arena' else 'persistent buffer'} {buffer.name!r}"
        offset, size = _size(buffer.offset_bytes, symbols, what), _size(buffer.bytes, symbols, what)
        if offset + size > limit:
            _outside(what, offset, size, limit)
        key = "buffer" if space == "arena" else "persistent"
        found[key, buffer.name] = Address(space, "", offset)
    return found


def _port_bytes(port: Port, symbols: Mapping[str, int]) -> int:
    size = port.dtype.itemsize
    for dim in port.shape:
        size *= _size(dim, symbols, f"{port.name!r}")
    return size


def _size(dim: Dim, symbols: Mapping[str, int], what: str) -> int:
    value = evaluate(dim, symbols)
    if value < 0:
        raise InputError(f"{what}: the size {dim} is {value} for these inputs, which is negative")
    return value


def _outside(what: str, offset: int, size: int, limit: int) -> NoReturn:
    raise ProgramError(
        f"{what}: bytes {offset} to {offset + size} lie outside the {limit} there are",
        hint="compile the program again",
    )


@dataclass(frozen=True, slots=True)
class _Resolver:
    program: Program
    symbols: Mapping[str, int]
    ranges: Mapping[tuple[str, str], Address]
    """Start of every buffer."""
    extents: Mapping[tuple[str, str], int]
    """Bytes of every space and name that an address may be relative to."""

    def calls(self, steps: Sequence[Step]) -> tuple[LaunchCall | GemmCall, ...]:
        found: list[LaunchCall | GemmCall] = []
        for step in steps:
            if isinstance(step, Choice):
                option = next(o for o in step.options if all(map(self._holds, o.guard)))
                found += self.calls(option.steps)
            elif isinstance(step, Launch):
                found += self._launch(step)
            else:
                found += self._gemm(step)
        return tuple(found)

    def _holds(self, guard: Compare) -> bool:
        lhs, rhs = evaluate(guard.lhs, self.symbols), evaluate(guard.rhs, self.symbols)
        return COMPARISONS[guard.op](lhs, rhs)

    def _launch(self, step: Launch) -> list[LaunchCall]:
        what = f"kernel {step.kernel!r}"
        x, y, z = (_size(d, self.symbols, what) for d in step.grid)
        if not x * y * z:
            return []
        return [
            LaunchCall(
                step.kernel,
                (x, y, z),
                step.block,
                _size(step.shared_bytes, self.symbols, what),
                step.cluster,
                tuple(self._argument(a, what) for a in step.args),
                step.persistent,
            )
        ]

    def _argument(self, arg: Arg, what: str) -> Argument:
        if isinstance(arg, Pointer):
            return self._address(arg, what)
        if isinstance(arg, Extent):
            return Value(encode_number(evaluate(arg.value, self.symbols), arg.dtype, f"{what}: {arg.value}"))
        if isinstance(arg, Immediate):
            return Value(encode_number(arg.value, arg.dtype, what))
        if isinstance(arg, BoxMap):
            sizes, strides = (
                tuple(_size(d, self.symbols, what) for d in dims) for dims in (arg.sizes, arg.strides_bytes)
            )
            tensor = self._address(arg.tensor, what)
            return MapValue(tensor, arg.element, sizes, strides, arg.box, arg.swizzle, arg.l2_promotion)
        return arg

    def _address(self, pointer: Pointer, what: str) -> Address:
        offset = evaluate(pointer.offset_bytes, self.symbols)
        start = self.ranges.get((pointer.space, pointer.name))
        if start is None:
            # Only the two buffer spaces have ranges; "buffer" never reaches this line.
            space: Space = "arena" if pointer.space == "buffer" else pointer.space
            start = Address(space, pointer.name, 0)
        address = Address(start.space, start.name, start.offset_bytes + offset)
        limit = self.extents[address.space, address.name]
        if not 0 <= address.offset_bytes <= limit:
            _outside(what, address.offset_bytes, 0, limit)
        return address

    def _gemm(self, step: Gemm) -> list[GemmCall]:
        m, n, k, batch = (_size(d, self.symbols, "gemm") for d in (step.m, step.n, step.k, step.batch))
        if not m * n * batch:
            return []
        sides = (
            (step.a, step.stride_a, m, k, step.transpose_a),
            (step.b, step.stride_b, k, n, step.transpose_b),
            (step.c, step.stride_c, m, n, False),
        )
        a, b, c = (self._matrices(step.dtype.itemsize, batch, *side) for side in sides)
        return [GemmCall(step.dtype, a, b, c)]

    def _matrices(
        self, size: int, batch: int, pointer: Pointer, stride: Dim, rows: int, columns: int, transpose: bool
    ) -> Matrices:
        step = _size(stride, self.symbols, "gemm") * size
        address = self._address(pointer, "gemm")
        limit = self.extents[address.space, address.name]
        span = (batch - 1) * step + rows * columns * size
        if address.offset_bytes + span > limit:
            _outside("gemm", address.offset_bytes, span, limit)
        strides = (size, rows * size) if transpose else (columns * size, size)
        if batch == 1:
            return Matrices(address, (rows, columns), strides)
        return Matrices(address, (batch, rows, columns), (step, *strides))


COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    ">=": lambda a, b: a >= b,
    ">": lambda a, b: a > b,
    "divides": lambda a, b: a > 0 and b % a == 0,
}
"""What each operator of a guard means."""


def encode_number(value: float, dtype: DType, what: str) -> bytes:
    """`value` as the bytes that a kernel reads for a `dtype`.

    Raises:
        InputError: The integer does not fit the dtype.
    """
    # numpy costs 60 ms; whoever loads programs has paid for it.
    import numpy as np

    try:
        with np.errstate(over="ignore"):
            return np.asarray(value, dtype=dtype.numpy).tobytes()
    except OverflowError:
        raise InputError(
            f"{what}: {value} does not fit {dtype}", hint="use smaller inputs, or compile with i64 sizes"
        ) from None
