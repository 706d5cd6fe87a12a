"""How a balancer behaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class BalancerSettings:
    """Settings of a `LoadBalancer`."""

    strategy: str = "least_loaded"
    """`least_loaded`, `round_robin` or `latency_aware`."""
    max_queue: int = 1024
    """Most requests that wait for a replica."""
    max_tries: int = 3
    """Replicas that are asked before a request fails."""
    patience_s: float = 1.0
    """A request without a deadline is treated as if it had one this far away."""
    slow_start_s: float = 10.0
    """Time after which a replica that came back gets its whole share."""
    stall_timeout_s: float = 30.0
    """A replica that has work and finishes nothing for this long is broken."""
    probe_timeout_s: float = 10.0
    """Longest that a trial of a broken replica may take."""
    breaker: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of each replica's `CircuitBreaker`."""
