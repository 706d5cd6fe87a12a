"""The published schema is that of the types, and real manifests are valid by it."""

import json
from pathlib import Path

import jsonschema
import pytest

from tessera.package import Package
from tessera.package.schema import manifest_schema, schema_text
from tessera.program.artifact import Artifact

PUBLISHED = Path(__file__).parents[2] / "docs" / "manifest.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(json.loads(PUBLISHED.read_text()))


def test_the_published_schema_is_current() -> None:
    assert PUBLISHED.read_text() == schema_text(), (
        "python -m tessera.package.schema > docs/manifest.schema.json"
    )
    jsonschema.Draft202012Validator.check_schema(manifest_schema())


@pytest.mark.parametrize("ending", ["tsc", "tsp", "tsd"])
def test_manifests_of_files_and_folders_are_valid(artifact: Artifact, tmp_path: Path, ending: str) -> None:
    package = Package.from_artifact(artifact, name="demo", metadata={"author": "me"}, config={"a": [1]})
    loaded = Package.load(package.save(tmp_path / f"a.{ending}"))
    VALIDATOR.validate(json.loads(loaded.document))
    VALIDATOR.validate(json.loads(Package.load(loaded.unpack(tmp_path / "folder")).document))
    VALIDATOR.validate(json.loads(package.document))


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "2.0"},
        {"kind": "exe"},
        {"name": 7},
        {"digest": "0"},
        {"entries": [{"path": "weights/a.bin", "size": -1, "sha256": "0" * 64}]},
        {"entries": [{"path": "weights/a.bin", "size": 1, "sha256": "A" * 64}]},
        {"weights": [{"name": "a", "dtype": "u7", "shape": [1], "path": "weights/a.bin"}]},
        {"weights": [{"name": "a", "dtype": "u8", "shape": [-1], "path": "weights/a.bin"}]},
        {"programs": [{"name": "a"}]},
    ],
)
def test_manifests_that_a_reader_refuses_are_not_valid(
    artifact: Artifact, changes: dict[str, object]
) -> None:
    document = json.loads(Package.from_artifact(artifact, name="demo").document)
    assert not VALIDATOR.is_valid({**document, **changes})
