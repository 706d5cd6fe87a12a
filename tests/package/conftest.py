"""Packages to test with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from forge import Forger
from specimens import make_artifact

from tessera.package import KeyPair, Package, generate_key, read_signer, sign_package
from tessera.program.artifact import Artifact


@pytest.fixture
def artifact() -> Artifact:
    rng = np.random.default_rng(1)
    return make_artifact(
        layers__0__weight=rng.standard_normal((4, 4), dtype=np.float32),
        bias=rng.integers(-128, 127, 4).astype(np.int8),
    )


@pytest.fixture
def forger(tmp_path: Path) -> Forger:
    return Forger(tmp_path / "forged.tsd")


@pytest.fixture
def key(tmp_path: Path) -> KeyPair:
    return generate_key(tmp_path / "release")


@pytest.fixture
def unsigned(tmp_path: Path) -> Path:
    """A small package with two weights of one shape."""
    rng = np.random.default_rng(2)
    weights = {name: rng.standard_normal(4, dtype=np.float32) for name in ("a", "b")}
    return Package.from_artifact(make_artifact(**weights), name="small", kind="tsc").save(
        tmp_path / "plain.tsc"
    )


@pytest.fixture
def signed(unsigned: Path, key: KeyPair, tmp_path: Path) -> Path:
    return sign_package(unsigned, read_signer(key.private), out=tmp_path / "signed.tsc")
