"""The child processes of a server: which there are, who is connected to whom, who is started again."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

from tessera.program.errors import ServeError, TesseraError
from tessera.runtime.memory import parse_bytes
from tessera.serve.config import ServerConfig
from tessera.serve.processes.arena import create_memory
from tessera.serve.processes.info import ModelInfo
from tessera.serve.processes.messages import (
    Ask,
    AskTotals,
    Attach,
    Beat,
    Counted,
    Failed,
    FromChild,
    Open,
    Ready,
    Start,
    Stop,
)
from tessera.serve.processes.origin import Origin
from tessera.serve.processes.ports import Ports
from tessera.serve.processes.remote import RemoteService
from tessera.serve.processes.scrape import Scrape
from tessera.serve.processes.spawned import Spawned

logger = logging.getLogger("tessera.serve")

SILENT_S = 30.0
"""A process that says nothing for so long, though it lives, is killed: its event loop is stuck."""

STABLE_S = 1.0
"""A process that ends sooner after it was ready counts as one that cannot be started."""

FIRST_DELAY_S, LAST_DELAY_S = 0.1, 5.0
"""How long a start waits after two that did not get far, and at most; each waits twice as long."""


SPARE = "owner-spare"
"""What a process is called that waits to be an owner."""


@dataclass(slots=True, eq=False)
class Slot:
    """A place for one child; when the child ends, another takes it."""

    name: str
    listener: socket.socket | None
    """A front's; None: it is an owner."""
    config: ServerConfig
    child: Spawned | None = None
    memory: int = -1
    """A front's shared memory; each front has its own, new one."""
    failures: int = 0
    """Starts in a row that did not get far."""
    served: bool = False
    """Whether a child was ever ready here."""


class Crew:
    """All children. Lives on one event loop.

    Args:
        config: Settings.
        origin: How children make the server again.
        ports: What fronts listen on; closed when they are told to stop.
        log_to_stderr: Whether children show the log.

    Raises:
        ServeError: There is no shared memory.
    """

    def __init__(self, config: ServerConfig, origin: Origin, ports: Ports, *, log_to_stderr: bool) -> None:
        self._config = config
        self._origin = origin
        self._ports = ports
        self._log_to_stderr = log_to_stderr
        self._memory_bytes = parse_bytes(config.shared_memory_size, what="shared_memory_size") or 0
        speaking = replace(config, grpc_port=ports.grpc_port)
        self._fronts = [Slot(f"front-{i}", s, speaking) for i, s in enumerate(ports.fronts)]
        devices = [device.strip() for device in config.device.split(",")]
        self._owners = [
            Slot(f"owner-{i}", None, replace(config, device=devices[i % len(devices)]))
            for i in range(max(config.replicas, len(devices)))
        ]
        # Most of an owner's start is imports: where no other owner can take over, one has done them already.
        self._spare = Slot(SPARE, None, config)
        self._scrape = Scrape(self._children)
        self._ending = False
        self._unfinished = False
        self._timers: set[asyncio.TimerHandle] = set()
        self._empty = asyncio.Event()
        self._memory = create_memory("tessera-server", self._memory_bytes)
        self.service = RemoteService(config, self._memory)
        """Asks the owners from this process."""
        self._attaching: set[asyncio.Task[None]] = set()
        self.error: TesseraError | None = None
        """Why it cannot serve."""
        self.failed = asyncio.Event()
        """Set with `error`."""
        self.all_ready = asyncio.Event()
        """Set once every child serves."""

    @property
    def owners(self) -> int:
        """Processes that run the model."""
        return len(self._owners)

    def start(self) -> None:
        """Start every child."""
        for slot in (*self._owners, *self._fronts):
            self._spawn(slot)
        self._watch()

    def stop_fronts(self) -> None:
        """Tell fronts to finish what they have; told again, they end at once."""
        for child in self._living(self._fronts):
            child.tell(Stop())

    async def end_fronts(self, timeout_s: float) -> bool:
        """Let fronts finish, and end those that do not; says whether all requests were finished."""
        self._ending = True
        self._ports.close()
        self.stop_fronts()
        in_time = await self._until_gone(self._fronts, timeout_s)
        return in_time and not self._unfinished

    async def end_owners(self, timeout_s: float) -> None:
        """Let owners give their models back, and end those that do not."""
        for child in self._living(self._owners):
            child.tell(Stop())
        await self._until_gone(self._owners, timeout_s)

    async def kill(self) -> None:
        """End whoever is left, and give everything back."""
        self._ending = True
        for timer in self._timers:
            timer.cancel()
        for child in self._children():
            child.kill()
        await self._until_gone([*self._fronts, *self._owners, self._spare], 5.0)
        self._ports.close()
        for slot in self._fronts:
            _close_memory(slot)
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    def _children(self) -> Iterator[Spawned]:
        return self._living([*self._fronts, *self._owners, self._spare])

    def _living(self, slots: list[Slot]) -> Iterator[Spawned]:
        return (slot.child for slot in slots if slot.child is not None)

    async def _until_gone(self, slots: list[Slot], timeout_s: float) -> bool:
        """Wait for the children of `slots`; those that are left are killed. Says whether none was."""
        until_s = time.monotonic() + timeout_s
        in_time = True
        while living := list(self._living(slots)):
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                if in_time:
                    logger.error("%s did not end in time", ", ".join(c.name for c in living))
                    in_time = False
                    until_s = time.monotonic() + 5.0
                    for child in living:
                        child.kill()
                    continue
                break
            self._empty.clear()
            try:
                await asyncio.wait_for(self._empty.wait(), left_s)
            except TimeoutError:
                continue
        return in_time

    def _spawn(self, slot: Slot) -> None:
        if self._ending or slot.child is not None:
            return
        try:
            slot.child = self._spawned(slot)
        except (OSError, ServeError) as error:
            logger.error("cannot start %s: %s", slot.name, error)
            self._again(slot)
            return
        if slot.listener is not None:
            for owner in self._living(self._owners):
                if owner.info is not None:
                    self._connect(slot, owner, owner.info)

    def _spawned(self, slot: Slot) -> Spawned:
        start = Start(
            slot.name, asdict(slot.config), self._origin, self._log_to_stderr, self.all_ready.is_set()
        )
        fds: list[int] = []
        if slot.listener is not None:
            slot.memory = create_memory(f"tessera-{slot.name}", self._memory_bytes)
            admin = [self._ports.admin.fileno()] if self._ports.admin else []
            fds = [slot.memory, slot.listener.fileno(), *admin]
        child = self._spare.child if slot.listener is None else None
        self._spare.child = None if child is not None else self._spare.child
        child = child or Spawned(slot.name, self._spare_ended)
        child.begin(
            start,
            fds,
            lambda child, message: self._receive(slot, child, message),
            lambda child: self._ended(slot, child),
        )
        return child

    def _hold_spare(self) -> None:
        """Have a process at hand that can be an owner as soon as it has loaded the model."""
        if self._ending or self._spare.child is not None or len(self._owners) > 1:
            return
        try:
            self._spare.child = Spawned(SPARE, self._spare_ended)
        except OSError as error:
            logger.warning("no process is held at hand: %s", error)

    def _spare_ended(self, _: Spawned) -> None:
        self._spare.child = None
        self._empty.set()
        self._later(STABLE_S, self._hold_spare)

    def _connect(self, front: Slot, owner: Spawned, info: ModelInfo) -> None:
        """Give a front and an owner a socket between them."""
        if front.child is None:
            return
        mine, other = socket.socketpair()
        with mine, other:
            owner.tell(Attach(), [other.fileno(), front.memory])
            front.child.tell(Ask(info), [mine.fileno()])

    def _receive(self, slot: Slot, child: Spawned, message: FromChild) -> None:
        match message:
            case Ready(info=info):
                self._is_ready(slot, child, info)
            case Failed():
                child.failure = message
            case Counted():
                self._scrape.said(child, message)
            case AskTotals():
                self._scrape.ask(child)
            case Beat(busy_s=busy_s) if busy_s > self._config.request_timeout_s + STABLE_S:
                logger.error(
                    "%s has been running a batch for %.0f s, and every request in it was answered "
                    "without it: it is started again",
                    child.name,
                    busy_s,
                )
                child.kill()

    def _is_ready(self, slot: Slot, child: Spawned, info: ModelInfo | None) -> None:
        child.is_ready = slot.served = True
        child.ready_s = time.monotonic()
        if info is not None:
            child.info = info
            for front in self._fronts:
                self._connect(front, child, info)
            self._ask_too(child, info)
        slots = (*self._fronts, *self._owners)
        if not self.all_ready.is_set() and all(s.child and s.child.is_ready for s in slots):
            self.all_ready.set()
            for other in self._living(self._fronts):
                other.tell(Open())
        if self.all_ready.is_set():
            self._hold_spare()

    def _ask_too(self, owner: Spawned, info: ModelInfo) -> None:
        mine, other = socket.socketpair()
        with other:
            owner.tell(Attach(), [other.fileno(), self._memory])
        task = asyncio.get_running_loop().create_task(self.service.attach(info, mine))
        self._attaching.add(task)
        task.add_done_callback(self._attaching.discard)

    def _ended(self, slot: Slot, child: Spawned) -> None:
        slot.child = None
        self._scrape.ended(child)
        _close_memory(slot)
        self._empty.set()
        if self._ending:
            self._unfinished = self._unfinished or (slot.listener is not None and child.status != 0)
            return
        if child.failure is not None and not slot.served:
            self._fail(child.failure.error())
            return
        logger.error("%s (process %d) %s", child.name, child.pid, _end_of(child))
        stable = child.ready_s is not None and time.monotonic() - child.ready_s > STABLE_S
        slot.failures = 0 if stable else slot.failures + 1
        if not slot.served and slot.failures >= _MAX_FIRST_STARTS:
            self._fail(ServeError(f"{child.name} {_end_of(child)} while it started, {slot.failures} times"))
            return
        self._again(slot)

    def _again(self, slot: Slot) -> None:
        """Start another child in `slot`: at once, unless starting does not help."""
        if self._ending:
            return
        delay_s = 0.0
        if slot.failures > 1:
            delay_s = min(LAST_DELAY_S, FIRST_DELAY_S * 2.0 ** (slot.failures - 2))
        self._later(delay_s, lambda: self._spawn(slot))

    def _fail(self, error: TesseraError) -> None:
        if self.error is None:
            self.error = error
        self._ending = True
        self.failed.set()

    def _watch(self) -> None:
        """Every second: end children that are silent."""
        now_s = time.monotonic()
        for child in list(self._children()):
            if child.is_ready and now_s - child.heard_s > SILENT_S:
                logger.error("%s says nothing for %.0f s: it is started again", child.name, SILENT_S)
                child.kill()
        self._later(1.0, self._watch)

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        def run() -> None:
            self._timers.discard(timer)
            call()

        timer = asyncio.get_running_loop().call_later(delay_s, run)
        self._timers.add(timer)


_MAX_FIRST_STARTS = 3
"""Starts after which a child that was never ready is given up, and the server with it."""


def _end_of(child: Spawned) -> str:
    if child.failure is not None:
        return f"cannot serve: {child.failure.message}"
    status = child.status
    if status is not None and status < 0:
        return f"was killed by signal {-status}"
    return f"ended with status {status}"


def _close_memory(slot: Slot) -> None:
    if slot.memory >= 0:
        os.close(slot.memory)
        slot.memory = -1
