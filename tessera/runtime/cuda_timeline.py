"""One execution on a GPU, piece by piece: marks on its stream, and what the host did meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from tessera.runtime.timeline import Kind, Span, Timeline

if TYPE_CHECKING:
    from tessera.runtime.cuda_driver import Call, Driver, Event, Stream
    from tessera.runtime.memory import Block
    from tessera.runtime.workspace import Lender


class Watch:
    """Copies and launches of one execution, each between two marks.

    Between two marks lies what the GPU did for a piece and, where the host was not ahead of it, what it
    waited for the host; `empty` spans are two marks with nothing in between, the least that marks can tell.

    Args:
        driver: Of the GPU.
        stream: That all of the execution is on.
        timeline: Takes the spans.
        uploads: Names of what is uploaded, in order.
        copies: Names of what is copied on the device.
        downloads: Names of what is downloaded.
    """

    def __init__(
        self,
        driver: Driver,
        stream: Stream,
        timeline: Timeline,
        uploads: Iterable[str],
        copies: Iterable[str],
        downloads: Iterable[str],
    ) -> None:
        self._driver = driver
        self._stream = stream
        self._timeline = timeline
        self._names = {"upload": iter(uploads), "copy": iter(copies), "download": iter(downloads)}
        self._pieces: list[tuple[Kind, str, int | None, int | None]] = []
        self._marks: list[Event] = []
        self._start_ns = 0

    def acquire(self, pool: Lender[Any], size: int) -> Block[Any]:
        """The working memory; from the driver only where the pool has none that fits."""
        with self._timeline.host("allocate", "working memory", size_bytes=size):
            return pool.acquire(size)

    def begin(self) -> None:
        """The first mark, before any work."""
        self._start_ns = time.perf_counter_ns()
        self._marks.append(self._driver.mark(self._stream))
        self._mark("empty", "", None, None)

    def upload(self, target: int, source: int, size: int, stream: Stream) -> None:
        """Copy from host memory."""
        with self._piece("upload", size):
            self._driver.upload(target, source, size, stream)

    def copy(self, target: int, source: int, size: int, stream: Stream) -> None:
        """Copy within the device."""
        with self._piece("copy", size):
            self._driver.copy(target, source, size, stream)

    def download(self, target: int, source: int, size: int, stream: Stream) -> None:
        """Copy to host memory."""
        with self._piece("download", size):
            self._driver.download(target, source, size, stream)

    def launch(self, step: int, kernel: str, call: Call) -> None:
        """Launch a kernel."""
        with self._timeline.host("launch", kernel, step=step):
            call()
        self._mark("kernel", kernel, step, None)

    def wait(self) -> None:
        """Wait until all of it is done.

        Raises:
            DeviceError: Some of it failed.
        """
        with self._timeline.host("wait", "synchronize"):
            self._driver.synchronize(self._stream)

    def finish(self, program: str) -> None:
        """Put the GPU's times on the timeline; after `wait`."""
        offsets = [0]
        for mark in self._marks[1:]:
            # Marks have half a microsecond of resolution, and two sums may round apart.
            offsets.append(max(self._driver.elapsed_ns(self._marks[0], mark), offsets[-1]))
        for i, (kind, name, step, size) in enumerate(self._pieces):
            start = self._start_ns + offsets[i]
            span = Span("device", kind, name, start, offsets[i + 1] - offsets[i], step, size)
            if kind == "kernel":
                self._timeline.add_device_step(program, span)
            else:
                self._timeline.add_span(span)

    @contextmanager
    def _piece(self, kind: Literal["upload", "copy", "download"], size: int) -> Iterator[None]:
        name = next(self._names[kind], "")
        with self._timeline.host(kind, name, size_bytes=size):
            yield
        self._mark(kind, name, None, size)

    def _mark(self, kind: Kind, name: str, step: int | None, size: int | None) -> None:
        self._pieces.append((kind, name, step, size))
        self._marks.append(self._driver.mark(self._stream))
