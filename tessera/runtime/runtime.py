"""Runtime: programs loaded on a device, ready to be executed from any thread."""

from __future__ import annotations

import threading
import time
import warnings
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from tessera.program.artifact import Artifact
from tessera.program.errors import DeviceError, InputError, MissingDependencyError
from tessera.program.program import Program, default_program
from tessera.runtime.batch import as_result, run_batch
from tessera.runtime.devices import (
    Budgeted,
    Device,
    DeviceFallbackWarning,
    DeviceName,
    LoadedProgram,
    is_strict,
    open_device,
    parse_device,
)
from tessera.runtime.inputs import InputReader
from tessera.runtime.memory import parse_bytes
from tessera.runtime.profile import Profile, Recorder
from tessera.runtime.source import ArtifactSource, ProgramSource
from tessera.runtime.workspace import Workspace, as_workspace

Array = np.ndarray[Any, Any]
Result = Array | dict[str, Array]


class Runtime:
    """The programs of a package on one device. Any number of threads may use it at once.

    A `with` block keeps it open to its end, whoever closes it meanwhile; code and
    weights stay loaded afterwards, so that entering again costs nothing. `close`
    gives everything back, once the calls and blocks under way are over.

    Args:
        source: Where programs, code and weights come from.
        device: `cpu`, `cuda:0`, `reference` or `emulator`.
        memory_pool_size: Most working memory to hold, such as `"4GB"`; None for no limit.
        enable_profiling: Measure every step, see `profile`; a `Timeline` keeps every single call too. It
            costs a little.
        strict_device: A device that is not there is an error, instead of the CPU taking its place.
        step_budget: What a block of threads may do on the emulator, see `DeploymentPackage.create_runtime`.

    Raises:
        DeviceError: No device can run these programs, or with `strict_device` not this one.
        ConfigError: `memory_pool_size` is not a size.
    """

    def __init__(
        self,
        source: ProgramSource,
        device: str = "cpu",
        *,
        memory_pool_size: int | str | None = "4GB",
        enable_profiling: bool | Recorder = False,
        strict_device: bool = False,
        step_budget: int | None = None,
    ) -> None:
        own = enable_profiling if isinstance(enable_profiling, Recorder) else None
        self._recorder = own if own is not None else Recorder() if enable_profiling else None
        limits = Limits(parse_bytes(memory_pool_size), step_budget)
        self._state = _State(*_open(source, parse_device(device), limits, strict=is_strict(strict_device)))
        self._programs = dict(source.programs)
        self._readers = {name: InputReader(program) for name, program in self._programs.items()}
        self._finalizer = weakref.finalize(self, self._state.close)

    @property
    def device(self) -> str:
        """Name of the device it runs on, which after a fallback is not the one asked for."""
        return self._state.device.name

    @property
    def device_description(self) -> str:
        """What that device is, for people."""
        return self._state.device.description

    @property
    def programs(self) -> Mapping[str, Program]:
        """Every program by name."""
        return self._programs

    @property
    def targets(self) -> dict[str, str]:
        """By program, the code it runs: `cpu-x86_64-v3`, `sm_90 cubin`, `reference`."""
        return {name: loaded.target for name, loaded in self._state.loaded.items()}

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._state.closed

    def execute(self, *inputs: Any, workspace: Workspace | None = None) -> Result:
        """Run a program once.

        Args:
            inputs: One value per input, or a single mapping from input names to values, or a
                single list of values. A value is an array, a Tensor, a number or a nested
                list. A `str` in front names the program: `execute("forward", x)`;
                otherwise it is the only one, or the one called `forward`.
            workspace: A buffer of a memory pool (`create_memory_pool`) to work in, instead of the
                runtime's own memory.

        Returns:
            The output as an array; with several outputs a dict by name.

        Raises:
            InputError: Not the inputs that the program takes.
            DeviceError: The runtime is closed, or the device failed.
            OutOfMemoryError: The working memory does not fit the pool.
        """
        name, given = self._program_of(inputs)
        lent = as_workspace(workspace)
        return as_result(self._programs[name], self._run(name, self._readers[name].read(given), lent))

    def execute_batch(self, *batch: Any, max_batch_size: int = 32, workspace: Workspace | None = None) -> Any:
        """Run many examples, at most `max_batch_size` at a time.

        Args:
            batch: A list of examples without the batch axis, or stacked arrays; a `str` in
                front names the program. With several inputs an example is a tuple or a
                mapping, and stacked arrays come as a tuple or a mapping.
            max_batch_size: Most examples of one execution.
            workspace: As for `execute`.

        Returns:
            A list of results for a list, stacked results for stacked arrays.

        Raises:
            InputError: The program has no symbolic batch axis, or does not take these examples.
            DeviceError: The runtime is closed, or the device failed.
        """
        name, given = self._program_of(batch)
        examples = given[0] if len(given) == 1 else tuple(given)
        lent = as_workspace(workspace)
        return run_batch(
            self._readers[name], lambda inputs: self._run(name, inputs, lent), examples, max_batch_size
        )

    @property
    def profile(self) -> Profile | None:
        """Times of every step so far; None without `enable_profiling`."""
        return self._recorder.snapshot(self.device) if self._recorder else None

    def reset_profile(self) -> None:
        """Forget the times so far."""
        if self._recorder:
            self._recorder.reset()

    def memory_usage(self) -> dict[str, int]:
        """Bytes on the device: `in_use_bytes`, `reserved_bytes`, `peak_bytes`, `weights_bytes`
        and, where there is one, `limit_bytes` (of the pool).
        """
        return self._state.device.memory_usage()

    def close(self) -> None:
        """Refuse further calls; give everything back once those under way are over."""
        self._state.close()

    def __enter__(self) -> Self:
        self._state.enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._state.leave()

    def __repr__(self) -> str:
        state = "closed" if self.closed else self._state.device.description
        return f"<Runtime of {', '.join(self._programs)} on {self.device}: {state}>"

    def _run(self, name: str, inputs: Sequence[Array], workspace: Workspace | None) -> list[Array]:
        state = self._state
        state.enter()
        try:
            if self._recorder is None:
                return state.loaded[name].run(inputs, None, workspace)
            start = time.perf_counter_ns()
            outputs = state.loaded[name].run(inputs, self._recorder, workspace)
            self._recorder.add_execution(time.perf_counter_ns() - start, name, start)
            return outputs
        finally:
            state.leave()

    def _program_of(self, given: Sequence[Any]) -> tuple[str, Sequence[Any]]:
        if given and isinstance(given[0], str):
            if given[0] not in self._programs:
                raise InputError(f"there is no program called {given[0]!r}", hint=self._listing())
            return given[0], given[1:]
        default = default_program(self._programs)
        if default is not None:
            return default, given
        raise InputError(
            f"there are {len(self._programs)} programs: say which one, as in "
            f"execute({next(iter(self._programs), 'name')!r}, …)",
            hint=self._listing(),
        )

    def _listing(self) -> str:
        return "programs: " + ", ".join(self._programs)


class _State:
    """What a runtime holds, and who is using it."""

    def __init__(self, device: Device, loaded: dict[str, LoadedProgram]) -> None:
        self.device = device
        self.loaded = loaded
        self.closed = False
        self._users = 0
        self._lock = threading.Lock()

    def enter(self) -> None:
        """One more user.

        Raises:
            DeviceError: It is closed.
        """
        with self._lock:
            # A block that was entered before `close` may go on executing.
            if self.closed and not self._users:
                raise DeviceError(
                    "the runtime is closed", hint="create another with package.create_runtime(…)"
                )
            self._users += 1

    def leave(self) -> None:
        """One user less; the last one after `close` gives everything back."""
        with self._lock:
            self._users -= 1
            last = self.closed and not self._users
        if last:
            self._release()

    def close(self) -> None:
        """See `Runtime.close`."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            idle = not self._users
        if idle:
            self._release()

    def _release(self) -> None:
        self.loaded = {}
        self.device.close()


def open_artifact(
    artifact: Artifact,
    device: str = "cpu",
    *,
    memory_pool_size: int | str | None = None,
    enable_profiling: bool | Recorder = False,
    strict_device: bool = False,
    step_budget: int | None = None,
) -> Runtime:
    """A runtime for programs that were compiled in this process and never saved.

    Raises:
        DeviceError: No device can run them, or with `strict_device` not this one.
    """
    return Runtime(
        ArtifactSource(artifact),
        device,
        memory_pool_size=memory_pool_size,
        enable_profiling=enable_profiling,
        strict_device=strict_device,
        step_budget=step_budget,
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """What programs may use of a device."""

    memory_bytes: int | None
    """Most working memory to hold; None for no limit."""
    steps: int | None
    """What a block of threads may do on the emulator; None: its own limit."""


def _open(
    source: ProgramSource, name: DeviceName, limits: Limits, *, strict: bool
) -> tuple[Device, dict[str, LoadedProgram]]:
    """The device and the loaded programs; the CPU or the reference where that one cannot."""
    if not source.programs:
        raise DeviceError(
            "there is no program in it to run", hint="tessera inspect shows what a package holds"
        )
    try:
        return _load(source, name, limits)
    except (DeviceError, MissingDependencyError) as error:
        if strict:
            raise DeviceError(
                f"device {str(name)!r} cannot run this: {error.message}",
                hint=error.hint,
                device=str(name),
            ) from error
        reason = error
    for other in FALLBACKS:
        if other == name.kind:
            continue
        try:
            opened = _load(source, DeviceName(other), limits)
        except DeviceError:
            continue
        hint = f" ({reason.hint})" if reason.hint else ""
        warnings.warn(
            f"{name}: {reason.message}{hint}; running on {other} instead",
            DeviceFallbackWarning,
            stacklevel=_stack_level(),
        )
        return opened
    raise reason


FALLBACKS = ("cpu", "reference")
"""What takes the place of a device that cannot run a program, in this order."""


def _stack_level() -> int:
    """How far up the first frame outside this room is: the warning names the user's line."""
    import inspect

    level, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("tessera."):
        frame, level = frame.f_back, level + 1
    return level


def _load(source: ProgramSource, name: DeviceName, limits: Limits) -> tuple[Device, dict[str, LoadedProgram]]:
    device = open_device(name, limits.memory_bytes)
    if isinstance(device, Budgeted):
        device.step_budget = limits.steps
    try:
        return device, {key: device.load(program, source) for key, program in source.programs.items()}
    except BaseException:
        device.close()
        raise
