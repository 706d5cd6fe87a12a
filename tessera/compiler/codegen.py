"""One group of operators to the text of one kernel."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from tessera.compiler import scalar_math
from tessera.compiler.body import Body
from tessera.compiler.geometry import Geometry
from tessera.compiler.groups import Group, Grouping
from tessera.compiler.kernel_source import KernelSource
from tessera.compiler.lower_attention import attention_cuda
from tessera.compiler.lower_lines import LINES
from tessera.compiler.lower_matmul import matmul_cpu, matmul_cuda
from tessera.compiler.lower_pointwise import (
    lanes_of,
    pointwise_cpu,
    pointwise_cpu_rows,
    pointwise_cuda,
    pointwise_lanes,
)
from tessera.compiler.lower_rows import fold_of, rows_kernel
from tessera.compiler.lower_transpose import brings_axis_last, transpose_cuda
from tessera.compiler.operand_map import OperandMap
from tessera.compiler.operators import LEAVES, VIEWS
from tessera.compiler.teams import BLOCK_TEAM, WARP_TEAM
from tessera.compiler.tiling import Values, label_of, make_tile_space, tilings_of, whole
from tessera.language.tuning import Space, Value
from tessera.program.dim import Dim
from tessera.program.dtype import DType
from tessera.program.errors import SourceLocation
from tessera.program.graph import Graph

_NUMBA_NAMES = ("float32", "float64", "int64", "int32", "int16", "int8", "uint32", "uint8")
# Importing numba to ask `device` costs 0.4 s, which a build answered from the cache need not pay.
_DEVICE_CALL = re.compile(
    r"(?<!\.)\b(udiv|urem|div_f32|div_f64|exp_f32|peak_f32|peak_f64|seen_f32|rolled|\w+_to_f32|f32_to_\w+)\("
)
_MATH_CALL = re.compile(
    r"\b((?:floor|ceil|rint|trunc|exp2|expm1|log2|log1p|sin|cos|pow|fmod)_f(?:32|64)"
    r"|(?:floordiv|mod|pow)_i64)\("
)
_VECTOR_CALL = re.compile(r"\b((?:tanh|log|log2|log1p|erf|expm1|sin|cos)_f32)\(")
"""What a CPU has in a form that loops around it are run in vectors with."""
_LANE_CALL = re.compile(r"\b((?:read|write)_lanes_\d+)\(")
_FOLD_CALL = re.compile(r"\b((?:add|mul|max|min)_f(?:32|64)|strip_\w+|table_int64|order_f32)\(")
_MAX_NAME = 56


@dataclass(frozen=True, slots=True)
class LoweredGroup:
    """A kernel without a name, and what to launch it with."""

    kind: Literal["cuda", "cpu"]
    ops: tuple[str, ...]
    """What it computes, in words."""
    reads: tuple[int, ...]
    """Nodes whose memory the first arguments point at; the output's comes next."""
    sizes: tuple[Dim, ...]
    """The int64 arguments after the pointers."""
    args: tuple[str, ...]
    """Kinds of all arguments."""
    lines: tuple[tuple[str, SourceLocation | None], ...]
    """Body of the function."""
    geometry: Geometry
    shared_bytes: int
    label: str = ""
    """Tells it from the group's other kernels, in its name."""
    least_cc: tuple[int | str, ...] = (7, 0)
    """Lowest architecture that has its instructions."""
    to_workspace: bool = False
    """Whether it writes the memory between the group's kernels, not the root's."""
    to_second: bool = False
    """Whether that is the second such memory."""
    maps: tuple[OperandMap, ...] = ()
    """Tensor maps, after the pointers."""

    @property
    def key(self) -> object:
        """Equal for groups that one kernel can serve."""
        return self.args, tuple(text for text, _ in self.lines), self.geometry.threads, self.label

    def source(self, name: str, note: str = "") -> KernelSource:
        """The kernel called `name`; `note` says what was chosen for it."""
        body = _library_calls("\n".join(f"    {_with_colon(text)}" for text, _ in self.lines), self.kind)
        parameters = [f"in{i}" for i in range(len(self.reads))] + ["out"]
        parameters += [f"map{i}" for i in range(len(self.maps))]
        parameters += [f"n{i}" for i in range(len(self.sizes))]
        if self.kind == "cpu":
            parameters += ["begin", "end"]
        head = [f'"""{" ".join(self.ops)}, for {self.kind}."""', "", *self._imports(body), "", ""]
        head.append(f"def {name}({', '.join(parameters)}):")
        locations = {len(head) + 1 + i: where for i, (_, where) in enumerate(self.lines) if where is not None}
        readable = (True,) * len(self.reads) + (False,) * (len(self.args) - len(self.reads))
        return KernelSource(
            name=name,
            target=self.kind,
            source="\n".join(head) + "\n" + body + "\n",
            args=self.args,
            noalias_const=readable,
            threads=self.geometry.threads,
            shared_bytes=self.shared_bytes,
            dynamic_shared_bytes=self.geometry.dynamic_shared_bytes,
            least_cc=self.least_cc,
            note=note,
            # Numba lowers tanh by compute capability where fast math is on.
            cc_dependent=self.kind == "cuda" and "math.tanh(" in body,
            locations=locations,
        )

    def _imports(self, body: str) -> list[str]:
        used = set(re.findall(r"\b[a-z_]\w*", body))
        numba = [name for name in _NUMBA_NAMES if name in used]
        vectors = set(_VECTOR_CALL.findall(body)) if self.kind == "cpu" else set()
        own = {
            "cpu_folds": _FOLD_CALL.findall(body) if self.kind == "cpu" else [],
            "cpu_math": sorted(vectors),
            "device": _DEVICE_CALL.findall(body),
            "lane_access": _LANE_CALL.findall(body),
            "device_math": sorted(set(_MATH_CALL.findall(body)) - vectors),
        }
        lines = ["import math", ""] if "math" in used else []
        if self.kind == "cuda":
            numba.insert(0, "cuda")
        if numba:
            lines.append(f"from numba import {', '.join(numba)}")
        if "gpu." in body:
            lines += ["", "from tessera import gpu"]
        if any(own.values()):
            lines.append("")
        for module, names in own.items():
            if names:
                lines.append(f"from tessera.compiler.{module} import {', '.join(sorted(set(names)))}")
        return lines


def _library_calls(body: str, kind: Literal["cuda", "cpu"]) -> str:
    """`exp_f32`, `tanh_f64` and the like as the target computes them best."""
    # A GPU's own are inlined; a CPU's are calls, which keep loops from being vectorized.
    kept = "64" if kind == "cpu" else "(?:32|64)"
    return re.sub(rf"\b(exp|log|tanh|erf)_f{kept}\(", r"math.\1(", body)


def lower_group(
    graph: Graph,
    group: Group,
    grouping: Grouping,
    kind: Literal["cuda", "cpu"],
    tiling: Values | None = None,
) -> LoweredGroup:
    """The kernel of a group that is not left to a BLAS.

    Args:
        graph: The graph.
        group: What the kernel computes.
        grouping: All groups.
        kind: Kind of target.
        tiling: What was tuned, for the templates of `plain_space`.

    Raises:
        CompileError: The group holds something that no kernel computes.
    """
    body = Body(graph, frozenset(group.members), grouping.owner)
    geometry = _write(body, group, kind, tiling)
    if kind == "cpu" and group.core is None and body.writer.divisions:
        body = Body(graph, frozenset(group.members), grouping.owner)
        geometry = pointwise_cpu_rows(body, group.root)
    pointers = [graph.nodes[node].dtype for node in body.reads]
    lowered = _lowered(body, group, kind, geometry, [*pointers, graph.nodes[group.root].dtype])
    return lowered if tiling is None else replace(lowered, label=label_of(tiling))


def plain_space(graph: Graph, group: Group) -> Space | None:
    """What a GPU kernel of elements or rows may be tuned over; None where its template has one shape."""
    if group.core is None:
        if brings_axis_last(graph, group.root):
            return None
        return make_tile_space(POINTWISE_TILINGS, tilings_of(POINTWISE_TILINGS))
    node = graph.nodes[group.core]
    if node.op in ("matmul", "attention") or (node.op, "cuda") in LINES:
        return None
    if fold_of(node, graph.nodes[node.inputs[0]].shape).inner != 1:
        return None
    return make_tile_space(ROW_TILINGS, tilings_of(ROW_TILINGS))


POINTWISE_TILINGS: dict[str, tuple[Value, ...]] = {
    "THREADS": (64, 128, 256, 512, 1024),
    "PER_THREAD": (1, 2, 4, 8),
}
"""Threads of a block; elements of a thread."""
ROW_TILINGS: dict[str, tuple[Value, ...]] = {
    "TEAM": (WARP_TEAM, BLOCK_TEAM),
    "THREADS": (32, 64, 128, 256, 512, 1024),
}
"""Who folds a row; threads of a block."""


def lower_with(
    graph: Graph,
    group: Group,
    grouping: Grouping,
    write: Callable[[Body], Geometry],
    *,
    label: str,
    least_cc: tuple[int | str, ...] = (7, 0),
    out: DType | None = None,
    workspace: DType | None = None,
    to_second: bool = False,
    kind: Literal["cuda", "cpu"] = "cuda",
) -> LoweredGroup:
    """A kernel of a group, written by a template of one's own.

    Args:
        graph: The graph.
        group: What the kernel computes.
        grouping: All groups.
        write: Writes the kernel's text.
        label: Tells it from the group's other kernels.
        least_cc: Lowest architecture that has its instructions.
        out: Element type of the workspace, if it writes there.
        workspace: Element type of the workspace, if it reads there.
        to_second: Whether it writes the second workspace.
        kind: Kind of target.
    """
    body = Body(graph, frozenset(group.members), grouping.owner)
    geometry = write(body)
    pointers = [
        workspace if node < 0 and workspace is not None else graph.nodes[node].dtype for node in body.reads
    ]
    lowered = _lowered(body, group, kind, geometry, [*pointers, out or graph.nodes[group.root].dtype])
    return replace(lowered, label=label, least_cc=least_cc, to_workspace=out is not None, to_second=to_second)


def _lowered(
    body: Body, group: Group, kind: Literal["cuda", "cpu"], geometry: Geometry, pointers: list[DType]
) -> LoweredGroup:
    return LoweredGroup(
        kind=kind,
        ops=tuple(body.graph.nodes[node].op for node in group.members),
        reads=tuple(body.reads),
        sizes=tuple(body.writer.sizes),
        args=(
            *map(scalar_math.pointer_kind, pointers),
            *("tensor_map",) * len(body.maps),
            *("i64",) * len(body.writer.sizes),
        ),
        maps=tuple(body.maps),
        lines=tuple(body.writer.finish()),
        geometry=geometry,
        shared_bytes=body.shared_bytes,
    )


def _write(body: Body, group: Group, kind: Literal["cuda", "cpu"], tiling: Values | None = None) -> Geometry:
    if group.core is None and kind == "cuda" and brings_axis_last(body.graph, group.root):
        return transpose_cuda(body, group.root)
    if group.core is None and tiling is not None:
        threads, each = whole(tiling, "THREADS"), whole(tiling, "PER_THREAD")
        return pointwise_cuda(body, group.root, threads=threads, per_thread=each)
    if group.core is None and kind == "cuda":
        lanes = lanes_of(body, group.root, group.members)
        return pointwise_cuda(body, group.root) if lanes is None else pointwise_lanes(body, group.root, lanes)
    if group.core is None:
        return pointwise_cpu(body, group.root)
    if body.graph.nodes[group.core].op == "matmul":
        return (matmul_cuda if kind == "cuda" else matmul_cpu)(body, group.root, group.core)
    if body.graph.nodes[group.core].op == "attention":
        return attention_cuda(body, group.root, group.core)
    template = LINES.get((body.graph.nodes[group.core].op, kind))
    if template is not None:
        return template(body, group.root, group.core)
    return rows_kernel(body, group.root, group.core, kind, tiling)


def step_name(step: int, ops: tuple[str, ...]) -> str:
    """What a step is called in tuning records, whatever its program is called: `0_matmul_add_relu`."""
    name = str(step)
    for word in _words(ops):
        if len(name) + 1 + len(word) > _MAX_NAME:
            break
        name = f"{name}_{word}"
    return name


def kernel_stem(program: str, step: int) -> str:
    """What the names of a step's kernels begin with."""
    stem = re.sub(r"\W", "_", program, flags=re.ASCII) or "program"
    if stem[0].isdigit():
        stem = f"_{stem}"
    return f"{stem}_{step}"


def _words(ops: tuple[str, ...]) -> list[str]:
    telling = [op for op in ops if op not in VIEWS | LEAVES | {"cast"}] or list(ops)
    return [op for i, op in enumerate(telling) if i == 0 or op != telling[i - 1]]


def kernel_name(program: str, step: int, ops: tuple[str, ...]) -> str:
    """A C identifier that says what the kernel does: `forward_0_matmul_add_relu`."""
    name = kernel_stem(program, step)
    stem = name[: -1 - len(str(step))]
    for word in _words(ops):
        if len(name) + 1 + len(word) > max(_MAX_NAME, len(stem) + 24):
            break
        name = f"{name}_{word}"
    return name


_HEADER = re.compile(r"\s*(if|for|while) ")


def _with_colon(text: str) -> str:
    return f"{text}:" if _HEADER.match(text) else text
