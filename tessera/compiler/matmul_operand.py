"""The operands of a matrix product as a tensor-core kernel brings them into shared memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from tessera.compiler.body import Body
from tessera.compiler.index import Index
from tessera.compiler.matrix_units import MatrixUnits, Product
from tessera.compiler.operand_view import Strided, strided_view
from tessera.compiler.patches import Patches, find_patches
from tessera.compiler.tile_layout import Layout, Shape
from tessera.compiler.writer import ZERO, Name
from tessera.program.dim import Dim
from tessera.program.dtype import DType, bf16, f16, tf32
from tessera.program.graph import Graph, attr_ints
from tessera.program.program import Compare

CHUNK_BYTES = 16
"""Bytes of one asynchronous copy."""
WORD_BYTES = 4
"""Bytes of the smallest one."""


@dataclass(frozen=True, slots=True)
class Matrices:
    """A matrix product whose operands tensor cores can multiply."""

    core: int
    """The product's node."""
    product: Product
    operands: tuple[int, int]
    """Nodes of the operands, before casts that change nothing."""
    views: tuple[Strided | None, Strided | None]
    """How they lie in memory."""
    along_depth: tuple[bool, bool]
    """Whether neighbours in memory are neighbours along the depth."""
    patches: Patches | None = None
    """An operand that is windows over memory rather than a view of it."""
    gathered: int = 1
    """Which one that is."""

    def patches_of(self, position: int) -> Patches | None:
        """The windows that the left or right operand is, if it is."""
        return self.patches if position == self.gathered else None

    @property
    def copied(self) -> bool:
        """Whether both can be copied as they are, where their addresses allow it."""
        return self.conditions is not None

    @property
    def conditions(self) -> tuple[Compare, ...] | None:
        """What must hold for 16-byte copies of both; None where one cannot be copied."""
        return self.conditions_of(CHUNK_BYTES)

    def conditions_of(self, size: int) -> tuple[Compare, ...] | None:
        """The same for copies of `size` bytes."""
        found: list[Compare] = []
        each = size // self.product.dtype.itemsize
        for position, view in enumerate(self.views):
            along = self.along_depth[position]
            windows = self.patches_of(position)
            if windows is not None:
                found += windows.conditions(each)
                continue
            if view is None or not (along or self.product.dtype.itemsize > 1):
                return None
            depth_axis = -1 if position == 0 else -2
            unit = depth_axis if along else -3 - depth_axis
            if view.strides[unit] != 1:
                return None
            others = [s for axis, s in enumerate(view.strides, -len(view.strides)) if axis != unit]
            found += [Compare(lhs=each, op="divides", rhs=s) for s in others if s != 0]
        return tuple(dict.fromkeys(found))


def find_matrices(
    graph: Graph, core: int, computes: Callable[[int], bool], units: MatrixUnits
) -> Matrices | None:
    """The product `core` for tensor cores; None where its operands' types have no instruction."""
    node = graph.nodes[core]
    operands = [_uncast(graph, operand, node.dtype, computes, units) for operand in node.inputs]
    kinds = {graph.nodes[operand].dtype for operand in operands}
    multiplied = units.product(kinds.pop()) if len(kinds) == 1 else None
    if multiplied is None or node.dtype not in multiplied.results:
        return None
    views = [strided_view(graph, operand, computes) for operand in operands]
    along = [
        _along_depth(view, reads_columns(graph, operand, computes), left=position == 0)
        for position, (view, operand) in enumerate(zip(views, operands, strict=True))
    ]
    left, right = operands
    pair = (views[0], views[1])
    for position, operand in ((1, right), (0, left)):
        if views[position] is not None:
            continue
        windows = find_patches(graph, operand, computes, left=position == 0)
        if windows is not None:
            along[position] = True
            both = (along[0], along[1])
            return Matrices(core, multiplied, (left, right), pair, both, windows, position)
    return Matrices(core, multiplied, (left, right), pair, (along[0], along[1]))


def _uncast(
    graph: Graph, operand: int, wanted: DType, computes: Callable[[int], bool], units: MatrixUnits
) -> int:
    """The operand before a cast that keeps every value, where tensor cores multiply what is there."""
    node = graph.nodes[operand]
    if node.op != "cast" or not computes(operand):
        return operand
    source = graph.nodes[node.inputs[0]].dtype
    keeps = units.gives(source, wanted)
    return node.inputs[0] if keeps and node.dtype == wanted else operand


def _along_depth(view: Strided | None, columns: bool, *, left: bool) -> bool:
    if view is None:
        return columns != left
    return view.strides[-1 if left else -2] == 1


def reads_columns(graph: Graph, operand: int, computes: Callable[[int], bool]) -> bool:
    """Whether neighbours in an operand's memory are neighbours along its second-to-last axis."""
    node = graph.nodes[operand]
    while computes(operand) and node.inputs:
        if node.op == "transpose":
            perm = attr_ints(node, "perm")
            return perm[-1] != len(perm) - 1
        operand = node.inputs[0]
        node = graph.nodes[operand]
    return False


@dataclass(frozen=True, slots=True)
class Side:
    """One operand of one kernel."""

    prefix: str
    """`a` or `b`: what its names begin with."""
    node: int
    left: bool
    layout: Shape
    first: Name
    """Name of the first line of the block's tile."""
    lines: Dim
    """Rows of A, columns of B."""
    depth: Dim
    view: Strided | None
    patches: Patches | None = None


class Loader(ABC):
    """Writes how a block brings one operand's tiles into shared memory."""

    def __init__(self, body: Body, matrices: Matrices, side: Side, batch: Name, threads: int) -> None:
        self.body, self.writer = body, body.writer
        self.matrices, self.side, self.batch, self.threads = matrices, side, batch, threads

    @property
    def batch_shape(self) -> tuple[Dim, ...]:
        """The product's axes before the last two."""
        return self.body.graph.nodes[self.matrices.core].shape[:-2]

    def _batch_offset(self) -> Name:
        """Elements before the block's matrix."""
        view, writer = self.side.view, self.writer
        assert view is not None  # noqa: S101 - asked of operands with a view
        strides = view.strides[:-2]
        whole = self.batch_shape
        shape = self.body.graph.nodes[self.side.node].shape[:-2]
        index = Index(writer, whole, ((len(whole), self.batch),)).broadcast(shape) if whole else None
        total = ZERO
        for axis, stride in enumerate(strides):
            if index is not None and stride != 0 and shape[axis] != 1:
                total = writer.add(total, writer.mul(index.axis(axis), writer.size(stride)))
        return total

    @abstractmethod
    def prepare(self) -> None:
        """Write what is the same for all tiles."""

    @abstractmethod
    def skip(self, tiles: str) -> None:
        """Write what goes past so many tiles of depth."""

    @abstractmethod
    def begin(self, slot: str) -> None:
        """Write what starts to bring the next tile to address `slot`."""

    @abstractmethod
    def end(self, slot: str) -> None:
        """Write what puts it there, after `begin` and other work."""


class Copies(Loader):
    """16-byte asynchronous copies; what lies outside of the operand becomes zeros."""

    def prepare(self) -> None:
        """The thread's first chunk: where it is, where it goes, and how much of the operand is left there."""
        side, writer = self.side, self.writer
        view = side.view
        assert view is not None  # noqa: S101 - only operands with a view are copied
        itemsize = side.layout.itemsize
        line_axis, depth_axis = (-2, -1) if side.left else (-1, -2)
        self.line_stride = writer.size(view.strides[line_axis])
        self.depth_stride = writer.size(view.strides[depth_axis])
        chunk = self.chunk = side.layout.chunk(self.threads)
        p = side.prefix
        pointer = self.body.pointer(view.node)
        writer.line(f"{p}_line = {side.first} + {chunk.line}")
        writer.line(f"{p}_depth = {chunk.depth}")
        lines = f"{p}_line * {self.line_stride} + {p}_depth * {self.depth_stride}"
        start = writer.let(f"{p}_start", f"{self._batch_offset()} + {lines}")
        writer.line(f"{p}_from = int64(gpu.address({pointer}, {start}))")
        writer.line(f"{p}_to = int64({chunk.to})")
        writer.line(f"{p}_lines = {writer.size(side.lines)} - {p}_line")
        writer.line(f"{p}_left = {writer.size(side.depth)} - {p}_depth")
        step = f"{side.layout.depth * itemsize} * {self.depth_stride}"
        writer.line(f"{p}_next = int64({step})")
        if chunk.passes > 1:
            apart = f"{chunk.line_step} * {self.line_stride} + {chunk.depth_step} * {self.depth_stride}"
            writer.line(f"{p}_apart = int64({itemsize} * ({apart}))")

    def skip(self, tiles: str) -> None:
        """On in memory, and less of the depth left."""
        p = self.side.prefix
        self.writer.line(f"{p}_from += {tiles} * {p}_next")
        self.writer.line(f"{p}_left -= {tiles} * {self.side.layout.depth}")

    def begin(self, slot: str) -> None:
        """The copies of one tile, then on to the next."""
        p, chunk, writer = self.side.prefix, self.chunk, self.writer
        for i in range(chunk.passes):
            lines = f"{p}_lines > {i * chunk.line_step}"
            depth = f"{p}_left > {i * chunk.depth_step}"
            source = f"{p}_from + {i} * {p}_apart" if i else f"{p}_from"
            to = f"{slot} + {p}_to + {i * chunk.to_step}"
            writer.line(f"gpu.cp_async_16_fill({to}, {source}, {CHUNK_BYTES} if {lines} and {depth} else 0)")
        writer.line(f"{p}_from += {p}_next")
        writer.line(f"{p}_left -= {self.side.layout.depth}")

    def end(self, slot: str) -> None:
        """The copies are awaited together."""


class WordCopies(Copies):
    """The same by 4 bytes, for rows that begin at no multiple of 16."""

    def begin(self, slot: str) -> None:
        """Four copies for each chunk, as far as the operand reaches."""
        p, chunk, writer = self.side.prefix, self.chunk, self.writer
        each = WORD_BYTES // self.side.layout.itemsize
        along = self.matrices.along_depth[0 if self.side.left else 1]
        for i in range(chunk.passes):
            source = writer.let(f"{p}_source", f"{p}_from + {i} * {p}_apart" if i else f"{p}_from")
            to = writer.let(f"{p}_target", f"{slot} + {p}_to + {i * chunk.to_step}")
            for word in range(CHUNK_BYTES // WORD_BYTES):
                lines = i * chunk.line_step + (0 if along else word * each)
                depth = i * chunk.depth_step + (word * each if along else 0)
                count = f"{WORD_BYTES} if {p}_lines > {lines} and {p}_left > {depth} else 0"
                apart = word * WORD_BYTES
                writer.line(f"gpu.cp_async_4_fill({to} + {apart}, {source} + {apart}, {count})")
        writer.line(f"{p}_from += {p}_next")
        writer.line(f"{p}_left -= {self.side.layout.depth}")


class Elements(Loader):
    """Elements one by one, whatever computes them and wherever they lie, put together in registers."""

    def prepare(self) -> None:
        """Which tile is next."""
        p, writer = self.side.prefix, self.writer
        writer.line(f"{p}_depth = int64(0)")
        layout = self.side.layout
        assert isinstance(layout, Layout)  # noqa: S101 - warpgroups only copy
        self.word = layout.word()
        self.words = self.side.layout.bytes // 4 // self.threads
        view = self.side.view
        # What is in memory as it is need not be widened and rounded again: its bits will do.
        self.raw = view is not None and self.matrices.product.dtype.itemsize < 4
        if self.raw and view is not None:
            line_axis, depth_axis = (-2, -1) if self.side.left else (-1, -2)
            self.strides = writer.size(view.strides[line_axis]), writer.size(view.strides[depth_axis])
            writer.line(f"{p}_first = int64({self._batch_offset()})")
            self.pointer = self.body.pointer(view.node)

    def skip(self, tiles: str) -> None:
        """On along the depth."""
        self.writer.line(f"{self.side.prefix}_depth += {tiles} * {self.side.layout.depth}")

    def begin(self, slot: str) -> None:  # noqa: ARG002 - registers are where they go first
        """Loads of one tile into registers."""
        p, writer = self.side.prefix, self.writer
        for i in range(self.words):
            writer.line(f"word = thread + {i * self.threads}")
            values = [self._element(line, depth) for line, depth in self.word.elements]
            dtype = self.matrices.product.dtype
            packed = _joined([f"({v} & {(1 << dtype.bits) - 1})" for v in values], dtype.bits)
            writer.line(f"{p}_word{i} = {packed if self.raw else _packed(values, self.matrices.product)}")
        writer.line(f"{p}_depth += {self.side.layout.depth}")

    def _element(self, line: str, depth: str) -> Name:
        side, writer = self.side, self.writer
        dtype = self.matrices.product.dtype
        outer = writer.let("o", f"{side.first} + {line}")
        deep = writer.let("d", f"{side.prefix}_depth + {depth}")
        value = writer.let("w", "float32(0)" if dtype.is_float and not self.raw else "int64(0)")
        inside = f"{outer} < {writer.size(side.lines)} and {deep} < {writer.size(side.depth)}"
        with writer.block(f"if {inside}"):
            if self.raw:
                place = f"{side.prefix}_first + {outer} * {self.strides[0]} + {deep} * {self.strides[1]}"
                writer.line(f"{value} = int64({self.pointer}[{place}])")
                return value
            axes = (outer, deep) if side.left else (deep, outer)
            operand = self.body.graph.nodes[side.node]
            whole = (*self.batch_shape, *operand.shape[-2:])
            parts = ((len(whole) - 2, self.batch), (1, axes[0]), (1, axes[1]))
            index = Index(writer, whole, parts).broadcast(operand.shape)
            writer.line(f"{value} = {self.body.value(side.node, index)}")
        return value

    def end(self, slot: str) -> None:
        """Registers to shared memory."""
        p, writer = self.side.prefix, self.writer
        for i in range(self.words):
            writer.line(f"word = thread + {i * self.threads}")
            writer.line(f"gpu.store_shared_u32({slot} + {self.word.to}, {p}_word{i})")


def _packed(values: list[Name], product: Product) -> str:
    """The elements of one word."""
    dtype = product.dtype
    if dtype == tf32:
        return f"gpu.f32_to_tf32({values[0]})"
    # sm_75 rounds one at a time.
    if dtype in (f16, bf16) and product.needs >= (8, 0):
        return f"gpu.f32_to_{dtype.name}x2({values[0]}, {values[1]})"
    if dtype.is_float:
        bits = [f"int64(f32_to_{dtype.name}({value}))" for value in values]
    else:
        bits = [f"({value} & 255)" for value in values]
    return _joined(bits, dtype.bits)


def _joined(parts: list[str], width: int) -> str:
    """Elements of `width` bits as one word, the first in the low bits."""
    return "uint32(" + " | ".join(f"({b} << {width * i})" if i else b for i, b in enumerate(parts)) + ")"
