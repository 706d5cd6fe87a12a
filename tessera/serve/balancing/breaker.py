"""CircuitBreaker: stop asking what keeps failing, and find out when it is well again.

Source: M. Nygard, Release It! (2nd ed. 2018), "Circuit Breaker"; the two triggers are those of Envoy's
outlier detection: failures in a row, and a failure rate over a window with a least number of calls.
"""

from __future__ import annotations

import functools
import inspect
import math
import time
from collections import deque
from collections.abc import Callable
from enum import Enum
from threading import RLock
from typing import ParamSpec, TypeVar, cast

from tessera.program.errors import ConfigError, DeviceError, OverloadedError, ServeError
from tessera.serve.request import RequestError

P = ParamSpec("P")
R = TypeVar("R")


class BreakerState(Enum):
    """What a circuit breaker lets through."""

    CLOSED = "closed"
    """Everything."""
    OPEN = "open"
    """Nothing, until its time is over."""
    HALF_OPEN = "half_open"
    """One call at a time, whose outcome decides."""


def is_failure(error: BaseException) -> bool:
    """Whether `error` says that a model or its device is not well.

    A client's mistake does not, nor does a queue that is full.
    """
    if isinstance(error, RequestError | OverloadedError):
        return False
    return isinstance(error, DeviceError | ServeError | ConnectionError | MemoryError)


class CircuitBreaker:
    """Lets calls through while they succeed, and none for a while when they keep failing. Thread-safe.

        breaker = CircuitBreaker()

        @breaker.protect
        async def predict(request):
            return {"output": await server.infer(request.input)}

    It opens after `failures_in_a_row`, or when `failure_rate` of the calls of the last `window_s` failed
    and they were `min_calls` at least. After `open_s` one call is let through: if it succeeds, the circuit
    is closed; if it fails, the circuit is open for twice as long, up to `max_open_s`.

    Calls that were under way when a failure was counted are no further evidence of it: a batch of 32
    that fails counts once.

    Args:
        failures_in_a_row: Failures without a success between them.
        failure_rate: Share of calls, 0 to 1.
        min_calls: Calls in the window before the share means anything.
        window_s: How far back calls count, in seconds.
        open_s: Seconds before the first trial.
        max_open_s: Most seconds between trials.
        counts: Which errors are failures, where `protect` guards a function.
        clock: Seconds from anywhere.

    Raises:
        ConfigError: A number that cannot be.
    """

    def __init__(
        self,
        *,
        failures_in_a_row: int = 5,
        failure_rate: float = 0.5,
        min_calls: int = 20,
        window_s: float = 10.0,
        open_s: float = 1.0,
        max_open_s: float = 30.0,
        counts: Callable[[BaseException], bool] = is_failure,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most_in_a_row = _at_least(1, "failures_in_a_row", failures_in_a_row)
        self._min_calls = _at_least(1, "min_calls", min_calls)
        self._failure_rate = _positive("failure_rate", failure_rate, 1.0)
        self._window_s = _positive("window_s", window_s)
        self._first_open_s = _positive("open_s", open_s)
        self._max_open_s = max(_positive("max_open_s", max_open_s), self._first_open_s)
        self._counts = counts
        self._clock = clock
        self._lock = RLock()
        self._calls: deque[tuple[float, bool]] = deque()
        self._failed = 0
        self._in_a_row = 0
        self._counted_s = -math.inf
        self._open_s = self._first_open_s
        self._opened_s: float | None = None
        self._trial_s: float | None = None
        self.opened = 0
        """How often it has opened."""

    @property
    def state(self) -> BreakerState:
        """What it lets through now."""
        if self._opened_s is None:
            return BreakerState.CLOSED
        over = self._trial_s is not None or self._clock() >= self._opened_s + self._open_s
        return BreakerState.HALF_OPEN if over else BreakerState.OPEN

    @property
    def retry_after_s(self) -> float:
        """Seconds until a call may be let through; 0 unless it is open."""
        if self._opened_s is None:
            return 0.0
        since_s = self._opened_s if self._trial_s is None else self._trial_s
        return max(0.0, since_s + self._open_s - self._clock())

    def allow(self) -> bool:
        """Whether a call may be made now. One that is let through by a half-open circuit is its trial.

        A trial that is never heard of again counts as over after the time that the circuit was open.
        """
        with self._lock:
            if self._opened_s is None:
                return True
            if self.retry_after_s > 0:
                return False
            self._trial_s = self._clock()
            return True

    def succeeded(self) -> None:
        """A call went well."""
        with self._lock:
            if self._opened_s is not None:
                if self._trial_s is None:
                    # It began before the circuit opened.
                    return
                self.reset()
            self._in_a_row = 0
            self._note(failed=False)

    def failed(self, began_s: float | None = None) -> bool:
        """A call failed; says whether the circuit has opened for it.

        Args:
            began_s: When it began, by the clock; None: after all failures so far.
        """
        with self._lock:
            now_s = self._clock()
            if self._opened_s is not None:
                if self._trial_s is None or (began_s is not None and began_s < self._trial_s):
                    return False
                self._open_s = min(2 * self._open_s, self._max_open_s)
                self._open(now_s)
                return True
            if began_s is not None and began_s < self._counted_s:
                return False
            self._counted_s = now_s
            self._in_a_row += 1
            self._note(failed=True)
            enough = len(self._calls) >= self._min_calls
            if self._in_a_row >= self._most_in_a_row or (
                enough and self._failed >= self._failure_rate * len(self._calls)
            ):
                self._open(now_s)
                return True
            return False

    def trip(self) -> None:
        """Open it, whatever the counts say."""
        with self._lock:
            if self._opened_s is None:
                self._open(self._clock())

    def reset(self) -> None:
        """Close it and forget what was."""
        with self._lock:
            self._calls.clear()
            self._failed = self._in_a_row = 0
            self._open_s, self._opened_s, self._trial_s = self._first_open_s, None, None

    def protect(self, function: Callable[P, R]) -> Callable[P, R]:
        """`function`, or `async` function, guarded.

        Errors of devices, servers, connections and memory count as failures (`is_failure`, unless `counts`
        says otherwise); wrong inputs as calls that went well; time-outs and full queues as neither.

        Raises, when called:
            OverloadedError: The circuit is open; `retry_after_s` says for how long.
        """
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def guarded_async(*args: P.args, **kwargs: P.kwargs) -> object:
                began_s = self._enter(function)
                try:
                    result: object = await function(*args, **kwargs)
                except BaseException as error:
                    self._leave(error, began_s)
                    raise
                self.succeeded()
                return result

            return cast("Callable[P, R]", guarded_async)

        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            began_s = self._enter(function)
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                self._leave(error, began_s)
                raise
            self.succeeded()
            return result

        return guarded

    def _enter(self, function: Callable[..., object]) -> float:
        if not self.allow():
            seconds = max(1, math.ceil(self.retry_after_s))
            name = getattr(function, "__qualname__", repr(function))
            raise OverloadedError(
                f"{name} keeps failing and is not called for the moment",
                hint=f"try again in {seconds} s; the server's log has the cause",
                retry_after_s=seconds,
            )
        return self._clock()

    def _leave(self, error: BaseException, began_s: float) -> None:
        if self._counts(error):
            self.failed(began_s)
        elif isinstance(error, Exception) and not isinstance(error, TimeoutError | OverloadedError):
            self.succeeded()

    def _open(self, now_s: float) -> None:
        self._opened_s, self._trial_s = now_s, None
        self._calls.clear()
        self._failed = self._in_a_row = 0
        self.opened += 1

    def _note(self, *, failed: bool) -> None:
        now_s = self._clock()
        self._calls.append((now_s, failed))
        self._failed += failed
        # Bounded: what a window holds beyond this changes the share by less than a hundredth.
        while self._calls and (self._calls[0][0] < now_s - self._window_s or len(self._calls) > _MOST_CALLS):
            self._failed -= self._calls.popleft()[1]


_MOST_CALLS = 1000
"""Calls of a window that are remembered."""


def _at_least(low: int, name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ConfigError(f"{name} is {value!r}; it must be {low} or more", hint=f"{name}={low}", key=name)
    return value


def _positive(name: str, value: float, high: float = 86_400.0) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 < value <= high:
        raise ConfigError(
            f"{name} is {value!r}; it must be over 0 and at most {high:g}", hint=f"{name}=1", key=name
        )
    return float(value)
