"""Servers that speak gRPC, each in a process of its own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from server_process import ServerProcess

PACKAGE = "from tessera.serve import ProductionServer\nProductionServer({package!r}, {config!r}).run()\n"
MODEL = (
    "import sys\nsys.path.insert(0, {tests!r})\nfrom small_models import *\n"
    "from tessera.serve import ProductionServer\nProductionServer({model}, {config!r}).run()\n"
)
SMALL_MODELS = str(Path(__file__).parents[1])


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    process: ServerProcess
    grpc: str
    """`HOST:PORT` of gRPC."""
    http: str
    """`HOST:PORT` of HTTP."""


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def served(folder: Path, script: str, **environment: str) -> Iterator[Served]:
    """A server of `script` with a gRPC port."""
    port = free_port()
    process = ServerProcess(folder, script, TESSERA_GRPC_PORT=str(port), **environment)
    try:
        process.wait_ready()
        yield Served(process, f"127.0.0.1:{port}", process.url.removeprefix("http://"))
    finally:
        process.kill()


def model_script(model: str, **config: object) -> str:
    """A server of an expression of `small_models`."""
    return MODEL.format(tests=SMALL_MODELS, model=model, config=config)
