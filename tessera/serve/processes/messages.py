"""What the supervisor and its children say to each other."""

from __future__ import annotations

from typing import Any

import msgspec

from tessera.program import errors
from tessera.program.errors import ServeError, TesseraError
from tessera.serve.processes.info import ModelInfo
from tessera.serve.processes.origin import Origin
from tessera.serve.processes.totals import Told


class Start(msgspec.Struct, frozen=True, tag=True):
    """The first message to a child, with a listening socket for a front: what it is."""

    name: str
    """Such as `front-0`."""
    config: dict[str, Any]
    """Fields of a `ServerConfig`."""
    origin: Origin
    """Where the server was made."""
    log_to_stderr: bool
    """Whether `run()` serves, which shows the log."""
    is_open: bool = False
    """Whether the server as a whole is ready: a front that is started later says so at once."""


class Attach(msgspec.Struct, frozen=True, tag=True):
    """To an owner, with a socket and a front's shared memory: serve this front, too."""


class Ask(msgspec.Struct, frozen=True, tag=True):
    """To a front, with a socket: an owner is at its other end."""

    info: ModelInfo


class Open(msgspec.Struct, frozen=True, tag=True):
    """To a front: all fronts have an owner, so that a client which one calls ready is answered by each."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """To a child: finish what is accepted and end. A second one: end at once."""


class Count(msgspec.Struct, frozen=True, tag=True):
    """To a child: say what your metrics are."""


class Totals(msgspec.Struct, frozen=True, tag=True):
    """To a front: the metrics of all processes, as Prometheus text."""

    text: bytes


class Ready(msgspec.Struct, frozen=True, tag=True):
    """From a child: it serves. From an owner with its model."""

    info: ModelInfo | None = None


class Failed(msgspec.Struct, frozen=True, tag=True):
    """From a child: it cannot serve."""

    kind: str
    message: str
    hint: str | None
    key: str | None = None
    """The setting that is wrong."""

    @classmethod
    def of(cls, error: BaseException) -> Failed:
        """`error`, as a child says it."""
        if not isinstance(error, TesseraError):
            return cls("ServeError", f"{type(error).__name__}: {error}", None)
        return cls(type(error).__name__, error.message, error.hint, error.fields.get("key"))

    def error(self) -> TesseraError:
        """The error that the child met."""
        found = getattr(errors, self.kind, None)
        kind = found if isinstance(found, type) and issubclass(found, TesseraError) else ServeError
        more: dict[str, Any] = {} if self.key is None else {"key": self.key}
        return kind(self.message, hint=self.hint, **more)


class Beat(msgspec.Struct, frozen=True, tag=True):
    """From a child, every second: it lives."""

    busy_s: float = 0.0
    """How long its oldest batch has been running."""


class Counted(msgspec.Struct, frozen=True, tag=True):
    """From a child: its metrics."""

    told: Told
    asked: bool = False
    """Whether this answers a `Count`."""


class AskTotals(msgspec.Struct, frozen=True, tag=True):
    """From a front: somebody reads `/metrics`."""


ToChild = Start | Attach | Ask | Open | Stop | Count | Totals
FromChild = Ready | Failed | Beat | Counted | AskTotals

encode = msgspec.msgpack.encode
to_child: msgspec.msgpack.Decoder[ToChild] = msgspec.msgpack.Decoder(ToChild)
from_child: msgspec.msgpack.Decoder[FromChild] = msgspec.msgpack.Decoder(FromChild)
