"""Inference over gRPC: one request and its answer, and streams of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from tessera.program.errors import OverloadedError
from tessera.serve.grpc.protocol.inference_pb2 import (
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
)
from tessera.serve.grpc.status import failure_for
from tessera.serve.grpc.tensors import infer_response, read_request
from tessera.serve.inference_protocol import infer_within, timeout_s
from tessera.serve.models.registry import Registry
from tessera.serve.request import RequestError
from tessera.serve.shared_memory.regions import Regions

STREAM_DEPTH = 64
"""Requests of one stream that are worked on at once; the next is read when the first is answered."""

_ERRORS_END_STREAM = ("triton_grpc_error", "true")
"""Metadata of a client that wants an error of one request to end the stream, with its status."""

Answer = asyncio.Task[ModelStreamInferResponse]


@dataclass(frozen=True, slots=True)
class Ended:
    """Why there are no more answers on a stream."""

    error: Exception | None
    """What ended it; None: the client sent its last request."""


class Inference:
    """Answers requests with the models of a registry.

    Args:
        registry: The models.
        regions: The shared memory that tensors may lie in.
        request_timeout_s: Longest that a request may take.
    """

    def __init__(self, registry: Registry, regions: Regions, request_timeout_s: float) -> None:
        self._regions = regions
        self._registry = registry
        self._timeout_s = request_timeout_s
        self._readers: set[asyncio.Task[None]] = set()
        self._stopping = False

    def end_streams(self) -> None:
        """Read no more requests of any stream; those that were read are answered."""
        self._stopping = True
        for reader in self._readers:
            reader.cancel()

    async def infer(self, request: ModelInferRequest) -> ModelInferResponse:
        """The answer to `request`. Cancelling takes it out of the queue.

        Raises:
            TesseraError: It has none, and why.
        """
        backend = self._registry.resolve(request.model_name, request.model_version)
        asked = read_request(backend.model.program, request, self._regions)
        limit_s = timeout_s(asked.parameters)
        limit_s = self._timeout_s if limit_s is None else min(limit_s, self._timeout_s)
        outputs = await infer_within(backend, asked.inputs, limit_s)
        head = ModelInferResponse(model_name=backend.name, model_version=backend.version, id=request.id)
        return infer_response(asked, outputs, head)

    async def stream(
        self, requests: AsyncIterator[ModelInferRequest], metadata: Sequence[tuple[str, str]]
    ) -> AsyncIterator[ModelStreamInferResponse]:
        """Answers in the order of the requests, which are worked on at the same time.

        A request that fails is answered with its error, and the stream goes on; for a client that
        asks so it ends with the error's status.

        Args:
            requests: As the client sends them.
            metadata: What it sent beside them.
        """
        pending: asyncio.Queue[Answer | Ended] = asyncio.Queue()
        slots = asyncio.Semaphore(STREAM_DEPTH)
        strict = _ERRORS_END_STREAM in map(tuple, metadata)
        reader = asyncio.create_task(self._read(requests, pending, slots, strict=strict))
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        if self._stopping:
            reader.cancel()
        try:
            while isinstance(answer := await pending.get(), asyncio.Task):
                yield await answer
                slots.release()
            if answer.error is not None:
                raise answer.error
        finally:
            reader.cancel()
            while not pending.empty():
                if isinstance(left := pending.get_nowait(), asyncio.Task):
                    left.cancel()

    async def _read(
        self,
        requests: AsyncIterator[ModelInferRequest],
        pending: asyncio.Queue[Answer | Ended],
        slots: asyncio.Semaphore,
        *,
        strict: bool,
    ) -> None:
        error: Exception | None = None
        try:
            # A slot first: a request that was read is never dropped.
            await slots.acquire()
            async for request in requests:
                pending.put_nowait(asyncio.create_task(self._answer(request, strict=strict)))
                await slots.acquire()
        except asyncio.CancelledError:
            error = OverloadedError("the server is stopping", hint="open the stream again", retry_after_s=1)
        except RequestError as damaged:
            error = damaged
        pending.put_nowait(Ended(error))

    async def _answer(self, request: ModelInferRequest, *, strict: bool) -> ModelStreamInferResponse:
        try:
            response = await self.infer(request)
        except Exception as error:
            if strict:
                raise
            failure = failure_for(error, "ModelStreamInfer")
            # The id says which request it was.
            failed = ModelInferResponse(
                model_name=request.model_name, model_version=request.model_version, id=request.id
            )
            return ModelStreamInferResponse(error_message=failure.text, infer_response=failed)
        response.parameters["triton_final_response"].bool_param = True
        return ModelStreamInferResponse(infer_response=response)
