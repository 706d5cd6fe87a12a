"""The gate that every protocol asks: may this caller come in, and not too often?

HTTP, gRPC and the clouds' contracts hold the same gate, so that a key that is exchanged or a client
that asks too often is the same to all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from tessera.serve.config import ServerConfig
from tessera.serve.request import RequestError
from tessera.serve.security.keys import KeyRing
from tessera.serve.security.rate_limit import RateLimit, address_key

FREE_PATHS = frozenset({"/health", "/ready", "/v2/health/live", "/v2/health/ready"})
"""Probes: orchestrators have no keys, and must be answered however much is asked."""

_REALM = 'Bearer realm="tessera"'


class Gate:
    """Who may ask, and how often.

    Args:
        keys: Keys that open it; None: it is open to all.
        rate: How often each caller may ask; None: as often as it likes.
        free_paths: Paths that are answered to anybody, at any rate.
    """

    def __init__(
        self,
        keys: KeyRing | None = None,
        rate: RateLimit | None = None,
        *,
        free_paths: Iterable[str] = FREE_PATHS,
    ) -> None:
        self._keys = keys
        self._rate = rate
        self._free = frozenset(free_paths)

    def admit(
        self, path: str, headers: Iterable[tuple[bytes, bytes]], address: str | None = None
    ) -> str | None:
        """The name of an HTTP request's caller; None without keys, and on a free path.

        Args:
            path: The request's path, without the query.
            headers: Names in lower case, and values.
            address: Where the connection comes from.

        Raises:
            RequestError: 401 without a key that is known, 429 for too many requests.
        """
        if path in self._free:
            return None
        authorization = api_key = None
        if self._keys is not None:
            for name, value in headers:
                if name == b"authorization":
                    authorization = value.decode("latin-1")
                elif name == b"x-api-key":
                    api_key = value.decode("latin-1")
        return self.admit_credentials(authorization, api_key, address)

    def admit_credentials(
        self, authorization: str | None, api_key: str | None, address: str | None = None
    ) -> str | None:
        """The caller's name; None without keys. For protocols other than HTTP.

        Args:
            authorization: Such as `Bearer KEY`.
            api_key: A key as it is; `authorization` goes before it.
            address: Where the connection comes from, without a port.

        Raises:
            RequestError: 401 without a key that is known, 429 for too many requests.
        """
        if self._keys is None:
            self._count(address_key(address))
            return None
        key = _bearer(authorization) if authorization is not None else api_key
        name = self._keys.name_of(key) if key else None
        if name is None:
            # Whoever guesses keys is slowed down by its address.
            self._count(address_key(address))
            raise _unauthorized(given=bool(authorization or api_key))
        self._count(f"key {name}")
        return name

    def _count(self, client: str) -> None:
        if self._rate is None:
            return
        wait_s = self._rate.take(client)
        if wait_s:
            raise RequestError(
                f"too many requests: {self._rate.per_second:g} a second are allowed, "
                f"and {self._rate.burst} at once",
                hint=f"try again in {wait_s} s",
                status=HTTPStatus.TOO_MANY_REQUESTS,
                headers={"Retry-After": str(wait_s)},
            )


def make_gate(config: ServerConfig, *, free_paths: Iterable[str] = ()) -> Gate | None:
    """The gate that `config` asks for; None if everything is open.

    Args:
        config: Settings.
        free_paths: Further paths that are open to all, such as a cloud's probes.

    Raises:
        ConfigError: The keys cannot be read.
    """
    keys = KeyRing(config.api_keys, config.api_keys_file) if config.api_keys or config.api_keys_file else None
    rate = None
    if config.rate_limit:
        burst = config.rate_limit_burst or max(1, round(config.rate_limit))
        rate = RateLimit(config.rate_limit, burst)
    if keys is None and rate is None:
        return None
    return Gate(keys, rate, free_paths=FREE_PATHS | set(free_paths))


def _bearer(authorization: str) -> str:
    scheme, _, key = authorization.strip().partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _unauthorized(*, given: bool) -> RequestError:
    error = ', error="invalid_token"' if given else ""
    return RequestError(
        "the API key is not known" if given else "an API key is needed",
        hint="send the header Authorization: Bearer KEY, or X-API-Key: KEY",
        status=HTTPStatus.UNAUTHORIZED,
        headers={"WWW-Authenticate": _REALM + error},
    )
