"""What is tuned: its configurations, and how it is compiled with one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tessera.compiler.aot import build_artifact
from tessera.compiler.cache import CompileCache
from tessera.compiler.options import AOTConfig, ToolOptions
from tessera.compiler.raw_kernel import kernel_unit
from tessera.compiler.tuning.function_step import FunctionStep
from tessera.compiler.tuning.identity import kernel_hash
from tessera.compiler.tuning.record import Value
from tessera.compiler.tuning.strategy import Configuration
from tessera.language.kernel import Kernel
from tessera.language.tuning import Space
from tessera.program.artifact import Artifact
from tessera.program.errors import KernelError


@dataclass(frozen=True, slots=True)
class Subject:
    """A kernel with values to tune, or a step of a tensor function with tiles, for one target."""

    name: str
    identity: str
    """Digest of what it is, whatever the configuration."""
    target: str
    """Full name of an architecture."""
    space: Space
    reference: dict[str, Value]
    """The configuration that others are compared with: the kernel's own."""
    compile: Callable[[Configuration], Artifact]
    """An artifact of one program, with PTX and machine code.

    Raises:
        TesseraError: It does not compile.
    """
    kernels: str = ""
    """What the names of the kernels begin with whose time counts; of a tensor function a step's alone."""
    usual: dict[str, Value] | None = None
    """What the compiler chooses by itself: only a clearly cheaper prediction displaces it."""


def kernel_subject(kernel: Kernel, options: ToolOptions, cache: CompileCache | None = None) -> Subject:
    """A kernel as something to tune.

    Raises:
        KernelError: It names no values to tune.
        CompileError: It reads something that cannot be compared with another run's.
    """
    if kernel.space is None:
        raise KernelError(
            f"{kernel.name} names no values to tune",
            hint='@ts.kernel(tune={"BLOCK": [64, 128, 256]}, block=lambda BLOCK: BLOCK, …)',
            location=kernel.location,
        )
    store = cache or CompileCache.default()
    config = AOTConfig(targets=(options.target,))

    def compile_one(configuration: Configuration) -> Artifact:
        chosen = kernel.configured(configuration)
        return build_artifact([kernel_unit(chosen, [options])], config, store)

    return Subject(
        kernel.name,
        kernel_hash(kernel, options),
        options.target,
        kernel.space,
        kernel.configuration,
        compile_one,
    )


def step_subject(step: FunctionStep, cache: CompileCache | None = None) -> Subject:
    """A step of a tensor function as something to tune; the reference is the compiler's own choice."""
    store = cache or CompileCache.default()
    return Subject(
        step.name,
        step.identity,
        step.options.target,
        step.step.space,
        step.own,
        lambda configuration: build_artifact([step.unit(configuration)], step.config, store),
        step.kernels,
        step.own,
    )
