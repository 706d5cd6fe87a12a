"""Models whose answers say which one gave them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from small_models import NumpyModel, linear_program

from tessera.package.package import Package
from tessera.program.artifact import Artifact
from tessera.program.program import Program

ONES = np.ones((4, 3), np.float32)


class ScaledModel(NumpyModel):
    """`output[i, j] = scale * sum(x[i])`. Running it after it was closed is an error."""

    def __init__(self, scale: float, seconds: float = 0.0, program: Program | None = None) -> None:
        super().__init__(program or linear_program(), self._scaled, seconds)
        self.scale = scale

    def _scaled(self, x: Any) -> dict[str, Any]:
        assert not self.closed, f"model {self.scale} ran after it was closed"
        return {"output": x @ ONES * np.float32(self.scale)}


def scaled_package(path: Path, scale: float, version: str = "1.0.0") -> Path:
    """As `ScaledModel`, as a file that takes the place of what is there in one step."""
    artifact = Artifact((linear_program(),), (), {"w": ONES * np.float32(scale)})
    Package.from_artifact(artifact, name="linear", version=version).save(path)
    return path


def scale_of(x: Any, output: Any) -> float:
    """The scale of the one model that gave all of `output`; an answer of two models is an error."""
    scales = np.asarray(output, np.float64) / np.asarray(x, np.float64).sum(axis=1, keepdims=True)
    assert np.ptp(scales) < 1e-3, f"rows of several models: {scales}"
    return float(scales.mean())
