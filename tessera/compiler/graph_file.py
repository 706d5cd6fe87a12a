"""The graph stage as a file: a traced function and its weights, `.graph.json`.

    {"format": "tessera graph", "schema": "1.0", "graph": {…}, "constants": {name: {dtype, shape, data}}}

Nodes are those of `Program.graph`, before any pass. The bytes of weights are base64, in row-major order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from tessera.program.codec import decode, encode
from tessera.program.dim import format_shape
from tessera.program.dtype import DType, bool_
from tessera.program.errors import CompileError, ProgramError, SourceLocation
from tessera.program.graph import Graph, Node
from tessera.program.graph_rules import check_nodes
from tessera.program.interface import program_of
from tessera.program.program import Port
from tessera.program.validate import check_graph, validate

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

FORMAT = "tessera graph"
SCHEMA = "1.0"
"""Of the document; another major version is refused, and what a later minor one adds."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""Names of programs and weights, which become names of files."""
_BYTE = re.compile(r"\(byte (\d+)\)")


@dataclass(frozen=True, slots=True, eq=False)
class SavedGraph:
    """A traced function that needs no source: `AOTCompiler.compile` takes it in place of one."""

    graph: Graph
    constants: Mapping[str, Array] = field(repr=False)
    """The weights by name."""

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.graph.name

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What goes in."""
        return program_of(self.graph).inputs


class Weight(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One constant in a document."""

    dtype: DType
    shape: tuple[int, ...]
    data: bytes


class _Head(msgspec.Struct):
    format: str
    schema: str


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str = FORMAT
    schema: str = SCHEMA
    graph: Graph
    constants: dict[str, Weight] = {}


def graph_to_json(saved: SavedGraph) -> bytes:
    """The document; equal graphs and weights give equal bytes."""
    return encode(_Document(graph=saved.graph, constants=weights_to_data(saved.graph, saved.constants)))


def graph_from_json(data: bytes, file: str = "graph.json") -> SavedGraph:
    """The graph of a document, checked node by node.

    Args:
        data: The contents of a `.graph.json` file.
        file: Its name, for errors.

    Raises:
        CompileError: It is no such document, of another version or torn, or a node is not what its
            operator asks for; the message names the field or the node.
    """
    document = read_document(data, file, FORMAT, SCHEMA, _Document)
    try:
        return SavedGraph(document.graph, checked(document.graph, document.constants))
    except ProgramError as error:
        raise refused(error, file) from None


def checked(graph: Graph, weights: Mapping[str, Weight]) -> dict[str, Array]:
    """The weights of a graph that was read, if it holds together with them.

    Raises:
        ProgramError: It does not; the message names the field or the node.
    """
    check_graph(graph)
    check_file_name("graph.name", graph.name)
    for name in weights:
        check_file_name("constants", name)
    check_nodes(graph)
    validate(program_of(graph))
    leaves = graph.leaves("constant")
    if odd := sorted(leaves.keys() ^ weights.keys()):
        text = "it has no data" if odd[0] in leaves else "no node is called so"
        raise ProgramError(f"constants.{odd[0]}: {text}", path=f"constants.{odd[0]}")
    return {name: _array(name, graph.nodes[index], weights[name]) for name, index in leaves.items()}


def check_file_name(where: str, name: str) -> None:
    """See that a program's or a weight's name can be that of a file.

    Raises:
        ProgramError: It cannot.
    """
    if not _NAME.fullmatch(name):
        raise ProgramError(f"{where}: {name[:60]!r} cannot be a file's name", path=where)


def _array(name: str, node: Node, weight: Weight) -> Array:
    import numpy as np

    where = f"constants.{name}"
    if (weight.dtype, weight.shape) != (node.dtype, node.shape):
        raise ProgramError(
            f"{where}: {weight.dtype}{format_shape(weight.shape)}, but its node is "
            f"{node.dtype}{format_shape(node.shape)}",
            path=where,
        )
    wanted = math.prod(weight.shape) * node.dtype.itemsize
    if len(weight.data) != wanted:
        raise ProgramError(f"{where}: {len(weight.data)} bytes of data, not {wanted}", path=where)
    if node.dtype == bool_ and weight.data.translate(None, b"\0\1"):
        raise ProgramError(f"{where}: a bool is a byte of 0 or 1", path=where)
    return np.frombuffer(weight.data, node.dtype.numpy).reshape(weight.shape)


def weights_to_data(graph: Graph, constants: Mapping[str, Array]) -> dict[str, Weight]:
    """The weights of a graph for a document, of the dtypes of their nodes."""
    import numpy as np

    found: dict[str, Weight] = {}
    for name, index in graph.leaves("constant").items():
        node = graph.nodes[index]
        shape = tuple(size for size in node.shape if isinstance(size, int))
        value = np.ascontiguousarray(constants[name], node.dtype.numpy)
        found[name] = Weight(node.dtype, shape, value.tobytes())
    return found


Document = TypeVar("Document")


def read_document(data: bytes, file: str, form: str, schema: str, kind: type[Document]) -> Document:
    """A document of a stage.

    Raises:
        CompileError: It is no JSON, another kind of document, of another major version, or malformed.
    """
    try:
        head = decode(data, _Head)
        if head.format != form:
            raise ProgramError(f"format: it is {head.format[:60]!r}, not {form!r}", path="format")
        _check_schema(head.schema, schema)
        document = decode(data, kind)
    except ProgramError as error:
        raise refused(error, file, data) from None
    return document


def _check_schema(found: str, known: str) -> None:
    major = known.partition(".")[0]
    match = re.fullmatch(r"([0-9]{1,6})\.([0-9]{1,6})", found)
    if not match or match[1] != major:
        raise ProgramError(
            f"schema: version {found[:60]!r} is not {major}.x, which this Tessera reads",
            hint="pip install --upgrade tessera, or write the file again",
            path="schema",
        )


_WRITE = "tessera compile FILE --emit graph (or kernels) writes such a file anew"


def refused(error: ProgramError, file: str, data: bytes | None = None) -> CompileError:
    """What is wrong with a file of a stage, with its name, and the line where it is no JSON."""
    hint = error.hint or _WRITE
    if data is not None and error.message.startswith("not a JSON document"):
        place = _BYTE.search(error.message)
        end = int(place[1]) if place else len(data)
        location = SourceLocation(file, data.count(b"\n", 0, end) + 1)
        return CompileError(error.message, hint=hint, location=location, **error.fields)
    return CompileError(f"{file}: {error.message}", hint=hint, location=error.location, **error.fields)
