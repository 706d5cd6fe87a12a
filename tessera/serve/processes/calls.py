"""A front's socket to one owner: requests out, answers in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import msgspec

from tessera.serve.inputs import Arrays
from tessera.serve.processes.arena import Arena
from tessera.serve.processes.frames import (
    KIND_CANCEL,
    KIND_DONE,
    KIND_FAILED,
    KIND_LAYOUT,
    KIND_MEMORY,
    KIND_RUN,
    NUMBER,
    RUN,
    FailedFrame,
    FrameReader,
    error_of,
    frame,
)
from tessera.serve.processes.layout import Layout

MAX_LAYOUTS = 4096
"""Layouts that an owner keeps of one front. Sizes are the clients' choice: there is no end to them."""


class Call:
    """One request on its way: its block stays taken until no process touches it any more.

    Args:
        layout: What its block looks like.
        arena: Has the block.
        answer: Resolves to the outputs by name.
        deadline_s: When nobody waits any more, by CLOCK_MONOTONIC.
    """

    __slots__ = ("_arena", "answer", "block", "deadline_s", "layout", "link", "number", "order", "tries")

    def __init__(
        self, layout: Layout, arena: Arena, answer: asyncio.Future[Arrays], deadline_s: float
    ) -> None:
        self.layout = layout
        self.answer = answer
        self.deadline_s = deadline_s
        self.block, self.order = arena.take(layout.size_bytes)
        self._arena = arena
        self.tries = 0
        """Owners that were asked."""
        self.link: OwnerLink | None = None
        self.number = 0
        """What the link calls it."""

    def finish(self) -> None:
        """The outputs are in the block."""
        if not self.answer.done():
            self.answer.set_result(self.layout.outputs_at(self._arena.memory, self.block))
        self.release()

    def fail(self, error: Exception) -> None:
        """There will be no outputs."""
        if not self.answer.done():
            self.answer.set_exception(error)
        self.release()

    def release(self) -> None:
        """Give the block back."""
        self._arena.give(self.block, self.order)


class OwnerLink(asyncio.Protocol):
    """A connection to an owner.

    Args:
        on_lost: Is told, with the calls that have no answer, when the owner is gone.
    """

    def __init__(self, on_lost: Callable[[OwnerLink, list[Call]], None]) -> None:
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._reader = FrameReader()
        self._calls: dict[int, Call] = {}
        self._next = 0
        self._layouts: dict[Layout, int] = {}
        self._by_number: list[Layout] = []
        self._layout_frames: list[bytes] = []
        self._runs: list[bytes] = []
        self._cancels: list[bytes] = []
        self._flush_scheduled = False
        self.memory: dict[str, Any] = {}
        """What the owner last said of its device's memory."""

    @property
    def in_flight(self) -> int:
        """Calls without an answer."""
        return len(self._calls)

    def send(self, call: Call) -> None:
        """Let the owner run `call`. It is written at the end of this turn of the loop."""
        number = self._next
        while number in self._calls:
            number = (number + 1) & 0xFFFFFFFF
        self._next = (number + 1) & 0xFFFFFFFF
        self._calls[number] = call
        call.link, call.number = self, number
        call.tries += 1
        layout = self._layouts.get(call.layout)
        if layout is None:
            layout = self._introduce(call.layout)
        self._runs.append(RUN.pack(number, layout, call.block, call.deadline_s))
        self._schedule()

    def cancel(self, call: Call) -> None:
        """Nobody waits for `call`: if it still waits in the owner's queue, it is never run."""
        if self._calls.get(call.number) is call:
            self._cancels.append(NUMBER.pack(call.number))
            self._schedule()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ready."""
        # uvloop's transports are none by inheritance.
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        """Answers came."""
        for kind, payload in self._reader.feed(data):
            if kind == KIND_DONE:
                for (number,) in NUMBER.iter_unpack(payload):
                    self._calls.pop(number).finish()
            elif kind == KIND_FAILED:
                failed = msgspec.msgpack.decode(payload, type=FailedFrame)
                self._calls.pop(failed.request).fail(error_of(failed))
            elif kind == KIND_MEMORY:
                self.memory = msgspec.json.decode(payload)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the owner is gone, whatever it was
        """The owner is gone. The kernel says so only after the last of its threads."""
        calls = list(self._calls.values())
        self._calls.clear()
        self._transport = None
        self._on_lost(self, calls)

    def _introduce(self, layout: Layout) -> int:
        number = len(self._by_number)
        if number < MAX_LAYOUTS:
            self._by_number.append(layout)
        else:
            # Any will do: one that is still used is sent again.
            number = self._next % MAX_LAYOUTS
            self._flush()
            del self._layouts[self._by_number[number]]
            self._by_number[number] = layout
        self._layouts[layout] = number
        self._layout_frames.append(frame(KIND_LAYOUT, msgspec.msgpack.encode(layout.framed(number))))
        return number

    def _schedule(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._transport is None:
            return
        frames = self._layout_frames
        if self._runs:
            frames.append(frame(KIND_RUN, b"".join(self._runs)))
        if self._cancels:
            frames.append(frame(KIND_CANCEL, b"".join(self._cancels)))
        if frames:
            self._transport.write(b"".join(frames))
        self._layout_frames, self._runs, self._cancels = [], [], []
