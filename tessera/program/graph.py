"""A tensor function as data: operators in order, each with shape and dtype.

The value of a node is known by the node's index. `input` nodes come from the
caller, `constant` nodes name a weight, `scalar` nodes hold a literal of rank 0.
What every operator means is written in `docs/operators.md` and computed by
`tessera.reference`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tessera.program.dim import Dim, format_shape
from tessera.program.dtype import DType
from tessera.program.errors import SourceLocation

Attr = int | float | str | bool | list[int] | None
"""What an attribute of a node may hold."""


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One operator applied to earlier nodes."""

    op: str
    """Operator, such as `matmul`; `input`, `constant` and `scalar` are leaves."""
    inputs: tuple[int, ...] = ()
    """Indices of the operands, all smaller than this node's own index."""
    attrs: dict[str, Attr] = {}
    """Settings of the operator: `axes`, `keepdims`, `eps`, `perm`, `name`, `value`…"""
    shape: tuple[Dim, ...]
    """Shape of the result."""
    dtype: DType
    """Element type of the result."""
    file: str | None = None
    """Source file of the line that made this node."""
    line: int | None = None
    """Source line that made this node, 1-based."""

    @property
    def location(self) -> SourceLocation | None:
        """Where the user wrote it, if known."""
        return SourceLocation(self.file, self.line) if self.file and self.line else None

    def __str__(self) -> str:
        settings = "".join(f" {k}={v}" for k, v in self.attrs.items())
        operands = ", ".join(f"%{i}" for i in self.inputs)
        return f"{self.op}({operands}){settings} -> {self.dtype}{format_shape(self.shape)}"


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """A function from inputs (and constants) to outputs. Immutable; passes make new ones."""

    name: str
    """Name of the function."""
    nodes: tuple[Node, ...]
    """Operators in an order in which operands come first."""
    outputs: tuple[int, ...]
    """Indices of the results, in order."""
    output_names: tuple[str, ...] = ("output",)
    """Names of the results, in order."""

    def leaves(self, op: str) -> dict[str, int]:
        """Index by name of every `input` or `constant` node, in order."""
        return {str(n.attrs["name"]): i for i, n in enumerate(self.nodes) if n.op == op}

    def users(self) -> list[list[int]]:
        """For each node, the indices of the nodes that read it."""
        users: list[list[int]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes):
            for operand in node.inputs:
                users[operand].append(index)
        return users

    def __str__(self) -> str:
        lines = [f"%{i} = {node}" for i, node in enumerate(self.nodes)]
        results = ", ".join(f"{n}=%{i}" for n, i in zip(self.output_names, self.outputs, strict=True))
        return "\n".join([f"graph {self.name}", *lines, f"return {results}"])


def attr_ints(node: Node, name: str) -> tuple[int, ...]:
    """A list attribute of `node` as a tuple."""
    value: Any = node.attrs[name]
    return tuple(value)
