"""Shared memory of one front: it hands out blocks, owners read and write in them.

The memory is a memfd: it has no name that could be left behind, and is gone with the last process
that holds it, however that process ended. Only the front allocates, so there is no lock.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os

from tessera.program.errors import OverloadedError, ServeError

ALIGNMENT = 64
"""Bytes that every tensor in a block is aligned to: a cache line, and more than any vector load asks for."""

MIN_BLOCK_BYTES = 512
"""Smallest block. All are powers of two."""

RETURNED_BYTES = 1 << 20
"""Blocks of this size and more give their pages back when they are freed; smaller ones stay warm."""

# The size is final: an owner that maps the memory cannot be hurt by its becoming shorter.
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def create_memory(name: str, size_bytes: int) -> int:
    """A file descriptor of `size_bytes` of zeros, which take no memory until they are written to.

    Args:
        name: For `/proc/PID/maps`.
        size_bytes: A multiple of the page size.

    Raises:
        ServeError: There is no such memory to be had.
    """
    fd = -1
    try:
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        limits = {
            errno.EFBIG: "ulimit -f unlimited, or lower shared_memory_size",
            errno.EMFILE: "ulimit -n 4096",
        }
        raise ServeError(
            f"no {size_bytes} bytes of shared memory for {name}: {error.strerror}",
            hint=limits.get(error.errno or 0, "lower shared_memory_size or processes"),
        ) from error
    return fd


class Arena:
    """Blocks of a shared memory. Belongs to one process and one thread.

    A freed block is kept for the next request of its size. Only when no block is left are
    neighbours joined again, so that the common case costs a list's `pop`.

    Args:
        fd: From `create_memory`; it stays the caller's.
    """

    def __init__(self, fd: int) -> None:
        self.memory = mmap.mmap(fd, 0)
        """All of it."""
        self.size_bytes = len(self.memory)
        # The largest power of two that fits is the largest block.
        self._top = self.size_bytes.bit_length() - 1
        self._bottom = MIN_BLOCK_BYTES.bit_length() - 1
        self._free: list[list[int]] = [[] for _ in range(self._top + 1)]
        self._free[self._top].append(0)
        self.used_bytes = 0
        """Bytes of the blocks that are handed out."""

    @property
    def largest_bytes(self) -> int:
        """The largest block there can be."""
        return 1 << self._top

    def take(self, size_bytes: int) -> tuple[int, int]:
        """Offset and order (the size's logarithm) of a free block of at least `size_bytes`.

        Raises:
            OverloadedError: Requests that are under way have all of it.
        """
        order = max(self._bottom, (size_bytes - 1).bit_length())
        found = self._free[order] if order <= self._top else None
        if not found:
            self._split(order, size_bytes)
            found = self._free[order]
        self.used_bytes += 1 << order
        return found.pop(), order

    def give(self, offset: int, order: int) -> None:
        """Free a block that `take` returned."""
        size_bytes = 1 << order
        self.used_bytes -= size_bytes
        self._free[order].append(offset)
        if size_bytes >= RETURNED_BYTES:
            self.memory.madvise(mmap.MADV_REMOVE, offset, size_bytes)

    def close(self) -> None:
        """Unmap it, unless arrays still lie in it; they keep it until they go."""
        try:
            self.memory.close()
        except BufferError:
            return

    def _split(self, order: int, size_bytes: int) -> None:
        """Put a block of `order` on its list, from a larger one."""
        for attempt in range(2):
            larger = next((o for o in range(order, self._top + 1) if self._free[o]), None)
            if larger is not None:
                break
            if attempt or order > self._top:
                raise OverloadedError(
                    f"{self.used_bytes} of {self.size_bytes} bytes of shared memory are in use, "
                    f"and the request needs {size_bytes}",
                    hint="try again in 1 s; if this lasts, raise shared_memory_size",
                    retry_after_s=1,
                )
            self._join()
        assert larger is not None  # noqa: S101 - the loop ends by break or by raise
        offset = self._free[larger].pop()
        while larger > order:
            larger -= 1
            self._free[larger].append(offset + (1 << larger))
        self._free[order].append(offset)

    def _join(self) -> None:
        """Make blocks whose neighbour is free as well into one, smallest first."""
        for order in range(self._bottom, self._top):
            free = set(self._free[order])
            pairs = [o for o in free if not o & (1 << order) and o | (1 << order) in free]
            if pairs:
                free.difference_update(pairs, (o | (1 << order) for o in pairs))
                self._free[order] = sorted(free, reverse=True)
                self._free[order + 1].extend(pairs)
