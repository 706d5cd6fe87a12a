"""A driver whose device is this process: host memory for the GPU's, and a clock that tells what was asked."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tessera.emulator.tensor_maps import encode_tensor_map
from tessera.program.errors import DeviceError, OutOfMemoryError
from tessera.program.tensor_map import TensorMap
from tessera.runtime.cpu import allocate
from tessera.runtime.library import Library
from tessera.runtime.memory import Block


class StandIn:
    """A driver whose device is this process."""

    name = "stand-in"
    cc = (9, 0)
    l2_bytes = 1 << 16

    def __init__(self) -> None:
        self.uploaded = 0
        self.filled = 0
        self.captured: list[int] = []
        self.no_graphs = ""
        self.marks = 0
        self.broken = False

    @contextmanager
    def current(self) -> Iterator[None]:
        yield

    def allocate(self, size: int) -> Block[Any]:
        if size > 1 << 30:
            raise OutOfMemoryError("stand-in is full", required=size, available=1 << 30)
        block = allocate(size)
        block.memory.fill(0xAA)
        return block

    def upload(self, target: int, source: int, size: int, stream: Any) -> None:
        self.uploaded += size
        ctypes.memmove(target, source, size)

    def download(self, target: int, source: int, size: int, stream: Any) -> None:
        ctypes.memmove(target, source, size)

    copy = download

    def load(self, code: bytes, kernel: str) -> Any:
        return Library(code, "stand-in code").kernel(kernel)

    def launcher(self, function: Any, call: Any, params: int, stream: Any) -> Callable[[], object]:
        return lambda: function(params, 0, call.items)

    def encode_map(self, tensor_map: TensorMap) -> bytes:
        return encode_tensor_map(tensor_map)

    def stream(self) -> Any:
        return None

    def synchronize(self, stream: Any) -> None:
        if self.broken:
            raise DeviceError("the stand-in is broken")

    def mark(self, stream: Any) -> int:
        self.marks += 1
        return self.marks

    def elapsed_ns(self, start: int, end: int) -> int:
        return (end - start) * 1000

    def fill(self, target: int, size: int, stream: Any) -> None:
        self.filled += 1
        ctypes.memset(target, 0, size)

    def capture(self, launches: Sequence[Callable[[], object]], stream: Any) -> Callable[[], object] | str:
        if self.no_graphs:
            return self.no_graphs
        # What is captured is not run; what is replayed has the arguments of the time of capture.
        self.captured.append(len(launches))
        return lambda: [launch() for launch in launches]

    def free_and_total_bytes(self) -> tuple[int, int]:
        return 1 << 30, 2 << 30


class IdleGpu(StandIn):
    """Takes any code of sm_80 and runs none of it: for what happens around launches."""

    name = "idle GPU"
    cc = (8, 0)

    def load(self, code: bytes, kernel: str) -> Any:
        return kernel

    def launcher(self, function: Any, call: Any, params: int, stream: Any) -> Callable[[], object]:
        return lambda: None
