"""Scatter on a CPU: the tensor is copied, then every update is applied where it goes, in order."""

from __future__ import annotations

from tessera.compiler import scalar_math
from tessera.compiler.body import Body
from tessera.compiler.cpu_rows import Strip, strips
from tessera.compiler.gathers import looked_up
from tessera.compiler.geometry import Geometry
from tessera.compiler.index import Index
from tessera.compiler.operators import SCATTERS
from tessera.compiler.writer import Name
from tessera.program.dim import product
from tessera.program.graph import Node


def scatters_in_place(node: Node) -> bool:
    """Whether updates may be added in memory: not where that would round after each."""
    return node.op in SCATTERS and (not node.dtype.is_float or node.dtype.bits >= 32)


def scatter_cpu(body: Body, root: int, core: int) -> Geometry:
    """A work item for each strip of neighbouring lines; results never depend on how they are shared out."""
    node = body.graph.nodes[core]
    source, positions, updates = node.inputs
    shape, places = node.shape, body.graph.nodes[positions].shape
    axis = int(str(node.attrs["axis"]))
    writer, rest = body.writer, len(shape) - axis - 1

    def write(strip: Strip) -> None:
        def at(of: tuple[object, ...], r: Name) -> Index:
            parts = ((axis, strip.team.outer), (1, r), (rest, strip.team.inner))
            return Index(writer, shape if of is shape else places, parts)

        def store(text: str, index: Index) -> None:
            body.results[core] = Name(text, writer.depth)
            body.store(root, index)
            del body.results[core]

        with strip.elements() as (r, _):
            store(body.value(source, at(shape, r)), at(shape, r))
        updating = Strip(body, strip.team, places[axis])
        # Of an axis without elements there is nowhere to write.
        with writer.block(f"if 0 < {writer.size(shape[axis])}"), updating.elements() as (r, _):
            where = at(places, r)
            target = at(shape, looked_up(body, positions, where, shape[axis]))
            value = body.value(updates, where)
            if node.op == "scatter_add":
                place = writer.let("place", target.position)
                held = writer.let("held", scalar_math.load(f"out[{place}]", node.dtype))
                value = writer.let("v", scalar_math.binary("add", held, value, node.dtype, str))
            store(value, target)

    return strips(body, product(shape[:axis]), shape[axis], product(shape[axis + 1 :]), write)
