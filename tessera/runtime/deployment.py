"""A package that can be run."""

from __future__ import annotations

from tessera.package.package import Package
from tessera.runtime.profile import Recorder
from tessera.runtime.runtime import Runtime


class DeploymentPackage(Package):
    """Programs with their kernels and weights, from a `.tsd`, `.tsp` or `.tsc` file or folder."""

    def create_runtime(
        self,
        device: str = "cuda:0",
        memory_pool_size: int | str | None = "4GB",
        enable_profiling: bool | Recorder = False,
        strict_device: bool = False,
        step_budget: int | None = None,
    ) -> Runtime:
        """A runtime with every program of the package loaded.

        Args:
            device: `cuda:0`, `cpu`, `reference` or `emulator`.
            memory_pool_size: Most working memory to hold, such as `"4GB"`; None for no limit.
            enable_profiling: Measure every step, see `Runtime.profile`; a `Timeline` keeps every call.
            strict_device: A device that is not there is an error, instead of the CPU taking
                its place. So does `TESSERA_STRICT_DEVICE=1`.
            step_budget: Jumps backwards that a block of threads may make on the emulator before its
                kernel counts as endless (basic blocks, where LLVM is missing); None: 2^30. Other devices
                do not count them.

        Raises:
            DeviceError: No device can run these programs, or with `strict_device` not this one.
            ConfigError: `memory_pool_size` is not a size.
            PackageError: Code or a weight is missing or damaged.

        Warns:
            DeviceFallbackWarning: It runs on another device than `device`.
        """
        return Runtime(
            self,
            device,
            memory_pool_size=memory_pool_size,
            enable_profiling=enable_profiling,
            strict_device=strict_device,
            step_budget=step_budget,
        )
