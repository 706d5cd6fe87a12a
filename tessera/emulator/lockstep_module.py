"""A module of the emulated device, run by the NumPy interpreter."""

from __future__ import annotations

from collections.abc import Sequence

from tessera.emulator.geometry import Geometry, Point, cluster_size
from tessera.emulator.grid_run import GridRun
from tessera.emulator.lockstep import BlockRun
from tessera.emulator.machine import Machine, size_of
from tessera.emulator.ptx import Function
from tessera.program.errors import CompileError, DeviceError


class LockstepModule(Machine):
    """A module loaded for the NumPy interpreter."""

    def run_kernel(
        self,
        entry: str,
        grid: Point,
        block: Point,
        params: Sequence[bytes],
        shared_bytes: int,
        *,
        cluster: Point | None = None,
        resident: int = 1 << 30,
    ) -> None:
        """Run a kernel to its end.

        Args:
            entry: Its name.
            grid: Blocks by axis.
            block: Threads by axis.
            params: The bytes of each parameter.
            shared_bytes: Dynamic shared memory per block.
            cluster: Blocks of a cluster by axis; None: as the kernel says, or none.
            resident: Blocks that the device holds at once.

        Raises:
            CompileError: PTX that the interpreter does not know.
            DeviceError: An access outside memory, a deadlock, or a kernel that does not end.
            KernelError: A cluster that the kernel or the grid does not allow.
        """
        function = self.entry(entry)
        values = bound_params(function, params)

        def begin(where: Geometry) -> BlockRun:
            return BlockRun(self, function, values, where, shared_bytes)

        geometry = Geometry(grid, block, (0, 0, 0), *cluster_size(function, grid, cluster))
        GridRun(begin, geometry, resident=resident).run()

    def entry(self, name: str) -> Function:
        """A kernel by name.

        Raises:
            CompileError: There is none.
        """
        function = self.module.functions.get(name)
        if function is None or not function.is_entry:
            raise CompileError(f"no kernel is called {name!r}", hint=", ".join(self.module.functions))
        return function


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
