"""What limits work on a GPU, in words with figures: launches, latency, memory or arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from tessera.profiler.datasheet import Datasheet
from tessera.profiler.datasheets import find_datasheet
from tessera.profiler.roof import Bound, RooflinePoint
from tessera.profiler.tuning.cost_model import LATENCY_S, LAUNCH_MS, LOADS_UNDER_WAY
from tessera.profiler.work import Work
from tessera.program.errors import OptionError
from tessera.program.quantity import format_count, format_decimal_bytes, format_ms, format_number

LAUNCH_S = LAUNCH_MS / 1e3
"""Of one kernel, even if it does nothing: an assumption."""
HINDERED = 1.5
"""Times slower than at full rate from which too few blocks or warps are what limits."""
NOTICED = 1.1
"""Times slower than at full rate from which that is said."""
UNCACHED = 2.0
"""Sectors touched over bytes needed from which the pattern of accesses is worth a word."""


def judge(work: Work, gpu: str) -> RooflinePoint:
    """Where work lies under the ceilings of a GPU, what limits it there, and what to try.

    Predicted, from the datasheet: the longest of memory, each kind of arithmetic and shared memory, with the
    part of the GPU that the blocks and warps keep busy, and 2 µs a launch. Caches are taken for perfect.

    Raises:
        OptionError: No GPU is called that; or its datasheet has no rate for what the work does.

    Source: Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009; Little's law for bytes under way,
    as in Volkov, "Better performance at lower occupancy", GTC 2010.
    """
    sheet = find_datasheet(gpu)
    seconds = _seconds(work, sheet)
    limits = _Limits(work, sheet, seconds)
    bound = limits.bound()
    verdict, remedy = _WORDS[bound](limits)
    pipe, count = _busiest(work, sheet)
    attainable = None
    if count and work.bytes:
        attainable = min(sheet.rate(pipe) or 0.0, count / work.bytes * sheet.memory_tb_s)
    return RooflinePoint(
        name=work.name,
        pipe=pipe,
        operations=count,
        bytes=work.bytes,
        worst_bytes=work.worst_bytes,
        attainable=attainable,
        predicted_ms=(limits.launching_s + limits.body_s) * 1e3,
        bound=bound,
        verdict=verdict,
        remedy=remedy,
        origin=work.origin,
        measured_ms=work.measured_ms,
    )


def _busiest(work: Work, sheet: Datasheet) -> tuple[str, float]:
    """The kind of units that takes longest, and its operations."""
    times = [(count / (sheet.rate(pipe) or 1.0), pipe, count) for pipe, count in work.operations if count]
    _, pipe, count = max(times, default=(0.0, "", 0.0))
    return pipe, count


def _seconds(work: Work, sheet: Datasheet) -> dict[str, float]:
    """How long each resource takes at its full rate."""
    found = {"DRAM": work.bytes / (sheet.memory_tb_s * 1e12)}
    if sheet.l2_tb_s is not None:
        found["L2"] = work.worst_bytes / (sheet.l2_tb_s * 1e12)
    found["shared memory"] = work.shared_bytes / (sheet.shared_tb_s * 1e12)
    for pipe, count in work.operations:
        rate = sheet.rate(pipe)
        if rate is None and count:
            raise OptionError(
                f"{sheet.name}: its datasheet has no rate for {pipe}, which {work.name} uses",
                hint="--gpu with a GPU that has such units",
            )
        found[pipe] = count / ((rate or 1.0) * 1e12)
    return found


@dataclass(frozen=True, slots=True)
class _Limits:
    """The times of all resources, at their full rates and as the launch leaves them."""

    work: Work
    sheet: Datasheet
    full: dict[str, float]
    """Seconds by resource, at full rate."""

    @property
    def launching_s(self) -> float:
        return self.work.launches * LAUNCH_S

    @property
    def busy(self) -> float:
        """The part of the multiprocessors that have a block, until the one with the most blocks is done."""
        blocks, processors = self.work.blocks, self.sheet.multiprocessors
        return 1.0 if not blocks else blocks / (processors * -(-blocks // processors))

    @property
    def warps(self) -> float | None:
        """Resident warps of the whole GPU; None where that is not known."""
        work = self.work
        if not work.blocks or not work.threads or work.resident is None or not work.resident.blocks:
            return None
        resident = min(work.blocks, work.resident.blocks * self.sheet.multiprocessors)
        return float(resident * -(-work.threads // 32))

    @property
    def under_way_bytes(self) -> float | None:
        """Bytes that the resident warps have asked for at once; None where that is not known."""
        work, warps = self.work, self.warps
        if warps is None or not work.request_bytes or not work.threads:
            return None
        blocks = warps / -(-work.threads // 32)
        return max(warps * LOADS_UNDER_WAY * work.request_bytes, blocks * (work.ring_bytes or 0.0))

    @property
    def needed_bytes(self) -> float:
        """Bytes under way that keep memory busy."""
        return self.sheet.memory_tb_s * 1e12 * LATENCY_S

    @property
    def fed(self) -> float:
        """The part of memory's rate that the resident warps can ask for."""
        asked = self.under_way_bytes
        return 1.0 if asked is None else min(1.0, asked / self.needed_bytes)

    @property
    def hindered(self) -> dict[str, float]:
        """Seconds by resource, with the blocks and warps that there are."""
        return {name: s / (self.fed if name == "DRAM" else self.busy) for name, s in self.full.items()}

    @property
    def body_s(self) -> float:
        return max(self.hindered.values())

    @property
    def longest(self) -> str:
        """The resource that takes longest at full rate."""
        return max(self.full, key=lambda name: self.full[name])

    def bound(self) -> Bound:
        if self.body_s < self.launching_s:
            return "launch"
        if self.body_s > HINDERED * max(self.full.values()):
            return "latency"
        return "memory" if self.longest in ("DRAM", "L2", "shared memory") else "compute"


# -- words --------------------------------------------------------------------------------------


def _launch(limits: _Limits) -> tuple[str, str]:
    count, body = limits.work.launches, limits.body_s
    launching = f"{count} launches take {_time(limits.launching_s)}" if count > 1 else (
        f"the launch takes {_time(limits.launching_s)}")  # fmt: skip
    verdict = f"launch-bound: {launching}, the work {_time(body)}"
    larger = f"{limits.launching_s / body:,.0f} times the work" if body else "more work"
    return verdict, (
        f"do more in a launch ({larger} takes twice as long at most), fuse it with its neighbours, or "
        "replay launches as a CUDA graph"
    )


def _latency(limits: _Limits) -> tuple[str, str]:
    work, sheet = limits.work, limits.sheet
    slowest = max(limits.hindered, key=lambda name: limits.hindered[name])
    times = f"{_time(limits.body_s)} instead of {_time(max(limits.full.values()))}"
    if slowest != "DRAM" or limits.busy < limits.fed:
        blocks, processors = work.blocks or 0, sheet.multiprocessors
        most, left = -(-blocks // processors), blocks % processors
        idle = f"{processors - blocks} stand idle" if blocks < processors else (
            f"{left} of them have {most}, the others {most - 1}")  # fmt: skip
        return (
            f"latency-bound: {blocks} {_plural(blocks, 'block')} for {processors} SMs, {idle}: {times}",
            "more and smaller blocks, or split sums over several blocks",
        )
    warps = (limits.warps or 0.0) / sheet.multiprocessors
    limiter = work.resident.limiter if work.resident else ""
    few = work.resident is not None and (work.blocks or 0) <= work.resident.blocks * sheet.multiprocessors
    remedy = "more elements in all, or more loads of each thread under way"
    if not few:
        remedy = f"more resident blocks (limited by {limiter}; tessera inspect --occupancy), or wider loads"
    asked = format_decimal_bytes(limits.under_way_bytes or 0.0)
    needed = format_decimal_bytes(limits.needed_bytes)
    return (
        f"latency-bound: {warps:.3g} warps on an SM keep {asked} under way, {sheet.memory_tb_s:g} TB/s need "
        f"{needed}: {times}",
        remedy,
    )


def _memory(limits: _Limits) -> tuple[str, str]:
    work, sheet, level = limits.work, limits.sheet, limits.longest
    rates = {"DRAM": sheet.memory_tb_s, "L2": sheet.l2_tb_s or 0.0, "shared memory": sheet.shared_tb_s}
    moved = {"DRAM": work.bytes, "L2": work.worst_bytes, "shared memory": work.shared_bytes}[level]
    verdict = (
        f"memory-bound ({level}): {format_decimal_bytes(moved)} take {_time(limits.full[level])} at "
        f"{rates[level]:.3g} TB/s{_arithmetic_text(limits)}"
    )
    if limits.body_s > NOTICED * limits.full[level]:
        verdict += f"; with the warps that it has {_time(limits.body_s)}"
    return verdict, _memory_remedy(limits, level)


def _memory_remedy(limits: _Limits, level: str) -> str:
    work = limits.work
    if level == "shared memory":
        return (
            "keep what is read again in registers; conflicts of banks cost extra (tessera profile names them)"
        )
    if work.bytes and work.worst_bytes > UNCACHED * work.bytes:
        return (
            f"its warps touch {work.worst_bytes / work.bytes:.2g} times the bytes it needs: let neighbouring "
            "threads use neighbouring elements, or keep what is read again in shared memory"
        )
    return "move fewer bytes: fuse it with the kernels before and after it, or use smaller types"


def _arithmetic_text(limits: _Limits) -> str:
    """What the arithmetic takes beside memory, and how far from the ridge the work is."""
    pipe, count = _busiest(limits.work, limits.sheet)
    rate = limits.sheet.rate(pipe)
    if not count or rate is None:
        return "; it computes next to nothing"
    text = f", {pipe} {_time(limits.full[pipe])}"
    if limits.work.bytes:
        ridge = rate / limits.sheet.memory_tb_s
        intensity = format_number(count / limits.work.bytes)
        text += f"; {intensity} operations per byte, the ridge is at {ridge:.3g}"
    return text


def _compute(limits: _Limits) -> tuple[str, str]:
    work, sheet, pipe = limits.work, limits.sheet, limits.longest
    count = dict(work.operations)[pipe]
    rate = sheet.rate(pipe) or 0.0
    verdict = (
        f"compute-bound ({pipe}): {format_count(count)} operations take {_time(limits.full[pipe])} at "
        f"{rate:.4g} {'TOP/s' if pipe == 'i8 tensor' else 'TFLOP/s'}, DRAM {_time(limits.full['DRAM'])}"
    )
    if work.bytes:
        verdict += f"; {format_number(count / work.bytes)} operations per byte"
        verdict += f", the ridge is at {rate / sheet.memory_tb_s:.3g}"
    worst = work.worst_bytes / (sheet.memory_tb_s * 1e12)
    if worst > limits.full[pipe]:
        verdict += f"; if caches kept nothing, memory would take {_time(worst)}"
    return verdict, _compute_remedy(sheet, pipe)


def _compute_remedy(sheet: Datasheet, pipe: str) -> str:
    here = sheet.rate(pipe) or 1.0
    if pipe == "f64" and sheet.f32_tflops > here:
        return f"float32 where its precision is enough: {sheet.f32_tflops / here:.2g} times the rate"
    faster = {name: sheet.rate(f"{name} tensor") for name in ("tf32", "bf16", "f16", "f8", "i8")}
    best = [name for name, rate in faster.items() if rate is not None and rate > here * 1.1]
    if pipe == "f32" and best:
        rate = faster[best[0]] or here
        return (
            f"if these are products of matrices, tensor cores ({best[0]}: {rate / here:.2g} times the rate); "
            "else fewer operations"
        )
    smaller = [name for name in best if name in ("f8", "i8")]
    if smaller and pipe != f"{smaller[-1]} tensor":
        rate = faster[smaller[0]] or here
        return f"8-bit operands ({', '.join(smaller)}): {rate / here:.2g} times the rate"
    return "do fewer operations: nothing on this GPU does them faster"


_WORDS = {"launch": _launch, "latency": _latency, "memory": _memory, "compute": _compute}


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"


def _time(seconds: float) -> str:
    return format_ms(seconds * 1e3)
