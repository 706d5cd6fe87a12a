"""Attention on tensor cores: `mma.sync` on tiles of queries, keys and values, from sm_80 on.

A block has some rows of queries, each warp 16 or 32 of them in registers for good. Tiles of keys and of
values come in turns into one ring in shared memory by asynchronous copies, as many ahead as the ring has
places but one. Scores become weights in registers, where the second product takes them as its left operand.

Source: Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning", 2023.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from tessera.compiler.attention_operand import Heads, head_offset
from tessera.compiler.body import Body
from tessera.compiler.geometry import Geometry
from tessera.compiler.index import Index
from tessera.compiler.online_softmax import OnlineSoftmax, ScoreName
from tessera.compiler.panel_layout import Panels, TileCopies, lane_origin, padded
from tessera.compiler.writer import Name
from tessera.program.dim import Dim, ceildiv, product

_WARPS = 4
_MOST_SLOTS = 6
_SHAPES = ((64, (2, 64)), (128, (1, 64)), (192, (1, 32)), (256, (1, 16)))
"""Up to how many columns a warp has how many times 16 rows, and a tile how many keys: as registers allow.

32 rows read each fragment of keys and values once for both halves.
"""
_STAGE_ROWS = 8
"""Rows of each warp's result that go through shared memory at a time."""


@dataclass(frozen=True, slots=True)
class FlashTile:
    """How a block goes through the keys."""

    fragments: int
    """16 rows of queries each, of a warp."""
    keys: int
    slots: int
    """Tiles of keys or values in shared memory."""
    depth: int
    """Columns of queries and keys, padded."""
    width: int
    """Columns of values, padded."""

    @property
    def rows(self) -> int:
        """Queries of a block."""
        return 16 * self.fragments * _WARPS

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * _WARPS

    @property
    def slot_bytes(self) -> int:
        """Shared memory of a tile of keys or values."""
        return max(Panels(self.keys, c).bytes for c in (self.depth, self.width))

    @property
    def pitch(self) -> int:
        """float32 from one row of a result to the next: rows that a warp stores together meet in no bank."""
        return self.width + 8

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block: for queries, then keys and values, then results."""
        queries = Panels(self.rows, self.depth).bytes
        return max(queries, self.slots * self.slot_bytes, 4 * _WARPS * _STAGE_ROWS * self.pitch)


def choose_flash_tile(heads: Heads, shared_bytes: int, *, masked: bool) -> FlashTile | None:
    """The tile for heads of a size; None where it does not fit `shared_bytes`.

    Args:
        heads: The attention.
        shared_bytes: Most shared memory of a block.
        masked: Whether there is a mask, whose addresses need registers, and time to compile, for each score.
    """
    depth, width = padded(heads.depth), padded(heads.width)
    wide = max(depth, width)
    fragments, keys = next(shape for limit, shape in _SHAPES if wide <= limit)
    fragments = 1 if masked else fragments
    slot = FlashTile(fragments, keys, 2, depth, width).slot_bytes
    slots = min(_MOST_SLOTS, shared_bytes // slot)
    tile = FlashTile(fragments, keys, slots, depth, width)
    return tile if slots >= 2 and tile.shared_bytes <= shared_bytes else None


def tile_of(heads: Heads, fragments: int, keys: int, slots: int) -> FlashTile:
    """The tile of a shape, for heads of a size."""
    return FlashTile(fragments, keys, slots, padded(heads.depth), padded(heads.width))


def flash_kernel(body: Body, root: int, heads: Heads, tile: FlashTile) -> Geometry:
    """A kernel of `mma.sync` for attention.

    Args:
        body: Takes the text.
        root: The node that is written.
        heads: The attention.
        tile: How a block goes through the keys.
    """
    return _Flash(body, root, heads, tile).write()


@dataclass(frozen=True, slots=True)
class Place:
    """Which queries a block has."""

    batch: Name
    head: Name
    kv_head: Name
    matrix: Name
    """The number of the head, those of all batches counted."""


def place_head(body: Body, core: int, matrix: Name) -> Place:
    """The head that has a number, those of all batches counted."""
    writer, nodes = body.writer, body.graph.nodes
    node = nodes[core]
    heads, kv_heads = node.shape[-3], nodes[node.inputs[1]].shape[-3]
    head = writer.mod(matrix, writer.size(heads))
    batch = writer.div(matrix, writer.size(heads))
    kv_head = head
    if heads != kv_heads:
        kv_head = writer.div(head, Name(str(int(str(heads)) // int(str(kv_heads)))))
    return Place(batch, head, kv_head, matrix)


def place_rows(body: Body, core: int, rows: int) -> Place:
    """Write `first_row`, the first query of the block's; those with most keys to see begin first."""
    writer, node = body.writer, body.graph.nodes[core]
    writer.line("tile = int64(cuda.blockIdx.x)")
    tiles = writer.size(ceildiv(node.shape[-2], rows))
    above, number = writer.div(Name("tile"), tiles), writer.mod(Name("tile"), tiles)
    if node.attrs["causal"]:
        number = writer.let("late", f"{tiles} - 1 - {number}")
    writer.line(f"first_row = int64({number}) * {rows}")
    return place_head(body, core, above)


def key_steps(body: Body, core: int, rows: int, keys: int) -> None:
    """Write `steps`: how many tiles of keys the block's queries see something of."""
    writer, nodes = body.writer, body.graph.nodes
    node = nodes[core]
    queries, length = node.shape[-2], nodes[node.inputs[1]].shape[-2]
    end = str(writer.size(length))
    if node.attrs["causal"]:
        end = f"min({end}, first_row + {rows} + {writer.size(length - queries)})"
    writer.line(f"steps = (max(int64(0), {end}) + {keys - 1}) >> {keys.bit_length() - 1}")


class _Flash:
    def __init__(self, body: Body, root: int, heads: Heads, tile: FlashTile) -> None:
        self.body, self.writer = body, body.writer
        self.root, self.heads, self.tile = root, heads, tile
        self.node = body.graph.nodes[heads.core]
        self.queries = self.node.shape[-2]
        self.length: Dim = body.graph.nodes[self.node.inputs[1]].shape[-2]
        self.kind = heads.product.name

    def write(self) -> Geometry:
        """The kernel."""
        writer, tile = self.writer, self.tile
        memory = writer.declare("memory", "cuda.shared.array(0, uint8, 1024)")
        place = place_rows(self.body, self.heads.core, tile.rows)
        writer.line("thread = cuda.threadIdx.x")
        writer.line("lane = thread & 31")
        writer.line("warp = thread >> 5")
        writer.line(f"warp_row = first_row + warp * {16 * tile.fragments}")
        writer.line(f"start = int64(gpu.shared_address({memory}, 0))")
        self._load_queries(place)
        softmax = OnlineSoftmax(
            self.body, self.heads.core, place.batch, place.head, tile.fragments, tile.keys
        )
        softmax.begin()
        for f, c in itertools.product(range(tile.fragments), range(tile.width // 8)):
            writer.line(f"o{f}_{c} = gpu.zeros_f32(4)")
        self._loop(place, softmax)
        softmax.finish()
        self._store(place)
        blocks = product(self.node.shape[:-2]) * ceildiv(self.queries, tile.rows)
        return Geometry((blocks, 1, 1), tile.threads, tile.shared_bytes)

    def _load_queries(self, place: Place) -> None:
        """Queries through shared memory into registers."""
        writer, tile = self.writer, self.tile
        panels = Panels(tile.rows, tile.depth)
        copies = self._copies(0, "q", panels)
        copies.prepare(head_offset(self.body, self.heads, 0, place.batch, place.head), "first_row")
        copies.begin("start")
        writer.line("gpu.cp_async_commit()")
        writer.line("gpu.cp_async_wait(0)")
        writer.line("cuda.syncthreads()")
        for panel_width in panels.widths:
            first = f"warp * {16 * tile.fragments * panel_width * 2}"
            origin = lane_origin(panel_width, by_column=False)
            writer.line(f"q_at{panel_width} = start + {first} + {origin}")
        for f, column in itertools.product(range(tile.fragments), range(0, tile.depth, 16)):
            writer.line(f"q{f}_{column} = gpu.ldmatrix_x4({panels.address('q_at', column, 16 * f)})")
        writer.line("cuda.syncthreads()")

    def _copies(self, position: int, prefix: str, panels: Panels) -> TileCopies:
        columns = self.heads.width if position == 2 else self.heads.depth
        size = self.queries if position == 0 else self.length
        view = self.heads.views[position]
        return TileCopies(self.body, prefix, view, panels, columns, size, self.tile.threads)

    def _loop(self, place: Place, softmax: OnlineSoftmax) -> None:
        """Tile after tile of keys, then the values of the same."""
        writer, tile = self.writer, self.tile
        self.keys, self.values = (Panels(tile.keys, c) for c in (tile.depth, tile.width))
        self.turns: list[TileCopies] = []
        for position, (prefix, panels) in enumerate((("k", self.keys), ("v", self.values)), 1):
            copies = self._copies(position, prefix, panels)
            copies.prepare(head_offset(self.body, self.heads, position, place.batch, place.kv_head), "0")
            self.turns.append(copies)
            for width in panels.widths:
                origin = lane_origin(width, by_column=position == 1)
                writer.line(f"{prefix}_origin{width} = {origin}")
        for number in range(tile.slots - 1):
            self._begin(number, f"(start + {number * tile.slot_bytes})")
        key_steps(self.body, self.heads.core, tile.rows, tile.keys)
        writer.line("read = start")
        writer.line(f"write = start + {(tile.slots - 1) * tile.slot_bytes}")
        writer.line(f"stop = start + {tile.slots * tile.slot_bytes}")
        writer.line("first_key = int64(0)")
        with writer.block("for _ in range(steps)"):
            self._next(0)
            self._score()
            softmax.weigh(lambda f, n, i: f"c{f}_{n}[{i}]")
            self._next(1)
            self._add(softmax)
            writer.line(f"first_key += {tile.keys}")
        writer.line("gpu.cp_async_wait(0)")
        writer.line("cuda.syncthreads()")

    def _begin(self, number: int, slot: str) -> None:
        """Start the copies of a tile by its number: keys and values in turns."""
        self.turns[number % 2].begin(slot)
        self.writer.line("gpu.cp_async_commit()")

    def _next(self, turn: int) -> None:
        """Await a tile, whose address becomes `here`, and start the copies of another one."""
        tile, writer = self.tile, self.writer
        writer.line(f"gpu.cp_async_wait({tile.slots - 2})")
        # All see the tile, and all have read the one whose place is written next.
        writer.line("cuda.syncthreads()")
        self._begin(turn + tile.slots - 1, "write")
        panels = (self.keys, self.values)[turn]
        for width in panels.widths:
            writer.line(f"{'kv'[turn]}_at{width} = read + {'kv'[turn]}_origin{width}")
        for name in ("read", "write"):
            writer.line(f"{name} += {tile.slot_bytes}")
            writer.line(f"{name} = start if {name} == stop else {name}")

    def _score(self) -> None:
        """Queries times keys."""
        writer, tile = self.writer, self.tile
        for f, n in itertools.product(range(tile.fragments), range(tile.keys // 8)):
            writer.line(f"c{f}_{n} = gpu.zeros_f32(4)")
        for column, group in itertools.product(range(0, tile.depth, 16), range(tile.keys // 16)):
            writer.line(f"y = gpu.ldmatrix_x4({self.keys.address('k_at', column, 16 * group)})")
            for f, half in itertools.product(range(tile.fragments), (0, 1)):
                total = f"c{f}_{2 * group + half}"
                pair = f"(y[{2 * half}], y[{2 * half + 1}])"
                writer.line(f"{total} = gpu.{self.heads.product.mma}(q{f}_{column}, {pair}, {total})")

    def _add(self, softmax: OnlineSoftmax) -> None:
        """Weights times values, on top of what was summed up before."""
        writer, tile = self.writer, self.tile
        for f, c in itertools.product(range(tile.fragments), range(tile.width // 8)):
            parts = ", ".join(f"o{f}_{c}[{i}] * fade{f}_{i // 2}" for i in range(4))
            writer.line(f"o{f}_{c} = ({parts})")
        for step in range(tile.keys // 16):
            for f in range(tile.fragments):
                writer.line(f"weights{f} = {softmax.packed(f, step, self.kind)}")
            for column in range(0, tile.width, 16):
                writer.line(f"y = gpu.ldmatrix_x4_trans({self.values.address('v_at', column, 16 * step)})")
                for f, half in itertools.product(range(tile.fragments), (0, 1)):
                    total = f"o{f}_{column // 8 + half}"
                    pair = f"(y[{2 * half}], y[{2 * half + 1}])"
                    writer.line(f"{total} = gpu.{self.heads.product.mma}(weights{f}, {pair}, {total})")

    def _store(self, place: Place) -> None:
        """The result, through shared memory, so that neighbouring lanes write neighbouring elements."""
        tile = self.tile
        store_rows(
            self.body, self.root, self.heads, place, fragments=tile.fragments, pitch=tile.pitch,
            sum_of=lambda f, c, i: f"o{f}_{c}[{i}]",
        )  # fmt: skip


def store_rows(
    body: Body,
    root: int,
    heads: Heads,
    place: Place,
    *,
    fragments: int,
    pitch: int,
    sum_of: ScoreName,
) -> None:
    """Write the sums of every lane, times `share…`, with what is fused: 8 rows of each warp at a time.

    Args:
        body: Takes the text.
        root: The node that is written.
        heads: The attention.
        place: Which queries the block has.
        fragments: 16 rows each, of a warp.
        pitch: float32 from one row in shared memory to the next.
        sum_of: (16 rows, 8 columns, which of a lane's four sums there) → what it is called.
    """
    writer, node = body.writer, body.graph.nodes[heads.core]
    stage = writer.declare("stage", "cuda.shared.array(0, float32, 1024)")
    writer.line(f"put = start + 4 * ((warp * {_STAGE_ROWS} + (lane >> 2)) * {pitch} + ((lane & 3) << 1))")
    with writer.block(f"for slab in range({2 * fragments})"):
        for f, h in itertools.product(range(fragments), (0, 1)):
            with writer.block(f"if slab == {2 * f + h}"):
                for c in range(padded(heads.width) // 8):
                    pair = ", ".join(f"{sum_of(f, c, 2 * h + i)} * share{f}_{h}" for i in (0, 1))
                    writer.line(f"gpu.store_shared_f32x2(put + {32 * c}, ({pair}))")
        writer.line("cuda.syncthreads()")
        with writer.block(f"for line in range({_STAGE_ROWS})"):
            writer.line(f"query = warp_row + slab * {_STAGE_ROWS} + line")
            inside = writer.block(f"if query < {writer.size(node.shape[-2])}")
            with inside, writer.block(f"for part in range({padded(heads.width) // 32})"):
                writer.line("column = int64(part * 32 + lane)")
                with writer.block(f"if column < {heads.width}"):
                    at = f"(warp * {_STAGE_ROWS} + line) * {pitch} + column"
                    body.results[heads.core] = writer.let("result", f"{stage}[{at}]")
                    shape = node.shape
                    axes = (place.head, Name("query", writer.depth), Name("column", writer.depth))
                    parts = ((len(shape) - 3, place.batch), *((1, axis) for axis in axes))
                    body.store(root, Index(writer, shape, parts))
        writer.line("cuda.syncthreads()")
