"""NVIDIA GPUs as devices: cubins, or PTX where no cubin fits, out of a package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.program.arch import best_match, is_cpu, parse_arch
from tessera.program.artifact import BinaryFormat
from tessera.program.dim import format_shape
from tessera.program.errors import DeviceError
from tessera.program.program import Plan, Program
from tessera.program.tensor_map import TensorMap
from tessera.runtime.cells import ArgumentCells
from tessera.runtime.cuda_driver import Call, Driver, Function, Stream, open_driver
from tessera.runtime.cuda_timeline import Watch
from tessera.runtime.executable import Array, Executable, Frame, kernels_of, load_constant, pointer_of
from tessera.runtime.launches import launched, ranges, surrounded, within
from tessera.runtime.memory import ALIGNMENT, Block, MemoryPool
from tessera.runtime.nvtx import enable_as_asked
from tessera.runtime.profile import Recorder
from tessera.runtime.repeats import Repeats
from tessera.runtime.schedule import Address, GemmCall, Schedule, make_setup
from tessera.runtime.source import ProgramSource
from tessera.runtime.timeline import Timeline
from tessera.runtime.workspace import Lender, Workspace


def open_device(index: int, memory_limit_bytes: int | None) -> CudaDevice:
    """GPU number `index`.

    Raises:
        DeviceError: There is no driver, or no such GPU.
        MissingDependencyError: CuPy is not installed.
    """
    enable_as_asked()
    return CudaDevice(open_driver(index), f"cuda:{index}", memory_limit_bytes)


class CudaDevice:
    """One GPU and its memory."""

    def __init__(self, driver: Driver, name: str, memory_limit_bytes: int | None = None) -> None:
        self.name = name
        self._driver = driver
        self._pool = MemoryPool(name, driver.allocate, memory_limit_bytes)
        self._weights: dict[str, Block[Any]] = {}
        self._own_bytes = 0

    @property
    def description(self) -> str:
        """`NVIDIA H200, compute capability 9.0`."""
        return f"{self._driver.name}, compute capability {format_cc(self._driver.cc)}"

    def load(self, program: Program, source: ProgramSource) -> CudaExecutable:
        """The program with its kernels loaded, its weights uploaded and its setup done.

        Raises:
            DeviceError: It has no code for this GPU.
            OutOfMemoryError: Its weights do not fit.
        """
        plan, target, kind = choose_code(program, source, self._driver.cc)
        driver = self._driver
        with driver.current():
            functions = {
                name: self._function(program, name, target, kind, source) for name in kernels_of(plan)
            }
            for constant in program.constants:
                self._upload_weight(constant.name, load_constant(constant, source))
            persistent = driver.allocate(plan.persistent_bytes) if plan.persistent_bytes else None
            self._own_bytes += plan.persistent_bytes
            code = GpuCode(self.name, f"{target} {kind}", functions, self._weights, persistent)
            return CudaExecutable(program, plan, driver, self._pool, code)

    def memory_usage(self) -> dict[str, int]:
        """Bytes: working memory, weights, and what the whole device has free."""
        free, total = self._driver.free_and_total_bytes()
        weights = self._own_bytes + sum(block.bytes for block in self._weights.values())
        return {
            **self._pool.usage(),
            "weights_bytes": weights,
            "device_free_bytes": free,
            "device_total_bytes": total,
        }

    def close(self) -> None:
        """Give weights and working memory back to the GPU."""
        with self._driver.current():
            self._weights.clear()
            self._pool.trim()

    def _function(
        self, program: Program, kernel: str, target: str, kind: BinaryFormat, source: ProgramSource
    ) -> Function:
        binary = source.binary(program.name, kernel, target, kind)
        if binary is None:
            raise DeviceError(
                f"program {program.name!r}: its plan for {target} launches {kernel!r}, "
                f"but there is no {kind} of that name",
                hint="compile the program again",
            )
        return self._driver.load(binary.data, kernel)

    def _upload_weight(self, name: str, value: Array) -> None:
        """Put a weight on the GPU, once however many programs read it."""
        if name in self._weights:
            return
        block = self._driver.allocate(max(value.nbytes, 1))
        if value.nbytes:
            stream = self._driver.stream()
            self._driver.upload(block.pointer, pointer_of(value), value.nbytes, stream)
            # The host array may be a mapped file that goes when the caller lets go of it.
            self._driver.synchronize(stream)
        self._weights[name] = block


def choose_code(
    program: Program, source: ProgramSource, cc: tuple[int, int]
) -> tuple[Plan, str, BinaryFormat]:
    """The plan to run on a GPU of compute capability `cc`, its target, and `cubin` or `ptx`.

    A cubin for the GPU comes first; PTX of the nearest earlier architecture, which the
    driver compiles when it is loaded, comes second.

    Raises:
        DeviceError: There is neither.
    """
    for target, kind in _candidates([t for t in program.targets if not is_cpu(t)], cc):
        plan = program.plan_for(target)
        # Asked in this order, so that no code is read that is not used.
        if plan is not None and _has(program, plan, source, target, kind):
            return plan, target, kind
    sm = f"sm_{cc[0]}{cc[1]}"
    raise DeviceError(
        f"program {program.name!r} has no code for compute capability {format_cc(cc)}; "
        f"it has code for: {', '.join(program.targets) or 'no target'}",
        hint=f"compile it with --arch {sm}",
        architecture=sm,
    )


def _candidates(targets: Sequence[str], cc: tuple[int, int]) -> Iterator[tuple[str, BinaryFormat]]:
    """What may run on a GPU of compute capability `cc`, best first."""
    left = set(targets)
    while (found := best_match(left, cc)) is not None:
        left.discard(found)
        yield found, "cubin"
    # PTX runs on every later GPU, unless it is for one architecture (a) or family (f).
    fit = [a for a in map(parse_arch, targets) if (a.runs_on(cc) if a.suffix else a.cc <= cc)]
    for arch in sorted(fit, reverse=True):
        yield arch.name, "ptx"


def _has(program: Program, plan: Plan, source: ProgramSource, target: str, kind: BinaryFormat) -> bool:
    return all(source.binary(program.name, kernel, target, kind) is not None for kernel in kernels_of(plan))


class CudaFrame(Frame):
    """Prepared launches on one stream, and where things lie in the block of a call."""

    def __init__(self, schedule: Schedule, cells: ArgumentCells, stream: Stream) -> None:
        super().__init__(schedule, cells)
        self.stream = stream
        self.launches: list[tuple[str, Call]] = []
        """Kernel and body of each launch, in order."""
        self.kernels = [call.kernel for call in schedule.calls if not isinstance(call, GemmCall)]
        """Kernels of the launches."""


@dataclass(frozen=True, slots=True)
class GpuCode:
    """What a plan needs on the GPU."""

    device: str
    """`cuda:0`."""
    target: str
    """`sm_90 cubin`."""
    functions: Mapping[str, Function]
    """Kernels by name."""
    weights: Mapping[str, Block[Any]]
    """Constants by name."""
    persistent: Block[Any] | None
    """What setup writes."""


class CudaExecutable(Executable[CudaFrame]):
    """A GPU plan with its kernels. A call has one block of memory: inputs, outputs, arena."""

    def __init__(
        self, program: Program, plan: Plan, driver: Driver, pool: MemoryPool[Any], code: GpuCode
    ) -> None:
        super().__init__(program, plan)
        self.target = code.target
        self._driver = driver
        self._pool = pool
        self._code = code
        setup = self._frame(make_setup(program, plan))
        setup.cells.bind([0] * len(self._bases), ())
        self._launch(setup, None)
        driver.synchronize(setup.stream)

    def run(
        self, inputs: Sequence[Array], recorder: Recorder | None, workspace: Workspace | None = None
    ) -> list[Array]:
        """Outputs in order; see `LoadedProgram.run`."""
        around = ranges()
        if around is None:
            return super().run(inputs, recorder, workspace)
        with within(around, "execution", self.program.name):
            return super().run(inputs, recorder, workspace)

    def _execute(
        self,
        frame: CudaFrame,
        inputs: Sequence[Array],
        recorder: Recorder | None,
        workspace: Workspace | None,
    ) -> list[Array]:
        tensors = [inputs[i] for i in self._tensors]
        outputs = [np.empty(o.shape, o.dtype) for o in frame.schedule.outputs]
        offsets, size = _layout([a.nbytes for a in (*tensors, *outputs)], frame.schedule.arena_bytes)
        pool: Lender[Any] = self._pool if workspace is None else workspace.within(self._pool)
        watch = self._watch(frame, recorder, tensors) if isinstance(recorder, Timeline) else None
        mover: Watch | Driver = watch or self._driver
        with self._driver.current():
            block = watch.acquire(pool, size) if watch else pool.acquire(size)
            try:
                addresses = [block.pointer + offset for offset in offsets]
                if watch:
                    watch.begin()
                self._upload(frame, tensors, addresses, mover)
                frame.cells.bind(addresses, inputs)
                self._launch(frame, recorder, watch)
                self._download(frame, outputs, addresses[len(tensors) :], mover)
                if watch:
                    watch.wait()
                    watch.finish(self.program.name)
            finally:
                # Also after a failure: nobody may get the block while work on it is under way.
                try:
                    self._driver.synchronize(frame.stream)
                finally:
                    pool.release(block)
        return outputs

    def _watch(self, frame: CudaFrame, timeline: Timeline, tensors: Sequence[Array]) -> Watch:
        named = [self.program.inputs[i].name for i in self._tensors]
        outputs = frame.schedule.outputs
        return Watch(
            self._driver,
            frame.stream,
            timeline,
            uploads=[n for n, value in zip(named, tensors, strict=True) if value.nbytes],
            copies=[o.name for o in outputs if o.initial is not None and 0 not in o.shape],
            downloads=[o.name for o in outputs if 0 not in o.shape],
        )

    def _upload(
        self, frame: CudaFrame, tensors: Sequence[Array], addresses: Sequence[int], mover: Watch | Driver
    ) -> None:
        for value, address in zip(tensors, addresses, strict=False):
            if value.nbytes:
                mover.upload(address, pointer_of(value), value.nbytes, frame.stream)
        for index, output in enumerate(frame.schedule.outputs):
            if output.initial is not None:
                source = self._tensors.index(output.initial)
                size = tensors[source].nbytes
                if size:
                    target = addresses[len(tensors) + index]
                    mover.copy(target, addresses[source], size, frame.stream)

    def _download(
        self, frame: CudaFrame, outputs: Sequence[Array], addresses: Sequence[int], mover: Watch | Driver
    ) -> None:
        for value, address in zip(outputs, addresses, strict=False):
            if value.nbytes:
                mover.download(pointer_of(value), address, value.nbytes, frame.stream)

    def _launch(self, frame: CudaFrame, recorder: Recorder | None, watch: Watch | None = None) -> None:
        launched(self.program.name, frame.kernels, self._code.device)
        launches, around = frame.launches, ranges()
        if around is not None:
            launches = [(name, surrounded(around, name, launch)) for name, launch in launches]
        if watch is not None:
            for index, (name, launch) in enumerate(launches):
                watch.launch(index, name, launch)
            return
        if isinstance(recorder, Repeats):
            recorder.run(self._driver, frame.stream, [launch for _, launch in launches])
            return
        if recorder is None:
            for _, launch in launches:
                launch()
            return
        marks = [self._driver.mark(frame.stream)]
        for _, launch in launches:
            launch()
            marks.append(self._driver.mark(frame.stream))
        self._driver.synchronize(frame.stream)
        for index, (name, _) in enumerate(launches):
            elapsed = self._driver.elapsed_ns(marks[index], marks[index + 1])
            recorder.add_step(self.program.name, index, name, elapsed)

    def _frame(self, schedule: Schedule) -> CudaFrame:
        frame = CudaFrame(schedule, self._cells(schedule), self._driver.stream())
        for index, call in enumerate(schedule.calls):
            if isinstance(call, GemmCall):
                raise DeviceError(
                    f"program {self.program.name!r}: its plan for a GPU holds a product that only "
                    f"the CPU's BLAS does, {format_shape(call.c.shape)}",
                    hint="compile the program again",
                )
            function = self._code.functions[call.kernel]
            launch = self._driver.launcher(function, call, frame.cells.address(index), frame.stream)
            frame.launches.append((call.kernel, launch))
        return frame

    def _encode_map(self, tensor_map: TensorMap) -> bytes:
        return self._driver.encode_map(tensor_map)

    def _fixed_address(self, address: Address) -> int:
        if address.space == "null":
            return 0
        if address.space == "persistent" and self._code.persistent is not None:
            return self._code.persistent.pointer + address.offset_bytes
        return self._code.weights[address.name].pointer + address.offset_bytes


def _layout(sizes: Sequence[int], arena_bytes: int) -> tuple[list[int], int]:
    """Offset of each tensor and of the arena behind them, and the size of the whole block."""
    offsets, position = [], 0
    for size in sizes:
        offsets.append(position)
        position += -(-size // ALIGNMENT) * ALIGNMENT
    return [*offsets, position], max(position + arena_bytes, ALIGNMENT)


def format_cc(cc: tuple[int, int]) -> str:
    """`9.0`."""
    return f"{cc[0]}.{cc[1]}"
