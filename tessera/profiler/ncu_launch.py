"""What runs under `ncu`: one program of a package, once unseen and once between profiler marks.

python -m tessera.profiler.ncu_launch PACKAGE PROGRAM INPUTS.npz DEVICE
"""

from __future__ import annotations

import sys
from pathlib import Path

from tessera.program.errors import TesseraError

PREFIX = "input."
"""What stands before the names of inputs in the file."""


def main(arguments: list[str]) -> int:
    """Run it; 1 after an error, which is on stderr."""
    package, program, inputs, device = arguments
    try:
        launch(Path(package), program, Path(inputs), device)
    except TesseraError as error:
        print(
            f"error: {error.message}", f"hint: {error.hint}" if error.hint else "", sep="\n", file=sys.stderr
        )
        return 1
    return 0


def launch(package: Path, program: str, inputs: Path, device: str) -> None:
    """Execute a program twice, the second time between profiler marks where the device is a GPU.

    Raises:
        TesseraError: It does not load or run there.
    """
    import numpy as np

    from tessera.runtime import DeploymentPackage

    with np.load(inputs, allow_pickle=False) as archive:
        values = {name.removeprefix(PREFIX): archive[name] for name in archive.files}
    loaded = DeploymentPackage.load(package)
    for port in loaded.programs[program].inputs:
        # NumPy's files know no bfloat16 and no 8-bit floats: they come back as bytes.
        if values[port.name].dtype.kind == "V":
            values[port.name] = values[port.name].view(port.dtype.numpy)
    with loaded.create_runtime(device, strict_device=True) as runtime:
        # Setup of the program and first uses of its code are no part of what is asked for.
        runtime.execute(program, values)
        if not runtime.device.startswith("cuda"):
            runtime.execute(program, values)
            return
        # The GPU's device has it loaded already.
        import cupy

        cupy.cuda.runtime.profilerStart()
        try:
            runtime.execute(program, values)
        finally:
            cupy.cuda.runtime.profilerStop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
