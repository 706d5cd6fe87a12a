"""A package's program as a function."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tessera.package.trust import Required, required_policy
from tessera.package.verification import check_signature
from tessera.program.errors import DeviceError, InputError, MissingDependencyError
from tessera.program.program import Program, default_program
from tessera.runtime.deployment import DeploymentPackage
from tessera.runtime.runtime import Runtime
from tessera.runtime.workspace import Workspace

logger = logging.getLogger("tessera.runtime")


class Model:
    """One program of a package, loaded on a device, to be called with its inputs.

    Args:
        package: What to load.
        device: Where it runs.
        program: Which program.
        memory_pool_size: Most working memory to hold.
        enable_profiling: Measure every step.
        strict_device: A device that is not there is an error, instead of another taking its place.

    Raises:
        InputError: There is no such program, or several and none is called `forward`.
        DeviceError: No device runs it.
    """

    def __init__(
        self,
        package: DeploymentPackage,
        device: str,
        *,
        program: str | None = None,
        memory_pool_size: int | str | None = "4GB",
        enable_profiling: bool = False,
        strict_device: bool = False,
    ) -> None:
        name = choose_program(package, program)
        self.package = package
        """Where it came from."""
        self.name = name
        """The program's name."""
        self.runtime: Runtime = package.create_runtime(
            device=device,
            memory_pool_size=memory_pool_size,
            enable_profiling=enable_profiling,
            strict_device=strict_device,
        )
        """What runs it."""
        logger.debug(
            "loaded %s %s: program %s on %s (%s), code %s, %d bytes of weights",
            package.name,
            package.version,
            name,
            self.runtime.device,
            self.runtime.device_description,
            self.runtime.targets[name],
            self.runtime.memory_usage()["weights_bytes"],
        )

    @property
    def program(self) -> Program:
        """What is run."""
        return self.package.programs[self.name]

    def __call__(self, *inputs: Any, workspace: Workspace | None = None) -> Any:
        """The program's output; with several outputs a dict by name. See `Runtime.execute`."""
        return self.runtime.execute(self.name, *inputs, workspace=workspace)

    def batch_inference(self, batch: Any) -> Any:
        """The outputs for a whole batch at once: stacked inputs, or a batch of `DynamicBatcher`."""
        return self(getattr(batch, "inputs", batch))

    def close(self) -> None:
        """Give weights and memory back."""
        self.runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Model {self.name} of {self.package.name} on {self.runtime.device}>"


def choose_program(package: DeploymentPackage, program: str | None) -> str:
    """The name of the program that is meant: this one, else the only one, or the one called `forward`.

    Raises:
        InputError: There is no such program, or several and none is called `forward`.
    """
    name = program if program is not None else default_program(package.programs)
    if name is None or name not in package.programs:
        wanted = "which of its programs to run" if name is None else f"program {name!r}"
        raise InputError(
            f"package {package.name!r}: {wanted}? It has {', '.join(package.programs)}",
            hint=f"program={next(iter(package.programs), 'forward')!r}",
        )
    return name


def load_model(
    package: str | Path | DeploymentPackage,
    device: str | None = None,
    *,
    program: str | None = None,
    memory_pool_size: int | str | None = "4GB",
    enable_profiling: bool = False,
    require_signature: Required = False,
) -> Model:
    """A package's program as a function.

    model = load_model("model.tsd")
    y = model(x)

    Args:
        package: A package: file, folder or open.
        device: `cuda:0`, `cpu`, `reference` or `emulator`; None: the first GPU, or
            the CPU where there is none or it lacks code.
        program: Which program; None: the only one, or the one called `forward`.
        memory_pool_size: Most working memory to hold, such as `"8GB"`; None for no limit.
        enable_profiling: Measure every step, see `Runtime.profile`.
        require_signature: Who must have signed it, as `DeploymentPackage.load` takes it. For an open
            package that is checked here.

    Raises:
        PackageError: It is no package.
        SignatureError: It is not signed as required.
        InputError: It has several programs and none is called `forward`.
        DeviceError: No device runs it.
    """
    if isinstance(package, DeploymentPackage):
        opened, policy = package, required_policy(require_signature)
        if policy is not None:
            check_signature(opened, policy)
    else:
        opened = DeploymentPackage.load(package, require_signature=require_signature)
    settings: dict[str, Any] = {
        "program": program,
        "memory_pool_size": memory_pool_size,
        "enable_profiling": enable_profiling,
    }
    if device is not None:
        return Model(opened, device, **settings)
    try:
        return Model(opened, "cuda:0", strict_device=True, **settings)
    except (DeviceError, MissingDependencyError) as error:
        logger.info("the model runs on the cpu: %s", error.message)
        return Model(opened, "cpu", **settings)
