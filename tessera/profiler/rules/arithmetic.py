"""Rules of arithmetic: work that a cheaper instruction would do, and registers that are none."""

from __future__ import annotations

from tessera.profiler.rules import sources
from tessera.profiler.rules.rule import INSTRUCTIONS, LOCAL_SECTORS, Hit, Rule
from tessera.profiler.rules.subject import KernelMetrics, LineMetrics


def _float64(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    doubles = line["fp64_of_fp32"]
    if not doubles:
        return None
    what = f"{doubles:,.0f} instructions compute in float64 what comes from float32"
    remedy = "write constants as float32(0.5) and call float32 functions; float64 is 2 to 64 times slower"
    return Hit(what, remedy, doubles, kernel["instructions"])


def _local(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    requests = line["local_requests"]
    if not requests:
        return None
    what = f"{requests:,.0f} requests go to local memory, which is as far as global memory"
    remedy = "an array of a thread's own stays in registers if its indices are known when it is compiled"
    return Hit(what, remedy, line["local_sectors"], kernel.total("local_sectors"))


ARITHMETIC: tuple[Rule, ...] = (
    Rule(
        name="float64",
        fault="float64 arithmetic by accident",
        needs=("fp64_of_fp32", "instructions"),
        when="a line widens float32 to float64, and narrows the result or has a float64 constant",
        remedy="write constants as float32(0.5) (C++: 0.5f) and call float32 functions",
        resource=INSTRUCTIONS,
        source=sources.DOUBLES,
        line=_float64,
    ),
    Rule(
        name="local-memory",
        fault="arrays of a thread that lie in memory",
        needs=("local_requests", "local_sectors"),
        when="any request",
        remedy="index arrays of a thread's own by constants: unroll the loop, or use shared memory",
        resource=LOCAL_SECTORS,
        source=sources.LOCAL,
        line=_local,
    ),
)
"""Rules of arithmetic and registers."""
