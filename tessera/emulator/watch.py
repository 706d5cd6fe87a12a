"""The observer of one block of threads: what an engine calls. Barriers and masks are checked here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import numpy as np

from tessera.emulator.accesses import AccessObserver
from tessera.emulator.findings import BlockStoppedError, Findings, Point
from tessera.emulator.lanes import Array
from tessera.emulator.observed import BlockView, LaunchState
from tessera.emulator.ptx import Instruction
from tessera.emulator.shadow import Regions

WARP = 32
WHOLE_WARP = ("mma", "wmma", "ldmatrix", "stmatrix", "movmatrix", "wgmma", "setmaxnreg")
"""Opcodes that name no lanes: every one takes part."""
FENCES = ("membar", "fence")


class Watch(AccessObserver):
    """Callbacks of an engine that runs one block.

    Args:
        found: Where findings go.
        memory: Regions of device memory.
        launch: What the blocks of this launch share.
        view: The block.
        steps: Basic blocks after which the block counts as one that never ends.
    """

    def __init__(
        self, found: Findings, memory: Regions, launch: LaunchState, view: BlockView, steps: int
    ) -> None:
        super().__init__(found, memory, launch, view)
        self._steps = steps

    def executing(self, instruction: Instruction, threads: Array) -> None:
        """The threads with these numbers execute an instruction; accesses that follow belong to it."""
        self._instruction, self._threads = instruction, threads
        if instruction.opcode in FENCES:
            self._order.fence(threads)
        elif instruction.opcode == "cp":
            self._copies.execute(instruction, threads)

    def arrived(self, threads: Array, barrier: int) -> None:
        """The threads passed `bar.arrive`."""
        self._order.arrive(threads, barrier)

    def arrived_at_cluster(self, threads: Array, cluster: Point) -> None:
        """The threads came to the barrier of their cluster."""
        self._order.publish("cluster", threads, np.full(len(threads), hash(cluster)))

    def passed_cluster(self, threads: Array, cluster: Point) -> None:
        """The threads passed the barrier of their cluster: they are behind all who came."""
        self._order.observe("cluster", threads, np.full(len(threads), hash(cluster)))

    def synchronized(
        self, places: Mapping[int, Instruction], at: Array, waiting: Array, alive: Array, barrier: int, *,
        whole_block: bool,
    ) -> None:  # fmt: skip
        """A barrier completes.

        Args:
            places: The barrier instruction by basic block.
            at: Basic block of each thread.
            waiting: Which threads wait at this barrier.
            alive: Which threads have not returned.
            barrier: Its number.
            whole_block: Whether it is for the whole block, rather than for a number of threads.
        """
        threads = np.flatnonzero(waiting)
        if whole_block:
            self._check_whole(places, at, threads, alive)
        self._order.synchronize(threads, barrier)

    def _check_whole(
        self, places: Mapping[int, Instruction], at: Array, threads: Array, alive: Array
    ) -> None:
        instruction = places[int(at[threads[0]])]
        gone = np.flatnonzero(~alive)
        if gone.size:
            text = (
                f"{_count(len(threads), 'thread')} of the block wait at this barrier, but "
                f"{_count(len(gone), 'thread')} (first: {self._thread_text(int(gone[0]))}) returned "
                "without coming to it"
            )
            self._report("divergent-barrier", instruction, threads[:1], text, count=len(gone))
            return
        elsewhere = threads[at[threads] != at[threads[0]]]
        if elsewhere.size:
            other = places[int(at[elsewhere[0]])]
            text = (
                f"{_count(len(threads) - len(elsewhere), 'thread')} of the block wait at this barrier, "
                f"{_count(len(elsewhere), 'thread')} (first: {self._thread_text(int(elsewhere[0]))}) at "
                f"{self._line_text(other)}"
            )
            side = self._other(int(elsewhere[0]), "barrier", other)
            self._report(
                "divergent-barrier", instruction, threads[:1], text, other=side, count=len(elsewhere)
            )

    def converged(self, instruction: Instruction, threads: Array, masks: Array) -> None:
        """Lanes execute a warp-wide instruction together.

        Args:
            instruction: Which.
            threads: Numbers of the threads in the block.
            masks: The mask that each of them names.
        """
        self._instruction, self._threads = instruction, threads
        if "sync" not in instruction.modifiers and "warp" not in instruction.modifiers:
            return
        lanes = threads % WARP
        missing = (masks >> lanes.astype(np.uint32)) & 1 == 0
        if missing.any() and instruction.opcode not in WHOLE_WARP:
            first = int(np.flatnonzero(missing)[0])
            text = (
                f"lane {int(lanes[first])} executes {instruction.mnemonic} with the mask "
                f"{int(masks[first]):#010x}, which does not name it"
            )
            self._report("bad-mask", instruction, threads[missing], text)
        for warp in np.unique(threads // WARP):
            here = threads // WARP == warp
            for mask in np.unique(masks[here]):
                together = threads[here & (masks == mask)]
                self._order.synchronize(together)

    def shuffled(self, instruction: Instruction, taking_part: Array, sources: Array, masks: Array) -> None:
        """Lanes read registers of other lanes.

        Args:
            instruction: The shuffle.
            taking_part: By thread of the block: whether it executes the shuffle.
            sources: By thread: whose register it reads.
            masks: By thread: the lanes that it names.
        """
        threads = np.flatnonzero(taking_part)
        sources = sources[threads]
        inside = (sources >= 0) & (sources < len(taking_part))
        bad = ~inside | ~taking_part[np.where(inside, sources, 0)]
        if "sync" in instruction.modifiers:
            bad |= (masks[threads] >> (sources % WARP).astype(np.uint32)) & 1 == 0
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            lane = int(sources[first]) % WARP
            text = (
                f"lane {int(threads[first]) % WARP} reads the value of lane {lane}, "
                "which takes no part in the shuffle: it is undefined"
            )
            self._report("inactive-lane", instruction, threads[bad], text)

    def stuck(self, waits: Mapping[int, Instruction], at: Array, alive: Array) -> NoReturn:
        """No thread can go on.

        Args:
            waits: The instruction at which threads wait, by basic block.
            at: Basic block of each thread.
            alive: Which threads have not returned.
        """
        places = sorted({int(i) for i in at[alive]})
        parts = []
        for place in places:
            there = np.flatnonzero(alive & (at == place))
            parts.append(
                f"{_count(len(there), 'thread')} (first: {self._thread_text(int(there[0]))}) "
                f"at {self._line_text(waits[place])}"
            )
        gone = int((~alive).sum())
        if gone:
            parts.append(f"{_count(gone, 'thread')} returned")
        instruction = waits[places[0]]
        warp_wide = "sync" in instruction.modifiers and instruction.opcode not in ("bar", "barrier")
        kind = "bad-mask" if warp_wide or "warp" in instruction.modifiers else "deadlock"
        if kind == "deadlock" and len(places) > 1 and all(_is_barrier(waits[p]) for p in places):
            kind = "divergent-barrier"
        what = "the lanes that the mask names never meet" if kind == "bad-mask" else "threads wait for ever"
        threads = np.flatnonzero(alive & (at == places[0]))
        other = None
        if len(places) > 1:
            second = int(np.flatnonzero(alive & (at == places[1]))[0])
            other = self._other(second, "barrier", waits[places[1]])
        self._report(kind, instruction, threads, f"{what}: {'; '.join(parts)}", other=other)
        raise BlockStoppedError(f"{self.view.kernel}: {what}")

    def count_step(self, steps: int) -> None:
        """The block has executed that many basic blocks.

        Raises:
            BlockStoppedError: They are too many.
        """
        if steps > self._steps:
            text = f"this block has not ended after {self._steps} basic blocks"
            self.failed("runaway", text)
            raise BlockStoppedError(f"{self.view.kernel}: {text}")

    def took(self, thread: int, address: int, size: int) -> None:
        """A thread got memory from `malloc`."""
        text = f"{size} bytes from malloc are never freed"
        self._memory.heap[address] = self._finding(
            "leak", self._current(), np.array([thread]), text, space="global", at=address, size=size
        )

    def failed(self, kind: str, text: str) -> None:
        """The block ended by force: `failed` or `runaway`."""
        if self._instruction is not None:
            self._report(kind, self._instruction, self._threads, text)


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"


def _is_barrier(instruction: Instruction) -> bool:
    return instruction.opcode in ("bar", "barrier") and "warp" not in instruction.modifiers
