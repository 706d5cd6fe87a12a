"""The gRPC server: its port, its calls, and a stop that loses no request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError

from tessera.program.errors import OverloadedError, ServeError
from tessera.serve.config import ServerConfig
from tessera.serve.grpc.credentials import credentials_of
from tessera.serve.grpc.inference import Inference
from tessera.serve.grpc.methods import Methods, Parts, Unary
from tessera.serve.grpc.protocol import health_pb2 as health
from tessera.serve.grpc.protocol import inference_pb2 as pb
from tessera.serve.grpc.status import Failure, failure_for, http_status
from tessera.serve.observe.context import CURRENT
from tessera.serve.request import RequestError
from tessera.serve.security.access import Gate
from tessera.serve.shared_memory.regions import check_client

logger = logging.getLogger("tessera.serve")

LINGER_S = 0.25
"""How long new calls are still taken after the stop began. One may be on its way."""

_FREE = frozenset({"ServerLive", "ServerReady", "Check", "Watch"})
"""Probes: orchestrators have no keys."""


class Call(Protocol):
    """A call on its way, as gRPC gives it."""

    def invocation_metadata(self) -> Sequence[tuple[str, str]] | None:
        """What the client sent beside the message."""

    def peer(self) -> str:
        """Where it comes from."""

    async def abort(self, code: grpc.StatusCode, details: str, metadata: Sequence[tuple[str, str]]) -> None:
        """End it with a status; raises."""


Parse = Callable[[bytes], Any]
"""Makes a message of what came."""


class Observer(Protocol):
    """Is told about every call."""

    def called(self, method: str, code: str, seconds: float) -> None:
        """A call ended with a status, such as `OK` or `INVALID_ARGUMENT`."""


class GrpcServer:
    """Serves models on a port of its own, on the loop that it is made on.

    Args:
        parts: What the server has.
        gate: Says who may ask, and how often; None: everybody, always.
    """

    def __init__(self, parts: Parts, gate: Gate | None) -> None:
        self._config = config = parts.config
        self._gate = gate
        self._observer: Observer | None = parts.metrics
        self._inference = Inference(parts.registry, parts.regions, config.request_timeout_s)
        self._methods = Methods(parts, self._inference)
        self._telemetry = parts.telemetry
        self._calls: set[asyncio.Task[Any]] = set()
        self._aborting = False
        self._server = grpc.aio.server(options=_options(config))
        self._server.add_generic_rpc_handlers((self._service(pb.SERVICE), self._service(health.SERVICE)))
        self._stopped: asyncio.Task[bool] | None = None

    async def start(self, host: str, port: int) -> str:
        """Listen on `host` and `port` (0: any free one), and serve; the address for clients on this machine.

        Raises:
            ServeError: The address is taken, not allowed or unknown.
            ConfigError: A certificate cannot be read.
        """
        address = _joined(host, port)
        credentials = credentials_of(self._config)
        try:
            if credentials is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise ServeError(
                f"cannot listen for gRPC on {address}",
                hint=f"ss -ltnp 'sport = :{port}' shows by whom it is used; grpc_port 0 picks a free one",
                host=host,
                port=port,
            ) from error
        await self._server.start()
        return _joined({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), bound)  # noqa: S104 - compared

    def begin_stop(self) -> None:
        """Begin to stop: finish what was accepted, then close the port."""
        if self._stopped is None:
            self._stopped = asyncio.create_task(self._stop(self._config.drain_timeout_s))

    async def stop(self) -> bool:
        """Stop; says whether every call was finished within `drain_timeout_s`."""
        self.begin_stop()
        return self._stopped is None or await self._stopped

    async def _stop(self, drain_timeout_s: float) -> bool:
        self._methods.end_watches()
        deadline_s = time.monotonic() + drain_timeout_s
        await asyncio.sleep(min(LINGER_S, drain_timeout_s))
        self._inference.end_streams()
        closed = asyncio.ensure_future(self._server.stop(drain_timeout_s + 1.0))
        while self._calls and time.monotonic() < deadline_s:
            await asyncio.wait(set(self._calls), timeout=max(0.0, deadline_s - time.monotonic()))
        drained = not self._calls
        if not drained:
            self._abort(len(self._calls))
        await closed
        return drained

    def _abort(self, count: int) -> None:
        logger.error("%d gRPC calls were not finished within drain_timeout_s", count)
        self._aborting = True
        for call in list(self._calls):
            call.cancel()

    def _service(self, service: Any) -> grpc.GenericRpcHandler:
        """The handlers of those methods of `service` that there are; gRPC answers UNIMPLEMENTED to others."""
        handlers: dict[str, grpc.RpcMethodHandler] = {}
        for method in service.methods:
            request, response = (
                getattr(pb if service is pb.SERVICE else health, kind.name)
                for kind in (method.input_type, method.output_type)
            )
            make, call = self._handler(method.name, partial(_parsed, request))
            if call is not None:
                handlers[method.name] = make(call, response_serializer=response.SerializeToString)
        return grpc.method_handlers_generic_handler(service.full_name, handlers)

    def _handler(
        self, name: str, parse: Parse
    ) -> tuple[Callable[..., grpc.RpcMethodHandler], Callable[..., Any] | None]:
        if name == "ModelStreamInfer":
            return grpc.stream_stream_rpc_method_handler, partial(self._stream, parse)
        if name == "Watch":
            return grpc.unary_stream_rpc_method_handler, partial(self._watch, parse)
        call = self._methods.check if name == "Check" else self._methods.unary.get(name)
        if name == "ModelInfer" and self._telemetry.is_needed:
            return grpc.unary_unary_rpc_method_handler, partial(self._observed, parse)
        return grpc.unary_unary_rpc_method_handler, call and partial(self._unary, name, call, parse)

    async def _unary(self, name: str, call: Unary, parse: Parse, raw: bytes, context: Call) -> Any:
        started_s = time.perf_counter()
        task = self._entered()
        code = "OK"
        try:
            self._admit(name, context)
            return await call(parse(raw))
        except asyncio.CancelledError:
            code = "CANCELLED"
            if not self._aborting:
                raise
            code = "UNAVAILABLE"
            await _fail(context, _stopped())
        except Exception as error:  # noqa: BLE001 - whatever a method raises has a status, and a log entry
            failure = failure_for(error, name)
            code = failure.code.name
            await _fail(context, failure)
        finally:
            self._left(task, name, code, started_s)

    async def _observed(self, parse: Parse, raw: bytes, context: Call) -> Any:
        """As `_unary` for inference, with a trace and a line in the access log."""
        started_s = time.perf_counter()
        headers = [(_as_bytes(k), _as_bytes(v)) for k, v in context.invocation_metadata() or ()]
        request = self._telemetry.begin(headers, started_s)
        token = CURRENT.set(request)
        ended = _Ended(context)
        gone = False
        try:
            return await self._unary("ModelInfer", self._inference.infer, parse, raw, ended)
        except asyncio.CancelledError:
            gone = True
            raise
        finally:
            CURRENT.reset(token)
            if not gone:
                path = f"/{pb.SERVICE.full_name}/ModelInfer"
                times_s = (started_s, time.perf_counter())
                status = http_status(ended.code)
                client = _address(context.peer())
                self._telemetry.answered(request, "POST", path, path, status, times_s, client)

    async def _stream(self, parse: Parse, raws: AsyncIterator[bytes], context: Call) -> AsyncIterator[Any]:
        started_s = time.perf_counter()
        task = self._entered()
        code = "OK"
        try:
            self._admit("ModelStreamInfer", context)
            requests = (parse(raw) async for raw in raws)
            async for response in self._inference.stream(requests, context.invocation_metadata() or ()):
                yield response
        except (asyncio.CancelledError, GeneratorExit):
            code = "CANCELLED"
            if not self._aborting:
                raise
            code = "UNAVAILABLE"
            await _fail(context, _stopped())
        except Exception as error:  # noqa: BLE001 - whatever a request raises has a status, and a log entry
            failure = failure_for(error, "ModelStreamInfer")
            code = failure.code.name
            await _fail(context, failure)
        finally:
            self._left(task, "ModelStreamInfer", code, started_s)

    async def _watch(self, parse: Parse, raw: bytes, context: Call) -> AsyncIterator[Any]:
        try:
            request = parse(raw)
        except RequestError as error:
            await _fail(context, failure_for(error, "Watch"))
            return
        async for response in self._methods.watch(request):
            yield response

    def _entered(self) -> asyncio.Task[Any]:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - gRPC runs every call in a task
        self._calls.add(task)
        return task

    def _left(self, task: asyncio.Task[Any], name: str, code: str, started_s: float) -> None:
        self._calls.discard(task)
        if self._observer is not None:
            self._observer.called(name, code, time.perf_counter() - started_s)

    def _admit(self, name: str, context: Call) -> None:
        if name == "SystemSharedMemoryRegister":
            check_client(_address(context.peer()))
        if self._gate is None or name in _FREE:
            return
        metadata = dict(context.invocation_metadata() or ())
        authorization, api_key = metadata.get("authorization"), metadata.get("x-api-key")
        self._gate.admit_credentials(authorization, api_key, _address(context.peer()))


def _options(config: ServerConfig) -> list[tuple[str, int]]:
    return [
        # Two servers would share the port without a word, and a client would reach either. Processes of
        # one server do share it; their supervisor has seen that nobody else is there.
        ("grpc.so_reuseport", int(config.processes > 1)),
        ("grpc.max_receive_message_length", min(config.max_body_bytes, (1 << 31) - 1)),
        ("grpc.max_send_message_length", -1),
        ("grpc.server_handshake_timeout_ms", 20_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]


def _parsed(kind: Any, raw: bytes) -> Any:
    """The message in `raw`. In the handler, because gRPC would answer UNKNOWN and log a traceback.

    Raises:
        RequestError: There is none.
    """
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise RequestError(f"{len(raw)} bytes came that are no {kind.DESCRIPTOR.full_name}") from error


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(peer: str) -> str:
    """The address in `ipv4:127.0.0.1:50051` or `ipv6:%5B::1%5D:50051`."""
    return peer.partition(":")[2].rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")


class _Ended:
    """A call that remembers how it ended."""

    def __init__(self, call: Call) -> None:
        self.code: grpc.StatusCode | None = None
        self.invocation_metadata = call.invocation_metadata
        self.peer = call.peer
        self._call = call

    async def abort(self, code: grpc.StatusCode, details: str, metadata: Sequence[tuple[str, str]]) -> None:
        self.code = code
        await self._call.abort(code, details, metadata)


def _as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1")


async def _fail(context: Call, failure: Failure) -> None:
    """End the call; does not come back."""
    await context.abort(failure.code, failure.text, failure.metadata)


def _stopped() -> Failure:
    error = OverloadedError(
        "the server stopped before the request was done", hint="send it again", retry_after_s=1
    )
    return failure_for(error, "")
