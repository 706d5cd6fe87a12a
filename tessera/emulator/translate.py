"""A kernel in LLVM IR: one function that runs a warp until its lanes have ended or wait.

Each basic block of the kernel is code on vectors of 32 lanes. Registers that live across basic blocks lie
in the warp's area, written under the mask of active lanes; those that every lane of the block computes
alike, once and for all, are computed at the top. Between basic blocks the lanes at the lowest one go first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tessera.emulator.cfg import Block, control_flow, reads, writes
from tessera.emulator.emit_ir import IOTA, WARP, Value, Writer, constant, lanes_of
from tessera.emulator.flatten import flatten
from tessera.emulator.layout import BLOCK, CONTEXT, TID, WARP_ID, Layout, align
from tessera.emulator.ptx import (
    TYPE_BYTES,
    Address,
    Function,
    Immediate,
    Instruction,
    Module,
    Negated,
    Operand,
    Pair,
    Register,
    Symbol,
)
from tessera.program.errors import CompileError

CANONICAL_NAN = 0x7FFFFFFF
"""The NaN that float32 arithmetic returns."""
SHARED_WINDOW = 0x7E00_0000_0000_0000
LOCAL_WINDOW = 0x7F00_0000_0000_0000
BITS = {kind: 8 * size for kind, size in TYPE_BYTES.items()} | {"pred": 1, "b1": 1, "tf32": 32}
IMPURE = frozenset(
    {"ld", "ldu", "st", "atom", "red", "barresult", "call", "cp", "bra", "brx", "ret", "exit", "trap",
     "addc", "subc", "madc", "mbarrier"}
)  # fmt: skip
"""Opcodes whose result may differ from one execution to the next, or that have none."""
UNIFORM_SPECIALS = {
    **{f"%ntid.{a}": ("ctx", CONTEXT[f"block_{a}"]) for a in "xyz"},
    **{f"%nctaid.{a}": ("ctx", CONTEXT[f"grid_{a}"]) for a in "xyz"},
    **{f"%ctaid.{a}": ("blk", BLOCK[f"ctaid_{a}"]) for a in "xyz"},
    **{f"%clusterid.{a}": ("blk", BLOCK[f"ctaid_{a}"]) for a in "xyz"},
    **{f"%nclusterid.{a}": ("ctx", CONTEXT[f"grid_{a}"]) for a in "xyz"},
    "%nwarpid": ("ctx", CONTEXT["warps"]),
    "%dynamic_smem_size": ("ctx", CONTEXT["dynamic_bytes"]),
    "%total_smem_size": ("ctx", CONTEXT["shared_bytes"]),
}
"""Special registers that are one number for a whole block, and where it is kept."""
FIXED_SPECIALS = {
    **{f"%cluster_ctaid.{a}": 0 for a in "xyz"}, **{f"%cluster_nctaid.{a}": 1 for a in "xyz"},
    "%cluster_ctarank": 0, "%cluster_nctarank": 1, "%smid": 0, "%nsmid": 1, "%gridid": 0,
    "%is_explicit_cluster": 0,
}  # fmt: skip
LANE_SPECIALS: dict[str, Callable[[int], int]] = {
    "%laneid": lambda lane: lane,
    "%lanemask_eq": lambda lane: 1 << lane,
    "%lanemask_lt": lambda lane: (1 << lane) - 1,
    "%lanemask_le": lambda lane: (2 << lane) - 1,
    "%lanemask_gt": lambda lane: 0xFFFFFFFF & ~((2 << lane) - 1),
    "%lanemask_ge": lambda lane: 0xFFFFFFFF & ~((1 << lane) - 1),
}
CLOCKS = ("%clock", "%clock64", "%clock_hi", "%globaltimer", "%globaltimer_lo", "%globaltimer_hi")


@dataclass(slots=True)
class Translation:
    """A kernel as LLVM IR, and what a launch must know about it."""

    ir: str
    layout: Layout
    sites: list[Instruction]
    """What each memory instruction, trap and barrier in the code was, by site number."""
    blocks: list[int]
    """PTX line where each basic block begins."""
    params: dict[str, int]
    """Offset of each kernel parameter in the parameter buffer."""
    param_bytes: int
    shared: dict[str, int]
    """Offset of each shared variable."""
    shared_bytes: int
    """Static shared memory of a block."""
    local_bytes: int
    """Local memory of a thread."""
    libraries: tuple[str, ...] = ()
    """IR of modules with functions that the kernel's calls, compiled apart."""


def translate(module: Module, entry: Function, symbols: dict[str, int]) -> Translation:
    """LLVM IR of a kernel.

    Args:
        module: The kernel's module.
        entry: The kernel.
        symbols: Place of each global variable in the table of addresses.

    Raises:
        CompileError: An instruction that the engine does not know; names its PTX and source line.
    """
    return Translator(module, flatten(module, entry), symbols).run()


class Translator(Writer):
    """Writes the function of one kernel."""

    def __init__(self, module: Module, function: Function, symbols: dict[str, int]) -> None:
        super().__init__()
        self.module = module
        self.function = function
        self.symbols = symbols
        self.flow = control_flow(function)
        self.layout = Layout(len(self.flow.blocks))
        self.sites: list[Instruction] = []
        self.site_of: dict[int, int] = {}
        self.helpers: set[str] = set()
        self.libraries: dict[str, str] = {}
        """Modules of functions that are compiled apart, by the function's name."""
        self.tables: dict[tuple[int, ...], str] = {}
        """Global arrays of i32 that the code refers to: their names."""
        self.params, self.param_bytes = _lay_out(list(function.params))
        self.local, self.local_bytes = _lay_out([v for v in function.variables if v.space == "local"])
        self.local_bytes = align(self.local_bytes, 16)
        self.shared, self.shared_bytes = _shared_layout(module, function)
        self.fixed: dict[str, Value] = {}
        """Registers that every lane of a block has alike for ever."""
        self.current: dict[str, Value] = {}
        """Registers as the basic block has them so far."""
        self.written: set[str] = set()
        self.mask = "-1"
        self.guard: Value | None = None
        self.mask_vector: Value | None = None
        self.headers = {s for b in self.flow.blocks for s in b.successors if s <= b.index}

    # -- the function ---------------------------------------------------------------------------

    def run(self) -> Translation:
        """Write everything."""
        from tessera.emulator import schedule_ir  # it reads this module's constants
        from tessera.emulator.translate_control import write_block, write_scheduler

        self.raw("define internal i32 @run_warp(ptr noalias %ctx, ptr noalias %blk, ptr noalias %warp) {")
        self.label("entry")
        for name in ("%mask.at", "%pend.at", "%progress.at"):
            self.raw(f"  {name} = alloca i32")
        self.raw("  store i32 1, ptr %progress.at")
        self.hoist()
        self.raw("  br label %sched")
        write_scheduler(self)
        for block in self.flow.blocks:
            write_block(self, block)
        self.raw("}")
        zeroed = [n for n in self.flow.blocks[0].live_in if n in self.layout.slots]
        ir = schedule_ir.module_text(self, zeroed)
        starts = [b.instructions[0].line if b.instructions else 0 for b in self.flow.blocks]
        return Translation(
            ir, self.layout, self.sites, starts, self.params, self.param_bytes, self.shared,
            self.shared_bytes, self.local_bytes, tuple(self.libraries.values()),
        )  # fmt: skip

    def hoist(self) -> None:
        """Compute the registers that are alike for ever, and leave their instructions out of the blocks."""
        self.hoisted: set[int] = set()
        for instruction in self._fixed_instructions():
            self.hoisted.add(id(instruction))
            self.emit(instruction)
        self.fixed = {name: self.settled(value) for name, value in self.current.items()}
        self.current, self.written = {}, set()
        self.splats_at_top = dict(self.splats)

    def _fixed_instructions(self) -> list[Instruction]:
        instructions = [i for b in self.flow.blocks for i in b.instructions]
        definitions: dict[str, int] = {}
        for instruction in instructions:
            for name in writes(instruction):
                definitions[name] = definitions.get(name, 0) + 1
        known: set[str] = set()
        found = []
        for instruction in instructions:
            targets = writes(instruction)
            if instruction.guard is not None or not targets or any(definitions[t] > 1 for t in targets):
                continue
            if "cc" in instruction.modifiers or not self._repeatable(instruction):
                continue
            if all(r in known or self._alike_special(r) for r in reads(instruction)):
                known |= targets
                found.append(instruction)
        return found

    def _repeatable(self, instruction: Instruction) -> bool:
        if instruction.opcode == "ld":
            source = instruction.operands[1]
            param = any(m.split("::")[0] == "param" for m in instruction.modifiers)
            return (
                param
                and isinstance(source, Address)
                and isinstance(source.base, Symbol)
                and (source.base.name in self.params)
            )
        if instruction.opcode in IMPURE:
            return False
        from tessera.emulator.cfg import COLLECTIVE

        return instruction.opcode not in COLLECTIVE and instruction.opcode in SCALAR_OPCODES

    def _alike_special(self, name: str) -> bool:
        return name in UNIFORM_SPECIALS or name in FIXED_SPECIALS or name == "%warpid"

    def emit(self, instruction: Instruction) -> None:
        """Write one instruction that is not control flow."""
        from tessera.emulator.translate_tables import EMITTERS

        emitter = EMITTERS.get(instruction.opcode)
        if emitter is None:
            raise unsupported(instruction)
        self.guard = None
        if instruction.guard is not None:
            guard = self.read(instruction.guard, "pred")
            self.guard = self.invert(guard) if instruction.guard_negated else guard
        emitter(self, instruction)
        self.guard = None

    # -- operands -------------------------------------------------------------------------------

    def read(self, operand: Operand, kind: str, *, loose: bool = False) -> Value:
        """An operand's bits under a type; any NaN for another if `loose`."""
        if kind not in BITS:
            raise CompileError(f"{self.function.name}: no register has the type {kind}")
        bits = BITS[kind]
        match operand:
            case Immediate():
                return immediate(operand, kind)
            case Negated(register):
                return self.invert(self.read(register, kind))
            case Symbol(name, offset):
                address = self.address_of(name)
                if offset:
                    address = self.binary("add", address, constant(offset, 64))
                return self.resize(address, bits)
            case Register(name):
                special = self.special(name)
                value = special if special is not None else self.register(name, loose=loose)
                return self.resize(value, bits)
        raise CompileError(f"{self.function.name}: an operand of this form has no value: {operand}")

    def register(self, name: str, *, loose: bool = False) -> Value:
        """The bits of a register, in its declared width; any NaN for another if `loose`."""
        if name in self.current:
            value = self.current[name]
            if value.loose and not loose:
                value = self.current[name] = self.settled(value)
            return value
        if name in self.fixed:
            return self.fixed[name]
        bits = self.width(name)
        place = self.let(f"getelementptr i8, ptr %warp, i64 {self.layout.slot(name, bits)}")
        if bits == 1:
            value = self.lane_predicate(self.let(f"load i32, ptr {place}, align 64"))
        else:
            value = Value(self.let(f"load <{WARP} x i{bits}>, ptr {place}, align 64", "r"), bits, vector=True)
        self.current[name] = value
        return value

    def width(self, name: str) -> int:
        """Bits of a register."""
        if name == "%carry":
            return 1
        kind = self.function.registers.get(name)
        if kind is None:
            raise CompileError(f"{self.function.name}: unknown register {name}")
        return BITS[kind]

    def write(self, operand: Operand, value: Value, *, signed: bool = False) -> None:
        """Put a value into a register, under the guard."""
        if not isinstance(operand, Register):
            raise CompileError(f"{self.function.name}: {operand} cannot be written")
        if operand.name == "_":
            return
        self.write_name(operand.name, value, signed=signed)

    def write_name(self, name: str, value: Value, *, signed: bool = False) -> None:
        """The same, by name."""
        width = self.width(name)
        if value.loose and width != value.bits:
            value = self.settled(value)
        value = self.resize(value, width, signed=signed)
        if self.guard is not None:
            before = self.register(name, loose=True)
            loose = value.loose or before.loose
            value = replace(self.select(self.guard, value, before), loose=loose)
        self.current[name] = value
        self.written.add(name)

    def settled(self, value: Value) -> Value:
        """The value with the NaN that PTX returns in place of any other, if it is `loose`."""
        if not value.loose:
            return value
        nan = self.float_compare("uno", "float", value, value)
        return self.select(nan, constant(CANONICAL_NAN, 32), value)

    def write_pair(self, operand: Operand, first: Value, second: Value) -> None:
        """Put two results into `a|b`, or the first into `a`."""
        if isinstance(operand, Pair):
            self.write(operand.first, first)
            self.write(operand.second, second)
        else:
            self.write(operand, first)

    def special(self, name: str) -> Value | None:
        """The value of a special register, or None if `name` is none."""
        if name.startswith("%tid."):
            place = self.let(f"getelementptr i8, ptr %warp, i64 {TID[name[-1]]}")
            return Value(self.let(f"load <{WARP} x i32>, ptr {place}, align 64", "tid"), 32, vector=True)
        if name in UNIFORM_SPECIALS:
            base, offset = UNIFORM_SPECIALS[name]
            return self.resize(self.header(base, offset), 32)
        if name in FIXED_SPECIALS:
            return constant(FIXED_SPECIALS[name], 32)
        if name in LANE_SPECIALS:
            return lanes_of([LANE_SPECIALS[name](lane) for lane in range(WARP)], 32)
        if name == "%warpid":
            place = self.let(f"getelementptr i8, ptr %warp, i64 {WARP_ID}")
            return Value(self.let(f"load i32, ptr {place}"), 32, vector=False)
        if name in CLOCKS:
            return constant(0, 64) if name.endswith("_hi") else self.header("blk", BLOCK["steps"])
        return None

    def header(self, base: str, offset: int) -> Value:
        """An i64 of the launch's context or of the block's state."""
        place = self.let(f"getelementptr i8, ptr %{base}, i64 {offset}")
        return Value(self.let(f"load i64, ptr {place}"), 64, vector=False)

    def address_of(self, name: str) -> Value:
        """The address of a variable in its state space."""
        if name in self.local:
            return constant(self.local[name], 64)
        if name in self.shared:
            return constant(self.shared[name], 64)
        if name not in self.symbols:
            raise CompileError(f"{self.function.name}: there is no variable {name}")
        table = self.header("ctx", CONTEXT["symbols"])
        place = self.let(f"inttoptr i64 {table.text} to ptr")
        place = self.let(f"getelementptr i64, ptr {place}, i64 {self.symbols[name]}")
        return Value(self.let(f"load i64, ptr {place}"), 64, vector=False)

    def address(self, operand: Operand) -> Value:
        """The address that each lane means, 64 bits wide."""
        if not isinstance(operand, Address):
            raise CompileError(f"{self.function.name}: {operand} is not an address")
        base = operand.base
        if isinstance(base, Register):
            value = self.resize(self.register(base.name), 64)
        else:
            value = self.read(base, "b64")
        if operand.offset:
            value = self.binary("add", value, constant(operand.offset, 64))
        return value

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

    def store_slot(self, name: str, value: Value) -> None:
        """Write one register to the warp's area, for the active lanes."""
        place = self.let(f"getelementptr i8, ptr %warp, i64 {self.layout.slot(name, value.bits)}")
        if value.bits == 1:
            old = self.let(f"load i32, ptr {place}, align 64")
            new = self.lane_bits(value)
            kept = self.let(f"and i32 {old}, {self.let(f'xor i32 {self.mask}, -1')}")
            put = self.let(f"and i32 {new}, {self.mask}")
            self.raw(f"  store i32 {self.let(f'or i32 {kept}, {put}')}, ptr {place}, align 64")
            return
        value = self.spread(self.settled(value))
        if self.mask_vector is None:
            self.mask_vector = self.lane_predicate(self.mask)
        old = self.let(f"load {value.type}, ptr {place}, align 64")
        mixed = self.select(self.mask_vector, value, Value(old, value.bits, vector=True))
        self.raw(f"  store {mixed.type} {mixed.text}, ptr {place}, align 64")

    @staticmethod
    def lanes() -> Value:
        """The lane numbers."""
        return Value(IOTA, 32, vector=True)


def immediate(operand: Immediate, kind: str) -> Value:
    """The bits of a literal under a type."""
    import numpy as np

    bits = BITS[kind]
    if operand.bits is not None and operand.width == bits:
        return constant(operand.bits, bits)
    if isinstance(operand.value, int) and not kind.startswith(("f", "tf")):
        return constant(operand.value, bits)
    if (
        kind.startswith(("f", "b", "u", "s", "tf"))
        and bits in (16, 32, 64)
        and kind not in ("f16x2", "bf16x2")
    ):
        dtype = {16: np.float16, 32: np.float32, 64: np.float64}[bits]
        if kind.startswith("f") or isinstance(operand.value, float):
            raw = np.array(operand.value, dtype).view(f"u{bits // 8}")
            return constant(int(raw), bits)
    return constant(int(operand.value), bits)


def unsupported(instruction: Instruction) -> CompileError:
    """The error for an instruction that is not known."""
    source = f" (source line {instruction.source_line})" if instruction.source_line else ""
    return CompileError(
        f"PTX line {instruction.line}{source}: the emulator does not know {instruction.mnemonic}",
        ptx_line=instruction.line,
    )


def _lay_out(variables: list) -> tuple[dict[str, int], int]:  # type: ignore[type-arg]
    places: dict[str, int] = {}
    top = 0
    for variable in variables:
        top = align(top, variable.align or TYPE_BYTES[variable.type])
        places[variable.name] = top
        top += TYPE_BYTES[variable.type] * variable.count
    return places, top


def _shared_layout(module: Module, function: Function) -> tuple[dict[str, int], int]:
    """Offsets of shared variables; those of dynamic size come last, all at one place."""
    others = [f for f in module.functions.values() if f.name != function.name]
    declared = {v.name: v for v in module.variables.values() if v.space == "shared"}
    for each in (function, *others):
        declared |= {v.name: v for v in each.variables if v.space == "shared"}
    static = [v for v in declared.values() if not v.external and v.count]
    places, top = _lay_out(static)
    for variable in declared.values():
        if variable.external or not variable.count:
            top = align(top, variable.align or TYPE_BYTES[variable.type])
    places |= {v.name: top for v in declared.values() if v.external or not v.count}
    return places, top


SCALAR_OPCODES = frozenset(
    {"add", "sub", "mul", "mad", "fma", "div", "rem", "min", "max", "and", "or", "xor", "not", "neg", "abs",
     "shl", "shr", "mov", "setp", "set", "selp", "cvt", "cvta", "popc", "clz", "brev", "bfe", "bfi", "ld",
     "sad", "cnot", "slct", "lop3", "prmt", "shf", "rcp", "sqrt", "copysign"}
)  # fmt: skip
"""Opcodes whose emitters keep scalars scalar."""
