"""Which models a server has: name -> versions -> what answers.

Every protocol asks here. `resolve` and what follows it up to the first `await` see one state: the
registry changes only on the event loop that the requests run on. Code that waits for something
between `resolve` and the inference says so with `hold`, and the model stays open that long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from tessera.program.errors import ServeError
from tessera.serve.config import ServerConfig
from tessera.serve.models.backend import Backend
from tessera.serve.models.versions import version_key
from tessera.serve.refusals import still_loading
from tessera.serve.request import RequestError
from tessera.serve.security.files import State as FileState
from tessera.serve.service import Phase, Result

if TYPE_CHECKING:
    from tessera.serve.models.spec import ModelSpec

__all__ = ["Backend", "Entry", "ModelNotFoundError", "ModelStatus", "Registry", "State"]

Target = tuple[str, str | None]
"""Name and version of a model; without a version, the latest."""


class State(Enum):
    """Whether a version of a model answers."""

    LOADING = "loading"
    """It is being opened or warmed up."""
    READY = "ready"
    """It answers."""
    DRAINING = "draining"
    """It finishes what it accepted; new requests go elsewhere."""
    UNAVAILABLE = "unavailable"
    """It does not answer; the reason says why."""


class ModelNotFoundError(RequestError):
    """No model of that name and version answers here (404).

    Args:
        message: Which one was asked for.
        hint: What there is.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message, hint=hint, status=HTTPStatus.NOT_FOUND)


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One row of the listing."""

    name: str | None
    """None: its package gives the name, and is still being loaded."""
    version: str | None
    """None: as with the name, or it was never loaded."""
    state: State
    reason: str
    """Why it is unavailable; empty otherwise."""


@dataclass(slots=True, eq=False)
class Entry:
    """A backend and what is known of it. Changed by the registry alone."""

    backend: Backend
    name: str | None
    version: str | None
    spec: ModelSpec | None = None
    state: State = State.LOADING
    reason: str = ""
    holds: int = 0
    """How many `hold`s keep it open."""
    file_state: FileState = None
    """What its file was when it was opened."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is closed after it was retired."""


class Registry:
    """The models of one server. Lives on one event loop; only `add` may be called before it runs."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._targets: dict[tuple[str, str | None], Backend] = {}
        self._default: str | None = None
        self._chosen: Backend | None = None
        self._aliases: dict[str, Callable[[], Iterable[Target]]] = {}
        self._phase = Phase.LOADING

    @property
    def phase(self) -> Phase:
        """Where the server as a whole is in its life. Loading also while a model that answered cannot."""
        if self._phase is Phase.READY and any(
            e.state is State.READY and e.backend.phase is Phase.LOADING for e in self._entries
        ):
            return Phase.LOADING
        return self._phase

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._phase = phase

    def add(
        self,
        backend: Backend,
        *,
        name: str | None = None,
        version: str | None = None,
        spec: ModelSpec | None = None,
    ) -> Entry:
        """List `backend`, which is being loaded. Until it is ready, it answers 503 where nothing else does.

        Args:
            backend: Not loaded yet.
            name: None: its program's.
            version: None: its package's.
            spec: What it is made of.
        """
        entry = Entry(backend, name, version, spec)
        self._entries.append(entry)
        self._rebuild()
        return entry

    def mark_ready(self, entry: Entry) -> list[Entry]:
        """Let `entry` answer from now on.

        Returns:
            Those that answered for the same name and version, and do so no more.
        """
        entry.name, entry.version = entry.backend.name, entry.backend.version
        replaced = [
            e for e in self.entries(State.READY) if (e.name, e.version) == (entry.name, entry.version)
        ]
        entry.state = State.READY
        self._rebuild()
        return replaced

    def mark_failed(self, entry: Entry, reason: str, serving: Sequence[Entry] = ()) -> None:
        """`entry` cannot be loaded; `serving`, or what else has its name and version, goes on answering."""
        known = {*self._alike(entry), *serving}
        if known:
            for other in known:
                other.reason = f"the last load failed: {reason}"
            self._entries.remove(entry)
        else:
            entry.state, entry.reason = State.UNAVAILABLE, reason
        self._rebuild()

    def retire(self, entry: Entry, reason: str) -> None:
        """Let `entry` take no new requests."""
        entry.state, entry.reason = State.DRAINING, reason
        self._rebuild()

    def remove(self, entry: Entry, reason: str) -> None:
        """`entry` is closed. With a reason it stays listed, until something has its name and version."""
        if reason:
            entry.state, entry.reason = State.UNAVAILABLE, reason
        else:
            self._entries.remove(entry)
        entry.gone.set()
        self._rebuild()

    def entries(self, *states: State) -> list[Entry]:
        """What is in one of `states`, in the order it came."""
        return [entry for entry in self._entries if entry.state in states]

    def answering(self, name: str, version: str | None = None) -> list[Entry]:
        """The loaded versions of `name`, or one of them.

        Raises:
            ModelNotFoundError: There is none.
        """
        ready = self.entries(State.READY)
        found = [e for e in ready if e.name == name and (version or None) in (None, e.version)]
        if not found:
            raise self._missing(name, version)
        return found

    def resolve(self, name: str, version: str | None = None) -> Backend:
        """What answers for `name`.

        Args:
            name: What clients call the model.
            version: Which one; None or empty: the latest, by semantic version.

        Raises:
            ModelNotFoundError: There is no such model or version; the hint lists what there is.
            OverloadedError: A model is still being loaded whose name is not known yet.
        """
        found = self._targets.get((name, version or None))
        if found is None and name in self._aliases and not version:
            found = self._aliased(self._aliases[name]())
        if found is None:
            raise self._missing(name, version)
        return found

    def set_alias(self, name: str, targets: Callable[[], Iterable[Target]]) -> None:
        """Let `name` stand for the first of `targets` that answers; asked for at each `resolve`.

        A model of that name goes before it.
        """
        self._aliases[name] = targets

    def _aliased(self, targets: Iterable[Target]) -> Backend | None:
        found = filter(None, map(self._targets.get, targets))
        return next((backend for backend in found if backend.loaded), None)

    @property
    def default(self) -> Backend:
        """What answers requests that name no model: the one that was set, or else the only one.

        Raises:
            ModelNotFoundError: There is none, or there are several.
        """
        if self._chosen is None:
            raise self._no_default()
        return self._chosen

    async def infer(self, data: Any, *, timeout_s: float | None = None) -> Result:
        """The default model's output for `data`, for callers that come from other threads."""
        return await self.default.infer(data, timeout_s=timeout_s)

    def set_default(self, name: str | None) -> None:
        """Let requests that name no model go to the latest version of `name`; None: to the only model."""
        self._default = name
        self._rebuild()

    @contextmanager
    def hold(self, name: str, version: str | None = None) -> Iterator[Backend]:
        """As `resolve`; the backend is kept open until the end of the `with`, even if it is replaced."""
        backend = self.resolve(name, version)
        entry = next(e for e in self._entries if e.backend is backend)
        entry.holds += 1
        try:
            yield backend
        finally:
            entry.holds -= 1

    def config_of(self, backend: Backend) -> ServerConfig:
        """The settings that `backend` is served with."""
        spec = next((e.spec for e in self._entries if e.backend is backend), None)
        return spec.config if spec else ServerConfig()

    @property
    def backends(self) -> list[Backend]:
        """Every backend that is not closed."""
        return [e.backend for e in self._entries if e.state is not State.UNAVAILABLE]

    @property
    def names(self) -> list[str]:
        """Names of the models that answer, sorted."""
        return sorted({name for name, _ in self._targets})

    @property
    def aliases(self) -> list[str]:
        """Names that stand for others, sorted."""
        return sorted(self._aliases)

    def versions(self, name: str) -> list[str]:
        """Versions of `name` that answer, the latest first; empty if there is none."""
        found = {version for each, version in self._targets if each == name and version is not None}
        return sorted(found, key=version_key, reverse=True)

    def listing(self) -> list[ModelStatus]:
        """Every version of every model and its state, by name, the latest version first."""
        # One row each, though a model may be loaded while another one of its name and version serves.
        order = (State.UNAVAILABLE, State.DRAINING, State.LOADING, State.READY)
        shown = {(e.name, e.version): e for e in sorted(self._entries, key=lambda e: order.index(e.state))}
        rows = [ModelStatus(e.name, e.version, e.state, e.reason) for e in shown.values()]
        rows.sort(key=lambda row: version_key(row.version or ""), reverse=True)
        return sorted(rows, key=lambda row: row.name or "")

    @property
    def waiting(self) -> int:
        """Requests in all queues."""
        return sum(backend.waiting for backend in self.backends)

    @property
    def running(self) -> int:
        """Batches in execution."""
        return sum(backend.running for backend in self.backends)

    def begin_drain(self) -> None:
        """Say to whoever asks that the server is about to end; requests are still taken."""
        self.phase = Phase.DRAINING
        for backend in self.backends:
            backend.phase = Phase.DRAINING

    async def drain(self) -> None:
        """Return when nothing waits or runs."""
        for backend in self.backends:
            await backend.drain()

    def close(self, timeout_s: float) -> bool:
        """Give every model back; says whether all of them ended within `timeout_s` each. Blocks."""
        self.phase = Phase.STOPPED
        ended = [backend.close(timeout_s) for backend in self.backends]
        return all(ended)

    def _rebuild(self) -> None:
        """Make the table that `resolve` looks into, in one step."""
        self._forget_rows()
        targets: dict[tuple[str, str | None], Backend] = {}
        live = [e for e in self._entries if e.state in _ANSWERS and e.name is not None]
        # Later entries win: the latest version, and a loaded one before one that is being loaded.
        for entry in sorted(live, key=lambda e: (e.state is State.READY, version_key(e.version or ""))):
            targets[str(entry.name), entry.version] = targets[str(entry.name), None] = entry.backend
        self._targets = targets
        if self._default is not None:
            self._chosen = targets.get((self._default, None))
        elif len({e.name for e in self._entries if e.state in _ANSWERS}) == 1:
            named = targets.get((live[0].name or "", None)) if live else None
            self._chosen = named or next(e.backend for e in self._entries if e.state in _ANSWERS)
        else:
            self._chosen = None

    def _alike(self, entry: Entry) -> list[Entry]:
        """What answers for the name and version of `entry`."""
        key = (entry.name, entry.version)
        return [other for other in self.entries(State.READY) if (other.name, other.version) == key]

    def _forget_rows(self) -> None:
        """Drop rows of what is unavailable that say nothing any more, and the oldest of too many."""
        newest = {(e.name, e.version): e for e in self._entries}
        gone = self.entries(State.UNAVAILABLE)
        stale = [e for e in gone if newest[e.name, e.version] is not e]
        for entry in stale or gone[:-_UNAVAILABLE_ROWS]:
            self._entries.remove(entry)

    def _no_default(self) -> ServeError:
        if self._default is not None:
            return self._missing(self._default, None)
        text = "there are several models here, and the request names none"
        return ModelNotFoundError(text if self._targets else "there is no model here", self._hint())

    def _missing(self, name: str, version: str | None) -> ServeError:
        if any(entry.state is State.LOADING and entry.name is None for entry in self._entries):
            return still_loading()
        reason = next(
            (e.reason for e in self._entries if e.name == name and version in (None, "", e.version)), ""
        )
        return ModelNotFoundError(
            f"there is no model {name[:80]!r}"
            + (f" of version {version[:80]!r}" if version else "")
            + (f": {reason}" if reason else ""),
            self._hint(),
        )

    def _hint(self) -> str:
        shown = [f"{name!r} of version {', '.join(map(repr, self.versions(name)))}" for name in self.names]
        more = f", and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        return f"there is {', '.join(shown[:_SHOWN])}{more}" if shown else "no model is loaded"


_ANSWERS = (State.LOADING, State.READY)
"""States whose backends are asked. One that is being loaded answers 503 by itself."""

_UNAVAILABLE_ROWS = 64
"""Models that are listed though they do not answer; versions may come and go for months."""

_SHOWN = 8
"""Models that an error lists."""
