"""Weights in 8 bits: those of matrix products become integers and one scale per output channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from tessera.program.dtype import f32, i8
from tessera.program.errors import CompileError
from tessera.program.graph import Graph, Node, attr_ints

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

SCHEMES = ("int8",)
"""What `quantization` may be, besides None."""
_LEVELS = 127
"""Symmetric: -127 to 127, so that the negative of every value has a code."""


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """What one weight lost."""

    name: str
    largest_error: float
    """Largest difference between a weight and its code, in the weight's unit."""
    relative_rms: float
    """Root mean square of the differences over that of the weights."""

    def __str__(self) -> str:
        return f"{self.name}: largest error {self.largest_error:.3g}, {self.relative_rms:.2%} of its RMS"


@dataclass(frozen=True, slots=True)
class Quantized:
    """A graph whose matrix products read 8-bit weights."""

    graph: Graph
    constants: dict[str, Array]
    weights: tuple[QuantizedWeight, ...]
    """What was quantized, in the order of the graph's constants."""
    left: tuple[str, ...]
    """Weights of matrix products that were left as they are, because they are used in another way too."""


def quantize(graph: Graph, constants: Mapping[str, Array], scheme: str) -> Quantized:
    """Weight-only, symmetric, per output channel: `w ≈ code * scale`, code int8, scale float32.

    Args:
        graph: A traced function; weights are `constant` nodes.
        constants: Their values.
        scheme: `int8`.

    Raises:
        CompileError: The scheme is unknown, or no matrix product has a weight.
    """
    if scheme not in SCHEMES:
        raise CompileError(
            f"unknown quantization {scheme!r}", hint="one of " + ", ".join(map(repr, SCHEMES)) + ", or None"
        )
    axes, left = _channel_axes(graph)
    if not axes:
        raise CompileError(
            f"{graph.name}: no matrix product has a weight to quantize", hint="leave quantization out"
        )
    values = dict(constants)
    report = []
    for index in axes:
        name = str(graph.nodes[index].attrs["name"])
        codes, scale, lost = _codes(name, values[name], axes[index])
        values[name], values[scale_name(name)] = codes, scale
        report.append(lost)
    return Quantized(_rewritten(graph, axes, values), values, tuple(report), left)


def scale_name(weight: str) -> str:
    """Name of the constant that holds a weight's scales."""
    return f"{weight}.scale"


def _channel_axes(graph: Graph) -> tuple[dict[int, int], tuple[str, ...]]:
    """Axis of the output channels by the index of each weight that only matrix products read."""
    users = graph.users()
    axes: dict[int, int] = {}
    left = []
    for index, node in enumerate(graph.nodes):
        if node.op != "constant" or len(node.shape) != 2 or not node.dtype.is_float:
            continue
        found = _uses(graph, users, index, channel=1)
        if None not in found and len(found) == 1 and index not in graph.outputs:
            axes[index] = int(next(iter(found)) or 0)
        elif found - {None}:
            left.append(str(node.attrs["name"]))
    return axes, tuple(left)


def _uses(graph: Graph, users: list[list[int]], index: int, channel: int) -> set[int | None]:
    """How node `index` is read: the weight's axis that becomes the channels of a product, None for else."""
    found: set[int | None] = set()
    for user in users[index]:
        node = graph.nodes[user]
        if node.op == "matmul" and node.inputs[1] == index and node.inputs[0] != index:
            found.add(channel)
        elif node.op == "transpose" and attr_ints(node, "perm") == (1, 0) and user not in graph.outputs:
            found |= _uses(graph, users, user, 1 - channel)
        elif node.op == "cast" and node.dtype.is_float and user not in graph.outputs:
            found |= _uses(graph, users, user, channel)
        else:
            found.add(None)
    return found


def _codes(name: str, weight: Array, axis: int) -> tuple[Array, Array, QuantizedWeight]:
    import numpy as np

    exact = np.asarray(weight, np.float64)
    largest = np.max(np.abs(exact), axis=1 - axis, keepdims=True, initial=0.0)
    if not np.isfinite(largest).all():
        raise CompileError(f"weight {name} holds inf or nan, which 8-bit codes cannot")
    scale = np.where(largest > 0, largest / _LEVELS, 1.0).astype(np.float32)
    codes = np.clip(np.rint(exact / scale), -_LEVELS, _LEVELS).astype(np.int8)
    lost = codes * scale.astype(np.float64) - exact
    size = float(np.sqrt(np.mean(exact**2))) if exact.size else 0.0
    rms = float(np.sqrt(np.mean(lost**2))) if exact.size else 0.0
    worst = float(np.max(np.abs(lost), initial=0.0))
    return codes, scale, QuantizedWeight(name, worst, rms / size if size else 0.0)


def _rewritten(graph: Graph, axes: Mapping[int, int], values: Mapping[str, Array]) -> Graph:
    """The graph with `code -> cast -> times scale` where each weight was."""
    nodes: list[Node] = []
    place: list[int] = []
    for index, node in enumerate(graph.nodes):
        if index in axes:
            nodes += _dequantized(node, len(nodes), values)
        else:
            nodes.append(msgspec.structs.replace(node, inputs=tuple(place[i] for i in node.inputs)))
        place.append(len(nodes) - 1)
    return Graph(
        name=graph.name,
        nodes=tuple(nodes),
        outputs=tuple(place[i] for i in graph.outputs),
        output_names=graph.output_names,
    )


def _dequantized(weight: Node, start: int, values: Mapping[str, Array]) -> list[Node]:
    name = str(weight.attrs["name"])
    scale = scale_name(name)
    steps = [
        Node(op="constant", attrs={"name": name}, shape=weight.shape, dtype=i8),
        Node(op="cast", inputs=(start,), shape=weight.shape, dtype=f32),
        Node(op="constant", attrs={"name": scale}, shape=values[scale].shape, dtype=f32),
        Node(op="mul", inputs=(start + 1, start + 2), shape=weight.shape, dtype=f32),
    ]
    if weight.dtype != f32:
        steps.append(Node(op="cast", inputs=(start + 3,), shape=weight.shape, dtype=weight.dtype))
    return [msgspec.structs.replace(node, file=weight.file, line=weight.line) for node in steps]
