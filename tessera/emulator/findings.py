"""What the sanitizer finds: one record per kind and line, with everything a person needs to see the bug."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from tessera.program.errors import DeviceError

Check = Literal["memcheck", "initcheck", "racecheck", "synccheck", "run"]
Point = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of bug."""

    check: Check
    """Which checker it belongs to, as compute-sanitizer names them; `run`: the kernel itself failed."""
    title: str
    """What it is, in a sentence."""
    hint: str
    """What to do about it."""


KINDS: dict[str, Kind] = {
    "out-of-bounds": Kind(
        "memcheck",
        "An access outside of every array.",
        "compare the index with the array's size before the access",
    ),
    "misaligned": Kind(
        "memcheck",
        "An access at an address that is no multiple of its size.",
        "keep the offset a multiple of the access's bytes, or use a narrower type",
    ),
    "use-after-free": Kind(
        "memcheck", "An access to memory that was given back.", "free memory after its last use"
    ),
    "leak": Kind(
        "memcheck",
        "Memory that a kernel took with malloc and nobody gave back.",
        "free it in the kernel, or in a later one that is launched in the same run",
    ),
    "uninitialized": Kind(
        "initcheck",
        "A read of memory that nothing has written.",
        "write it first: fill the array, or make every thread that should write it do so",
    ),
    "race": Kind(
        "racecheck",
        "Two threads access the same bytes in no order, and one of them writes.",
        "put cuda.syncthreads() between the two accesses, or use cuda.atomic",
    ),
    "race-between-blocks": Kind(
        "racecheck",
        "Two blocks access the same bytes of global memory in no order, and one of them writes.",
        "blocks run in any order: use cuda.atomic, or split the kernel in two",
    ),
    "unawaited-copy": Kind(
        "racecheck",
        "A read of shared memory that an asynchronous copy may still be writing.",
        "wait for the copy first (cp.async.wait_group or wait_all), then for the other threads",
    ),
    "divergent-barrier": Kind(
        "synccheck",
        "A barrier that some threads of the block do not come to, or wait at elsewhere.",
        "let every thread of the block reach the same barrier: no return or branch around it",
    ),
    "bad-mask": Kind(
        "synccheck",
        "A warp-wide operation whose mask does not name the lanes that execute it.",
        "build the mask before the branch: mask = cuda.ballot_sync(0xffffffff, condition)",
    ),
    "inactive-lane": Kind(
        "synccheck",
        "A shuffle that reads from a lane which takes no part in it.",
        "keep every lane in the shuffle, and ignore the value afterwards",
    ),
    "deadlock": Kind(
        "synccheck",
        "Threads that wait for each other for ever.",
        "let every thread that the barrier counts reach it",
    ),
    "runaway": Kind(
        "run",
        "A kernel that does not end.",
        "look at what ends the loop in this line; if the kernel is only long: smaller sizes, or more --steps",
    ),
    "failed": Kind("run", "A kernel that stopped itself.", "the message says why"),
}
"""Every kind of finding."""


@dataclass(frozen=True, slots=True)
class Other:
    """The other side of a race."""

    block: Point
    thread: Point
    access: str
    """`read`, `write` or `atomic`."""
    file: str
    line: int
    """Source line; 0 where none is known."""
    ptx_line: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One bug: the first time it happened, and how often it did."""

    kind: str
    """Key of `KINDS`."""
    message: str
    """What happened, where, and against which limit."""
    kernel: str
    file: str
    """File as the PTX names it; empty where it does not."""
    line: int
    """Source line; 0 where none is known."""
    ptx_line: int
    instruction: str
    """`ld.global.f32`."""
    block: Point
    thread: Point
    space: str = ""
    """`global`, `shared` or `local`; empty where no memory is concerned."""
    array: str | None = None
    """Name of the array, where known."""
    shape: tuple[int, ...] | None = None
    index: tuple[int, ...] | None = None
    """Index into the array; it may lie outside."""
    address: int | None = None
    """Address, or offset in shared and local memory."""
    bytes: int | None = None
    """Size of the access."""
    other: Other | None = None
    count: int = 1
    """Threads to which it happened, over the whole run."""

    @property
    def check(self) -> Check:
        """The checker it belongs to."""
        return KINDS[self.kind].check

    @property
    def hint(self) -> str:
        """What to do about it."""
        return KINDS[self.kind].hint

    def data(self) -> dict[str, Any]:
        """The finding for JSON."""
        return {**asdict(self), "check": self.check, "hint": self.hint}


class TooManyFindingsError(DeviceError):
    """The limit of findings is reached: the run ends here."""


class BlockStoppedError(DeviceError):
    """A block that cannot go on, which a finding says already."""


@dataclass(slots=True)
class Findings:
    """Findings grouped by kind and line, in the order of their first time."""

    limit: int = 100
    """Groups after which the run ends."""
    _groups: dict[tuple[object, ...], Finding] = field(default_factory=dict)

    def has(self, kind: str, kernel: str, line: int, ptx_line: int) -> bool:
        """Whether there is a group already, so that only its count needs to go up."""
        return _key(kind, kernel, line, ptx_line) in self._groups

    def count(self, kind: str, kernel: str, line: int, ptx_line: int, times: int) -> None:
        """It happened again."""
        key = _key(kind, kernel, line, ptx_line)
        self._groups[key] = replace(self._groups[key], count=self._groups[key].count + times)

    def add(self, finding: Finding) -> None:
        """A new group.

        Raises:
            TooManyFindingsError: There are enough.
        """
        self._groups[_key(finding.kind, finding.kernel, finding.line, finding.ptx_line)] = finding
        if len(self._groups) >= self.limit:
            raise TooManyFindingsError(f"{self.limit} findings: the run ends here")

    def merge(self, finding: Finding) -> None:
        """A group, or more of one.

        Raises:
            TooManyFindingsError: There are enough.
        """
        if self.has(finding.kind, finding.kernel, finding.line, finding.ptx_line):
            self.count(finding.kind, finding.kernel, finding.line, finding.ptx_line, finding.count)
        else:
            self.add(finding)

    def all(self) -> tuple[Finding, ...]:
        """Every group."""
        return tuple(self._groups.values())


def _key(kind: str, kernel: str, line: int, ptx_line: int) -> tuple[object, ...]:
    return kind, kernel, line or -ptx_line
