"""The emulator as a device: the GPU code of a package, run on the CPU from its PTX."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tessera.program.arch import is_cpu, parse_arch
from tessera.program.bind import bind_symbols
from tessera.program.bytesize import format_bytes
from tessera.program.dim import evaluate, format_shape
from tessera.program.errors import CompileError, DeviceError, OutOfMemoryError
from tessera.program.lifetimes import lay_apart
from tessera.program.program import Buffer, Plan, Program
from tessera.program.tensor_map import TensorMap
from tessera.runtime.emulator_engine import CheckedEngine, CompiledEngine, Engine, has_llvm
from tessera.runtime.executable import Array, Executable, Frame, kernels_of, load_constant
from tessera.runtime.launches import launched
from tessera.runtime.memory import ALIGNMENT
from tessera.runtime.profile import Recorder
from tessera.runtime.schedule import Address, GemmCall, LaunchCall, Schedule, make_setup
from tessera.runtime.source import ProgramSource
from tessera.runtime.workspace import Workspace, no_workspace

if TYPE_CHECKING:
    from tessera.emulator.sanitizer import Sanitizer

CHECK_HINT = "tessera check FILE names the array and the line of the source"


def open_device(index: int, memory_limit_bytes: int | None) -> EmulatorDevice:
    """A GPU in software."""
    del index
    return EmulatorDevice(memory_limit_bytes)


class EmulatorDevice:
    """Runs PTX on the CPU.

    Args:
        memory_limit_bytes: Most working memory of one execution; None for no limit.
        sanitizer: Watches every access. Buffers then lie apart, and outputs and buffers begin
            uninitialized.
        engine: What runs the code, instead of the device's own choice.
    """

    name = "emulator"
    description = "GPU emulated on the CPU, from PTX"

    def __init__(
        self,
        memory_limit_bytes: int | None = None,
        *,
        sanitizer: Sanitizer | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.sanitizer = sanitizer
        self.step_budget: int | None = None
        """What a block of threads may do before its kernel counts as endless; None: 2^30 jumps backwards."""
        self._given = engine
        self.limit = memory_limit_bytes
        self.lock = threading.Lock()
        """Held by the one execution that is under way: they share the device's memory."""
        self._engines: dict[str, Engine] = {}
        self.weights_bytes = 0
        self.in_use_bytes = 0
        self.peak_bytes = 0

    def load(self, program: Program, source: ProgramSource) -> EmulatedProgram:
        """The program with its PTX parsed, its weights in memory and its setup done.

        Raises:
            DeviceError: It has no PTX.
        """
        found = best_code(program, source)
        if found is None:
            raise DeviceError(
                f"program {program.name!r} has no PTX to emulate; "
                f"it has code for: {', '.join(program.targets) or 'no target'}",
                hint="compile it for a GPU too: tessera compile FILE --arch sm_80",
            )
        target, texts = found
        plan = program.plan_for(target)
        assert plan is not None  # noqa: S101 - best_code looked at it
        constants = {c.name: load_constant(c, source) for c in program.constants}
        with self.lock:
            engine = self._engine_for(texts.values())
            return EmulatedProgram(program, plan, self, engine, Code(target, texts), constants)

    def _engine_for(self, texts: Iterable[str]) -> Engine:
        """LLVM where it knows all of the code; else the interpreter."""
        if self._given is not None:
            return self._given
        if self.sanitizer is not None and has_llvm():
            # It has the interpreter run what it does not know.
            if "checked" not in self._engines:
                self._engines["checked"] = CheckedEngine(self.sanitizer)
            return self._engines["checked"]
        if self.sanitizer is None and has_llvm():
            if "compiled" not in self._engines:
                self._engines["compiled"] = CompiledEngine(step_budget=self.step_budget)
            try:
                for text in texts:
                    self._engines["compiled"].load(text)
            except CompileError:
                pass
            else:
                return self._engines["compiled"]
        if "interpreter" not in self._engines:
            from tessera.emulator.interpreter import Interpreter

            self._engines["interpreter"] = Interpreter(self.sanitizer, step_budget=self.step_budget)
        return self._engines["interpreter"]

    @property
    def engines(self) -> tuple[str, ...]:
        """The implementations in use: `compiled` (LLVM), `checked` (the same with checks), `interpreter`."""
        return tuple(self._engines)

    def reserve(self, size: int) -> None:
        """Count the working memory of an execution.

        Raises:
            OutOfMemoryError: It is over the limit.
        """
        if self.limit is not None and size > self.limit:
            raise OutOfMemoryError(
                f"emulator: {format_bytes(size)} of working memory are needed, "
                f"the limit is {format_bytes(self.limit)}",
                hint="raise memory_pool_size, or use smaller batches",
                required=size,
                available=self.limit,
            )
        self.in_use_bytes = size
        self.peak_bytes = max(self.peak_bytes, size)

    def memory_usage(self) -> dict[str, int]:
        """Bytes of working memory and weights."""
        usage = {
            "in_use_bytes": self.in_use_bytes,
            "reserved_bytes": self.in_use_bytes,
            "peak_bytes": self.peak_bytes,
            "weights_bytes": self.weights_bytes,
        }
        return usage if self.limit is None else {**usage, "limit_bytes": self.limit}

    def close(self) -> None:
        """Drop the device's memory."""
        self._engines = {}


@dataclass(frozen=True, slots=True)
class Code:
    """The PTX of a plan."""

    target: str
    """`sm_90`."""
    texts: Mapping[str, str]
    """PTX by kernel."""


def best_code(program: Program, source: ProgramSource) -> tuple[str, dict[str, str]] | None:
    """The newest architecture for which there is PTX of every kernel, and that PTX by kernel.

    Architecture-specific code (`sm_90a`) comes after what runs anywhere.
    """
    targets = [t for t in program.targets if not is_cpu(t)]
    for target in sorted(targets, key=lambda t: (t[-1].isdigit(), parse_arch(t).cc), reverse=True):
        plan = program.plan_for(target)
        texts: dict[str, str] = {}
        for kernel in kernels_of(plan) if plan else ():
            binary = source.binary(program.name, kernel, target, "ptx")
            if binary is None:
                break
            texts[kernel] = binary.data.decode().rstrip("\0")
        else:
            return target, texts
    return None


class EmulatedProgram(Executable[Frame]):
    """A GPU plan with its modules. One execution runs at a time."""

    def __init__(
        self,
        program: Program,
        plan: Plan,
        device: EmulatorDevice,
        engine: Engine,
        code: Code,
        constants: Mapping[str, Array],
    ) -> None:
        super().__init__(program, lay_apart(plan, device.sanitizer.gap) if device.sanitizer else plan)
        self.target = f"{code.target} ptx"
        self._device = device
        self._engine = engine
        modules = {text: self._engine.load(text) for text in dict.fromkeys(code.texts.values())}
        self._modules = {kernel: modules[text] for kernel, text in code.texts.items()}
        self._sizes_of = {
            kernel: [_bytes_of(v) for v in module.module.functions[kernel].params]
            for kernel, module in self._modules.items()
        }
        self._weights = {name: self._place(name, value) for name, value in constants.items()}
        self._persistent = self._engine.alloc(max(self._plan.persistent_bytes, 1))
        self._carve(self._persistent, self._plan.persistent, {})
        device.weights_bytes += plan.persistent_bytes + sum(c.nbytes for c in constants.values())
        setup = self._frame(make_setup(program, self._plan))
        setup.cells.bind([0] * len(self._bases), ())
        self._launch_all(setup, None)

    def _execute(
        self, frame: Frame, inputs: Sequence[Array], recorder: Recorder | None, workspace: Workspace | None
    ) -> list[Array]:
        if workspace is not None:
            raise no_workspace(self._device.name)
        tensors = {self.program.inputs[i].name: inputs[i] for i in self._tensors}
        sizes = [a.nbytes for a in tensors.values()]
        sizes += [int(np.prod(o.shape)) * o.dtype.itemsize for o in frame.schedule.outputs]
        with self._device.lock:
            self._device.reserve(
                sum(-(-s // ALIGNMENT) * ALIGNMENT for s in sizes) + frame.schedule.arena_bytes
            )
            placed: list[int] = []
            try:
                for name, value in tensors.items():
                    placed.append(self._place(name, value))
                self._place_outputs(frame, inputs, placed)
                arena = self._engine.alloc(max(frame.schedule.arena_bytes, 1))
                placed.append(arena)
                self._carve(arena, self._plan.buffers, self._symbols(tensors, inputs))
                frame.cells.bind(placed, inputs)
                self._launch_all(frame, recorder)
                return [
                    self._engine.read(address, size).view(o.dtype).reshape(o.shape)
                    for address, size, o in zip(
                        placed[len(tensors) : -1], sizes[len(tensors) :], frame.schedule.outputs, strict=True
                    )
                ]
            finally:
                self._engine.release(placed)
                self._device.in_use_bytes = 0

    def _symbols(self, tensors: Mapping[str, Array], inputs: Sequence[Array]) -> dict[str, int]:
        scalars = {name: int(inputs[i][()]) for name, i in self._sizes.items()}
        return bind_symbols(self.program, {n: a.shape for n, a in tensors.items()}, scalars)

    def _place(self, name: str, value: Array) -> int:
        """Address of a copy of an array."""
        address = self._engine.alloc(value.nbytes)
        self._describe(address, name, value.dtype, value.shape)
        self._engine.write(address, value)
        return address

    def _place_outputs(self, frame: Frame, inputs: Sequence[Array], placed: list[int]) -> None:
        for output in frame.schedule.outputs:
            if output.initial is not None:
                placed.append(self._place(output.name, inputs[output.initial]))
                continue
            size = int(np.prod(output.shape)) * output.dtype.itemsize
            placed.append(self._engine.alloc(size))
            self._describe(placed[-1], output.name, output.dtype, output.shape)

    def _describe(self, address: int, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._engine.describe(address, name, dtype, shape)

    def _carve(self, address: int, buffers: Sequence[Buffer], symbols: Mapping[str, int]) -> None:
        if self._device.sanitizer:
            parts = [
                (evaluate(b.offset_bytes, symbols), evaluate(b.bytes, symbols), f"buffer {b.name}")
                for b in buffers
            ]
            self._device.sanitizer.carve(address, parts)

    def _launch_all(self, frame: Frame, recorder: Recorder | None) -> None:
        launches = -1
        for index, call in enumerate(frame.schedule.calls):
            if isinstance(call, GemmCall):
                raise DeviceError(
                    f"program {self.program.name!r}: its plan for a GPU holds a product that only "
                    f"the CPU's BLAS does, {format_shape(call.c.shape)}",
                    hint="compile the program again",
                )
            launches += 1
            launched(self.program.name, (call.kernel,), "emulator")
            start = time.perf_counter_ns()
            self._launch(call, frame.cells.address(launches))
            if recorder is not None:
                elapsed = time.perf_counter_ns() - start
                recorder.add_step(self.program.name, index, call.kernel, elapsed)

    def _launch(self, call: LaunchCall, cells: int) -> None:
        call.check_grid()
        sizes = self._sizes_of[call.kernel]
        if len(sizes) != len(call.args):
            raise DeviceError(
                f"kernel {call.kernel!r} takes {len(sizes)} parameters, its plan gives {len(call.args)}",
                hint="compile the program again",
            )
        pointers = (ctypes.c_uint64 * max(len(sizes), 1)).from_address(cells) if sizes else ()
        params = [ctypes.string_at(p, size) for p, size in zip(pointers, sizes, strict=False)]
        module = self._modules[call.kernel]
        try:
            self._engine.launch_params(module, call.kernel, call.grid, call.block, params, call.shared_bytes)
        except DeviceError as error:
            error.hint = error.hint or CHECK_HINT
            raise
        finally:
            text = self._engine.take_printed(module)
            if text:
                print(text, end="", flush=True)

    def _frame(self, schedule: Schedule) -> Frame:
        return Frame(schedule, self._cells(schedule))

    def _encode_map(self, tensor_map: TensorMap) -> bytes:
        from tessera.emulator.tensor_maps import encode_tensor_map

        return encode_tensor_map(tensor_map)

    def _fixed_address(self, address: Address) -> int:
        if address.space == "null":
            return 0
        start = self._persistent if address.space == "persistent" else self._weights[address.name]
        return start + address.offset_bytes


def _bytes_of(variable: Any) -> int:
    from tessera.emulator.ptx import TYPE_BYTES

    size: int = TYPE_BYTES[variable.type] * variable.count
    return size
