"""What a server runs: one program on one device, behind a small interface."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from tessera.program.artifact import Artifact
from tessera.program.dim import evaluate
from tessera.program.errors import (
    ConfigError,
    DeviceError,
    InputError,
    MissingDependencyError,
    PackageError,
    ServeError,
)
from tessera.program.program import Program
from tessera.program.validate import bound_symbols
from tessera.serve.inputs import Arrays

if TYPE_CHECKING:
    from tessera.package.trust import Required
    from tessera.runtime.runtime import Runtime

logger = logging.getLogger("tessera.serve")


@runtime_checkable
class Model(Protocol):
    """A loaded program. Any number of threads may call `infer_batch` at once."""

    @property
    def program(self) -> Program:
        """Its interface, and its graph if it has one."""

    @property
    def version(self) -> str:
        """Version of the package it comes from."""

    @property
    def device(self) -> str:
        """Where it runs, such as `cuda:0`."""

    def infer_batch(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
        """Outputs by name, for inputs of the ports' dtypes and of shapes that fit them."""

    def memory_usage(self) -> Mapping[str, int]:
        """Bytes on the device by what they are for."""

    def close(self) -> None:
        """Give everything back."""


@runtime_checkable
class Replicated(Protocol):
    """Something that makes its own backend, such as a `LoadBalancer`."""

    def backend(self, observer: Any = None, *, name: str | None = None, version: str | None = None) -> Any:
        """What answers for the model; see `LoadBalancer.backend`."""


ModelSource = str | os.PathLike[str] | Artifact | Model | Replicated
"""A package's path, an artifact that was never saved, a model that is already loaded, or a balancer."""

Opener = Callable[[], Model]


class RuntimeModel:
    """A program of a `Runtime`.

    Args:
        runtime: Has the program loaded.
        program: Which one.
        version: Version of its package.
    """

    def __init__(self, runtime: Runtime, program: Program, version: str) -> None:
        self._runtime = runtime
        self.program = program
        self.version = version
        self.device = runtime.device

    def infer_batch(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
        """Outputs by name, for inputs of the ports' dtypes and of shapes that fit them."""
        result = self._runtime.execute(self.program.name, inputs)
        return result if isinstance(result, dict) else {self.program.outputs[0].name: result}

    def memory_usage(self) -> Mapping[str, int]:
        """Bytes on the device by what they are for."""
        return self._runtime.memory_usage()

    def close(self) -> None:
        """Give everything back."""
        self._runtime.close()


def opener(
    source: ModelSource,
    *,
    device: str,
    program: str | None,
    memory_pool_size: int | str | None,
    require_signature: Required = False,
) -> Opener:
    """A function that opens `source`; it may take a while and belongs in a thread.

    Args:
        source: What to serve.
        device: Device name, or `auto`.
        program: Which program; None if there is only one.
        memory_pool_size: Working memory on the device; None: the runtime's default.
        require_signature: Who must have signed the package, as `DeploymentPackage.load` takes it.

    Raises:
        PackageError: There is no such file.
        ServeError: A signature is required of what is no package.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if not path.exists():
            raise PackageError(
                f"there is no package {str(source)!r}" + ("" if path.is_absolute() else f" in {Path.cwd()}"),
                hint="tessera compile FILE --arch cpu -o model.tsd makes one",
            )
    elif require_signature is not False:
        raise ServeError(
            f"a signature is required, and a {type(source).__name__} in memory has none",
            hint="serve a package that is signed: tessera package sign",
        )
    elif isinstance(source, Model):
        return lambda: source
    elif isinstance(source, Replicated):
        return partial(_refuse_balancer, source)
    elif not isinstance(source, Artifact):
        raise ServeError(
            f"model_package is a {type(source).__name__}; it must be the path of a package",
            hint='ProductionServer(model_package="model.tsd")',
        )
    return lambda: _open(source, device, program, memory_pool_size, require_signature)


def _refuse_balancer(source: Replicated) -> Model:
    raise ServeError(
        f"a {type(source).__name__} has its replicas in this process, and cannot be opened in another one",
        hint="processes = 1 and replicas = 1, or give the package's path with device = 'cuda:0,cuda:1'",
    )


def _open(
    source: str | os.PathLike[str] | Artifact,
    device: str,
    name: str | None,
    pool: int | str | None,
    require_signature: Required,
) -> Model:
    from tessera.runtime.runtime import open_artifact

    more: dict[str, Any] = {} if pool is None else {"memory_pool_size": pool}
    if isinstance(source, Artifact):
        chosen = choose_program({p.name: p for p in source.programs}, name)
        runtime = _on_device(device, lambda d, strict: open_artifact(source, d, strict_device=strict, **more))
        return RuntimeModel(runtime, chosen, "0")
    from tessera.runtime.deployment import DeploymentPackage

    package = DeploymentPackage.load(Path(source), require_signature=require_signature)
    chosen = choose_program(package.programs, name)
    runtime = _on_device(device, lambda d, strict: package.create_runtime(d, strict_device=strict, **more))
    return RuntimeModel(runtime, chosen, package.manifest.version)


def _on_device(device: str, create: Callable[[str, bool], Runtime]) -> Runtime:
    if device != "auto":
        return create(device, False)  # noqa: FBT003
    try:
        return create("cuda:0", True)  # noqa: FBT003
    except (DeviceError, MissingDependencyError) as error:
        logger.info("device 'auto' is the cpu: %s", error.message)
        return create("cpu", False)  # noqa: FBT003


def choose_program(programs: Mapping[str, Program], name: str | None) -> Program:
    """The program called `name`; without a name the only one.

    Raises:
        ConfigError: There is none, or there are several.
    """
    if name is None and len(programs) == 1:
        return next(iter(programs.values()))
    if name is None or name not in programs:
        listing = ", ".join(programs) or "none"
        raise ConfigError(
            f"the package has {len(programs)} programs, and the setting 'program' does not say which to serve"
            if name is None
            else f"the package has no program {name!r}",
            hint=f"set 'program' to one of: {listing}",
            key="program",
        )
    return programs[name]


def warm_up(model: Model, rows: int, symbol: str | None) -> float:
    """Run `model` on zeros, with one row and with `rows`; seconds it took.

    Args:
        model: What to run.
        rows: Rows of a full batch.
        symbol: The size that counts rows; None: the program is not stacked.
    """
    started = time.perf_counter()
    program = model.program
    for count in sorted({1, rows}) if symbol else [1]:
        try:
            model.infer_batch(zeros_of(program, count, symbol))
        except InputError as error:
            # Some programs take only certain sizes; real requests will bring them.
            logger.info("no warm-up with %d rows: %s", count, error.message)
    return time.perf_counter() - started


def zeros_of(program: Program, rows: int, symbol: str | None) -> Arrays:
    """Inputs of zeros with `rows` rows; every size but `symbol` is 1."""
    sizes = dict.fromkeys(bound_symbols(program), 1)
    if symbol:
        sizes[symbol] = rows
    inputs: Arrays = {}
    for port in program.inputs:
        shape = tuple(evaluate(dim, sizes) for dim in port.shape)
        inputs[port.name] = np.zeros(shape, port.dtype.numpy)
        if port.kind == "scalar" and port.name in sizes:
            inputs[port.name] = np.asarray(sizes[port.name], port.dtype.numpy)
    return inputs
