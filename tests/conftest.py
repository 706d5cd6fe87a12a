"""What all tests share."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

# A busy machine is not a slow program.
# The same examples every time, so that a change answers for its own failures; `make soak` draws others.
settings.register_profile("tessera", deadline=None, derandomize="TESSERA_FUZZ_EXAMPLES" not in os.environ)
settings.load_profile("tessera")


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that are the same on every run of one test and differ between tests."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture(scope="session", autouse=True)
def compile_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A compile cache of the test run's own, shared by its tests and their child processes."""
    folder = tmp_path_factory.getbasetemp().parent / "tessera-cache"
    before = os.environ.get("TESSERA_CACHE_DIR")
    os.environ["TESSERA_CACHE_DIR"] = str(folder)
    yield folder
    if before is None:
        del os.environ["TESSERA_CACHE_DIR"]
    else:
        os.environ["TESSERA_CACHE_DIR"] = before
