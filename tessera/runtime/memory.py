"""Working memory of a device: a pool with a limit, and reuse."""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from tessera.program import bytesize
from tessera.program.bytesize import format_bytes
from tessera.program.errors import ConfigError, OutOfMemoryError

ALIGNMENT = 256
"""Every arena starts at a multiple of this, in bytes: what CUDA gives, and enough for any vector load."""


def parse_bytes(size: int | str | None, *, what: str = "memory_pool_size") -> int | None:
    """A size in bytes; None means no limit.

    Args:
        size: Bytes as an int, or text such as `"4GB"`, `"512 MiB"`, `"1.5g"`.
            The units are powers of 1024, with or without the `i`.
        what: Name of the setting, for the message.

    Raises:
        ConfigError: It is not a positive size.
    """
    if size is None:
        return None
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    value = bytesize.parse_bytes(size) if isinstance(size, str) else None
    if not value:
        raise ConfigError(
            f"{what}: {size!r} is not a size",
            hint='write bytes as a number, or text such as "4GB" or "512MB"',
        )
    return value


SMALL_BYTES = 1 << 16
"""A block is reused for a request that wastes less than half of it, or less than this."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Block(Generic[T]):
    """A range of a device's memory."""

    memory: T
    """What keeps it alive: a NumPy array of bytes, or the device's own handle."""
    pointer: int
    """Its address on the device, a multiple of `ALIGNMENT`."""
    bytes: int
    """Its size."""


@dataclass(slots=True)
class _Idle(Generic[T]):
    """Blocks that nobody uses, smallest first."""

    sizes: list[int] = field(default_factory=list)
    blocks: dict[int, list[Block[T]]] = field(default_factory=dict)

    def add(self, block: Block[T]) -> None:
        insort(self.sizes, block.bytes)
        self.blocks.setdefault(block.bytes, []).append(block)

    def take(self, at_least: int, at_most: int) -> Block[T] | None:
        index = bisect_left(self.sizes, at_least)
        if index == len(self.sizes) or self.sizes[index] > at_most:
            return None
        return self.blocks[self.sizes.pop(index)].pop()


class MemoryPool(Generic[T]):
    """Hands out blocks, takes them back, and never holds more than its limit.

    Args:
        device: Name of the device, for messages.
        allocate: Takes a block of at least that many bytes from the device; raises
            `OutOfMemoryError` when there is none. Dropping a block frees it.
        limit_bytes: The most to hold at once; None is no limit.
        remedy: What to do where the limit is reached, for messages.
    """

    def __init__(
        self,
        device: str,
        allocate: Callable[[int], Block[T]],
        limit_bytes: int | None = None,
        *,
        remedy: str = "raise memory_pool_size, or use smaller batches",
    ) -> None:
        self.device = device
        """Name of the device."""
        self.allocate = allocate
        """Takes a block from the device, past this pool."""
        self.allocations = 0
        """How often the device was asked for memory."""
        self._limit = limit_bytes
        self._remedy = remedy
        self._lock = threading.Lock()
        self._idle: _Idle[T] = _Idle()
        self._reserved = 0
        self._in_use = 0
        self._peak = 0
        with _pools_lock:
            _pools.add(self)

    def acquire(self, size: int) -> Block[T]:
        """A block of at least `size` bytes. Its contents are arbitrary.

        Raises:
            OutOfMemoryError: The limit or the device does not allow it.
        """
        with self._lock:
            block = self._idle.take(size, size + max(size, SMALL_BYTES)) or self._grow(size)
            self._in_use += block.bytes
            self._peak = max(self._peak, self._in_use)
            return block

    def release(self, block: Block[T]) -> None:
        """Take `block` back, for the next `acquire`."""
        with self._lock:
            self._in_use -= block.bytes
            self._idle.add(block)

    def trim(self) -> int:
        """Give every idle block back to the device.

        Returns:
            Bytes given back.
        """
        with self._lock:
            before = self._reserved
            self._drop_idle()
            return before - self._reserved

    def usage(self) -> dict[str, int]:
        """Bytes: `in_use_bytes`, `reserved_bytes` (in use or kept for reuse), `peak_bytes` and,
        where there is one, `limit_bytes`.
        """
        with self._lock:
            usage = {
                "in_use_bytes": self._in_use,
                "reserved_bytes": self._reserved,
                "peak_bytes": self._peak,
            }
        return usage if self._limit is None else {**usage, "limit_bytes": self._limit}

    def _grow(self, size: int) -> Block[T]:
        wanted = _rounded(size)
        if self._limit is not None:
            if self._reserved + wanted > self._limit:
                self._drop_idle()
            available = self._limit - self._reserved
            if size > available:
                raise OutOfMemoryError(
                    f"{self.device}: {format_bytes(size)} of working memory are needed, "
                    f"{format_bytes(available)} of the pool's {format_bytes(self._limit)} are free",
                    hint=self._remedy,
                    required=size,
                    available=available,
                )
            wanted = min(wanted, available)
        try:
            block = self.allocate(wanted)
        except OutOfMemoryError:
            if not self._idle.sizes:
                raise
            self._drop_idle()
            block = self.allocate(size)
        self.allocations += 1
        self._reserved += block.bytes
        return block

    def _drop_idle(self) -> None:
        self._reserved -= sum(self._idle.sizes)
        self._idle = _Idle()


_pools: weakref.WeakSet[MemoryPool[Any]] = weakref.WeakSet()
"""Every pool of this process that somebody uses."""
_pools_lock = threading.Lock()


def release_idle(kind: str | None = None) -> int:
    """Give the idle blocks of every pool back to their devices.

    Args:
        kind: Only of such devices: `cpu`, `cuda`; None: of all.

    Returns:
        Bytes given back.
    """
    with _pools_lock:
        pools = list(_pools)
    return sum(pool.trim() for pool in pools if kind is None or pool.device.partition(":")[0] == kind)


def _rounded(size: int) -> int:
    """`size` rounded up by at most an eighth, so that nearly equal sizes share blocks."""
    step = max(4096, 1 << max(size.bit_length() - 4, 0))
    return -(-size // step) * step
