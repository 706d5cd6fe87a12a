"""Reads one GPU in two tiers: what is cheap often, what is dear seldom."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tessera.profiler.live.figures import NOTHING, Device, Figures, MigInstance, Process, Reading
from tessera.profiler.live.nvml import FAULTS, Nvml, why

MIG_UTILIZATION = "MIG is on: the driver does not measure the utilization of a split GPU"

_FIELD_KINDS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Member of the value's union by its type. Source: nvml.h, nvmlValueType_t."""

_ALL_LINKS = 0xFFFFFFFF
"""Scope of an NVLink field that asks for the sum over the links. Source: nvml.h, nvmlFieldValue_t."""


Call = Callable[[Any, Any], Any]
"""Takes the bindings and a handle."""

_UNKNOWN_TO_DRIVER = frozenset({2, 3, 13, 25})
"""Codes with which drivers refuse a field they do not know."""


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
        self._fast_fields, self._slow_fields = _batched(self._api)
        self._fast_calls: dict[str, Call] = {}
        self._slow_calls: dict[str, Call] = {}

    def read(self, *, slow: bool) -> Reading:
        """The figures now; those of the slow tier are as old as the last slow reading.

        A GPU that is lost is asked again at each slow reading, in case it comes back.
        """
        if self._handle is None or (self._fault is not None and not slow):
            return Reading(NOTHING, fault=self._fault)
        self._fault = None
        if slow:
            self._missing = {}
        try:
            self._read_fast()
            if slow:
                self._read_slow()
        except _LostError as lost:
            self._fault = str(lost)
            self._values.clear()
            return Reading(NOTHING, fault=self._fault)
        return Reading(
            Figures(**self._values), self._processes, self._instances, dict(self._missing), self._fault
        )

    def _read_fast(self) -> None:
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
        self._read_fields(self._fast_fields, self._fast_calls)
        self._one("throttle_reasons", lambda: api.nvmlDeviceGetCurrentClocksThrottleReasons(handle))

    def _read_slow(self) -> None:
        api, handle = self._api, self._handle
        self._read_fields(self._slow_fields, self._slow_calls)
        for name, question in (
            ("temperature_c", lambda: api.nvmlDeviceGetTemperature(handle, api.NVML_TEMPERATURE_GPU)),
            ("sm_clock_mhz", lambda: api.nvmlDeviceGetClockInfo(handle, api.NVML_CLOCK_SM)),
            ("memory_clock_mhz", lambda: api.nvmlDeviceGetClockInfo(handle, api.NVML_CLOCK_MEM)),
            ("performance_state", lambda: api.nvmlDeviceGetPerformanceState(handle)),
            ("pcie_generation", lambda: api.nvmlDeviceGetCurrPcieLinkGeneration(handle)),
            ("pcie_width", lambda: api.nvmlDeviceGetCurrPcieLinkWidth(handle)),
            ("power_limit_mw", lambda: api.nvmlDeviceGetEnforcedPowerLimit(handle)),
            ("fan_percent", lambda: api.nvmlDeviceGetFanSpeed(handle)),
        ):
            self._one(name, question)
        self._read_processes()

    def _read_processes(self) -> None:
        parts = self._nvml.instances(self._handle) if self._device.mig else ()
        self._instances = tuple(instance for instance, _ in parts)
        found: list[Process] | None = []
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
        names = tuple(fields)
        try:
            answer = self._api.nvmlDeviceGetFieldValues(self._handle, [*fields.values()])
        except self._nvml.errors as refusal:
            answer = [refusal] * len(names)
        for name, entry in zip(names, answer, strict=True):
            error = _error_of(self._api, entry)
            if error is None:
                self._set(name, getattr(entry.value, _FIELD_KINDS[entry.valueType]))
                continue
            self._failed((name,), error)
            if name in _WITHOUT_FIELDS and getattr(error, "value", None) in _UNKNOWN_TO_DRIVER:
                calls[name] = _WITHOUT_FIELDS[name]
                del fields[name]
        for name, call in calls.items():
            self._one(name, partial(call, self._api, self._handle))

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


def _batched(api: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields of the fast and the slow tier: a number, or a number and a scope."""
    fast = {
        "power_mw": api.NVML_FI_DEV_POWER_INSTANT,
        "energy_mj": api.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,
        "pcie_tx_bytes": api.NVML_FI_DEV_PCIE_COUNT_TX_BYTES,
        "pcie_rx_bytes": api.NVML_FI_DEV_PCIE_COUNT_RX_BYTES,
        "nvlink_tx_kib": (api.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, _ALL_LINKS),
        "nvlink_rx_kib": (api.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, _ALL_LINKS),
    }
    slow = {
        "memory_temperature_c": api.NVML_FI_DEV_MEMORY_TEMP,
        "pcie_replays": api.NVML_FI_DEV_PCIE_REPLAY_COUNTER,
        "ecc_corrected": api.NVML_FI_DEV_ECC_SBE_VOL_TOTAL,
        "ecc_uncorrected": api.NVML_FI_DEV_ECC_DBE_VOL_TOTAL,
    }
    return fast, slow


def _error_of(api: Any, entry: Any) -> Exception | None:
    """Why a field of a batch has no value; `entry` is the error itself where the whole batch failed."""
    if isinstance(entry, Exception):
        return entry
    error: Exception | None = api.NVMLError(entry.nvmlReturn) if entry.nvmlReturn else None
    return error


_WITHOUT_FIELDS: dict[str, Call] = {
    "power_mw": lambda api, handle: api.nvmlDeviceGetPowerUsage(handle),
    "energy_mj": lambda api, handle: api.nvmlDeviceGetTotalEnergyConsumption(handle),
    "pcie_replays": lambda api, handle: api.nvmlDeviceGetPcieReplayCounter(handle),
    "ecc_corrected": lambda api, handle: api.nvmlDeviceGetTotalEccErrors(handle, 0, 0),
    "ecc_uncorrected": lambda api, handle: api.nvmlDeviceGetTotalEccErrors(handle, 1, 0),
}
"""Calls of their own, for drivers that do not know the field."""
