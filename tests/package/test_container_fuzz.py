"""Damaged containers raise PackageError and nothing else: no crash, no hang, no memory above a cap."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from specimens import make_artifact

from tessera.package import KeyPair, Package, PackageBuilder, read_signer, sign_package

FUZZER = Path(__file__).with_name("fuzz_container.py")
MEMORY_BYTES = 256 << 20
"""What reading a package of a few KiB may add to the process, over-large requests included."""
PER_PROCESS = 20_000
SOAK = int(os.environ.get("TESSERA_FUZZ_PACKAGES", "1000000"))
QUICK = int(os.environ.get("TESSERA_FUZZ_PACKAGES_QUICK", "300"))
FIRST = int(os.environ.get("TESSERA_FUZZ_SEED", "0"))


@pytest.fixture
def corpus(tmp_path: Path, key: KeyPair) -> Iterator[Path]:
    """A folder in memory, where there is one, with a sound package of each form."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shared if os.access(shared, os.W_OK) else tmp_path))
    rng = np.random.default_rng(3)
    weights = {name: rng.standard_normal(6, dtype=np.float32) for name in ("a", "b")}
    artifact = make_artifact(**weights)
    Package.from_artifact(artifact, name="plain").save(folder / "1.tsc")
    packed = {"a": np.repeat(weights["a"][:1], 6), "b": np.zeros(6, np.float32)}
    PackageBuilder().add_kernels(make_artifact(**packed)).add_weights(packed, compression="gzip").add_config(
        {"x": [1]}
    ).build("packed").save(folder / "2.tsc")
    sign_package(folder / "1.tsc", read_signer(key.private), out=folder / "3.tsc")
    yield folder
    shutil.rmtree(folder)


def fuzz(folder: Path, first: int, count: int) -> Counter[str]:
    command = [sys.executable, str(FUZZER), str(folder), str(first), str(count), str(MEMORY_BYTES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        seed = int((folder / "seed").read_bytes())
        pytest.fail(
            f"seed {seed} ended the reader with status {done.returncode}; again with"
            f" TESSERA_FUZZ_SEED={seed}:\n{done.stderr[-3000:]}"
        )
    return Counter(json.loads(done.stdout))


def test_a_damaged_container_is_a_package_error_and_nothing_else(corpus: Path) -> None:
    found = fuzz(corpus, FIRST, QUICK)
    assert found.total() == QUICK
    assert found["IntegrityError"] > QUICK // 2
    assert set(found) <= {"IntegrityError", "PackageError", "SignatureError", "accepted"}


def test_a_crash_of_the_reader_is_seen_with_its_seed(corpus: Path) -> None:
    # Without any package to damage the fuzzer itself fails: whoever started it must notice.
    for path in corpus.glob("*.tsc"):
        path.unlink()
    with pytest.raises(pytest.fail.Exception, match="seed 5 ended the reader"):
        fuzz(corpus, 5, 1)


@pytest.mark.soak
def test_a_million_damaged_containers_are_package_errors(corpus: Path) -> None:
    found: Counter[str] = Counter()
    for first in range(FIRST, FIRST + SOAK, PER_PROCESS):
        found += fuzz(corpus, first, min(PER_PROCESS, FIRST + SOAK - first))
    assert found.total() == SOAK
    assert set(found) <= {"IntegrityError", "PackageError", "SignatureError", "accepted"}
