"""Who wants to know of each kernel that is launched on a GPU, and what stands around launches.

Launching pays one call that looks at an empty tuple where nobody does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

Observer = Callable[[str, str, str], None]
"""Called with program, kernel and device, on the launching thread; must be quick and not raise."""


class Ranges(Protocol):
    """What begins before and ends after an execution or a launch; must be quick and not raise."""

    def push(self, category: str, name: str) -> None:
        """Begin, on this thread."""

    def pop(self) -> None:
        """End what began last on this thread."""


_lock = threading.Lock()
_ranges: Ranges | None = None
_observers: tuple[Observer, ...] = ()


def observe(observer: Observer) -> None:
    """Call `observer` at each launch from now on."""
    global _observers
    with _lock:
        _observers = (*_observers, observer)


def forget(observer: Observer) -> None:
    """Call `observer` no more; one that is not known is fine."""
    global _observers
    with _lock:
        _observers = tuple(known for known in _observers if known != observer)


def launched(program: str, kernels: Iterable[str], device: str) -> None:
    """Tell whoever wants to know."""
    if not _observers:
        return
    for kernel in kernels:
        for observer in _observers:
            observer(program, kernel, device)


def set_ranges(found: Ranges | None) -> None:
    """Put these ranges around executions and launches from now on; None for none."""
    global _ranges
    with _lock:
        _ranges = found


def ranges() -> Ranges | None:
    """The ranges that are put around executions and launches."""
    return _ranges


@contextmanager
def within(found: Ranges, category: str, name: str) -> Iterator[None]:
    """The block in a range, which ends also when the block fails."""
    found.push(category, name)
    try:
        yield
    finally:
        found.pop()


def surrounded(found: Ranges, name: str, call: Callable[[], object]) -> Callable[[], object]:
    """A launch within its range."""

    def launch() -> object:
        with within(found, "kernel", name):
            return call()

    return launch
