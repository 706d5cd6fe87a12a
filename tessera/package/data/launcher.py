"""Run the deployment package that this script lies in.

python runtime/launcher.py --input x.npy [--input y.npy] [--device cpu] [--output out.npy]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    """Exit status: 0 done, 1 the work failed, 2 the call was wrong."""
    options = _parser().parse_args()
    try:
        import numpy as np

        from tessera.program.errors import TesseraError
        from tessera.runtime import DeploymentPackage
    except ImportError as error:
        print(f"launcher: {error}\nThis package runs with Tessera: pip install tessera", file=sys.stderr)
        return 1
    try:
        package = DeploymentPackage.load(Path(__file__).resolve().parents[1])
        program = options.program or next(iter(package.programs))
        inputs = _inputs(package.programs[program], [np.load(path) for path in options.input])
        with package.create_runtime(device=options.device) as runtime:
            outputs = runtime.execute(program, *inputs)
        _report(outputs, options.output)
    except (TesseraError, OSError, ValueError, KeyError) as error:
        print(f"launcher: {error}", file=sys.stderr)
        return getattr(error, "exit_status", 1)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run this deployment package once.")
    parser.add_argument(
        "--input", action="append", default=[], metavar="X.npy", help="one per input, in order"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda:0 or reference (default: cpu)")
    parser.add_argument("--output", metavar="Y.npy", help="where to save the output; printed otherwise")
    parser.add_argument("--program", help="which program; the first by default")
    return parser


def _inputs(program: Any, arrays: list[Any]) -> list[Any]:
    """The arrays in the element types that `program` takes: .npy files cannot hold bf16 or fp8."""
    ports = list(program.inputs)
    if len(arrays) != len(ports):
        names = ", ".join(port.name for port in ports)
        raise ValueError(f"{len(arrays)} inputs given, but the program takes {len(ports)}: {names}")
    return [array.astype(port.dtype.numpy, copy=False) for array, port in zip(arrays, ports, strict=True)]


def _report(outputs: Any, path: str | None) -> None:
    import numpy as np

    named = outputs if isinstance(outputs, dict) else {"output": outputs}
    arrays: dict[str, Any] = {name: _plain(np.asarray(value)) for name, value in named.items()}
    if path is None:
        for name, array in arrays.items():
            print(f"{name} {array.shape} {array.dtype}\n{array}")
    elif len(arrays) == 1:
        np.save(path, *arrays.values())
    else:
        np.savez(path, **arrays)


def _plain(array: Any) -> Any:
    """`array` in a type that every reader of .npy files knows: f32 in the place of bf16 and fp8."""
    return array if array.dtype.isbuiltin == 1 else array.astype("float32")


if __name__ == "__main__":
    sys.exit(main())
