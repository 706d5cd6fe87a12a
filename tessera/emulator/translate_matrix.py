"""`mma.sync` and the moves of matrix fragments, in LLVM IR.

Products and their sums are computed in f64 in the order of k, the accumulator last, and rounded once, as the
lockstep interpreter does; integers are exact. Which lane holds what is known when the code is written, so
every operand of a product is a constant permutation of a register.

Source: PTX ISA 8.8, section 9.7.14 (warp-level matrix instructions).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.emulator import fragments
from tessera.emulator import translate_floats as floats
from tessera.emulator.emit_ir import WARP, Value, Writer, constant, lanes_of
from tessera.emulator.matrices import ELEMENT_BITS, shape_of, types_of
from tessera.emulator.ptx import Instruction, Operand, Vector
from tessera.emulator.translate import unsupported
from tessera.emulator.translate_memory import V64, hosts, space_of

if TYPE_CHECKING:
    from tessera.emulator.lanes import Array
    from tessera.emulator.translate import Translator

FLOAT_KINDS = ("f16", "bf16", "tf32", "f32", "f64")
INTEGER_KINDS = ("s8", "u8", "s4", "u4", "s32")
Layout = tuple["Array", "Array"]


def multiply(t: Translator, instruction: Instruction) -> None:
    """`mma.sync`."""
    d, a, b, c = types_of(instruction)
    m, n, k = shape_of(instruction)
    known = FLOAT_KINDS if d in FLOAT_KINDS else INTEGER_KINDS
    unknown = any(kind not in known for kind in (a, b, c))
    if unknown or (m == 8 and k == 4 and a == "f16") or "popc" in instruction.modifiers:
        raise unsupported(instruction)
    values = [
        [t.spread(t.read(r, f"b{_register_bits(kind)}")) for r in _elements(operand)]
        for operand, kind in zip(instruction.operands[1:4], (a, b, c), strict=True)
    ]
    name = "mma_" + "_".join(map(str, (m, n, k, d, a, b, c, int("satfinite" in instruction.modifiers))))
    if name not in t.functions:
        t.functions[name] = _function(t, name, instruction, [len(v) for v in values])
    width = _register_bits(d)
    targets = _elements(instruction.operands[0])
    kind = f"<{WARP} x i{width}>"
    result = "{ " + ", ".join([kind] * len(targets)) + " }"
    arguments = ", ".join(f"{v.type} {v.text}" for group in values for v in group)
    found = t.let(f"call {result} @{name}({arguments})")
    for i, target in enumerate(targets):
        t.write(target, Value(t.let(f"extractvalue {result} {found}, {i}"), width, vector=True))


def _elements(operand: Operand) -> tuple[Operand, ...]:
    return operand.elements if isinstance(operand, Vector) else (operand,)


def _register_bits(kind: str) -> int:
    return 64 if kind == "f64" else 32


def _function(t: Translator, name: str, instruction: Instruction, counts: list[int]) -> str:
    """The text of a function from the registers of A, B and C to those of D."""
    d, a, b, c = types_of(instruction)
    m, n, k = shape_of(instruction)
    w = Writer()
    w.declared = t.declared
    groups = []
    parameters = []
    for label, kind, count in zip("abc", (a, b, c), counts, strict=True):
        bits = _register_bits(kind)
        group = [Value(f"%{label}{i}", bits, vector=True) for i in range(count)]
        parameters += [f"{v.type} {v.text}" for v in group]
        groups.append(group)
    exact = d in FLOAT_KINDS
    elements = [_unpacked(w, group, kind) for group, kind in zip(groups, (a, b, c), strict=True)]
    per_a, per_b = (_register_bits(kind) // ELEMENT_BITS[kind] for kind in (a, b))
    layouts = fragments.operand_a(m, k, per_a), fragments.operand_b(k, n, per_b)
    rows, columns = fragments.accumulator(m, n)
    picks = _Picks(
        w, elements[0], elements[1], layouts, exact=exact, wide="satfinite" in instruction.modifiers
    )
    results = []
    for e in range(rows.shape[1]):
        row, column = rows[:, e].tolist(), columns[:, e].tolist()
        total = picks.sum(row, column, k)
        results.append(_finished(w, total, elements[2][e], (c, d), wide=picks.wide))
    packed = _packed(w, results, d)
    kind = f"<{WARP} x i{_register_bits(d)}>"
    result = "{ " + ", ".join([kind] * len(packed)) + " }"
    last = "poison"
    for i, value in enumerate(packed):
        last = w.let(f"insertvalue {result} {last}, {kind} {value.text}, {i}")
    body = "\n".join(w.lines)
    head = f"define internal {result} @{name}({', '.join(parameters)}) noinline"
    return f"{head} {{\n{body}\n  ret {result} {last}\n}}"


class _Picks:
    """Sums of products of elements that other lanes hold."""

    def __init__(
        self,
        w: Writer,
        a: list[Value],
        b: list[Value],
        layouts: tuple[Layout, Layout],
        *,
        exact: bool,
        wide: bool,
    ) -> None:
        self.w, self.values = w, (a, b)
        self.exact, self.wide = exact, wide and not exact
        self.homes = tuple(_homes(layout) for layout in layouts)
        self.made: dict[tuple[int, tuple[tuple[int, int], ...]], Value] = {}

    def sum(self, rows: list[int], columns: list[int], depth: int) -> Value:
        """The sum over k of `A[row, k] * B[k, column]`, with each lane's row and column."""
        w = self.w
        total = lanes_of([0] * WARP, 64 if self.exact or self.wide else 32)
        for k in range(depth):
            x = self.pick(0, [(row, k) for row in rows])
            y = self.pick(1, [(k, column) for column in columns])
            if self.exact:
                product = w.floating("fmul {t} {0}, {1}", "double", x, y)
                total = w.floating("fadd {t} {0}, {1}", "double", total, product)
            else:
                total = w.binary("add", total, w.binary("mul", x, y))
        return total

    def pick(self, side: int, places: list[tuple[int, int]]) -> Value:
        """Each lane's element of A (0) or B (1) at its place, as f64 or as an integer."""
        found = tuple(self.homes[side][place] for place in places)
        key = (side, found)
        if key not in self.made:
            w, values = self.w, self.values[side]
            result: Value | None = None
            for element in sorted({e for _, e in found}):
                value = values[element]
                order = ", ".join(f"i32 {lane if e == element else i}" for i, (lane, e) in enumerate(found))
                text = w.let(
                    f"shufflevector {value.type} {value.text}, {value.type} poison, <{WARP} x i32> <{order}>"
                )
                part = Value(text, value.bits, vector=True)
                here = lanes_of([int(e == element) for _, e in found], 1)
                result = part if result is None else w.select(here, part, result)
            assert result is not None  # noqa: S101 - every lane has an element
            if self.exact and result.bits == 32:
                result = w.float_cast("fpext", result, "float", "double", 64)
            elif self.wide:
                result = w.resize(result, 64, signed=True)
            self.made[key] = result
        return self.made[key]


def _homes(layout: Layout) -> dict[tuple[int, int], tuple[int, int]]:
    """Lane and element number of each place in a matrix."""
    rows, columns = layout
    return {
        (int(rows[lane, e]), int(columns[lane, e])): (lane, e)
        for lane in range(WARP)
        for e in range(rows.shape[1])
    }


def _unpacked(w: Writer, registers: list[Value], kind: str) -> list[Value]:
    """The elements of a fragment: f32 (f64 for f64), or 32-bit integers."""
    bits = ELEMENT_BITS[kind]
    found = []
    for register in registers:
        for i in range(register.bits // bits):
            piece = w.binary("lshr", register, constant(i * bits, register.bits)) if i else register
            piece = w.resize(piece, bits)
            if kind in ("f16", "bf16"):
                piece = floats.to_f32(w, piece, kind)
            elif kind == "tf32":
                # Tensor cores ignore the low bits of tf32 operands.
                piece = w.binary("and", piece, constant(~0x1FFF, 32))
            elif kind in INTEGER_KINDS:
                piece = w.resize(piece, 32, signed=kind.startswith("s"))
            found.append(piece)
    return found


def _finished(w: Writer, total: Value, c: Value, kinds: tuple[str, str], *, wide: bool) -> Value:
    """The sum with the accumulator, in the type of D."""
    if kinds[1] not in FLOAT_KINDS:
        if not wide:
            return w.binary("add", total, c)
        total = w.binary("add", total, w.resize(c, 64, signed=True))
        total = w.intrinsic("smax", [total, constant(-(1 << 31), 64)])
        return w.resize(w.intrinsic("smin", [total, constant((1 << 31) - 1, 64)]), 32)
    if c.bits == 32:
        c = w.float_cast("fpext", c, "float", "double", 64)
    total = w.floating("fadd {t} {0}, {1}", "double", total, c)
    return floats.f64_to(w, total, kinds[1])


def _packed(w: Writer, elements: list[Value], kind: str) -> list[Value]:
    if ELEMENT_BITS[kind] != 16:
        return elements
    return [floats.pack(w, low, high) for low, high in zip(elements[::2], elements[1::2], strict=True)]


# -- moves --------------------------------------------------------------------------------------


def _count(instruction: Instruction) -> int:
    return next(int(m[1:]) for m in instruction.modifiers if m in ("x1", "x2", "x4"))


def _plain(instruction: Instruction) -> None:
    if "m8n8" not in instruction.modifiers or instruction.modifiers[-1] != "b16":
        raise unsupported(instruction)


def _row_addresses(t: Translator, instruction: Instruction, address: Operand, count: int) -> str:
    """Checked host addresses of the matrices' rows, as the first `8 * count` lanes give them."""
    place = "shared" if space_of(instruction) == "shared" else "global"
    whole = t.mask
    t.mask = t.let(f"and i32 {whole}, {(1 << 8 * count) - 1}", "m")
    found, _ = hosts(t, instruction, address, place, 16)
    t.mask = whole
    return found


def _of_row(t: Translator, rows: str, picks: list[int], offsets: list[int]) -> Value:
    order = ", ".join(f"i32 {p}" for p in picks)
    moved = t.let(f"shufflevector {V64} {rows}, {V64} poison, <{WARP} x i32> <{order}>")
    return t.binary("add", Value(moved, 64, vector=True), lanes_of(offsets, 64))


def load_matrix(t: Translator, instruction: Instruction) -> None:
    """`ldmatrix`."""
    _plain(instruction)
    count = _count(instruction)
    rows = _row_addresses(t, instruction, instruction.operands[1], count)
    for i, target in enumerate(_elements(instruction.operands[0])):
        t.write(target, _loaded(t, rows, 8 * i, transposed="trans" in instruction.modifiers))


def _loaded(t: Translator, rows: str, first: int, *, transposed: bool) -> Value:
    lanes = range(WARP)
    if not transposed:
        places = _of_row(t, rows, [first + lane // 4 for lane in lanes], [lane % 4 * 4 for lane in lanes])
        return _read(t, places, 32)
    halves = []
    for half in (0, 1):
        picks = [first + lane % 4 * 2 + half for lane in lanes]
        halves.append(_read(t, _of_row(t, rows, picks, [lane // 4 * 2 for lane in lanes]), 16))
    return floats.pack(t, *halves)


def _read(t: Translator, places: Value, bits: int) -> Value:
    t.helpers.add(f"read_{bits}")
    text = t.let(f"call <{WARP} x i{bits}> @read_{bits}({V64} {places.text}, i32 {t.mask})")
    return Value(text, bits, vector=True)


def store_matrix(t: Translator, instruction: Instruction) -> None:
    """`stmatrix`."""
    _plain(instruction)
    count = _count(instruction)
    values = [t.spread(t.read(v, "b32")) for v in _elements(instruction.operands[1])]
    rows = _row_addresses(t, instruction, instruction.operands[0], count)
    lanes = range(WARP)
    for i, value in enumerate(values):
        if "trans" not in instruction.modifiers:
            picks, offsets = [8 * i + lane // 4 for lane in lanes], [lane % 4 * 4 for lane in lanes]
            _written(t, _of_row(t, rows, picks, offsets), value)
            continue
        for half in (0, 1):
            picks = [8 * i + lane % 4 * 2 + half for lane in lanes]
            part = t.resize(t.binary("lshr", value, constant(16 * half, 32)), 16)
            _written(t, _of_row(t, rows, picks, [lane // 4 * 2 for lane in lanes]), part)


def _written(t: Translator, places: Value, value: Value) -> None:
    t.helpers.add(f"write_{value.bits}")
    t.raw(f"  call void @write_{value.bits}({V64} {places.text}, i32 {t.mask}, {value.type} {value.text})")


def move_matrix(t: Translator, instruction: Instruction) -> None:
    """`movmatrix.trans`."""
    _plain(instruction)
    value = t.spread(t.read(instruction.operands[1], "b32"))
    halves = []
    for half in (0, 1):
        # Element (row, column) of the result lies at (column, row) of the source.
        homes = [((lane % 4 * 2 + half) * 4 + lane // 4 // 2, lane // 4 % 2) for lane in range(WARP)]
        order = ", ".join(f"i32 {home}" for home, _ in homes)
        moved = t.let(
            f"shufflevector {value.type} {value.text}, {value.type} poison, <{WARP} x i32> <{order}>"
        )
        shifts = lanes_of([16 * side for _, side in homes], 32)
        halves.append(t.resize(t.binary("lshr", Value(moved, 32, vector=True), shifts), 16))
    t.write(instruction.operands[0], floats.pack(t, *halves))


TABLE = {"mma": multiply, "ldmatrix": load_matrix, "stmatrix": store_matrix, "movmatrix": move_matrix}
