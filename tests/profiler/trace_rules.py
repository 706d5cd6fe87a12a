"""The rules of the Trace Event Format that viewers rely on, checked event by event."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any


def read_trace(path: Path) -> dict[str, Any]:
    """A trace file as strict JSON, after `check_trace`."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    check_trace(data)
    return data


def check_trace(data: dict[str, Any]) -> None:
    """Whether every event has what its phase needs, and those of a thread lie after or within each other."""
    assert set(data) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert data["displayTimeUnit"] in ("ms", "ns")
    named: set[tuple[str, int, int]] = set()
    rows: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    last = -1.0
    for event in data["traceEvents"]:
        assert isinstance(event["name"], str)
        assert event["name"]
        assert event["ph"] in ("X", "C", "M")
        assert all(type(event[key]) is int for key in ("pid", "tid"))
        assert math.isfinite(event["ts"])
        assert event["ts"] >= 0
        assert isinstance(event["args"], dict)
        if event["ph"] == "M":
            named.add((event["name"], event["pid"], event["tid"]))
            continue
        # Metadata first, then monotone.
        assert event["ts"] >= last
        last = event["ts"]
        if event["ph"] == "X":
            assert isinstance(event["cat"], str)
            assert math.isfinite(event["dur"])
            assert event["dur"] >= 0
            rows[event["pid"], event["tid"]].append(event)
        else:
            assert event["args"]
            assert all(isinstance(v, int | float) and math.isfinite(v) for v in event["args"].values())
        assert ("process_name", event["pid"], 0) in named
    for row, events in rows.items():
        assert ("thread_name", *row) in named
        _check_nesting(events)


def _check_nesting(events: list[dict[str, Any]]) -> None:
    # In nanoseconds: sums of microseconds round.
    open_ends: list[int] = []
    for event in events:
        start, duration = round(event["ts"] * 1000), round(event["dur"] * 1000)
        while open_ends and open_ends[-1] <= start:
            open_ends.pop()
        assert not open_ends or start + duration <= open_ends[-1], event
        open_ends.append(start + duration)
