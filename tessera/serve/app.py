"""The ASGI application: from a connection's bytes to an endpoint and back.

It is a bare ASGI callable, with Starlette's path patterns, headers and responses but without
its middleware: that halves the cost of a request, and every error has one form.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from tessera.serve.answer import Answer, answer_for, error_answer, json_answer
from tessera.serve.encoding import decoded
from tessera.serve.endpoints import Endpoint, Match, Routes
from tessera.serve.observe.context import CURRENT, RequestContext
from tessera.serve.observe.requests import Telemetry, spans_of_users
from tessera.serve.request import CALLER, Request, RequestError
from tessera.serve.security.access import Gate
from tessera.serve.security.origin import check_origin
from tessera.serve.workers import WorkerPool

logger = logging.getLogger("tessera.serve")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]

WATCH_AFTER_S = 0.005
"""How long a request runs before its connection is watched. Most are done by then, and watching
costs a task."""

UNPACKING_THREADS = 2
"""Bodies that may be unpacked at once. The C library keeps for each thread what a large body took there:
with a thread for every endpoint, bombs would leave two gigabytes behind."""

HANDLER_THREADS = 32
"""Endpoints written as plain functions that may run at once."""


CONTEXT = "tessera.context"
"""Where the scope of a direct request holds what it is called."""

_MAX_DIRECT = 256
_MAX_DIRECT_PATH = 200
"""Paths whose endpoints are remembered, and their length: most requests go to few paths."""


class App:
    """Endpoints as an ASGI application.

    Args:
        routes: What there is.
        max_body_bytes: Most bytes of a body.
        request_timeout_s: Longest that a request may take, its body included.
        telemetry: Counts, traces and writes down; None: nothing does.
        gate: Says who may ask, and how often; None: everybody, always.
        admin: Whether operators' endpoints are answered here.
        startup: Awaited before the first request, where another server runs this application.
        shutdown: Awaited after the last one.
    """

    def __init__(
        self,
        routes: Routes,
        *,
        max_body_bytes: int,
        request_timeout_s: float,
        telemetry: Telemetry | None = None,
        gate: Gate | None = None,
        admin: bool = False,
        startup: Callable[[], Awaitable[None]] | None = None,
        shutdown: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._routes = routes
        self._max_body_bytes = max_body_bytes
        self._timeout_s = request_timeout_s
        self._telemetry = telemetry or Telemetry()
        self._gate = gate
        self._admin = admin
        self._startup = startup
        self._shutdown = shutdown
        self._handlers: WorkerPool | None = None
        self._unpackers: WorkerPool | None = None
        self._direct: dict[tuple[str, str], Match] = {}
        self.closing = False
        """Whether every answer also ends its connection."""
        self.aborting = False
        """Whether requests that are cancelled now are answered 503: their time to finish is over."""
        self.active = 0
        """Requests being answered."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003, "reason": "this server speaks HTTP only"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_s = time.perf_counter()
        match = self._routes.match(scope["path"])
        context = self._telemetry.begin(scope["headers"], started_s)
        token = CURRENT.set(context)
        self.active += 1
        try:
            answer = await self._answer(match, scope, receive)
            if answer is None:
                return
            more = self._identity(context)
            if isinstance(answer, Answer):
                status = answer.status
                headers = answer.raw_headers(close=self.closing)
                if more:
                    headers += more
                await send({"type": "http.response.start", "status": status, "headers": headers})
                await send({"type": "http.response.body", "body": b"".join(answer.parts)})
            else:
                status = answer.status_code
                answer.raw_headers += more
                await answer(scope, receive, send)
        finally:
            self.active -= 1
            CURRENT.reset(token)
        self._answered(context, scope, match, status, started_s)

    async def _answer(self, match: Match | None, scope: Scope, receive: Receive) -> Answer | Response | None:
        """The response; None if the client is gone."""
        try:
            self._admit(scope)
            endpoint = _allowed(match, scope, self._routes)
            if endpoint.admin:
                if not self._admin:
                    raise _for_operators(endpoint)
                own = scope.get("server")
                check_origin(scope["headers"], own[0] if own else None)
            async with asyncio.timeout(self._timeout_s) as limit:
                body = b""
                if endpoint.reads_body:
                    read = await self._read_body(scope, receive, limit)
                    if read is None:
                        return None
                    body = await self._decoded(scope, read)
                    context = CURRENT.get()
                    if context is not None and context.trace is not None:
                        context.trace.body_s = time.perf_counter()
                params = match.path_params if match else {}
                return await self._call(endpoint, Request(scope, body, params), receive)
        except TimeoutError as error:
            return self.overdue_answer() if limit.expired() else answer_for(error, _name(scope))
        except asyncio.CancelledError:
            if not self.aborting:
                raise
            return stopped_answer()
        except _Disconnected:
            return None
        except Exception as error:  # noqa: BLE001 - whatever an endpoint raises has an answer, and a log entry
            return answer_for(error, _name(scope))

    async def _call(self, endpoint: Endpoint, request: Request, receive: Receive) -> Answer | Response:
        context = CURRENT.get()
        with (
            spans_of_users(context)
            if context is not None and self._telemetry.is_tracing and not endpoint.is_default
            else nullcontext()
        ):
            return await self._called(endpoint, request, receive)

    async def _called(self, endpoint: Endpoint, request: Request, receive: Receive) -> Answer | Response:
        async with _Watch(receive):
            if endpoint.is_async:
                value = await endpoint.call(request)
            else:
                context = contextvars.copy_context()
                value = await self._threads().run(partial(context.run, endpoint.call, request))
                if inspect.isawaitable(value):
                    value = await value
        return value if isinstance(value, Answer | Response) else json_answer(value)

    # The direct way: connections that hold the whole body need no ASGI messages, no timer and no watcher
    # of their own for each request.

    @property
    def request_timeout_s(self) -> float:
        """Longest that a request may take, its body included."""
        return self._timeout_s

    def direct(self, method: str, path: str, headers: RawHeaders, length: int | None) -> Match | None:
        """The endpoint of a request that may be answered by `respond`; None: it has to go through ASGI.

        Args:
            method: Of the request.
            path: Of the request.
            headers: Names in lower case.
            length: Of the body, as far as it is known.
        """
        if length is not None and length > self._max_body_bytes:
            return None
        for name, _ in headers:
            if name == b"content-encoding":
                return None
        key = (method, path)
        match = self._direct.get(key)
        if match is None:
            match = self._routes.match(path)
            if match is None or not match.endpoint.is_direct or method not in match.endpoint.methods:
                return None
            if len(self._direct) >= _MAX_DIRECT or len(path) > _MAX_DIRECT_PATH:
                self._direct.clear()
            self._direct[key] = match
        return match

    def enter(self, scope: Scope, started_s: float) -> None:
        """A direct request begins, and is counted until `leave`.

        Raises:
            RequestError: Its caller is not let in.
        """
        self.active += 1
        scope[CONTEXT] = self._telemetry.begin(scope["headers"], started_s)
        self._admit(scope)

    def check_size(self, size: int) -> None:
        """A body may have `size` bytes.

        Raises:
            RequestError: It may not (413).
        """
        if size > self._max_body_bytes:
            raise _too_large(size, self._max_body_bytes)

    async def respond(self, match: Match, scope: Scope, body: bytes) -> Answer | Response:
        """What the endpoint answers; its errors are answers too. In a task of its own."""
        context = scope[CONTEXT]
        CURRENT.set(context)
        if context.trace is not None:
            context.trace.body_s = time.perf_counter()
        try:
            if self._telemetry.is_tracing and not match.endpoint.is_default:
                with spans_of_users(context):
                    value = await match.endpoint.call(Request(scope, body, match.path_params))
            else:
                value = await match.endpoint.call(Request(scope, body, match.path_params))
            return value if isinstance(value, Answer | Response) else json_answer(value)
        except Exception as error:  # noqa: BLE001 - whatever an endpoint raises has an answer, and a log entry
            return answer_for(error, _name(scope))

    def leave(self, match: Match, scope: Scope, status: int | None, started_s: float) -> None:
        """A direct request ends, with an answer of that status; None: nobody waits for one any more."""
        self.active -= 1
        if status is not None:
            self._answered(scope[CONTEXT], scope, match, status, started_s)

    def identified(self, scope: Scope, answer: Answer) -> Answer:
        """The answer to a direct request, with what it says of the request's identity."""
        more = self._identity(scope[CONTEXT])
        if not more:
            return answer
        named = {k.decode("latin-1"): v.decode("latin-1") for k, v in more}
        return replace(answer, headers={**answer.headers, **named})

    def identify(self, scope: Scope, response: Response) -> None:
        """As `identified`, for a response that is sent by itself."""
        response.raw_headers += self._identity(scope[CONTEXT])

    def _identity(self, context: RequestContext) -> list[tuple[bytes, bytes]]:
        if context.trace is not None:
            context.trace.answered_s = time.perf_counter()
        return self._telemetry.headers(context)

    def _answered(
        self, context: RequestContext, scope: Scope, match: Match | None, status: int, started_s: float
    ) -> None:
        client = scope.get("client")
        self._telemetry.answered(
            context,
            scope["method"],
            match.endpoint.path if match else "(none)",
            scope["path"],
            status,
            (started_s, time.perf_counter()),
            client[0] if client else None,
        )

    def _threads(self) -> WorkerPool:
        if self._handlers is None:
            self._handlers = WorkerPool(HANDLER_THREADS, "tessera-endpoint")
        return self._handlers

    def close(self) -> None:
        """Let the endpoints' threads end."""
        for pool in (self._handlers, self._unpackers):
            if pool is not None:
                pool.close(1.0)
        self._handlers = self._unpackers = None

    async def _read_body(self, scope: Scope, receive: Receive, limit: asyncio.Timeout) -> bytes | None:
        """The whole body; None if the client is gone before its end."""
        length = next((v for k, v in scope["headers"] if k == b"content-length"), None)
        if length is not None and int(length) > self._max_body_bytes:
            raise _too_large(int(length), self._max_body_bytes)
        chunks: list[bytes] = []
        total = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                chunk = message.get("body", b"")
                total += len(chunk)
                if total > self._max_body_bytes:
                    raise _too_large(total, self._max_body_bytes)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        except asyncio.CancelledError as error:
            if not limit.expired():
                raise
            raise self.slow_body(total) from error

    def slow_body(self, size: int) -> RequestError:
        """The error of a body of which only `size` bytes came in time."""
        # The rest may still come: the connection cannot be used again.
        return RequestError(
            f"{size} bytes of the body came in {self._timeout_s:g} s, and not the rest",
            status=HTTPStatus.REQUEST_TIMEOUT,
            headers={"Connection": "close"},
        )

    def overdue_answer(self) -> Answer:
        """The answer to a request that took too long."""
        return error_answer(
            HTTPStatus.GATEWAY_TIMEOUT,
            f"no answer within request_timeout_s = {self._timeout_s:g} s",
            "send less at once, or raise request_timeout_s",
        )

    def _admit(self, scope: Scope) -> None:
        if self._gate is not None:
            client = scope.get("client")
            scope[CALLER] = self._gate.admit(scope["path"], scope["headers"], client[0] if client else None)

    async def _decoded(self, scope: Scope, body: bytes) -> bytes:
        """`body` unpacked. In a thread: 64 MiB take 0.2 s."""
        codings = [v.decode("latin-1") for k, v in scope["headers"] if k == b"content-encoding"]
        if not codings:
            return body
        if self._unpackers is None:
            self._unpackers = WorkerPool(UNPACKING_THREADS, "tessera-unpack")
        return await self._unpackers.run(partial(decoded, body, ", ".join(codings), self._max_body_bytes))

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            if self._startup is not None:
                await self._startup()
        except Exception as error:
            logger.exception("the server cannot start")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._shutdown is not None:
            await self._shutdown()
        await send({"type": "lifespan.shutdown.complete"})


class _Disconnected(Exception):  # noqa: N818
    """The client is gone; nobody waits for an answer."""


class _Watch:
    """Cancels the current task when the client hangs up, and turns that into `_Disconnected`."""

    __slots__ = ("_gone", "_receive", "_task", "_timer", "_watcher")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._start)

    def _start(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        if self._task is not None:
            self._task.cancel()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._gone and self._task is not None:
            self._task.uncancel()
            raise _Disconnected


def _allowed(match: Match | None, scope: Scope, routes: Routes) -> Endpoint:
    if match is None:
        raise RequestError(
            f"there is nothing at {scope['path'][:200]!r}",
            hint="there is: " + ", ".join(routes.paths),
            status=HTTPStatus.NOT_FOUND,
        )
    endpoint = match.endpoint
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    if method not in endpoint.methods:
        raise RequestError(
            f"{endpoint.path} does not take {scope['method']}",
            hint=f"it takes {', '.join(endpoint.methods)}",
            status=HTTPStatus.METHOD_NOT_ALLOWED,
            headers={"Allow": ", ".join(endpoint.methods)},
        )
    return endpoint


def _for_operators(endpoint: Endpoint) -> RequestError:
    return RequestError(
        f"{endpoint.path} is for operators, and not answered on this port",
        hint="ask the port that the server's setting admin_port names",
        status=HTTPStatus.FORBIDDEN,
    )


def stopped_answer() -> Answer:
    """The answer to a request that the server's end broke off."""
    return error_answer(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "the server stopped before the request was done",
        "send it again",
        {"Retry-After": "1"},
    )


def _too_large(size: int, limit: int) -> RequestError:
    return RequestError(
        f"the body has {size} bytes or more; the limit is {limit}",
        hint="send fewer rows at once, or raise max_body_bytes",
        status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    )


def _name(scope: Scope) -> str:
    return f"{scope['method']} {scope['path']}"
