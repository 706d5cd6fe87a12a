"""The JSON Schema of `manifest.json`, made from the types that read it.

python -m tessera.package.schema > docs/manifest.schema.json
"""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec

from tessera.package.manifest import FORMAT_MAJOR, Manifest
from tessera.program.dtype import DTYPES, DType

_DIGEST = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_SIZE = {"minimum": 0}


def manifest_schema() -> dict[str, Any]:
    """The schema of every manifest of this major version, JSON Schema 2020-12.

    Later minor versions may add keys, so unknown ones are allowed. What a schema cannot say, such as that
    the entries are those of the container, a reader checks besides.
    """
    schema = msgspec.json.schema(Manifest, schema_hook=_dtype)
    definitions = schema["$defs"]
    manifest = definitions["Manifest"]
    manifest["properties"]["format"] |= {"pattern": rf"^{FORMAT_MAJOR}\.[0-9]{{1,6}}$"}
    # A reader takes what a writer always writes.
    manifest["required"] = ["format", "kind", "name", "version", "digest"]
    manifest["properties"]["digest"] = {**_DIGEST, "description": "SHA-256 of every byte before this value"}
    entry = definitions["Entry"]["properties"]
    entry["sha256"] = _DIGEST
    entry["packed_sha256"] = {"anyOf": [_DIGEST, {"type": "null"}], "default": None}
    entry["size"] |= _SIZE
    for row in ("offset", "packed_size"):
        entry[row] = {"anyOf": [{"type": "integer", **_SIZE}, {"type": "null"}], "default": None}
    definitions["WeightRow"]["properties"]["shape"]["items"] |= _SIZE
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "manifest.json", **schema}


def _dtype(kind: type[Any]) -> dict[str, Any]:
    if kind is not DType:
        raise NotImplementedError(kind)
    return {"type": "string", "enum": sorted(DTYPES)}


def schema_text() -> str:
    """The schema as it is published."""
    return json.dumps(manifest_schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
