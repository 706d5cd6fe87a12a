"""Sorting lines on a GPU: tiles in shared memory by a bitonic network, then runs merged two by two.

What is sorted are positions; equals stay in order, so that the result is one. Short lines are sorted by
counting what comes before each element (`lower_lines.argsort_cuda`).
Source: K. E. Batcher, "Sorting networks and their applications", 1968.
"""

from __future__ import annotations

from tessera.compiler import scalar_math
from tessera.compiler.body import SECOND_WORKSPACE, WORKSPACE, Body
from tessera.compiler.codegen import LoweredGroup, lower_group, lower_with
from tessera.compiler.geometry import THREADS, Geometry
from tessera.compiler.groups import Group, Grouping
from tessera.compiler.lower_lines import Lines, precedes
from tessera.compiler.variant import Variant
from tessera.compiler.writer import Name
from tessera.program.dim import Dim, ceildiv
from tessera.program.dtype import i32
from tessera.program.graph import Graph
from tessera.program.program import Compare

COUNTED = 128
"""Up to this length every element is counted against every other, which needs no barriers."""
TILE = 2048
"""Elements sorted in shared memory: 24 KiB of them at most."""
PASSES = (0, 2, 4, 6, 9, 12, 20)
"""Merges that a line of unknown length may take; what is in order already is only copied."""


def sort_variants(graph: Graph, group: Group, grouping: Grouping) -> tuple[Variant, ...]:
    """The ways to sort lines, by their length; nothing where they are sorted while the program is loaded."""
    assert group.core is not None  # noqa: S101 - the caller looked
    if group.at_load:
        return ()
    ways = _Ways(graph, group, grouping)
    length = ways.length
    if isinstance(length, int):
        return (ways.counted(()) if length <= COUNTED else ways.merged(_passes(length), (), _tile(length)),)
    found = [ways.counted((Compare(lhs=length, op="<=", rhs=COUNTED),))]
    for passes in PASSES:
        last = passes == PASSES[-1]
        guard = () if last else (Compare(lhs=length, op="<=", rhs=TILE << passes),)
        found.append(ways.merged(passes, guard, TILE))
    return tuple(found)


def _passes(length: int) -> int:
    return max(0, (-(-length // TILE) - 1).bit_length())


def _tile(length: int) -> int:
    return min(TILE, 1 << (length - 1).bit_length())


class _Ways:
    """Makes the kernels of one group."""

    def __init__(self, graph: Graph, group: Group, grouping: Grouping) -> None:
        assert group.core is not None  # noqa: S101 - narrows the type
        self._graph, self._group, self._grouping = graph, group, grouping
        self._core = group.core
        node = graph.nodes[group.core]
        self._shape = graph.nodes[node.inputs[0]].shape
        self.length = self._shape[int(str(node.attrs["axis"]))]

    def counted(self, guard: tuple[Compare, ...]) -> Variant:
        """One kernel that counts."""
        return Variant((lower_group(self._graph, self._group, self._grouping, "cuda"),), guard)

    def merged(self, passes: int, guard: tuple[Compare, ...], tile: int) -> Variant:
        """Tiles, and so many merges."""
        kernels = [self._tiles(tile, last=passes == 0)]
        kernels += [self._merge(step, tile << step, last=step == passes - 1) for step in range(passes)]
        total: Dim = i32.itemsize
        for size in self._shape:
            total = total * size
        return Variant(
            tuple(kernels),
            guard,
            workspace_bytes=total if passes > 0 else 0,
            second_bytes=total if passes > 1 else 0,
            text=f"tiles of {tile}, {passes} merges" if passes else f"tiles of {tile}",
        )

    def _tiles(self, tile: int, *, last: bool) -> LoweredGroup:
        return lower_with(
            self._graph, self._group, self._grouping,
            lambda body: sort_tiles(body, self._group.root, self._core, tile, last=last),
            label=f"tile{tile}{'' if last else '_first'}", out=None if last else i32,
        )  # fmt: skip

    def _merge(self, step: int, run: int, *, last: bool) -> LoweredGroup:
        source = SECOND_WORKSPACE if step % 2 else WORKSPACE
        return lower_with(
            self._graph, self._group, self._grouping,
            lambda body: merge_runs(body, self._group.root, self._core, source, run, last=last),
            label="merge_last" if last else "merge", out=None if last else i32, workspace=i32,
            to_second=not last and source == WORKSPACE,
        )  # fmt: skip


def sort_tiles(body: Body, root: int, core: int, tile: int, *, last: bool) -> Geometry:
    """A block sorts `tile` neighbours of a line; with `last` that is the whole line."""
    lines, writer = Lines(body, root, core), body.writer
    kind = scalar_math.compute_type(lines.source.dtype)
    keys, places = body.shared((tile,), kind), body.shared((tile,), "int32")
    length, tiles = writer.size(lines.length), ceildiv(lines.length, tile)
    writer.line(f"thread = int64(cuda.threadIdx.x & {THREADS - 1})")
    writer.line("item = int64(cuda.blockIdx.x)")
    line = writer.div(Name("item"), writer.size(tiles))
    outer, inner = lines.split(line)
    writer.line(f"base = {writer.mod(Name('item'), writer.size(tiles))} * {tile}")
    writer.line("i = thread")
    with writer.block(f"while i < {tile}"):
        place = writer.let("place", "base + i")
        writer.line(f"{places}[i] = int32({place})")
        writer.line(f"{keys}[i] = {kind}(0)")
        with writer.block(f"if {place} < {length}"):
            writer.line(f"{keys}[i] = {lines.value(outer, place, inner)}")
        writer.line(f"i += {THREADS}")
    writer.line("cuda.syncthreads()")
    _network(lines, keys, places, length, tile)
    writer.line("i = thread")
    with writer.block(f"while i < {tile}"):
        place = writer.let("place", "base + i")
        kept = writer.size(lines.node.shape[lines.axis]) if last else length
        with writer.block(f"if {place} < {kept}"):
            if last:
                lines.store(f"int64({places}[i])", outer, place, inner)
            else:
                writer.line(f"out[{line} * {length} + {place}] = {places}[i]")
        writer.line(f"i += {THREADS}")
    return Geometry((lines.outer * lines.inner * tiles, 1, 1), THREADS)


def _network(lines: Lines, keys: Name, places: Name, length: Name, tile: int) -> None:
    """Batcher's network over a tile: sequences up and down, twice as long each time."""
    writer = lines.body.writer
    writer.line("size = int64(2)")
    with writer.block(f"while size <= {tile}"):
        writer.line("stride = size >> 1")
        with writer.block("while stride > 0"):
            writer.line("i = thread")
            with writer.block(f"while i < {tile // 2}"):
                writer.line("low = 2 * i - (i & (stride - 1))")
                writer.line("high = low + stride")
                a, b = writer.let("a", f"{keys}[low]"), writer.let("b", f"{keys}[high]")
                p, q = (writer.let("p", f"int64({places}[{at}])") for at in ("low", "high"))
                # What lies beyond the line comes last.
                order = f"{q} < {length} and ({p} >= {length} or ({precedes(lines, b, q, a, p)}))"
                writer.line(f"turned = 1 if {order} else 0")
                writer.line("wanted = 1 if (low & size) == 0 else 0")
                with writer.block("if turned == wanted"):
                    writer.line(f"{keys}[low] = {b}")
                    writer.line(f"{keys}[high] = {a}")
                    writer.line(f"{places}[low] = int32({q})")
                    writer.line(f"{places}[high] = int32({p})")
                writer.line(f"i += {THREADS}")
            writer.line("cuda.syncthreads()")
            writer.line("stride = stride >> 1")
        writer.line("size = size * 2")


def merge_runs(body: Body, root: int, core: int, source: int, run: int, *, last: bool) -> Geometry:
    """A thread an element of runs in order: its place among both runs, found by bisecting the other one."""
    lines, writer = Lines(body, root, core), body.writer
    length, total = writer.size(lines.length), lines.outer * lines.length * lines.inner
    held, width = body.pointer(source), writer.parameter(run)
    writer.line(f"item = int64(cuda.blockIdx.x) * {THREADS} + cuda.threadIdx.x")
    with writer.block(f"if item < {writer.size(total)}"):
        item = Name("item", writer.depth)
        line, here = writer.div(item, length), writer.mod(item, length)
        outer, inner = lines.split(line)
        start = writer.let("start", f"{line} * {length}")
        mine = writer.let("mine", f"int64({held}[item])")
        key = lines.value(outer, mine, inner)
        writer.line(f"pair = udiv({here}, 2 * {width}) * (2 * {width})")
        writer.line(f"own = pair if {here} < pair + {width} else pair + {width}")
        writer.line(f"other = pair + {width} if {here} < pair + {width} else pair")
        writer.line(f"low = min(other, {length})")
        writer.line("first = low")
        writer.line(f"high = min(other + {width}, {length})")
        with writer.block("while low < high"):
            middle = writer.let("middle", "(low + high) >> 1")
            theirs = writer.let("theirs", f"int64({held}[{start} + {middle}])")
            value = lines.value(outer, theirs, inner)
            writer.line(f"before = 1 if {precedes(lines, value, theirs, key, mine)} else 0")
            writer.line(f"low = {middle} + 1 if before == 1 else low")
            writer.line(f"high = high if before == 1 else {middle}")
        rank = writer.let("rank", f"pair + ({here} - own) + (low - first)")
        if last:
            with writer.block(f"if {rank} < {writer.size(lines.node.shape[lines.axis])}"):
                lines.store(mine, outer, rank, inner)
        else:
            writer.line(f"out[{start} + {rank}] = int32({mine})")
    return Geometry((ceildiv(total, THREADS), 1, 1), THREADS)
