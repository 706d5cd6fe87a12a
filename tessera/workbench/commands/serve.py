"""`tessera serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tessera.workbench.output import JsonOption


def serve(
    package: Annotated[Path, typer.Argument(metavar="PKG", help="The package to serve.", show_default=False)],
    port: Annotated[int | None, typer.Option("--port", min=0, max=65535, help="0: any free one.")] = None,
    host: Annotated[str | None, typer.Option("--host", help="127.0.0.1 if not given.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="cuda:0, cpu or reference.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="How many execute at once.")] = None,
    max_batch_size: Annotated[int | None, typer.Option("--max-batch-size", min=1)] = None,
    batch_timeout_ms: Annotated[float | None, typer.Option("--batch-timeout-ms", min=0)] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a package until Ctrl-C."""
    options: dict[str, Any] = {
        "port": port,
        "host": host,
        "device": device,
        "workers": workers,
        "max_batch_size": max_batch_size,
        "batch_timeout_ms": batch_timeout_ms,
    }
    from dataclasses import asdict, replace

    from tessera.serve import ProductionServer, ServerConfig
    from tessera.workbench.project import find_project

    # The project file comes before the defaults, the environment before it, the call before all.
    base = ServerConfig.load(find_project(package.absolute().parent).file)
    given = {key: value for key, value in options.items() if value is not None}
    config = ServerConfig.load({**asdict(base), **given}, environment={})
    server = ProductionServer(package, replace(config))
    server.run()
