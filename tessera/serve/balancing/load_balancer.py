"""LoadBalancer: the guide's face of several replicas."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

from tessera.program.errors import ConfigError, ServeError
from tessera.serve.balancing.balanced import BalancedService
from tessera.serve.balancing.member import ReplicaState, ReplicaStatus
from tessera.serve.balancing.replica import ReplicaSource
from tessera.serve.balancing.settings import BalancerSettings
from tessera.serve.balancing.strategies import strategy_of
from tessera.serve.observe.model_metrics import ServiceObserver
from tessera.serve.service import Phase, Result

T = TypeVar("T")


class LoadBalancer:
    """Spreads requests over replicas of one model, and does without those that fail.

        balancer = LoadBalancer()
        for gpu in range(4):
            balancer.add_replica(ModelReplica("model.tsd", device=f"cuda:{gpu}"))
        output = await balancer.infer(x)

    Replicas are loaded together when the balancer starts, and get requests when they are warm. It
    starts with the first request, in a thread of its own; with `start()` or `with`; with `async with`,
    on the caller's event loop, which saves two changes of thread a request; or with the server that it
    was given to: `ProductionServer(model_package=balancer)`. Any thread and loop may ask.

    Args:
        replicas: To begin with.
        strategy: `least_loaded`, `round_robin` or `latency_aware`.
        settings: Everything else, see `BalancerSettings`; None: the defaults.

    Raises:
        ConfigError: There is no such strategy.
    """

    def __init__(
        self,
        replicas: Sequence[ReplicaSource] = (),
        *,
        strategy: str = "least_loaded",
        settings: BalancerSettings | None = None,
    ) -> None:
        strategy_of(strategy)
        self._settings = replace(settings or BalancerSettings(), strategy=strategy)
        self._sources: list[tuple[str, ReplicaSource]] = []
        self._service: BalancedService | None = None
        self._thread: threading.Thread | None = None
        self._ending: asyncio.Event | None = None
        self._lock = threading.RLock()
        for each in replicas:
            self.add_replica(each)

    def add_replica(self, replica: ReplicaSource) -> None:
        """Spread requests over `replica`, too.

        While the balancer runs, it is loaded in the background and gets requests when it is warm.
        """
        with self._lock:
            taken = {name for name, _ in self._sources}
            count = 1
            while (name := replica.name if count == 1 else f"{replica.name}#{count}") in taken:
                count += 1
            self._sources.append((name, replica))
            service = self._service
        if service is not None:
            self._on_loop(service, lambda: service.add(replica, name))

    def remove_replica(self, replica: ReplicaSource | str, *, timeout_s: float = 25.0) -> None:
        """Give `replica` no more requests, let it finish what it has, and give its memory back.

        Returns when that is done; on the balancer's own event loop at once, see `drain_replica`.

        Args:
            replica: It, or its name.
            timeout_s: Longest to wait for what it has; then that goes to other replicas.

        Raises:
            ConfigError: There is no such replica.
        """
        name = self._forget(replica)
        service = self._service
        if service is None:
            return
        if _is_running_on(service.loop):
            service.remove_soon(name, timeout_s)
            return
        self._call_sync(service, lambda: service.remove(name, timeout_s))

    async def drain_replica(self, replica: ReplicaSource | str, *, timeout_s: float = 25.0) -> bool:
        """As `remove_replica`, awaited; says whether it finished in time."""
        name = self._forget(replica)
        service = self._service
        return True if service is None else await _call(service, lambda: service.remove(name, timeout_s))

    def set_strategy(self, name: str) -> None:
        """How replicas are chosen from now on.

        Args:
            name: `least_loaded`: requests wait in one line, free replicas take from it, the fastest
                first. `round_robin`: one after the other. `latency_aware`: where the recent peak of the
                latency, times what waits there, is least.

        Raises:
            ConfigError: There is no such strategy.
        """
        strategy_of(name)
        self._settings = replace(self._settings, strategy=name)
        service = self._service
        if service is not None:
            self._on_loop(service, lambda: service.set_strategy(name))

    @property
    def strategy(self) -> str:
        """How replicas are chosen."""
        return self._settings.strategy

    @property
    def replicas(self) -> list[ReplicaStatus]:
        """Every replica and its state at this moment."""
        service = self._service
        if service is not None:
            return service.replicas
        return [_not_loaded(name) for name, _ in self._sources]

    async def infer(self, input_data: Any, *, timeout_s: float | None = None) -> Result:
        """The output of the model for `input_data`, from whichever replica.

        A request that a replica fails is given to another one; a wrong input is not.

        Args:
            input_data: The value of the only input, or a mapping by name: nested lists, arrays, numbers.
            timeout_s: Longest to wait, over all tries.

        Returns:
            An array; with several outputs a dict of arrays by name.

        Raises:
            InputError: Not what the program takes; the message names the input.
            OverloadedError: Too many requests wait, or no replica is ready; `retry_after_s` says when to
                come back.
            DeviceError: Every replica that was asked failed.
            TimeoutError: `timeout_s` is over.
            TesseraError: No replica could be loaded, at the first request.
        """
        service = self._service
        if service is None:
            await asyncio.to_thread(self.start)
            service = self._running()
        if _is_running_on(service.loop):
            return await service.infer(input_data, timeout_s=timeout_s)
        return await _call(service, lambda: service.infer(input_data, timeout_s=timeout_s))

    def infer_sync(self, input_data: Any, *, timeout_s: float | None = None) -> Result:
        """As `infer`, for threads without an event loop."""
        if self._service is None:
            self.start()
        service = self._running()
        return self._call_sync(service, lambda: service.infer(input_data, timeout_s=timeout_s))

    def start(self) -> None:
        """Load the replicas, and answer from a thread of the balancer's own. Nothing if it runs already.

        Raises:
            TesseraError: No replica could be loaded, or a package or setting is wrong.
        """
        with self._lock:
            if self._service is not None:
                return
            service = self.backend()
            ready: Future[None] = Future()
            self._thread = threading.Thread(
                target=self._live, args=(service, ready), name="tessera-balancer", daemon=True
            )
            self._thread.start()
            try:
                ready.result()
            except BaseException:
                self._thread.join()
                self._thread = self._service = None
                raise

    def close(self, timeout_s: float = 25.0) -> None:
        """Finish what was accepted and give the replicas' memory back. It may be started again.

        Args:
            timeout_s: Longest to wait for requests.

        Raises:
            ServeError: It runs on an event loop of the caller's or of a server, which ends it.
        """
        thread, service = self._thread, self._service
        if service is None:
            return
        if thread is None:
            raise ServeError(
                "the balancer runs on an event loop that is not its own",
                hint="await balancer.aclose(), or stop the server that it was given to",
            )
        self._call_sync(service, lambda: _drained(service, timeout_s))
        ending = self._ending
        if service.loop is not None and ending is not None:
            service.loop.call_soon_threadsafe(ending.set)
        thread.join()
        self._thread = self._service = None

    async def aclose(self, timeout_s: float = 25.0) -> None:
        """As `close`, for an event loop."""
        service = self._service
        if service is None:
            return
        if self._thread is not None:
            await asyncio.to_thread(self.close, timeout_s)
            return
        await _call(service, lambda: _ended(service, timeout_s))
        self._service = None

    def backend(
        self,
        observer: Callable[[], ServiceObserver] | None = None,
        *,
        name: str | None = None,
        version: str | None = None,
    ) -> BalancedService:
        """The replicas as one model of a server, which loads and closes it.

        Args:
            observer: Makes what is told of each replica's batches.
            name: What clients call the model; None: the program's name.
            version: The version that clients see; None: the package's.

        Raises:
            ServeError: The balancer runs already.
        """
        with self._lock:
            if self._service is not None and self._service.phase is not Phase.STOPPED:
                raise ServeError("the balancer runs already", hint="balancer.close()")
            sources = dict(self._sources)
            self._service = BalancedService(
                sources, self._settings, observer=observer, name=name, version=version
            )
            return self._service

    async def __aenter__(self) -> Self:
        service = self.backend()
        try:
            await service.load()
        except BaseException:
            service.close(0.0)
            self._service = None
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _live(self, service: BalancedService, ready: Future[None]) -> None:
        async def life() -> None:
            self._ending = asyncio.Event()
            try:
                await service.load()
            except BaseException as error:  # noqa: BLE001 - start() raises it
                service.close(0.0)
                ready.set_exception(error)
                return
            ready.set_result(None)
            await self._ending.wait()
            await _ended(service, 0.0)

        asyncio.run(life())

    def _running(self) -> BalancedService:
        service = self._service
        if service is None:
            raise ServeError("the balancer does not run", hint="balancer.start()")
        return service

    def _forget(self, replica: ReplicaSource | str) -> str:
        """The name of `replica`, which is in the list no more."""
        with self._lock:
            for each, source in self._sources:
                if replica in (each, source):
                    self._sources.remove((each, source))
                    return each
            names = ", ".join(name for name, _ in self._sources) or "there is none"
        raise ConfigError(f"there is no replica {replica!r}", hint=f"replicas: {names}")

    def _on_loop(self, service: BalancedService, call: Callable[[], object]) -> None:
        """Make `call` on the loop of `service`, now or soon."""
        if service.loop is None or _is_running_on(service.loop):
            call()
        else:
            service.loop.call_soon_threadsafe(call)

    def _call_sync(self, service: BalancedService, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if service.loop is None:
            raise ServeError("the balancer's server does not run", hint="start it first")
        if _is_running_on(service.loop):
            raise ServeError(
                "this call would block the event loop that it waits for",
                hint="await balancer.infer(…) instead",
            )
        call = asyncio.run_coroutine_threadsafe(_later(work), service.loop)
        try:
            return call.result()
        finally:
            call.cancel()


async def _later(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return await work()


async def _call(service: BalancedService, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What `work` gives, awaited on any event loop."""
    if service.loop is None or _is_running_on(service.loop):
        return await work()
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_later(work), service.loop))


async def _drained(service: BalancedService, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await service.drain()
    except TimeoutError:
        return False
    return True


async def _ended(service: BalancedService, timeout_s: float) -> None:
    finished = await _drained(service, timeout_s)
    service.stop()
    if not finished:
        service.abort()
    await asyncio.to_thread(service.close, 1.0 if finished else 0.0)


def _is_running_on(loop: asyncio.AbstractEventLoop | None) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _not_loaded(name: str) -> ReplicaStatus:
    return ReplicaStatus(
        name=name,
        state=ReplicaState.LOADING,
        reason="the balancer does not run",
        device=None,
        requests=0,
        answered=0,
        failed=0,
        batch_ms=None,
        latency_ms=None,
        opened=0,
    )
