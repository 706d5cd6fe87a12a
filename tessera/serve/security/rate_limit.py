"""How often a client may ask: a bucket of tokens for each."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

MAX_CLIENTS = 10_000
"""Clients that are remembered; the one that was quiet longest is forgotten first."""


class RateLimit:
    """A bucket of tokens for each client: a request takes one, time brings them back.

    Args:
        per_second: Tokens that a second brings.
        burst: Tokens that a bucket holds.
        max_clients: Buckets that are kept.
        clock: Seconds from anywhere.
    """

    def __init__(
        self,
        per_second: float,
        burst: int,
        *,
        max_clients: int = MAX_CLIENTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.per_second = per_second
        """Requests a second that a client may send for ever."""
        self.burst = burst
        """Requests that it may send at once."""
        self._max_clients = max_clients
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, client: str) -> int:
        """Take a token of `client`; 0, or the whole seconds after which there is one again."""
        now_s = self._clock()
        tokens, then_s = self._buckets.get(client, (float(self.burst), now_s))
        tokens = min(float(self.burst), tokens + (now_s - then_s) * self.per_second)
        allowed = tokens >= 1.0
        self._buckets[client] = (tokens - 1.0 if allowed else tokens, now_s)
        self._buckets.move_to_end(client)
        if len(self._buckets) > self._max_clients:
            self._buckets.popitem(last=False)
        return 0 if allowed else max(1, math.ceil((1.0 - tokens) / self.per_second))


def address_key(address: str | None) -> str:
    """What stands for an address in the table: a whole /64 of IPv6, for that is what one client has."""
    if address is None or ":" not in address:
        return address or "unknown"
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False).network_address) + "/64"
