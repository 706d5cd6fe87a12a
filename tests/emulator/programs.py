"""Runs a compiled Program's GPU plan from its PTX, on the lockstep interpreter."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tessera.emulator.instructions import GLOBAL_BASE
from tessera.emulator.lockstep import BlockRun, Geometry, Machine
from tessera.emulator.parser import parse_ptx
from tessera.program.artifact import Artifact
from tessera.program.bind import bind_symbols
from tessera.program.dim import evaluate
from tessera.program.program import (
    Arg,
    Choice,
    Compare,
    Extent,
    Immediate,
    Launch,
    Plan,
    Pointer,
    Program,
    ScalarInput,
    Step,
)

Array = np.ndarray[Any, Any]
COMPARE = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    ">=": lambda a, b: a >= b,
    ">": lambda a, b: a > b,
    "divides": lambda a, b: b % a == 0,
}


def emulate(artifact: Artifact, inputs: Mapping[str, Array], target: str) -> dict[str, Array]:
    """The outputs of the artifact's only program on `target`, computed from the PTX it ships."""
    (program,) = artifact.programs
    plan = program.plan_for(target)
    assert plan is not None
    return _Emulation(artifact, program, plan, target, inputs).run()


class _Emulation:
    def __init__(
        self,
        artifact: Artifact,
        program: Program,
        plan: Plan,
        target: str,
        inputs: Mapping[str, Array],
    ) -> None:
        self.artifact, self.program, self.plan, self.target, self.inputs = (
            artifact, program, plan, target, inputs,
        )  # fmt: skip
        tensors = {p.name for p in program.inputs if p.kind == "tensor"}
        scalars = {
            p.name: int(inputs[p.name]) for p in program.inputs if p.kind == "scalar" and not p.dtype.is_float
        }
        self.symbols = bind_symbols(program, {n: inputs[n].shape for n in tensors}, scalars)
        # One machine's memory serves every kernel: modules of one kernel each share its addresses.
        self.memory = Machine(parse_ptx(".version 7.0\n.target sm_70\n.address_size 64\n")).memory
        self.places: dict[tuple[str, str], int] = {}

    def run(self) -> dict[str, Array]:
        outputs = {}
        for name in (p.name for p in self.program.inputs if p.kind == "tensor"):
            self._put("input", name, self.inputs[name])
        for constant in self.program.constants:
            self._put("constant", constant.name, np.asarray(self.artifact.constants[constant.name]))
        for port in self.program.outputs:
            shape = tuple(evaluate(d, self.symbols) for d in port.shape)
            # Poison: what a kernel does not write must show.
            outputs[port.name] = np.full(shape, 77, port.dtype.numpy)
            if port.initial is not None:
                outputs[port.name] = self.inputs[port.initial].copy()
            self._put("output", port.name, outputs[port.name])
        arena = self.memory.allocate(evaluate(self.plan.arena_bytes, self.symbols))
        persistent = self.memory.allocate(self.plan.persistent_bytes)
        for buffer in self.plan.buffers:
            self.places["buffer", buffer.name] = arena + evaluate(buffer.offset_bytes, self.symbols)
        for buffer in self.plan.persistent:
            self.places["persistent", buffer.name] = persistent + evaluate(buffer.offset_bytes, {})
        for step in (*self.plan.setup, *self.plan.steps):
            self._step(step)
        return {n: self.memory.load(self.places["output", n], a) for n, a in outputs.items()}

    def _put(self, space: str, name: str, value: Array) -> None:
        address = self.memory.allocate(value.nbytes)
        self.memory.store(address, value)
        self.places[space, name] = address

    def _step(self, step: Step) -> None:
        if isinstance(step, Choice):
            option = next(o for o in step.options if all(self._holds(g) for g in o.guard))
            for inner in option.steps:
                self._step(inner)
            return
        assert isinstance(step, Launch)
        binary = next(
            b
            for b in self.artifact.binaries
            if b.format == "ptx" and b.target == self.target and step.kernel in b.kernels
        )
        machine = Machine(parse_ptx(binary.data.decode()))
        machine.memory = self.memory
        function = machine.module.functions[step.kernel]
        params = {v.name: self._bytes(a) for v, a in zip(function.params, step.args, strict=True)}
        grid = tuple(evaluate(d, self.symbols) for d in step.grid)
        shared = evaluate(step.shared_bytes, self.symbols)
        for z in range(grid[2]):
            for y in range(grid[1]):
                for x in range(grid[0]):
                    geometry = Geometry(grid, step.block, (x, y, z))
                    BlockRun(machine, function, params, geometry, shared).run()

    def _holds(self, guard: Compare) -> bool:
        return bool(COMPARE[guard.op](evaluate(guard.lhs, self.symbols), evaluate(guard.rhs, self.symbols)))

    def _bytes(self, arg: Arg) -> bytes:
        match arg:
            case Pointer(space="null"):
                return bytes(8)
            case Pointer(space=space, name=name, offset_bytes=offset):
                address = self.places[space, name] + evaluate(offset, self.symbols)
                assert address >= GLOBAL_BASE
                return np.uint64(address).tobytes()
            case Extent(value=value, dtype=dtype):
                return np.asarray(evaluate(value, self.symbols), dtype.numpy).tobytes()
            case Immediate(value=value, dtype=dtype):
                return np.asarray(value, dtype.numpy).tobytes()
            case ScalarInput(name=name, dtype=dtype):
                return np.asarray(self.inputs[name], dtype.numpy).tobytes()
