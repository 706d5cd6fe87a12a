"""Who runs a traced function or kernel when it is called with values.

This room knows them by name alone and imports them at the first call: running
needs a compiler and a runtime, which stand above it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from tessera.program.errors import MissingDependencyError
from tessera.program.spec import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from tessera.language.kernel import Kernel
    from tessera.language.tracing import Traced

    Array = np.ndarray[Any, np.dtype[Any]]


class Executor(Protocol):
    """Runs a traced function."""

    def __call__(
        self, traced: Traced, specs: Sequence[TensorSpec], inputs: dict[str, Array]
    ) -> Mapping[str, Array]:
        """The outputs by name. The same `traced` comes again for calls of the same kind."""


class KernelExecutor(Protocol):
    """Runs a kernel."""

    def __call__(self, kernel: Kernel, inputs: dict[str, Any]) -> Mapping[str, Array]:
        """The written arrays by name. Arrays come as NumPy arrays, scalars as Python numbers."""


class KernelLauncher(Protocol):
    """Launches a kernel with a grid and block of the caller's choice."""

    def __call__(
        self,
        kernel: Kernel,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        shared_bytes: int,
        args: Sequence[Any],
    ) -> None:
        """Arrays come as NumPy arrays and are written in place, scalars as NumPy scalars."""


_executors: dict[str, str | Callable[..., Any]] = {
    "function": "tessera.deploy.eager:run",
    "kernel": "tessera.deploy.eager:run_kernel",
    "launch": "tessera.deploy.eager:launch_kernel",
}


def set_executors(
    *,
    function: str | Executor | None = None,
    kernel: str | KernelExecutor | None = None,
    launch: str | KernelLauncher | None = None,
) -> None:
    """Put another executor in place: a callable, or its dotted name `module:attribute`."""
    if function is not None:
        _executors["function"] = function
    if kernel is not None:
        _executors["kernel"] = kernel
    if launch is not None:
        _executors["launch"] = launch


@contextmanager
def executors(
    *,
    function: str | Executor | None = None,
    kernel: str | KernelExecutor | None = None,
    launch: str | KernelLauncher | None = None,
) -> Iterator[None]:
    """Within, calls run through these executors."""
    before = dict(_executors)
    set_executors(function=function, kernel=kernel, launch=launch)
    try:
        yield
    finally:
        _executors.update(before)


def function_executor() -> Executor:
    """What runs traced functions."""
    executor: Executor = _resolved("function")
    return executor


def kernel_executor() -> KernelExecutor:
    """What runs kernels."""
    executor: KernelExecutor = _resolved("kernel")
    return executor


def kernel_launcher() -> KernelLauncher:
    """What launches kernels with a grid."""
    launcher: KernelLauncher = _resolved("launch")
    return launcher


def _resolved(kind: str) -> Any:
    found = _executors[kind]
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        try:
            found = getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name is None or not module.startswith(error.name):
                raise
            raise MissingDependencyError(
                f"running a {kind} needs {module}, which is not installed",
                hint="pip install 'tessera[compile]'",
            ) from None
        _executors[kind] = found
    return found
