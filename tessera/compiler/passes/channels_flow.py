"""Which values between convolutions keep their channels last: none is written in one order and copied.

A product is written with its channels last where all that reads it, through operators that work element by
element, is a convolution again: what else there is keeps (batch, channels, …).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tessera.compiler.operators import POINTWISE
from tessera.program.graph import Graph, Node


@dataclass(slots=True)
class Flow:
    """What is known of a graph before it is laid out."""

    graph: Graph
    multiplies: Callable[[int], bool]
    """Whether a node is a convolution that may be written with its channels last."""
    reads: Callable[[int], bool]
    """Whether a node is a convolution that may read its right operand so."""
    chunk: Callable[[Node], int]
    """To a multiple of how many the channels of a node must come."""
    users: list[list[int]] = field(init=False)
    wanted: frozenset[int] = field(init=False)
    """Nodes that are computed with their channels last."""

    def __post_init__(self) -> None:
        self.users = [[] for _ in self.graph.nodes]
        for index, node in enumerate(self.graph.nodes):
            for operand in dict.fromkeys(node.inputs):
                self.users[operand].append(index)
        found: set[int] = set()
        for index in range(len(self.graph.nodes) - 1, -1, -1):
            if self._can(index) and self._wanted(index, found):
                found.add(index)
        self.wanted = frozenset(self._reached(found))

    def _can(self, index: int) -> bool:
        node = self.graph.nodes[index]
        if len(node.shape) < 3 or index in self.graph.outputs:
            return False
        channels = node.shape[1]
        if not isinstance(channels, int) or channels % self.chunk(node):
            return False
        return node.op in POINTWISE or self._keeps_channels(node) or self.multiplies(index)

    def _keeps_channels(self, node: Node) -> bool:
        return node.op == "reshape" and self.graph.nodes[node.inputs[0]].shape[:2] == node.shape[:2]

    def _wanted(self, index: int, found: set[int]) -> bool:
        return bool(self.users[index]) and all(self._takes(u, index, found) for u in self.users[index])

    def _takes(self, user: int, index: int, found: set[int]) -> bool:
        """Whether `user` takes `index` with its channels last."""
        node, shape = self.graph.nodes[user], self.graph.nodes[index].shape
        if user in found:
            return node.op not in POINTWISE or node.shape == shape
        if node.op == "windows":
            return node.inputs[0] == index and all(self._only_columns(u) for u in self.users[user])
        if node.op == "reshape":
            return self._keeps_channels(node) and self._only_columns(user)
        return self._multiplied(user, index)

    def _only_columns(self, index: int) -> bool:
        node = self.graph.nodes[index]
        users = self.users[index]
        return node.op == "reshape" and bool(users) and all(self._multiplied(u, index) for u in users)

    def _multiplied(self, user: int, index: int) -> bool:
        node = self.graph.nodes[user]
        return node.op == "matmul" and node.inputs[1] == index != node.inputs[0] and self.reads(user)

    def _reached(self, wanted: set[int]) -> set[int]:
        """Those of them that come from a product: others are copied as they are read."""
        reached: set[int] = set()
        for index in sorted(wanted):
            node = self.graph.nodes[index]
            if node.op == "matmul" or any(
                self._passes_on(operand, reached, index) for operand in node.inputs
            ):
                reached.add(index)
        return reached

    def _passes_on(self, operand: int, reached: set[int], index: int) -> bool:
        node = self.graph.nodes[index]
        return operand in reached and (node.op == "reshape" or self.graph.nodes[operand].shape == node.shape)

    def in_memory(self, index: int) -> bool:
        """Whether a value is surely written where its product is: fusion leaves it there."""
        node = self.graph.nodes[index]
        if index not in self.wanted:
            return False
        if node.op == "matmul":
            return True
        if node.op == "reshape":
            return self.in_memory(node.inputs[0])
        return any(
            self.users[i] == [index] and self.graph.nodes[i].shape == node.shape and self.in_memory(i)
            for i in node.inputs
        )
