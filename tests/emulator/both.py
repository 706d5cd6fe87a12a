"""The same launch on either implementation: the interpreter and the engine."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from tessera.emulator import Emulator
from tessera.emulator.interpreter import Interpreter
from tessera.emulator.lockstep import launch
from tessera.emulator.tensor_maps import encode_tensor_map
from tests.emulator.hardware.tensor_cases import Case

Array = np.ndarray[Any, Any]
IMPLEMENTATIONS = ("lockstep", "llvm")
"""Names that `start` knows."""
HEAD = ".version 8.7\n.target sm_90a\n.address_size 64\n"


@cache
def engine() -> Emulator:
    """One engine for all tests: compiled kernels stay."""
    return Emulator("sm_90a", workers=2, memory_bytes=1 << 28, level=0)


def start(
    implementation: str, text: str, grid: Sequence[int] | int, block: Sequence[int] | int,
    args: Sequence[Any], shared_bytes: int = 0, entry: str = "k", **more: Any,
) -> None:  # fmt: skip
    """Run a kernel of a module; arrays are written in place."""
    sizes = (grid,) if isinstance(grid, int) else grid
    threads = (block,) if isinstance(block, int) else block
    if implementation == "llvm":
        engine().launch(text, entry, sizes, threads, args, shared_bytes, **more)
        return
    launch(text, entry, sizes, threads, args, shared_bytes, **more)


def kernel(body: str, *, params: str = ".param .u64 out", directives: str = "", shared: str = "") -> str:
    """A module with a kernel `k`.

    `%i` is the thread's number in its block, `%g` in the grid, `%bx` the block's number, `%r` and `%n` rank
    and size of its cluster, `%at` the address of its four bytes in `out`; `%s` that of shared memory, 4 KiB.
    """
    return f"""{HEAD}
.visible .entry k({params}){directives}
{{
    .reg .b32 %t<40>, %i, %g, %bx, %r, %n, %s, %w;
    .reg .f32 %f<20>;
    .reg .b64 %d<20>, %in, %out, %at;
    .reg .pred %p<8>;
    .shared .align 1024 .b8 memory[4096];
    {shared}
    mov.u32 %i, %tid.x; mov.u32 %bx, %ctaid.x; mov.u32 %t0, %ntid.x;
    mad.lo.u32 %g, %bx, %t0, %i;
    mov.u32 %r, %cluster_ctarank; mov.u32 %n, %cluster_nctarank;
    mov.u32 %s, memory;
    ld.param.u64 %out, [out];
    mul.wide.u32 %at, %g, 4; add.u64 %at, %at, %out;
{body}
    ret;
}}
"""


@cache
def cluster_sync() -> str:
    """All threads of the cluster wait for each other."""
    return "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;"


def copy_tensor(
    implementation: str, text: str, case: Case, tensor: Array, before: Array
) -> tuple[Array, Array]:
    """Shared memory and tensor after kernel `k(map, before, out)` has copied a box."""
    out = np.zeros(len(before), np.uint8)
    if implementation == "llvm":
        device = engine()
        address = device.alloc(tensor.nbytes)
        try:
            device.write(address, tensor)
            raw = encode_tensor_map(replace(case.map, address=address))
            device.launch(text, "k", 1, 128, [raw, before, out])
            return out, np.frombuffer(device.read(address, tensor.nbytes), np.uint8)
        finally:
            device.free(address)
    device_ = Interpreter()
    places = [device_.alloc(a.nbytes) for a in (tensor, before, out)]
    for place, array in zip(places, (tensor, before, out), strict=True):
        device_.write(place, array)
    raw = encode_tensor_map(replace(case.map, address=places[0]))
    params = [raw, *(np.uint64(p).tobytes() for p in places[1:])]
    device_.launch_params(device_.load(text), "k", (1, 1, 1), (128, 1, 1), params)
    return device_.read(places[2], out.nbytes), device_.read(places[0], tensor.nbytes)
