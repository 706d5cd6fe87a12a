"""Packages, processes and clocks for the server's tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from server_process import ServerProcess
from small_models import WEIGHT, linear_program, save, two_port_program
from virtual_time_loop import VirtualTimeLoop


@pytest.fixture(scope="session")
def linear_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of `linear_program`."""
    return save(tmp_path_factory.mktemp("linear"), linear_program(), w=WEIGHT)


@pytest.fixture(scope="session")
def pair_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of `two_port_program`."""
    return save(tmp_path_factory.mktemp("pair"), two_port_program())


@pytest.fixture
def virtual_time() -> Iterator[asyncio.Runner]:
    """Runs coroutines in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        yield runner


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Starts a server script; what still runs at the end is killed."""
    started: list[ServerProcess] = []

    def start(script: str, *, ready: bool = True, **environment: str) -> ServerProcess:
        server = ServerProcess(tmp_path, script, **environment)
        started.append(server)
        if ready:
            server.wait_ready()
        return server

    yield start
    for server in started:
        server.kill()
