"""Fusion: which operators share a kernel, and which share memory.

A group is one kernel: its root is written to memory, its other members exist
only in registers. A group may hold one core (a matmul, reduction, softmax or
layernorm), computed by a template: what comes before it is computed where the
template reads, what comes after where it writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tessera.compiler.lower_scatter import scatters_in_place
from tessera.compiler.operators import (
    CORES,
    GATHERS,
    LEAVES,
    NORMALIZATIONS,
    ORDERS,
    POINTWISE,
    POSITIONS,
    ROWS,
    SCATTERS,
    SEGMENTS,
    VIEWS,
    cost,
)
from tessera.compiler.passes.constants import load_time_nodes
from tessera.compiler.passes.cpu_matmul import is_blas_matmul
from tessera.program.dim import product
from tessera.program.graph import Graph, Node, attr_ints

MAX_MEMBERS = 48
"""Operators in one kernel: more make it slow to compile and short of registers."""
MAX_COPIES = 4
"""Kernels that may compute the same cheap operator for themselves."""
_REREADS = NORMALIZATIONS | POSITIONS
"""Cores that read their operand more than once."""

_READS_ONCE = (VIEWS - {"expand"}) | {"concat", "pad"}
"""Operators that read each element of an operand once at most."""
_READS_ANYWHERE = GATHERS - {"concat", "pad"} | SCATTERS | SEGMENTS | ORDERS


@dataclass(frozen=True, slots=True)
class Group:
    """One kernel, or one call of the BLAS."""

    root: int
    """The node whose value is written."""
    members: tuple[int, ...]
    """Every node computed, in order; the root is the last."""
    core: int | None = None
    """The member that a template computes, if there is one."""
    blas: bool = False
    """Whether the core is left to the runtime's BLAS."""
    at_load: bool = False
    """Whether this is done once, when the program is loaded."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """A graph cut into kernels."""

    groups: tuple[Group, ...]
    """In an order in which they can run."""
    aliases: dict[int, int]
    """Reshapes that are no work: node by node, the one whose memory it is."""

    def owner(self, node: int) -> int:
        """The node whose memory holds the value of `node`."""
        while node in self.aliases:
            node = self.aliases[node]
        return node


@dataclass(slots=True)
class _Home:
    """A group in the making."""

    members: set[int]
    core: int | None = None


@dataclass(slots=True)
class _Fusion:
    graph: Graph
    kind: Literal["cuda", "cpu"]
    fuse: bool
    load_time: frozenset[int]
    users: list[list[int]]
    homes: dict[int, _Home] = field(default_factory=dict)
    """Groups by root."""
    inside: dict[int, frozenset[int]] = field(default_factory=dict)
    """For each node in registers, the roots of the groups that compute it."""
    strictness: dict[int, int] = field(default_factory=dict)
    """How often a node is computed again: 0 once, 1 a few times, 2 often."""
    aligned: set[int] = field(default_factory=set)
    """Nodes computed at the very index that their root is written at."""
    demanded: set[int] = field(default_factory=set)
    """Nodes that must be in memory."""
    outputs: set[int] = field(default_factory=set)
    """Nodes whose memory is an output's."""
    aliases: dict[int, int] = field(default_factory=dict)

    def is_core(self, node: Node) -> bool:
        """Whether a template computes the operator."""
        return node.op in CORES or self._in_place(node)

    def _in_place(self, node: Node) -> bool:
        return self.kind == "cpu" and scatters_in_place(node)

    def visit(self, index: int) -> None:
        """Place one node; its users are placed already."""
        node = self.graph.nodes[index]
        if node.op in LEAVES:
            return
        if self._can_inline(index):
            self._inline(index)
        elif not self._alias(index):
            self._root(index)

    def _roots_using(self, index: int) -> frozenset[int]:
        found: set[int] = set()
        for user in self.users[index]:
            found |= self.inside.get(user, frozenset({user}))
        return frozenset(found)

    def _can_inline(self, index: int) -> bool:
        node = self.graph.nodes[index]
        # A copy is there for its memory.
        if node.op in ORDERS or node.op == "copy" or self._in_place(node):
            return False
        if not self.fuse or index in self.outputs or index in self.demanded or not self.users[index]:
            return False
        roots = self._roots_using(index)
        if index in self.load_time and cost(node.op) and not self.load_time.issuperset(roots):
            return False
        if any(root in self.aliases for root in roots):
            return False
        if len(roots) > (MAX_COPIES if cost(node.op) == 0 else 1):
            return False
        if any(len(self.homes[root].members) >= MAX_MEMBERS for root in roots):
            return False
        if node.op in CORES:
            return self._fits_as_core(index, roots)
        strictness = max(self._strictness_from(index, user) for user in self.users[index])
        if (strictness == 2 or len(roots) > 1) and self._follows_core(index):
            return False
        return strictness + cost(node.op) <= 2

    def _follows_core(self, index: int, reach: int = MAX_MEMBERS) -> bool:
        """Whether `index` can be computed where a core's result is written: better once there than later."""
        node = self.graph.nodes[index]
        if node.op in CORES:
            return not (self.kind == "cpu" and is_blas_matmul(node))
        return (
            node.op in POINTWISE
            and reach > 0
            and any(self._leads_to(index, i) and self._follows_core(i, reach - 1) for i in node.inputs)
        )

    def _leads_to(self, index: int, operand: int) -> bool:
        """Whether `operand` is there for `index` alone, element for element."""
        if operand in self.demanded or operand in self.outputs or self.users[operand] != [index]:
            return False
        return self.graph.nodes[operand].shape == self.graph.nodes[index].shape

    def _fits_as_core(self, index: int, roots: frozenset[int]) -> bool:
        if len(roots) != 1 or (self.kind == "cpu" and is_blas_matmul(self.graph.nodes[index])):
            return False
        if self.homes[next(iter(roots))].core is not None:
            return False
        return all(self._keeps_index(index, user) for user in self.users[index])

    def _keeps_index(self, index: int, user: int) -> bool:
        nodes = self.graph.nodes
        return (
            user in self.aligned and nodes[user].op in POINTWISE and nodes[user].shape == nodes[index].shape
        )

    def _strictness_from(self, index: int, user: int) -> int:
        nodes = self.graph.nodes
        strictness = self.strictness.get(user, 0)
        if nodes[user].op in ("matmul", "attention"):
            return 2
        if nodes[user].op in ROWS:
            if index != nodes[user].inputs[0]:
                return 2
            return max(strictness, 1 if nodes[user].op in _REREADS else 0)
        if nodes[user].op in _READS_ONCE:
            return strictness
        if nodes[user].op in _READS_ANYWHERE:
            return 2
        if product(nodes[user].shape) != product(nodes[index].shape):
            return 2
        return strictness

    def _inline(self, index: int) -> None:
        node = self.graph.nodes[index]
        self.inside[index] = self._roots_using(index)
        self.strictness[index] = max(self._strictness_from(index, user) for user in self.users[index])
        if all(self._keeps_index(index, user) for user in self.users[index]):
            self.aligned.add(index)
        for root in self.inside[index]:
            self.homes[root].members.add(index)
            if node.op in CORES:
                self.homes[root].core = index
        self._demand_operands(index)

    def _alias(self, index: int) -> bool:
        """Make a reshape that is needed in memory share its operand's, where that can be."""
        node = self.graph.nodes[index]
        if node.op != "reshape":
            return False
        source = node.inputs[0]
        operand = self.graph.nodes[source]
        if operand.op == "scalar":
            return False
        if index in self.outputs:
            if operand.op in LEAVES or source in self.outputs or source in self.load_time:
                return False
            self.outputs.add(source)
        self.demanded.add(source)
        self.aliases[index] = source
        return True

    def _root(self, index: int) -> None:
        node = self.graph.nodes[index]
        self.homes[index] = _Home({index})
        self.inside[index] = frozenset({index})
        if self.is_core(node):
            self.homes[index].core = index
        if node.op in POINTWISE:
            self.aligned.add(index)
        self._demand_operands(index)

    def _demand_operands(self, index: int) -> None:
        node = self.graph.nodes[index]
        if is_blas_matmul(node) and self.kind == "cpu":
            self.demanded.update(blas_operand(self.graph, i)[0] for i in node.inputs)


def blas_operand(graph: Graph, index: int) -> tuple[int, bool]:
    """The node in memory that a BLAS reads for an operand, and whether it reads it transposed."""
    node = graph.nodes[index]
    if node.op == "transpose":
        perm = attr_ints(node, "perm")
        last = len(perm) - 1
        if perm == (*range(last - 1), last, last - 1):
            return node.inputs[0], True
    return index, False


def _live_users(graph: Graph, kind: Literal["cuda", "cpu"]) -> list[list[int]]:
    """For each node, the nodes that read it and are needed, through the transposes that a BLAS does."""
    users: list[list[int]] = [[] for _ in graph.nodes]
    for index in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[index]
        if not users[index] and index not in graph.outputs:
            continue
        through = kind == "cpu" and is_blas_matmul(node)
        for operand in node.inputs:
            users[blas_operand(graph, operand)[0] if through else operand].append(index)
    return users


def group_nodes(
    graph: Graph, *, kind: Literal["cuda", "cpu"], fuse: bool = True, hoist: bool = True
) -> Grouping:
    """Cut `graph` into kernels.

    Args:
        graph: With a node of its own for every output, none of them a leaf.
        kind: Kind of target; a CPU leaves its floating-point matmuls to a BLAS.
        fuse: Whether operators may share a kernel.
        hoist: Whether what depends on weights alone is done at load.
    """
    load_time = load_time_nodes(graph) if hoist else frozenset()
    fusion = _Fusion(graph, kind, fuse, load_time, _live_users(graph, kind), outputs=set(graph.outputs))
    for index in range(len(graph.nodes) - 1, -1, -1):
        if fusion.users[index] or index in fusion.outputs or index in fusion.demanded:
            fusion.visit(index)
    groups = [
        Group(
            root=root,
            members=tuple(sorted(home.members)),
            core=home.core,
            blas=home.core is not None and kind == "cpu" and is_blas_matmul(graph.nodes[home.core]),
            at_load=root in load_time and root not in fusion.outputs,
        )
        for root, home in sorted(fusion.homes.items())
    ]
    return Grouping(tuple(groups), fusion.aliases)
