"""A GPU in 100 lines of Python: runs the text of generated CUDA kernels, warps in step.

Kernels become generators that stop at barriers and shuffles. Between two stops
threads run in random order, so that a missing barrier shows. A barrier that
not all threads reach, a shuffle that not all 32 lanes reach, an access out of
bounds and shared memory that nobody wrote (NaN) all show.
"""

from __future__ import annotations

import math
import re
from functools import cache
from types import FunctionType, SimpleNamespace

import ml_dtypes
import numpy as np

from tessera.compiler.kernel_source import KernelSource
from tessera.reference.operators import power

BARRIER = "barrier"


class Memory:
    """Elements that may be indexed from 0 to their count, and no further."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def _checked(self, index):
        for i, size in zip(index if isinstance(index, tuple) else (index,), self.array.shape, strict=True):
            assert 0 <= int(i) < size, f"index {index} of {self.array.shape}"
        return index

    def __getitem__(self, index):
        return self.array[self._checked(index)]

    def __setitem__(self, index, value):
        self.array[self._checked(index)] = value


class _Math:
    """`math` that keeps float32 and follows IEEE 754."""

    nan, inf = math.nan, math.inf
    exp, log, sqrt, tanh = np.exp, np.log, np.sqrt, np.tanh

    @staticmethod
    def erf(x):
        return type(x)(math.erf(x))


def _bits(kind, storage):
    # 8-bit floats saturate, as tessera.compiler.device has it.
    bound = np.float32(ml_dtypes.finfo(kind).max if storage == np.uint8 else np.inf)
    return {
        "widen": lambda b: storage(b).view(kind).astype(np.float32),
        "narrow": lambda x: np.clip(np.float32(x), -bound, bound).astype(kind).view(storage),
    }


_SMALL = {
    "bf16": _bits(ml_dtypes.bfloat16, np.uint16),
    "f16": _bits(np.float16, np.uint16),
    "f8e4m3": _bits(ml_dtypes.float8_e4m3fn, np.uint8),
    "f8e5m2": _bits(ml_dtypes.float8_e5m2, np.uint8),
}


def _read_lanes(count):
    def read(memory, index):
        _is_aligned(memory, index, count)
        return tuple(memory[index + lane] for lane in range(count))

    return read


def _write_lanes(count):
    def write(memory, index, values):
        _is_aligned(memory, index, count)
        assert len(values) == count
        for lane, value in enumerate(values):
            memory[index + lane] = value

    return write


def _is_aligned(memory, index, count):
    """Vectors of up to 16 bytes begin at a multiple of their size."""
    size = min(count, 16 // memory.array.itemsize)
    assert index % size == 0, f"{size} elements at {index}"


_NAMES = {
    "math": _Math,
    "gpu": SimpleNamespace(exp2_approx=lambda x: np.exp2(np.float32(x))),
    **{f"read_lanes_{count}": _read_lanes(count) for count in (2, 4, 8, 16)},
    **{f"write_lanes_{count}": _write_lanes(count) for count in (2, 4, 8, 16)},
    "float32": np.float32,
    "float64": np.float64,
    "int64": lambda x: int(x),
    "int32": lambda x: np.int64(x).astype(np.int32),
    "int16": lambda x: np.int64(x).astype(np.int16),
    "int8": lambda x: np.int64(x).astype(np.int8),
    "uint8": lambda x: np.int64(x).astype(np.uint8),
    "udiv": lambda a, b: int(a) // int(b),
    "urem": lambda a, b: int(a) % int(b),
    "div_f32": lambda a, b: np.float32(a) / np.float32(b),
    "peak_f32": lambda a, b: np.fmax(np.float32(a), np.float32(b)),
    "peak_f64": lambda a, b: np.fmax(np.float64(a), np.float64(b)),
    "rolled": bool,
    **{
        f"{name}_{bits}": getattr(np, name)
        for bits in ("f32", "f64")
        for name in ["floor", "ceil", "rint", "trunc", "exp2", "expm1", "log2", "log1p", "sin", "cos", "fmod"]
    },
    "pow_f32": np.power,
    "pow_f64": np.power,
    "floordiv_i64": lambda a, b: int(a) // int(b) if b else 0,
    "mod_i64": lambda a, b: int(a) % int(b) if b else 0,
    "pow_i64": lambda a, b: int(power(np.int64(a), np.int64(b))),
    "div_f64": lambda a, b: np.float64(a) / np.float64(b),
    **{f"{name}_to_f32": pair["widen"] for name, pair in _SMALL.items()},
    **{f"f32_to_{name}": pair["narrow"] for name, pair in _SMALL.items()},
}


@cache
def _generator(source: str, name: str):
    body = re.sub(r"^(from|import) .*$", "", source, flags=re.M)
    body = body.replace("cuda.syncthreads()", f"yield {BARRIER!r}")
    body = re.sub(r"cuda\.shfl_xor_sync\(0xffffffff, (\w+), (\d+)\)", r"(yield (\1, \2))", body)
    # A generator even where there is nothing to wait for.
    body = body.replace("):\n", f"):\n    if False:\n        yield {BARRIER!r}\n", 1)
    namespace = dict(_NAMES)
    exec(compile(body, name, "exec"), namespace)
    return namespace, name


def run_cuda_kernel(kernel: KernelSource, blocks: int, values: list) -> None:
    namespace, name = _generator(kernel.source, kernel.name)
    arguments = [Memory(v) if isinstance(v, np.ndarray) else v for v in values]
    random = np.random.default_rng(blocks)
    with np.errstate(all="ignore"):
        for block in range(blocks):
            _run_block(namespace, name, arguments, block, kernel.threads, random)


def _run_block(namespace, name, arguments, block, threads, random) -> None:
    shared: list[Memory] = []
    running = []
    for thread in range(threads):
        cuda = SimpleNamespace(
            blockIdx=SimpleNamespace(x=block),
            threadIdx=SimpleNamespace(x=thread),
            shared=SimpleNamespace(array=_declarer(shared)),
        )
        function = FunctionType(namespace[name].__code__, {**namespace, "cuda": cuda})
        running.append(function(*arguments))
    ready: dict[int, object] = dict.fromkeys(range(threads))
    stopped: dict[int, object] = {}
    while ready:
        for thread in random.permutation(list(ready)):
            try:
                stopped[int(thread)] = running[thread].send(ready.pop(int(thread)))
            except StopIteration:
                continue
        ready = _meet(stopped, threads)


def _declarer(shared: list[Memory]):
    """`cuda.shared.array` of one thread: the arrays of its block, in the order that all declare them."""
    count = 0

    def array(shape, kind):
        nonlocal count
        if count == len(shared):
            unwritten = math.nan if isinstance(kind, type) else -(10**15)
            shared.append(Memory(np.full(shape, unwritten, kind if isinstance(kind, type) else np.int64)))
        count += 1
        return shared[count - 1]

    return array


def _meet(stopped: dict[int, object], threads: int) -> dict[int, object]:
    """The threads that may go on, each with what it is given; shuffles come before barriers."""
    shuffling = {thread: stop for thread, stop in stopped.items() if stop != BARRIER}
    if not shuffling:
        assert len(stopped) in (0, threads), f"only {len(stopped)} of {threads} threads reach a barrier"
        ready: dict[int, object] = dict.fromkeys(stopped)
        stopped.clear()
        return ready
    for thread, (_, lanes) in shuffling.items():
        warp = [shuffling.get(thread // 32 * 32 + lane, (None, None)) for lane in range(32)]
        assert all(stop[1] == lanes for stop in warp), "a shuffle that not all 32 lanes reach"
        del stopped[thread]
    return {thread: shuffling[thread ^ lanes][0] for thread, (_, lanes) in shuffling.items()}
