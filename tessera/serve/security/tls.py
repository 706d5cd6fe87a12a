"""TLS: a server's certificate, who must show one in turn, and both exchanged while it runs.

Source: https://docs.python.org/3/library/ssl.html, "Security considerations" and `sni_callback`.
"""

from __future__ import annotations

import logging
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from tessera.program.errors import ConfigError
from tessera.serve.config import ServerConfig
from tessera.serve.security.files import State, state_of

logger = logging.getLogger("tessera.serve")

RECHECK_S = 1.0
"""How old what is known of the files may be."""


class Certificates:
    """A server's TLS, which follows its files.

    Args:
        certificate: PEM file of the certificate, followed by those between it and a root.
        key: PEM file of its private key; None: the certificate's file has it, too.
        client_ca: PEM file of certificates; a client must show one that they vouch for.
        clock: Seconds from anywhere.

    Raises:
        ConfigError: A file cannot be read, is none of these, or key and certificate do not belong together.
    """

    def __init__(
        self,
        certificate: str | os.PathLike[str],
        key: str | os.PathLike[str] | None = None,
        client_ca: str | os.PathLike[str] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._certificate = Path(certificate)
        self._key = Path(key) if key is not None else None
        self._client_ca = Path(client_ca) if client_ca is not None else None
        self._files = [f for f in (self._certificate, self._key, self._client_ca) if f is not None]
        self._clock = clock
        self._seen = self._states()
        self._current = self._load()
        self._next_look_s = clock() + RECHECK_S
        self.context = self._load()
        """What every listener uses. Each handshake takes the files as they are by then."""
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        # Called at every handshake, with or without a name. A context of its own is exchanged whole;
        # one that is loaded into twice is broken in between, and never forgets an authority.
        self._refresh()
        connection.context = self._current

    def _refresh(self) -> None:
        now_s = self._clock()
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + RECHECK_S
        states = self._states()
        if states == self._seen:
            return
        try:
            self._current = self._load()
        except ConfigError as error:
            # Certificate and key are two files: one may be new before the other is. Look again.
            logger.warning("the certificate before stays in force: %s", error.message)
        else:
            self._seen = states
            logger.info("%s is in force", self._certificate)

    def _states(self) -> list[State]:
        return [state_of(file) for file in self._files]

    def _load(self) -> ssl.SSLContext:
        for file, setting in self._settings():
            _check_pem(file, setting)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._key, password=self._refuse_password)
        except OSError as error:
            raise _bad_chain(self._certificate, self._key, error) from error
        if self._client_ca is not None:
            _require_clients(context, self._client_ca)
        return context

    def _settings(self) -> list[tuple[Path, str]]:
        named = [
            (self._certificate, "tls_certificate"),
            (self._key, "tls_key"),
            (self._client_ca, "tls_client_ca"),
        ]
        return [(file, setting) for file, setting in named if file is not None]

    def _refuse_password(self) -> str:
        # Without this, OpenSSL would ask on the terminal, and wait.
        file = self._key or self._certificate
        raise ConfigError(
            f"the private key {file} is encrypted",
            hint=f"openssl pkey -in {file} -out plain.pem, and chmod 600 plain.pem",
            key="tls_key",
        )


def certificates_of(config: ServerConfig) -> Certificates | None:
    """The TLS that `config` asks for; None: none.

    Raises:
        ConfigError: A file is wrong, or there is a key or an authority without a certificate.
    """
    if config.tls_certificate is not None:
        return Certificates(config.tls_certificate, config.tls_key, config.tls_client_ca)
    for key in ("tls_key", "tls_client_ca"):
        if getattr(config, key) is not None:
            raise ConfigError(
                f"server setting {key!r} is given, but no certificate",
                hint="set tls_certificate to its PEM file",
                key="tls_certificate",
            )
    return None


def _check_pem(file: Path, setting: str) -> None:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read {file}: {error.strerror}", hint=f"ls -l {file}", key=setting
        ) from error
    wanted = b"PRIVATE KEY-----" if setting == "tls_key" else b"-----BEGIN CERTIFICATE-----"
    if wanted not in data:
        kind = "private key" if setting == "tls_key" else "certificate"
        raise ConfigError(
            f"{file} holds no {kind} in PEM",
            hint=f"it begins with -----BEGIN {kind.upper()}-----",
            key=setting,
        )


def _bad_chain(certificate: Path, key: Path | None, error: OSError) -> ConfigError:
    reason = _reason(error)
    if reason == "KEY_VALUES_MISMATCH":
        return ConfigError(
            f"{key or certificate} is not the private key of the certificate in {certificate}",
            hint=f"compare: openssl x509 -noout -pubkey -in {certificate}",
            key="tls_key",
        )
    where = str(certificate) if key is None else f"{certificate} with the key {key}"
    return ConfigError(
        f"{where}: {reason.replace('_', ' ').lower()}",
        hint=f"openssl x509 -noout -text -in {certificate}",
        key="tls_certificate",
    )


def _require_clients(context: ssl.SSLContext, client_ca: Path) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(cafile=client_ca)
    except OSError as error:
        raise ConfigError(
            f"{client_ca}: {_reason(error).replace('_', ' ').lower()}",
            hint=f"openssl x509 -noout -text -in {client_ca}",
            key="tls_client_ca",
        ) from error


def _reason(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror or error)
