"""A log record as one line: JSON for machines, text for people."""

from __future__ import annotations

import json
import logging
import time
import traceback
from typing import Any

import msgspec

_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {
    "message",
    "asctime",
    "taskName",
}
"""What every record has; the rest came as `extra`."""

_OWN = ("time", "level", "logger", "message", "error")
"""Fields of ours that an `extra` must not overwrite."""

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(0x80, 0xA0))}
_CONTROL |= {10: "\\n", 13: "\\r", 9: "\\t"}


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller gave as `extra`, and the request that it spoke for."""
    given = {k: v for k, v in vars(record).items() if k not in _STANDARD}
    # `extra={"request_id": …}` of the caller's own wins over what was found.
    found = given.pop("tessera_context", None)
    merged = {**found, **given} if found else given
    return {f"extra.{k}" if k in _OWN else k: v for k, v in merged.items()}


def to_json(record: logging.LogRecord) -> bytes:
    """`record` as a JSON object and a line feed.

    Fields: `time` (UTC, RFC 3339), `level`, `logger`, `message`, then the extras, then `error`
    (`type`, `message`, `stack`) if an exception was logged. What has no JSON form goes as its `str`.
    """
    line: dict[str, Any] = {
        "time": _utc(record.created),
        "level": record.levelname,
        "logger": record.name,
        "message": record.getMessage(),
        **extras(record),
    }
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        line["error"] = {
            "type": type(error).__qualname__,
            "message": str(error),
            "stack": "".join(traceback.format_exception(error)),
        }
    try:
        return msgspec.json.encode(line, enc_hook=_plain) + b"\n"
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):
        # Half of a surrogate pair, a key that is no string, a cycle: said as far as it can be.
        safe = {str(k): v if isinstance(v, str | int | float | None) else repr(v) for k, v in line.items()}
        return json.dumps(safe).encode() + b"\n"


def to_text(record: logging.LogRecord) -> bytes:
    """`record` as a line for people; control characters are shown, so that no value forges a line."""
    message = record.getMessage().translate(_CONTROL)
    more = " ".join(f"{k}={v}".translate(_CONTROL) for k, v in extras(record).items())
    parts = [_utc(record.created), record.levelname, f"{record.name}:", message, more]
    text = " ".join(part for part in parts if part)
    if record.exc_info and record.exc_info[1] is not None:
        text += "\n" + "".join(traceback.format_exception(record.exc_info[1])).rstrip()
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _utc(seconds: float) -> str:
    whole, part = divmod(int(seconds * 1e6), 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{part:06d}Z"


def _plain(value: Any) -> Any:
    # NumPy's scalars and arrays of any size: the numbers of small ones, of others what they are.
    size = getattr(value, "size", None)
    if hasattr(value, "tolist") and isinstance(size, int) and size <= 64:
        return value.tolist()
    if size is not None and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return str(value)
