"""One model being served: loading, checking inputs, batching, answering."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

import numpy as np

from tessera.program.errors import InputError
from tessera.program.program import Program
from tessera.serve.batcher import RequestBatcher, Ticket
from tessera.serve.config import ServerConfig
from tessera.serve.in_place import InPlace
from tessera.serve.inputs import Arrays, Prepared, Preparer, Shapes
from tessera.serve.model import Model, Opener, warm_up
from tessera.serve.observe.model_metrics import ServiceObserver
from tessera.serve.observe.trace import computed
from tessera.serve.refusals import still_loading
from tessera.serve.response_cache import ResponseCache
from tessera.serve.rows import RowRule, row_rule
from tessera.serve.security.tensor_limits import SizeCheck, tensor_limits_of
from tessera.serve.workers import WorkerPool

logger = logging.getLogger("tessera.serve")

Result = np.ndarray[Any, Any] | Arrays


class Phase(Enum):
    """Where a service is in its life."""

    LOADING = "loading"
    """The model is being opened or warmed up."""
    READY = "ready"
    """Requests are answered."""
    DRAINING = "draining"
    """Accepted requests are finished; the server is about to end."""
    STOPPED = "stopped"
    """Nothing is answered any more."""


class Service:
    """A model with a batcher and worker threads. Lives on one event loop.

    Args:
        opener: Opens the model.
        config: Settings.
        observer: Is told what the service and its batcher do.
        name: What clients call it; None: the program's name.
        version: The version that clients see; None: the package's.
    """

    def __init__(
        self,
        opener: Opener,
        config: ServerConfig,
        observer: ServiceObserver | None = None,
        *,
        name: str | None = None,
        version: str | None = None,
    ) -> None:
        self._opener = opener
        self._config = config
        self._observer = observer
        self._name = name
        self._version = version
        self._pool = WorkerPool(config.workers, "tessera-worker")
        self._model: Model | None = None
        self._rule = RowRule(None)
        self._preparer: Preparer
        self._in_place: InPlace | None = None
        self._kinds: dict[Shapes, _Kind] = {}
        self._sizes: SizeCheck
        self._cache = ResponseCache(config.cache_bytes, config.cache_ttl_s) if config.cache_bytes else None
        self.phase = Phase.LOADING
        self.batcher = RequestBatcher(
            self._run,
            max_batch_size=config.max_batch_size,
            max_queue=config.max_queue,
            workers=config.workers,
            max_wait_s=config.batch_timeout_ms / 1000,
            observer=observer,
        )

    @property
    def name(self) -> str:
        """What clients call the model.

        Raises:
            OverloadedError: The package gives the name, and is still being loaded.
        """
        return self.model.program.name if self._name is None else self._name

    @property
    def version(self) -> str:
        """The model's version, as clients see it.

        Raises:
            OverloadedError: The package gives the version, and is still being loaded.
        """
        return self.model.version if self._version is None else self._version

    @property
    def model(self) -> Model:
        """The loaded model.

        Raises:
            OverloadedError: It is still being loaded.
        """
        if self._model is None:
            raise still_loading()
        return self._model

    @property
    def loaded(self) -> bool:
        """Whether there is a model."""
        return self._model is not None

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self.batcher.waiting

    @property
    def running(self) -> int:
        """Batches in execution."""
        return self.batcher.running

    async def load(self) -> None:
        """Open the model and warm it up, off the event loop. Whatever goes wrong is raised."""
        model = await self._pool.run(self._opener)
        self._rule = row_rule(model.program)
        self._sizes = SizeCheck(model.program, tensor_limits_of(self._config))
        if self._rule.symbol is None:
            logger.info("requests to %s run one by one: %s", model.program.name, self._rule.reason)
        seconds = await self._pool.run(
            partial(warm_up, model, self._config.max_batch_size, self._rule.symbol)
        )
        self._in_place = await self._pool.run(partial(self._measured, model))
        self._preparer = Preparer(model.program)
        self._model = model
        if self._observer is not None:
            self._observer.bind(self.name, self.version)
        logger.info(
            "%s is ready on %s, warm-up took %.0f ms", model.program.name, model.device, seconds * 1e3
        )
        if self.phase is Phase.LOADING:
            self.phase = Phase.READY

    async def infer(self, data: Any, *, timeout_s: float | None = None) -> Result:
        """The output for `data`; with several outputs a dict by name.

        Args:
            data: A value for the only input, or a mapping by name; see `inputs.prepare`.
            timeout_s: Longest to wait.

        Raises:
            InputError: `data` is not what the program takes.
            OverloadedError: Too many requests wait, or the model is not loaded, or the server stops.
            TimeoutError: `timeout_s` is over.
        """
        outputs = await self.infer_all(data, timeout_s=timeout_s)
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    async def infer_all(self, data: Any, *, timeout_s: float | None = None) -> Arrays:
        """As `infer`, always by name. What is `Prepared` for this program is not checked again."""
        if self._model is None:
            raise still_loading()
        try:
            prepared = data if isinstance(data, Prepared) else self._preparer.prepare(data)
            kind = self._kind(prepared)
        except InputError:
            if self._observer is not None:
                self._observer.request_rejected("invalid")
            raise
        if self._cache is None:
            return await self._submit(prepared, kind, timeout_s)
        run = partial(self._submit, prepared, kind, timeout_s)
        return await self._cache.through(prepared.arrays, run, self._observer)

    async def _submit(self, prepared: Prepared, kind: _Kind, timeout_s: float | None) -> Arrays:
        return await self.batcher.submit(prepared.arrays, rows=kind.rows, key=kind.key, timeout_s=timeout_s)

    def _kind(self, prepared: Prepared) -> _Kind:
        """What requests of these sizes have in common; they have been found to be within limits.

        Raises:
            InputError: A tensor is too large.
        """
        found = self._kinds.get(prepared.shapes) if prepared.shapes else None
        if found is not None:
            return found
        self._sizes.check(prepared.arrays, prepared.symbols)
        kind = _Kind(*rows_and_key(self.model.program, self._rule, prepared))
        if prepared.shapes:
            if len(self._kinds) >= _MAX_KINDS:
                self._kinds.clear()
            self._kinds[prepared.shapes] = kind
        return kind

    def _measured(self, model: Model) -> InPlace | None:
        try:
            return InPlace(model, self._config.max_batch_size, self._rule.symbol)
        except InputError:
            # It does not take sizes of 1; see warm_up.
            return None

    async def drain(self) -> None:
        """Return when nothing waits or runs. New requests are still taken until `close`."""
        await self.batcher.drain()

    async def probe(self) -> None:
        """Run the model once on zeros, whatever waits. Whatever goes wrong is raised."""
        await self._pool.run(partial(warm_up, self.model, 1, self._rule.symbol))

    def abort(self) -> None:
        """Answer everything that waits or runs with `OverloadedError`, and take nothing more."""
        self.phase = Phase.STOPPED
        self.batcher.abort()

    def memory_usage(self) -> dict[str, Any]:
        """The device's name (None before the model is loaded) and its memory, in bytes by purpose."""
        if self._model is None:
            return {"device": None}
        return {"device": self._model.device, **self._model.memory_usage()}

    def close(self, timeout_s: float) -> bool:
        """Give the model back; says whether every worker thread ended within `timeout_s`."""
        self.phase = Phase.STOPPED
        self.batcher.close()
        if self._cache is not None:
            self._cache.clear()
        ended = self._pool.close(timeout_s)
        if self._model is not None and ended:
            self._model.close()
        return ended

    async def _run(self, batch: Sequence[Ticket]) -> list[Arrays]:
        rows = sum(ticket.rows for ticket in batch)
        in_place = self._in_place
        if in_place is not None and in_place.runs(rows):
            results, times_s = in_place.run(rows, partial(self._execute, batch))
        else:
            results, times_s = await self._pool.run(partial(self._execute, batch))
        begun, stacked, inferred, ended = times_s
        for ticket in batch:
            if ticket.trace is not None:
                computed(ticket.trace, self.name, self.version, times_s)
        if self._observer is not None:
            self._observer.computed(len(batch), stacked - begun, inferred - stacked, ended - inferred)
        return results

    def _execute(self, batch: Sequence[Ticket]) -> tuple[list[Arrays], tuple[float, float, float, float]]:
        """Stack, run, take apart; when it began, had stacked, had run and was done. In a worker thread."""
        begun_s = time.perf_counter()
        if len(batch) == 1 and (self._rule.symbol is None or batch[0].rows <= self._config.max_batch_size):
            outputs = self.model.infer_batch(batch[0].inputs)
            done_s = time.perf_counter()
            return [outputs], (begun_s, begun_s, done_s, done_s)
        inputs = self._stack(batch)
        stacked_s = time.perf_counter()
        total = sum(ticket.rows for ticket in batch)
        size = self._config.max_batch_size
        parts = [self._part(inputs, start, start + size) for start in range(0, total, size)]
        inferred_s = time.perf_counter()
        outputs = {name: _joined([part[name] for part in parts]) for name in parts[0]}
        results: list[Arrays] = []
        start = 0
        for ticket in batch:
            results.append({name: value[start : start + ticket.rows] for name, value in outputs.items()})
            start += ticket.rows
        return results, (begun_s, stacked_s, inferred_s, time.perf_counter())

    def _stack(self, batch: Sequence[Ticket]) -> Arrays:
        first = batch[0].inputs
        return {
            # Scalars are equal in all of them: they are part of the key.
            name: _joined([t.inputs[name] for t in batch]) if value.ndim else value
            for name, value in first.items()
        }

    def _part(self, inputs: Arrays, start: int, end: int) -> Arrays:
        return self.model.infer_batch({n: v[start:end] if v.ndim else v for n, v in inputs.items()})


@dataclass(frozen=True, slots=True)
class _Kind:
    """What requests whose tensors have equal shapes have in common."""

    rows: int
    key: Hashable
    """Equal for those that may be stacked; None: alone."""


_MAX_KINDS = 1024
"""Kinds that are remembered; clients that send ever new shapes only empty the table."""


def _joined(values: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return values[0] if len(values) == 1 else np.concatenate(values)


def rows_and_key(program: Program, rule: RowRule, prepared: Prepared) -> tuple[int, Hashable]:
    """How many rows a request has, and its key: equal ones may be stacked, None goes alone.

    Keys are equal where tensors have equal shapes but for the rows, and scalars are equal.
    """
    if rule.symbol is None:
        return 1, None
    symbols, arrays = prepared.symbols, prepared.arrays
    sizes = tuple((name, value) for name, value in symbols.items() if name != rule.symbol)
    scalars = tuple(arrays[p.name].tobytes() for p in program.inputs if p.kind == "scalar")
    return symbols[rule.symbol], (sizes, scalars)
