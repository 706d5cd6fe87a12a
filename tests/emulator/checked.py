"""Kernels compiled with source lines and run under the sanitizer."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import tessera as ts
from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget
from tessera.emulator.findings import Finding
from tessera.emulator.interpreter import Interpreter
from tessera.emulator.sanitizer import Sanitizer
from tessera.profiler.sizes import random_inputs
from tessera.program.artifact import Artifact
from tessera.program.validate import bound_symbols
from tessera.runtime import ArtifactSource
from tessera.runtime.emulator import EmulatorDevice
from tessera.runtime.emulator_engine import CheckedEngine
from tessera.workbench.shared_arrays import shared_arrays

ENGINES: dict[str, Callable[[Sanitizer], Any]] = {
    "": lambda _: None,
    "interpreter": Interpreter,
    "compiled": lambda sanitizer: CheckedEngine(sanitizer, few_blocks=0),
    "block by block": lambda sanitizer: CheckedEngine(sanitizer, few_blocks=0, whole_threads=0),
}
"""Implementations of the sanitizer. Compiled kernels note what may be wrong, and the interpreter looks at the
whole launch, or at some blocks of it."""


def compiled(subject: Any, target: str = "sm_80", specs: Any = None) -> Artifact:
    """PTX with source lines; no cubin, which nothing here runs."""
    config = AOTConfig(
        targets=[CompilationTarget(architecture=target)], include_debug_info=True, generate_cubin=False
    )
    return AOTCompiler(config).compile(subject, specs).artifact


def check(
    subject: Any,
    sizes: Mapping[str, int] | None = None,
    inputs: Mapping[str, np.ndarray[Any, Any]] | None = None,
    *,
    specs: Any = None,
    block_steps: int = 3000,
    limit: int = 100,
    engine: str = "",
) -> tuple[Finding, ...]:
    """What the sanitizer finds in a kernel or function, on random inputs where none are given.

    `engine` is a key of `ENGINES`; by default what the device takes by itself.
    """
    artifact = compiled(subject, specs=specs)
    (program,) = artifact.programs
    known = {name: (sizes or {}).get(name, 67) for name in bound_symbols(program)}
    values = {**random_inputs(program, known), **(inputs or {})}
    sanitizer = Sanitizer(limit=limit, block_steps=block_steps)
    if isinstance(subject, ts.Kernel):
        sanitizer.shared_names[subject.name] = shared_arrays(subject.fn)
    device = EmulatorDevice(sanitizer=sanitizer, engine=ENGINES[engine](sanitizer))
    loaded = device.load(program, ArtifactSource(artifact))
    loaded.run([np.ascontiguousarray(values[p.name], p.dtype.numpy) for p in program.inputs], None)
    return sanitizer.findings
