"""A model becomes a deployment package in one call."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tessera.compiler.build import Progress
    from tessera.compiler.cache import CompileCache
    from tessera.compiler.options import AOTConfig
    from tessera.language.jit import JitFunction
    from tessera.language.module import Module
    from tessera.program.artifact import Artifact
    from tessera.runtime.deployment import DeploymentPackage


class ModelExporter:
    """Compiles a model with its weights into a `.tsd` file.

    Args:
        model: A `ts.Module`, or a `@ts.jit` function.
        example_inputs: One tensor or array, or a sequence of them. Shapes and dtypes count, and
            the values for the error figures of `quantization`. Axis 0 is the batch: the package
            takes any size there, unless the model needs this one.
        target_architectures: Names such as `sm_80` and `cpu`; by default V100, A100, H100 and this CPU.
        optimization_level: 0 to 3.
        enable_fast_math: Approximate division and square root, flushed denormals, reassociation.
        config: All settings, instead of the three before.
        cache: Where finished kernels are kept.

    Raises:
        ArchitectureError: A target is unknown; the hint names the nearest.
        OptionError: An option is out of range, or said twice.
    """

    def __init__(
        self,
        model: JitFunction | Module,
        example_inputs: Any,
        target_architectures: Iterable[str] | None = None,
        optimization_level: int = 3,
        enable_fast_math: bool = False,
        *,
        config: AOTConfig | None = None,
        cache: CompileCache | None = None,
    ) -> None:
        # The compiler is optional where packages only run.
        from tessera.compiler.aot import AOTCompiler

        self.model = model
        self.example_inputs = example_inputs
        self._compiler = AOTCompiler(
            config,
            target_architectures=target_architectures,
            optimization_level=optimization_level,
            enable_fast_math=enable_fast_math,
            cache=cache,
        )
        self.artifact: Artifact | None = None
        """What the last `export` compiled, with its notes."""

    def export(
        self,
        output_path: str | Path,
        include_weights: bool = True,
        quantization: str | None = None,
        *,
        progress: Progress | None = None,
    ) -> DeploymentPackage:
        """Compile the model, write the package, whole or not at all, and return it.

        Args:
            output_path: File to write, `.tsd`.
            include_weights: Whether the weights go in; without them the package cannot run by itself.
            quantization: `int8` stores the weights of matrix products in 8 bits.
            progress: Called as `progress(done, total, label)` after each kernel and target.

        Raises:
            TraceError: The model cannot become a graph.
            CompileError: The model is none, a kernel does not compile, or the quantization is unknown.
            PackageError: The file cannot be written.
        """
        from tessera.compiler.export import export_artifact
        from tessera.runtime.deployment import DeploymentPackage

        path = Path(output_path)
        self.artifact = export_artifact(
            self.model,
            self.example_inputs,
            self._compiler.config,
            self._compiler.cache,
            quantization=quantization,
            progress=progress,
        )
        package = DeploymentPackage.from_artifact(
            self.artifact,
            name=path.stem,
            config={"model_type": type(self.model).__name__, "quantization": quantization},
            include_weights=include_weights,
            kind="tsd",
        )
        package.save(path)
        return DeploymentPackage.load(path)
