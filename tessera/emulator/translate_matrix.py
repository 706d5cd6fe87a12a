"""`mma.sync` in LLVM IR: a call of the function for its form, with a table of where its registers lie.

Source: PTX ISA 8.8, section 9.7.14 (warp-level matrix instructions).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tessera.emulator.emit_ir import Value
from tessera.emulator.matrices import ELEMENT_BITS, plain_kind, shape_of, types_of
from tessera.emulator.matrix_code import elements_of, register_bits
from tessera.emulator.matrix_product import Product, product_text
from tessera.emulator.matrix_quads import quads_name, quads_text
from tessera.emulator.matrix_sparse import SparseProduct, sparse_text
from tessera.emulator.ptx import Immediate, Instruction, Operand, Register, Vector
from tessera.emulator.sparsity import Metadata, is_sparse
from tessera.emulator.translate import unsupported
from tessera.program.errors import CompileError

if TYPE_CHECKING:
    from tessera.emulator.translate import Translator

INTEGERS = ("s8", "u8", "s4", "u4")
EIGHT_BITS = ("e4m3", "e5m2", "e3m2", "e2m3", "e2m1")
SUMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("f16", *EIGHT_BITS), ("f16", "f32")),
    **dict.fromkeys(("bf16", "tf32"), ("f32",)), "f64": ("f64",),
    **dict.fromkeys((*INTEGERS, "b1"), ("s32",)),
}  # fmt: skip
"""Types of C and D by that of A."""


def registers_of(operand: Operand) -> tuple[Operand, ...]:
    """The registers of a fragment."""
    return operand.elements if isinstance(operand, Vector) else (operand,)


def form_of(instruction: Instruction, kinds: tuple[str, str, str, str]) -> str:
    """How the products of D, A, B and C of these kinds are added.

    Raises:
        CompileError: There is no such product.
    """
    d, a, b, c = kinds
    known = {c, d} <= set(SUMS.get(a, ())) and (a == b or ELEMENT_BITS[a] == ELEMENT_BITS[b])
    mixed = a != b and not ({a, b} <= set(EIGHT_BITS) or {a, b} <= set(INTEGERS))
    if not known or mixed or not plain_kind(instruction):
        raise unsupported(instruction)
    if a == "b1":
        return "and" if "and" in instruction.modifiers else "xor"
    return "double" if a == "f64" else "exact"


def multiply(t: Translator, instruction: Instruction) -> None:
    """`mma.sync`."""
    kinds = types_of(instruction)
    d, a, b, c = kinds
    m, n, k = shape_of(instruction)
    form = form_of(instruction, kinds)
    if is_sparse(instruction):
        _multiply_sparse(t, instruction, kinds)
        return
    if (m, n, k) == (8, 8, 4) and a == "f16":
        _multiply_quads(t, instruction, c, d)
        return
    halves, steps = m // 8, k // (4 * (32 if a == "b1" else elements_of(a)))
    product = Product(halves, n // 8, steps, d, a, b, c, form, "satfinite" in instruction.modifiers)
    groups = [registers_of(o) for o in instruction.operands[:4]]
    if [len(groups[i]) for i in (1, 2, 3, 0)] != list(product.counts):
        raise unsupported(instruction)
    ordered = [groups[1][row + halves * step] for row in range(halves) for step in range(steps)]
    call_product(t, product, (ordered, groups[2], groups[3], groups[0]))


def call_product(t: Translator, product: Product, groups: tuple[Iterable[Operand], ...]) -> None:
    """Call the function of a product.

    Args:
        t: The kernel's translator.
        product: What is computed.
        groups: Registers of A, B, C and D, in the order that `Product` says.
    """
    a, b, c, d = groups
    places = [slot_of(t, r, product.a) for r in a] + [slot_of(t, r, product.b) for r in b]
    places += [slot_of(t, r, product.c) for r in c]
    places += [slot_of(t, r, product.d, written=True) for r in d]
    call_library(t, product.name, lambda: product_text(product), places)


def call_library(
    t: Translator, name: str, text: Callable[[], str], places: list[int], more: str = "", result: str = "void"
) -> str:
    """Call a function that is compiled apart; returns the name of its result, if it has one.

    Args:
        t: The kernel's translator.
        name: Of the function.
        text: Its module.
        places: Where its registers lie.
        more: Further arguments with their types, each after a comma.
        result: LLVM's type of what it returns.
    """
    if name not in t.libraries:
        t.libraries[name] = text()
    types = "".join(f", {part.split()[0]}" for part in more.split(", ") if part)
    t.declared.add(f"declare {result} @{name}(ptr, ptr, i32{types})")
    call = f"call {result} @{name}(ptr %warp, ptr {table_of(t, places)}, i32 {t.mask}{more})"
    if result != "void":
        return t.let(call)
    t.raw(f"  {call}")
    return ""


def _multiply_sparse(t: Translator, instruction: Instruction, kinds: tuple[str, str, str, str]) -> None:
    """`mma.sp`: half of A's elements, and where they belong."""
    metadata = Metadata.of(instruction)
    d, a, b, c = kinds
    _, _, k = shape_of(instruction)
    steps = k // (8 * elements_of(a))
    product = Product(2, 1, steps, d, a, b, c, "exact", "satfinite" in instruction.modifiers)
    selector = instruction.operands[5]
    sparse = SparseProduct(product, k, int(selector.value) if isinstance(selector, Immediate) else 0)
    target, *groups = (registers_of(o) for o in instruction.operands[:5])
    counts = product.counts
    if [len(g) for g in (*groups[:3], target)] != [counts[0], 2 * counts[1], *counts[2:]]:
        raise unsupported(instruction)
    ordered = [groups[0][row + 2 * step] for row in range(2) for step in range(steps)]
    places = [slot_of(t, groups[3][0], "s32")]
    for group, kind in ((ordered, a), (groups[1], b), (groups[2], c)):
        places += [slot_of(t, r, kind) for r in group]
    places += [slot_of(t, r, d, written=True) for r in target]
    call_library(t, sparse.name, lambda: sparse_text(sparse, metadata), places)


def _multiply_quads(t: Translator, instruction: Instruction, c: str, d: str) -> None:
    """`m8n8k4` of f16: four products at once."""
    first, second = (m for m in instruction.modifiers if m in ("row", "col"))
    target, *groups = (registers_of(o) for o in instruction.operands[:4])
    places = [
        slot_of(t, r, kind) for group, kind in zip(groups, ("f16", "f16", c), strict=True) for r in group
    ]
    places += [slot_of(t, r, d, written=True) for r in target]
    if len(places) != 4 + sum(8 * ELEMENT_BITS[kind] // 32 for kind in (c, d)):
        raise unsupported(instruction)
    layouts = (first, second)
    call_library(t, quads_name(layouts, c, d), lambda: quads_text(layouts, c, d), places)


def slot_of(t: Translator, operand: Operand, kind: str, *, written: bool = False) -> int:
    """Offset in the warp's area where a register lies; one that has no place there is written to one.

    A matrix instruction is a basic block of its own, so what it reads is there already, but for what is the
    same for ever, and literals.
    """
    bits = register_bits(kind)
    if written and (not isinstance(operand, Register) or operand.name == "_"):
        return t.layout.slot("%nowhere", 64)
    if isinstance(operand, Register) and t.special(operand.name) is None:
        if t.width(operand.name) != bits:
            raise CompileError(
                f"{t.function.name}: {operand.name} has {t.width(operand.name)} bits; "
                f"a fragment of {kind} has registers of {bits}"
            )
        place = t.layout.slot(operand.name, bits)
        if operand.name in t.fixed and not written:
            _put(t, place, t.fixed[operand.name])
        return place
    place = t.layout.slot(f"%literal{len(t.layout.slots)}", bits)
    _put(t, place, t.read(operand, f"b{bits}"))
    return place


def _put(t: Translator, place: int, value: Value) -> None:
    value = t.spread(value)
    pointer = t.let(f"getelementptr i8, ptr %warp, i64 {place}")
    t.raw(f"  store {value.type} {value.text}, ptr {pointer}, align 64")


def table_of(t: Translator, places: list[int]) -> str:
    """A global array of offsets."""
    return "@" + t.tables.setdefault(tuple(places), f"places{len(t.tables)}")


TABLE = {"mma": multiply}
