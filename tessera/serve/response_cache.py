"""Answers that are kept for equal inputs, where the operator says that equal inputs have equal answers.

Each loaded version of a model has a cache of its own, which ends with it: an answer never outlives the
weights that it came from, and never answers for another model.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import numpy as np

from tessera.serve.inputs import Arrays

_HASH_IN_THREAD_BYTES = 1 << 18

ENTRY_BYTES = 1024
"""What an entry is charged beside its arrays: key, names and objects."""


class Observer(Protocol):
    """Is told how well a cache does."""

    def cache_asked(self, *, hit: bool) -> None:
        """The cache was asked; `hit`: it had the answer."""


class ResponseCache:
    """The answers that were asked for last, within a number of bytes and a time. Lives on one event loop.

    Args:
        max_bytes: Most bytes of all answers together.
        ttl_s: How long an answer is kept.
        clock: Seconds from anywhere.
    """

    def __init__(self, max_bytes: int, ttl_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, int, Arrays]] = OrderedDict()
        self.bytes = 0
        """Bytes that the answers take."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Arrays | None:
        """The answer under `key`, read-only; None if there is none any more."""
        found = self._entries.get(key)
        if found is None:
            return None
        until_s, _, outputs = found
        if self._clock() >= until_s:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return dict(outputs)

    def put(self, key: bytes, outputs: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Keep a copy of `outputs`; what was asked for longest ago makes room."""
        size = ENTRY_BYTES + sum(value.nbytes for value in outputs.values())
        if size > self._max_bytes:
            return
        # A copy: outputs are often views of a whole batch, which would stay as long as one of them.
        kept = {name: np.array(value, order="C") for name, value in outputs.items()}
        for value in kept.values():
            value.setflags(write=False)
        if key in self._entries:
            self._drop(key)
        self._entries[key] = (self._clock() + self._ttl_s, size, kept)
        self.bytes += size
        while self.bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    async def through(
        self,
        arrays: Mapping[str, np.ndarray[Any, Any]],
        run: Callable[[], Awaitable[Arrays]],
        observer: Observer | None = None,
    ) -> Arrays:
        """The answer to `arrays`: the one that is kept, or else that of `run`, which then is.

        Args:
            arrays: Inputs by name, C-contiguous.
            run: Gives the answer; what it raises is not kept.
            observer: Is told whether there was one.
        """
        # BLAKE2b reads 1 GB/s: what is large would hold up everybody else on the event loop.
        size = sum(array.nbytes for array in arrays.values())
        key = key_of(arrays) if size < _HASH_IN_THREAD_BYTES else await asyncio.to_thread(key_of, arrays)
        found = self.get(key)
        if observer is not None:
            observer.cache_asked(hit=found is not None)
        if found is None:
            found = await run()
            self.put(key, found)
        return found

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.bytes = 0

    def _drop(self, key: bytes) -> None:
        self.bytes -= self._entries.pop(key)[1]


def key_of(arrays: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """Equal for equal inputs, bit by bit, and for no others: BLAKE2b of names, dtypes, shapes and elements.

    Args:
        arrays: Inputs by name, C-contiguous.
    """
    digest = hashlib.blake2b(digest_size=32)
    for name, array in arrays.items():
        # With lengths and a separator, no two lists of tensors are written alike.
        digest.update(f"{len(name)}:{name} {array.dtype.name} {array.shape} ".encode())
        # ml_dtypes have no buffer of their own; bytes have.
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.digest()
