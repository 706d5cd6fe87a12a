"""The body of one kernel: the values of a group's operators at a position, and what it reads."""

from __future__ import annotations

from collections.abc import Callable

from tessera.compiler import scalar_math
from tessera.compiler.gathers import GATHERS
from tessera.compiler.index import Index
from tessera.compiler.lanes import Lanes
from tessera.compiler.operand_map import OperandMap
from tessera.compiler.operators import BINARY, COMPARISONS, TESTS, UNARY
from tessera.compiler.views import VIEWS
from tessera.compiler.writer import Name, Writer
from tessera.program.dtype import i64
from tessera.program.errors import CompileError
from tessera.program.graph import Graph, Node

WORKSPACE = -1
"""Stands for the node of memory between two kernels of one group."""
SECOND_WORKSPACE = -2
"""Another one, for kernels that read the one and write the other."""


class Body:
    """Writes the operators of one group, element by element."""

    def __init__(self, graph: Graph, members: frozenset[int], owner: Callable[[int], int]) -> None:
        self.graph = graph
        self.writer = Writer()
        self.reads: dict[int, Name] = {}
        """Parameter of every tensor read so far, by the node that owns its memory."""
        self.maps: dict[OperandMap, Name] = {}
        """Parameter of every tensor map asked for so far."""
        self.results: dict[int, Name] = {}
        """The value of a core, where a template has computed it at the position in hand."""
        self.bounds: dict[Name, tuple[int, int]] = {}
        """Coordinates that lie between two numbers, the second excluded, wherever text is written now."""
        self.lanes: Lanes | None = None
        """Neighbours whose text is being written, one after the other; None: elements by themselves."""
        self.shared_bytes = 0
        """Static shared memory asked for so far."""
        self._members = members
        self._owner = owner

    def value(self, node: int, index: Index, *, rounded: bool = True) -> Name:
        """The number that `node` has at `index`, in its compute type.

        Args:
            node: A member, a number, or a tensor in memory.
            index: A position in the shape of `node`.
            rounded: Whether a cast rounds; not where the value is stored as it is, which rounds.
        """
        if node in self.results:
            return self.results[node]
        it = self.graph.nodes[node]
        if it.op == "scalar":
            return Name(scalar_math.literal(self._number(it), it.dtype))
        if node not in self._members:
            return self._load(node, index)
        if it.op in _SOURCES:
            return _SOURCES[it.op](self, it, index)
        if it.op in VIEWS:
            return self.value(it.inputs[0], VIEWS[it.op](index, it, self.graph), rounded=rounded)
        key = ("value", node, index.serial, rounded)
        known = self.writer.recall(key)
        if known is None and it.op in GATHERS:
            known = GATHERS[it.op](self, it, index)
            self.writer.remember(key, known)
        if known is None:
            operands = [self.value(i, self._operand_index(it, index, self.graph.nodes[i])) for i in it.inputs]
            outside, self.writer.location = self.writer.location, it.location
            known = self.writer.let("v", self._expression(it, operands, rounded=rounded))
            self.writer.location = outside
            self.writer.remember(key, known)
        return known

    def store(self, root: int, index: Index) -> None:
        """Write the value of the group's root at `index` to its memory."""
        node = self.graph.nodes[root]
        value = self.value(root, index, rounded=False)
        position = self._address(index) if self.lanes is None else index.position
        outside, self.writer.location = self.writer.location, node.location
        if self.lanes is None:
            self.writer.line(f"out[{position}] = {scalar_math.store(value, node.dtype)}")
        else:
            self.lanes.write(self.writer, position, value, lambda text: scalar_math.store(text, node.dtype))
        self.writer.location = outside

    def computes(self, node: int) -> bool:
        """Whether this kernel computes `node`, rather than read it."""
        return node in self._members

    def pointer(self, node: int) -> Name:
        """The parameter that points at the memory of a tensor that is read."""
        owner = node if node < 0 else self._owner(node)
        return self.reads.setdefault(owner, Name(f"in{len(self.reads)}"))

    def tensor_map(self, found: OperandMap) -> Name:
        """The parameter that holds a tensor map: its address."""
        return self.maps.setdefault(found, Name(f"map{len(self.maps)}"))

    def shared(self, shape: tuple[int, ...], kind: str) -> Name:
        """A new array in the block's shared memory, of a compute type."""
        count = 1
        for size in shape:
            count *= size
        self.shared_bytes += count * (4 if kind in ("float32", "int32") else 8)
        sizes = str(shape[0]) if len(shape) == 1 else str(shape)
        return self.writer.declare("shared", f"cuda.shared.array({sizes}, {kind})")

    def _load(self, node: int, index: Index) -> Name:
        it = self.graph.nodes[node]
        owner = self._owner(node)
        pointer = self.pointer(node)
        if self.lanes is not None:
            lane = self.lanes.read(self.writer, pointer, index.position)
            if lane is not None:
                return self.writer.let("x", scalar_math.load(lane, it.dtype))
        position = self._address(index)
        key = ("load", owner, str(position))
        known = self.writer.recall(key)
        if known is None:
            known = self.writer.let("x", scalar_math.load(f"{pointer}[{position}]", it.dtype))
            self.writer.remember(key, known)
        return known

    def _address(self, index: Index) -> Name:
        position = index.position
        return position if position.isidentifier() or position.isdigit() else self._named(position)

    def _named(self, position: Name) -> Name:
        return self.writer.integer("at", position, position)

    def _operand_index(self, node: Node, index: Index, operand: Node) -> Index:
        if operand.op == "scalar":
            return index
        for size, whole in zip(reversed(operand.shape), reversed(node.shape), strict=False):
            if size not in (1, whole):
                raise CompileError(
                    f"{node.op}: sizes {size} and {whole} may differ, so they cannot be broadcast",
                    hint="give both the same symbol in their TensorSpecs",
                    location=node.location,
                )
        return index.broadcast(operand.shape)

    def _expression(self, node: Node, operands: list[Name], *, rounded: bool) -> str:
        op, source = node.op, self.graph.nodes[node.inputs[0]].dtype
        if op == "cast":
            return scalar_math.cast(operands[0], source, node.dtype, rounded=rounded)
        if op in UNARY:
            return scalar_math.unary(op, operands[0], node.dtype, node.attrs.get("approximate"))
        if op in BINARY:
            a, b = operands
            return scalar_math.binary(op, a, b, node.dtype, lambda text: self.writer.let("t", text))
        if op in COMPARISONS:
            return scalar_math.compare(op, *operands)
        if op in TESTS:
            return scalar_math.test(op, operands[0], source)
        if op == "where":
            return scalar_math.where(*operands)
        raise CompileError(f"no kernel computes {node.op!r} here", location=node.location, operator=node.op)

    def _number(self, node: Node) -> float:
        from tessera.compiler.passes.simplify import round_number

        rounded = round_number(node.attrs["value"], node.dtype, node.dtype)
        if rounded is None:
            raise CompileError(
                f"the number {node.attrs['value']} is not a {node.dtype}", location=node.location
            )
        return float(rounded) if node.dtype.is_float else int(rounded)


def _iota(body: Body, node: Node, index: Index) -> Name:
    axis = index.axis(int(str(node.attrs["axis"])))
    return _as_number(body, axis, node)


def _extent(body: Body, node: Node, index: Index) -> Name:  # noqa: ARG001
    size = body.graph.nodes[node.inputs[0]].shape[int(str(node.attrs["axis"]))]
    return _as_number(body, body.writer.size(size), node)


def _as_number(body: Body, position: Name, node: Node) -> Name:
    text = scalar_math.cast(f"int64({position})", i64, node.dtype)
    return body.writer.integer("p", text, position)


_SOURCES = {"iota": _iota, "extent": _extent}
