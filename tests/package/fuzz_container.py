"""Reads damaged containers until told to stop, in a process of its own with a cap on its memory.

    python tests/package/fuzz_container.py FOLDER FIRST COUNT MEMORY_BYTES

FOLDER holds the sound packages that are damaged. Before a file is read, the seed of its damage is in
FOLDER/seed, so that whoever started the process can say what ended it. Prints a JSON object.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from mutations import mutated

from tessera.package import Package
from tessera.program.errors import PackageError

HANG_S = 10


def read(path: Path) -> str:
    """Everything that a reader can do with a package."""
    try:
        package = Package.load(path)
        findings = package.verify()
        for row in package.weights:
            np.asarray(package.constant(row.name)).tobytes()
        for binary in package.binaries:
            for kernel in binary.kernels:
                package.binary(binary.program, kernel, binary.target)
        assert package.config is not None
        assert package.runtime_config is not None
        assert not findings, f"read in full, though {findings[0]}"
    except PackageError as error:
        return type(error).__name__
    return "accepted"


def main(folder: Path, first: int, count: int, memory_bytes: int) -> None:
    corpus = [path.read_bytes() for path in sorted(folder.glob("*.ts[cd]"))]
    seed_file = os.open(folder / "seed", os.O_RDWR | os.O_CREAT)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + memory_bytes, used + memory_bytes))
    target = folder / "damaged"
    found: Counter[str] = Counter()
    for seed in range(first, first + count):
        os.pwrite(seed_file, b"%20d" % seed, 0)
        # A new file each time: one that is mapped must not change.
        target.unlink(missing_ok=True)
        target.write_bytes(mutated(seed, corpus))
        # The default action of the signal ends the process, also inside C code.
        signal.alarm(HANG_S)
        found[read(target)] += 1
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
