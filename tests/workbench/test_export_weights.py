"""`tessera package export-weights`."""

from pathlib import Path

import numpy as np

from tessera.package import Package, read_safetensors
from tessera.program.artifact import Artifact

from .conftest import Tessera

EMPTY = Artifact(programs=(), binaries=(), constants={})


def test_weights_are_written_and_counted(tessera: Tessera, project: Path) -> None:
    weight = np.random.default_rng(3).standard_normal((4, 3), dtype=np.float32)
    artifact = Artifact(programs=(), binaries=(), constants={"layer.é": weight})
    Package.from_artifact(artifact, name="m").save("m.tsd")
    said = tessera("package", "export-weights", "m.tsd", "-o", "m.safetensors", "--json")
    assert said.status == 0, said.err
    size = Path("m.safetensors").stat().st_size
    assert said.json == {"path": "m.safetensors", "bytes": size, "weights": 1}
    np.testing.assert_array_equal(read_safetensors("m.safetensors").tensors["layer.é"], weight)


def test_a_package_without_weights_and_a_wrong_call_are_told_apart(tessera: Tessera, project: Path) -> None:
    Package.from_artifact(EMPTY, name="m").save("m.tsd")
    said = tessera("package", "export-weights", "m.tsd", "-o", "m.safetensors")
    assert said.status == 1
    assert "has no weights" in said.err
    assert not Path("m.safetensors").exists()
    assert tessera("package", "export-weights", "m.tsd").status == 2
    assert tessera("package", "export-weights", "none.tsd", "-o", "m.safetensors").status == 2
