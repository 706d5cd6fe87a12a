"""Records what a GPU computes for every form in `forms.txt`, for `test_hardware.py` to compare with.

    python -m tests.emulator.hardware.record assemble cases.bin     # needs ptxas
    ./launch_cases cases.bin results.bin                            # needs the GPU: see launch_cases.c
    python -m tests.emulator.hardware.record collect results.bin    # writes recorded.npz

With `matrices` as a last argument, the same for those of `matrices.py`, `test_hardware_matrices.py` and
`matrices.npz`; they need a GPU of capability 9.0.

A case file: number of cases and of threads, the inputs (threads, 8) uint32, size and bytes of each cubin.
A result file: (cases, threads, 8) uint32.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.emulator.warp import program

Array = np.ndarray[Any, Any]
FOLDER = Path(__file__).parent
RECORDED = FOLDER / "recorded.npz"
MATRICES = FOLDER / "matrices.npz"
SPECIAL = [
    0x00000000, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00001, 0xFFA00000, 0x00000001, 0x80000001,
    0x7F7FFFFF, 0x3F800000, 0x00800000, 0x7C007C00, 0xFE017C01,
]  # fmt: skip
"""Zeros, infinities, NaN, subnormal and extreme values of float32 and float16."""


def forms() -> list[str]:
    """The bodies that are recorded, in order."""
    return (FOLDER / "forms.txt").read_text().splitlines()


def inputs(threads: int = 96) -> Array:
    """(threads, 8) uint32: random bits, then ordinary float32, then pairs of ordinary float16."""
    rng = np.random.default_rng(5)
    words = rng.integers(0, 1 << 32, (threads, 8)).astype(np.uint32)
    third = threads // 3
    scale = 2.0 ** rng.integers(-30, 30, (third, 8))
    words[third : 2 * third] = (rng.standard_normal((third, 8)) * scale).astype(np.float32).view(np.uint32)
    halves = rng.standard_normal((third, 16)).astype(np.float16).view(np.uint32)
    words[2 * third : 3 * third] = halves
    for column in range(8):
        words[: len(SPECIAL), column] = np.roll(np.array(SPECIAL, np.uint32), 3 * column)
    return words


def assemble(target: Path, bodies: list[str], words: Array) -> None:
    """Write the case file."""
    parts = [np.array([len(bodies), len(words)], np.uint32).tobytes(), words.tobytes()]
    with tempfile.TemporaryDirectory() as folder:
        source, cubin = Path(folder) / "case.ptx", Path(folder) / "case.cubin"
        for body in bodies:
            source.write_text(program(body))
            subprocess.run(["ptxas", "-arch=sm_90a", "-O1", source, "-o", cubin], check=True)
            image = cubin.read_bytes()
            parts += [np.uint32(len(image)).tobytes(), image]
    target.write_bytes(b"".join(parts))


def collect(results: Path, count: int, words: Array, recorded: Path) -> None:
    """Keep the inputs and the outputs that are not zero everywhere."""
    found = np.fromfile(results, np.uint32).reshape(count, len(words), 8)
    used = found.any(axis=1)
    np.savez_compressed(recorded, inputs=words, used=used, outputs=found.transpose(0, 2, 1)[used])


def outputs_of(recorded: dict[str, Array], case: int) -> Array:
    """(threads, 8): what the GPU wrote."""
    used = recorded["used"]
    start = int(used[:case].sum())
    found = np.zeros((len(recorded["inputs"]), 8), np.uint32)
    found[:, used[case]] = recorded["outputs"][start : start + int(used[case].sum())].T
    return found


if __name__ == "__main__":
    from tests.emulator.hardware import matrices

    action, path, *rest = sys.argv[1:]
    if rest == ["matrices"]:
        bodies, words, target = [form.body for form in matrices.forms()], matrices.inputs(), MATRICES
    else:
        bodies, words, target = forms(), inputs(), RECORDED
    if action == "assemble":
        assemble(Path(path), bodies, words)
    else:
        collect(Path(path), len(bodies), words, target)
