"""Devices by name, found when first used, and what happens when one is not there."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tessera.program.errors import DeviceError

if TYPE_CHECKING:
    import numpy as np

    from tessera.program.program import Program
    from tessera.runtime.profile import Recorder
    from tessera.runtime.source import ProgramSource
    from tessera.runtime.workspace import Workspace

DEVICES: dict[str, str] = {
    "cpu": "tessera.runtime.cpu",
    "reference": "tessera.runtime.reference",
    "cuda": "tessera.runtime.cuda",
    "emulator": "tessera.runtime.emulator",
}
"""The module of each kind of device; it has `open_device(index, memory_limit_bytes)`."""

STRICT_VARIABLE = "TESSERA_STRICT_DEVICE"
"""Set to 1, a device that is not there is an error and never replaced by the CPU."""


class DeviceFallbackWarning(UserWarning):
    """A program runs on another device than the one asked for."""


class LoadedProgram(Protocol):
    """A program ready to run on one device."""

    @property
    def target(self) -> str:
        """What code it runs: `cpu-x86_64-v3`, `sm_90 cubin`, `reference`."""

    def run(
        self,
        inputs: Sequence[np.ndarray[Any, Any]],
        recorder: Recorder | None,
        workspace: Workspace | None = None,
    ) -> list[np.ndarray[Any, Any]]:
        """Outputs in the order of `program.outputs`. Any number of threads may call this at once.

        Args:
            inputs: In the order of `program.inputs`, of the ports' dtypes and shapes,
                C-contiguous; scalars as arrays of rank 0.
            recorder: Takes the time of every step, if there is one.
            workspace: Working memory to use instead of the device's own pool.

        Raises:
            DeviceError: The device takes no workspace, or this one is of another device.
        """


class Device(Protocol):
    """One place where programs run."""

    @property
    def name(self) -> str:
        """`cpu`, `cuda:0`."""

    @property
    def description(self) -> str:
        """What it is, for people: `NVIDIA H200, compute capability 9.0`."""

    def load(self, program: Program, source: ProgramSource) -> LoadedProgram:
        """Make `program` ready to run.

        Raises:
            DeviceError: There is no code in it for this device.
        """

    def memory_usage(self) -> dict[str, int]:
        """Bytes by what they are for; see `MemoryPool.usage`, and `weights_bytes`."""

    def close(self) -> None:
        """Give everything back. Nothing runs on it any more."""


@runtime_checkable
class Budgeted(Protocol):
    """A device that ends kernels which do not end by themselves."""

    step_budget: int | None
    """What a block of threads may do, for what is loaded from now on; None: the device's own limit."""


@dataclass(frozen=True, slots=True)
class DeviceName:
    """A parsed device name."""

    kind: str
    """Key of `DEVICES`."""
    index: int = 0
    """Which of several, as in `cuda:1`."""

    def __str__(self) -> str:
        return f"cuda:{self.index}" if self.kind == "cuda" else self.kind


def parse_device(name: str) -> DeviceName:
    """The device called `name`, such as `cpu`, `cuda` or `cuda:1`.

    Raises:
        DeviceError: No device is called so.
    """
    match = re.fullmatch(r"(\w+)(?::(\d{1,4}))?", name) if isinstance(name, str) else None
    if match is None or match[1] not in DEVICES or (match[2] and match[1] != "cuda"):
        known = ", ".join("cuda:0" if kind == "cuda" else kind for kind in DEVICES)
        raise DeviceError(f"unknown device {name!r}", hint=f"known: {known}")
    return DeviceName(match[1], int(match[2] or 0))


def open_device(name: DeviceName, memory_limit_bytes: int | None) -> Device:
    """The device itself.

    Raises:
        DeviceError: It is not there.
        MissingDependencyError: It needs an optional package that is not installed.
    """
    module = DEVICES[name.kind]
    if importlib.util.find_spec(module) is None:
        raise DeviceError(
            f"the device {name.kind!r} is not part of this version of Tessera",
            hint="pip install --upgrade tessera, or use device='cpu'",
        )
    device: Device = importlib.import_module(module).open_device(name.index, memory_limit_bytes)
    return device


def is_strict(strict_device: bool) -> bool:
    """Whether a missing device is an error: the argument, or else the environment, says so."""
    return strict_device or os.environ.get(STRICT_VARIABLE, "") not in ("", "0")
