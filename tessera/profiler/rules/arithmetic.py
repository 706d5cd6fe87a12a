"""Rules of arithmetic: work that a cheaper instruction would do, and registers that are none."""

from __future__ import annotations

from tessera.profiler.rules import sources
from tessera.profiler.rules.rule import INSTRUCTIONS, LOCAL_SECTORS, TIME, Hit, Rule, cycles
from tessera.profiler.rules.subject import KernelMetrics, LineMetrics
from tessera.profiler.rules.wording import element
from tessera.program.arch import parse_arch

DIVISION = 20
"""Machine instructions of one division of integers, at least."""
FLOAT_DIVISION = 8
"""Of one precise division of float32, where nothing is subnormal."""
DIVISION_SHARE = 0.02
"""Divisions in a kernel's PTX instructions, from which on they matter."""
TURNS = 8
"""Executions of each warp, below which there is no loop to speak of."""
FUNCTION = 8
"""Float64 instructions of each warp at a line, from which on they are a function's."""
PRODUCTS = 0.05
"""Multiply-adds of 16-bit floats in a kernel's instructions, from which on it is made of them."""
OPERAND_USES = 8
"""Uses of each loaded number, from which on multiply-adds are a product of matrices."""
COPIES = 0.005
"""Copies through registers in a kernel's instructions, from which on they matter."""
_F32 = "write constants as float32(0.5) (C++: 0.5f)"


def _float64(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    doubles = line["fp64_by_accident"]
    if not doubles or _is_function(kernel, line):
        return None
    what = f"{doubles:,.0f} instructions compute in float64 what comes from float32"
    remedy = f"{_F32}; float64 is 2 to 64 times slower"
    return Hit(what, remedy, doubles, kernel["instructions"])


def _is_function(kernel: KernelMetrics, line: LineMetrics) -> bool:
    return line["fp64_instructions"] >= FUNCTION * max(kernel["warps"], 1)


def _function64(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    doubles = line["fp64_by_accident"]
    if not doubles or not _is_function(kernel, line):
        return None
    each = doubles / max(kernel["warps"], 1)
    what = (
        f"a function computes in float64 what comes from float32: {each:.0f} such instructions of each warp"
    )
    remedy = f"{_F32} and give functions float32 arguments (C++: sinf, expf, powf)"
    return Hit(what, remedy, line["instructions"], kernel["instructions"])


def _local(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    requests = line["local_requests"]
    if not requests:
        return None
    what = f"{requests:,.0f} requests go to local memory, which is as far as global memory"
    remedy = "an array of a thread's own stays in registers if its indices are known when it is compiled"
    return Hit(what, remedy, line["local_sectors"], kernel.total("local_sectors"))


def _division(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    divisions, instructions = line["divisions"], kernel["instructions"]
    if divisions < DIVISION_SHARE * instructions or divisions < TURNS * kernel["warps"]:
        return None
    what = (
        f"{divisions:,.0f} divisions or remainders of integers by a number that the compiler does not know, "
        f"{divisions / kernel['warps']:.0f} of each warp; one takes {DIVISION} machine instructions or more"
    )
    remedy = "divide in front of the loop and count on, use powers of two (shifts, &), or constants"
    extra = DIVISION * divisions
    return Hit(what, remedy, extra, instructions + extra - divisions)


def _float_division(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    divisions, instructions = line["float_divisions"], kernel["instructions"]
    if divisions < DIVISION_SHARE * instructions or divisions < TURNS * kernel["warps"]:
        return None
    what = (
        f"{divisions:,.0f} precise divisions of float32, {divisions / kernel['warps']:.0f} of each warp; one "
        f"takes {FLOAT_DIVISION} machine instructions or more"
    )
    remedy = (
        "divide once in front of the loop and multiply by the reciprocal; where 2 ulp are near enough, "
        "fastmath=True (C++: __fdividef)"
    )
    extra = FLOAT_DIVISION * divisions
    return Hit(what, remedy, extra, instructions + extra - divisions)


def _tensor_cores(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    products = line["half_products"]
    if kernel["tensor_instructions"] or products < PRODUCTS * kernel["instructions"]:
        return None
    if kernel["operand_reuse"] < OPERAND_USES or (kernel.arch and parse_arch(kernel.arch).cc < (7, 0)):
        return None
    what = (
        f"{products:,.0f} multiply-adds of 16-bit floats, of numbers that are used "
        f"{kernel['operand_reuse']:.0f} times each, run outside of the tensor cores"
    )
    remedy = "use tessera.gpu.mma_m16n8k16_f16 (C++: nvcuda::wmma), or ts.matmul, which does"
    return Hit(what, remedy, line["instructions"], kernel["instructions"])


def _copies(kernel: KernelMetrics, line: LineMetrics) -> Hit | None:
    copies = line["direct_copies"]
    if copies < COPIES * kernel["instructions"] or kernel["asynchronous_copies"]:
        return None
    if not kernel.arch or parse_arch(kernel.arch).cc < (8, 0):
        return None
    name = element(line.text, write=True, last=True).text
    what = f"{name} waits, in every turn of a loop, for loads that only go on to shared memory"
    remedy = (
        "copy with cp.async (tessera.gpu.cp_async_16; C++: __pipeline_memcpy_async) a turn ahead, or load "
        "the next tile into registers before computing on this one"
    )
    # A load and a store for each copy; what the wait takes depends on how many warps there are.
    return Hit(what, remedy, cycles(kernel) * min(2 * copies / kernel["instructions"], 1), cycles(kernel))


ARITHMETIC: tuple[Rule, ...] = (
    Rule(
        name="float64",
        fault="float64 arithmetic by accident",
        needs=("fp64_by_accident", "fp64_instructions", "instructions", "warps"),
        when="a line widens float32 to float64, and narrows the result or has a float64 constant",
        remedy=f"{_F32} and call float32 functions",
        resource=INSTRUCTIONS,
        source=sources.DOUBLES,
        line=_float64,
    ),
    Rule(
        name="float64-function",
        fault="float64 functions of float32 numbers",
        needs=("fp64_by_accident", "fp64_instructions", "instructions", "warps"),
        when=f"as float64, with {FUNCTION} such instructions of each warp or more",
        remedy="give functions float32 arguments (C++: sinf, expf, powf)",
        resource=INSTRUCTIONS,
        source=sources.MATH,
        line=_function64,
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
    Rule(
        name="integer-division",
        fault="division of integers in a loop",
        needs=("divisions", "instructions", "warps"),
        when=f"{100 * DIVISION_SHARE:.0f} % of the kernel's PTX instructions, {TURNS} or more of each warp",
        remedy="divide in front of the loop, or by powers of two or constants",
        resource=INSTRUCTIONS,
        source=sources.DIVISION,
        line=_division,
    ),
    Rule(
        name="float-division",
        fault="precise division of float32 in a loop",
        needs=("float_divisions", "instructions", "warps"),
        when=f"{100 * DIVISION_SHARE:.0f} % of the kernel's PTX instructions, {TURNS} or more of each warp",
        remedy="multiply by the reciprocal, or fastmath=True",
        resource=INSTRUCTIONS,
        source=sources.MATH,
        line=_float_division,
    ),
    Rule(
        name="tensor-cores",
        fault="products of matrices of 16-bit floats without tensor cores",
        needs=("half_products", "tensor_instructions", "operand_reuse", "instructions"),
        when=f"{100 * PRODUCTS:.0f} % of the kernel's instructions, each number used {OPERAND_USES} times",
        remedy="use mma or wmma",
        resource=INSTRUCTIONS,
        source=sources.TENSOR,
        line=_tensor_cores,
    ),
    Rule(
        name="copies-through-registers",
        fault="copies to shared memory that a loop waits for",
        needs=("direct_copies", "asynchronous_copies", "instructions", "occupancy"),
        when=f"{100 * COPIES:g} % of the kernel's instructions, from sm_80 on, without a cp.async",
        remedy="copy with cp.async a turn ahead",
        resource=TIME,
        source=sources.ASYNC_COPY,
        line=_copies,
    ),
)
"""Rules of arithmetic and registers."""
