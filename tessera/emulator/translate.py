"""A kernel in LLVM IR: one function that runs a warp until its lanes have ended or wait.

Each basic block of the kernel is code on vectors of 32 lanes. Registers that live across basic blocks lie
in the warp's area, written under the mask of active lanes; those that every lane of the block computes
alike, once and for all, are computed at the top. Between basic blocks the lanes at the lowest one go first.
"""

from __future__ import annotations

from dataclasses import dataclass

from tessera.emulator.cfg import Block, control_flow
from tessera.emulator.count_plan import CountPlan
from tessera.emulator.flatten import flatten
from tessera.emulator.hoisting import fixed_instructions
from tessera.emulator.layout import Layout, align
from tessera.emulator.placement import lay_out, shared_layout
from tessera.emulator.polls import waited_at
from tessera.emulator.ptx import Function, Instruction, Module, access_bytes
from tessera.emulator.registers import BITS, LOCAL_WINDOW, SHARED_WINDOW, Registers, unsupported
from tessera.emulator.translate_checks import SPACING, Checks

__all__ = ["BITS", "LOCAL_WINDOW", "SHARED_WINDOW", "Translation", "Translator", "translate", "unsupported"]


@dataclass(slots=True)
class Translation:
    """A kernel as LLVM IR, and what a launch must know about it."""

    ir: str
    layout: Layout
    sites: list[Instruction]
    """What each memory instruction, trap and barrier in the code was, by site number."""
    blocks: list[int]
    """PTX line where each basic block begins."""
    waits: list[Instruction | None]
    """The instruction that threads most likely wait at, if they wait at a basic block."""
    params: dict[str, int]
    """Offset of each kernel parameter in the parameter buffer."""
    param_bytes: int
    shared: dict[str, int]
    """Offset of each shared variable."""
    shared_bytes: int
    """Static shared memory of a block."""
    local_bytes: int
    """Local memory of a thread."""
    param_pointers: bool = False
    """Whether the kernel takes the address of a parameter."""
    libraries: tuple[str, ...] = ()
    """IR of modules with functions that the kernel's calls, compiled apart."""
    plan: CountPlan | None = None
    """What the code counts; None: nothing."""
    checks: Checks | None = None
    """How accesses are checked beyond bounds, if they are."""

    @property
    def services(self) -> set[str]:
        """Functions of the driver that the kernel calls."""
        return {s.modifiers[0] for s in self.sites if s.opcode == "service"}

    @property
    def shared_spacing(self) -> int:
        """Bytes of static shared memory that lie between variables, for checks."""
        return SPACING * len(self.checks.shared_extents) if self.checks else 0

    @property
    def alignment(self) -> int:
        """Bytes that arrays must be aligned to: those of the widest access, at least 16."""
        moves = [s for s in self.sites if s.opcode in ("ld", "ldu", "st")]
        return max((access_bytes(s) for s in moves), default=16) // 32 * 16 + 16


def translate(
    module: Module, entry: Function, symbols: dict[str, int], *, count: bool = False, checked: bool = False
) -> Translation:
    """LLVM IR of a kernel.

    Args:
        module: The kernel's module.
        entry: The kernel.
        symbols: Place of each global variable in the table of addresses.
        count: Whether the code counts what it does.
        checked: Whether every access is checked and recorded (see `shadow_ir`).

    Raises:
        CompileError: An instruction that the engine does not know; names its PTX and source line.
    """
    plan = CountPlan() if count else None
    function = flatten(module, entry)
    return Translator(module, function, symbols, plan, Checks.of(function) if checked else None).run()


class Translator(Registers):
    """Writes the function of one kernel."""

    def __init__(
        self,
        module: Module,
        function: Function,
        symbols: dict[str, int],
        plan: CountPlan | None = None,
        checks: Checks | None = None,
    ) -> None:
        self.flow = control_flow(function)
        super().__init__(function, Layout(len(self.flow.blocks)), symbols)
        self.module = module
        self.plan = plan
        """Counters of the code; None: it counts nothing."""
        self.skipped: dict[int, int] = {}
        """Counters of guarded warp-wide instructions, by basic block."""
        self.narrowed = False
        """Whether the mask is of fewer lanes than execute the instruction."""
        self.sites: list[Instruction] = []
        self.helpers: set[str] = set()
        self.libraries: dict[str, str] = {}
        """Modules of functions that are compiled apart, by the function's name."""
        self.tables: dict[tuple[int, ...], str] = {}
        """Global arrays of i32 that the code refers to: their names."""
        self.functions = module.function_addresses()
        self.checks = checks
        """How accesses are checked beyond bounds, if they are."""
        spacing = SPACING if checks else 0
        self.params, self.param_bytes = lay_out(function.params)
        own = [v for v in function.variables if v.space == "local"]
        self.local, self.local_bytes = lay_out(own, spacing)
        self.local_bytes = align(self.local_bytes, 16)
        self.shared, self.shared_bytes = shared_layout(module, function, spacing)
        if checks:
            checks.place(self.shared, self.local, own, module)
        self.headers = {s for b in self.flow.blocks for s in b.successors if s <= b.index}

    # -- the function ---------------------------------------------------------------------------

    def run(self) -> Translation:
        """Write everything."""
        from tessera.emulator import schedule_ir  # it reads this module's constants
        from tessera.emulator.translate_control import write_block, write_scheduler
        from tessera.emulator.translate_counts import begin_function

        self.raw("define internal i32 @run_warp(ptr noalias %ctx, ptr noalias %blk, ptr noalias %warp) {")
        self.label("entry")
        for name in ("%mask.at", "%pend.at", "%progress.at", "%polite.at", "%outside.at"):
            self.raw(f"  {name} = alloca i32")
        self.raw("  store i32 0, ptr %polite.at")
        self.raw("  store i32 0, ptr %outside.at")
        self.raw("  store i32 1, ptr %progress.at")
        begin_function(self)
        self.hoist()
        self.raw("  br label %sched")
        write_scheduler(self)
        for block in self.flow.blocks:
            write_block(self, block)
        self.raw("}")
        zeroed = [n for n in self.flow.blocks[0].live_in if n in self.layout.slots]
        ir = schedule_ir.module_text(self, zeroed)
        starts = [b.instructions[0].line if b.instructions else 0 for b in self.flow.blocks]
        waits = [waited_at(b) if b.instructions else None for b in self.flow.blocks]
        return Translation(
            ir, self.layout, self.sites, starts, waits, self.params, self.param_bytes, self.shared,
            self.shared_bytes, self.local_bytes, self.param_pointers, tuple(self.libraries.values()),
            self.plan, self.checks,
        )  # fmt: skip

    def hoist(self) -> None:
        """Compute the registers that are alike for ever, and leave their instructions out of the blocks."""
        self.hoisted: set[int] = set()
        for instruction in fixed_instructions(self.flow, self.params):
            self.hoisted.add(id(instruction))
            self.emit(instruction)
        self.fixed = {name: self.settled(value) for name, value in self.current.items()}
        self.current, self.written = {}, set()
        self.splats_at_top = dict(self.splats)

    def emit(self, instruction: Instruction) -> None:
        """Write one instruction that is not control flow."""
        from tessera.emulator.translate_counts import count_guard
        from tessera.emulator.translate_tables import EMITTERS

        emitter = EMITTERS.get(instruction.opcode)
        if emitter is None:
            raise unsupported(instruction)
        self.guard = None
        if instruction.guard is not None:
            guard = self.read(instruction.guard, "pred")
            self.guard = self.invert(guard) if instruction.guard_negated else guard
            count_guard(self, instruction)
        try:
            emitter(self, instruction)
        except (IndexError, KeyError, StopIteration, ValueError) as error:
            # A form that PTX does not have: too few operands or types, or others than it knows.
            raise unsupported(instruction) from error
        self.guard = None

    # -- places in the program ------------------------------------------------------------------

    def site(self, instruction: Instruction) -> int:
        """Number of a place in the code that may fault."""
        self.sites.append(instruction)
        self.layout.sites = len(self.sites)
        return len(self.sites) - 1

    def active(self) -> str:
        """Lanes (one bit each, i32) that the current instruction is for."""
        if self.guard is None:
            return self.mask
        return self.let(f"and i32 {self.mask}, {self.lane_bits(self.guard)}", "m")

    def end_block(self, block: Block) -> None:
        """Write the registers that live on to the warp's area, for the active lanes."""
        for name in sorted(self.written & block.live_out):
            if name in self.fixed:
                continue
            self.store_slot(name, self.current[name])
        self.current, self.written, self.splats = {}, set(), dict(self.splats_at_top)
        self.mask_vector = None
