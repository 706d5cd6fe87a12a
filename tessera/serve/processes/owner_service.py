"""The model in its owner process: requests of all fronts in one queue, tensors in the fronts' memory."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Hashable, Sequence
from mmap import mmap
from typing import Any, cast

import msgspec

from tessera.program.errors import OverloadedError, ServeError
from tessera.serve.batcher import RequestBatcher, Ticket
from tessera.serve.inputs import Arrays
from tessera.serve.processes.frames import (
    KIND_CANCEL,
    KIND_DONE,
    KIND_LAYOUT,
    KIND_MEMORY,
    KIND_RUN,
    NUMBER,
    RUN,
    FrameReader,
    LayoutFrame,
    failed_frame,
    frame,
)
from tessera.serve.processes.layout import Layout, layout_from
from tessera.serve.service import Service

logger = logging.getLogger("tessera.serve")


class Reply:
    """Where the outputs of one request go: into its block, and a word to its front."""

    __slots__ = ("_block", "_done", "_error", "_gone", "_layout", "_link", "_number", "deadline_s")

    def __init__(self, link: FrontLink, number: int, layout: Layout, block: int, deadline_s: float) -> None:
        self._link = link
        self._number = number
        self._layout = layout
        self._block = block
        self._done = False
        self._gone = False
        self._error: Exception | None = None
        self.deadline_s = deadline_s
        """When nobody waits any more, by CLOCK_MONOTONIC."""

    def done(self) -> bool:
        """Whether the front was told, or is gone."""
        return self._done

    def cancelled(self) -> bool:
        """Whether the front is gone."""
        return self._gone

    def exception(self) -> BaseException | None:
        """Why there are no outputs."""
        return self._error

    def write(self, outputs: Arrays) -> None:
        """Copy the outputs into the block. In a worker thread.

        Raises:
            ServeError: The model gave something else than its program says.
        """
        for part in self._layout.outputs:
            value = outputs[part.name]
            if value.shape != part.shape:
                raise ServeError(
                    f"output {part.name!r} of the model has shape {value.shape}; it should have {part.shape}"
                )
            part.at(self._link.memory, self._block)[...] = value

    def set_result(self, result: Arrays, /) -> None:  # noqa: ARG002 - `write` has put it where it belongs
        """Tell the front that the outputs are there."""
        if not self._done:
            self._done = True
            self._link.finished(self._number)

    def set_exception(self, exception: Exception, /) -> None:
        """Tell the front why there are none."""
        if not self._done:
            self._done = True
            self._error = exception
            self._link.failed(self._number, exception)

    def forget(self) -> None:
        """The front is gone."""
        self._done = self._gone = True


class OwnerService(Service):
    """A `Service` whose requests come from fronts."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._started_s: list[float] = []

    def busy_s(self) -> float:
        """How long the oldest batch that runs has been running; 0 if none does."""
        return time.monotonic() - self._started_s[0] if self._started_s else 0.0

    async def _run(self, batch: Sequence[Ticket]) -> list[Arrays]:
        """Run those of `batch` for whom somebody still waits."""
        now_s = time.monotonic()
        live = [ticket for ticket in batch if _alive(ticket, now_s)]
        if not live:
            return [{} for _ in batch]
        self._started_s.append(now_s)
        try:
            outputs = await super()._run(live)
        finally:
            self._started_s.remove(now_s)
        if len(live) == len(batch):
            return outputs
        found = {id(ticket): result for ticket, result in zip(live, outputs, strict=True)}
        return [found.get(id(ticket), {}) for ticket in batch]

    def _execute(self, batch: Sequence[Ticket]) -> tuple[list[Arrays], tuple[float, float, float, float]]:
        results, times_s = super()._execute(batch)
        for ticket, outputs in zip(batch, results, strict=True):
            if isinstance(ticket.answer, Reply):
                ticket.answer.write(outputs)
        return results, times_s


def _alive(ticket: Ticket, now_s: float) -> bool:
    """Whether somebody waits for `ticket`; whoever does not wait any more is told why."""
    reply = ticket.answer
    if not isinstance(reply, Reply):
        return not reply.done()
    if reply.deadline_s <= now_s:
        reply.set_exception(TimeoutError("the request's time was over before it ran"))
    return not reply.done()


class _Waiting:
    """A request that this owner has accepted."""

    __slots__ = ("reply", "ticket")

    def __init__(self, ticket: Ticket, reply: Reply) -> None:
        self.ticket = ticket
        self.reply = reply


class FrontLink(asyncio.Protocol):
    """A connection from a front.

    Args:
        batcher: Takes its requests.
        memory: The front's shared memory; unmapped when the last array in it is gone.
        on_lost: Is told when the front is gone.
    """

    def __init__(self, batcher: RequestBatcher, memory: mmap, on_lost: Callable[[FrontLink], None]) -> None:
        self.memory = memory
        """The front's shared memory."""
        # Inputs are the front's: if this process dies, another one runs them again.
        self._inputs = memoryview(memory).toreadonly()
        self._batcher = batcher
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._reader = FrameReader()
        self._layouts: dict[int, tuple[Layout, Hashable]] = {}
        self._waiting: dict[int, _Waiting] = {}
        self._finished: list[bytes] = []
        self._failed: list[bytes] = []
        self._flush_scheduled = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ready."""
        # uvloop's transports are none by inheritance.
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        """Requests came."""
        for kind, payload in self._reader.feed(data):
            if kind == KIND_RUN:
                for number, layout, block, deadline_s in RUN.iter_unpack(payload):
                    self._accept(number, layout, block, deadline_s)
            elif kind == KIND_CANCEL:
                for (number,) in NUMBER.iter_unpack(payload):
                    self._cancel(number)
            elif kind == KIND_LAYOUT:
                sent = msgspec.msgpack.decode(payload, type=LayoutFrame)
                self._layouts[sent.number] = (layout_from(sent), _key(sent))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the front is gone, whatever it was
        """The front is gone, and with it everybody who waited for an answer."""
        self._transport = None
        for waiting in self._waiting.values():
            waiting.reply.forget()
            self._batcher.withdraw(waiting.ticket, "cancelled")
        self._waiting.clear()
        self._on_lost(self)

    def finished(self, number: int) -> None:
        """The outputs of a request are in its block."""
        self._waiting.pop(number, None)
        self._finished.append(NUMBER.pack(number))
        self._schedule()

    def failed(self, number: int, error: Exception) -> None:
        """A request has no outputs."""
        self._waiting.pop(number, None)
        self._failed.append(failed_frame(number, error))
        self._schedule()

    def tell_memory(self, memory: bytes) -> None:
        """Say what the device's memory is used for."""
        if self._transport is not None:
            self._transport.write(frame(KIND_MEMORY, memory))

    def close(self) -> None:
        """Hang up, after what is already said."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _accept(self, number: int, layout_number: int, block: int, deadline_s: float) -> None:
        layout, key = self._layouts[layout_number]
        reply = Reply(self, number, layout, block, deadline_s)
        memory = self._inputs
        inputs = {part.name: part.at(memory, block) for part in layout.inputs}
        if layout.scalars:
            key = (key, *(inputs[name].tobytes() for name in layout.scalars)) if layout.stacked else None
        try:
            ticket = self._batcher.enqueue(inputs, layout.rows, key, reply)
        except OverloadedError as error:
            self.failed(number, error)
            return
        self._waiting[number] = _Waiting(ticket, reply)

    def _cancel(self, number: int) -> None:
        """The front does not wait any more. If the request runs, its block is freed when it is done."""
        waiting = self._waiting.get(number)
        if waiting is not None and self._batcher.withdraw(waiting.ticket, "cancelled"):
            waiting.reply.set_result({})

    def _schedule(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._transport is None:
            return
        frames = self._failed
        if self._finished:
            frames.append(frame(KIND_DONE, b"".join(self._finished)))
        if frames:
            self._transport.write(b"".join(frames))
        self._failed, self._finished = [], []


def _key(sent: LayoutFrame) -> Hashable:
    """Equal for layouts whose requests may be stacked; None: they run alone."""
    if not sent.stacked:
        return None
    return tuple((part.name, part.shape[1:]) for part in sent.inputs)


async def attach_front(
    batcher: RequestBatcher, connection: socket.socket, memory: int, on_lost: Callable[[FrontLink], None]
) -> FrontLink:
    """Serve the front at the other end of `connection`.

    Args:
        batcher: Takes its requests.
        connection: One end of a socket pair.
        memory: Its shared memory; closed here, the mapping stays.
        on_lost: Is told when the front is gone.
    """
    try:
        mapped = mmap(memory, 0)
    finally:
        os.close(memory)
    link = FrontLink(batcher, mapped, on_lost)
    await asyncio.get_running_loop().create_connection(lambda: link, sock=connection)
    return link
