"""What each setting of a server may be, and how it is read from text."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tessera.serve.contracts.clouds import NAMES

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Rule:
    """What a setting may be."""

    description: str
    accept: Callable[[Any], bool]
    parse: Callable[[str], Any] = str
    """From the text of an environment variable."""
    is_secret: bool = False
    """Whether no message may show the value."""


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _integer(low: int, high: int) -> Rule:
    return Rule(f"an integer from {low} to {high}", lambda v: _is_int(v) and low <= v <= high, int)


def _number(low: float, high: float, unit: str) -> Rule:
    def accept(value: Any) -> bool:
        return (_is_int(value) or isinstance(value, float)) and math.isfinite(value) and low <= value <= high

    return Rule(f"a number of {unit} from {low:g} to {high:g}", accept, float)


def _optional(rule: Rule) -> Rule:
    return replace(
        rule,
        description=f"{rule.description}, or none",
        accept=lambda v: v is None or rule.accept(v),
        parse=lambda text: None if text.strip().lower() == "none" else rule.parse(text),
    )


def _parse_bool(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False}
    words["off"] = False
    return words[text.strip().lower()]


def _is_size(value: Any) -> bool:
    from tessera.runtime.memory import parse_bytes

    parse_bytes(value)
    return True


def _is_memory(value: Any) -> bool:
    from tessera.runtime.memory import parse_bytes

    return (parse_bytes(value) or 0) >= MIB


def _parse_required(text: str) -> bool | str:
    try:
        return _parse_bool(text)
    except KeyError:
        return text


def _is_pairs(value: Any) -> bool:
    return isinstance(value, str) and all("=" in pair for pair in value.split(","))


def _one_of(*words: str) -> Rule:
    return Rule("one of " + ", ".join(words), lambda v: isinstance(v, str) and v in words, str.lower)


_TEXT = Rule("a non-empty string", lambda v: isinstance(v, str) and bool(v))
_FLAG = Rule("true or false", lambda v: isinstance(v, bool), _parse_bool)
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

RULES: dict[str, Rule] = {
    "host": _TEXT,
    "port": _integer(0, 65535),
    "grpc_port": _optional(_integer(0, 65535)),
    "workers": _integer(1, 256),
    "processes": _integer(1, 256),
    "replicas": _integer(1, 256),
    "shared_memory_size": Rule('bytes, 1 MiB at least, or text such as "256MB"', _is_memory),
    "max_batch_size": _integer(1, 1 << 20),
    "batch_timeout_ms": _number(0, 60_000, "milliseconds"),
    "memory_pool_size": Rule('bytes, or text such as "8GB"', _is_size),
    "enable_metrics": _FLAG,
    "enable_tracing": _FLAG,
    "device": _TEXT,
    "strategy": _one_of("least_loaded", "round_robin", "latency_aware"),
    "program": Rule("a program's name", lambda v: v is None or (isinstance(v, str) and bool(v))),
    "max_queue": _integer(1, 1 << 20),
    "max_body_bytes": _integer(1, 1 << 40),
    "compress_answers": _FLAG,
    "shared_memory": Rule(
        "true, false, or how names begin",
        lambda v: isinstance(v, bool) or (isinstance(v, str) and bool(v)),
        _parse_required,
    ),
    "drain_timeout_s": _number(0, 86_400, "seconds"),
    "request_timeout_s": _number(0.001, 86_400, "seconds"),
    "require_signature": Rule(
        "true, false, or a path",
        lambda v: isinstance(v, bool) or (isinstance(v, str) and bool(v)),
        _parse_required,
    ),
    "log_level": Rule(
        "one of " + ", ".join(_LEVELS), lambda v: isinstance(v, str) and v.upper() in _LEVELS, str.upper
    ),
    "api_keys": _optional(replace(_TEXT, is_secret=True)),
    "api_keys_file": _optional(_TEXT),
    "rate_limit": _optional(_number(0.001, 1e9, "requests a second")),
    "rate_limit_burst": _optional(_integer(1, 1 << 30)),
    "tls_certificate": _optional(_TEXT),
    "tls_key": _optional(_TEXT),
    "tls_client_ca": _optional(_TEXT),
    "admin_port": _optional(_integer(0, 65535)),
    "admin_host": _TEXT,
    "admin_metrics": _FLAG,
    "repository": _optional(_TEXT),
    "repository_mode": _one_of("none", "poll", "explicit"),
    "load_models": Rule("names with commas between them, or *", lambda v: isinstance(v, str)),
    "version_policy": _TEXT,
    "traffic": _optional(_TEXT),
    "poll_s": _number(0.001, 86_400, "seconds"),
    "max_connections": _integer(1, 1 << 20),
    "header_timeout_s": _number(0.001, 86_400, "seconds"),
    "max_tensor_elements": _integer(1, 1 << 40),
    "max_tensor_bytes": _integer(1, 1 << 44),
    "max_request_bytes": _integer(1, 1 << 44),
    "cache_bytes": _integer(0, 1 << 44),
    "cache_ttl_s": _number(0.001, 1e9, "seconds"),
    "contract": _optional(Rule(f"one of {', '.join(NAMES)}", lambda v: v in NAMES)),
    "tracing_endpoint": _optional(_TEXT),
    "tracing_protocol": _one_of("http", "grpc"),
    "tracing_sampling": _number(0, 1, "requests"),
    "tracing_service": _TEXT,
    "tracing_attributes": _optional(Rule("key=value,key=value", _is_pairs)),
    "log_format": _one_of("text", "json"),
    "log_file": _optional(_TEXT),
    "log_max_bytes": _integer(0, 1 << 50),
    "log_rotate_s": _optional(_number(1, 1e9, "seconds")),
    "log_backups": _integer(0, 10_000),
    "enable_pages": _FLAG,
    "enable_debug": _FLAG,
    "access_log": _optional(_number(0, 1, "answers")),
}
"""By key; every setting has one."""
