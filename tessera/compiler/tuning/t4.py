"""Records in the JSON of Kernel Tuner, and back.

Source: T4 results schema 1.0.0, `kernel_tuner/schema/T4/1.0.0/results-schema.json` of Kernel Tuner.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tessera.compiler.tuning.record import Record, Status
from tessera.program.errors import ConfigError

SCHEMA_VERSION = "1.0.0"
_INVALIDITY: dict[Status, str] = {
    "ok": "correct",
    "pruned": "constraints",
    "compile": "compile",
    "runtime": "runtime",
    "wrong": "correctness",
}
_STATUS: dict[str, Status] = {text: status for status, text in _INVALIDITY.items()} | {"timeout": "runtime"}
_OWN = "tessera"
"""Where a result keeps what the schema has no place for; it allows further members."""
_TO_MS = {"s": 1e3, "seconds": 1e3, "ms": 1.0, "milliseconds": 1.0, "us": 1e-3, "ns": 1e-6, "": 1.0}


def to_t4(records: Iterable[Record]) -> dict[str, Any]:
    """Records as a T4 document."""
    return {
        "schema_version": SCHEMA_VERSION,
        "results": [_result(r) for r in sorted(records, key=lambda r: r.key)],
    }


def _result(record: Record) -> dict[str, Any]:
    times = [] if record.cost_ms is None else [record.cost_ms]
    own = {
        name: getattr(record, name)
        for name in record.__struct_fields__
        if name not in ("configuration", "cost_ms", "status") and getattr(record, name) not in (None, "")
    }
    return {
        "configuration": record.configuration,
        "objectives": ["time"],
        "times": {"runtimes": times},
        "invalidity": _INVALIDITY[record.status],
        "correctness": 1 if record.status == "ok" else 0,
        "measurements": [{"name": "time", "value": t, "unit": "ms"} for t in times],
        _OWN: own,
    }


def from_t4(path: Path, template: Record) -> list[Record]:
    """Records of a T4 file.

    Args:
        path: The file, of Kernel Tuner or of `to_t4`.
        template: What results without Tessera's own members are records of: kernel, target, GPU, sizes.
            Kernel Tuner measures, so that they are measured.

    Raises:
        ConfigError: It is no such file; the message names the result at fault.
    """
    hint = f"a T4 results file has schema_version and results: {path.name}"
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}", file=str(path)) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is not JSON: {error}", hint=hint, file=str(path)) from None
    if not isinstance(data, dict) or not isinstance(data.get("results"), list):
        raise ConfigError(f"{path} has no list of results", hint=hint, file=str(path))
    return [_record(path, f"results[{i}]", result, template) for i, result in enumerate(data["results"])]


def _record(path: Path, place: str, result: Any, template: Record) -> Record:
    import msgspec

    if not isinstance(result, Mapping) or not isinstance(result.get("configuration"), Mapping):
        raise ConfigError(f"{path}: {place} has no configuration", file=str(path))
    status = _STATUS.get(str(result.get("invalidity")))
    if status is None:
        raise ConfigError(
            f"{path}: {place}.invalidity is {result.get('invalidity')!r}",
            hint="one of: " + ", ".join(_STATUS),
            file=str(path),
        )
    fields: dict[str, Any] = {name: getattr(template, name) for name in template.__struct_fields__}
    fields |= {"kind": "measured", "reason": "", "registers": None, "spill_bytes": None}
    fields |= {"shared_bytes": None, "occupancy": None}
    fields |= result.get(_OWN) or {}
    cost = _cost(path, place, result) if status == "ok" else None
    fields |= {"configuration": dict(result["configuration"]), "status": status, "cost_ms": cost}
    try:
        return msgspec.convert(fields, Record)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {place}: {error}", file=str(path)) from None


def _cost(path: Path, place: str, result: Mapping[str, Any]) -> float:
    for measurement in result.get("measurements") or ():
        if isinstance(measurement, Mapping) and measurement.get("name") == "time":
            value, unit = measurement.get("value"), str(measurement.get("unit") or "")
            if isinstance(value, (int, float)) and unit in _TO_MS:
                return float(value) * _TO_MS[unit]
            raise ConfigError(f"{path}: {place}: a time of {value!r} {unit!r}", file=str(path))
    raise ConfigError(
        f"{path}: {place} is correct, but has no measurement called time",
        hint="tune for time",
        file=str(path),
    )
