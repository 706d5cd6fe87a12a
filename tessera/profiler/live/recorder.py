"""Writes what a sampler sees into a file."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import msgspec

from tessera.profiler.live.figures import Machine, Mark, Reading, Sample
from tessera.profiler.live.recording_format import (
    MAGIC,
    VERSION,
    WHOLE_EVERY,
    ChangeBody,
    ChangesBody,
    DeviceBody,
    GpuBody,
    HeaderBody,
    Kind,
    ProcessBody,
    StateBody,
    WholeBody,
    frame,
)
from tessera.program.errors import RecordingError


class Recorder:
    """Appends samples and marks to a new file, each by one write: what was written outlives `kill -9`.

    Give `write` and `mark` to `Sampler.listen`.

    Args:
        path: The file; must not exist.
        machine: Whose samples.
        interval_s: Of the sampler.
        started_unix_s: When it started.
        label: What screens call the recording; `recorded on NVIDIA H200` if not given.

    Raises:
        RecordingError: The file exists.
    """

    def __init__(
        self,
        path: str | Path,
        machine: Machine,
        *,
        interval_s: float,
        started_unix_s: float,
        label: str | None = None,
    ) -> None:
        self.path = Path(path)
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        except FileExistsError:
            raise RecordingError(
                f"{self.path} exists; a recording is never written over",
                hint=f"choose another name, or rm {self.path}",
            ) from None
        self._encoder = msgspec.msgpack.Encoder()
        self._last: Sample | None = None
        self._samples = 0
        self.bytes_written = 0
        """Size of the file so far."""
        header = HeaderBody(
            version=VERSION,
            label=label or label_of(machine),
            started_unix_s=started_unix_s,
            interval_s=interval_s,
            driver=machine.driver,
            cuda_version=machine.cuda_version,
            devices=[msgspec.convert(device, DeviceBody, from_attributes=True) for device in machine.devices],
        )
        self._append(MAGIC + frame(Kind.HEADER, 0, self._encoder.encode(header)))

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, sample: Sample) -> None:
        """Append one sample.

        Raises:
            OSError: The disk is full, say.
        """
        last = self._last
        if last is None or self._samples % WHOLE_EVERY == 0:
            body, kind = self._encoder.encode(_whole(sample)), Kind.WHOLE
        else:
            body, kind = self._encoder.encode(_changes(last, sample)), Kind.CHANGES
        # After a failed write the next sample is whole: nothing may build on what is not there.
        self._last = None
        self._append(frame(kind, sample.time_ns, body))
        self._last = sample
        self._samples = 1 if last is None else self._samples + 1

    def mark(self, mark: Mark) -> None:
        """Append one mark."""
        self._append(frame(Kind.MARK, mark.time_ns, self._encoder.encode(mark.text)))

    def close(self) -> None:
        """Say that the recording is complete. Closing twice is fine."""
        if self._file >= 0:
            try:
                time_ns = self._last.time_ns if self._last else 0
                self._append(frame(Kind.END, time_ns, self._encoder.encode(None)))
            finally:
                os.close(self._file)
                self._file = -1

    def _append(self, data: bytes) -> None:
        if self._file < 0:
            return
        written = os.write(self._file, data)
        if written < len(data):
            # A disk that is nearly full takes a part: take it back, so that later frames can be read.
            os.ftruncate(self._file, self.bytes_written)
            raise OSError(28, "No space left on device", str(self.path))
        self.bytes_written += written


def label_of(machine: Machine) -> str:
    """`recorded on 8 × NVIDIA H200`."""
    names = list(dict.fromkeys(device.name for device in machine.devices))
    count = f"{len(machine.devices)} × " if len(machine.devices) > 1 else ""
    return f"recorded on {count}{' and '.join(names) or 'a machine without GPUs'}"


def _state(reading: Reading) -> StateBody:
    processes: list[ProcessBody] | None = None if reading.processes is None else [*reading.processes]
    return StateBody(processes, [*reading.instances], dict(reading.missing), reading.fault)


def _whole(sample: Sample) -> WholeBody:
    gpus = [GpuBody(list(reading.figures), _state(reading)) for reading in sample.readings]
    return WholeBody(gpus, list(sample.launches))


def _changes(before: Sample, now: Sample) -> ChangesBody:
    gpus = []
    for index, (old, new) in enumerate(zip(before.readings, now.readings, strict=True)):
        figures: list[int | None] = []
        for place, (was, value) in enumerate(zip(old.figures, new.figures, strict=True)):
            if was != value:
                figures += (place, value)
        same = (old.processes, old.instances, old.missing, old.fault) == (
            new.processes,
            new.instances,
            new.missing,
            new.fault,
        )
        if figures or not same:
            gpus.append(ChangeBody(index, figures, None if same else _state(new)))
    return ChangesBody(gpus, list(now.launches))
