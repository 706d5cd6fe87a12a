"""The socket between the supervisor and a child: messages, some of them with file descriptors.

It is also how each learns that the other is gone: the kernel closes it, whatever happened.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

PIECE_BYTES = 32 << 10
"""Longest datagram. A message of more goes in several; the kernel's buffers hold some six."""

MAX_FDS = 4
"""Most descriptors of a message."""

_LAST, _MORE = b"\0", b"\1"

OnMessage = Callable[[bytes, list[int]], None]


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends, non-blocking."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)  # noqa: FBT003
    return ends


class Channel:
    """One end, on the running event loop.

    Args:
        end: From `channel_pair`; closed with the channel.
        on_message: Gets each message, and its descriptors, which are then its own.
        on_closed: Is told once when the other end is gone.
    """

    def __init__(self, end: socket.socket, on_message: OnMessage, on_closed: Callable[[], None]) -> None:
        self._end = end
        self._on_message = on_message
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._pieces: list[bytes] = []
        self._fds: list[int] = []
        self._unsent: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._closed = False
        self._loop.add_reader(end, self._read)

    def send(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """Send `message`; of `fds` the other end gets duplicates, and they are the caller's to close.

        What is sent to an end that is gone is lost: `on_closed` tells.
        """
        if self._closed:
            return
        pieces = [message[at : at + PIECE_BYTES] for at in range(0, len(message), PIECE_BYTES)] or [b""]
        for piece in pieces[:-1]:
            self._unsent.append((_MORE + piece, ()))
        self._unsent.append((_LAST + pieces[-1], tuple(os.dup(fd) for fd in fds)))
        self._write()

    def read_rest(self) -> None:
        """Take what the other end has said so far, without waiting for the event loop."""
        self._read()

    def close(self) -> None:
        """Hang up. `on_closed` is not called."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._end)
        self._loop.remove_writer(self._end)
        self._end.close()
        for _, fds in self._unsent:
            _close(fds)
        _close(self._fds)
        self._unsent.clear()

    def _write(self) -> None:
        while self._unsent:
            data, fds = self._unsent[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                self._end.sendmsg([data], rights)
            except BlockingIOError:
                self._loop.add_writer(self._end, self._write)
                return
            except OSError:
                # The reader hears of it as well, after what the other end said last.
                for _, unsent in self._unsent:
                    _close(unsent)
                self._unsent.clear()
                break
            self._unsent.popleft()
            _close(fds)
        self._loop.remove_writer(self._end)

    def _read(self) -> None:
        while not self._closed:
            try:
                data, fds, _, _ = socket.recv_fds(
                    self._end, PIECE_BYTES + 1, MAX_FDS, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:
                self.close()
                self._on_closed()
                return
            self._pieces.append(data[1:])
            self._fds.extend(fds)
            if data[:1] == _LAST:
                message, taken = b"".join(self._pieces), self._fds
                self._pieces, self._fds = [], []
                self._on_message(message, taken)


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
