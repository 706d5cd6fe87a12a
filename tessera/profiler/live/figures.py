"""What is known of a GPU at one moment: values between the sampler, recordings and screens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple


class Figures(NamedTuple):
    """One GPU's figures as NVML gives them. None is unknown, never 0; `Reading.missing` says why."""

    utilization_percent: int | None = None
    """Share of the last driver period in which some kernel ran. With MIG on there is none."""
    memory_utilization_percent: int | None = None
    """Share of the last driver period in which memory was read or written."""
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_mw: int | None = None
    """Drawn now, milliwatts."""
    power_limit_mw: int | None = None
    energy_mj: int | None = None
    """Drawn since the driver was loaded, millijoules; of use as a difference."""
    temperature_c: int | None = None
    memory_temperature_c: int | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    throttle_reasons: int | None = None
    """Bits that `throttling.reasons` puts into words."""
    performance_state: int | None = None
    """0 (fastest) to 15."""
    pcie_tx_bytes_per_s: int | None = None
    """Sent by the GPU, protocol included, in a window of 0.03 s that is measured once a second."""
    pcie_rx_bytes_per_s: int | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    pcie_replays: int | None = None
    """Packets sent again since the driver was loaded: a bad slot or riser shows here."""
    nvlink_tx_kib: int | None = None
    """Sent over all NVLinks since the driver was loaded, KiB."""
    nvlink_rx_kib: int | None = None
    ecc_corrected: int | None = None
    """Memory errors that were corrected since the driver was loaded."""
    ecc_uncorrected: int | None = None
    fan_percent: int | None = None


NOTHING = Figures()
"""The figures of a GPU that does not answer."""


class Process(NamedTuple):
    """A process that holds memory of a GPU."""

    pid: int
    """As the driver counts: in a container it may be the host's number."""
    name: str
    """File name of the program; its arguments are not kept, they may hold secrets."""
    memory_bytes: int | None
    kind: str
    """`compute` or `graphics`."""
    instance: int | None = None
    """MIG GPU instance it runs in."""


class MigInstance(NamedTuple):
    """A part of a GPU that is split by MIG."""

    number: int
    gpu_instance: int | None
    name: str
    memory_used_bytes: int | None
    memory_total_bytes: int | None


@dataclass(frozen=True, slots=True)
class Reading:
    """One GPU at one moment."""

    figures: Figures
    processes: tuple[Process, ...] | None = None
    """None: the driver does not say."""
    instances: tuple[MigInstance, ...] = ()
    """Parts, where MIG is on."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why a figure is None, by its name (or `processes`), in words."""
    fault: str | None = None
    """Why the GPU does not answer at all, such as `the GPU is lost`."""


@dataclass(frozen=True, slots=True)
class Device:
    """What does not change about a GPU."""

    index: int
    name: str
    uuid: str | None
    bus_id: str | None
    capability: tuple[int, int] | None
    mig: bool
    max_sm_clock_mhz: int | None
    max_pcie_generation: int | None
    max_pcie_width: int | None


@dataclass(frozen=True, slots=True)
class Machine:
    """The driver and its GPUs."""

    driver: str | None
    cuda_version: tuple[int, int] | None
    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """All GPUs at one moment."""

    time_ns: int
    """Since sampling started."""
    readings: tuple[Reading, ...]
    """In the order of `Machine.devices`."""
    launches: tuple[tuple[str, int], ...] = ()
    """Kernels launched by this process since the last sample, and how often."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something said about a moment."""

    time_ns: int
    text: str


Unit = Literal["percent", "bytes", "bytes/s", "W", "J", "C", "MHz", "count", "bits"]


class Quantity(NamedTuple):
    """How one figure is shown and exported."""

    field: str
    """Its name in `Figures`."""
    title: str
    unit: Unit
    scale: float
    """A figure times this is in `unit`."""
    metric: str
    """Name in Prometheus' format, without the prefix."""
    counter: bool = False


QUANTITIES: tuple[Quantity, ...] = (
    Quantity("utilization_percent", "GPU utilization", "percent", 1, "utilization_percent"),
    Quantity("memory_utilization_percent", "Memory utilization", "percent", 1, "memory_utilization_percent"),
    Quantity("memory_used_bytes", "Memory used", "bytes", 1, "memory_used_bytes"),
    Quantity("memory_total_bytes", "Memory", "bytes", 1, "memory_total_bytes"),
    Quantity("power_mw", "Power", "W", 1e-3, "power_watts"),
    Quantity("power_limit_mw", "Power limit", "W", 1e-3, "power_limit_watts"),
    Quantity("energy_mj", "Energy", "J", 1e-3, "energy_joules", counter=True),
    Quantity("temperature_c", "Temperature", "C", 1, "temperature_celsius"),
    Quantity("memory_temperature_c", "Memory temperature", "C", 1, "memory_temperature_celsius"),
    Quantity("sm_clock_mhz", "SM clock", "MHz", 1, "sm_clock_megahertz"),
    Quantity("memory_clock_mhz", "Memory clock", "MHz", 1, "memory_clock_megahertz"),
    Quantity("throttle_reasons", "Throttling", "bits", 1, "throttle_reasons_bits"),
    Quantity("performance_state", "Performance state", "count", 1, "performance_state"),
    Quantity("pcie_tx_bytes_per_s", "PCIe sent", "bytes/s", 1, "pcie_sent_bytes_per_second"),
    Quantity("pcie_rx_bytes_per_s", "PCIe received", "bytes/s", 1, "pcie_received_bytes_per_second"),
    Quantity("pcie_generation", "PCIe generation", "count", 1, "pcie_generation"),
    Quantity("pcie_width", "PCIe lanes", "count", 1, "pcie_lanes"),
    Quantity("pcie_replays", "PCIe replays", "count", 1, "pcie_replays", counter=True),
    Quantity("nvlink_tx_kib", "NVLink sent", "bytes", 1024, "nvlink_sent_bytes", counter=True),
    Quantity("nvlink_rx_kib", "NVLink received", "bytes", 1024, "nvlink_received_bytes", counter=True),
    Quantity("ecc_corrected", "ECC errors corrected", "count", 1, "ecc_corrected_errors", counter=True),
    Quantity("ecc_uncorrected", "ECC errors uncorrected", "count", 1, "ecc_uncorrected_errors", counter=True),
    Quantity("fan_percent", "Fan", "percent", 1, "fan_percent"),
)
"""Every figure, in the order of `Figures`."""
