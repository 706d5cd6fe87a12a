"""What kind of work a PTX instruction is: its class, and its floating-point operations.

The classes are coarser than opcodes and finer than Nsight Compute's; `SASS_GROUP` says which of its groups
each would count in. One PTX instruction may become several of the machine, or none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from tessera.emulator.ptx import Instruction

FLOAT = {
    "f32": "fp32", "tf32": "fp32", "f32x2": "fp32", "f64": "fp64",
    "f16": "fp16", "f16x2": "fp16", "bf16": "fp16", "bf16x2": "fp16",
}  # fmt: skip
"""Precision by type: both 16-bit formats run in the same pipe."""
SPACES = ("global", "shared", "local", "const", "param")
OPERATION = {"add": "add", "sub": "add", "mul": "mul", "fma": "fma", "mad": "fma"}
FLOPS = {"add": 1, "mul": 1, "fma": 2}
"""Floating-point operations of one element."""
CLASSES: dict[str, str] = {
    **dict.fromkeys(("rcp", "sqrt", "rsqrt", "ex2", "lg2", "sin", "cos", "tanh"), "special function"),
    **dict.fromkeys(("setp", "set", "selp", "slct", "testp"), "compare and select"),
    **dict.fromkeys(("add", "sub", "mul", "mad", "mul24", "mad24", "div", "rem", "abs", "neg", "min", "max",
                     "sad", "addc", "subc", "madc", "dp4a", "dp2a", "fma", "copysign"), "integer"),
    **dict.fromkeys(("and", "or", "xor", "not", "cnot", "lop3", "shl", "shr", "shf", "popc", "clz", "brev",
                     "bfind", "fns", "bfe", "bfi", "bmsk", "szext", "prmt"), "bits"),
    **dict.fromkeys(("vadd", "vsub", "vabsdiff", "vmin", "vmax", "vshl", "vshr", "vmad", "vset", "vadd2",
                     "vsub2", "vavrg2", "vabsdiff2", "vmin2", "vmax2", "vset2", "vadd4", "vsub4", "vavrg4",
                     "vabsdiff4", "vmin4", "vmax4", "vset4"), "integer"),
    **dict.fromkeys(("cvt", "cvta"), "conversion"),
    "mov": "move",
    **dict.fromkeys(("bra", "brx", "call", "ret", "exit", "trap", "brkpt"), "control"),
    **dict.fromkeys(("bar", "barrier"), "barrier"),
    **dict.fromkeys(("membar", "fence"), "fence"),
    "shfl": "shuffle",
    **dict.fromkeys(("vote", "match", "redux", "activemask", "elect"), "vote"),
    **dict.fromkeys(("ldmatrix", "stmatrix", "movmatrix"), "matrix move"),
    "mbarrier": "mbarrier",
    "cp": "asynchronous copy",
}  # fmt: skip
"""Class by opcode, for those that no type or state space says more about."""
SASS_GROUP = {
    "fp16": "fp16", "fp32": "fp32", "fp64": "fp64", "special function": "misc", "integer": "integer",
    "bits": "bit", "conversion": "conversion", "move": "misc", "compare and select": "misc",
    "load": "memory", "store": "memory", "atomic": "memory", "control": "control", "barrier": "misc",
    "fence": "misc", "shuffle": "inter_thread_communication", "vote": "inter_thread_communication",
    "tensor": "misc", "matrix": "memory", "mbarrier": "memory", "asynchronous": "memory", "other": "misc",
}  # fmt: skip
"""Nsight Compute's `smsp__sass_thread_inst_executed_op_<group>_pred_on` by the class, or its first word."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one execution of an instruction is."""

    kind: str
    """Its class: `fp32 fma`, `load global`, `integer`…"""
    precision: str = ""
    """`fp16`, `fp32` or `fp64` of floating-point arithmetic; the type of A for products of matrices."""
    thread_flops: int = 0
    """Floating-point operations of each thread."""
    warp_flops: int = 0
    """Operations of products of matrices, of each warp."""

    @property
    def group(self) -> str:
        """Nsight Compute's group of instructions."""
        return SASS_GROUP.get(self.kind) or SASS_GROUP[self.kind.split(" ", 1)[0]]


def work_of(instruction: Instruction) -> Work:
    """Class and operations of an instruction as it is written."""
    return _work(instruction.opcode, instruction.modifiers)


@cache
def _work(opcode: str, modifiers: tuple[str, ...]) -> Work:
    if opcode in ("ld", "ldu", "st", "atom", "red", "multimem"):
        name = {"ld": "load", "ldu": "load", "st": "store"}.get(opcode, "atomic")
        return Work(f"{name} {_space(modifiers)}")
    if opcode in ("mma", "wgmma", "wmma"):
        return _matrix_work(opcode, modifiers)
    kind = next((m for m in reversed(modifiers) if m in FLOAT), None)
    if kind is not None and opcode not in ("cvt", "mov", "setp", "set", "selp", "slct", "testp", "redux"):
        return _float_work(opcode, kind)
    return Work(CLASSES.get(opcode, "other"))


def _space(modifiers: tuple[str, ...]) -> str:
    names = (m.split("::")[0] for m in modifiers)
    return next((n for n in names if n in SPACES), "generic")


def _float_work(opcode: str, kind: str) -> Work:
    precision = FLOAT[kind]
    if CLASSES.get(opcode) == "special function" or opcode == "div":
        return Work("special function", precision)
    operation = OPERATION.get(opcode)
    if operation is None:
        return Work(f"{precision} other", precision)
    elements = 2 if kind.endswith("x2") else 1
    return Work(f"{precision} {operation}", precision, thread_flops=FLOPS[operation] * elements)


def _matrix_work(opcode: str, modifiers: tuple[str, ...]) -> Work:
    """Products of m×k by k×n take 2mnk operations; a warpgroup's four warps share them.

    Source: PTX ISA 8.8, sections 9.7.14 and 9.7.15. A sparse product counts like the dense one.
    """
    if opcode == "wgmma" and "mma_async" not in modifiers:
        return Work("matrix move")
    if opcode == "wmma" and "mma" not in modifiers:
        return Work("matrix move")
    shape = next((m for m in modifiers if m[0] == "m" and m[1:2].isdigit() and "k" in m), "m0n0k0")
    m, rest = shape[1:].split("n")
    n, k = rest.split("k")
    kinds = [x for x in modifiers if x in _ELEMENTS]
    # mma: D A B C; wgmma: D A B; wmma of f16 names D and C alone.
    a = kinds[1] if len(kinds) > 2 else "f16"
    operations = 2 * int(m) * int(n) * int(k)
    return Work("tensor", a, warp_flops=operations // (4 if opcode == "wgmma" else 1))


_ELEMENTS = frozenset(
    {"f16", "bf16", "tf32", "f32", "f64", "s8", "u8", "s4", "u4", "b1", "s32", "e4m3", "e5m2", "e3m2", "e2m3",
     "e2m1"}
)  # fmt: skip
