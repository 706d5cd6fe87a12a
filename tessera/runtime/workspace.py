"""Working memory that a caller lends to executions: one pool for several models, with one limit."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from tessera.program.bytesize import format_bytes
from tessera.program.errors import ConfigError, DeviceError, InputError, OutOfMemoryError
from tessera.runtime.memory import Block, MemoryPool, parse_bytes

T = TypeVar("T")

REMEDY = "create_memory_pool with more, leave the blocks of other buffers first, or use smaller batches"


class Lender(Protocol[T]):
    """Where an execution gets its memory from: the device's own pool, or a buffer of the caller's."""

    def acquire(self, size: int) -> Block[T]:
        """A block of at least `size` bytes; raises `OutOfMemoryError`."""

    def release(self, block: Block[T]) -> None:
        """Take the block back."""


class WorkspacePool:
    """Working memory of one device, handed to executions in buffers.

    The device is that of the first model that uses a buffer. Memory is taken from it when it is first needed
    and kept for the next buffer. Threads may share a pool.

    Args:
        limit_bytes: The most to hold; None is no limit.
        max_workspace_bytes: The most that one execution may take; None is no limit.
    """

    def __init__(self, limit_bytes: int | None, max_workspace_bytes: int | None = None) -> None:
        self._limit = limit_bytes
        self.max_workspace_bytes = max_workspace_bytes
        """The most that one execution may take."""
        self._pool: MemoryPool[Any] | None = None
        self._lock = threading.Lock()

    @property
    def device(self) -> str | None:
        """Whose memory it is; None before the first use."""
        return self._pool.device if self._pool is not None else None

    @property
    def allocations(self) -> int:
        """How often the device was asked for memory so far."""
        return self._pool.allocations if self._pool is not None else 0

    def get_buffer(self) -> Workspace:
        """A buffer for `workspace=`, as large as the executions that use it need.

        with pool.get_buffer() as buffer:
            y = model(x, workspace=buffer)

        Leaving the block gives its memory back to the pool.
        """
        return Workspace(self)

    def usage(self) -> dict[str, int]:
        """Bytes: `in_use_bytes`, `reserved_bytes` (in use or kept for reuse), `peak_bytes` and,
        where there is one, `limit_bytes`.
        """
        if self._pool is not None:
            return self._pool.usage()
        unused = {"in_use_bytes": 0, "reserved_bytes": 0, "peak_bytes": 0}
        return unused if self._limit is None else {**unused, "limit_bytes": self._limit}

    def trim(self) -> int:
        """Give memory that no buffer holds back to the device.

        Returns:
            Bytes given back.
        """
        return self._pool.trim() if self._pool is not None else 0

    def over(self, source: MemoryPool[T]) -> MemoryPool[T]:
        """The pool's own memory, of the device that `source` takes its from.

        Raises:
            DeviceError: The pool's memory is that of another device.
        """
        with self._lock:
            if self._pool is None:
                self._pool = MemoryPool(source.device, source.allocate, self._limit, remedy=REMEDY)
            if self._pool.device != source.device:
                raise DeviceError(
                    f"the memory pool is of {self._pool.device}, the program runs on {source.device}",
                    hint=f"make a pool of its own for {source.device}: create_memory_pool(…)",
                )
            return self._pool

    def __repr__(self) -> str:
        limit = "no limit" if self._limit is None else format_bytes(self._limit)
        held = format_bytes(self.usage()["reserved_bytes"])
        return f"<WorkspacePool of {self.device or 'no device yet'}: {held} held, {limit}>"


class Workspace:
    """Memory for one execution at a time; those that share a buffer wait for each other."""

    def __init__(self, pool: WorkspacePool) -> None:
        self._pool = pool
        self._source: MemoryPool[Any] | None = None
        self._block: Block[Any] | None = None
        self._open = False
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """What it holds now; 0 before an execution used it."""
        return self._block.bytes if self._block is not None else 0

    @property
    def device(self) -> str | None:
        """Whose memory it holds; None before an execution used it."""
        return self._source.device if self._source is not None else None

    def within(self, source: MemoryPool[T]) -> Lender[T]:
        """What an execution takes its memory from, on the device of `source`.

        Raises:
            DeviceError: The pool's memory is that of another device.
        """
        return _Lent(self, self._pool.over(source))

    def take(self, pool: MemoryPool[T], size: int) -> Block[T]:
        """The block, grown to `size` bytes at least; nobody else has it until `put`.

        Raises:
            InputError: Its `with` block is over, or was never entered.
            OutOfMemoryError: The pool, or `max_workspace_size`, does not allow it.
        """
        self._lock.acquire()
        try:
            return self._grown(pool, size)
        except BaseException:
            self._lock.release()
            raise

    def put(self) -> None:
        """The execution that took it is over."""
        self._lock.release()

    def _grown(self, pool: MemoryPool[T], size: int) -> Block[T]:
        if not self._open:
            raise InputError(
                "the workspace is used outside its block",
                hint="with pool.get_buffer() as buffer: model(x, workspace=buffer)",
            )
        most = self._pool.max_workspace_bytes
        if most is not None and size > most:
            raise OutOfMemoryError(
                f"{pool.device}: one execution needs {format_bytes(size)} of working memory, "
                f"max_workspace_size allows {format_bytes(most)}",
                hint="raise max_workspace_size, or use smaller batches",
                required=size,
                available=most,
            )
        if self._block is not None and self._block.bytes >= size:
            return self._block
        self._drop()
        self._source, self._block = pool, pool.acquire(size)
        return self._block

    def _drop(self) -> None:
        if self._source is not None and self._block is not None:
            self._source.release(self._block)
        self._source = self._block = None

    def __enter__(self) -> Self:
        with self._lock:
            if self._open:
                raise InputError("the workspace is entered twice", hint="pool.get_buffer() makes another")
            self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._open = False
            self._drop()


class _Lent(Generic[T]):
    """A workspace as an execution sees it."""

    __slots__ = ("_pool", "_workspace")

    def __init__(self, workspace: Workspace, pool: MemoryPool[T]) -> None:
        self._workspace = workspace
        self._pool = pool

    def acquire(self, size: int) -> Block[T]:
        return self._workspace.take(self._pool, size)

    def release(self, block: Block[T]) -> None:
        del block
        self._workspace.put()


def create_memory_pool(
    size: int | str | None, *, max_workspace_size: int | str | None = None
) -> WorkspacePool:
    """A pool of working memory, for models that are called with `workspace=`.

    pool = create_memory_pool("8GB")
    with pool.get_buffer() as buffer:
        y = model(x, workspace=buffer)

    Args:
        size: The most that the pool holds: bytes, or text such as `"8GB"`; None for no limit.
        max_workspace_size: The most that one execution may take, in the same forms.

    Raises:
        ConfigError: It is not a size, or one execution might take more than the pool holds.
    """
    limit = parse_bytes(size, what="memory pool")
    most = parse_bytes(max_workspace_size, what="max_workspace_size")
    if limit is not None and most is not None and most > limit:
        raise ConfigError(
            f"max_workspace_size is {format_bytes(most)}, the whole pool {format_bytes(limit)}",
            hint="make the pool larger, or max_workspace_size smaller",
        )
    return WorkspacePool(limit, most)


def as_workspace(value: object) -> Workspace | None:
    """What a caller gave as `workspace=`, checked.

    Raises:
        InputError: It is no buffer of a pool.
    """
    if value is None or isinstance(value, Workspace):
        return value
    hint = "with create_memory_pool('8GB').get_buffer() as buffer: model(x, workspace=buffer)"
    raise InputError(f"workspace= takes a buffer of a memory pool, not {type(value).__name__}", hint=hint)


def no_workspace(device: str) -> DeviceError:
    """What a device says that has no memory to lend."""
    return DeviceError(
        f"the {device} keeps its own memory: it takes no workspace=",
        hint="call without workspace=, or run on cpu or cuda:0",
        device=device,
    )
