"""Reads one GPU in three tiers: what is cheap often, what is dear seldom.

On an H200 (driver 580.159) power, clocks, temperature, memory and utilization took 1 to 6 µs each,
a PCIe counter 0.16 ms, the energy counter 3 ms of processor time; a fan 0.14 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import Any

from tessera.profiler.live.figures import NOTHING, Device, Figures, MigInstance, Process, Reading
from tessera.profiler.live.nvml import FAULTS, Nvml, why
from tessera.profiler.live.pcie import PcieWindow

MIG_UTILIZATION = "MIG is on: the driver does not measure the utilization of a split GPU"

_FIELD_KINDS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Member of the value's union by its type. Source: nvml.h, nvmlValueType_t."""

_ALL_LINKS = 0xFFFFFFFF
"""Scope of an NVLink field that asks for the sum over the links. Source: nvml.h, nvmlFieldValue_t."""


Call = Callable[[Any, Any], Any]
"""Takes the bindings and a handle."""

_UNKNOWN_TO_DRIVER = frozenset({2, 3, 13, 25})
"""Codes with which drivers refuse a field they do not know."""


class Tier(IntEnum):
    """How much to read; a tier includes those before it."""

    FAST = 0
    SLOW = 1
    RARE = 2


class GpuReader:
    """One GPU. Not for use by two threads at once."""

    def __init__(self, nvml: Nvml, handle: Any, device: Device, names: dict[int, str]) -> None:
        self._nvml = nvml
        self._api = nvml.api
        self._handle = handle
        self._device = device
        self._names = names
        self._values: dict[str, int | None] = {}
        self._missing: dict[str, str] = {}
        self._processes: tuple[Process, ...] | None = None
        self._instances: tuple[MigInstance, ...] = ()
        self._fault: str | None = None if handle is not None else "the driver gives no access to this GPU"
        self._memory_v2 = True
        self._links = PcieWindow()
        self._fields = _batched(self._api)
        self._calls: dict[Tier, dict[str, Call]] = {tier: dict(calls) for tier, calls in _CALLS.items()}

    def read(self, tier: Tier) -> Reading:
        """The figures now; those of the other tiers are as old as their last reading.

        A GPU that is lost is asked again at each slow reading, in case it comes back.
        """
        if self._handle is None or (self._fault is not None and tier is Tier.FAST):
            return Reading(NOTHING, fault=self._fault)
        try:
            # A GPU that comes back is read as a whole.
            self._read(Tier.RARE if self._fault is not None else tier)
        except _LostError as lost:
            return self._lose(lost)
        self._fault = None
        return Reading(Figures(**self._values), self._processes, self._instances, dict(self._missing))

    def end_window(self) -> None:
        """Close the window of the PCIe rates that a slow reading opened; call it 0.01 to 0.03 s later."""
        if self._handle is None or self._fault is not None:
            return
        try:
            self._links.close(self._field_values(_PCIE_FIELDS), self._set, self._lack)
        except _LostError as lost:
            self._lose(lost)

    def _lose(self, lost: _LostError) -> Reading:
        self._fault = str(lost)
        self._values.clear()
        self._missing.clear()
        return Reading(NOTHING, fault=self._fault)

    def _read(self, tier: Tier) -> None:
        api, handle = self._api, self._handle
        if self._device.mig:
            self._lack("utilization_percent", MIG_UTILIZATION)
            self._lack("memory_utilization_percent", MIG_UTILIZATION)
        else:
            rates = self._ask(
                ("utilization_percent", "memory_utilization_percent"),
                lambda: api.nvmlDeviceGetUtilizationRates(handle),
            )
            if rates is not None:
                self._set("utilization_percent", rates.gpu)
                self._set("memory_utilization_percent", rates.memory)
        memory = self._ask(("memory_used_bytes", "memory_total_bytes"), self._memory)
        if memory is not None:
            self._set("memory_used_bytes", memory.used)
            self._set("memory_total_bytes", memory.total)
        for each in Tier:
            if each <= tier:
                self._read_fields(self._fields[each], self._calls[each])
        if tier >= Tier.SLOW:
            self._links.open(self._field_values(_PCIE_FIELDS), self._lack)
            self._read_processes()

    def _read_processes(self) -> None:
        parts = self._nvml.instances(self._handle) if self._device.mig else ()
        self._instances = tuple(instance for instance, _ in parts)
        found: list[Process] | None = []
        self._missing.pop("processes", None)
        for handle in [part for _, part in parts] or [self._handle]:
            listed = self._ask(("processes",), partial(self._nvml.processes, handle, self._names))
            found = None if listed is None or found is None else [*found, *listed]
        self._processes = None if found is None else tuple(found)

    def _memory(self) -> Any:
        """Version 2 leaves what the driver keeps for itself out of `used`, as nvidia-smi does."""
        api = self._api
        if self._memory_v2:
            try:
                return api.nvmlDeviceGetMemoryInfo(self._handle, version=api.nvmlMemory_v2)
            except api.NVMLError as error:
                if error.value in FAULTS:
                    raise
                self._memory_v2 = False
        return api.nvmlDeviceGetMemoryInfo(self._handle)

    def _read_fields(self, fields: dict[str, Any], calls: dict[str, Call]) -> None:
        """One call for many figures, each with a status of its own; then those that have calls of their own.

        A field that this driver does not know goes over from `fields` to `calls` for good.
        """
        for name, answer in self._field_values(fields).items():
            if not isinstance(answer, Exception):
                self._set(name, answer[0])
                continue
            self._failed((name,), answer)
            if name in _WITHOUT_FIELDS and getattr(answer, "value", None) in _UNKNOWN_TO_DRIVER:
                calls[name] = _WITHOUT_FIELDS[name]
                del fields[name]
        for name, call in calls.items():
            self._one(name, partial(call, self._api, self._handle))

    def _field_values(self, fields: dict[str, Any]) -> dict[str, tuple[int, int] | Exception]:
        """Value and type of each field, or why there is none."""
        if not fields:
            return {}
        try:
            entries = self._api.nvmlDeviceGetFieldValues(self._handle, [*fields.values()])
        except self._nvml.errors as refusal:
            if getattr(refusal, "value", None) in FAULTS:
                raise _LostError(why(refusal)) from refusal
            return dict.fromkeys(fields, refusal)
        found: dict[str, tuple[int, int] | Exception] = {}
        for name, entry in zip(fields, entries, strict=True):
            if entry.nvmlReturn:
                found[name] = self._api.NVMLError(entry.nvmlReturn)
            else:
                found[name] = (int(getattr(entry.value, _FIELD_KINDS[entry.valueType])), entry.valueType)
        return found

    def _one(self, name: str, question: Callable[[], Any]) -> None:
        answer = self._ask((name,), question)
        if answer is not None:
            self._set(name, answer)

    def _set(self, name: str, value: float) -> None:
        self._values[name] = int(value)
        self._missing.pop(name, None)

    def _ask(self, names: tuple[str, ...], question: Callable[[], Any]) -> Any:
        """The answer; None, with the reason noted under `names`, where there is none."""
        try:
            return question()
        except self._nvml.errors as error:
            self._failed(names, error)
            return None

    def _failed(self, names: tuple[str, ...], error: Exception) -> None:
        if getattr(error, "value", None) in FAULTS:
            raise _LostError(why(error)) from error
        for name in names:
            self._lack(name, why(error))

    def _lack(self, name: str, reason: str) -> None:
        if name in Figures._fields:
            self._values[name] = None
        self._missing[name] = reason


class _LostError(Exception):
    """The GPU answers nothing any more."""


_PCIE_FIELDS: dict[str, Any] = {"pcie_tx_bytes_per_s": 197, "pcie_rx_bytes_per_s": 198}
"""Counters of bytes. Source: nvml.h, NVML_FI_DEV_PCIE_COUNT_TX_BYTES and _RX_BYTES."""


def _batched(api: Any) -> dict[Tier, dict[str, Any]]:
    """Fields of each tier: a number, or a number and a scope."""
    return {
        Tier.FAST: {"power_mw": api.NVML_FI_DEV_POWER_INSTANT},
        Tier.SLOW: {
            "nvlink_tx_kib": (api.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, _ALL_LINKS),
            "nvlink_rx_kib": (api.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, _ALL_LINKS),
        },
        Tier.RARE: {
            "energy_mj": api.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,
            "memory_temperature_c": api.NVML_FI_DEV_MEMORY_TEMP,
            "pcie_replays": api.NVML_FI_DEV_PCIE_REPLAY_COUNTER,
            "ecc_corrected": api.NVML_FI_DEV_ECC_SBE_VOL_TOTAL,
            "ecc_uncorrected": api.NVML_FI_DEV_ECC_DBE_VOL_TOTAL,
        },
    }


_CALLS: dict[Tier, dict[str, Call]] = {
    Tier.FAST: {
        "throttle_reasons": lambda api, handle: api.nvmlDeviceGetCurrentClocksThrottleReasons(handle),
        "sm_clock_mhz": lambda api, handle: api.nvmlDeviceGetClockInfo(handle, api.NVML_CLOCK_SM),
        "temperature_c": lambda api, handle: api.nvmlDeviceGetTemperature(handle, api.NVML_TEMPERATURE_GPU),
    },
    Tier.SLOW: {
        "memory_clock_mhz": lambda api, handle: api.nvmlDeviceGetClockInfo(handle, api.NVML_CLOCK_MEM),
        "performance_state": lambda api, handle: api.nvmlDeviceGetPerformanceState(handle),
        "pcie_generation": lambda api, handle: api.nvmlDeviceGetCurrPcieLinkGeneration(handle),
        "pcie_width": lambda api, handle: api.nvmlDeviceGetCurrPcieLinkWidth(handle),
        "power_limit_mw": lambda api, handle: api.nvmlDeviceGetEnforcedPowerLimit(handle),
    },
    Tier.RARE: {"fan_percent": lambda api, handle: api.nvmlDeviceGetFanSpeed(handle)},
}
"""Figures with a call of their own."""

_WITHOUT_FIELDS: dict[str, Call] = {
    "power_mw": lambda api, handle: api.nvmlDeviceGetPowerUsage(handle),
    "energy_mj": lambda api, handle: api.nvmlDeviceGetTotalEnergyConsumption(handle),
    "pcie_replays": lambda api, handle: api.nvmlDeviceGetPcieReplayCounter(handle),
    "ecc_corrected": lambda api, handle: api.nvmlDeviceGetTotalEccErrors(handle, 0, 0),
    "ecc_uncorrected": lambda api, handle: api.nvmlDeviceGetTotalEccErrors(handle, 1, 0),
}
"""Calls of their own, for drivers that do not know the field."""
