"""The servers that `tessera serve` makes, and what it says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.workbench.failure import UsageError
from tessera.workbench.opening import package_path
from tessera.workbench.output import emit

if TYPE_CHECKING:
    from tessera.package.trust import TrustPolicy
    from tessera.serve.server import ProductionServer

RequiredOf = Callable[[Path], "TrustPolicy | None"]
"""Who must have signed the package at a path; None: what the settings say."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server and what it is called on the terminal."""

    server: ProductionServer
    title: str
    """Its packages, for a person."""
    answer: Mapping[str, Any]
    """Its packages, for `--json`."""


def one_model(package: Path, settings: Mapping[str, Any], required: RequiredOf) -> Served:
    """A server of one package.

    Raises:
        TesseraError: There is none at the path, or a setting is wrong.
    """
    from tessera.deploy import ProductionServer

    package_path(package)
    server = ProductionServer(package, settings, require_signature=required(package))
    return Served(server, str(package), {"package": str(package)})


def several_models(packages: Sequence[str], settings: Mapping[str, Any], required: RequiredOf) -> Served:
    """A server of packages by name, and of the repository that the settings name.

    Args:
        packages: Paths, or `NAME=PATH`; without a name it is the file's.
        settings: The server's.
        required: Who must have signed each.

    Raises:
        TesseraError: There is none at a path, two have one name, or a setting is wrong.
    """
    from tessera.deploy import MultiModelServer

    server = MultiModelServer(settings)
    models: dict[str, str] = {}
    for text in packages:
        name, path = name_and_path(text)
        package_path(path)
        if name in models:
            raise UsageError(
                f"{models[name]} and {path} would both be called {name!r}",
                hint=f"tessera serve {name}={models[name]} other={path}",
            )
        models[name] = str(path)
        server.register_model(name, path, require_signature=required(path))
    folder = server.config.repository
    title = ", ".join([*models.values(), *([] if folder is None else [f"{folder}/"])])
    return Served(server, title, {"packages": models, "repository": folder})


def name_and_path(text: str) -> tuple[str, Path]:
    """What a package is called, and where it is, for `PATH` or `NAME=PATH`."""
    name, equals, path = text.partition("=")
    if equals and not Path(text).exists():
        return name, Path(path)
    return Path(text).stem, Path(text)


def check_server(served: Served, *, as_json: bool) -> None:
    """Say whether the server could start, and what is missing on one that others reach."""
    server = served.server
    warnings = server.check()
    if as_json:
        emit({"ok": True, **served.answer, "warnings": warnings})
        return
    print(f"{served.title} can be served on {server.config.host}:{server.config.port}")
    for warning in warnings:
        print(f"warning: {warning}")


def serve_until_signal(served: Served, *, as_json: bool) -> None:
    """Start, say where, wait for a signal, finish what was accepted. A second signal ends at once."""
    import signal
    import threading

    from tessera.serve.service import Phase

    server = served.server
    asked = threading.Event()

    def ask(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    server.start()
    try:
        _say_where(served, as_json=as_json)
        while not asked.wait(0.5):
            if server.phase is Phase.STOPPED:
                break
    finally:
        server.stop()


def _say_where(served: Served, *, as_json: bool) -> None:
    server = served.server
    rows = [row for row in server.list_models() if row.name is not None]
    is_one = "package" in served.answer
    device = server.get_memory_usage().get("device") if is_one else None
    if as_json:
        models = [{"name": row.name, "version": row.version, "state": row.state.value} for row in rows]
        more = {"device": device} if is_one else {"models": models, "admin": server.admin_url}
        also = {} if server.grpc_address is None else {"grpc": server.grpc_address}
        emit({"url": server.url, **more, **served.answer, **also})
        return
    states = [" ".join(filter(None, (row.name, row.version, row.state.value))) for row in rows]
    also_grpc = f" and gRPC on {server.grpc_address}" if server.grpc_address else ""
    what = device if is_one else ", ".join(states) or "no model"
    print(f"serving {served.title} on {server.url}{also_grpc} ({what}); Ctrl-C stops", flush=True)
