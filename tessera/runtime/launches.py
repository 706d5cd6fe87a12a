"""Who wants to know of each kernel that is launched on a GPU.

Launching pays one call that looks at an empty tuple where nobody does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

Observer = Callable[[str, str, str], None]
"""Called with program, kernel and device, on the launching thread; must be quick and not raise."""

_lock = threading.Lock()
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
