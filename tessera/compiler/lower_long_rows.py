"""Long rows that are few: each is cut into parts, so that all of a GPU folds it, and the parts are folded.

Both steps go in a fixed order, so that results do not vary from run to run.
"""

from __future__ import annotations

from tessera.compiler.body import WORKSPACE, Body
from tessera.compiler.codegen import lower_with
from tessera.compiler.geometry import WARP, Geometry
from tessera.compiler.groups import Group, Grouping
from tessera.compiler.lower_rows import Fold, Row, fold_of
from tessera.compiler.operators import POSITIONS, REDUCTIONS
from tessera.compiler.scalar_math import combine, compute_type
from tessera.compiler.teams import Block, Columns
from tessera.compiler.variant import Variant
from tessera.compiler.writer import Name
from tessera.program.dim import Dim, ceildiv, minimum
from tessera.program.dtype import DType, f32, f64, i64
from tessera.program.graph import Graph
from tessera.program.program import Compare

LONG_ROW = 16384
"""From this length on a second kernel costs less than idle multiprocessors."""
FEW_BLOCKS = 128
"""Up to this many blocks of whole rows, multiprocessors would be idle."""
PART = 4096
"""Elements of a part, at least: some loads for each thread."""
MOST_PARTS = 1024
"""Parts of a row: eight blocks for each multiprocessor of the largest GPUs."""

_IN_MEMORY: dict[str, DType] = {"float32": f32, "float64": f64, "int64": i64}


def long_row_variants(graph: Graph, group: Group, grouping: Grouping) -> tuple[Variant, ...]:
    """The kernels of a reduction whose rows may be long and few; nothing where they surely are not.

    One more way, without a guard, has to come behind them.
    """
    assert group.core is not None  # noqa: S101 - the caller looked
    node = graph.nodes[group.core]
    if node.op not in REDUCTIONS - POSITIONS or group.at_load:
        return ()
    fold = fold_of(node, graph.nodes[node.inputs[0]].shape)
    if not fold.adjacent:
        return ()
    blocks = fold.outer * (1 if fold.inner == 1 else ceildiv(fold.inner, WARP))
    asked = (Compare(lhs=LONG_ROW, op="<=", rhs=fold.length), Compare(lhs=blocks, op="<=", rhs=FEW_BLOCKS))
    verdicts = [_decided(compare) for compare in asked]
    if False in verdicts:
        return ()
    guard = tuple(compare for compare, verdict in zip(asked, verdicts, strict=True) if verdict is None)
    core = group.core
    parts = minimum(ceildiv(fold.length, PART), MOST_PARTS)
    partial = _IN_MEMORY[compute_type(node.dtype)]
    kernels = (
        lower_with(
            graph, group, grouping, lambda body: fold_parts(body, group.root, core, parts),
            label="parts", out=partial,
        ),
        lower_with(
            graph, group, grouping, lambda body: fold_of_parts(body, group.root, core, parts),
            label="whole", workspace=partial,
        ),
    )  # fmt: skip
    size = fold.outer * parts * fold.inner * partial.itemsize
    return (Variant(kernels, guard, size),)


def _decided(compare: Compare) -> bool | None:
    """Whether a condition on fixed sizes holds; None while a size is open."""
    if isinstance(compare.lhs, int) and isinstance(compare.rhs, int):
        return compare.lhs <= compare.rhs
    return None


def _team(body: Body, fold: Fold, length: Dim) -> Block | Columns:
    kind = Block if fold.inner == 1 else Columns
    return kind(body, fold.outer, length, fold.inner)


def _place(body: Body, team: Block | Columns, parts: Dim, part: Name) -> Name:
    """Where the workspace holds a part of the team's row."""
    writer = body.writer
    row = writer.add(writer.mul(team.outer, writer.size(parts)), part)
    return writer.add(writer.mul(row, writer.size(team.sizes[2])), team.inner)


def fold_parts(body: Body, root: int, core: int, parts: Dim) -> Geometry:
    """A block folds each part of a row (or of 32 neighbouring columns) and writes it to the workspace."""
    node = body.graph.nodes[core]
    fold = fold_of(node, body.graph.nodes[node.inputs[0]].shape)
    team = _team(body, fold, fold.length)
    team.parts = parts
    row = Row(body, root, core, fold, team)
    with team.rows():
        total = row.folded("sum" if node.op == "mean" else node.op, str)
        with team.leader():
            body.writer.line(f"out[{_place(body, team, parts, team.part)}] = {total}")
    return team.geometry


def fold_of_parts(body: Body, root: int, core: int, parts: Dim) -> Geometry:
    """A block folds each row's parts, and what is fused behind is computed."""
    node = body.graph.nodes[core]
    fold = fold_of(node, body.graph.nodes[node.inputs[0]].shape)
    team = _team(body, fold, parts)
    row = Row(body, root, core, fold, team)
    op = "sum" if node.op == "mean" else node.op
    memory = body.pointer(WORKSPACE)
    with team.rows():
        total = row.begin(op)
        with team.elements() as r:
            part = body.writer.let("p", f"{memory}[{_place(body, team, parts, r)}]")
            body.writer.line(f"{total} = {combine(op, total, part, row.kind)}")
        team.share(op, total, row.kind)
        with team.leader():
            row.finish(total)
    return team.geometry
