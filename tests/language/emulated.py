"""Hand-written kernels, compiled to machine code for an architecture and emulated from their PTX."""

from typing import Any

import numpy as np

from tessera.deploy import AOTCompiler
from tessera.emulator.sanitizer import Sanitizer
from tessera.language.kernel import Kernel
from tessera.runtime import ArtifactSource
from tessera.runtime.emulator import EmulatorDevice

Array = np.ndarray[Any, Any]


def emulate(kernel: Kernel, *inputs: Array, target: str = "sm_80") -> dict[str, Array]:
    """What `kernel`, whose shapes are fixed, leaves in its outputs; the sanitizer finds nothing.

    Inputs are given as whatever has the same bytes.
    """
    artifact = AOTCompiler(target_architectures=[target]).compile(kernel).artifact
    assert {binary.format for binary in artifact.binaries} == {"cubin", "ptx"}
    (program,) = artifact.programs
    sanitizer = Sanitizer()
    loaded = EmulatorDevice(sanitizer=sanitizer).load(program, ArtifactSource(artifact))
    given = [
        np.ascontiguousarray(x).reshape(-1).view(p.dtype.numpy).reshape(p.shape)
        for x, p in zip(inputs, program.inputs, strict=True)
    ]
    results = loaded.run(given, None)
    assert sanitizer.findings == ()
    return {port.name: np.asarray(value) for port, value in zip(program.outputs, results, strict=True)}
