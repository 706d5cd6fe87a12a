"""`tessera serve`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tessera.workbench.failure import UsageError
from tessera.workbench.output import JsonOption
from tessera.workbench.trusting import KeyOption, PolicyOption, RequireOption, RootOption

if TYPE_CHECKING:
    from tessera.package.trust import TrustPolicy


def serve(
    packages: Annotated[
        list[str] | None,
        typer.Argument(metavar="[[NAME=]PKG]...", help="The packages to serve.", show_default=False),
    ] = None,
    repository: Annotated[
        Path | None,
        typer.Option("--repository", metavar="DIR", readable=False, help="Serve the packages of a folder."),
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
    """Serve packages until Ctrl-C or SIGTERM."""
    from tessera.serve import ServerConfig
    from tessera.serve.observe.observation import set_up_logging
    from tessera.workbench.serving import check_server, one_model, serve_until_signal, several_models
    from tessera.workbench.trusting import policy_for

    given = packages or []
    contract = contract or _contract(settings or (), alone=not given and repository is None)
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
        "repository": None if repository is None else str(repository),
    }
    beside = Path(given[0].rpartition("=")[2]) if given else repository or _package(contract)
    chosen = _settings(beside or Path("model.tsd"), config, settings or (), options, contract)
    # An operator's TESSERA_REQUIRE_SIGNATURE counts as the call does: the policy that lies beside a
    # package must not be asked in its place.
    asked = key or trust or policy or require_signature
    from_environment = not asked and ServerConfig.load().require_signature is not False

    def required(path: Path) -> TrustPolicy | None:
        if from_environment:
            return None
        return policy_for(path, keys=key, roots=trust, file=policy, require=require_signature)

    if chosen["repository"] is not None and (key or trust or policy):
        raise UsageError(
            "a repository's packages are checked as the settings say, not as --key, --trust or --policy",
            hint="--set require_signature=release.pub.pem",
        )
    if chosen["repository"] is not None and require_signature:
        chosen["require_signature"] = True
    if chosen["repository"] is None and len(given) <= 1 and not (given and "=" in given[0]):
        package = Path(given[0]) if given else _package(contract)
        if package is None:
            raise UsageError("no package to serve", hint="tessera serve model.tsd, or set MODEL_PACKAGE")
        served = one_model(package, chosen, required)
    else:
        served = several_models(given, chosen, required)
    set_up_logging(served.server.config)
    act = check_server if check else serve_until_signal
    act(served, as_json=as_json)


def _contract(assignments: Iterable[str], *, alone: bool) -> str | None:
    """The contract that settings name, or else that of the cloud that a call without a package comes from."""
    import os

    from tessera.serve.config import parse_settings
    from tessera.serve.contracts.clouds import detect_contract

    named = parse_settings(assignments).get("contract") or os.environ.get("TESSERA_CONTRACT") or None
    return named or (detect_contract(os.environ) if alone else None)


def _package(contract: str | None) -> Path | None:
    """The package of `MODEL_PACKAGE`, or where the contract's cloud put one; None: there is neither."""
    import os

    from tessera.serve.contracts.clouds import contract_of
    from tessera.serve.contracts.packages import package_in

    if os.environ.get("MODEL_PACKAGE"):
        return Path(os.environ["MODEL_PACKAGE"])
    model = contract_of(contract, os.environ).model if contract else None
    return None if model is None else package_in(model)


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
