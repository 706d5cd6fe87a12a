"""Packages to test with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from forge import Forger
from specimens import make_artifact

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
