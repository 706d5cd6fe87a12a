"""The blocks of a launch in the lockstep interpreter, taking turns where they wait for each other.

Blocks run one after the other, as long as none waits for another. One that only waits gives way to the
others; when all that have begun do, the next begins, as far as the GPU would hold so many at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tessera.emulator.clusters import Cluster
from tessera.emulator.geometry import Geometry, cluster_at
from tessera.emulator.polls import waited_at
from tessera.program.errors import DeviceError, TesseraError

if TYPE_CHECKING:
    from tessera.emulator.lockstep import BlockRun

QUANTUM = 4096
"""Basic blocks of a turn."""
QUIET_LAPS = 100
"""Turns of all blocks, in which nothing happened, after which they wait for ever."""
BUSY_LAPS = 8
"""Turns of all blocks, in which something happened but none ended, after which another begins."""
SHOWN = 4
"""Blocks that the message of a deadlock names."""


class GridRun:
    """A launch under way.

    Args:
        begin: Makes the run of a block.
        geometry: Of any of its blocks.
        resident: Blocks that the GPU holds at once.
        failed: Told about a block that ended in an error, which then ends alone; None: the error ends all.
        only: Numbers of the clusters that run; None: all.
    """

    def __init__(
        self,
        begin: Callable[[Geometry], BlockRun],
        geometry: Geometry,
        *,
        resident: int = 1 << 30,
        failed: Callable[[BlockRun, TesseraError], None] | None = None,
        only: Sequence[int] | None = None,
    ) -> None:
        self.begin = begin
        self.geometry = geometry
        self.resident = resident
        self.failed = failed
        self.begun = 0
        """Clusters of blocks that have begun."""
        self.numbers = range(int(np.prod(geometry.clusters))) if only is None else only
        self.left = len(self.numbers) * int(np.prod(geometry.cluster))
        """Blocks that have not begun."""
        self.queue: deque[BlockRun] = deque()
        """Blocks that have begun and not ended; the first has its turn."""
        self.lap = 0
        """Turns left until everybody had one."""
        self.happened = self.busy = False
        """In this lap: whether anything did; whether a turn was used up."""
        self.quiet = 0
        """Laps in which nothing happened."""
        self.laps = 0
        """Laps since a block began."""
        self.turn: tuple[int, int, int] = (0, 0, 0)
        """What the block had done when its turn began: steps, waits in vain, progress."""

    @property
    def block(self) -> BlockRun | None:
        """The block whose turn it is; None once all have ended."""
        while not self.queue and self.start():
            pass
        return self.queue[0] if self.queue else None

    def run(self) -> None:
        """Run all blocks to their ends.

        Raises:
            DeviceError: What a block raised; or blocks wait for each other for ever.
        """
        while self.step():
            pass

    def step(self) -> bool:
        """Execute one instruction of the block whose turn it is; False once all have ended.

        Raises:
            DeviceError: As `run`.
        """
        block = self.block
        if block is None:
            return False
        try:
            going = block.step()
        except TesseraError as error:
            if self.failed is None:
                raise
            self.failed(block, error)
            block.stack.clear()
            going = False
        self.end_step(block, going=going)
        return True

    def end_step(self, block: BlockRun, *, going: bool) -> None:
        """The block has executed an instruction, or (not `going`) has ended: see whose turn it is."""
        if not going:
            self.queue.popleft()
            self.end_turn(happened=True)
        elif block.rests != self.turn[1] or block.steps - self.turn[0] > QUANTUM * len(self.queue):
            self.busy |= block.rests == self.turn[1]
            self.queue.rotate(-1)
            self.end_turn(happened=block.progress != self.turn[2])

    def end_turn(self, *, happened: bool) -> None:
        """The next block's turn begins."""
        self.happened |= happened
        self.lap -= 1
        if self.lap <= 0:
            self.end_lap()
        if self.queue:
            block = self.queue[0]
            self.turn = (block.steps, block.rests, block.progress)

    def end_lap(self) -> None:
        """Everybody had a turn: let another block begin if these get nowhere, or end what never will."""
        still = not self.happened and not self.busy
        self.quiet = self.quiet + 1 if still else 0
        self.laps += 1
        if self.queue and (still or self.busy or self.laps >= BUSY_LAPS):
            self.start()
        self.happened = self.busy = False
        self.lap = len(self.queue)
        if self.quiet > QUIET_LAPS and self.queue:
            self.give_up()

    def start(self) -> bool:
        """Let the next cluster of blocks begin, if there is one and room for it."""
        size = int(np.prod(self.geometry.cluster))
        if self.queue and len(self.queue) + size > self.resident:
            return False
        g = self.geometry
        if self.begun >= len(self.numbers):
            return False
        group = cluster_at(g.grid, g.cluster, self.numbers[self.begun])
        blocks = [self.begin(Geometry(g.grid, g.block, i, g.cluster, g.explicit)) for i in group]
        self.begun += 1
        Cluster(blocks)
        self.left -= len(blocks)
        if not self.queue:
            self.turn = (0, 0, 0)
            self.lap = len(blocks)
        self.queue.extend(blocks)
        self.quiet = self.laps = 0
        return True

    def give_up(self) -> None:
        """The blocks wait for each other for ever."""
        watched = [block for block in self.queue if block.watch is not None]
        if not watched or self.failed is None:
            raise DeviceError(self.message(), kind="deadlock", hint=self.hint())
        for block in watched:
            try:
                block.stuck()
            except TesseraError as error:
                self.failed(block, error)
            block.stack.clear()
        self.queue.clear()
        self.begun = len(self.numbers)

    def message(self) -> str:
        """Who waits where, in words."""
        blocks = list(self.queue)
        parts = [f"block {b.geometry.index}: {places_text(b)}" for b in blocks[:SHOWN]]
        if len(blocks) > SHOWN:
            parts.append(f"{len(blocks) - SHOWN} blocks more")
        if self.left:
            parts.append(
                f"{self.left} blocks have not begun, as the GPU holds {self.resident} of these at once"
            )
        return f"{blocks[0].function.name} is deadlocked: " + "; ".join(parts)

    def hint(self) -> str:
        """What to do about it."""
        if self.left:
            return f"launch at most {self.resident} blocks where blocks wait for later ones"
        return "let somebody arrive at, or write, what these threads wait for"


def places_text(run: BlockRun) -> str:
    """Where the threads of a block wait, in words."""
    top = run.stack[-1]
    parts = []
    for index in np.unique(top.pc[top.alive]):
        threads = np.flatnonzero(top.alive & (top.pc == index))
        instruction = waited_at(top.frame.flow.blocks[int(index)])
        source = f" (source line {instruction.source_line})" if instruction.source_line else ""
        parts.append(
            f"{len(threads)} threads (first: {threads[0]}) at PTX line {instruction.line}{source}, "
            f"{instruction.mnemonic}"
        )
    return ", ".join(parts)
