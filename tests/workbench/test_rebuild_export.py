"""`package verify --rebuild` of packages that `ModelExporter` made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tessera.deploy import ModelExporter
from tessera.workbench.source import load_entries

from .conftest import Tessera

MODEL = """\
import numpy as np
import tessera as ts


class Net(ts.Module):
    def __init__(self):
        super().__init__()
        self.w = ts.tensor(np.linspace(-1, 1, 128, dtype=np.float32).reshape(16, 8))

    def forward(self, x: ts.Tensor[ts.f32, "rows", 16]):
        return ts.relu(ts.matmul(x, self.w))


net = Net()


@ts.jit
def soft(x: ts.Tensor[ts.f32, "n", 16]):
    return ts.softmax(x)
"""


@pytest.mark.parametrize(("name", "quantization"), [("net", None), ("net", "int8"), ("soft", None)])
def test_an_exported_model_is_proved_from_its_source(
    tessera: Tessera, project: Path, name: str, quantization: str | None
) -> None:
    (project / "model.py").write_text(MODEL)
    (entry,) = load_entries(f"model.py:{name}")
    example = np.ones((2, 16), np.float32)
    ModelExporter(entry.subject, example, ["sm_80", "cpu"]).export("m.tsd", quantization=quantization)
    said = tessera("package", "verify", "m.tsd", "--rebuild", f"model.py:{name}")
    assert said.status == 0, said.out + said.err
    assert "byte for byte" in said.out
    text = MODEL.replace("ts.relu", "ts.tanh").replace("softmax(x)", "softmax(x * 2)")
    (project / "model.py").write_text(text)
    assert tessera("package", "verify", "m.tsd", "--rebuild", f"model.py:{name}").status == 1
