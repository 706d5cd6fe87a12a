"""Where the state of a running block lies in memory: what compiled code and the launcher agree on.

A block's state is one piece of memory: a header, a cache entry per memory instruction, then one area per
warp. All offsets are in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# What a launch has in common; one i64 each.
CONTEXT = {name: 8 * i for i, name in enumerate(
    ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z", "params", "stop", "budget", "table",
     "table_count", "dynamic_bytes", "symbols", "shared_bytes", "threads", "warps", "local_bytes", "slice",
     "service", "cluster_x", "cluster_y", "cluster_z", "explicit", "serials", "nowhere",
     "sink"))
}  # fmt: skip
CONTEXT_BYTES = 256

# The head of a block's state; one i64 each.
BLOCK = {name: 8 * i for i, name in enumerate(
    ("ctaid_x", "ctaid_y", "ctaid_z", "shared", "alive", "steps", "fault_kind", "fault_site", "fault_lane",
     "fault_address", "fault_warp", "local", "number", "fault_mask", "met",
     "events", "cluster", "rank", "cluster_ctaid_x", "cluster_ctaid_y", "cluster_ctaid_z", "clusterid_x",
     "clusterid_y", "clusterid_z", "counters"))
}  # fmt: skip
BARRIERS = 256
"""16 barriers of four i32: threads arrived, threads needed (0: all), votes, whether a vote failed."""
RESULTS = BARRIERS + 16 * 16
"""16 results of `bar.red`: how many said yes, of how many (two i32)."""
WATCHED = RESULTS + 16 * 8
WATCH = {name: WATCHED + 8 * i for i, name in enumerate(
    ("now", "floor", "begun", "stamp", "stamp_floor", "oldest", "notes", "written", "read", "updated",
     "local_marks", "local_fresh", "words", "pending", "settled"))
}  # fmt: skip
"""Part of a block's state that only kernels with checks use; one i64 each (see `shadow_ir`)."""
SITES = WATCHED + 128
SITE_BYTES = 32
"""Per memory instruction: the allocation hit last as lowest address, count of good addresses, distance
from device address to host address, and bytes between the memories of two lanes."""

# The head of a warp's area.
ALIVE, WARP_ID, FIRST_MASK, PARITY = 0, 4, 8, 12
LOCAL_BASE = 16
TURN, WAITS = 24, 28
"""How often the warp has come to where its warpgroup meets, and whether it waits there now (i32 each)."""
WARP_FLOOR, COPIES_SETTLED, COPIES_GROUPS, COPIES_BUSY, COPY_GROUPS = 32, 36, 40, 44, 48
"""In kernels with checks (i32 each): time of the warp's last meeting; of its asynchronous copies, the time
before which all are settled, the groups closed, whether any are under way, and the times of four groups."""
BAR_LANES, BAR_BLOCK, RESUME = 64, 128, 192
TID = {"x": 320, "y": 448, "z": 576}
HOSTS = 704
"""32 i64: host addresses that the slow path of a memory instruction found."""
SCRATCH = 960
"""64 bytes: results of helpers."""
LISTS = 1024

IDLE, FAULT, YIELD, DONE, DEADLOCK, POLL = 0, 1, 2, 3, 4, 5
"""What a warp or block came back with. `YIELD`: it had its turn; `POLL`: it looked in vain for something."""

# What the blocks of a cluster have in common.
CLUSTER = {"count": 0, "come": 8, "parity": 16}
"""Blocks; threads that came to the cluster's barrier in this phase; the phase's parity (i64 each)."""
CLUSTER_STATES, CLUSTER_SHARED = 32, 160
"""16 i64 each, by rank: addresses of the blocks' states and of their shared memories."""
CLUSTER_BYTES = 288
FAULTS = {1: "out of bounds", 2: "misaligned", 3: "trap", 4: "budget", 5: "stopped", 6: "service",
          7: "stack overflow", 8: "bad function pointer", 9: "ended", 10: "arrivals"}  # fmt: skip


@dataclass(slots=True)
class Layout:
    """Offsets inside one kernel's state."""

    blocks: int
    """Basic blocks of the kernel."""
    sites: int = 0
    """Memory instructions."""
    slots: dict[str, int] = field(default_factory=dict)
    """Offset in the warp's area of each register that lives across basic blocks."""
    top: int = 0

    def __post_init__(self) -> None:
        self.top = align(self.wait_masks + 8 * self.blocks, 64)

    @property
    def words(self) -> int:
        """64-bit words of the bit maps."""
        return (self.blocks + 63) // 64

    @property
    def wait_bits(self) -> int:
        """Bit map of basic blocks where lanes wait to run."""
        return LISTS

    @property
    def stall_bits(self) -> int:
        """Bit map of warp-wide instructions where lanes wait for others."""
        return LISTS + 8 * self.words

    @property
    def wait_masks(self) -> int:
        """Lanes that wait at each basic block (i32 each)."""
        return LISTS + 16 * self.words

    @property
    def stall_masks(self) -> int:
        """Lanes that wait for others at each warp-wide instruction (i32 each)."""
        return self.wait_masks + 4 * self.blocks

    def slot(self, name: str, bits: int) -> int:
        """Place of a register: 32 elements, or one i32 of 32 predicates."""
        if name not in self.slots:
            self.slots[name] = self.top
            self.top += 64 if bits == 1 else 4 * max(bits, 16)
        return self.slots[name]

    @property
    def warp_bytes(self) -> int:
        """From one warp's area to the next."""
        return align(self.top, 64)

    @property
    def warps_at(self) -> int:
        """Where the first warp's area begins."""
        return align(SITES + SITE_BYTES * self.sites, 64)

    def state_bytes(self, warps: int) -> int:
        """Size of a block's state."""
        return self.warps_at + warps * self.warp_bytes


def align(number: int, to: int) -> int:
    """The next multiple of `to`."""
    return -(-number // to) * to
