"""What rules read: numbers of a kernel and of its lines, by names that every source of numbers shares.

The emulator's counters fill all of them; a profiler on a GPU fills those that it measures, and says in
`KernelMetrics.known` which these are. A rule that needs another says nothing. `VOCABULARY` says what each
name means and how Nsight Compute calls it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

WARP = 32


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one name stands for."""

    text: str
    """With its unit."""
    ncu: str = ""
    """Nsight Compute's metric; of several, they are added up. `(LDG)`: of such instructions alone. Empty: it
    has none."""
    code: bool = False
    """Whether it takes the code besides counts: its loops, where branches meet."""
    traced: bool = False
    """Whether it follows from what single threads of one block did, one access after the other."""


@dataclass(frozen=True, slots=True)
class LineMetrics:
    """One line of source."""

    file: str
    line: int
    values: Mapping[str, float]
    text: str = ""
    """The line itself, for the names of its arrays; empty if it cannot be read."""

    def __getitem__(self, name: str) -> float:
        """A number that the source knows; of what did not happen there is none: 0."""
        return self.values.get(name, 0.0)


@dataclass(frozen=True, slots=True)
class KernelMetrics:
    """One kernel: all of its launches in one execution."""

    kernel: str
    label: str
    """Where the numbers come from: `emulated, PTX level`, `measured on NVIDIA H200`."""
    known: frozenset[str]
    """Names that the source of the numbers counts at all, of lines or of kernels."""
    lines: tuple[LineMetrics, ...]
    """Those that have numbers, in the order of the source."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Of the kernel as a whole."""
    file: str = ""
    line: int = 0
    """Where it is defined; 0 if that is not known."""
    limiter: str = ""
    """What allows no more blocks on a multiprocessor: `registers`, `shared memory`, `blocks`, `warps`."""
    arch: str = ""
    """The architecture that `limiter` and occupancy are of: `sm_90`."""
    lineless: LineMetrics | None = None
    """Code that comes from no line, or from no single one; None if there is none, or nobody knows."""

    def __getitem__(self, name: str) -> float:
        """A number of the kernel that the source knows; of what did not happen there is none: 0."""
        return self.values.get(name, 0.0)

    def total(self, name: str) -> float:
        """A number of all lines together."""
        return sum(line[name] for line in self.lines)


_SECTORS = "memory_l2_theoretical_sectors_global"
_WAVEFRONTS = "memory_l1_wavefronts_shared"
_REQUESTS = "memory_l1_tag_requests_global"

VOCABULARY: dict[str, Meaning] = {
    # Lines and kernels alike.
    "instructions": Meaning("instructions executed by warps", "inst_executed"),
    "thread_instructions": Meaning("instructions executed by threads", "thread_inst_executed"),
    "branches": Meaning("branches executed by warps", "smsp__sass_branch_targets"),
    "divergent_branches": Meaning(
        "branches at which the threads of a warp went apart", "smsp__sass_branch_targets_threads_divergent"
    ),
    "barriers": Meaning("barriers executed by warps", "inst_executed (BAR)"),
    "fp64_instructions": Meaning(
        "float64 arithmetic, instructions of warps", "inst_executed (DADD DMUL DFMA)"
    ),
    **{
        f"global_{op}_{what}": Meaning(f"{text} of global {verb}", f"{name} ({sass})")
        for op, verb, sass in (
            ("ld", "loads", "LDG"),
            ("st", "stores", "STG"),
            ("atom", "atomics", "ATOMG RED"),
        )
        for what, text, name in (
            ("requests", "requests of warps", _REQUESTS),
            ("sectors", "sectors of 32 bytes", _SECTORS),
            ("ideal_sectors", "sectors if the threads' bytes lay side by side", f"{_SECTORS}_ideal"),
            ("threads", "accesses of threads", "thread_inst_executed_true"),
            ("bytes", "bytes that threads asked for", ""),
        )
    },
    **{
        f"shared_{op}_{what}": Meaning(f"{text} of shared {verb}", f"{name} ({sass})")
        for op, verb, sass in (("ld", "loads", "LDS"), ("st", "stores", "STS"), ("atom", "atomics", "ATOMS"))
        for what, text, name in (
            ("requests", "requests of warps", "inst_executed"),
            ("wavefronts", "wavefronts", _WAVEFRONTS),
            ("ideal_wavefronts", "wavefronts without bank conflicts", f"{_WAVEFRONTS}_ideal"),
            ("threads", "accesses of threads", "thread_inst_executed_true"),
        )
    },
    "local_requests": Meaning("requests to local memory", "inst_executed (LDL STL)"),
    "local_sectors": Meaning("sectors of local memory", "memory_l2_theoretical_sectors_local"),
    # Kernels.
    "block_threads": Meaning("threads of a block", "launch__block_size"),
    "blocks": Meaning("blocks of the largest launch", "launch__grid_size"),
    "warps": Meaning("warps of all launches", "launch__grid_size × warps of launch__block_size"),
    "multiprocessors": Meaning(
        "of a GPU of the architecture", "device__attribute_multiprocessor_count"
    ),
    "occupancy": Meaning(
        "warps that a multiprocessor holds, over the most that it could, 0 to 1",
        "sm__maximum_warps_per_active_cycle_pct / 100",
    ),
    "resident_blocks": Meaning("blocks that a multiprocessor holds", "launch__occupancy_limit_* (the least)"),
    "spill_bytes": Meaning("bytes of registers that a thread spills", ""),
    "shared_bytes": Meaning("shared memory of a block, static and dynamic", "launch__shared_mem_per_block"),
    "tensor_instructions": Meaning("products of matrices", "sm__inst_executed_pipe_tensor.sum"),
    "shuffles": Meaning("shuffles and votes, instructions of warps", "inst_executed (SHFL VOTE)"),
    "asynchronous_copies": Meaning("instructions that copy to shared memory", "inst_executed (LDGSTS)"),
    # Of the code: loops, what a branch decides about, where values come from.
    "divergence_idle": Meaning("places of threads unused behind branches that divide warps", code=True),
    "divergence_instructions": Meaning("instructions of warps behind such branches", code=True),
    "divergence_threads": Meaning("instructions of threads behind such branches", code=True),
    "divisions": Meaning("divisions of integers by what the compiler does not know", code=True),
    "float_divisions": Meaning("precise divisions of float32, instructions of warps", code=True),
    "half_products": Meaning("multiply-adds of 16-bit floats, instructions of warps", code=True),
    "direct_copies": Meaning("loads that only go on to shared memory, in loops with barriers", code=True),
    "fp64_by_accident": Meaning(
        "float64 arithmetic of lines that widen float32, and narrow the result or have a constant", code=True
    ),
    # Of the trace of one block.
    **{name: Meaning(text, traced=True) for name, text in {
        "global_ld_traced": "loads of global memory",
        "global_st_traced": "stores",
        "global_atom_traced": "atomics",
        "global_ld_again": "loads of what the thread had loaded shortly before, and nobody had written",
        "global_ld_own": "loads of what the thread had stored shortly before",
        "global_st_overwritten": "stores that the thread overwrites before anybody loads them",
        "global_ld_executions": "loads of warps",
        "global_ld_warps": "warps that load",
        "global_ld_request_places": "different addresses of each request, added up",
        "global_ld_places": "different addresses of all requests",
        "global_ld_common": "loads of places that several threads load",
        "global_st_places": "different addresses of each request, added up",
        "global_atom_places": "different addresses of each request, added up",
        "global_atom_block_places": "different addresses of all requests",
        "vector_ld_members": "loads of neighbours that one thread takes one by one",
        "vector_ld_heads": "the first loads of such neighbours",
        "vector_ld_bytes": "how wide they are together",
        "vector_st_members": "stores of neighbours that one thread takes one by one",
        "vector_st_heads": "the first stores of such neighbours",
        "vector_st_bytes": "how wide they are together",
        "run_ld_places": "different addresses that each thread loads, added up",
        "run_ld_followers": "those that follow another of the thread's without a gap",
        "run_st_places": "different addresses that each thread stores, added up",
        "run_st_followers": "those that follow another of the thread's without a gap",
        "shared_atom_traced": "atomics of shared memory",
        "shared_atom_places": "different addresses of each request, added up",
        "shared_ld_shapes": "loads of whole warps",
        "shared_ld_alike": "those whose addresses differ as the first one's do",
        "shared_st_shapes": "stores of whole warps",
        "shared_st_alike": "those whose addresses differ as the first one's do",
        "shared_tree_steps": "steps of 16 threads, 8, 4, 2 and 1 that a reduction ends with",
        "shared_untouched_bytes": "shared memory that the block does not touch",
        "barriers_traced": "barriers of the block",
        "barriers_idle": "those before which no thread touches what another writes behind, nor reverse",
        "operand_reuse": "loads, over the different places of global memory that they are of",
    }.items()},
}  # fmt: skip
"""Every name that a rule may read. Nsight Compute's names are those of its source page and its tables."""
