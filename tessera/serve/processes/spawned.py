"""A child process, from its start to its end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import tessera
from tessera.serve.processes.channel import Channel, channel_pair
from tessera.serve.processes.info import ModelInfo
from tessera.serve.processes.messages import Failed, FromChild, Start, ToChild, encode, from_child

_MODULE = "tessera.serve.processes.child"


class Spawned:
    """A front or an owner, as the supervisor sees it.

    It imports what its role needs, and waits for `begin`.

    Args:
        name: Such as `front-0`; what is before the hyphen is its role.
        on_exit: Is told once when it has ended.
    """

    def __init__(self, name: str, on_exit: Callable[[Spawned], None]) -> None:
        self.name = name
        """Such as `front-0`."""
        self.started_s = time.monotonic()
        """When it was started."""
        self.heard_s = self.started_s
        """When it last said something."""
        self.is_ready = False
        """Whether it serves."""
        self.ready_s: float | None = None
        """Since when; None: it does not yet."""
        self.info: ModelInfo | None = None
        """An owner's model, once it is loaded."""
        self.failure: Failed | None = None
        """Why it cannot serve, in its own words."""
        self._on_message: Callable[[Spawned, FromChild], None] = _ignore
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        ours, theirs = channel_pair()
        with theirs:
            self._process = subprocess.Popen(
                _command(name, theirs.fileno()),
                env=_environment(),
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        self._pidfd = os.pidfd_open(self._process.pid)
        self._channel = Channel(ours, self._receive, lambda: None)
        self._loop.add_reader(self._pidfd, self._ended)

    def begin(
        self,
        start: Start,
        fds: Sequence[int],
        on_message: Callable[[Spawned, FromChild], None],
        on_exit: Callable[[Spawned], None],
    ) -> None:
        """Let it be what `start` says.

        Args:
            start: What it is.
            fds: Descriptors that go with it; they stay the caller's.
            on_message: Is told what the child says.
            on_exit: Is told once when it has ended, in place of whom the constructor was given.
        """
        self.name = start.name
        self.started_s = self.heard_s = time.monotonic()
        self._on_message, self._on_exit = on_message, on_exit
        self._channel.send(encode(start), fds)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None: it lives."""
        return self._process.returncode

    def tell(self, message: ToChild, fds: Sequence[int] = ()) -> None:
        """Send it `message`; of `fds` it gets duplicates."""
        self._channel.send(encode(message), fds)

    def kill(self) -> None:
        """End it at once."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)

    def _receive(self, data: bytes, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        self.heard_s = time.monotonic()
        self._on_message(self, from_child.decode(data))

    def _ended(self) -> None:
        if self._process.poll() is None:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        # What it said last, its error above all, is still in the socket.
        self._channel.read_rest()
        self._channel.close()
        self._on_exit(self)


def _ignore(child: Spawned, message: FromChild) -> None:
    """What a child says that is nothing yet."""


def _command(name: str, fd: int) -> list[str]:
    # -P: the current folder may hold an http.py of its own.
    return [sys.executable, "-P", "-m", _MODULE, name, str(fd), str(os.getpid())]


def _environment() -> dict[str, str]:
    """The environment, with this Tessera first on the path; the child takes that entry out again."""
    root = str(Path(tessera.__file__).parent.parent)
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": root if before is None else root + os.pathsep + before}
