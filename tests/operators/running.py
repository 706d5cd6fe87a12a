"""Compiled functions, run on this machine's CPU and from their PTX in the emulator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import tessera as ts
from tessera.deploy import AOTCompiler
from tessera.emulator.sanitizer import Sanitizer
from tessera.runtime import ArtifactSource
from tessera.runtime.cpu import CpuDevice
from tessera.runtime.emulator import EmulatorDevice
from tests.operators.cases import Array


def compiled_results(
    fn: Any, specs: Sequence[ts.TensorSpec], operands: Sequence[Array]
) -> Iterator[tuple[str, list[Array]]]:
    """Name of each device and the outputs there."""
    for device, _, results in compiled_runs(fn, specs, [operands]):
        yield device, results


def compiled_runs(
    fn: Any, specs: Sequence[ts.TensorSpec], runs: Sequence[Sequence[Array]]
) -> Iterator[tuple[str, int, list[Array]]]:
    """Name of each device, number of the run and the outputs there; compiled and loaded once."""
    artifact = AOTCompiler(target_architectures=["sm_80", "cpu"]).compile(fn, list(specs)).artifact
    (program,) = artifact.programs
    sanitizer = Sanitizer()
    for name, device in (("cpu", CpuDevice()), ("emulator", EmulatorDevice(sanitizer=sanitizer))):
        loaded = device.load(program, ArtifactSource(artifact))
        for number, operands in enumerate(runs):
            yield name, number, list(loaded.run(list(operands), None))
    assert sanitizer.findings == ()
