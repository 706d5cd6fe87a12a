"""Replicas that take virtual time, fail on command, and remember what they ran."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from small_models import linear_program

from tessera.serve.batcher import RequestBatcher, Ticket
from tessera.serve.inputs import Prepared, prepare
from tessera.serve.service import Phase


class VirtualModel:
    """What a replica says of its model."""

    program = linear_program()
    version = "1"
    device = "virtual"


class VirtualReplica:
    """A device with the server's own batcher, whose batches take `seconds(requests)` of virtual time.

    It is source and backend in one: a balancer that loads it anew gets it with a fresh batcher.
    """

    reopens = True

    def __init__(
        self,
        name: str,
        seconds: Callable[[int], float] = lambda n: 1.0,
        *,
        workers: int = 1,
        max_batch_size: int = 1,
    ) -> None:
        self.name = name
        self.workers = workers
        self.max_batch_size = max_batch_size
        self.max_queue = 1000
        self.seconds = seconds
        self.model = VirtualModel()
        self.version = "1"
        self.error: Exception | None = None
        self.stuck: asyncio.Event | None = None
        self.started: list[tuple[float, list[int]]] = []
        self.finished: list[int] = []
        self.loads = self.probes = 0
        self.phase = Phase.LOADING
        self.loaded = False

    def make(self, observer: Any) -> VirtualReplica:
        self.batcher = RequestBatcher(
            self._run,
            max_batch_size=self.max_batch_size,
            max_queue=self.max_queue,
            workers=self.workers,
            clock=asyncio.get_running_loop().time,
        )
        return self

    @property
    def waiting(self) -> int:
        return self.batcher.waiting

    @property
    def running(self) -> int:
        return self.batcher.running

    async def load(self) -> None:
        self.loads += 1
        await self.probe()
        self.loaded = True

    async def probe(self) -> None:
        self.probes += 1
        if self.stuck is not None:
            await self.stuck.wait()
        await asyncio.sleep(self.seconds(1))
        if self.error is not None:
            raise self.error

    async def infer(self, data: Any, *, timeout_s: float | None = None) -> Any:
        return (await self.infer_all(data, timeout_s=timeout_s))["output"]

    async def infer_all(self, data: Any, *, timeout_s: float | None = None) -> dict[str, Any]:
        prepared = data if isinstance(data, Prepared) else prepare(self.model.program, data)
        rows = prepared.arrays["x"].shape[0]
        return await self.batcher.submit(prepared.arrays, rows=rows, key="k", timeout_s=timeout_s)

    async def drain(self) -> None:
        await self.batcher.drain()

    def abort(self) -> None:
        self.batcher.abort()

    def memory_usage(self) -> dict[str, Any]:
        return {"device": "virtual"}

    def close(self, timeout_s: float) -> bool:
        return True

    async def _run(self, batch: Sequence[Ticket]) -> list[dict[str, Any]]:
        numbers = [int(ticket.inputs["x"][0, 0]) for ticket in batch]
        self.started.append((asyncio.get_running_loop().time(), numbers))
        if self.stuck is not None:
            await self.stuck.wait()
        await asyncio.sleep(self.seconds(len(batch)))
        if self.error is not None:
            raise self.error
        self.finished.extend(numbers)
        return [{"output": ticket.inputs["x"][:, :3] * 10} for ticket in batch]


def request(number: int, rows: int = 1) -> Any:
    """An input whose answer tells which request it was."""
    return np.full((rows, 4), number, np.float32)
