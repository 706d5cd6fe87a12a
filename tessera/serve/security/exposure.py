"""What is checked before a port is opened."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tessera.serve.config import ServerConfig
from tessera.serve.model import ModelSource, choose_program

if TYPE_CHECKING:
    from tessera.package.trust import Required


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def on_main_port(config: ServerConfig) -> bool:
    """Whether operators' paths are answered where all others are."""
    return config.admin_port is not None and config.admin_port == config.port != 0


def exposure_of(config: ServerConfig, host: str) -> list[str]:
    """What is missing on a server that listens on `host` and that others reach: `keys`, `TLS`, or nothing."""
    if is_loopback(host):
        return []
    has_keys = config.api_keys or config.api_keys_file or config.tls_client_ca
    return [name for name, there in (("API keys", has_keys), ("TLS", config.tls_certificate)) if not there]


def warnings_of(config: ServerConfig) -> list[str]:
    """What is missing on a server that others reach, in sentences."""
    # In a cloud's container the platform decides who reaches the port, and with which credentials.
    hosts = {} if config.contract else {config.host: "use the model"}
    if config.admin_port is not None:
        hosts[config.host if on_main_port(config) else config.admin_host] = "operate the server"
    found = []
    for host, power in hosts.items():
        missing = exposure_of(config, host)
        if missing:
            remedies = " and ".join(_REMEDIES[name] for name in missing)
            found.append(
                f"{host} is reachable from other machines, without {' and '.join(missing)}: "
                f"whoever reaches it may {power}; set {remedies}, or let a proxy do it"
            )
    return found


_REMEDIES = {"API keys": "api_keys_file", "TLS": "tls_certificate"}


def check_package(
    source: ModelSource, required: Required, *, program: str | None = None, thoroughly: bool = False
) -> None:
    """Open `source` if it is a package's path, and see that it is signed as `required`.

    Weights are neither read nor loaded: this takes milliseconds, and comes before a port is open.

    Args:
        source: What is to be served.
        required: Who must have signed it.
        program: Which program is to be served; None if there is only one.
        thoroughly: Whether every byte is checked (0.7 s per GiB), and the program looked for.

    Raises:
        PackageError: It is damaged or not signed as required.
        ConfigError: A signature is required, and nobody is trusted; or there is no such program.
    """
    if isinstance(source, str | os.PathLike):
        from tessera.runtime.deployment import DeploymentPackage

        verify: Literal["upfront", "first-touch"] = "upfront" if thoroughly else "first-touch"
        package = DeploymentPackage.load(Path(source), require_signature=required, verify_weights=verify)
        if thoroughly:
            choose_program(package.programs, program)
