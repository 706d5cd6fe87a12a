"""The guide's `ErrorRecovery`: calls that fail are tried again, then another model answers."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

from tessera.program.bytesize import format_bytes
from tessera.program.errors import ConfigError, DeviceError, InputError, OutOfMemoryError, ServeError
from tessera.runtime.deployment import DeploymentPackage
from tessera.runtime.memory import release_idle
from tessera.runtime.model import Model, load_model

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("tessera.recovery")

PASSING: tuple[type[BaseException], ...] = (
    DeviceError,
    ServeError,
    ConnectionError,
    TimeoutError,
    MemoryError,
)
"""Failures that may be gone at the next try. A wrong input stays wrong."""

LONGEST_DELAY_S = 30.0
"""The delay doubles at each try, up to this."""


@dataclass(frozen=True, slots=True)
class RecoveryCounts:
    """What happened so far."""

    calls: int = 0
    retries: int = 0
    """Tries after the first of a call."""
    fallbacks: int = 0
    """Calls that the fallback model answered."""
    failures: int = 0
    """Calls that nobody answered."""


class ErrorRecovery:
    """Tries failed calls again, and hands those that go on failing to another model.

        recovery = ErrorRecovery(max_retries=3, retry_delay_ms=100, fallback_model="stable.tsd")

        @recovery.with_recovery
        def infer(x):
            return model(x)

    Args:
        max_retries: Tries after the first.
        retry_delay_ms: Wait before the second try; it doubles before each further one, up to 30 s.
        fallback_model: A package, or a model; None: the last error is raised. A package is opened now
            and loaded on its device when it is first needed.
        device: Where a package is loaded; None: see `load_model`.
        retry_on: Errors that may pass; None: of devices, servers and connections, time-outs, and
            memory that is not there.

    Raises:
        ConfigError: A number that is negative, or no number.
        PackageError: `fallback_model` is no package.
    """

    def __init__(
        self,
        max_retries: int = 3,
        retry_delay_ms: float = 100,
        fallback_model: str | Path | DeploymentPackage | Model | None = None,
        *,
        device: str | None = None,
        retry_on: tuple[type[BaseException], ...] | None = None,
    ) -> None:
        if isinstance(max_retries, bool) or not isinstance(max_retries, int) or max_retries < 0:
            raise ConfigError(f"max_retries is {max_retries!r}, no number of tries", hint="max_retries=3")
        number = isinstance(retry_delay_ms, int | float) and not isinstance(retry_delay_ms, bool)
        if not number or not math.isfinite(retry_delay_ms) or retry_delay_ms < 0:
            raise ConfigError(f"retry_delay_ms is {retry_delay_ms!r}, no time", hint="retry_delay_ms=100")
        self._max_retries = max_retries
        self._delay_s = retry_delay_ms / 1e3
        self._package = (
            DeploymentPackage.load(fallback_model)
            if isinstance(fallback_model, str | Path)
            else fallback_model
        )
        self._device = device
        self._retry_on = PASSING if retry_on is None else retry_on
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._fallback: Model | None = None
        self._counts = RecoveryCounts()

    @property
    def counts(self) -> RecoveryCounts:
        """What happened so far, in all functions that it guards."""
        return self._counts

    @property
    def fallback(self) -> Model | None:
        """The model that answers where tries fail; loaded at the first use. None without one."""
        if self._package is None or isinstance(self._package, Model):
            return self._package
        with self._loading:
            if self._fallback is None:
                self._fallback = load_model(self._package, self._device)
            return self._fallback

    def with_recovery(self, function: Callable[P, R]) -> Callable[P, R]:
        """`function`, guarded. It may be `async`; it takes what the fallback model takes.

        A method's `self` is not handed to the fallback model. Errors that do not pass go through at once.
        """
        skip = _leads_with_self(function)
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def guarded_async(*args: P.args, **kwargs: P.kwargs) -> object:
                self._count(calls=1)
                for attempt in range(self._max_retries + 1):
                    try:
                        return await function(*args, **kwargs)
                    except self._retry_on as error:
                        last = error
                        delay_s = self._after(function, attempt, error)
                    if delay_s is not None:
                        await asyncio.sleep(delay_s)
                return await asyncio.to_thread(self._fall_back, last, args[skip:], kwargs)

            return cast("Callable[P, R]", guarded_async)

        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            self._count(calls=1)
            for attempt in range(self._max_retries + 1):
                try:
                    return function(*args, **kwargs)
                except self._retry_on as error:
                    last = error
                    delay_s = self._after(function, attempt, error)
                if delay_s is not None:
                    time.sleep(delay_s)
            return cast("R", self._fall_back(last, args[skip:], kwargs))

        return guarded

    def _after(self, function: Callable[..., object], attempt: int, error: BaseException) -> float | None:
        """Seconds to wait before the next try, or None after the last one."""
        name = getattr(function, "__qualname__", repr(function))
        if isinstance(error, OutOfMemoryError | MemoryError):
            logger.info("%s given back to devices", format_bytes(release_idle()))
        if attempt == self._max_retries:
            logger.warning("%s failed %d times, the last time: %s", name, attempt + 1, error)
            return None
        self._count(retries=1)
        delay_s = min(self._delay_s * 2.0 ** min(attempt, 60), LONGEST_DELAY_S)
        logger.warning("%s failed, next try in %.0f ms: %s", name, delay_s * 1e3, error)
        return delay_s

    def _fall_back(
        self, error: BaseException, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> object:
        """The fallback model's answer; with none, or where it fails too, an error."""
        try:
            model = self.fallback
            if model is None:
                raise error
            if args and kwargs:
                raise InputError(
                    f"the fallback model takes inputs by position or by name, not both: {', '.join(kwargs)}",
                    hint="call the guarded function with all inputs by position",
                ) from error
            answer = model(*args) if args or not kwargs else model(dict(kwargs))
        except BaseException as last:
            self._count(failures=1)
            if last is not error and last.__cause__ is None:
                raise last from error
            raise
        self._count(fallbacks=1)
        return answer

    def _count(self, **more: int) -> None:
        with self._lock:
            now = self._counts
            self._counts = replace(now, **{name: getattr(now, name) + n for name, n in more.items()})


def _leads_with_self(function: Callable[..., object]) -> int:
    """1 for a method that is not bound yet, else 0."""
    try:
        first = next(iter(inspect.signature(function).parameters), None)
    except (TypeError, ValueError):
        return 0
    return int(first in ("self", "cls"))


def clear_gpu_cache() -> int:
    """Give working memory that Tessera keeps for the next call, and nobody uses now, back to the GPUs.

    Returns:
        Bytes given back; 0 where nothing was kept. Weights, and what other libraries keep, stay.
    """
    return release_idle("cuda")
