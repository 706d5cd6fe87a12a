"""A package's kernels on memory of a GPU, and how long work takes there."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Work = Callable[[], Any]


class Launches:
    """A program's launches, in order, on one stream."""

    def __init__(self, start: Callable[[Any], list[Work]], stream: Any, kept: tuple[Any, ...]) -> None:
        self._start = start
        self._launches = start(stream)
        # CuPy would give their memory to the next array.
        self._kept = kept

    def __call__(self) -> None:
        """Start them."""
        for launch in self._launches:
            launch()

    def on(self, stream: Any) -> Launches:
        """The same on another stream."""
        return Launches(self._start, stream, self._kept)


def prepared(
    cupy: Any, file: Path, inputs: Sequence[Any], out: Any = None
) -> tuple[Launches, Any, list[str]]:
    """What launches a package's kernels as the runtime does, its output, and the kernels' names.

    Args:
        cupy: CuPy.
        file: A package with one program and a cubin for this GPU.
        inputs: Arrays on the GPU, in the program's order; of types that CuPy lacks, their bits.
        out: Where the result goes; None: new memory.
    """
    from tessera.package import Package
    from tessera.program.bind import bind_symbols
    from tessera.program.dim import evaluate
    from tessera.runtime.cells import ArgumentCells
    from tessera.runtime.cuda_driver import CupyDriver
    from tessera.runtime.schedule import make_schedule

    package = Package.load(file)
    (program,) = package.programs.values()
    (plan,), (port,) = program.plans, program.outputs
    shapes = {p.name: tuple(x.shape) for p, x in zip(program.inputs, inputs, strict=True)}
    symbols = bind_symbols(program, shapes)
    schedule = make_schedule(program, plan, symbols)
    if out is None:
        bits = port.dtype.numpy if port.dtype.numpy.isbuiltin == 1 else f"u{port.dtype.itemsize}"
        out = cupy.empty([evaluate(d, symbols) for d in port.shape], bits)
    arena = cupy.empty(max(schedule.arena_bytes, 1), cupy.uint8)
    driver = CupyDriver(0)
    bases = [*(("input", name) for name in shapes), ("output", port.name), ("arena", "")]
    cells = ArgumentCells(schedule, bases, lambda _: 0, {}, driver.encode_map)
    cells.bind([x.data.ptr for x in (*inputs, out, arena)], ())
    functions = []
    for call in schedule.calls:
        binary = package.binary(program.name, call.kernel, plan.targets[0], "cubin")
        assert binary is not None
        functions.append(driver.load(bytes(binary.data), call.kernel))

    def start(stream: Any) -> list[Work]:
        return [
            driver.launcher(function, call, cells.address(index), stream)
            for index, (call, function) in enumerate(zip(schedule.calls, functions, strict=True))
        ]

    kept = (arena, cells, out, *inputs)
    return Launches(start, cupy.cuda.Stream.null, kept), out, [call.kernel for call in schedule.calls]


def medians_us(cupy: Any, works: Mapping[str, Sequence[Work]], rounds: int = 15) -> dict[str, float]:
    """Microseconds of one call, by name: medians of rounds in turns.

    Args:
        cupy: CuPy.
        works: By name the same work on several sets of memory, which are taken one after the other, so
            that no cache holds what a call reads. All of a round is queued before its clock is waited for.
        rounds: That count; one more comes before.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, sets in works.items():
            start, stop = cupy.cuda.Event(), cupy.cuda.Event()
            for work in sets:
                work()
            start.record()
            for _ in range(2):
                for work in sets:
                    work()
            stop.record()
            stop.synchronize()
            if number:
                milliseconds = float(cupy.cuda.get_elapsed_time(start, stop))
                times[name].append(milliseconds * 1e3 / (2 * len(sets)))
    return {name: statistics.median(found) for name, found in times.items()}
