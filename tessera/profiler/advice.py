"""What counted lines say about a kernel, in plain words: the worst first."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tessera.profiler.source_lines import SourceFiles

if TYPE_CHECKING:
    from tessera.emulator.counters import Access, Counters, LineCounts

WARP = 32


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing that a line costs without need, and what may be done."""

    kind: str
    """`uncoalesced`, `bank-conflicts`, `divergence`, `idle-threads`, `float64`, `local-memory` or
    `contention`."""
    kernel: str
    file: str
    line: int
    what: str
    """What was counted."""
    remedy: str
    """What to try."""
    cost: float
    """Passes through memory or instructions of warps that it costs; only to compare lines with."""

    @property
    def text(self) -> str:
        """Both in one sentence."""
        return f"{self.what}: {self.remedy}"


def advise(counters: Counters, files: SourceFiles) -> tuple[Advice, ...]:
    """What stands out among the lines of a kernel, the costliest first.

    Args:
        counters: Of one kernel.
        files: Where the source is read, for the names of arrays.
    """
    found = []
    for line in counters.lines():
        text = files.line(line.file, line.line)
        for rule in RULES:
            found += rule(line, text, counters)
    return tuple(sorted(found, key=lambda a: (-a.cost, a.line, a.kind)))


def _advice(kind: str, counters: Counters, line: LineCounts, what: str, remedy: str, cost: float) -> Advice:
    kernels = dict.fromkeys(i.kernel for i in line.instructions)
    kernel = next(iter(kernels), ", ".join(counters.kernels))
    return Advice(kind, kernel, line.file, line.line, what, remedy, cost)


# -- memory -------------------------------------------------------------------------------------


def _uncoalesced(line: LineCounts, text: str, counters: Counters) -> list[Advice]:
    found = []
    for operations, verb in ((("ld",), "loads"), (("st",), "stores"), (("atom", "red"), "updates")):
        access = line.memory("global", *operations)
        if not access.requests or access.passes < 1.2 * access.ideal or access.excess < WARP // 8:
            continue
        each, ideal = access.passes / access.requests, access.ideal / access.requests
        name, index = _subscript(text, write=operations != ("ld",))
        what = f"{name} {verb} {each:.3g} sectors per request, ideal {ideal:.3g}"
        remedy = _remedy_of_stride(access, index)
        found.append(_advice("uncoalesced", counters, line, what, remedy, access.excess))
    return found


def _remedy_of_stride(access: Access, index: int) -> str:
    ratio = access.passes / max(access.ideal, 1)
    spread = access.passes / max(access.threads, 1)
    if ratio < 1.5:
        return "rows do not begin at multiples of 32 bytes; pad them, or shift the first element"
    if spread > 0.8 and index > 1:
        return "threads of a warp walk down a column; swap the indices or transpose through shared memory"
    if spread > 0.8:
        return "neighbouring threads reach far apart; let thread i take element i"
    return f"neighbouring threads are about {ratio:.0f} elements apart; let them take neighbouring elements"


def _conflicts(line: LineCounts, text: str, counters: Counters) -> list[Advice]:
    found = []
    for operations, verb in ((("ld",), "loads"), (("st",), "stores")):
        access = line.memory("shared", *operations)  # type: ignore[arg-type]
        if not access.requests or access.passes < 1.2 * access.ideal:
            continue
        each, ideal = access.passes / access.requests, access.ideal / access.requests
        name, index = _subscript(text, write=operations != ("ld",), last=True)
        what = f"{name} {verb} in {each:.3g} wavefronts per request, ideal {ideal:.3g}"
        remedy = "threads of a warp meet in the same bank; " + (
            "pad each row of the shared array by one element"
            if index > 1
            else "let neighbouring threads take neighbouring elements"
        )
        found.append(_advice("bank-conflicts", counters, line, what, remedy, access.excess))
    return found


def _contention(line: LineCounts, text: str, counters: Counters) -> list[Advice]:
    del text
    access = line.memory("shared", "atom", "red")
    if not access.requests or access.passes < 2 * access.ideal:
        return []
    what = f"atomics take {access.passes / access.requests:.3g} turns per request"
    remedy = "threads of a warp update the same place; add up in the warp first, or spread the places"
    return [_advice("contention", counters, line, what, remedy, access.excess)]


def _local(line: LineCounts, text: str, counters: Counters) -> list[Advice]:
    del text
    access = line.memory("local")
    if not access.requests:
        return []
    what = f"{access.requests:,} requests go to local memory, which is as far as global memory"
    remedy = "an array of a thread's own stays in registers if its indices are known when it is compiled"
    return [_advice("local-memory", counters, line, what, remedy, access.passes)]


# -- control flow and arithmetic ----------------------------------------------------------------


def _divergence(line: LineCounts, text: str, counters: Counters) -> list[Advice]:
    del text
    if not line.branches or line.divergent < 0.1 * line.branches or line.divergent < 2:
        return []
    share = 100 * line.divergent / line.branches
    what = f"{share:.0f} % of the branches of warps here divide the warp"
    remedy = (
        "let the 32 threads of a warp decide alike, such as by a multiple of 32 instead of single threads"
    )
    return [_advice("divergence", counters, line, what, remedy, 2.0 * line.divergent)]


def _idle(line: LineCounts, text: str, counters: Counters) -> list[Advice]:
    del text
    active = line.threads_per_instruction
    if active is None or active > WARP / 2 or line.executed < 0.02 * counters.executed:
        return []
    what = f"{active:.3g} of 32 threads are active in the instructions of this line"
    remedy = "it runs after a branch that few threads take, or in blocks of less than 32 threads"
    return [_advice("idle-threads", counters, line, what, remedy, line.executed - line.threads / WARP)]


def _float64(line: LineCounts, text: str, counters: Counters) -> list[Advice]:
    del text
    doubles = line.count("fp64")
    narrow = any(i.kind == "conversion" and _between_floats(i.mnemonic) for i in line.instructions)
    if not doubles or not narrow:
        return []
    what = f"{doubles:,} instructions compute in float64 and convert from or to float32"
    remedy = "write constants as float32(0.5) and call float32 functions; float64 is 2 to 64 times slower"
    return [_advice("float64", counters, line, what, remedy, 16.0 * doubles)]


def _between_floats(mnemonic: str) -> bool:
    return mnemonic.startswith("cvt") and mnemonic.endswith((".f64.f32", ".f32.f64"))


Rule = Callable[["LineCounts", str, "Counters"], list[Advice]]
RULES: Sequence[Rule] = (_uncoalesced, _conflicts, _contention, _local, _divergence, _idle, _float64)
"""What is looked for in each line."""


# -- names --------------------------------------------------------------------------------------


def _subscript(text: str, *, write: bool, last: bool = False) -> tuple[str, int]:
    """The array element that a line of Python loads or stores, and how many indices it has.

    `this line` where there is none, or several that could be meant.
    """
    try:
        tree = ast.parse(_statement(text))
    except SyntaxError:
        return "this line", 0
    context = ast.Store if write else ast.Load
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Subscript) and isinstance(n.ctx, context)]
    augmented = [n.target for n in ast.walk(tree) if isinstance(n, ast.AugAssign)]
    if not write:
        found += [t for t in augmented if isinstance(t, ast.Subscript)]
    names = list(dict.fromkeys(ast.unparse(n) for n in found if not _is_shape(n)))
    if len(names) != 1 and not (last and names):
        return "this line", max((_indices(n) for n in found), default=0)
    chosen = names[0]
    return chosen, max(_indices(n) for n in found if ast.unparse(n) == chosen)


def _is_shape(node: ast.Subscript) -> bool:
    return isinstance(node.value, ast.Attribute) and node.value.attr in ("shape", "strides")


def _indices(node: ast.Subscript) -> int:
    return len(node.slice.elts) if isinstance(node.slice, ast.Tuple) else 1


def _statement(text: str) -> str:
    """One line as a statement of its own: what opens a block gets an empty one."""
    line = textwrap.dedent(text).strip()
    if line.startswith(("elif ", "else:")):
        line = "if True: pass\n" + line
    return line + " pass" if line.endswith(":") else line
