"""The main module of a front or an owner: `python -m tessera.serve.processes.child NAME FD PARENT`."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import TypeVar

from tessera.serve.config import ServerConfig
from tessera.serve.observe.context import name_process
from tessera.serve.observe.observation import set_up_logging
from tessera.serve.processes.channel import Channel
from tessera.serve.processes.messages import Failed, FromChild, Start, ToChild, encode, to_child

logger = logging.getLogger("tessera.serve")

BEAT_S = 1.0
"""How often a child says that it lives."""

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15

M = TypeVar("M")


class Child:
    """This process's side of the channel to the supervisor.

    Args:
        end: The socket.
    """

    def __init__(self, end: socket.socket) -> None:
        self.started: asyncio.Future[tuple[Start, list[int]]] = asyncio.get_running_loop().create_future()
        """The first message, and its descriptors."""
        self.on_message: Callable[[ToChild, list[int]], None] | None = None
        """Gets the later ones."""
        self._early: list[tuple[ToChild, list[int]]] = []
        self._channel = Channel(end, self._receive, self._orphaned)

    def say(self, message: FromChild) -> None:
        """Tell the supervisor."""
        self._channel.send(encode(message))

    def listen(self, on_message: Callable[[ToChild, list[int]], None]) -> None:
        """Let `on_message` have every message after the first, those that have come included."""
        self.on_message = on_message
        early, self._early = self._early, []
        for message, fds in early:
            on_message(message, fds)

    def early(self, kind: type[M]) -> list[tuple[M, list[int]]]:
        """Messages of one kind that came before anybody listened; they do not come again."""
        found: list[tuple[M, list[int]]] = [
            (message, fds) for message, fds in self._early if isinstance(message, kind)
        ]
        self._early = [entry for entry in self._early if not isinstance(entry[0], kind)]
        return found

    async def start(self) -> tuple[Start, ServerConfig, list[int]]:
        """The first message, the settings in it, and its descriptors."""
        start, fds = await self.started
        _show_name(start.name)
        # The child finds what the parent finds, whatever was done to sys.path since it started.
        sys.path[:] = start.origin.sys_path
        config = ServerConfig(**start.config)
        if start.log_to_stderr:
            name_process(start.name)
            set_up_logging(config)
        return start, config, fds

    def _receive(self, data: bytes, fds: list[int]) -> None:
        message = to_child.decode(data)
        if isinstance(message, Start):
            self.started.set_result((message, fds))
        elif self.on_message is None:
            self._early.append((message, fds))
        else:
            self.on_message(message, fds)

    def _orphaned(self) -> None:
        """The supervisor is gone. So are its other children, and whoever comes next starts its own."""
        os._exit(1)


def main() -> None:
    """Be the child that the arguments say."""
    name, fd, parent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    _die_with(parent)
    _restore_path()
    # A terminal's Ctrl-C and systemd's SIGTERM go to every process. The supervisor says what is to be done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    from tessera.serve.http import loop_factory

    role = name.partition("-")[0]
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        status = runner.run(_serve(role, socket.socket(fileno=fd)))
    logging.shutdown()
    # Threads of endpoints or of a model may never end; they must not keep the process.
    os._exit(status)


async def _serve(role: str, end: socket.socket) -> int:
    child = Child(end)
    try:
        if role == "front":
            from tessera.serve.processes.front import serve
        else:
            from tessera.serve.processes.owner import serve
        return await serve(child)
    except Exception as error:
        logger.debug("cannot serve", exc_info=True)
        child.say(Failed.of(error))
        return 1


def _die_with(parent: int) -> None:
    """Ask the kernel to kill this process when the thread that started it is gone, whatever else happens.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _show_name(name: str) -> None:
    """Let `ps -o comm` and `top` show what this process is: one that was held at hand had another name.

    Source: prctl(2), PR_SET_NAME.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NAME, name.encode()[:15])


def _restore_path() -> None:
    """Leave PYTHONPATH as the supervisor has it, for processes that this one starts."""
    rest = os.environ.pop("PYTHONPATH", "").partition(os.pathsep)
    if rest[1]:
        os.environ["PYTHONPATH"] = rest[2]


if __name__ == "__main__":
    main()
