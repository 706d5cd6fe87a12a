"""Matrix products by warpgroups on tiles that bulk tensor copies bring, on sm_90a alone.

A block has three warpgroups and goes from tile to tile. One thread of the last warpgroup, the producer,
starts the copies: it fills a ring of stages, each with a barrier that counts its bytes, and waits on a second
barrier of the stage until both other warpgroups have multiplied it. These, the consumers, compute 64 rows of
the tile each and write them (`warp_result`) while the producer already fills the ring for the next tile.
Registers go from the producer to the consumers.

Source: PTX ISA 8.8, "cp.async.bulk.tensor", "mbarrier", "setmaxnreg", "wgmma".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from tessera.compiler.body import Body
from tessera.compiler.geometry import Geometry
from tessera.compiler.lower_wgmma import PRODUCTS, ROWS, SharedOperand
from tessera.compiler.matmul_operand import Matrices
from tessera.compiler.operand_map import OperandMap, batch_places, operand_map
from tessera.compiler.staged_tiles import StagedTiles, with_most_stages
from tessera.compiler.tile_result import place_numbered
from tessera.compiler.warp_result import WARP_BYTES, write_warp_sums
from tessera.compiler.writer import Name
from tessera.program.dim import Dim, ceildiv, minimum, product

CONSUMERS = 256
"""Threads that multiply: two warpgroups."""
THREADS = CONSUMERS + 128
"""Threads of a block."""
RESIDENT = 132
"""Blocks: one on each multiprocessor of an H100 or H200. A GPU that has fewer starts fewer."""
_ROW = 128
"""Bytes of a swizzled row, the depth of a tile."""
_STEP = 32
"""Bytes of depth of one instruction."""
_BARRIERS_BYTES = 256
_LEAST_STAGES, _MOST_STAGES = 3, 8
Shape = tuple[Dim, ...]
_PRODUCER_REGISTERS, _CONSUMER_REGISTERS = 40, 232
"""Three warpgroups start with 168 each; these add up to as many."""


@dataclass(frozen=True, slots=True)
class Ring(StagedTiles):
    """The tiles of a block."""

    line_bytes: ClassVar[int] = _ROW

    @property
    def sums_at(self) -> int:
        """Where the warps' shared memory for sums begins."""
        return self.stages * self.stage_bytes

    @property
    def barriers_at(self) -> int:
        """Where the barriers begin: of full stages, then of empty ones."""
        return self.sums_at + CONSUMERS // 32 * WARP_BYTES

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        return self.barriers_at + _BARRIERS_BYTES


def choose_ring(columns: int, shared_bytes: int) -> Ring | None:
    """The ring for tiles of that many columns with as many stages as fit; None where too few do."""
    return with_most_stages(partial(Ring, ROWS, columns), _LEAST_STAGES, _MOST_STAGES, shared_bytes)


def multiplies_boxes(matrices: Matrices) -> bool:
    """Whether warpgroups multiply these operands as copies bring them: tf32 too, which these round."""
    product = matrices.product
    if product.name not in (*PRODUCTS, "tf32"):
        return False
    return all(matrices.along_depth) or product.dtype.itemsize == 2


def find_maps(shapes: tuple[Shape, Shape], matrices: Matrices, ring: Ring) -> tuple[OperandMap, ...]:
    """The maps of both operands; nothing where one cannot have any.

    Args:
        shapes: Of the operands.
        matrices: The product.
        ring: The tiles.
    """
    found: list[OperandMap] = []
    for position, lines in enumerate((ring.rows, ring.columns)):
        one = operand_map(shapes[position], matrices, position, _ROW, lines)
        if one is None:
            return ()
        found.append(one)
    return tuple(found)


def tma_kernel(body: Body, root: int, matrices: Matrices, ring: Ring) -> Geometry:
    """A persistent kernel of `wgmma` for operands that have tensor maps.

    Args:
        body: Takes the text.
        root: The node that is written.
        matrices: The product.
        ring: The block's tiles.
    """
    return _Persistent(body, root, matrices, ring).write()


class _Persistent:
    def __init__(self, body: Body, root: int, matrices: Matrices, ring: Ring) -> None:
        self.body, self.writer = body, body.writer
        self.root, self.matrices, self.ring = root, matrices, ring
        nodes = body.graph.nodes
        self.shape = nodes[matrices.core].shape
        self.depth = nodes[matrices.operands[0]].shape[-1]
        itemsize = matrices.product.dtype.itemsize
        lines = (ring.rows, ring.columns)
        self.layouts = [SharedOperand(lines[i], itemsize, matrices.along_depth[i]) for i in range(2)]
        left, right = (nodes[operand].shape for operand in matrices.operands)
        self.maps = find_maps((left, right), matrices, ring)
        self.tiles = [ceildiv(self.shape[-2], ring.rows), ceildiv(self.shape[-1], ring.columns)]
        self.batch_size = product(self.shape[:-2])

    def write(self) -> Geometry:
        """The kernel."""
        writer, ring = self.writer, self.ring
        count = self.batch_size * self.tiles[0] * self.tiles[1]
        self.map_names = [self.body.tensor_map(found) for found in self.maps]
        memory = writer.declare("memory", "cuda.shared.array(0, uint8, 1024)")
        writer.line("thread = int64(cuda.threadIdx.x)")
        writer.line(f"start = int64(gpu.shared_address({memory}, 0))")
        writer.line(f"full = start + {ring.barriers_at}")
        writer.line(f"empty = full + {8 * ring.stages}")
        with writer.block("if thread == 0"):
            with writer.block(f"for stage in range({ring.stages})"):
                writer.line("gpu.mbarrier_init(full + 8 * stage, 1)")
                writer.line("gpu.mbarrier_init(empty + 8 * stage, 2)")
            writer.line("gpu.fence_mbarrier_init()")
        writer.line("cuda.syncthreads()")
        writer.line(f"steps = int64({writer.size(ceildiv(self.depth, self.layouts[0].depth))})")
        writer.line("tile = int64(cuda.blockIdx.x)")
        writer.line(f"tiles = int64({writer.size(count)})")
        writer.line("slot = int64(0)")
        writer.line("phase = int64(0)")
        with writer.block(f"if thread >= {CONSUMERS}"):
            writer.line(f"gpu.setmaxnreg_dec({_PRODUCER_REGISTERS})")
            with writer.block(f"if thread == {CONSUMERS}"):
                self._produce()
            writer.line("return")
        writer.line(f"gpu.setmaxnreg_inc({_CONSUMER_REGISTERS})")
        self._consume()
        return Geometry((minimum(count, RESIDENT), 1, 1), THREADS, ring.shared_bytes, persistent=True)

    def _next(self) -> None:
        """On to the next stage of the ring."""
        writer, stages = self.writer, self.ring.stages
        writer.line("slot += 1")
        writer.line(f"phase = phase ^ 1 if slot == {stages} else phase")
        writer.line(f"slot = int64(0) if slot == {stages} else slot")

    def _place(self) -> Name:
        return place_numbered(self.writer, self.tiles, self.ring.rows, self.ring.columns, self.batch_size)

    # -- the producer ---------------------------------------------------------------------------

    def _produce(self) -> None:
        writer = self.writer
        for name in self.map_names:
            writer.line(f"gpu.tma_prefetch({name})")
        with writer.block("while tile < tiles"):
            batch = self._place()
            places = [
                batch_places(self.body, self.matrices, i, found, batch) for i, found in enumerate(self.maps)
            ]
            with writer.block("for step in range(steps)"):
                writer.line("ready = full + 8 * slot")
                # A barrier that nobody has used yet counts as complete in the phase before its first.
                with writer.block("while not gpu.mbarrier_try_wait_parity(empty + 8 * slot, phase ^ 1)"):
                    pass
                writer.line(f"gpu.mbarrier_arrive_expect_bytes(ready, {self.ring.stage_bytes})")
                writer.line(f"at = start + slot * {self.ring.stage_bytes}")
                for position, first in enumerate(("first_row", "first_column")):
                    self._copy(position, first, places[position])
                self._next()
            writer.line("tile += int64(cuda.gridDim.x)")

    def _copy(self, position: int, first: str, places: list[Name]) -> None:
        """The copies of one operand's tile: one, or one for every 64 lines that lie across."""
        layout, name = self.layouts[position], self.map_names[position]
        depth = f"step * {layout.depth}"
        base = self.layouts[0].bytes if position else 0
        across = "".join(f", {place}" for place in places)
        rank = 2 + len(places)
        if layout.along_depth:
            parts = [(0, f"{depth}, {first}")]
        else:
            parts = [
                (i * layout.lines_bytes, f"{first} + {64 * i}, {depth}") for i in range(layout.outer // 64)
            ]
        for offset, place in parts:
            to = f"at + {base + offset}"
            self.writer.line(f"gpu.tma_load_{rank}d({to}, {name}, {place}{across}, ready)")

    # -- the consumers --------------------------------------------------------------------------

    def _consume(self) -> None:
        writer, ring = self.writer, self.ring
        writer.line("lane = thread & 31")
        writer.line("warp = thread >> 5")
        # The 64 lines of A that this thread's warpgroup multiplies.
        writer.line(f"a_read = (thread >> 7) * {self.layouts[0].lines_bytes}")
        writer.line(f"stage_at = start + {ring.sums_at} + warp * {WARP_BYTES}")
        with writer.block("while tile < tiles"):
            batch = self._place()
            writer.line(f"c = gpu.zeros_{self.matrices.product.sums}({ring.columns // 2})")
            writer.line("before = int64(-1)")
            with writer.block("for _ in range(steps)"):
                with writer.block("while not gpu.mbarrier_try_wait_parity(full + 8 * slot, phase)"):
                    pass
                self._multiply()
                self._release("before >= 0")
                writer.line("before = slot")
                self._next()
            writer.line("c = gpu.wgmma_wait(0, c)")
            self._release(None)
            writer.line("first_row += warp * 16")
            write_warp_sums(
                self.body, self.root, self.matrices, columns=ring.columns, stage="stage_at", batch=batch
            )
            writer.line("tile += int64(cuda.gridDim.x)")

    def _release(self, condition: str | None) -> None:
        """Give the stage before back to the producer."""
        one = "(thread & 127) == 0"
        with self.writer.block(f"if {one} and {condition}" if condition else f"if {one}"):
            self.writer.line("gpu.mbarrier_arrive(empty + 8 * before)")

    def _multiply(self) -> None:
        writer = self.writer
        a, b = self.layouts
        kind, flags = self.matrices.product.name, ""
        writer.line(f"a_at = start + slot * {self.ring.stage_bytes} + a_read")
        writer.line(f"b_at = start + slot * {self.ring.stage_bytes} + {a.bytes}")
        writer.line("gpu.wgmma_fence()")
        if not (a.along_depth and b.along_depth):
            kind += "_trans"
            flags = f", {int(not a.along_depth)}, {int(not b.along_depth)}"
        for step in range(_ROW // _STEP):
            left, right = a.descriptor("a_at", step), b.descriptor("b_at", step)
            writer.line(f"c = gpu.wgmma_{kind}(c, {left}, {right}, 1{flags})")
        writer.line("gpu.wgmma_commit()")
        writer.line("c = gpu.wgmma_wait(1, c)")
