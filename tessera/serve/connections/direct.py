"""A request whose endpoint is called without ASGI's messages between.

Most requests are small, there as a whole when they are first seen, and answered as a whole. For them a
task with a timer, a second task that watches the client, and five messages cost more than the endpoint.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from tessera.serve.answer import Answer, answer_for
from tessera.serve.app import stopped_answer
from tessera.serve.connections.asgi import AsgiExchange, scope_of
from tessera.serve.connections.head import Head
from tessera.serve.endpoints import Match
from tessera.serve.request import RequestError

if TYPE_CHECKING:
    from tessera.serve.connections.connection import Connection


class DirectExchange(AsgiExchange):
    """A request that the application's endpoint answers in a task, once its body is there.

    Args:
        connection: Where it came from.
        head: Its line and headers.
        match: The endpoint.
    """

    __slots__ = ("_is_entered", "_match", "_scope", "_started_s")

    def __init__(self, connection: Connection, head: Head, match: Match) -> None:
        super().__init__(connection, head)
        self._match = match
        self._scope: dict[str, Any] = {}
        self._started_s = 0.0
        self._is_entered = False

    def opened(self) -> None:
        """See who asks, and begin if the body is there."""
        self.is_open = True
        host = self.connection.host
        self._started_s = time.perf_counter()
        self._scope = scope_of(self.connection, self.head)
        self._is_entered = True
        host.limit(self)
        try:
            host.app.enter(self._scope, self._started_s)
            host.app.check_size(self._buffered_bytes)
        except RequestError as error:
            self._refuse(error)
            return
        if self.complete or not self._match.endpoint.reads_body:
            self._begin()
        else:
            self.send_continue()

    def body(self, chunk: bytes) -> None:
        """A part of the request's body came."""
        if self._is_done:
            return
        self._chunks.append(chunk)
        self._buffered_bytes += len(chunk)
        if not self.is_open:
            if self._buffered_bytes > self.connection.host.limits.body_buffer_bytes:
                self.connection.hold_body()
            return
        try:
            self.connection.host.app.check_size(self._buffered_bytes)
        except RequestError as error:
            self._refuse(error)

    def ended(self) -> None:
        """The request is all there."""
        self.complete = True
        if self.is_open and self._task is None and not self._is_done:
            self._begin()

    def lost(self) -> None:
        """The client is gone: nobody waits for an answer."""
        super().lost()
        if self._task is not None:
            self._task.cancel()
        self._leave(None)

    def overdue(self) -> None:
        """It took longer than it may."""
        app = self.connection.host.app
        if self._task is None:
            self._refuse(app.slow_body(self._buffered_bytes))
            return
        self._task.cancel()
        self._answer(app.overdue_answer())

    def abort(self) -> None:
        """The server ends."""
        if self._task is not None:
            self._task.cancel()
        self._answer(stopped_answer())

    def _begin(self) -> None:
        self.connection.release_body()
        self._task = self.connection.host.loop.create_task(self._run())

    async def _run(self) -> None:
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        answer = await self.connection.host.app.respond(self._match, self._scope, body)
        if isinstance(answer, Answer):
            self._answer(answer)
        else:
            await self._stream(answer)

    async def _stream(self, response: Response) -> None:
        """Let a Starlette response send itself."""
        if self._is_done or self._is_gone:
            return
        self._told_end = True
        host = self.connection.host
        host.unlimit(self)
        if self._task is not None:
            host.tasks.add(self._task)
            self._task.add_done_callback(host.tasks.discard)
        host.app.identify(self._scope, response)
        try:
            await response(self._scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - it has an answer, if it is not too late, and a log entry
            failed = answer_for(error, f"{self.head.method} {self.head.target.path}")
            if not self.started:
                self._answer(failed)
                return
        if not self._is_done:
            self._break_off()
        self._leave(response.status_code)

    def _refuse(self, error: RequestError) -> None:
        """Answer without the endpoint, and maybe without the rest of the body."""
        self._answer(answer_for(error, f"{self.head.method} {self.head.target.path}"))

    def _answer(self, answer: Answer) -> None:
        if self._is_done or self._is_gone:
            return
        self._is_done = True
        self._chunks.clear()
        self.send(self.connection.host.app.identified(self._scope, answer))
        self._leave(answer.status)

    def _leave(self, status: int | None) -> None:
        if self._is_entered:
            self._is_entered = False
            host = self.connection.host
            host.unlimit(self)
            host.app.leave(self._match, self._scope, status, self._started_s)
