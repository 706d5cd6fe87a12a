"""A target on the command line as something that runs: a package, or source compiled for the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tessera.program.artifact import Artifact
from tessera.program.errors import DeviceError, MissingDependencyError
from tessera.workbench.failure import UsageError
from tessera.workbench.source import is_package

if TYPE_CHECKING:
    from tessera.program.program import Program
    from tessera.runtime import DeploymentPackage, Runtime
    from tessera.runtime.profile import Recorder


def open_runtime(
    target: str,
    device: str,
    spec: Sequence[str] | None,
    *,
    enable_profiling: bool | Recorder = False,
    step_budget: int | None = None,
    strict_device: bool = False,
) -> Runtime:
    """The target, loaded on a device; what is named alike is as `create_runtime` takes it.

    Raises:
        TesseraError: It does not load, compile or run there.
    """
    opened = benchable(target, device, spec)
    return load_opened(
        opened,
        device,
        enable_profiling=enable_profiling,
        step_budget=step_budget,
        strict_device=strict_device,
    )


def load_opened(
    opened: DeploymentPackage | Artifact,
    device: str,
    *,
    enable_profiling: bool | Recorder = False,
    step_budget: int | None = None,
    strict_device: bool = False,
) -> Runtime:
    """What `benchable` found, loaded on a device.

    Raises:
        TesseraError: It does not load there.
    """
    from tessera.runtime import open_artifact

    if isinstance(opened, Artifact):
        return open_artifact(
            opened,
            device,
            enable_profiling=enable_profiling,
            strict_device=strict_device,
            step_budget=step_budget,
        )
    return opened.create_runtime(
        device=device,
        enable_profiling=enable_profiling,
        strict_device=strict_device,
        step_budget=step_budget,
    )


def benchable(
    target: str, device: str, spec: Sequence[str] | None, parts: dict[str, float] | None = None
) -> DeploymentPackage | Artifact:
    """A package, open, or the artifact of one thing in a source file, compiled for `device`.

    `parts` takes the seconds of each stage of the compilation.

    Raises:
        UsageError: There is no such file or device, or the file has several things to run and none
            is named.
        TesseraError: It does not compile.
    """
    from tessera.runtime import parse_device

    try:
        name = parse_device(device)
    except DeviceError as error:
        raise UsageError(f"--device: {error.message}", hint=error.hint) from None
    if is_package(target):
        return trusted_package(target)
    from tessera.workbench.compilation import compile_request, make_request

    request = make_request(target, [arch_for(name.kind, name.index)], spec)
    kernel = compile_request(request, single=True).kernels[0]
    if parts is not None:
        parts.update(kernel.seconds)
    return kernel.artifact


def trusted_package(target: str | Path) -> DeploymentPackage:
    """A package that is there and, where the project asks for a signature, has it.

    It is opened once: what was checked is what runs, even if another file takes its place.

    Raises:
        UsageError: As `package_path` says.
        SignatureError: It is not signed as the project's section `[trust]` asks.
        PackageError: It does not load.
    """
    from tessera.runtime import DeploymentPackage
    from tessera.workbench.trusting import policy_for

    path = package_path(target)
    return DeploymentPackage.load(path, require_signature=policy_for(path) or False)


def package_path(target: str | Path) -> Path:
    """The path of a package that is there.

    Raises:
        UsageError: There is nothing at that path, or Python source.
    """
    path = Path(target)
    if path.suffix == ".py" and path.is_file():
        raise UsageError(
            f"{path} is Python source, not a package",
            hint=f"tessera package build {path} -o {path.with_suffix('.tsd').name} makes one of it",
        )
    if not path.exists():
        raise UsageError(
            f"there is no package {path}", hint=f"tessera package build FILE -o {path} makes one"
        )
    return path


def arch_for(kind: str, index: int) -> str:
    """What to compile for to run on a device; the CPU, which takes its place, if it is not there."""
    if kind == "emulator":
        return "sm_80"
    if kind != "cuda":
        return "cpu"
    from tessera.deploy.eager import architecture_for
    from tessera.runtime.cuda_driver import open_driver

    try:
        return architecture_for(open_driver(index).cc)
    except (DeviceError, MissingDependencyError):
        return "cpu"


def choose_program(programs: Mapping[str, Program], name: str | None) -> Program:
    """One of several programs: the one that is named, the only one, or `forward`.

    Raises:
        UsageError: There is no such program, or none is named.
    """
    from tessera.program.program import default_program

    name = default_program(programs) if name is None else name
    listing = ", ".join(programs)
    if name is None:
        raise UsageError(
            f"there are {len(programs)} programs: {listing}", hint="name one: FILE:NAME, or --program"
        )
    if name not in programs:
        raise UsageError(f"--program: there is no program {name!r}", hint=f"programs: {listing}")
    return programs[name]
