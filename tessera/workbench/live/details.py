"""What is said of the selected GPU: its lesser figures, what is unknown and why, its processes."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

from rich.text import Text

from tessera.profiler.live.figures import QUANTITIES, Device, MigInstance, Reading, Sample
from tessera.profiler.live.rates import per_second
from tessera.profiler.live.throttling import reasons
from tessera.program.bytesize import format_bytes
from tessera.workbench.failure import visible

_TITLES = {quantity.field: quantity.title for quantity in QUANTITIES}


def detail_lines(device: Device, samples: Sequence[Sample], gpu: int, width: int) -> list[Text]:
    """Links, errors, fans; kernels that were launched; what is unknown and why; parts, where MIG is on."""
    reading = samples[-1].readings[gpu]
    if reading.fault is not None:
        return [Text(f"GPU {device.index} does not answer: {reading.fault}", style="red")]
    facts = " · ".join(f for f in (_slowed(reading), _links(samples, gpu), _health(reading)) if f)
    lines = _wrapped(facts, width, "")
    launches = _launches(samples)
    if launches:
        lines += _wrapped(f"launched by this process: {launches}", width, "cyan")[:1]
    lines += [Text(_instance_line(instance)) for instance in reading.instances]
    if reading.missing:
        lines += _wrapped(f"N/A: {_missing(reading)}", width, "dim")
    return lines


def _wrapped(text: str, width: int, style: str) -> list[Text]:
    found = textwrap.wrap(visible(text), width - 1, initial_indent=" ", subsequent_indent="   ")
    return [Text(line, style=style) for line in found]


def _slowed(reading: Reading) -> str:
    bits = reading.figures.throttle_reasons
    slow = [reason.meaning for reason in reasons(bits) if reason.slows] if bits else []
    return "; ".join(slow)


def _links(samples: Sequence[Sample], gpu: int) -> str:
    figures = samples[-1].readings[gpu].figures
    parts = []
    if figures.pcie_generation is not None and figures.pcie_width is not None:
        sent, received = _per_s(figures.pcie_tx_bytes_per_s), _per_s(figures.pcie_rx_bytes_per_s)
        parts.append(f"PCIe {figures.pcie_generation}.0 ×{figures.pcie_width}: {sent} out, {received} in")
    if figures.nvlink_tx_kib is not None:
        both = [per_second(samples, gpu, f"nvlink_{way}_kib", over_s=2.0) for way in ("tx", "rx")]
        sent, received = (_per_s(None if rate is None else rate * 1024) for rate in both)
        parts.append(f"NVLink: {sent} out, {received} in")
    return " · ".join(parts)


def _per_s(rate: float | None) -> str:
    return "N/A" if rate is None else f"{format_bytes(rate)}/s"


def _health(reading: Reading) -> str:
    figures = reading.figures
    parts = []
    if figures.ecc_corrected is not None:
        parts.append(f"ECC {figures.ecc_corrected} corrected, {_or_na(figures.ecc_uncorrected)} not")
    if figures.pcie_replays:
        parts.append(f"PCIe replays {figures.pcie_replays}")
    if figures.memory_temperature_c is not None:
        parts.append(f"memory {figures.memory_temperature_c} °C")
    if figures.fan_percent is not None:
        parts.append(f"fan {figures.fan_percent} %")
    return " · ".join(parts)


def _or_na(value: int | None) -> str:
    return "N/A" if value is None else str(value)


def _launches(samples: Sequence[Sample]) -> str:
    """Kernels of the last second, the most launched first."""
    recent = [s for s in samples if samples[-1].time_ns - s.time_ns < 1e9]
    if len(recent) < 2:
        return ""
    seconds = (recent[-1].time_ns - recent[0].time_ns) / 1e9
    total: Counter[str] = Counter()
    for sample in recent[1:]:
        total.update(dict(sample.launches))
    return ", ".join(f"{name} {count / seconds:,.0f}/s" for name, count in total.most_common(3))


def _missing(reading: Reading) -> str:
    """`fan (this GPU does not report it)`: figures of one reason together."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reading.missing.items():
        by_reason.setdefault(reason, []).append(_TITLES.get(name, name))
    return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())


def _instance_line(instance: MigInstance) -> str:
    used = "N/A" if instance.memory_used_bytes is None else format_bytes(instance.memory_used_bytes)
    total = "N/A" if instance.memory_total_bytes is None else format_bytes(instance.memory_total_bytes)
    place = f"MIG {instance.number} (GPU instance {_or_na(instance.gpu_instance)})"
    return f"   {place} {visible(instance.name)}: {used} of {total}"


def process_lines(reading: Reading, width: int) -> list[Text]:
    """A title and a line for each process; one line where there is nothing to list."""
    if reading.fault is not None:
        return []
    if reading.processes is None:
        why = reading.missing.get("processes", "the driver does not say")
        return [Text(f"processes N/A: {why}", style="yellow")]
    if not reading.processes:
        return [Text("no process holds memory of this GPU", style="dim")]
    lines = [Text(f"{'PID':>8}  {'memory':>10}  {'kind':<9} program", style="dim")]
    for process in reading.processes:
        memory = "N/A" if process.memory_bytes is None else format_bytes(process.memory_bytes)
        part = "" if process.instance is None else f" (MIG instance {process.instance})"
        row = f"{process.pid:>8}  {memory:>10}  {process.kind:<9} {visible(process.name)}{part}"
        lines.append(Text(row[:width]))
    return lines
