"""What is checked before a port is opened."""

from __future__ import annotations

import ipaddress
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tessera.serve.config import ServerConfig
from tessera.serve.model import ModelSource

if TYPE_CHECKING:
    from tessera.package.trust import Required

logger = logging.getLogger("tessera.serve")


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


def warn_of_exposure(config: ServerConfig) -> None:
    """Say in the log what is missing on a server that others reach."""
    hosts = {config.host: "use the model"}
    if config.admin_port is not None:
        hosts[config.host if on_main_port(config) else config.admin_host] = "operate the server"
    for host, power in hosts.items():
        missing = exposure_of(config, host)
        if missing:
            logger.warning(
                "%s is reachable from other machines, without %s: whoever reaches it may %s; "
                "set %s, or let a proxy do it",
                host,
                " and ".join(missing),
                power,
                " and ".join(_REMEDIES[name] for name in missing),
            )


_REMEDIES = {"API keys": "api_keys_file", "TLS": "tls_certificate"}


def check_package(source: ModelSource, required: Required) -> None:
    """Open `source` if it is a package's path, and see that it is signed as `required`.

    Weights are neither read nor loaded: this takes milliseconds, and comes before a port is open.

    Raises:
        PackageError: It is damaged or not signed as required.
        ConfigError: A signature is required, and nobody is trusted.
    """
    if isinstance(source, str | os.PathLike):
        from tessera.runtime.deployment import DeploymentPackage

        DeploymentPackage.load(Path(source), require_signature=required)
