"""Settings of a server: what they are called, and where they come from."""

from __future__ import annotations

import difflib
import json
import logging
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tessera.program.errors import ConfigError
from tessera.serve.contracts.clouds import contract_of
from tessera.serve.setting_rules import MIB, RULES

logger = logging.getLogger("tessera.serve")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Settings of a `ProductionServer`, checked."""

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` for every network."""
    port: int = 8080
    """TCP port; 0 picks a free one."""
    grpc_port: int | None = None
    """TCP port of the Open Inference Protocol over gRPC; 0 picks a free one, None: no gRPC."""
    workers: int = 1
    """Batches that may run at the same time."""
    processes: int = 1
    """Processes that speak HTTP. With more than one, the model runs in a process of its own."""
    replicas: int = 1
    """Processes that run the model, each with a copy of its own; several are apart from HTTP."""
    shared_memory_size: int | str = "256MB"
    """Tensors of the requests under way in one HTTP process, where the model runs in another."""
    max_batch_size: int = 32
    """Most rows that are stacked into one execution."""
    batch_timeout_ms: float = 0.0
    """Longest that a request waits for others while a batch is running and a worker is free.
    A request that finds the device idle never waits."""
    memory_pool_size: int | str | None = None
    """Working memory of the device, in bytes or as `"8GB"`; None: the runtime's default."""
    enable_metrics: bool = True
    """Whether `/metrics` answers."""
    enable_tracing: bool = False
    """Whether requests are traced."""
    device: str = "auto"
    """`cuda:0`, `cpu`, `reference`; `auto` is the first GPU if the package runs there, else the CPU."""
    strategy: str = "least_loaded"
    """How a device is chosen where `device` lists several: `least_loaded`, `round_robin`, `latency_aware`."""
    program: str | None = None
    """Program to serve; needed if the package has several."""
    max_queue: int = 1024
    """Requests that may wait; one more is answered 503 with Retry-After."""
    max_body_bytes: int = 64 * MIB
    """Largest request body; a larger one is answered 413."""
    compress_answers: bool = True
    """Whether answers of inference over HTTP are compressed for clients that accept gzip or deflate."""
    shared_memory: bool | str = False
    """Whether clients on this machine may hand over tensors in POSIX shared memory; a text: in segments whose
    names begin with it."""
    drain_timeout_s: float = 25.0
    """Time for accepted requests to finish after SIGTERM. Orchestrators kill after 30 s by default."""
    request_timeout_s: float = 60.0
    """Time for one request, reading its body included; then it is answered 504 (408 while reading)."""
    require_signature: bool | str = False
    """Who must have signed the package: the path of a public key, a certificate or a `tessera.toml`; true:
    those in `[trust]` of the `tessera.toml` in the current folder or above it."""
    log_level: str = "INFO"
    """Level of `run()`'s log on stderr."""
    api_keys: str | None = field(default=None, repr=False)
    """Keys of those who may ask, `NAME:KEY,NAME:KEY`; None: whoever reaches the server may."""
    api_keys_file: str | None = None
    """Path of a file with a key a line; it may be replaced while the server runs."""
    rate_limit: float | None = None
    """Requests a second that a key, or else an address, may send; more are answered 429."""
    rate_limit_burst: int | None = None
    """Requests that it may send at once; None: those of one second."""
    tls_certificate: str | None = None
    """PEM file of the certificate and those between it and a root; None: HTTP without TLS."""
    tls_key: str | None = None
    """PEM file of its private key; None: it is in the certificate's file."""
    tls_client_ca: str | None = None
    """PEM file of certificates; every client must show one that they vouch for."""
    admin_port: int | None = None
    """TCP port of what only operators may do; 0 picks a free one, None opens none."""
    admin_host: str = "127.0.0.1"
    """Address of `admin_port`."""
    admin_metrics: bool = False
    """Whether `/metrics` is answered on `admin_port` alone."""
    repository: str | None = None
    """Folder of packages to serve: `NAME.tsd`, or `NAME/VERSION/model.tsd`."""
    repository_mode: str = "none"
    """`poll`: the folder is followed; `explicit`: operators load and unload; `none`: as at the start."""
    load_models: str = "*"
    """Names of the repository's models that are loaded at the start, with commas; `*` is all."""
    version_policy: str = "latest"
    """Versions of each of the repository's models: `latest`, `latest:2`, `all`, or `1.0.0,2.0.0`."""
    traffic: str | None = None
    """TOML or JSON file that splits paths among models; it may be replaced while the server runs."""
    poll_s: float = 2.0
    """How often files that may be replaced are looked at; they are taken when they are equal twice."""
    max_connections: int = 10_000
    """Most connections at the same time; one more is answered 503 with Retry-After."""
    header_timeout_s: float = 20.0
    """Longest that a request's headers may take to come; then it is answered 408."""
    max_tensor_elements: int = 1 << 26
    """Most elements of one tensor, input or output; a request with a larger one is answered 400."""
    max_tensor_bytes: int = 256 * MIB
    """Most bytes of one tensor, input or output."""
    max_request_bytes: int = 512 * MIB
    """Most bytes of a request's inputs together, and of its outputs together."""
    cache_bytes: int = 0
    """Most bytes of answers that are kept for equal inputs, for each model; 0: none are."""
    cache_ttl_s: float = 300.0
    """How long an answer is kept."""
    contract: str | None = None
    """The cloud whose paths, port and bodies are served, too: `sagemaker`, `vertex` or `azure`."""
    tracing_endpoint: str | None = None
    """URL of the OTLP collector; None: `OTEL_EXPORTER_OTLP_ENDPOINT`, or else this machine."""
    tracing_protocol: str = "http"
    """OTLP over `http` or `grpc`."""
    tracing_sampling: float = 0.01
    """Share of the requests that are traced, of those that come without a decision of their caller's."""
    tracing_service: str = "tessera"
    """What the traces are filed under."""
    tracing_attributes: str | None = None
    """Further attributes of the service, `key=value,key=value`."""
    log_format: str = "text"
    """`text` or `json`."""
    log_file: str | None = None
    """Where `run()` logs to; None: stderr."""
    log_max_bytes: int = 100_000_000
    """Size at which the log's file is put aside; 0: never."""
    log_rotate_s: float | None = None
    """Period that a file of the log covers, such as 86400 for a day; None: any time."""
    log_backups: int = 10
    """Files of the log that are kept."""
    enable_pages: bool = True
    """Whether `/openapi.json`, `/docs` and `/status` answer."""
    enable_debug: bool = False
    """Whether operators may look into the running process under `/debug`."""
    access_log: float | None = None
    """Share of the answers that are logged; errors always are. None: not even they."""

    @classmethod
    def load(
        cls,
        settings: Mapping[str, Any] | str | os.PathLike[str] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> ServerConfig:
        """Settings from a mapping or a file, then from `TESSERA_*` variables, then the defaults.

        Args:
            settings: By key, or the path of a TOML or JSON file of them. In a mapping they
                win over the environment; in a file they do not.
            environment: Variables; None is the process's.

        Raises:
            ConfigError: An unknown key, a value of the wrong type or out of range, an unreadable file.
        """
        environment = os.environ if environment is None else environment
        from_environment = _read_environment(environment)
        from_file: dict[str, Any] = {}
        given: dict[str, Any] = {}
        if settings is None or isinstance(settings, Mapping):
            given = dict(settings or {})
            for key in from_environment.keys() & given.keys():
                if given[key] != from_environment[key]:
                    logger.warning(
                        "the environment sets %s to %s, but the program sets it to %s, which wins",
                        key,
                        _shown(key, from_environment[key]),
                        _shown(key, given[key]),
                    )
        else:
            from_file = dict(_read_file(Path(settings)))
        merged = {**from_file, **from_environment, **given}
        contract = _checked("contract", merged.get("contract"))
        if contract is not None:
            # What a cloud prescribes goes before a file, which is written for other places as well.
            prescribed = contract_of(contract, environment).settings
            merged = {**from_file, **prescribed, **from_environment, **given}
        return cls(**{key: _checked(key, value) for key, value in merged.items()})

    def changed(self, settings: Mapping[str, Any]) -> ServerConfig:
        """These settings with others in place of some.

        Raises:
            ConfigError: An unknown key, a value of the wrong type or out of range.
        """
        return replace(self, **{key: _checked(key, value) for key, value in settings.items()})


_VARIABLES: dict[str, str] = {
    **{f"TESSERA_{f.name.upper()}": f.name for f in fields(ServerConfig)},
    "TESSERA_MEMORY_POOL": "memory_pool_size",
}


def _checked(key: str, value: Any) -> Any:
    rule = RULES.get(key) if isinstance(key, str) else None
    if rule is None:
        near = difflib.get_close_matches(str(key), RULES, n=1, cutoff=0.5)
        raise ConfigError(
            f"unknown server setting {key!r}",
            hint=f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(RULES),
            key=key,
        )
    if not rule.accept(value):
        raise ConfigError(
            f"server setting {key!r} is {_shown(key, value)} ({type(value).__name__}); "
            f"it must be {rule.description}",
            hint=f"its default is {ServerConfig.__dataclass_fields__[key].default!r}",
            key=key,
        )
    return value


def _shown(key: str, value: Any) -> str:
    """`value` as messages show it."""
    return "(not shown)" if RULES[key].is_secret else repr(value)


def parse_settings(assignments: Iterable[str]) -> dict[str, Any]:
    """Settings by key, from texts such as `max_queue=64`; `none` is none.

    Raises:
        ConfigError: An unknown key, or a value of the wrong type or out of range.
    """
    found: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        key = key.strip()
        if not equals:
            raise ConfigError(f"{key[:80]!r} is no KEY=VALUE", hint="such as max_queue=64", key=key)
        found[key] = _from_text(key, text.strip(), f"server setting {key!r}")
    return found


def _from_text(key: str, text: str, where: str) -> Any:
    if key not in RULES:
        return _checked(key, text)
    try:
        return _checked(key, RULES[key].parse(text))
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"{where} is {_shown(key, text)}; it must be {RULES[key].description}", key=key
        ) from error


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable, key in _VARIABLES.items():
        text = environment.get(variable, "")
        # Kubernetes sets TESSERA_PORT=tcp://… in every pod beside a Service that is called tessera.
        if not text or text.startswith("tcp://"):
            continue
        try:
            found[key] = _from_text(key, text, f"the environment variable {variable}")
        except ConfigError as error:
            message = error.message if variable in error.message else f"{variable}: {error.message}"
            raise ConfigError(message, hint=error.hint or f"unset {variable}", key=key) from error
    return found


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"cannot read the server settings {path}: {error.strerror}", hint=f"ls -l {path}"
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"{path} is not {'JSON' if path.suffix == '.json' else 'TOML'}: {error}",
            hint="a line such as: port = 8080",
        ) from error
    # A project file keeps its server settings in a table of their own, beside other rooms' tables.
    is_project = path.name == "tessera.toml"
    table = found.get("serve", {} if is_project else found) if isinstance(found, dict) else found
    if not isinstance(table, dict):
        raise ConfigError(f"{path} does not hold settings by key", hint="a line such as: port = 8080")
    return table
