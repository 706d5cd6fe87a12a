"""Attention by warpgroups on tiles that bulk tensor copies bring, on sm_90a alone.

A block has three warpgroups and goes from tile to tile of queries. One thread of the last warpgroup, the
producer, starts the copies of queries and of tiles of keys and of values into a ring for each. The other two,
the consumers, have 64 rows of queries each. While they weigh the scores of one tile, their product of the
weights and values before is under way, and they take turns, so that one multiplies while the other takes
exponentials. Weights stay in registers.

Source: Shah, Bikshandi, Zhang, Thakkar, Ramani and Dao, "FlashAttention-3", 2024, algorithm 2; PTX ISA 8.8,
"cp.async.bulk.tensor", "mbarrier", "wgmma".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from tessera.compiler.attention_operand import Heads
from tessera.compiler.body import Body
from tessera.compiler.geometry import Geometry
from tessera.compiler.head_map import head_map, head_places
from tessera.compiler.lower_flash import Place, key_steps, place_head
from tessera.compiler.lower_tma import RESIDENT
from tessera.compiler.matmul_operand import Matrices
from tessera.compiler.online_softmax import OnlineSoftmax
from tessera.compiler.operand_map import OperandMap
from tessera.compiler.panel_layout import ITEM_BYTES, WIDE
from tessera.compiler.staged_tiles import with_most_stages
from tessera.compiler.warp_result import WARP_BYTES, write_warp_sums
from tessera.compiler.writer import Name
from tessera.program.dim import Dim, ceildiv, minimum, product

ROWS = 128
"""Queries of a block."""
CONSUMERS = 256
"""Threads that multiply."""
THREADS = CONSUMERS + 128
MOST_COLUMNS = 128
"""Of a head: sums of more have no registers beside scores and weights."""
_ROW = WIDE * ITEM_BYTES
_ATOM = 8 * _ROW
"""Bytes of eight swizzled rows."""
_BARRIERS_BYTES = 256
_PRODUCER_REGISTERS, _CONSUMER_REGISTERS = 40, 232
_MOST_STAGES = 4


def _panels(columns: int) -> int:
    return -(-columns // WIDE)


@dataclass(frozen=True, slots=True)
class FlashRing:
    """The tiles of a block."""

    depth: int
    width: int
    stages: int
    """Tiles of keys, and as many of values."""
    keys: int = 128
    """Of a tile."""

    @property
    def query_bytes(self) -> int:
        """Shared memory of the queries."""
        return ROWS * _ROW * _panels(self.depth)

    @property
    def key_bytes(self) -> int:
        """Shared memory of a tile of keys."""
        return self.keys * _ROW * _panels(self.depth)

    @property
    def value_bytes(self) -> int:
        """Shared memory of a tile of values."""
        return self.keys * _ROW * _panels(self.width)

    @property
    def values_at(self) -> int:
        """Where tiles of values begin; those of keys follow the queries."""
        return self.query_bytes + self.stages * self.key_bytes

    @property
    def sums_at(self) -> int:
        """Where the warps' shared memory for sums begins."""
        return self.values_at + self.stages * self.value_bytes

    @property
    def barriers_at(self) -> int:
        """Where the barriers begin."""
        return self.sums_at + CONSUMERS // 32 * WARP_BYTES

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        return self.barriers_at + _BARRIERS_BYTES


def choose_flash_ring(heads: Heads, shared_bytes: int) -> FlashRing | None:
    """The ring with as many stages as fit, 2 at least; None where they do not, or heads are too wide."""
    if max(heads.depth, heads.width) > MOST_COLUMNS:
        return None
    return with_most_stages(partial(FlashRing, heads.depth, heads.width), 2, _MOST_STAGES, shared_bytes)


def flash_maps(body: Body, heads: Heads, ring: FlashRing) -> tuple[OperandMap, ...]:
    """The maps of queries, keys and values; nothing where one cannot have any."""
    found = [head_map(body, heads, i, ROWS if i == 0 else ring.keys) for i in range(3)]
    maps = tuple(one for one in found if one is not None)
    return maps if len(maps) == len(found) else ()


def flash_tma_kernel(body: Body, root: int, heads: Heads, ring: FlashRing) -> Geometry:
    """A kernel of `wgmma` for attention whose operands have tensor maps.

    Args:
        body: Takes the text.
        root: The node that is written.
        heads: The attention.
        ring: The block's tiles.
    """
    return _Warpgroups(body, root, heads, ring).write()


class _Warpgroups:
    def __init__(self, body: Body, root: int, heads: Heads, ring: FlashRing) -> None:
        self.body, self.writer = body, body.writer
        self.root, self.heads, self.ring = root, heads, ring
        self.node = body.graph.nodes[heads.core]
        self.maps = flash_maps(body, heads, ring)
        self.kind = heads.product.name

    def write(self) -> Geometry:
        """The kernel."""
        writer, ring = self.writer, self.ring
        self.map_names = [self.body.tensor_map(found) for found in self.maps]
        memory = writer.declare("memory", "cuda.shared.array(0, uint8, 1024)")
        writer.line("thread = int64(cuda.threadIdx.x)")
        writer.line(f"start = int64(gpu.shared_address({memory}, 0))")
        writer.line(f"q_full = start + {ring.barriers_at}")
        writer.line("q_empty = q_full + 8")
        for number, name in enumerate(("k_full", "k_empty", "v_full", "v_empty")):
            writer.line(f"{name} = q_full + {16 + 8 * ring.stages * number}")
        with writer.block("if thread == 0"):
            writer.line("gpu.mbarrier_init(q_full, 1)")
            writer.line("gpu.mbarrier_init(q_empty, 2)")
            with writer.block(f"for stage in range({ring.stages})"):
                for name, count in (("k_full", 1), ("k_empty", 2), ("v_full", 1), ("v_empty", 2)):
                    writer.line(f"gpu.mbarrier_init({name} + 8 * stage, {count})")
            writer.line("gpu.fence_mbarrier_init()")
        writer.line("cuda.syncthreads()")
        for name in ("q_phase", "k_slot", "k_phase", "v_slot", "v_phase"):
            writer.line(f"{name} = int64(0)")
        with writer.block(f"if thread >= {CONSUMERS}"):
            writer.line(f"gpu.setmaxnreg_dec({_PRODUCER_REGISTERS})")
            with writer.block(f"if thread == {CONSUMERS}"):
                self._produce()
            writer.line("return")
        writer.line(f"gpu.setmaxnreg_inc({_CONSUMER_REGISTERS})")
        self._consume()
        return Geometry((minimum(self.items, RESIDENT), 1, 1), THREADS, ring.shared_bytes)

    @property
    def tiles(self) -> Dim:
        """Tiles of queries of a head."""
        return ceildiv(self.node.shape[-2], ROWS)

    @property
    def per_head(self) -> Dim:
        """What a block takes at a time, of a head: a tile, or two whose keys are as many for all."""
        return ceildiv(self.tiles, 2) if self.node.attrs["causal"] else self.tiles

    @property
    def items(self) -> Dim:
        """The same of all heads."""
        return product(self.node.shape[:-2]) * self.per_head

    @contextmanager
    def _each_tile(self) -> Iterator[Place]:
        """Write the loop over the block's tiles; `first_row` and `steps` are the tile's."""
        writer = self.writer
        writer.line("item = int64(cuda.blockIdx.x)")
        with writer.block(f"while item < {writer.size(self.items)}"):
            item, per_head = Name("item", writer.depth), writer.size(self.per_head)
            number = writer.mod(item, per_head)
            place = place_head(self.body, self.heads.core, writer.div(item, per_head))
            if self.node.attrs["causal"]:
                tiles = writer.size(self.tiles)
                # The tile with most keys and that with fewest, and so on; an odd one by itself.
                writer.line(f"turns = 1 if 2 * {number} + 1 == {tiles} else 2")
                with writer.block("for turn in range(turns)"):
                    writer.line(f"first_row = ({tiles} - 1 - {number} if turn == 0 else {number}) * {ROWS}")
                    key_steps(self.body, self.heads.core, ROWS, self.ring.keys)
                    yield place
            else:
                writer.line(f"first_row = {number} * {ROWS}")
                key_steps(self.body, self.heads.core, ROWS, self.ring.keys)
                yield place
            writer.line("item += int64(cuda.gridDim.x)")

    def _next(self, name: str) -> None:
        """On to the next place of a ring."""
        writer, stages = self.writer, self.ring.stages
        writer.line(f"{name}_slot += 1")
        writer.line(f"{name}_phase = {name}_phase ^ 1 if {name}_slot == {stages} else {name}_phase")
        writer.line(f"{name}_slot = int64(0) if {name}_slot == {stages} else {name}_slot")

    def _await(self, barrier: str, phase: str) -> None:
        with self.writer.block(f"while not gpu.mbarrier_try_wait_parity({barrier}, {phase})"):
            pass

    # -- the producer ---------------------------------------------------------------------------

    def _produce(self) -> None:
        writer, ring = self.writer, self.ring
        for name in self.map_names:
            writer.line(f"gpu.tma_prefetch({name})")
        with self._each_tile() as place:
            self.places = [
                head_places(self.body, self.heads, i, found, place.batch, place.kv_head if i else place.head)
                for i, found in enumerate(self.maps)
            ]
            # Values are wanted one tile of keys later.
            with writer.block("for step in range(steps)"):
                self._fill(1, "k", ring.query_bytes, ring.key_bytes, "step")
                with writer.block("if step == 0"):
                    self._await("q_empty", "q_phase ^ 1")
                    writer.line(f"gpu.mbarrier_arrive_expect_bytes(q_full, {ring.query_bytes})")
                    self._copy(0, "start", ROWS, "first_row", "q_full")
                    writer.line("q_phase = q_phase ^ 1")
                with writer.block("if step > 0"):
                    self._fill(2, "v", ring.values_at, ring.value_bytes, "(step - 1)")
            with writer.block("if steps > 0"):
                self._fill(2, "v", ring.values_at, ring.value_bytes, "(steps - 1)")

    def _fill(self, position: int, name: str, base: int, size: int, step: str) -> None:
        writer, ring = self.writer, self.ring
        # A barrier that nobody has used yet counts as complete in the phase before its first.
        self._await(f"{name}_empty + 8 * {name}_slot", f"{name}_phase ^ 1")
        writer.line(f"{name}_ready = {name}_full + 8 * {name}_slot")
        writer.line(f"gpu.mbarrier_arrive_expect_bytes({name}_ready, {size})")
        writer.line(f"{name}_at = start + {base} + {name}_slot * {size}")
        self._copy(position, f"{name}_at", ring.keys, f"{step} * {ring.keys}", f"{name}_ready")
        self._next(name)

    def _copy(self, position: int, to: str, rows: int, first: str, barrier: str) -> None:
        """A copy for each panel of 64 columns; those past the last column become zeros."""
        columns = self.heads.width if position == 2 else self.heads.depth
        name, places = self.map_names[position], self.places[position]
        rank = len(self.maps[position].sizes)
        for panel in range(_panels(columns)):
            at = f"{to} + {panel * rows * _ROW}"
            self.writer.line(
                f"gpu.tma_load_{rank}d({at}, {name}, {panel * WIDE}, {first}{places}, {barrier})"
            )

    # -- the consumers --------------------------------------------------------------------------

    def _consume(self) -> None:
        writer, ring = self.writer, self.ring
        writer.line("lane = thread & 31")
        writer.line("warp = thread >> 5")
        writer.line("group = thread >> 7")
        writer.line(f"q_at = start + group * {64 * _ROW}")
        writer.line(f"stage_at = start + {ring.sums_at} + warp * {WARP_BYTES}")
        # The first warpgroup has the first turn.
        with writer.block("if group == 1"):
            writer.line(f"gpu.barrier_arrive(1, {CONSUMERS})")
        with self._each_tile() as place:
            writer.line("warp_row = first_row + warp * 16")
            softmax = OnlineSoftmax(self.body, self.heads.core, place.batch, place.head, 1, ring.keys)
            softmax.begin()
            writer.line(f"o = gpu.zeros_f32({self.heads.width // 2})")
            writer.line("first_key = int64(0)")
            with writer.block("if steps > 0"):
                self._loop(softmax)
            softmax.finish()
            self._store(place)
        # Of turns that were passed on one is left.
        with writer.block("if group == 0"):
            writer.line(f"gpu.barrier_sync(1, {CONSUMERS})")

    def _loop(self, softmax: OnlineSoftmax) -> None:
        writer, ring = self.writer, self.ring
        self._await("q_full", "q_phase")
        writer.line("q_phase = q_phase ^ 1")
        self._take_turn()
        self._score()
        self._pass_turn()
        writer.line("raw = gpu.wgmma_wait(0, raw)")
        self._release("k")
        softmax.weigh(_score_name, "a")
        self._pack(softmax, "a")
        with writer.block("for _ in range(steps - 1)"):
            writer.line(f"first_key += {ring.keys}")
            self._take_turn()
            self._score()
            self._add()
            self._pass_turn()
            writer.line("raw = gpu.wgmma_wait(1, raw)")
            self._release("k")
            softmax.weigh(_score_name, "b")
            writer.line("o = gpu.wgmma_wait(0, o)")
            self._release("v")
            parts = (f"o[{i}] * fade0_{i // 2 % 2}" for i in range(self.heads.width // 2))
            # Numba fails on a tuple of more than 30 parts under a name that has other values too.
            writer.line(f"faded = ({', '.join(parts)})")
            writer.line("o = faded")
            self._pack(softmax, "b")
        with writer.block("if (thread & 127) == 0"):
            writer.line("gpu.mbarrier_arrive(q_empty)")
        self._add()
        writer.line("o = gpu.wgmma_wait(0, o)")
        self._release("v")

    def _take_turn(self) -> None:
        self.writer.line(f"gpu.barrier_sync(1 + group, {CONSUMERS})")

    def _pass_turn(self) -> None:
        self.writer.line(f"gpu.barrier_arrive(2 - group, {CONSUMERS})")

    def _release(self, name: str) -> None:
        """Give a tile back to the producer, and go on to the next."""
        with self.writer.block("if (thread & 127) == 0"):
            self.writer.line(f"gpu.mbarrier_arrive({name}_empty + 8 * {name}_slot)")
        self._next(name)

    def _pack(self, softmax: OnlineSoftmax, turn: str) -> None:
        for step in range(self.ring.keys // 16):
            self.writer.line(f"weights{step} = {softmax.packed(0, step, self.kind, turn)}")

    def _score(self) -> None:
        """Start the product of queries and a tile of keys."""
        writer, ring = self.writer, self.ring
        self._await("k_full + 8 * k_slot", "k_phase")
        writer.line(f"k_at = start + {ring.query_bytes} + k_slot * {ring.key_bytes}")
        writer.line(f"raw = gpu.zeros_f32({ring.keys // 2})")
        writer.line("gpu.wgmma_fence()")
        for column in range(0, self.heads.depth, 16):
            panel, step = divmod(column, WIDE)
            left, right = (
                f"gpu.wgmma_descriptor({at} + {panel * rows * _ROW + step * ITEM_BYTES}, 16, {_ATOM}, {_ROW})"
                for at, rows in (("q_at", ROWS), ("k_at", ring.keys))
            )
            writer.line(f"raw = gpu.wgmma_{self.kind}(raw, {left}, {right}, {int(column > 0)})")
        writer.line("gpu.wgmma_commit()")

    def _add(self) -> None:
        """Start the product of weights and a tile of values."""
        writer, ring = self.writer, self.ring
        self._await("v_full + 8 * v_slot", "v_phase")
        writer.line(f"v_at = start + {ring.values_at} + v_slot * {ring.value_bytes}")
        writer.line("gpu.wgmma_fence()")
        for step in range(ring.keys // 16):
            at = f"v_at + {step * 16 * _ROW}"
            right = f"gpu.wgmma_descriptor({at}, {ring.keys * _ROW}, {_ATOM}, {_ROW})"
            writer.line(f"o = gpu.wgmma_{self.kind}_trans(o, weights{step}, {right}, 1, 0, 1)")
        writer.line("gpu.wgmma_commit()")

    def _store(self, place: Place) -> None:
        writer, heads = self.writer, self.heads
        columns = _panels(heads.width) * WIDE
        sums = [f"o[{i}] * share0_{i // 2 % 2}" for i in range(heads.width // 2)]
        padding = ["float32(0)"] * (columns // 2 - len(sums))
        writer.line(f"c = ({', '.join([*sums, *padding])})")
        writer.line("first_column = int64(0)")
        writer.line("first_row = warp_row")
        inputs = self.node.inputs
        result = Matrices(
            heads.core, heads.product, (inputs[0], inputs[1]), heads.views[:2], along_depth=(True, True)
        )
        write_warp_sums(self.body, self.root, result, columns=columns, stage="stage_at", batch=place.matrix)


def _score_name(f: int, n: int, i: int) -> str:  # noqa: ARG001
    return f"raw[{4 * n + i}]"
