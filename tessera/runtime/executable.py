"""The shared part of running a plan: one prepared frame per shape, kept for the next call."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from tessera.program.bind import bind_symbols
from tessera.program.dim import symbols_of
from tessera.program.errors import DeviceError, PackageError
from tessera.program.program import (
    BoxMap,
    Choice,
    Constant,
    Extent,
    Gemm,
    Launch,
    Plan,
    Pointer,
    Program,
    Step,
)
from tessera.program.tensor_map import TensorMap
from tessera.runtime.cells import ArgumentCells
from tessera.runtime.profile import Recorder
from tessera.runtime.schedule import Address, Schedule, make_schedule
from tessera.runtime.source import ProgramSource
from tessera.runtime.workspace import Workspace

Array = np.ndarray[Any, Any]

MAX_SHAPES = 128
"""Prepared shapes that one program keeps; the least recently used goes first."""


def pointer_of(array: Array) -> int:
    """Host address of the first element."""
    pointer: int = array.__array_interface__["data"][0]
    return pointer


class Frame:
    """One schedule with its argument cells; used by one call at a time."""

    def __init__(self, schedule: Schedule, cells: ArgumentCells) -> None:
        self.schedule = schedule
        self.cells = cells


F = TypeVar("F", bound=Frame)


class Prepared(Generic[F]):
    """Everything that depends on the shapes alone, and the frames of calls that are over."""

    __slots__ = ("frames", "schedule")

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.frames: list[F] = []


class Executable(ABC, Generic[F]):
    """A plan ready to run. Subclasses know how a device launches and where memory is."""

    def __init__(self, program: Program, plan: Plan) -> None:
        self.program = program
        self._plan = plan
        self._lock = threading.Lock()
        self._prepared: OrderedDict[tuple[Any, ...], Prepared[F]] = OrderedDict()
        ports = program.inputs
        self._tensors = tuple(i for i, p in enumerate(ports) if p.kind == "tensor")
        self._scalars = {p.name: i for i, p in enumerate(ports) if p.kind == "scalar"}
        self._sizes = _scalars_that_are_sizes(program, plan)
        self._bases = (
            *(("input", ports[i].name) for i in self._tensors),
            *(("output", p.name) for p in program.outputs),
            ("arena", ""),
        )

    def run(
        self, inputs: Sequence[Array], recorder: Recorder | None, workspace: Workspace | None = None
    ) -> list[Array]:
        """Outputs in order; see `LoadedProgram.run`."""
        prepared = self._prepare(inputs)
        # list.pop and list.append are atomic: no lock between a call's two ends.
        try:
            frame = prepared.frames.pop()
        except IndexError:
            frame = self._frame(prepared.schedule)
        try:
            return self._execute(frame, inputs, recorder, workspace)
        finally:
            prepared.frames.append(frame)

    @abstractmethod
    def _execute(
        self, frame: F, inputs: Sequence[Array], recorder: Recorder | None, workspace: Workspace | None
    ) -> list[Array]:
        """Run the calls of `frame` on `inputs`."""

    @abstractmethod
    def _frame(self, schedule: Schedule) -> F:
        """A new frame for `schedule`."""

    @abstractmethod
    def _fixed_address(self, address: Address) -> int:
        """Where a constant or persistent memory lies on the device."""

    def _cells(self, schedule: Schedule) -> ArgumentCells:
        return ArgumentCells(schedule, self._bases, self._fixed_address, self._scalars, self._encode_map)

    def _encode_map(self, tensor_map: TensorMap) -> bytes:
        """The 128 bytes that this device's kernels take for a tensor map."""
        raise DeviceError(
            f"program {self.program.name!r}: its plan holds a tensor map of {tensor_map.element}, "
            "which this device has not",
            hint="compile the program again",
        )

    def _prepare(self, inputs: Sequence[Array]) -> Prepared[F]:
        key = (
            *(inputs[i].shape for i in self._tensors),
            *(int(inputs[i][()]) for i in self._sizes.values()),
        )
        with self._lock:
            found = self._prepared.get(key)
            if found is not None:
                self._prepared.move_to_end(key)
                return found
        made: Prepared[F] = Prepared(self._schedule(inputs))
        with self._lock:
            found = self._prepared.setdefault(key, made)
            if len(self._prepared) > MAX_SHAPES:
                self._prepared.popitem(last=False)
        return found

    def _schedule(self, inputs: Sequence[Array]) -> Schedule:
        shapes = {self.program.inputs[i].name: inputs[i].shape for i in self._tensors}
        sizes = {name: int(inputs[i][()]) for name, i in self._sizes.items()}
        return make_schedule(self.program, self._plan, bind_symbols(self.program, shapes, sizes))


def _scalars_that_are_sizes(program: Program, plan: Plan) -> dict[str, int]:
    """Name and input index of integer scalars that any size of the program depends on."""
    used = symbols_of(*(d for p in (*program.inputs, *program.outputs) for d in p.shape))
    used |= symbols_of(plan.arena_bytes, *(d for b in plan.buffers for d in (b.offset_bytes, b.bytes)))
    used |= _symbols_of_steps(plan.steps)
    return {
        p.name: i
        for i, p in enumerate(program.inputs)
        if p.kind == "scalar" and not p.dtype.is_float and p.name in used
    }


def _symbols_of_steps(steps: Sequence[Step]) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    for step in steps:
        if isinstance(step, Choice):
            for option in step.options:
                found |= symbols_of(*(d for g in option.guard for d in (g.lhs, g.rhs)))
                found |= _symbols_of_steps(option.steps)
        elif isinstance(step, Gemm):
            pointers = (step.a.offset_bytes, step.b.offset_bytes, step.c.offset_bytes)
            strides = (step.stride_a, step.stride_b, step.stride_c)
            found |= symbols_of(step.m, step.n, step.k, step.batch, *strides, *pointers)
        else:
            found |= symbols_of(*step.grid, step.shared_bytes)
            found |= symbols_of(*(a.value for a in step.args if isinstance(a, Extent)))
            found |= symbols_of(*(a.offset_bytes for a in step.args if isinstance(a, Pointer)))
            maps = [a for a in step.args if isinstance(a, BoxMap)]
            found |= symbols_of(*(d for m in maps for d in (*m.sizes, *m.strides_bytes)))
            found |= symbols_of(*(m.tensor.offset_bytes for m in maps))
    return found


def kernels_of(plan: Plan) -> tuple[str, ...]:
    """Every kernel that `plan` may launch, once each."""
    names: dict[str, None] = {}
    pending: list[Step] = [*plan.setup, *plan.steps]
    while pending:
        step = pending.pop(0)
        if isinstance(step, Launch):
            names[step.kernel] = None
        elif isinstance(step, Choice):
            pending += [inner for option in step.options for inner in option.steps]
    return tuple(names)


def load_constant(constant: Constant, source: ProgramSource) -> Array:
    """The weight that `constant` describes, C-contiguous.

    Raises:
        PackageError: It is missing, or of another shape or dtype than the program says.
    """
    value = source.constant(constant.name)
    if value.shape != constant.shape or value.dtype != constant.dtype.numpy:
        raise PackageError(
            f"weight {constant.name!r} is {value.dtype}{list(value.shape)}, "
            f"the program takes {constant.dtype}{list(constant.shape)}",
            hint="build the package again from one compilation",
        )
    return np.ascontiguousarray(value) if value.ndim else value
