"""A rule: one known way to waste a GPU's time, how it shows in numbers, and where that is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tessera.profiler.rules.subject import KernelMetrics, LineMetrics

LEAST_GAIN = 0.01
"""Share of what a kernel takes of a resource, below which nothing is worth a word."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What a fault takes too much of."""

    name: str
    """`sectors of global memory`."""
    cycles: float
    """Of a multiprocessor, for one of them: to compare faults of different resources, no more than that."""


SECTORS = Resource("sectors of global memory", 2.0)
"""3.35 TB/s among 132 multiprocessors at 1.76 GHz are 14 bytes a cycle. Source: H100 SXM datasheet."""
LOCAL_SECTORS = Resource("sectors of local memory", 2.0)
REQUESTS = Resource("requests to global memory", 1.0)
"""The unit for loads and stores takes one a cycle. Source: Kernel Profiling Guide, "Pipelines" (LSU)."""
WAVEFRONTS = Resource("wavefronts of shared memory", 1.0)
"""128 bytes a cycle. Source: CUDA C++ Programming Guide, "Shared Memory" of each compute capability."""
INSTRUCTIONS = Resource("instructions of warps", 0.25)
"""Four schedulers issue one a cycle each. Source: Kernel Profiling Guide, "Compute Model"."""
ATOMICS = Resource("turns of atomics", 2.0)
STORES = Resource("stores of threads", 0.1)
SHARED_BYTES = Resource("shared memory of a block", 0.01)
TIME = Resource("time", 1.0)


@dataclass(frozen=True, slots=True)
class Source:
    """Where it is written that this is slow, and what to do."""

    title: str
    section: str
    url: str


@dataclass(frozen=True, slots=True)
class Hit:
    """What a rule found in one line."""

    what: str
    """With figures."""
    remedy: str
    saved: float
    """Of the rule's resource: what could go at most."""
    total: float
    """What the kernel takes of it."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing that a line, or a kernel, costs without need, and what may be done."""

    kind: str
    """The rule's name, such as `uncoalesced-loads`."""
    kernel: str
    file: str
    line: int
    """Of a kernel as a whole: where it is defined."""
    what: str
    """What was seen, with figures."""
    remedy: str
    """What to try."""
    gain: float
    """Predicted: the share of the kernel's `resource` that could go at most, 0 to 1."""
    resource: str
    """`sectors of global memory`, `instructions of warps`, `time`…"""
    cost: float
    """Cycles of a multiprocessor, roughly; only to compare with others."""
    source: Source
    label: str = ""
    """Where the figures come from."""

    @property
    def text(self) -> str:
        """Both in one sentence."""
        return f"{self.what}: {self.remedy}"

    @property
    def gain_text(self) -> str:
        """`predicted: at most 87 % of the kernel's sectors of global memory would go`."""
        percent = 100 * self.gain
        text = f"{percent:.0f}" if percent >= 1 else "less than 1"
        return f"predicted: at most {text} % of the kernel's {self.resource} would go"


LineCheck = Callable[[KernelMetrics, LineMetrics], Hit | None]
KernelCheck = Callable[[KernelMetrics], Hit | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault that kernels have."""

    name: str
    fault: str
    """In a few words."""
    needs: tuple[str, ...]
    """Names of `VOCABULARY`; where one is not known the rule says nothing."""
    when: str
    """From what figures on it speaks."""
    remedy: str
    """In general; a finding has one for its line."""
    resource: Resource
    source: Source
    line: LineCheck | None = None
    """Looks at each line."""
    kernel: KernelCheck | None = None
    """Looks at a kernel as a whole."""
    hides: tuple[str, ...] = field(default=())
    """Rules that say less of the same line, where this one speaks."""
    hides_in_kernel: tuple[str, ...] = field(default=())
    """Rules that say less of the same kernel."""


def apply(rules: Sequence[Rule], kernel: KernelMetrics) -> tuple[Advice, ...]:
    """What rules say of a kernel, the costliest first.

    Args:
        rules: Which ones.
        kernel: Its numbers, from whatever source.
    """
    found: list[tuple[Rule, Advice]] = []
    for rule in rules:
        if not kernel.known.issuperset(rule.needs):
            continue
        own = (_advice(rule, kernel, *hit) for hit in _hits(rule, kernel))
        found += [(rule, advice) for advice in own if advice.gain >= LEAST_GAIN]
    hidden = {(a.file, a.line, name) for rule, a in found for name in rule.hides}
    gone = {name for rule, _ in found for name in rule.hides_in_kernel}
    shown = [a for _, a in found if (a.file, a.line, a.kind) not in hidden and a.kind not in gone]
    return tuple(sorted(shown, key=lambda a: (-a.cost, a.line, a.kind)))


def _hits(rule: Rule, kernel: KernelMetrics) -> Iterable[tuple[str, int, Hit]]:
    if rule.line is not None:
        for line in kernel.lines:
            hit = rule.line(kernel, line)
            if hit is not None:
                yield line.file, line.line, hit
    if rule.kernel is not None:
        hit = rule.kernel(kernel)
        if hit is not None:
            yield kernel.file, kernel.line, hit


def _advice(rule: Rule, kernel: KernelMetrics, file: str, line: int, hit: Hit) -> Advice:
    return Advice(
        kind=rule.name,
        kernel=kernel.kernel,
        file=file,
        line=line,
        what=hit.what,
        remedy=hit.remedy,
        gain=min(hit.saved / hit.total, 1.0) if hit.total else 0.0,
        resource=rule.resource.name,
        cost=hit.saved * rule.resource.cycles,
        source=rule.source,
        label=kernel.label,
    )


def cycles(kernel: KernelMetrics) -> float:
    """What a kernel takes of a multiprocessor, roughly: its busiest resource alone."""
    sectors = sum(kernel.total(f"global_{op}_sectors") for op in ("ld", "st", "atom"))
    wavefronts = sum(kernel.total(f"shared_{op}_wavefronts") for op in ("ld", "st", "atom"))
    return max(
        sectors * SECTORS.cycles, wavefronts * WAVEFRONTS.cycles, kernel["instructions"] * INSTRUCTIONS.cycles
    )
