"""A graph while it grows, node by node."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import msgspec

from tessera.program.dim import Dim
from tessera.program.dtype import KERNEL_DTYPES, DType
from tessera.program.errors import TraceError
from tessera.program.graph import Attr, Graph, Node

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

UNNAMED = re.compile(r"constant_\d+")
"""What an array is called that the function neither holds nor names."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


class GraphBuilder:
    """Collects the nodes and constants of one function while it is traced.

    Args:
        name: Name of the function.
        snapshots: Whether to copy arrays that have no name: the function may write into one of its own
            between two uses.
    """

    def __init__(self, name: str, *, snapshots: bool = False) -> None:
        self.name = name
        self._snapshots = snapshots
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}
        self.line: tuple[str | None, int | None] = (None, None)
        """File and line of the operator being added."""
        self._names: dict[int, tuple[str, Array]] = {}
        self._constant_nodes: dict[tuple[int, DType], int] = {}
        self._seen: dict[int, Array] = {}
        """Constants' arrays by their ids. While one is kept its id goes to no other: else an equal array made
        later would give the same node, or one of its own, as memory happens to lie."""
        self._scalar_nodes: dict[tuple[type, str, DType], int] = {}

    def add(
        self, op: str, inputs: tuple[int, ...], shape: tuple[Dim, ...], dtype: DType, **attrs: Attr
    ) -> int:
        """The index of a new node.

        Raises:
            TraceError: Of a dtype that only kernels have.
        """
        file, line = self.line
        if dtype in KERNEL_DTYPES:
            raise TraceError(
                f"{op}: there are no operators on {dtype}: only arrays and numbers of kernels may be {dtype}",
                hint="take ts.i64, or write a ts.kernel",
            )
        self.nodes.append(
            Node(op=op, inputs=inputs, attrs=attrs, shape=shape, dtype=dtype, file=file, line=line)
        )
        return len(self.nodes) - 1

    def name_constants(self, names: Mapping[str, Array]) -> None:
        """Say what arrays are to be called when the function uses them; the first name stays."""
        for name, array in names.items():
            # The array is kept, so that its id is not given to another one meanwhile.
            self._names.setdefault(id(array), (name, array))

    def constant(self, array: Array, dtype: DType) -> int:
        """The node of a constant; the same array gives the same node, unless it was written to since."""
        key = (id(array), dtype)
        named = id(array) in self._names
        if self._snapshots and not named and not self._still_holds(key, array):
            self._constant_nodes.pop(key, None)
        if key not in self._constant_nodes:
            name = self._names[id(array)][0] if named else "constant"
            # Weights become files of this name.
            name = self._unused(_UNSAFE.sub("_", name))
            self.constants[name] = array if named or not self._snapshots else array.copy()
            self._seen[id(array)] = array
            self._constant_nodes[key] = self.add(
                "constant", (), tuple(int(size) for size in array.shape), dtype, name=name
            )
        return self._constant_nodes[key]

    def _still_holds(self, key: tuple[int, DType], array: Array) -> bool:
        if key not in self._constant_nodes:
            return False
        kept = self.constants[str(self.nodes[self._constant_nodes[key]].attrs["name"])]
        same = kept.shape == array.shape and kept.dtype == array.dtype
        return same and kept.tobytes() == array.tobytes()

    def _unused(self, name: str) -> str:
        candidate, number = ("constant_0" if name == "constant" else name), 0
        while candidate in self.constants:
            number += 1
            candidate = f"{name}_{number}"
        return candidate

    def scalar(self, value: bool | int | float, dtype: DType) -> int:
        """The node of a literal of rank 0; the same literal gives the same node."""
        if isinstance(value, float) and not math.isfinite(value):
            # JSON has no infinity and no NaN: such a literal is a weight of rank 0.
            import numpy as np

            return self.constant(np.asarray(value, dtype=dtype.numpy), dtype)
        # The text keeps -0.0 apart from 0.0, and the type keeps True apart from 1.
        key = (type(value), repr(value), dtype)
        if key not in self._scalar_nodes:
            self._scalar_nodes[key] = self.add("scalar", (), (), dtype, value=value)
        return self._scalar_nodes[key]

    def cast(self, index: int, dtype: DType) -> int:
        """The node of `index` in `dtype`; the same node if it is of that dtype already."""
        node = self.nodes[index]
        return index if node.dtype == dtype else self.add("cast", (index,), node.shape, dtype)

    def label(self, index: int) -> str:
        """What to call a value in a message: an input's or constant's name, or what made it.

        Empty for a constant that the user gave no name.
        """
        node = self.nodes[index]
        if node.op in ("input", "constant"):
            name = str(node.attrs["name"])
            return "" if node.op == "constant" and UNNAMED.fullmatch(name) else name
        if node.op == "scalar":
            return str(node.attrs["value"])
        if node.op in ("cast", "reshape", "transpose"):
            return f"{node.op} of {self.label(node.inputs[0]) or 'a tensor'}"
        return f"the result of {node.op}"

    def finish(self, outputs: tuple[int, ...], names: tuple[str, ...]) -> tuple[Graph, dict[str, Array]]:
        """The graph and its constants, without the nodes that no output needs. Inputs stay."""
        needed = set(outputs)
        for index in reversed(range(len(self.nodes))):
            if index in needed:
                needed.update(self.nodes[index].inputs)
        kept = [i for i, node in enumerate(self.nodes) if i in needed or node.op == "input"]
        position = {old: new for new, old in enumerate(kept)}
        nodes = tuple(self._moved(self.nodes[old], position) for old in kept)
        graph = Graph(
            name=self.name, nodes=nodes, outputs=tuple(position[i] for i in outputs), output_names=names
        )
        return graph, {name: self.constants[name] for name in graph.leaves("constant")}

    @staticmethod
    def _moved(node: Node, position: Mapping[int, int]) -> Node:
        return msgspec.structs.replace(node, inputs=tuple(position[i] for i in node.inputs))


_active: ContextVar[GraphBuilder | None] = ContextVar("tessera_active_trace", default=None)


def active() -> GraphBuilder | None:
    """The graph that is being traced in this thread, if one is."""
    return _active.get()


@contextmanager
def recording(builder: GraphBuilder) -> Iterator[GraphBuilder]:
    """Within, every operator becomes a node of `builder`."""
    token = _active.set(builder)
    try:
        yield builder
    finally:
        _active.reset(token)
