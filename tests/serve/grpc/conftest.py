"""Servers that speak gRPC, each in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc_servers import PACKAGE, Served, model_script, served


@pytest.fixture(scope="module")
def linear(linear_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of the linear package."""
    script = PACKAGE.format(package=str(linear_package), config={"device": "reference"})
    with served(tmp_path_factory.mktemp("linear-server"), script) as found:
        yield found


@pytest.fixture(scope="module")
def pair(pair_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of the pair package."""
    script = PACKAGE.format(package=str(pair_package), config={"device": "reference"})
    with served(tmp_path_factory.mktemp("pair-server"), script) as found:
        yield found


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of a model that gives back what it takes, in every dtype."""
    with served(tmp_path_factory.mktemp("echo-server"), model_script("echo_model()")) as found:
        yield found
