"""Steps of tensor functions as something to tune: the compiler's own templates, over their tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tessera.compiler.codegen import kernel_stem
from tessera.compiler.fingerprint import digest
from tessera.compiler.graph_unit import graph_unit
from tessera.compiler.matrix_units import units_of
from tessera.compiler.options import AOTConfig, ToolOptions
from tessera.compiler.plan import TunableStep, tunable_steps
from tessera.compiler.tiling import Tiling, own_values
from tessera.compiler.tuning.identity import flags_of
from tessera.compiler.tuning.record import Value
from tessera.compiler.unit import Unit
from tessera.program.graph import Graph

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class FunctionStep:
    """One step of a tensor function or model, for one target."""

    function: str
    """Name of the function."""
    graph: Graph
    constants: Mapping[str, np.ndarray[Any, Any]]
    step: TunableStep
    options: ToolOptions
    config: AOTConfig
    """Switches of the graph compiler."""

    @property
    def name(self) -> str:
        """What its records are of: `forward.0_matmul_relu`."""
        return f"{self.function}.{self.step.name}"

    @property
    def own(self) -> dict[str, Value]:
        """The compiler's own choice."""
        return own_values(self.step.space)

    @property
    def kernels(self) -> str:
        """What the names of its kernels begin with."""
        return f"{kernel_stem(self.graph.name, self.step.number)}_"

    @property
    def identity(self) -> str:
        """Digest of its kernels as the compiler chooses them, and of the flags; of no tiling."""
        cap = self.config.max_shared_memory_per_block
        return digest({"step": self.step.identity, "flags": flags_of(self.options), "shared": cap})

    def unit(self, configuration: Mapping[str, Value]) -> Unit:
        """The function with this step in a configuration, all others as the compiler chooses.

        Raises:
            CompileError: The configuration does not fit.
        """
        values = tuple((name, configuration[name]) for name in self.step.space.names)
        chosen = replace(self.options, tilings=((self.step.name, (Tiling(values),)),))
        return graph_unit(self.graph, self.constants, [chosen], self.config)


def function_steps(
    graph: Graph,
    constants: Mapping[str, np.ndarray[Any, Any]],
    options: ToolOptions,
    config: AOTConfig,
) -> list[FunctionStep]:
    """The steps of a traced function that have a shape to choose on a GPU target, each once.

    Args:
        graph: The function.
        constants: Its weights.
        options: The target.
        config: Switches of the graph compiler, and the most shared memory of a block.

    Raises:
        CompileError: An operator cannot be lowered.
    """
    plain = replace(
        config,
        targets=(options.target,),
        enable_autotuning=False,
        autotune_cache=None,
        autotune_lock=None,
        generate_ptx=True,
        generate_cubin=True,
    )
    options = replace(options, tilings=())
    steps = tunable_steps(
        graph,
        enable_graph_optimization=config.enable_graph_optimization,
        enable_kernel_fusion=config.enable_kernel_fusion,
        units=units_of(options, config.max_shared_memory_per_block),
    )
    return [FunctionStep(graph.name, graph, constants, step, options, plain) for step in steps]
