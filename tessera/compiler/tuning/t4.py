"""Records in the JSON of Kernel Tuner, and back.

Source: T4 results schema 1.0.0, `kernel_tuner/schema/T4/1.0.0/results-schema.json` of Kernel Tuner.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from tessera.compiler.tuning.record import Record, Status, Value
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


class _Measurement(msgspec.Struct, frozen=True):
    name: str = ""
    value: float | str | list[Any] | None = None
    unit: str = ""


class _Result(msgspec.Struct, frozen=True, kw_only=True):
    """What the schema says of a result; members that it does not name may be there."""

    configuration: dict[str, Value]
    times: dict[str, Any]
    invalidity: Literal["timeout", "compile", "runtime", "correctness", "constraints", "correct"]
    correctness: float
    measurements: list[_Measurement] = []
    tessera: dict[str, Any] = {}


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    results: list[_Result]
    schema_version: Annotated[str, msgspec.Meta(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")] = SCHEMA_VERSION


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
    hint = f"a T4 results file has schema_version {SCHEMA_VERSION} and results: {path.name}"
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_Document)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no file {path}", hint="Kernel Tuner's store_output_file writes one", file=str(path)
        ) from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path} is no T4 results file: {error}", hint=hint, file=str(path)) from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not JSON: {error}", hint=hint, file=str(path)) from None
    if document.schema_version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise ConfigError(
            f"{path} is of T4 schema {document.schema_version}; this Tessera reads {SCHEMA_VERSION}",
            hint=hint,
            file=str(path),
        )
    return [_record(path, f"results[{i}]", found, template) for i, found in enumerate(document.results)]


def _record(path: Path, place: str, result: _Result, template: Record) -> Record:
    status = _STATUS[result.invalidity]
    if status == "ok" and result.correctness <= 0:
        status = "wrong"
    fields: dict[str, Any] = {name: getattr(template, name) for name in template.__struct_fields__}
    fields |= {"kind": "measured", "reason": "", "registers": None, "spill_bytes": None}
    fields |= {"shared_bytes": None, "occupancy": None}
    fields |= result.tessera
    cost = _cost(path, place, result) if status == "ok" else None
    fields |= {"configuration": result.configuration, "status": status, "cost_ms": cost}
    try:
        return msgspec.convert(fields, Record)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {place}: {error}", file=str(path)) from None


def _cost(path: Path, place: str, result: _Result) -> float:
    for measurement in result.measurements:
        if measurement.name == "time":
            value, unit = measurement.value, measurement.unit
            if isinstance(value, (int, float)) and value >= 0 and unit in _TO_MS:
                return float(value) * _TO_MS[unit]
            raise ConfigError(f"{path}: {place}: a time of {value!r} {unit!r}", file=str(path))
    raise ConfigError(
        f"{path}: {place} is correct, but has no measurement called time",
        hint="tune for time",
        file=str(path),
    )
