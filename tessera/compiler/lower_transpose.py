"""A copy that brings one axis to the end, in tiles: neighbours read what lies together, and write so too."""

from __future__ import annotations

from tessera.compiler import scalar_math
from tessera.compiler.body import Body
from tessera.compiler.geometry import THREADS, Geometry
from tessera.compiler.index import Index
from tessera.compiler.writer import Name
from tessera.program.dim import Dim, ceildiv, product
from tessera.program.graph import Graph, attr_ints

_SIDE = 32
"""Rows and columns of a tile; a row of it is one warp's."""
_TALL = 64
"""Rows where there are as many channels: more loads in flight."""


def brings_axis_last(graph: Graph, root: int) -> bool:
    """Whether a node is a copy of a transpose that moves axis 1 to the end, filled up or not."""
    node = graph.nodes[root]
    if node.op != "copy":
        return False
    turned = _turned(graph, root)
    source = graph.nodes[turned]
    if source.op != "transpose":
        return False
    rank = len(source.shape)
    return rank > 2 and attr_ints(source, "perm") == (0, *range(2, rank), 1)


def _turned(graph: Graph, root: int) -> int:
    """The node behind the copy, and behind the pad of its last axis."""
    inner = graph.nodes[root].inputs[0]
    return graph.nodes[inner].inputs[0] if graph.nodes[inner].op == "pad" else inner


def transpose_cuda(body: Body, root: int) -> Geometry:
    """A block for each tile: read by positions, written by channels.

    Args:
        body: Takes the text.
        root: The copy, (batch, …, channels).
    """
    writer, graph = body.writer, body.graph
    shape = graph.nodes[root].shape
    inner = _turned(graph, root)
    channels, area, batch = shape[-1], product(shape[1:-1]), shape[0]
    kept = graph.nodes[inner].shape[-1]
    tall = _TALL if isinstance(channels, int) and channels > _SIDE else _SIDE
    kind = scalar_math.compute_type(graph.nodes[root].dtype)
    # One more column keeps what one warp reads down a column in different banks.
    tile = body.shared((tall, _SIDE + 1), kind)
    tiles: tuple[Dim, Dim] = (ceildiv(channels, tall), ceildiv(area, _SIDE))
    writer.line("tile = int64(cuda.blockIdx.x)")
    above = writer.div(Name("tile"), writer.size(tiles[0]))
    writer.line(f"first_channel = {writer.mod(Name('tile'), writer.size(tiles[0]))} * {tall}")
    writer.line(f"first_place = {writer.mod(above, writer.size(tiles[1]))} * {_SIDE}")
    number = writer.div(above, writer.size(tiles[1]))
    writer.line("across = int64(cuda.threadIdx.x & 31)")
    writer.line("down = int64(cuda.threadIdx.x >> 5)")
    writer.line("place = first_place + across")
    stores = []
    for step in range(tall // (THREADS // _SIDE)):
        line = writer.let("line", f"down + {step * (THREADS // _SIDE)}")
        channel = writer.let("channel", f"first_channel + {line}")
        value = writer.let("w", f"{kind}(0)")
        with writer.block(f"if {channel} < {writer.size(kept)} and place < {writer.size(area)}"):
            parts = ((1, number), (len(shape) - 2, Name("place")), (1, channel))
            index = Index(writer, graph.nodes[inner].shape, parts)
            writer.line(f"{value} = {body.value(inner, index)}")
        stores.append(f"{tile}[{line}, across] = {value}")
    for store in stores:
        writer.line(store)
    writer.line("cuda.syncthreads()")
    _write_tile(body, root, tile, tall, number)
    return Geometry((batch * tiles[0] * tiles[1], 1, 1), THREADS)


def _write_tile(body: Body, root: int, tile: Name, tall: int, number: Name) -> None:
    writer, shape = body.writer, body.graph.nodes[root].shape
    shift = tall.bit_length() - 1
    writer.line(f"channel = first_channel + int64(cuda.threadIdx.x & {tall - 1})")
    writer.line(f"line = int64(cuda.threadIdx.x >> {shift})")
    dtype = body.graph.nodes[root].dtype
    with writer.block(f"if channel < {writer.size(shape[-1])}"):
        for step in range(_SIDE * tall // THREADS):
            local = writer.let("local", f"line + {step * (THREADS >> shift)}")
            place = writer.let("place", f"first_place + {local}")
            with writer.block(f"if {place} < {writer.size(product(shape[1:-1]))}"):
                parts = ((1, number), (len(shape) - 2, place), (1, Name("channel")))
                value = f"{tile}[channel - first_channel, {local}]"
                at = Index(writer, shape, parts).position
                writer.line(f"out[{at}] = {scalar_math.store(value, dtype)}")
