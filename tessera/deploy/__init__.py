"""The public face of deployment: what one imports to compile, package, run and serve.

    from tessera.deploy import AOTCompiler, DeploymentPackage, ProductionServer

Names are found when they are first used: a production image without a compiler
imports what it has, and nobody pays for what they do not use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tessera.compiler.aot import AOTCompiler, BatchCompiler, CompiledKernel, CompiledPackage
    from tessera.compiler.options import AOTConfig, CompilationTarget, ToolOptions
    from tessera.compiler.stages import Stage, emit_stage, load_program, resume_stage
    from tessera.compiler.tuning.function_step import FunctionStep
    from tessera.compiler.tuning.record import Record
    from tessera.compiler.tuning.record_file import RecordFile
    from tessera.deploy.export import ModelExporter
    from tessera.language.kernel import Kernel
    from tessera.package.builder import PackageBuilder
    from tessera.profiler.debug_mode import DebugMode
    from tessera.profiler.diagnostics import Diagnostics
    from tessera.profiler.memory_optimizer import MemoryOptimizer
    from tessera.profiler.runtime_optimizer import RuntimeOptimizer
    from tessera.program.errors import OutOfMemoryError
    from tessera.runtime.deployment import DeploymentPackage
    from tessera.runtime.devices import DeviceFallbackWarning
    from tessera.runtime.model import Model, load_model
    from tessera.runtime.recovery import ErrorRecovery, clear_gpu_cache
    from tessera.runtime.runtime import Runtime, open_artifact
    from tessera.runtime.workspace import create_memory_pool
    from tessera.serve.balancing.breaker import CircuitBreaker
    from tessera.serve.balancing.load_balancer import LoadBalancer
    from tessera.serve.balancing.replica import ModelReplica
    from tessera.serve.balancing.settings import BalancerSettings
    from tessera.serve.dynamic_batcher import DynamicBatcher
    from tessera.serve.models.multi_model_server import MultiModelServer
    from tessera.serve.observe.collector import MetricsCollector
    from tessera.serve.observe.gpu_figures import GpuFigures
    from tessera.serve.observe.logging_config import LoggingConfig
    from tessera.serve.observe.tracing_config import TracingConfig
    from tessera.serve.server import ProductionServer

__all__ = [
    "AOTCompiler",
    "AOTConfig",
    "BalancerSettings",
    "BatchCompiler",
    "CircuitBreaker",
    "CompilationTarget",
    "CompiledKernel",
    "CompiledPackage",
    "DebugMode",
    "DeploymentPackage",
    "DeviceFallbackWarning",
    "Diagnostics",
    "DynamicBatcher",
    "ErrorRecovery",
    "LoadBalancer",
    "LoggingConfig",
    "MemoryOptimizer",
    "MetricsCollector",
    "Model",
    "ModelExporter",
    "ModelReplica",
    "MultiModelServer",
    "OutOfMemoryError",
    "PackageBuilder",
    "ProductionServer",
    "Runtime",
    "RuntimeOptimizer",
    "Stage",
    "TracingConfig",
    "clear_gpu_cache",
    "create_memory_pool",
    "emit_stage",
    "load_model",
    "load_program",
    "open_artifact",
    "resume_stage",
]

_HOMES = {
    "AOTCompiler": "tessera.compiler.aot",
    "AOTConfig": "tessera.compiler.options",
    "BalancerSettings": "tessera.serve",
    "BatchCompiler": "tessera.compiler.aot",
    "CircuitBreaker": "tessera.serve",
    "CompilationTarget": "tessera.compiler.options",
    "CompiledKernel": "tessera.compiler.aot",
    "CompiledPackage": "tessera.compiler.aot",
    "DebugMode": "tessera.profiler.debug_mode",
    "DeploymentPackage": "tessera.runtime.deployment",
    "DeviceFallbackWarning": "tessera.runtime.devices",
    "Diagnostics": "tessera.profiler",
    "DynamicBatcher": "tessera.serve.dynamic_batcher",
    "ErrorRecovery": "tessera.runtime.recovery",
    "LoadBalancer": "tessera.serve",
    "LoggingConfig": "tessera.serve.observe.logging_config",
    "MemoryOptimizer": "tessera.profiler.memory_optimizer",
    "MetricsCollector": "tessera.serve.observe.collector",
    "Model": "tessera.runtime.model",
    "ModelExporter": "tessera.deploy.export",
    "ModelReplica": "tessera.serve",
    "MultiModelServer": "tessera.serve",
    "OutOfMemoryError": "tessera.program.errors",
    "PackageBuilder": "tessera.package.builder",
    # Rooms with an extra of their own say which one, if a package of it is missing.
    "ProductionServer": "tessera.serve",
    "Runtime": "tessera.runtime.runtime",
    "RuntimeOptimizer": "tessera.profiler.runtime_optimizer",
    "Stage": "tessera.compiler.stages",
    "TracingConfig": "tessera.serve.observe.tracing_config",
    "clear_gpu_cache": "tessera.runtime.recovery",
    "create_memory_pool": "tessera.runtime.workspace",
    "emit_stage": "tessera.compiler.stages",
    "load_model": "tessera.runtime.model",
    "load_program": "tessera.compiler.stages",
    "open_artifact": "tessera.runtime.runtime",
    "resume_stage": "tessera.compiler.stages",
}


def _tune(kernel: Kernel | FunctionStep, options: ToolOptions, records: RecordFile | None) -> list[Record]:
    from tessera.profiler.tuning.sweep import tune_for_compiler

    return tune_for_compiler(kernel, options, records)


_SERVERS = frozenset({"MultiModelServer", "ProductionServer"})
"""What answers `/metrics`. The room that reads GPUs stands beside theirs: they are handed the way there."""


def _open_gpus() -> Callable[[], Sequence[GpuFigures]] | None:
    from tessera.deploy.gpu_metrics import open_gpus

    return open_gpus()


def __getattr__(name: str) -> object:
    if name in ("AOTCompiler", "BatchCompiler"):
        # The compiler stands below the room that predicts costs: it is handed the way there.
        import_module("tessera.compiler.tuning.tuner").set_tuner(_tune)
    if name in _SERVERS:
        import_module("tessera.serve.observe.gpu_figures").set_gpu_opener(_open_gpus)
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
