"""ModelReplica: one copy of a model on one device, as a balancer takes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from tessera.serve.config import ServerConfig
from tessera.serve.model import ModelSource, opener
from tessera.serve.models.registry import Backend
from tessera.serve.models.spec import ModelSpec, model_spec
from tessera.serve.observe.model_metrics import ServiceObserver
from tessera.serve.service import Service

if TYPE_CHECKING:
    from tessera.package.trust import Required


class ReplicaBackend(Backend, Protocol):
    """What a replica answers with. `service.Service` is one."""

    async def probe(self) -> None:
        """Run the model once, whatever waits. Whatever goes wrong is raised."""

    def abort(self) -> None:
        """Answer everything that waits or runs with `OverloadedError`, and take nothing more."""


class ReplicaSource(Protocol):
    """What a balancer needs to know of a replica before it is loaded. `ModelReplica` is one."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def workers(self) -> int:
        """Batches that it may run at the same time."""

    @property
    def max_batch_size(self) -> int:
        """Most rows of a batch."""

    @property
    def max_queue(self) -> int:
        """Most requests that may wait at it."""

    @property
    def reopens(self) -> bool:
        """Whether it can be loaded a second time, after a failure."""

    def make(self, observer: ServiceObserver | None) -> ReplicaBackend:
        """What answers for it; it is not loaded yet."""


@dataclass(frozen=True, slots=True)
class SpecReplica:
    """A replica of a server's model."""

    spec: ModelSpec
    """Package and settings, its device among them."""
    name: str
    """What people call it."""

    @classmethod
    def on(cls, spec: ModelSpec, device: str, name: str) -> SpecReplica:
        """The replica of `spec` on `device`."""
        config = spec.config.changed({"device": device})
        opens = opener(
            spec.source,
            device=device,
            program=config.program,
            memory_pool_size=config.memory_pool_size,
            require_signature=spec.required,
        )
        return cls(replace(spec, config=config, open=opens), name)

    @property
    def workers(self) -> int:
        """Batches that it may run at the same time."""
        return self.spec.config.workers

    @property
    def max_batch_size(self) -> int:
        """Most rows of a batch."""
        return self.spec.config.max_batch_size

    @property
    def max_queue(self) -> int:
        """Most requests that may wait at it."""
        return self.spec.config.max_queue

    @property
    def reopens(self) -> bool:
        """Whether it can be loaded a second time, after a failure."""
        return self.spec.reopens

    def make(self, observer: ServiceObserver | None) -> ReplicaBackend:
        """What answers for it; it is not loaded yet."""
        spec = self.spec
        return Service(spec.open, spec.config, observer, name=spec.name, version=spec.version)


class ModelReplica:
    """One copy of a model, on a device of its own.

    Nothing is loaded here, but a package that is not there is an error at once.

    Args:
        model_package: Path of a package. An `Artifact` or a loaded `Model` will do as well.
        device: Where it runs. A GPU that is not there is replaced by the CPU, with a
            `DeviceFallbackWarning`, unless `TESSERA_STRICT_DEVICE` is set.
        max_batch_size: Most rows that are stacked into one execution.
        name: What it is called in listings and logs; None: the device's name.
        workers: Batches that may run at the same time.
        max_queue: Most requests that may wait at it.
        program: Which program; None if the package has only one.
        memory_pool_size: Working memory, in bytes or as `"8GB"`; None: the runtime's default.
        require_signature: Who must have signed the package; None: what `TESSERA_REQUIRE_SIGNATURE` says.

    Raises:
        ConfigError: A setting that cannot be.
        PackageError: There is no such file.
    """

    def __init__(
        self,
        model_package: ModelSource,
        device: str = "cuda:0",
        max_batch_size: int = 32,
        *,
        name: str | None = None,
        workers: int = 1,
        max_queue: int = 1024,
        program: str | None = None,
        memory_pool_size: int | str | None = None,
        require_signature: Required | None = None,
    ) -> None:
        settings: dict[str, Any] = {
            "device": device,
            "max_batch_size": max_batch_size,
            "workers": workers,
            "max_queue": max_queue,
        }
        more = {"program": program, "memory_pool_size": memory_pool_size}
        settings |= {key: value for key, value in more.items() if value is not None}
        base = ServerConfig.load()
        spec = model_spec(model_package, base, require_signature=require_signature, settings=settings)
        self._replica = SpecReplica(spec, name or device)

    @property
    def name(self) -> str:
        """What people call it."""
        return self._replica.name

    @property
    def device(self) -> str:
        """Where it should run."""
        return self._replica.spec.config.device

    @property
    def workers(self) -> int:
        """Batches that it may run at the same time."""
        return self._replica.workers

    @property
    def max_batch_size(self) -> int:
        """Most rows of a batch."""
        return self._replica.max_batch_size

    @property
    def max_queue(self) -> int:
        """Most requests that may wait at it."""
        return self._replica.max_queue

    @property
    def reopens(self) -> bool:
        """Whether it can be loaded a second time, after a failure."""
        return self._replica.reopens

    def make(self, observer: ServiceObserver | None) -> ReplicaBackend:
        """What answers for it; it is not loaded yet."""
        return self._replica.make(observer)

    def __repr__(self) -> str:
        return f"ModelReplica({str(self._replica.spec)!r}, device={self.device!r})"
