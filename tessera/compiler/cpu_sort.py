"""Sorting lines on a CPU by the digits of keys, last to first, where keys have 32 bits or fewer.

A key and its position are one integer of 64 bits. Each pass keeps the order of equal digits, so that equals
stay in order. Longer keys, short lines and the few first of a line are left to a heap.
Source: D. E. Knuth, "The Art of Computer Programming", volume 3, 5.2.5, algorithm R.
"""

from __future__ import annotations

from tessera.compiler.body import SECOND_WORKSPACE, WORKSPACE, Body
from tessera.compiler.codegen import lower_group, lower_with
from tessera.compiler.geometry import Geometry
from tessera.compiler.groups import Group, Grouping
from tessera.compiler.lower_lines import Lines
from tessera.compiler.variant import Variant
from tessera.compiler.writer import Name
from tessera.program.dim import product
from tessera.program.dtype import DType, bool_, i64
from tessera.program.graph import Graph
from tessera.program.program import Compare

LEAST = 128
"""From this length on, counting digits takes less time than a heap."""
FEW = 8
"""If so many times fewer elements are kept than there are, a heap of those is faster."""
_DIGITS = 256


def digit_sort_variants(graph: Graph, group: Group, grouping: Grouping) -> tuple[Variant, ...]:
    """The ways to sort lines by their length; nothing where a heap is best."""
    assert group.core is not None  # noqa: S101 - the caller looked
    core, node = group.core, graph.nodes[group.core]
    source = graph.nodes[node.inputs[0]]
    axis = int(str(node.attrs["axis"]))
    length, kept = source.shape[axis], node.shape[axis]
    if group.at_load or source.dtype.bits > 32:
        return ()
    if kept != length and not (isinstance(length, int) and isinstance(kept, int) and kept * FEW > length):
        return ()
    if isinstance(length, int) and length < LEAST:
        return ()
    guard = () if isinstance(length, int) else (Compare(lhs=LEAST, op="<=", rhs=length),)
    kernel = lower_with(
        graph, group, grouping, lambda body: sort_by_digits(body, group.root, core),
        label="digits", workspace=i64, kind="cpu",
    )  # fmt: skip
    size = product(source.shape) * i64.itemsize
    ways = [Variant((kernel,), guard, workspace_bytes=size, second_bytes=size)]
    if guard:
        ways.append(Variant((lower_group(graph, group, grouping, "cpu"),)))
    return tuple(ways)


def sort_by_digits(body: Body, root: int, core: int) -> Geometry:
    """A work item a line."""
    lines, writer = Lines(body, root, core), body.writer
    buffers = [body.pointer(WORKSPACE), body.pointer(SECOND_WORKSPACE)]
    length, dtype = writer.size(lines.length), lines.source.dtype
    passes = _passes(dtype)
    with writer.block("for item in range(begin, end)"):
        outer, inner = lines.split(Name("item", writer.depth))
        base = writer.let("base", f"item * {length}")
        table = writer.let("table", "table_int64()")
        with writer.block(f"for t in range({_DIGITS * passes})"):
            writer.line(f"{table}[t] = 0")
        with writer.block(f"for r in range({length})"):
            r = Name("r", writer.depth)
            value = lines.value(outer, r, inner)
            key = _key(value, dtype, descending=bool(lines.node.attrs["descending"]))
            writer.line(f"k = ({key} << 32) | r")
            writer.line(f"{buffers[0]}[{base} + r] = k")
            for digit in range(passes):
                writer.line(f"{table}[{_bucket('k', digit)}] += 1")
        for digit in range(passes):
            writer.line("total = int64(0)")
            with writer.block(f"for t in range({_DIGITS * digit}, {_DIGITS * (digit + 1)})"):
                writer.line(f"count = {table}[t]")
                writer.line(f"{table}[t] = total")
                writer.line("total += count")
        for digit in range(passes):
            source, target = buffers[digit % 2], buffers[1 - digit % 2]
            with writer.block(f"for r in range({length})"):
                writer.line(f"k = {source}[{base} + r]")
                writer.line(f"bucket = {_bucket('k', digit)}")
                writer.line(f"place = {table}[bucket]")
                writer.line(f"{table}[bucket] = place + 1")
                writer.line(f"{target}[{base} + place] = k")
        with writer.block(f"for r in range({writer.size(lines.node.shape[lines.axis])})"):
            lines.store(
                f"({buffers[passes % 2]}[{base} + r] & 0xffffffff)", outer, Name("r", writer.depth), inner
            )
    return Geometry((lines.outer * lines.inner, 1, 1))


def _passes(dtype: DType) -> int:
    return 4 if dtype.is_float else 1 if dtype == bool_ else dtype.bits // 8


def _bucket(key: str, digit: int) -> str:
    """Where the table counts a digit of a key."""
    return f"(({key} >> {32 + 8 * digit}) & 255) + {_DIGITS * digit}"


def _key(value: Name, dtype: DType, *, descending: bool) -> str:
    """A number of as many bits as are sorted by, in the order of the values; NaN is the largest."""
    if dtype.is_float:
        text = f"order_f32({value})"
    else:
        text = f"({value} + {1 << (dtype.bits - 1)})" if dtype.kind == "int" else str(value)
    most = (1 << (8 * _passes(dtype))) - 1
    return f"({most} - {text})" if descending else text
