"""A module of the emulated device, run by the NumPy interpreter."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence

from tessera.emulator.arena import Arena
from tessera.emulator.lockstep import BlockRun, Geometry
from tessera.emulator.machine import Machine, size_of
from tessera.emulator.ptx import Function, Module
from tessera.program.errors import CompileError, DeviceError


class LockstepModule(Machine):
    """A module loaded for the NumPy interpreter; its blocks can wait for each other."""

    def __init__(self, module: Module, memory: Arena) -> None:
        super().__init__(module, memory)
        self._baton = threading.Lock()
        """Held by the one block that runs."""
        self._barrier: threading.Barrier | None = None
        self._arrived: dict[int, int] = {}

    def run_kernel(
        self,
        entry: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        params: Sequence[bytes],
        shared_bytes: int,
    ) -> None:
        """Run a kernel to its end.

        Raises:
            CompileError: PTX that the interpreter does not know.
            DeviceError: An access outside memory, a deadlock, or a kernel that does not end.
        """
        function = self.entry(entry)
        values = bound_params(function, params)
        indices = itertools.product(range(grid[2]), range(grid[1]), range(grid[0]))
        runs = (
            BlockRun(self, function, values, Geometry(grid, block, (x, y, z)), shared_bytes)
            for z, y, x in indices
        )
        if "cudaCGSynchronize" in self.module.functions:
            self._run_together(list(runs))
            return
        for run in runs:
            run.run()

    def entry(self, name: str) -> Function:
        """A kernel by name.

        Raises:
            CompileError: There is none.
        """
        function = self.module.functions.get(name)
        if function is None or not function.is_entry:
            raise CompileError(f"no kernel is called {name!r}", hint=", ".join(self.module.functions))
        return function

    def wait_for_grid(self, run: BlockRun, threads: int) -> None:
        """Let the other blocks run until all have come here.

        Raises:
            DeviceError: The launch was not cooperative.
        """
        if self._barrier is None:
            raise DeviceError(f"{run.function.name} waits for its grid, but its launch was not cooperative")
        arrived = self._arrived.pop(id(run), 0) + threads
        if arrived < run.threads:
            self._arrived[id(run)] = arrived
            return
        self._baton.release()
        try:
            self._barrier.wait()
        finally:
            self._baton.acquire()

    def _run_together(self, runs: Sequence[BlockRun]) -> None:
        """Run blocks that wait for each other: a thread each, one of them at a time."""
        barrier = self._barrier = threading.Barrier(len(runs))
        errors: list[BaseException] = []

        def work(run: BlockRun) -> None:
            with self._baton:
                try:
                    run.run()
                except threading.BrokenBarrierError:
                    pass
                except Exception as error:  # noqa: BLE001 - raised again by the thread that launched
                    errors.append(error)
                    barrier.abort()

        threads = [threading.Thread(target=work, args=(run,), daemon=True) for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._barrier = None
        if errors:
            raise errors[0]


def bound_params(function: Function, params: Sequence[bytes]) -> dict[str, bytes]:
    """Parameter bytes by name; a value wider than its parameter is cut, as a little-endian machine does.

    Raises:
        DeviceError: Too few, too many, or too short.
    """
    if len(params) != len(function.params):
        raise DeviceError(f"{function.name} takes {len(function.params)} parameters, {len(params)} given")
    values = {}
    for variable, raw in zip(function.params, params, strict=True):
        size = size_of(variable)
        if len(raw) < size:
            raise DeviceError(f"parameter {variable.name} has {size} bytes, the argument {len(raw)}")
        values[variable.name] = raw[:size]
    return values
