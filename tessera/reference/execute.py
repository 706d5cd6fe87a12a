"""Running a graph, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import numpy as np

from tessera.program.bind import bind_symbols
from tessera.program.dim import Dim, evaluate, format_shape
from tessera.program.dtype import DType
from tessera.program.errors import InputError, ProgramError
from tessera.program.graph import Graph, Node
from tessera.program.program import Port, Program
from tessera.reference.movement import MOVE
from tessera.reference.operators import COMPUTE
from tessera.reference.rounding import compute_type, round_to

Array = np.ndarray[Any, np.dtype[Any]]


def run_graph(
    graph: Graph,
    inputs: Mapping[str, Array],
    constants: Mapping[str, Array],
    *,
    precision: Literal["native", "f64"] = "native",
) -> dict[str, Array]:
    """The outputs of `graph` by name.

    Args:
        graph: What to compute.
        inputs: Arrays by input name, of the graph's dtypes and shapes.
        constants: Arrays by constant name.
        precision: `native`: every operator computes in f32 (f64 for f64) and rounds its result
            to the node's dtype. `f64`: everything that is a float is float64 and never rounded;
            inputs may be of any float type, and float results are float64.

    Raises:
        InputError: An input or constant is missing or of another shape or dtype.
        ProgramError: The graph is malformed; the message names the node.
    """
    if precision not in ("native", "f64"):
        raise InputError(f"precision {precision!r} is unknown", hint="precision='native' or precision='f64'")
    return _Run(graph, inputs, constants, double=precision == "f64").outputs()


class _Run:
    """One execution: the values so far and the sizes that the inputs give."""

    def __init__(
        self, graph: Graph, inputs: Mapping[str, Array], constants: Mapping[str, Array], *, double: bool
    ) -> None:
        self.graph = graph
        self.double = double
        self.inputs = {name: np.asarray(value) for name, value in inputs.items()}
        self.constants = constants
        self.symbols = self._bind()
        self.values: list[Array | None] = []

    def _bind(self) -> dict[str, int]:
        nodes = {name: self.graph.nodes[i] for name, i in self.graph.leaves("input").items()}
        ports = tuple(Port(name=name, dtype=n.dtype, shape=n.shape) for name, n in nodes.items())
        unknown = sorted(set(self.inputs) - set(nodes))
        if unknown:
            raise InputError(
                f"{self.graph.name} has no input called {unknown[0]!r}",
                hint="inputs: " + ", ".join(nodes),
                input=unknown[0],
            )
        program = Program(name=self.graph.name, inputs=ports, outputs=())
        return bind_symbols(program, {name: value.shape for name, value in self.inputs.items()})

    def outputs(self) -> dict[str, Array]:
        last_use = {i: user for user, node in enumerate(self.graph.nodes) for i in node.inputs}
        with np.errstate(all="ignore"):
            for position, node in enumerate(self.graph.nodes):
                self.values.append(self._computed(position, node))
                for operand in set(node.inputs):
                    if last_use[operand] == position and operand not in self.graph.outputs:
                        self.values[operand] = None
        return {
            name: self._value(index)
            for name, index in zip(self.graph.output_names, self.graph.outputs, strict=True)
        }

    def _value(self, index: int) -> Array:
        value = self.values[index]
        assert value is not None  # noqa: S101 - freed only after its last use
        return value

    def _node(self, position: int, node: Node) -> Array:
        if node.op in ("input", "constant"):
            return self._leaf(node)
        stored = self._stored_type(node.dtype)
        if node.op == "scalar":
            return self._round(np.asarray(node.attrs["value"]), node.dtype)
        operands = [self._value(i) for i in node.inputs]
        if node.op == "cast":
            return self._cast(operands[0], self.graph.nodes[node.inputs[0]].dtype, node.dtype)
        if node.op not in COMPUTE and node.op not in MOVE:
            raise ProgramError(
                f"graph.nodes[{position}].op: unknown operator {node.op!r}",
                path=f"graph.nodes[{position}].op",
            )
        node = msgspec.structs.replace(node, shape=self._shape(node.shape))
        if node.op in MOVE:
            return MOVE[node.op](node, *operands)
        result = COMPUTE[node.op](node, *(self._widened(i) for i in node.inputs))
        return result if result.dtype == stored else self._round(result, node.dtype)

    def _widened(self, index: int) -> Array:
        dtype = self.graph.nodes[index].dtype
        return self._value(index).astype(compute_type(dtype, double=self.double), copy=False)

    def _cast(self, value: Array, source: DType, target: DType) -> Array:
        wide = value.astype(compute_type(source, double=self.double), copy=False)
        return self._round(wide, target)

    def _stored_type(self, dtype: DType) -> np.dtype[Any]:
        return compute_type(dtype, double=True) if self.double else dtype.numpy

    def _round(self, values: Array, dtype: DType) -> Array:
        if self.double and dtype.is_float:
            return values.astype(np.float64)
        return round_to(values, dtype)

    def _leaf(self, node: Node) -> Array:
        name = str(node.attrs["name"])
        values = self.inputs if node.op == "input" else self.constants
        if name not in values:
            raise InputError(f"{node.op} {name!r} of {self.graph.name} is missing", input=name)
        value = np.asarray(values[name])
        shape = self._shape(node.shape)
        # float64 is welcome where everything becomes float64 anyway.
        as_double = self.double and node.dtype.is_float and value.dtype == np.float64
        if value.dtype != node.dtype.numpy and not as_double:
            raise InputError(
                f"{node.op} {name!r} is {value.dtype}, expected {node.dtype}",
                hint=f"convert it: ts.tensor(array, dtype=ts.{node.dtype})",
                input=name,
            )
        if value.shape != shape:
            raise InputError(f"{node.op} {name!r} has shape {value.shape}, expected {shape}", input=name)
        return value.astype(self._stored_type(node.dtype), copy=False)

    def _shape(self, dims: tuple[Dim, ...]) -> tuple[int, ...]:
        return tuple(evaluate(dim, self.symbols) for dim in dims)

    def _computed(self, position: int, node: Node) -> Array:
        """The value of a node, of the shape that the node says."""
        where = f"graph.nodes[{position}]"
        try:
            value = self._node(position, node)
        except KeyError as error:
            raise ProgramError(f"{where}.attrs: {node.op} lacks {error}", path=f"{where}.attrs") from None
        except (ValueError, TypeError, IndexError) as error:
            # NumPy refuses what a traced graph never asks for: another number of operands, a wrong axis.
            raise ProgramError(f"{where}: {node.op}: {error}", path=where) from None
        expected = self._shape(node.shape)
        if value.shape != expected:
            raise ProgramError(
                f"graph.nodes[{position}]: {node.op} gives shape {value.shape}, "
                f"but the graph says {format_shape(node.shape)}",
                path=f"graph.nodes[{position}].shape",
            )
        return value
