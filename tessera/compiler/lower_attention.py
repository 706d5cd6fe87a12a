"""Attention in one kernel: scores stay in shared memory and are never written out.

A block has some rows of queries and goes through the keys tile by tile. For each
row it keeps the largest score so far, the sum of the exponentials below it and
the weighted sum of the values, and scales the last two when a larger score comes.

Source: Dao, Fu, Ermon, Rudra and Ré, "FlashAttention", 2022, algorithm 1; Milakov and Gimelshein, "Online
normalizer calculation for softmax", 2018.
"""

from __future__ import annotations

from contextlib import nullcontext

from tessera.compiler import scalar_math
from tessera.compiler.body import Body
from tessera.compiler.geometry import THREADS, Geometry
from tessera.compiler.index import Index
from tessera.compiler.writer import Name
from tessera.program.dim import Dim, ceildiv, product
from tessera.program.graph import Graph, Node

_TILES = ((32, 32), (16, 32), (16, 16), (8, 16))
"""Queries and keys of a tile, the largest first."""
_SHARED_BYTES = 46 * 1024
"""What a tile may take of the 48 KiB that every architecture has without asking."""


def attention_tile(graph: Graph, node: Node) -> tuple[int, int] | None:
    """Queries and keys of a block's tiles; None where no tile fits shared memory."""
    depth, width = (graph.nodes[i].shape[-1] for i in node.inputs[1:3])
    if not isinstance(depth, int) or not isinstance(width, int) or depth * width == 0:
        return None
    size = 8 if scalar_math.compute_type(node.dtype) == "float64" else 4
    for rows, keys in _TILES:
        count = (rows + keys) * (depth + 1) + keys * (width + 1) + rows * (keys + 1)
        if count * size <= _SHARED_BYTES:
            return rows, keys
    return None


def attention_cuda(body: Body, root: int, core: int) -> Geometry:
    """A block for each tile of queries of each head; sums are float32 (float64 for float64)."""
    return _Attention(body, root, core).write()


class _Attention:
    def __init__(self, body: Body, root: int, core: int) -> None:
        self.body, self.writer, self.root, self.core = body, body.writer, root, core
        self.node = body.graph.nodes[core]
        self.kind = scalar_math.compute_type(self.node.dtype)
        tile = attention_tile(body.graph, self.node)
        assert tile is not None  # noqa: S101 - a pass takes other attentions apart
        self.rows, self.keys = tile
        q, k, v = (body.graph.nodes[i].shape for i in self.node.inputs[:3])
        self.queries, self.length = q[-2], k[-2]
        self.depth, self.width = int(str(k[-1])), int(str(v[-1]))
        self.heads, self.kv_heads = q[-3], k[-3]
        self.lanes = THREADS // self.rows
        self.columns = -(-self.width // self.lanes)
        self.scores = -(-self.keys // self.lanes)
        self.idle = self.lanes > self.keys
        """Whether some threads of a row have no key in a tile."""

    def write(self) -> Geometry:
        """The kernel."""
        writer = self.writer
        self._place()
        shared = self.body.shared
        q = shared((self.rows, self.depth + 1), self.kind)
        k = shared((self.keys, self.depth + 1), self.kind)
        v = shared((self.keys, self.width + 1), self.kind)
        p = shared((self.rows, self.keys + 1), self.kind)
        self._fill(q, 0, "first_row", self.queries, self.rows, self.depth, scaled=True)
        writer.line(f"top = {self.kind}(-math.inf)")
        writer.line(f"total = {self.kind}(0)")
        for j in range(self.columns):
            writer.line(f"sum{j} = {self.kind}(0)")
        writer.line("first_key = int64(0)")
        with writer.block(f"while first_key < {self._end()}"):
            self._fill(k, 1, "first_key", self.length, self.keys, self.depth)
            self._fill(v, 2, "first_key", self.length, self.keys, self.width)
            writer.line("cuda.syncthreads()")
            self._score(q, k)
            self._weigh(p)
            writer.line("cuda.syncthreads()")
            self._add(p, v)
            # Nobody may bring the next keys while these are read.
            writer.line("cuda.syncthreads()")
            writer.line(f"first_key += {self.keys}")
        self._store()
        tiles = ceildiv(self.queries, self.rows)
        return Geometry((product(self.node.shape[:-2]) * tiles, 1, 1), THREADS)

    def _place(self) -> None:
        writer = self.writer
        writer.line("tile = int64(cuda.blockIdx.x)")
        tiles = writer.size(ceildiv(self.queries, self.rows))
        above = writer.div(Name("tile"), tiles)
        writer.line(f"first_row = {writer.mod(Name('tile'), tiles)} * {self.rows}")
        self.head = writer.mod(above, writer.size(self.heads))
        self.batch = writer.div(above, writer.size(self.heads))
        writer.line("thread = int64(cuda.threadIdx.x & 255)")
        writer.line(f"lane = thread & {self.lanes - 1}")
        writer.line(f"row = thread >> {self.lanes.bit_length() - 1}")
        writer.line("query = first_row + row")

    def _kv_head(self) -> Name:
        if self.heads == self.kv_heads:
            return self.head
        return self.writer.div(self.head, Name(str(int(str(self.heads)) // int(str(self.kv_heads)))))

    def _end(self) -> str:
        """The keys that some row of the tile may see."""
        length = self.writer.size(self.length)
        if not self.node.attrs["causal"]:
            return str(length)
        ahead = self.writer.size(self.length - self.queries)
        return f"min({length}, first_row + {self.rows} + {ahead})"

    def _fill(
        self,
        shared: Name,
        position: int,
        first: str,
        size: Dim,
        rows: int,
        width: int,
        *,
        scaled: bool = False,
    ) -> None:
        """Bring a tile of an operand into shared memory; 0 past its end."""
        writer, source = self.writer, self.node.inputs[position]
        operand = self.body.graph.nodes[source]
        e, r, c = writer.fresh("e"), writer.fresh("r"), writer.fresh("k")
        with writer.block(f"for {e} in range(thread, {rows * width}, {THREADS})"):
            writer.line(f"{r} = udiv({e}, {width})")
            writer.line(f"{c} = {e} - {r} * {width}")
            value = writer.let("w", f"{self.kind}(0)")
            at = writer.let("o", f"{first} + {r}")
            with writer.block(f"if {at} < {writer.size(size)}"):
                head = self.head if position == 0 else self._kv_head()
                axes = (head, at, Name(c, writer.depth))
                loaded = self.body.value(source, self._index(operand.shape, axes))
                text = scalar_math.cast(loaded, operand.dtype, self.node.dtype, rounded=False)
                scale = scalar_math.literal(float(str(self.node.attrs["scale"])), self.node.dtype)
                writer.line(f"{value} = {text} * {scale}" if scaled else f"{value} = {text}")
            writer.line(f"{shared}[{r}, {c}] = {value}")

    def _index(self, shape: tuple[Dim, ...], axes: tuple[Name, Name, Name]) -> Index:
        parts = ((len(shape) - 3, self.batch), *((1, axis) for axis in axes))
        return Index(self.writer, shape, parts)

    def _score(self, q: Name, k: Name) -> None:
        """This thread's scores of its row: every `lanes`-th key of the tile."""
        writer = self.writer
        for j in range(self.scores):
            writer.line(f"score{j} = {self.kind}(0)")
        with writer.block(f"for x in range({self.depth})"):
            writer.line(f"a = {q}[row, x]")
            for j in range(self.scores):
                column = f"min(lane, {self.keys - 1})" if self.idle else f"lane + {j * self.lanes}"
                writer.line(f"score{j} += a * {k}[{column}, x]")
        for j in range(self.scores):
            key = writer.let("key", f"first_key + lane + {j * self.lanes}")
            self._mask(j, key)

    def _mask(self, j: int, key: Name) -> None:
        """Take a score away where there is no key, or none that the row may see."""
        writer = self.writer
        hidden = [f"{key} >= {writer.size(self.length)}"]
        if self.idle:
            hidden.append(f"lane >= {self.keys}")
        if self.node.attrs["causal"]:
            hidden.append(f"{key} > query + {writer.size(self.length - self.queries)}")
        if len(self.node.inputs) > 3:
            source = self.node.inputs[3]
            mask = self.body.graph.nodes[source]
            with writer.block(
                f"if {key} < {writer.size(self.length)} and query < {writer.size(self.queries)}"
            ):
                whole = (*self.node.shape[:-1], self.length)
                index = self._index(whole, (self.head, Name("query"), key)).broadcast(mask.shape)
                value = self.body.value(source, index)
                if mask.dtype.is_float:
                    writer.line(f"score{j} += {scalar_math.cast(value, mask.dtype, self.node.dtype)}")
                else:
                    with writer.block(f"if {value} == 0"):
                        writer.line(f"score{j} = {self.kind}(-math.inf)")
        with writer.block(f"if {' or '.join(hidden)}"):
            writer.line(f"score{j} = {self.kind}(-math.inf)")

    def _weigh(self, p: Name) -> None:
        """Exponentials of the scores below the row's new maximum; what was summed before is scaled to it."""
        writer = self.writer
        writer.line("highest = top")
        for j in range(self.scores):
            writer.line(f"highest = {scalar_math.combine('max', 'highest', f'score{j}', self.kind)}")
        self._over_row("max", "highest")
        # A row that sees nothing yet has no maximum to go below.
        writer.line(f"below = {self.kind}(0) if highest == {self.kind}(-math.inf) else highest")
        writer.line(f"scale = {scalar_math.exponential('top - below', self.kind)}")
        writer.line("top = highest")
        writer.line(f"part = {self.kind}(0)")
        for j in range(self.scores):
            weight = writer.let("y", scalar_math.exponential(f"score{j} - below", self.kind))
            writer.line(f"part += {weight}")
            with writer.block(f"if lane < {self.keys}") if self.idle else nullcontext():
                writer.line(f"{p}[row, lane + {j * self.lanes}] = {weight}")
        self._over_row("sum", "part")
        writer.line("total = total * scale + part")
        for j in range(self.columns):
            writer.line(f"sum{j} = sum{j} * scale")

    def _over_row(self, op: str, name: str) -> None:
        lanes = self.lanes // 2
        while lanes:
            other = self.writer.let("t", f"cuda.shfl_xor_sync(0xffffffff, {name}, {lanes})")
            self.writer.line(f"{name} = {scalar_math.combine(op, name, other, self.kind)}")
            lanes //= 2

    def _add(self, p: Name, v: Name) -> None:
        writer = self.writer
        with writer.block(f"for x in range({self.keys})"):
            writer.line(f"a = {p}[row, x]")
            for j in range(self.columns):
                column = f"lane + {j * self.lanes}"
                if (j + 1) * self.lanes > self.width:
                    # Past the last column there is memory, and nobody uses the sum.
                    column = f"min({column}, {self.width - 1})"
                writer.line(f"sum{j} += a * {v}[x, {column}]")

    def _store(self) -> None:
        writer = self.writer
        with writer.block(f"if query < {writer.size(self.queries)}"):
            writer.line(f"share = {self.kind}(1.0) if total == {self.kind}(0) else total")
            for j in range(self.columns):
                column = writer.let("column", f"lane + {j * self.lanes}")
                with writer.block(f"if {column} < {self.width}"):
                    result = writer.let("y", scalar_math.divide(f"sum{j}", "share", self.kind))
                    self.body.results[self.core] = result
                    axes = (self.head, Name("query"), column)
                    self.body.store(self.root, self._index(self.node.shape, axes))
