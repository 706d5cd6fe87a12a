"""A grid's blocks on several threads of the host.

A block runs until it ends, has used up its turn, or has looked in vain for what others are to do. Then it is
set aside, and another one begins or goes on, as many as the GPU would hold at once. When all that have begun
look in vain, turn after turn, and no other may begin, they wait for ever.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tessera.emulator import layout as at
from tessera.emulator.geometry import ALONE, Point, cluster_at
from tessera.emulator.native import NativeKernel
from tessera.emulator.states import ClusterState, State
from tessera.emulator.translate import Translation

PARKED_BYTES = 1 << 30
"""Memory for the states of blocks that used up their turn; those that wait for others may take more."""
POLL_SECONDS = 0.05
MANY_TURNS = 64
"""Turns of blocks that get on by themselves after which another one begins nevertheless."""
QUIET_LAPS = 200
"""Turns of all of a worker's blocks, in which nothing happened, after which they may be waiting for ever."""
ENDED = 1 << 60
"""Quiet laps of a worker that has none left."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A block that did not end, as its state has it."""

    code: int
    state: State
    waiting: Sequence[State] = ()
    """Of a deadlock: all blocks that wait."""
    left: int = 0
    """Of a deadlock: blocks that have not begun, as the GPU holds no more."""
    resident: int = 0
    """Of a deadlock: blocks that it holds at once."""


@dataclass(slots=True)
class Worker:
    """What one thread of the host has to do."""

    number: int
    first: int = 0
    last: int = 0
    """Blocks that it has taken and not begun: from `first` to before `last`."""
    parked: deque[ClusterState] = field(default_factory=deque)
    """Blocks that gave way to others."""
    spare: ClusterState | None = None
    """Memory for the next ones."""
    turns: int = 0
    """Turns left until each parked block had one."""
    quiet: bool = True
    """Whether nothing has happened in this lap."""
    moving: bool = False
    """Whether the block that had the last turn did more than look, and gave way nevertheless."""
    since: int = 0
    """Turns since a block began."""
    counts: np.ndarray[Any, Any] | None = None
    """(plan.size,) uint64: what its blocks counted; None: they do not count."""

    @property
    def may_begin(self) -> bool:
        """Whether another block should begin: not as long as those that have begun get on by themselves."""
        return not self.parked or not self.moving or self.since >= MANY_TURNS


class Grid:
    """One launch: hands out blocks to workers, ends all of them at the first fault.

    Args:
        code: Gives the fastest code that there is by now.
        translation: The kernel's.
        context: What the launch's blocks have in common.
        sizes: Blocks by axis.
        threads: Threads by axis.
        cluster: Blocks of a cluster by axis.
        resident: Blocks that the GPU holds at once.
    """

    def __init__(
        self,
        code: Callable[[], NativeKernel],
        translation: Translation,
        context: np.ndarray[Any, Any],
        sizes: Point,
        threads: Point,
        cluster: Point = ALONE,
        resident: int = 1 << 60,
    ) -> None:
        self.code = code
        self.translation = translation
        self.context = context
        self.threads = threads
        self.sizes = sizes
        self.cluster = cluster
        self.together = cluster[0] * cluster[1] * cluster[2]
        """Blocks of a cluster."""
        self.blocks = sizes[0] * sizes[1] * sizes[2]
        self.resident = max(resident, self.together)
        self.next = 0
        """Blocks handed out."""
        self.begun = 0
        """Of these, that have begun and not ended."""
        self.lock = threading.Lock()
        self.fault: Fault | None = None
        self.workers: list[Worker] = []
        self.laps: list[int] = []
        """By worker: laps since anything happened in one."""
        self.suspected: list[int] = []
        """By worker: laps that make a deadlock certain; empty while there is no sign of one."""

    def execute(
        self, pool: Executor, workers: int, when_long: Callable[[], None], long_seconds: float
    ) -> Fault | None:
        """Run all blocks; the first fault, if any.

        Raises:
            KeyboardInterrupt: Interrupted; the blocks were stopped first.
        """
        count = min(workers, self.blocks // self.together, max(self.resident // self.together, 1))
        # Chunks are small enough to share the load, and to swap in better code.
        self.chunk = max(1, min(4096, self.blocks // (count * 16))) if self.together == 1 else self.together
        self.workers = [Worker(i, counts=self.new_counters()) for i in range(count)]
        self.laps = [0] * count
        futures = {pool.submit(self.work, worker) for worker in self.workers}
        start, told = time.perf_counter(), False
        pending = futures
        try:
            while pending:
                _, pending = wait(pending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                if not told and time.perf_counter() - start > long_seconds:
                    told = True
                    when_long()
        except BaseException:
            self.stop()
            wait(futures)
            raise
        for future in futures:
            future.result()
        return self.fault

    def stop(self) -> None:
        """Make every block end soon."""
        self.context[at.CONTEXT["stop"] // 8] = 1

    @property
    def stopped(self) -> bool:
        """Whether the launch is to end."""
        return bool(self.context[at.CONTEXT["stop"] // 8])

    # -- beginning ------------------------------------------------------------------------------

    def take(self) -> tuple[int, int]:
        """The next blocks to run; an empty range when all are taken."""
        with self.lock:
            first = self.next
            self.next = min(first + self.chunk, self.blocks)
            return first, self.next

    def room(self) -> bool:
        """Make room for one more cluster among those that have begun, if the GPU holds it."""
        with self.lock:
            if self.begun + self.together > self.resident:
                return False
            self.begun += self.together
            return True

    def new_counters(self) -> np.ndarray[Any, Any] | None:
        """Counters for a worker, all zero."""
        plan = self.translation.plan
        return None if plan is None else np.zeros(max(plan.size, 1), np.uint64)

    def new_state(self, worker: Worker) -> ClusterState:
        """State for one more cluster of a worker."""
        states = [State(self.translation, self.context, self.threads) for _ in range(self.together)]
        if worker.counts is not None:
            for state in states:
                state.header[at.BLOCK["counters"] // 8] = worker.counts.ctypes.data
        return ClusterState(states)

    def ended(self, worker: Worker, unit: ClusterState) -> None:
        """All blocks of a cluster have ended."""
        with self.lock:
            self.begun -= self.together
        worker.spare = unit

    # -- working --------------------------------------------------------------------------------

    def work(self, worker: Worker) -> None:
        """One worker: blocks in order, and in between those that gave way."""
        while not self.stopped:
            parked = sum(unit.size for unit in worker.parked)
            full = parked > PARKED_BYTES and not self.laps[worker.number]
            if worker.first == worker.last and not full:
                worker.first, worker.last = self.take()
            if worker.first < worker.last and not full and worker.may_begin and self.room():
                self.begin(worker)
            elif not worker.parked:
                if worker.first == worker.last:
                    break
                # Others hold all the room there is.
                self.end_lap(worker)
                time.sleep(0.0005)
            if worker.parked and not self.stopped:
                self.resume(worker)
        self.laps[worker.number] = ENDED

    def begin(self, worker: Worker) -> None:
        """Run blocks that have not begun, until one gives way or all that were taken have ended."""
        unit = worker.spare or self.new_state(worker)
        unit.running = list(unit.states)
        worker.spare, worker.since = None, 0
        self.laps[worker.number] = 0
        # Held by name while it runs: better code may take its place, and free it, meanwhile.
        native = self.code()
        context = int(self.context.ctypes.data)
        if self.together > 1:
            indices = cluster_at(self.sizes, self.cluster, worker.first // self.together)
            for member, (x, y, z) in zip(unit.states, indices, strict=True):
                native.begin_block(context, member.address, x + self.sizes[0] * (y + self.sizes[1] * z))
            worker.first = worker.last
            worker.parked.appendleft(unit)
            return
        (state,) = unit.states
        code = native.run_blocks(context, state.address, worker.first, worker.last)
        if code == at.DONE:
            worker.first = worker.last
            self.ended(worker, unit)
            return
        worker.first = state.word("number") + 1
        if code in (at.YIELD, at.POLL):
            worker.moving = False
            worker.parked.append(unit)
        else:
            self.report(Fault(code, state))
            self.ended(worker, unit)

    def resume(self, worker: Worker) -> None:
        """Give the blocks that gave way longest ago another turn."""
        unit = worker.parked.popleft()
        before, count = unit.happened, len(unit.running)
        busy = False
        for state in list(unit.running):
            native = self.code()
            code = native.run_block(int(self.context.ctypes.data), state.address)
            if code == at.DONE:
                unit.running.remove(state)
            elif code in (at.YIELD, at.POLL):
                busy |= code == at.YIELD
            else:
                self.report(Fault(code, state))
                unit.running.remove(state)
        worker.moving = not busy and (len(unit.running) < count or unit.happened != before)
        worker.since += 1
        if busy or worker.moving:
            worker.quiet = False
        if unit.running:
            worker.parked.append(unit)
        else:
            self.ended(worker, unit)
        worker.turns -= 1
        if worker.turns <= 0:
            worker.turns = len(worker.parked)
            self.end_lap(worker)

    def end_lap(self, worker: Worker) -> None:
        """Each of a worker's blocks had a turn: report a deadlock if nothing will ever happen again.

        Quiet laps of all workers need not have been at the same time. When all have seen many, each must see
        two more before it is certain.
        """
        with self.lock:
            self.laps[worker.number] = self.laps[worker.number] + 1 if worker.quiet else 0
            worker.quiet = True
            if min(self.laps) < QUIET_LAPS:
                self.suspected = []
                return
            if not self.suspected:
                self.suspected = [min(laps + 2, ENDED) for laps in self.laps]
            if any(laps < wanted for laps, wanted in zip(self.laps, self.suspected, strict=True)):
                return
        waiting = [state for other in self.workers for unit in other.parked for state in unit.running]
        if waiting:
            left = self.blocks - self.next + sum(other.last - other.first for other in self.workers)
            self.report(Fault(at.DEADLOCK, waiting[0], tuple(waiting), left, self.resident))

    def report(self, fault: Fault) -> None:
        """Keep the first fault and stop the others."""
        with self.lock:
            stopped = fault.code == at.FAULT and fault.state.word("fault_kind") == 5
            if self.fault is None and not stopped:
                self.fault = fault
        self.stop()
