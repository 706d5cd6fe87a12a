"""The NumPy reference as a device: slow, and right by construction."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tessera.program.errors import DeviceError
from tessera.program.graph import Graph
from tessera.program.program import Program
from tessera.runtime.executable import load_constant
from tessera.runtime.profile import Recorder
from tessera.runtime.source import ProgramSource
from tessera.runtime.workspace import Workspace, no_workspace


def open_device(index: int, memory_limit_bytes: int | None) -> ReferenceDevice:
    """The reference; it has no pool to limit."""
    del index, memory_limit_bytes
    return ReferenceDevice()


class ReferenceDevice:
    """Computes a program's graph operator by operator."""

    name = "reference"
    description = "NumPy reference"

    def __init__(self) -> None:
        self._weights_bytes = 0

    def load(self, program: Program, source: ProgramSource) -> ReferenceProgram:
        """The program's graph with its weights.

        Raises:
            DeviceError: It has no graph: it is made of raw kernels.
        """
        if program.graph is None:
            raise DeviceError(
                f"program {program.name!r} is a raw kernel: it has no graph that the reference could compute",
                hint="use another device, such as cpu, cuda:0 or emulator",
            )
        constants = {c.name: load_constant(c, source) for c in program.constants}
        self._weights_bytes += sum(c.nbytes for c in constants.values())
        return ReferenceProgram(program, program.graph, constants)

    def memory_usage(self) -> dict[str, int]:
        """Bytes of the weights; nothing else is kept."""
        return {"in_use_bytes": 0, "reserved_bytes": 0, "peak_bytes": 0, "weights_bytes": self._weights_bytes}

    def close(self) -> None:
        """Nothing to give back."""


class ReferenceProgram:
    """A graph and its weights."""

    target = "reference"

    def __init__(self, program: Program, graph: Graph, constants: dict[str, np.ndarray[Any, Any]]) -> None:
        self._program = program
        self._graph = graph
        self._constants = constants

    def run(
        self,
        inputs: Sequence[np.ndarray[Any, Any]],
        recorder: Recorder | None,
        workspace: Workspace | None = None,
    ) -> list[np.ndarray[Any, Any]]:
        """Outputs in order; see `LoadedProgram.run`."""
        if workspace is not None:
            raise no_workspace("reference")
        # Imported here because the oracle is needed on this device alone.
        from tessera.reference import run_graph

        named = {port.name: value for port, value in zip(self._program.inputs, inputs, strict=True)}
        start = time.perf_counter_ns()
        results = run_graph(self._graph, named, self._constants)
        if recorder is not None:
            recorder.add_step(self._program.name, 0, "graph", time.perf_counter_ns() - start)
        return [results[port.name] for port in self._program.outputs]
