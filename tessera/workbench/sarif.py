"""Findings as SARIF, which code hosts and editors show beside the source.

Source: OASIS, Static Analysis Results Interchange Format (SARIF) Version 2.1.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tessera.workbench.failure import short_path

if TYPE_CHECKING:
    from tessera.emulator.findings import Finding

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def write_sarif(path: Path, findings: Sequence[Finding]) -> None:
    """Write the findings of one run; their files are paths.

    Raises:
        ConfigError: The file cannot be written.
    """
    from tessera import __version__
    from tessera.emulator.findings import KINDS
    from tessera.package.atomic import write_json

    used = [kind for kind in KINDS if any(f.kind == kind for f in findings)]
    rules = [
        {
            "id": kind,
            "shortDescription": {"text": KINDS[kind].title},
            "help": {"text": KINDS[kind].hint},
            "defaultConfiguration": {"level": "error"},
            "properties": {"check": KINDS[kind].check},
        }
        for kind in used
    ]
    driver = {"name": "tessera check", "version": __version__, "rules": rules}
    results = [_result(f, used.index(f.kind)) for f in findings]
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}
    write_json(path, log)


def _result(finding: Finding, rule: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.kind,
        "ruleIndex": rule,
        "level": "error",
        "message": {"text": f"{finding.kernel}: {finding.message} ({finding.hint})"},
        "locations": [_location(finding.file, finding.line, finding.kernel)],
        "occurrenceCount": finding.count,
        "properties": {
            "ptxLine": finding.ptx_line,
            "block": finding.block,
            "thread": finding.thread,
            "array": finding.array,
            "index": finding.index,
        },
    }
    other = finding.other
    if other is not None:
        text = f"block {other.block}, thread {other.thread}: {other.access}"
        place = _location(other.file, other.line, finding.kernel)
        result["relatedLocations"] = [{"id": 0, **place, "message": {"text": text}}]
    return result


def _location(file: str, line: int, kernel: str) -> dict[str, Any]:
    place: dict[str, Any] = {"logicalLocations": [{"name": kernel, "kind": "function"}]}
    if file and line:
        place["physicalLocation"] = {
            "artifactLocation": {"uri": _uri(file)},
            "region": {"startLine": line},
        }
    return place


def _uri(file: str) -> str:
    path = Path(short_path(file))
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())
