"""TLS of the gRPC port: the same certificate as HTTP's, and exchanged with it."""

from __future__ import annotations

import logging
from pathlib import Path

import grpc

from tessera.program.errors import ConfigError
from tessera.serve.config import ServerConfig
from tessera.serve.security.files import State, state_of

logger = logging.getLogger("tessera.serve")


class _Files:
    """The PEM files, read again at a handshake when they changed."""

    def __init__(self, certificate: str, key: str, client_ca: str | None) -> None:
        self._paths = [Path(certificate), Path(key), *([Path(client_ca)] if client_ca else [])]
        self._seen: list[State] = []

    def read(self) -> grpc.ServerCertificateConfiguration:
        """What they hold now.

        Raises:
            ConfigError: One of them cannot be read.
        """
        self._seen = [state_of(path) for path in self._paths]
        try:
            certificate, key, *roots = [path.read_bytes() for path in self._paths]
        except OSError as error:
            raise ConfigError(
                f"cannot read {error.filename}: {error.strerror}",
                hint=f"ls -l {error.filename}",
                key="tls_certificate",
            ) from error
        return grpc.ssl_server_certificate_configuration([(key, certificate)], roots[0] if roots else None)

    def fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """What they hold, if that is new. gRPC calls it at each handshake."""
        if [state_of(path) for path in self._paths] == self._seen:
            return None
        try:
            return self.read()
        except ConfigError as error:
            logger.warning("the certificate before stays in force: %s", error.message)
            return None


def credentials_of(config: ServerConfig) -> grpc.ServerCredentials | None:
    """The TLS that `config` asks for; None: none.

    Raises:
        ConfigError: A file cannot be read.
    """
    if config.tls_certificate is None:
        return None
    files = _Files(config.tls_certificate, config.tls_key or config.tls_certificate, config.tls_client_ca)
    return grpc.dynamic_ssl_server_credentials(
        files.read(), files.fetch, require_client_authentication=config.tls_client_ca is not None
    )
