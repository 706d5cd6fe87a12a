"""The simple emulator: a block of threads in NumPy, one instruction at a time for all of them.

Slow and plain on purpose: it is the oracle that faster execution is compared with. Threads that run apart
meet again because the lowest basic block among runnable threads always goes next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from tessera.emulator import rendezvous
from tessera.emulator.activation import Activation, Call
from tessera.emulator.builtins import BUILTINS, RETURNED
from tessera.emulator.clusters import Cluster
from tessera.emulator.frame import Frame
from tessera.emulator.geometry import Geometry, cluster_size, three
from tessera.emulator.grid_run import GridRun
from tessera.emulator.lanes import Array
from tessera.emulator.link import read_ptx
from tessera.emulator.machine import Machine, Memory, size_of
from tessera.emulator.polls import waited_at
from tessera.emulator.ptx import (
    TYPE_BYTES,
    Function,
    Instruction,
    Module,
    Operand,
    ParamList,
    Symbol,
)
from tessera.emulator.report import budget_error
from tessera.program.errors import CompileError, DeviceError, KernelError

if TYPE_CHECKING:
    from tessera.emulator.counters import Counters

__all__ = ["BlockRun", "Frame", "Geometry", "Machine", "Memory", "launch", "size_of"]

STEP_LIMIT = 50_000_000
"""Basic blocks executed before a launch counts as one that never ends."""
PATIENCE = 64
"""Basic blocks after which threads that have not run for longest have their turn."""
STUBBORN = 64
"""Such turns, while counting, of which one is for the threads alone and the others for their warps."""


def launch(
    ptx: str | bytes | Module,
    entry: str,
    grid: Sequence[int] | int,
    block: Sequence[int] | int,
    args: Sequence[Array | np.generic],
    shared_bytes: int = 0,
    *,
    cluster: Sequence[int] | int | None = None,
    resident: int = 1 << 30,
    output: list[str] | None = None,
    count: bool = False,
) -> Counters | None:
    """Run a kernel to its end.

    Args:
        ptx: PTX or a parsed module.
        entry: Name of the kernel.
        grid: Blocks by axis, one to three.
        block: Threads by axis, one to three.
        args: Arrays (copied in and back out) or NumPy scalars of the parameter's size.
        shared_bytes: Dynamic shared memory per block.
        cluster: Blocks of a cluster by axis; None: as the kernel says, or none.
        resident: Blocks that the GPU holds at once; more of them have to wait until others end.
        output: Gets the text of every `printf`, in the order of the calls.
        count: Whether to count what it does.

    Returns:
        What it did in numbers, if that was counted.

    Raises:
        CompileError: PTX that this interpreter does not know; names the line.
        DeviceError: An access outside memory, a deadlock, or a kernel that does not end.
        KernelError: Sizes that the kernel cannot be launched with.
    """
    module = ptx if isinstance(ptx, Module) else read_ptx(ptx)
    function = module.functions.get(entry)
    if function is None or not function.is_entry:
        raise CompileError(f"no kernel is called {entry!r}", hint="kernels: " + ", ".join(module.functions))
    if len(args) != len(function.params):
        raise DeviceError(f"{entry} takes {len(function.params)} arguments, {len(args)} given")
    machine = Machine(module)
    if output is not None:
        machine.printed = output
    if count:
        from tessera.emulator.recorder import Recorder

        machine.recorder = Recorder()
    params, arrays = machine.bind(function, args)
    shape = three(grid)
    geometry = Geometry(shape, three(block), (0, 0, 0), *cluster_size(function, shape, cluster))

    def begin(where: Geometry) -> BlockRun:
        return BlockRun(machine, function, params, where, shared_bytes)

    GridRun(begin, geometry, resident=resident).run()
    for address, array in arrays:
        after = machine.memory.load(address, array)
        if array.flags.writeable:
            array[...] = after
        elif after.tobytes() != array.tobytes():
            raise KernelError(f"{entry} wrote an array that is read-only", hint="pass a copy: numpy.array(x)")
    if machine.recorder is None:
        return None
    return machine.recorder.counters(module, entry, math.prod(shape), geometry.threads)


class BlockRun:
    """One block of threads, from its first instruction to its last."""

    def __init__(
        self,
        machine: Machine,
        function: Function,
        params: Mapping[str, bytes],
        geometry: Geometry,
        shared_bytes: int,
    ) -> None:
        self.machine: Machine = machine
        self.geometry: Geometry = geometry
        self.threads: int = geometry.threads
        self.shared_at: dict[str, int] = {}
        self.dynamic_bytes: int = shared_bytes
        """Dynamic shared memory of the launch."""
        self.spacing: int = machine.sanitizer.spacing if machine.sanitizer else 0
        """Bytes between variables, so that the sanitizer sees accesses that leave one."""
        self.shared: Array = np.zeros(self.lay_out_shared(function) + shared_bytes, np.uint8)
        self.local: Array = np.zeros((self.threads, 256), np.uint8)
        """(threads, bytes): local memory and parameters, a stack of the calls under way."""
        self.local_top: int = 0
        self.exited: Array = np.zeros(self.threads, np.bool_)
        """Threads that executed `exit`."""
        self.declined: Array = np.zeros(self.threads, np.bool_)
        """Threads that asked in vain whether a wait is over, and have not jumped back since."""
        self.cluster_phase: Array = np.full(self.threads, -1)
        """Phase of the cluster's barrier in which each thread came to it last."""
        self.tried: Array = np.zeros(self.threads, np.bool_)
        """Threads that wait at a warp-wide instruction for others; kept only while counting."""
        self.steps: int = 0
        """Basic blocks executed."""
        self.rests: int = 0
        """Times that all threads had looked in vain for what they wait for."""
        self.progress: int = 0
        """Counts what others may have waited for, and jumps of loops that do more than look."""
        self.function = function
        self.watch = machine.sanitizer.watch_block(self) if machine.sanitizer else None
        self.cluster: Cluster = Cluster([self])
        everyone = np.ones(self.threads, np.bool_)
        self.stack: list[Activation] = [Activation(Frame(self, function, dict(params)), everyone)]
        """The calls under way, the kernel's own first."""

    def reserve_local(self, size: int, align: int) -> int:
        """Offset of `size` bytes on the stack of every thread."""
        start = -(-(self.local_top + self.spacing) // align) * align
        self.local_top = start + size
        missing = self.local_top - self.local.shape[1]
        if missing > 0:
            more = np.zeros((self.threads, max(missing, self.local.shape[1])), np.uint8)
            self.local = np.concatenate([self.local, more], axis=1)
        return start

    def lay_out_shared(self, function: Function) -> int:
        """Offsets of the shared variables; dynamic shared memory comes last."""
        functions = [function, *(f for f in self.machine.module.functions.values() if f is not function)]
        declared = [v for v in self.machine.module.variables.values() if v.space == "shared"]
        declared += [v for f in functions for v in f.variables if v.space == "shared"]
        top = 0
        for variable in sorted(declared, key=lambda v: v.external or v.count == 0):
            align = variable.align or TYPE_BYTES[variable.type]
            top = -(-top // align) * align
            self.shared_at[variable.name] = top
            top += size_of(variable) and size_of(variable) + self.spacing
        return top

    @property
    def living(self) -> int:
        """Threads that have not returned from the kernel."""
        return int(self.stack[0].alive.sum()) if self.stack else 0

    def step(self) -> bool:
        """Execute one instruction, for all threads that stand there; False once every thread has returned.

        Raises:
            DeviceError: Threads wait for each other for ever, or the step limit is reached.
        """
        if not self.prepare():
            return False
        self.execute()
        return True

    def prepare(self) -> bool:
        """Settle which instruction is next, and for which threads: that of the last activation.

        To ask twice changes nothing. False once every thread has returned.

        Raises:
            DeviceError: Threads wait for each other for ever, or the step limit is reached.
        """
        while self.stack:
            top = self.stack[-1]
            if top.block is not None or self.choose(top):
                return True
            self.stack.pop()
            if self.stack:
                self.returned(self.stack[-1], top.frame)
        return False

    def choose(self, top: Activation) -> bool:
        """Choose the basic block that goes next; False if all threads of the call have returned."""
        blocks, pc = top.frame.flow.blocks, top.pc
        while True:
            runnable = top.alive & (top.waiting < 0) & ~top.stuck & ~top.resting
            if not runnable.any():
                alive = top.alive
                if not alive.any():
                    return False
                if rendezvous.release(self, top.frame, pc, top.waiting, alive):
                    top.stuck[:] = False
                elif top.resting.any():
                    # They look again, after the other blocks have had a turn.
                    top.resting[:] = False
                    self.rests += 1
                else:
                    self.stuck()
                continue
            index = int(pc[runnable].min())
            self.count_step(top.frame)
            if self.steps % PATIENCE == 0:
                # Whoever spins at a low address may wait for threads behind: the most patient go first.
                index, runnable = self.most_patient(top, runnable)
            active = runnable & (pc == index)
            top.last_run[active] = self.steps
            if blocks[index].instructions:
                top.begin(blocks[index], active)
                return True
            pc[active] = index + 1
            top.stuck[:] = False

    def most_patient(self, top: Activation, runnable: Array) -> tuple[int, Array]:
        """The basic block of the thread that has not run for longest, and the threads that may go there.

        To count like hardware, a warp keeps to its lowest block: then it is the most patient warp's, but for
        every `STUBBORN`th time, as lanes may wait for others of their warp.
        """
        pc, threads = top.pc, np.flatnonzero(runnable)
        patient = int(threads[top.last_run[runnable].argmin()])
        if self.machine.recorder is None or self.steps % (PATIENCE * STUBBORN) == 0:
            return int(pc[patient]), runnable
        warp = np.arange(self.threads) // 32
        lowest = np.full(int(warp[-1]) + 1, len(top.frame.flow.blocks))
        np.minimum.at(lowest, warp[threads], pc[threads])
        return int(lowest[warp[patient]]), runnable & (pc == lowest[warp])

    def stuck(self) -> NoReturn:
        """No thread of the block can go on.

        Raises:
            DeviceError: Always; a sanitizer is told first.
        """
        top = self.stack[-1]
        if self.watch is not None:
            blocks = top.frame.flow.blocks
            self.watch.stuck({b.index: waited_at(b) for b in blocks if b.instructions}, top.pc, top.alive)
        raise DeviceError(top.frame.deadlock(top.pc, top.alive), kind="deadlock")

    def count_step(self, frame: Frame) -> None:
        """Count one basic block against the step limit.

        Raises:
            DeviceError: The launch has a budget, and this is beyond it.
        """
        self.steps += 1
        budget = self.machine.step_budget
        if budget is not None and self.steps > budget:
            raise budget_error(frame.function.name, self.geometry.index, budget)
        if self.watch is not None:
            self.watch.count_step(self.steps)
        if self.steps > STEP_LIMIT:
            raise DeviceError(f"{frame.function.name} did not end within {STEP_LIMIT} steps")

    def execute(self) -> None:
        """Execute the instruction that `prepare` settled."""
        top = self.stack[-1]
        block = top.block
        assert block is not None  # noqa: S101 - prepare has run
        instruction = block.instructions[top.at]
        recorder = self.machine.recorder
        if block.collective:
            top.block = None
            meet = rendezvous.collective if recorder is None else recorder.meet
            done = meet(self, top, instruction, top.going)
            top.stuck |= top.going & ~done
            if done.any():
                top.stuck &= ~done
            return
        taken = going = top.going
        if instruction.guard is not None:
            taken = taken & top.frame.guard(instruction)
        special = _CONTROL.get(instruction.opcode)
        if special is not None:
            special(self, top, instruction, taken)
        elif taken.any():
            top.frame.execute(instruction, taken)
        if recorder is not None:
            recorder.executed(top, instruction, going, taken)
        if top.call is None:
            top.advance()

    def branch(self, top: Activation, instruction: Instruction, taken: Array) -> None:
        """`bra`."""
        target = top.frame.flow.labels[_label(instruction)]
        top.pc[taken] = target
        top.going = top.going & ~taken
        assert top.block is not None  # noqa: S101 - it is being executed
        if target <= top.block.index:
            self.jump_back(top, taken, (top.block.index, target))

    def jump_back(self, top: Activation, taken: Array, edge: tuple[int, int]) -> None:
        """Threads jump backwards: those that only look for something let all others go first."""
        flow = top.frame.flow
        rest = taken if edge in flow.polls else taken & self.declined
        top.resting |= taken if edge in flow.searches else rest
        self.declined &= ~taken
        self.progress += bool((taken & ~rest).any())

    def indexed_branch(self, top: Activation, instruction: Instruction, taken: Array) -> None:
        """`brx.idx`: each thread goes where its index says."""
        table = top.frame.function.branch_tables[_label(instruction)]
        chosen = top.frame.read(instruction.operands[0], "u32")
        for position, name in enumerate(table):
            top.pc[taken & (chosen == position)] = top.frame.flow.labels[name]
        top.going = top.going & ~taken

    def end(self, top: Activation, instruction: Instruction, taken: Array) -> None:
        """`ret` and `exit`."""
        if instruction.opcode == "exit":
            self.exited |= taken
        top.pc[taken] = len(top.frame.flow.blocks)
        top.going = top.going & ~taken
        self.progress += bool(taken.any())

    def trap(self, _top: Activation, instruction: Instruction, taken: Array) -> None:
        """`trap`."""
        if taken.any():
            if self.watch is not None:
                self.watch.executing(instruction, np.flatnonzero(taken))
            raise DeviceError(f"PTX line {instruction.line}: trap")

    def call(self, top: Activation, instruction: Instruction, taken: Array) -> None:
        """Call a device function by name, or by the pointer that each thread holds."""
        if not taken.any():
            return
        operands = list(instruction.operands)
        results = _elements(operands.pop(0)) if isinstance(operands[0], ParamList) else ()
        target = operands.pop(0)
        arguments = _elements(operands[0]) if operands else ()
        if isinstance(target, Symbol):
            targets = [(target.name, taken)]
        else:
            pointers = top.frame.read(target, "u64")
            named = {int(p): self.machine.function_at(int(p)) for p in np.unique(pointers[taken])}
            targets = [(name, taken & (pointers == pointer)) for pointer, name in named.items()]
        top.call = Call(instruction, taken, targets, arguments, results)
        self.call_next(top, top.call)

    def call_next(self, top: Activation, call: Call) -> None:
        """Begin the next function of a call; or end the call, if all have returned."""
        frame, line = top.frame, call.instruction.line
        while call.targets:
            name, callers = call.targets.pop(0)
            function = self.machine.module.functions.get(name)
            if name in BUILTINS and (function is None or not function.body):
                answer = BUILTINS[name](frame, call.arguments, callers)
                if answer is not None and call.results:
                    frame.take_result(call.results[0], answer, RETURNED, callers)
                continue
            if function is None or not function.body:
                raise CompileError(
                    f"PTX line {line}: call of {name or 'a pointer'}, which has no body", ptx_line=line
                )
            call.top, call.returns, call.callers = self.local_top, function.results, callers
            callee = Frame(self, function, {})
            for variable, argument in zip(function.params, call.arguments, strict=True):
                callee.take_argument(frame.argument(argument, variable), variable)
            self.stack.append(Activation(callee, callers))
            return
        # `exit` inside of a function ends the thread, not the call alone.
        top.call = None
        top.pc[call.taken & self.exited] = len(frame.flow.blocks)
        top.going = top.going & ~self.exited

    def returned(self, top: Activation, callee: Frame) -> None:
        """A function has returned to `top`: take its results and go on."""
        call = top.call
        assert call is not None  # noqa: S101 - somebody called
        # A caller may expect a result of a function that, linked from elsewhere, has none.
        for variable, result in zip(call.returns, call.results, strict=False):
            top.frame.take_result(result, callee.result(variable), variable, call.callers)
        self.local_top = call.top
        self.call_next(top, call)
        if top.call is None:
            top.advance()


def _label(instruction: Instruction) -> str:
    operand = instruction.operands[-1]
    if not isinstance(operand, Symbol):
        raise CompileError(f"PTX line {instruction.line}: {instruction.mnemonic} without a label")
    return operand.name


def _elements(operand: Operand) -> tuple[Operand, ...]:
    return operand.elements if isinstance(operand, ParamList) else ()


_CONTROL: dict[str, Callable[[BlockRun, Activation, Instruction, Array], None]] = {
    "bra": BlockRun.branch,
    "brx": BlockRun.indexed_branch,
    "ret": BlockRun.end,
    "exit": BlockRun.end,
    "trap": BlockRun.trap,
    "call": BlockRun.call,
}
"""Opcodes that say where threads go next."""
