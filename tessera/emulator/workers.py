"""A grid's blocks on several threads of the host."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.emulator import layout as at
from tessera.emulator.native import NativeKernel
from tessera.emulator.translate import Translation

PARKED_BYTES = 1 << 30
"""Memory for the states of blocks that gave way to others."""
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Fault:
    """A block that did not end, as its state has it."""

    code: int
    state: State


class State:
    """Memory of one running block: registers, waiting lanes, shared and local memory."""

    def __init__(
        self, translation: Translation, context: np.ndarray[Any, Any], threads: tuple[int, int, int]
    ):
        layout = translation.layout
        count = threads[0] * threads[1] * threads[2]
        warps = -(-count // 32)
        self.layout, self.warps = layout, warps
        self.shared_bytes = int(context[at.CONTEXT["shared_bytes"] // 8])
        shared = at.align(self.shared_bytes, 256)
        local = translation.local_bytes * warps * 32
        size = layout.state_bytes(warps)
        self._memory = np.zeros(size + shared + local + 1024, np.uint8)
        skip = -self._memory.ctypes.data % 256
        self.bytes = self._memory[skip : skip + size]
        self.address = int(self.bytes.ctypes.data)
        shared_at = at.align(self.address + size, 256)
        local_at = shared_at + shared
        self.header = self.bytes[: at.SITES].view(np.int64)
        self.header[at.BLOCK["shared"] // 8] = shared_at
        for w in range(warps):
            area = self.warp(w)
            area[at.WARP_ID : at.WARP_ID + 4].view(np.int32)[0] = w
            lanes = min(count - 32 * w, 32)
            area[at.FIRST_MASK : at.FIRST_MASK + 4].view(np.uint32)[0] = (1 << lanes) - 1
            area[at.LOCAL_BASE : at.LOCAL_BASE + 8].view(np.int64)[0] = (
                local_at + w * 32 * translation.local_bytes
            )
            thread = np.arange(32) + 32 * w
            for axis, index in (
                ("x", thread % threads[0]),
                ("y", thread // threads[0] % threads[1]),
                ("z", thread // (threads[0] * threads[1])),
            ):
                area[at.TID[axis] : at.TID[axis] + 128].view(np.int32)[:] = index

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self._memory.nbytes)

    def warp(self, index: int) -> np.ndarray[Any, Any]:
        """The area of one warp."""
        start = self.layout.warps_at + index * self.layout.warp_bytes
        return self.bytes[start : start + self.layout.warp_bytes]

    def word(self, name: str) -> int:
        """A number of the header."""
        return int(self.header[at.BLOCK[name] // 8])


class Grid:
    """One launch: hands out blocks to workers, ends all of them at the first fault."""

    def __init__(
        self,
        code: Callable[[], NativeKernel],
        translation: Translation,
        context: np.ndarray[Any, Any],
        sizes: tuple[int, int, int],
        threads: tuple[int, int, int],
    ) -> None:
        self.code = code
        self.translation = translation
        self.context = context
        self.threads = threads
        self.blocks = sizes[0] * sizes[1] * sizes[2]
        self.next = 0
        self.lock = threading.Lock()
        self.fault: Fault | None = None

    def execute(
        self, pool: Executor, workers: int, when_long: Callable[[], None], long_seconds: float
    ) -> Fault | None:
        """Run all blocks; the first fault, if any.

        Raises:
            KeyboardInterrupt: Interrupted; the blocks were stopped first.
        """
        count = min(workers, self.blocks)
        # Chunks are small enough to share the load, and to swap in better code.
        self.chunk = max(1, min(4096, self.blocks // (count * 16)))
        futures = {pool.submit(self.work) for _ in range(count)}
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

    def take(self) -> tuple[int, int]:
        """The next blocks to run; an empty range when all are taken."""
        with self.lock:
            first = self.next
            self.next = min(first + self.chunk, self.blocks)
            return first, self.next

    def new_state(self) -> State:
        """State for one more block."""
        return State(self.translation, self.context, self.threads)

    def work(self) -> None:
        """One worker: blocks in order, and in between those that gave way."""
        context = int(self.context.ctypes.data)
        state = self.new_state()
        parked: deque[State] = deque()
        while not self.context[at.CONTEXT["stop"] // 8]:
            full = len(parked) * state.size > PARKED_BYTES
            first, last = (0, 0) if full else self.take()
            while first < last:
                # Held by name while it runs: better code may take its place, and free it, meanwhile.
                native = self.code()
                code = native.run_blocks(context, state.address, first, last)
                if code == at.DONE:
                    break
                if code != at.YIELD:
                    self.report(Fault(code, state))
                    return
                first = state.word("number") + 1
                parked.append(state)
                state = self.new_state()
            if not parked:
                if last == self.blocks:
                    return
                continue
            resumed = parked.popleft()
            native = self.code()
            code = native.run_block(context, resumed.address)
            if code == at.YIELD:
                parked.append(resumed)
            elif code != at.DONE:
                self.report(Fault(code, resumed))
                return

    def report(self, fault: Fault) -> None:
        """Keep the first fault and stop the others."""
        with self.lock:
            stopped = fault.code == at.FAULT and fault.state.word("fault_kind") == 5
            if self.fault is None and not stopped:
                self.fault = fault
        self.stop()
