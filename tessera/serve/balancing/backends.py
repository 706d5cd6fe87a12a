"""What answers for a model of a server: a service, or several replicas of it."""

from __future__ import annotations

from collections.abc import Callable

from tessera.program.errors import ConfigError
from tessera.serve.model import Replicated
from tessera.serve.models.registry import Backend
from tessera.serve.models.spec import ModelSpec
from tessera.serve.observe.model_metrics import ServiceObserver
from tessera.serve.service import Service


def backend_of(spec: ModelSpec, observer: Callable[[], ServiceObserver] | None) -> Backend:
    """The service of `spec`; over several devices, or with a balancer as its source, a balanced one.

    Args:
        spec: What is to be served. Its setting `device` may list several, `cuda:0,cuda:1`.
        observer: Makes what is told of the batches.

    Raises:
        ConfigError: A device of the list has no name, or the source cannot be opened several times.
        ServeError: The balancer is in use already.
    """
    if isinstance(spec.source, Replicated):
        made: Backend = spec.source.backend(observer, name=spec.name, version=spec.version)
        return made
    devices = [device.strip() for device in spec.config.device.split(",")]
    if len(devices) == 1:
        told = observer() if observer else None
        return Service(spec.open, spec.config, told, name=spec.name, version=spec.version)
    return _balanced(spec, devices, observer)


def _balanced(spec: ModelSpec, devices: list[str], observer: Callable[[], ServiceObserver] | None) -> Backend:
    # Most servers have one device, and do not pay for this.
    from tessera.serve.balancing.balanced import BalancedService
    from tessera.serve.balancing.replica import SpecReplica
    from tessera.serve.balancing.settings import BalancerSettings

    if not all(devices) or not spec.reopens:
        raise ConfigError(
            f"device is {spec.config.device!r}, but a model in memory is where it is"
            if all(devices)
            else f"device is {spec.config.device!r}; one of the list has no name",
            hint="device = 'cuda:0,cuda:1', with the path of a package",
            key="device",
        )
    before = [devices[:n].count(device) for n, device in enumerate(devices)]
    names = [device if not k else f"{device}#{k + 1}" for device, k in zip(devices, before, strict=True)]
    sources = {name: SpecReplica.on(spec, device, name) for name, device in zip(names, devices, strict=True)}
    settings = BalancerSettings(strategy=spec.config.strategy, max_queue=spec.config.max_queue)
    return BalancedService(sources, settings, observer=observer, name=spec.name, version=spec.version)
