"""`tessera serve`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tessera.workbench.output import JsonOption
from tessera.workbench.trusting import KeyOption, PolicyOption, RequireOption, RootOption

if TYPE_CHECKING:
    from tessera.serve import ProductionServer


def serve(
    package: Annotated[
        Path | None,
        typer.Argument(metavar="[PKG]", help="The package to serve.", readable=False, show_default=False),
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", min=0, max=65535, help="0: any free one.")
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option("--grpc-port", min=0, max=65535, help="Speak gRPC as well; 0: any free one."),
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="127.0.0.1 if not given.")] = None,
    device: Annotated[str | None, typer.Option("--device", "-d", help="cuda:0, cpu or reference.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Batches at the same time.")] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Processes that speak HTTP.")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option("--replicas", min=1, help="Processes that run the model.")
    ] = None,
    max_batch_size: Annotated[int | None, typer.Option("--max-batch-size", min=1)] = None,
    batch_timeout_ms: Annotated[float | None, typer.Option("--batch-timeout-ms", min=0)] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting of the server; repeated."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", readable=False, help="Settings in TOML or JSON, for tessera.toml's."
        ),
    ] = None,
    contract: Annotated[
        str | None,
        typer.Option("--contract", metavar="CLOUD", help="sagemaker, vertex or azure: serve as it expects."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check settings and package, and serve nothing.")
    ] = False,
    require_signature: RequireOption = False,
    key: KeyOption = None,
    trust: RootOption = None,
    policy: PolicyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a package until Ctrl-C or SIGTERM."""
    from tessera.deploy import ProductionServer
    from tessera.serve import ServerConfig
    from tessera.serve.observe.observation import set_up_logging
    from tessera.workbench.opening import package_path
    from tessera.workbench.trusting import policy_for

    contract = contract or _contract(package, settings or ())
    package = _package(package, contract)
    package_path(package)
    options: dict[str, Any] = {
        "port": port,
        "grpc_port": grpc_port,
        "host": host,
        "device": device,
        "workers": workers,
        "processes": processes,
        "replicas": replicas,
        "max_batch_size": max_batch_size,
        "batch_timeout_ms": batch_timeout_ms,
    }
    chosen = _settings(package, config, settings or (), options, contract)
    # An operator's TESSERA_REQUIRE_SIGNATURE counts as the call does: the policy that lies beside a
    # package must not be asked in its place.
    asked = key or trust or policy or require_signature
    from_environment = not asked and ServerConfig.load().require_signature is not False
    required = (
        None
        if from_environment
        else policy_for(package, keys=key, roots=trust, file=policy, require=require_signature)
    )
    server = ProductionServer(package, chosen, require_signature=required)
    set_up_logging(server.config)
    if check:
        _check(server, package, as_json)
    else:
        _serve_until_signal(server, package, as_json)


def _contract(package: Path | None, assignments: Iterable[str]) -> str | None:
    """The contract that settings name, or else that of the cloud that a call without a package comes from."""
    import os

    from tessera.serve.config import parse_settings
    from tessera.serve.contracts.clouds import detect_contract

    named = parse_settings(assignments).get("contract") or os.environ.get("TESSERA_CONTRACT") or None
    return named or (None if package is not None else detect_contract(os.environ))


def _package(given: Path | None, contract: str | None) -> Path:
    """The package of the call, of `MODEL_PACKAGE`, or where the contract's cloud put one."""
    import os

    from tessera.serve.contracts.clouds import contract_of
    from tessera.serve.contracts.packages import package_in
    from tessera.workbench.failure import UsageError

    if given is not None:
        return given
    if os.environ.get("MODEL_PACKAGE"):
        return Path(os.environ["MODEL_PACKAGE"])
    model = contract_of(contract, os.environ).model if contract else None
    if model is None:
        raise UsageError("no package to serve", hint="tessera serve model.tsd, or set MODEL_PACKAGE")
    return package_in(model)


def _settings(
    package: Path,
    file: Path | None,
    assignments: Iterable[str],
    options: Mapping[str, Any],
    contract: str | None,
) -> dict[str, Any]:
    """Settings by key: those of the call, then the environment's, then the file's, then the defaults."""
    import os
    from dataclasses import asdict

    from tessera.serve import ServerConfig
    from tessera.serve.config import parse_settings
    from tessera.workbench.project import find_project

    # As if it were in the environment: what a contract prescribes goes before a file, not before the call.
    environment = {**os.environ, "TESSERA_CONTRACT": contract or ""}
    base = ServerConfig.load(file or find_project(package.absolute().parent).file, environment=environment)
    given = {key: value for key, value in options.items() if value is not None}
    return {**asdict(base), **parse_settings(assignments), **given}


def _check(server: ProductionServer, package: Path, as_json: bool) -> None:
    """Say whether the server could start, and what is missing on one that others reach."""
    from tessera.workbench.output import emit

    warnings = server.check()
    if as_json:
        emit({"ok": True, "package": str(package), "warnings": warnings})
        return
    print(f"{package} can be served on {server.config.host}:{server.config.port}")
    for warning in warnings:
        print(f"warning: {warning}")


def _serve_until_signal(server: ProductionServer, package: Path, as_json: bool) -> None:
    """Start, say where, wait for a signal, finish what was accepted. A second signal ends at once."""
    import signal
    import threading

    from tessera.serve.service import Phase
    from tessera.workbench.output import emit

    asked = threading.Event()

    def ask(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    server.start()
    try:
        device = server.get_memory_usage().get("device")
        if as_json:
            found = {"url": server.url, "device": device, "package": str(package)}
            emit(found if server.grpc_address is None else {**found, "grpc": server.grpc_address})
        else:
            also = f" and gRPC on {server.grpc_address}" if server.grpc_address else ""
            print(f"serving {package} on {server.url}{also} ({device}); Ctrl-C stops", flush=True)
        while not asked.wait(0.5):
            if server.phase is Phase.STOPPED:
                break
    finally:
        server.stop()
