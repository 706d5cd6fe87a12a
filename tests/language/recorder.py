"""An executor that needs no compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tessera.language.tracing import Traced
from tessera.program.spec import TensorSpec
from tessera.reference import run_graph


class Recorder:
    """An executor that computes with the reference and keeps what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[Traced, Sequence[TensorSpec], dict[str, np.ndarray[Any, Any]]]] = []

    def __call__(
        self, traced: Traced, specs: Sequence[TensorSpec], inputs: dict[str, np.ndarray[Any, Any]]
    ) -> Mapping[str, np.ndarray[Any, Any]]:
        self.calls.append((traced, specs, inputs))
        return run_graph(traced.graph, inputs, traced.constants)
