"""Registers, special registers and operands of a kernel, as values in LLVM IR."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from tessera.emulator.device_runtime import ARRIVED, WORKSPACE
from tessera.emulator.emit_ir import IOTA, WARP, Value, Writer, constant, lanes_of
from tessera.emulator.layout import BLOCK, CONTEXT, TID, WARP_ID, Layout
from tessera.emulator.ptx import (
    TYPE_BYTES,
    Address,
    Function,
    Immediate,
    Instruction,
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
UNIFORM_SPECIALS = {
    **{f"%ntid.{a}": ("ctx", CONTEXT[f"block_{a}"]) for a in "xyz"},
    **{f"%nctaid.{a}": ("ctx", CONTEXT[f"grid_{a}"]) for a in "xyz"},
    **{f"%ctaid.{a}": ("blk", BLOCK[f"ctaid_{a}"]) for a in "xyz"},
    **{f"%clusterid.{a}": ("blk", BLOCK[f"clusterid_{a}"]) for a in "xyz"},
    **{f"%cluster_ctaid.{a}": ("blk", BLOCK[f"cluster_ctaid_{a}"]) for a in "xyz"},
    **{f"%cluster_nctaid.{a}": ("ctx", CONTEXT[f"cluster_{a}"]) for a in "xyz"},
    "%cluster_ctarank": ("blk", BLOCK["rank"]),
    "%is_explicit_cluster": ("ctx", CONTEXT["explicit"]),
    "%nwarpid": ("ctx", CONTEXT["warps"]),
    "%dynamic_smem_size": ("ctx", CONTEXT["dynamic_bytes"]),
    "%total_smem_size": ("ctx", CONTEXT["shared_bytes"]),
    "%aggr_smem_size": ("ctx", CONTEXT["shared_bytes"]),
}
"""Special registers that are one number for a whole block, and where it is kept."""
FIXED_SPECIALS = {
    "%smid": 0, "%nsmid": 1, "%gridid": 1,
    "%current_graph_exec": 0,
    **{f"%reserved_smem_offset_{part}": 0 for part in ("begin", "end", "cap")},
    **{f"%envreg{i}": 0 for i in range(32)}, **{f"%pm{i}": 0 for i in range(8)},
}  # fmt: skip
LANE_SPECIALS: dict[str, Callable[[int], int]] = {
    "%laneid": lambda lane: lane,
    "%lanemask_eq": lambda lane: 1 << lane,
    "%lanemask_lt": lambda lane: (1 << lane) - 1,
    "%lanemask_le": lambda lane: (2 << lane) - 1,
    "%lanemask_gt": lambda lane: 0xFFFFFFFF & ~((2 << lane) - 1),
    "%lanemask_ge": lambda lane: 0xFFFFFFFF & ~((1 << lane) - 1),
}
CONSTANTS = {"WARP_SZ": WARP}
"""Numbers that PTX has names for."""
CLOCKS = ("%clock", "%clock64", "%clock_hi", "%globaltimer", "%globaltimer_lo", "%globaltimer_hi")


class Registers(Writer):
    """Writes one kernel's function; knows what each register holds at the place where it writes.

    Args:
        function: The kernel.
        layout: Where registers lie that live across basic blocks.
        symbols: Place of each global variable in the table of addresses.
    """

    def __init__(self, function: Function, layout: Layout, symbols: dict[str, int]) -> None:
        super().__init__()
        self.function = function
        self.layout = layout
        self.symbols = symbols
        self.params: dict[str, int] = {}
        """Offset of each kernel parameter in the parameter buffer."""
        self.param_pointers = False
        """Whether the address of a parameter is taken."""
        self.functions: dict[str, int] = {}
        """What a pointer to each function is."""
        self.local: dict[str, int] = {}
        """Offset of each local variable."""
        self.shared: dict[str, int] = {}
        """Offset of each shared variable."""
        self.fixed: dict[str, Value] = {}
        """Registers that every lane of a block has alike for ever."""
        self.current: dict[str, Value] = {}
        """Registers as the basic block has them so far."""
        self.written: set[str] = set()
        self.mask = "-1"
        self.guard: Value | None = None
        self.mask_vector: Value | None = None

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
        if name.startswith("%nclusterid.") or name == "%cluster_nctarank":
            return self._of_clusters(name)
        if name in WORKSPACE and ARRIVED in self.symbols:
            address = self.address_of(ARRIVED)
            upper = name == WORKSPACE[0]
            return self.resize(self.binary("lshr", address, constant(32, 64)) if upper else address, 32)
        if name in FIXED_SPECIALS:
            return constant(FIXED_SPECIALS[name], 32)
        if name in LANE_SPECIALS:
            return lanes_of([LANE_SPECIALS[name](lane) for lane in range(WARP)], 32)
        if name == "%warpid":
            place = self.let(f"getelementptr i8, ptr %warp, i64 {WARP_ID}")
            return Value(self.let(f"load i32, ptr {place}"), 32, vector=False)
        if name.startswith("%globaltimer"):
            return self.nanoseconds(upper=name.endswith("_hi"))
        if name in CLOCKS:
            return self.clock(upper=name.endswith("_hi"))
        return None

    def clock(self, *, upper: bool) -> Value:
        """The block's step counter, one more at each look, so that no two are alike."""
        place = self.let(f"getelementptr i8, ptr %blk, i64 {BLOCK['steps']}")
        now = Value(self.let(f"load i64, ptr {place}"), 64, vector=False)
        self.raw(f"  store i64 {self.binary('add', now, constant(1, 64)).text}, ptr {place}")
        return self.binary("lshr", now, constant(32, 64)) if upper else now

    def nanoseconds(self, *, upper: bool) -> Value:
        """The host's clock that never goes back."""
        place = self.let(f"getelementptr i8, ptr %warp, i64 {self.layout.slot('%time', 128)}")
        self.declared.add("declare i32 @clock_gettime(i32, ptr)")
        self.let(f"call i32 @clock_gettime(i32 {time.CLOCK_MONOTONIC}, ptr {place})")
        seconds = Value(self.let(f"load i64, ptr {place}"), 64, vector=False)
        rest = self.let(f"getelementptr i64, ptr {place}, i32 1")
        total = self.binary("mul", seconds, constant(1_000_000_000, 64))
        total = self.binary("add", total, Value(self.let(f"load i64, ptr {rest}"), 64, vector=False))
        return self.binary("lshr", total, constant(32, 64)) if upper else total

    def _of_clusters(self, name: str) -> Value:
        """How many clusters a grid has along an axis; how many blocks a cluster has."""
        sizes = {a: self.resize(self.header("ctx", CONTEXT[f"cluster_{a}"]), 32) for a in "xyz"}
        if name == "%cluster_nctarank":
            return self.binary("mul", self.binary("mul", sizes["x"], sizes["y"]), sizes["z"])
        grid = self.resize(self.header("ctx", CONTEXT[f"grid_{name[-1]}"]), 32)
        return self.binary("udiv", grid, sizes[name[-1]])

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
        if name in self.params:
            self.param_pointers = True
            start = self.header("ctx", CONTEXT["params"])
            return self.binary("add", start, constant(self.params[name], 64))
        if name in self.functions:
            return constant(self.functions[name], 64)
        if name in CONSTANTS:
            return constant(CONSTANTS[name], 64)
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
