"""LLVM IR of functions on matrix fragments: loops, registers by number, elements, and 8 by 8 tiles.

Such a function depends on the form of an instruction only, not on the kernel that uses it: where registers
lie it is told by a table of offsets in the warp's area. So it is compiled once, with optimization, and kept.

A fragment's elements are *staged* as f64, which holds every shorter type exactly, in the order in which the
product reads them:

- A: for 8 rows, for each register along k, for each element of the register: lane after lane. Lane
  4 * row + member holds column 4 * elements * register + elements * member + element.
- B: the same for 8 columns, but all columns of one k side by side, the even ones first.
- Sums: the even columns of 8 rows, then the odd ones; lane after lane.

Source: PTX ISA 8.8, section 9.7.14.5 (matrix fragments for `mma`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tessera.emulator import translate_floats as floats
from tessera.emulator.emit_ir import WARP, Value, Writer, constant
from tessera.emulator.matrices import ELEMENT_BITS, SMALL_FLOATS

MINIS = {"e4m3": (0, 3, 4), **SMALL_FLOATS}
"""Floats read as f16 with another exponent: bits below them, of the fraction, and of the exponent."""
FLOATS = ("f16", "bf16", "tf32", "f32", "f64", "e5m2", *MINIS)
V8, V4 = "<8 x double>", "<4 x double>"
COLUMNS = (0, 2, 4, 6, 1, 3, 5, 7)
"""Order of columns in a staged row of B: those of a lane's first element, then those of its second."""
TILE_BYTES = 64 * 8
"""Staged sums of 8 by 8 elements."""
VECTOR_BYTES = WARP * 8
"""One staged element of every lane."""


def register_bits(kind: str) -> int:
    """Width of the registers that hold elements of a kind."""
    return 64 if kind == "f64" else 32


def elements_of(kind: str) -> int:
    """Staged elements of a register; the 32 bits of a `b1` register count as one."""
    return 1 if kind == "b1" else register_bits(kind) // ELEMENT_BITS[kind]


class Code(Writer):
    """Writes one function `void @name(ptr %warp, ptr %table, i32 %mask, …)`."""

    def __init__(self) -> None:
        super().__init__()
        self.entry: list[str] = []
        """Lines at the function's begin: its buffers."""

    # -- loops and memory -----------------------------------------------------------------------

    @contextmanager
    def loop(self, count: int | str) -> Iterator[str]:
        """Code that runs `count` times, at least once; gives the number of the round, an i64."""
        head = self.name("loop")[1:]
        self.raw(f"  br label %{head}.pre")
        self.label(f"{head}.pre")
        self.raw(f"  br label %{head}")
        self.label(head)
        self.raw(f"  %{head}.i = phi i64 [ 0, %{head}.pre ], [ %{head}.n, %{head}.next ]")
        yield f"%{head}.i"
        self.raw(f"  br label %{head}.next")
        self.label(f"{head}.next")
        self.raw(f"  %{head}.n = add nuw nsw i64 %{head}.i, 1")
        self.raw(f"  %{head}.more = icmp ult i64 %{head}.n, {count}")
        self.raw(f"  br i1 %{head}.more, label %{head}, label %{head}.end")
        self.label(f"{head}.end")

    def space(self, size: int) -> str:
        """A buffer of the function's own."""
        name = self.name("buffer")
        self.entry.append(f"  {name} = alloca [{size} x i8], align 64")
        return name

    def at(self, base: str, *terms: tuple[str | int, int]) -> str:
        """The pointer `base` plus numbers (i64) times bytes."""
        for index, size in terms:
            offset = index * size if isinstance(index, int) else self.let(f"mul nuw i64 {index}, {size}")
            base = self.let(f"getelementptr i8, ptr {base}, i64 {offset}")
        return base

    def fetch(self, place: str, bits: int, count: int = WARP, align: int = 64) -> Value:
        """A vector of integers from memory."""
        return Value(self.let(f"load <{count} x i{bits}>, ptr {place}, align {align}"), bits, vector=True)

    def keep(self, place: str, value: Value) -> None:
        """A vector of 32 to memory."""
        value = self.spread(value)
        self.raw(f"  store {value.type} {value.text}, ptr {place}, align 64")

    def slot(self, first: int, index: str | int) -> str:
        """Where register `first + index` of the table lies."""
        place = self.let(f"getelementptr i32, ptr %table, i64 {first}")
        place = self.let(f"getelementptr i32, ptr {place}, i64 {index}")
        offset = self.let(f"load i32, ptr {place}, align 4")
        return self.let(f"getelementptr i8, ptr %warp, i32 {offset}")

    def put(self, place: str, value: Value) -> None:
        """Write a register, for the lanes in `%mask`."""
        old = self.fetch(place, value.bits)
        self.keep(place, self.select(self.lane_predicate("%mask"), value, old))

    def shuffled(self, value: Value, order: list[int]) -> Value:
        """The elements in another order."""
        picks = ", ".join(f"i32 {i}" for i in order)
        text = self.let(
            f"shufflevector {value.type} {value.text}, {value.type} poison, <{WARP} x i32> <{picks}>"
        )
        return Value(text, value.bits, vector=True)

    # -- elements -------------------------------------------------------------------------------

    def stage(self, register: Value, kind: str, target: str, *, negated: bool = False) -> None:
        """Write a register's elements to a staging buffer, or floats of the other sign."""
        for i, piece in enumerate(unpacked(self, register, kind)):
            wide = piece if kind == "b1" else to_f64(self, piece, kind)
            if negated:
                wide = self.binary("xor", wide, constant(1 << 63, 64))
            self.keep(self.at(target, (i, VECTOR_BYTES)), wide)

    def stage_columns(self, register: Value, kind: str, target: str) -> None:
        """The same for a register of B."""
        order = [4 * column + member for member in range(4) for column in COLUMNS]
        self.stage(self.shuffled(register, order), kind, target)

    # -- tiles ----------------------------------------------------------------------------------

    def tile(self, a: str, b: str, sums: str, steps: int, elements: int, form: str) -> None:
        """Write the sums of 8 rows by 8 columns.

        Args:
            a: Staged A, 8 rows.
            b: Staged B, 8 columns.
            sums: Where they are staged.
            steps: Registers along k.
            elements: Of a register.
            form: A key of `FORMS`.
        """
        kind, _, _ = FORMS[form]
        size = 4 if kind == "i32" else 8
        totals = self.zeros(form)
        with self.loop(steps) as step:
            a_step, b_step = (self.at(p, (step, elements * VECTOR_BYTES)) for p in (a, b))
            for member in range(4):
                for i in range(elements):
                    column = self.at(b_step, (i, VECTOR_BYTES), (member, 8 * size))
                    for row, total in enumerate(totals):
                        place = self.at(a_step, (i, VECTOR_BYTES), (4 * row + member, size))
                        self.add_product(form, total, place, column)
        self.spill(totals, form, sums)

    def zeros(self, form: str) -> list[str]:
        """Eight rows of eight sums that begin."""
        kind, neutral, _ = FORMS[form]
        totals = [self.space(64) for _ in range(8)]
        for total in totals:
            self.raw(f"  store <8 x {kind}> {neutral}, ptr {total}, align 64")
        return totals

    def add_product(self, form: str, total: str, x: str, y: str) -> None:
        """Add an element of A times a row of B to a row of sums: pointers all."""
        kind, _, lines = FORMS[form]
        old = self.let(f"load <8 x {kind}>, ptr {total}, align 64")
        row = self.let(f"load <8 x {kind}>, ptr {y}, align 32")
        one = self.let(f"load {kind}, ptr {x}, align 4")
        vector = self.let(f"insertelement <8 x {kind}> poison, {kind} {one}, i32 0")
        same = self.let(
            f"shufflevector <8 x {kind}> {vector}, <8 x {kind}> poison, <8 x i32> zeroinitializer"
        )
        last = ""
        for line in lines:
            last = self.let(line.format(x=same, y=row, total=old, last=last))
        self.raw(f"  store <8 x {kind}> {last}, ptr {total}, align 64")

    def spill(self, totals: list[str], form: str, target: str) -> None:
        """Stage eight rows of sums as f64."""
        kind, _, _ = FORMS[form]
        for row, total in enumerate(totals):
            value = self.let(f"load <8 x {kind}>, ptr {total}, align 64")
            if kind == "i32":
                value = self.let(f"sitofp <8 x i32> {value} to {V8}")
            for half in (0, 1):
                order = ", ".join(f"i32 {4 * half + i}" for i in range(4))
                part = self.let(f"shufflevector {V8} {value}, {V8} poison, <4 x i32> <{order}>")
                place = self.at(target, (row, 4 * 8), (half, VECTOR_BYTES))
                self.raw(f"  store {V4} {part}, ptr {place}, align 32")


def _bitwise(operation: str) -> tuple[str, str, tuple[str, ...]]:
    count = "call <8 x i32> @llvm.ctpop.v8i32(<8 x i32> {last})"
    return "i32", "zeroinitializer", (
        f"{operation} <8 x i32> {{x}}, {{y}}", count, "add <8 x i32> {total}, {last}",
    )  # fmt: skip


FORMS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # The products of short types are exact in f64: to fuse them with the sum changes nothing.
    "exact": ("double", "zeroinitializer",
              (f"fmul contract {V8} {{x}}, {{y}}", f"fadd contract {V8} {{total}}, {{last}}")),
    "double": ("double", "zeroinitializer", (f"fmul {V8} {{x}}, {{y}}", f"fadd {V8} {{total}}, {{last}}")),
    "xor": _bitwise("xor"), "and": _bitwise("and"),
}  # fmt: skip
"""How elements become sums: type of the sums, where they begin, and the lines that add one product."""
DECLARATIONS = "declare <8 x i32> @llvm.ctpop.v8i32(<8 x i32>)"


# -- elements -----------------------------------------------------------------------------------


def unpacked(w: Writer, register: Value, kind: str) -> list[Value]:
    """The elements of a register: f32 (f64 for f64), or 32-bit integers; `b1` as it is."""
    if kind in ("b1", "f64", "f32", "s32"):
        return [register]
    bits = ELEMENT_BITS[kind]
    found = []
    for i in range(register.bits // bits):
        piece = w.binary("lshr", register, constant(i * bits, register.bits)) if i else register
        found.append(_element(w, w.resize(piece, bits) if bits != 4 else _nibble(w, piece, kind), kind))
    return found


def _nibble(w: Writer, piece: Value, kind: str) -> Value:
    top = w.binary("shl", piece, constant(28, 32))
    return w.binary("ashr" if kind == "s4" else "lshr", top, constant(28, 32))


def _element(w: Writer, piece: Value, kind: str) -> Value:
    if kind in ("f16", "bf16"):
        return floats.to_f32(w, piece, kind)
    if kind == "tf32":
        # Tensor cores ignore the low bits of tf32 operands.
        return w.binary("and", piece, constant(~0x1FFF, 32))
    if kind == "e5m2":
        return floats.to_f32(w, w.binary("shl", w.resize(piece, 16), constant(8, 16)), "f16")
    if kind in MINIS:
        return _mini(w, piece, kind)
    return w.resize(piece, 32, signed=kind.startswith("s"))


def _mini(w: Writer, piece: Value, kind: str) -> Value:
    """f32 of a float of at most 8 bits: its fields are those of an f16 whose exponent is too small."""
    low, fraction, exponent = MINIS[kind]
    size = fraction + exponent
    wide = w.binary("lshr", w.resize(piece, 16), constant(low, 16))
    magnitude = w.binary(
        "shl", w.binary("and", wide, constant((1 << size) - 1, 16)), constant(10 - fraction, 16)
    )
    sign = w.binary("shl", w.binary("and", wide, constant(1 << size, 16)), constant(15 - size, 16))
    small = floats.to_f32(w, w.binary("or", magnitude, sign), "f16")
    scale = constant((127 + 15 - ((1 << exponent - 1) - 1)) << 23, 32)
    value = w.floating("fmul {t} {0}, {1}", "float", small, scale)
    if kind != "e4m3":
        return value
    nan = w.compare("eq", magnitude, constant(0x7F << 7, 16))
    return w.select(nan, constant(0x7FFFFFFF, 32), value)


def to_f64(w: Writer, piece: Value, kind: str) -> Value:
    """An unpacked element as f64; exact."""
    if kind == "f64":
        return piece
    if kind in FLOATS:
        return w.float_cast("fpext", piece, "float", "double", 64)
    return w.float_cast("sitofp", piece, "i32", "double", 64)


def finished(w: Writer, total: Value, c: Value, kinds: tuple[str, str], *, saturates: bool) -> Value:
    """The f64 sum of products and the accumulator, in the type of D.

    Args:
        w: Where the code goes.
        total: f64.
        c: An unpacked element.
        kinds: Of C and of D.
        saturates: Integer sums stop at the ends of their range instead of wrapping.
    """
    if kinds[1] == "s32":
        whole = w.float_cast("fptosi", total, "double", "i32", 32)
        return w.intrinsic("sadd.sat", [whole, c]) if saturates else w.binary("add", whole, c)
    return finished_from_f64(w, total, to_f64(w, c, kinds[0]), kinds[1])


def finished_from_f64(w: Writer, total: Value, c: Value, kind: str) -> Value:
    """The sum of two f64, rounded to a floating type."""
    result = floats.f64_to(w, w.floating("fadd {t} {0}, {1}", "double", total, c), kind)
    if kind == "f32":
        nan = floats.compare(w, "uno", "f32", result, result)
        result = w.select(nan, constant(floats.NAN["f32"], 32), result)
    return result


def packed(w: Writer, elements: list[Value], kind: str) -> list[Value]:
    """Registers of elements."""
    if ELEMENT_BITS[kind] != 16:
        return elements
    return [floats.pack(w, low, high) for low, high in zip(elements[::2], elements[1::2], strict=True)]
