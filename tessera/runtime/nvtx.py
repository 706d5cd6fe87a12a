"""Ranges around executions and launches on a GPU, by which Nsight Systems and Nsight Compute name them.

Off unless `enable` is called or `TESSERA_NVTX=1` is set where a GPU is opened. Without a tool that listens
a range costs some 0.2 µs.

Source: NVTX 3, "Ranges" and "Domains"; the Python package `nvtx`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tessera.program.errors import MissingDependencyError
from tessera.runtime import launches

DOMAIN = "tessera"
"""What the ranges are in; nsys shows it, and ncu takes `--nvtx --nvtx-include tessera@NAME/`."""
VARIABLE = "TESSERA_NVTX"
"""Set to 1, every GPU that is opened has ranges."""
COLORS = {"execution": 0x4C78A8, "kernel": 0x54A24B}
"""By category, red, green and blue."""


class NvtxRanges:
    """Ranges in Tessera's domain; of any thread, each with a stack of its own.

    Raises:
        MissingDependencyError: The package `nvtx` is not installed.
    """

    def __init__(self) -> None:
        # 40 ms; only whoever asks for ranges pays.
        try:
            import nvtx
        except ImportError:
            raise MissingDependencyError.extra("nvtx", "nvtx", needed_for="marking launches") from None
        self._domain: Any = nvtx.get_domain(DOMAIN)
        self._attributes: dict[tuple[str, str], Any] = {}

    def push(self, category: str, name: str) -> None:
        """Begin a range on this thread."""
        key = category, name
        if key not in self._attributes:
            self._attributes[key] = self._domain.get_event_attributes(
                message=name, color=COLORS.get(category), category=category
            )
        self._domain.push_range(self._attributes[key])

    def pop(self) -> None:
        """End the last range of this thread."""
        self._domain.pop_range()


def enable() -> None:
    """Put ranges around executions and launches on GPUs from now on.

    Raises:
        MissingDependencyError: The package `nvtx` is not installed.
    """
    launches.set_ranges(NvtxRanges())


def disable() -> None:
    """Put no more ranges around them."""
    launches.set_ranges(None)


def enabled() -> bool:
    """Whether there are ranges."""
    return launches.ranges() is not None


@contextmanager
def nvtx_ranges() -> Iterator[None]:
    """Ranges around what the block, and other threads meanwhile, execute and launch on GPUs.

    Raises:
        MissingDependencyError: The package `nvtx` is not installed.
    """
    before = launches.ranges()
    enable()
    try:
        yield
    finally:
        launches.set_ranges(before)


def enable_as_asked() -> None:
    """`enable`, where the environment says so; without the package that is a warning and no error.

    Warns:
        UserWarning: `TESSERA_NVTX` is set, and the package `nvtx` is not installed.
    """
    if os.environ.get(VARIABLE, "") in ("", "0") or enabled():
        return
    try:
        enable()
    except MissingDependencyError as error:
        warnings.warn(f"{VARIABLE}: {error.message} ({error.hint})", stacklevel=2)
