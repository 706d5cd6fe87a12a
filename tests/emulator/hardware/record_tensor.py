"""Records what a GPU copies in every case of `tensor_cases.py`, for `test_tensor_copies.py` to compare with.

    python -m tests.emulator.hardware.record_tensor tensor_recorded.npz      # on a machine with a Hopper GPU

For each case: the bytes that changed, as places and values, in shared memory (loads) or in the tensor.
"""

import ctypes
import multiprocessing
import sys
from typing import Any

import numpy as np

from tessera.program.tensor_map import ELEMENTS, FILL, INTERLEAVE, L2_PROMOTION, SWIZZLE
from tests.emulator.hardware.tensor_cases import CASES, SHARED, TENSOR, Case, contents, program, shared_before

Array = np.ndarray[Any, Any]
cuda = ctypes.CDLL("libcuda.so.1")


def call(name: str, *arguments: Any) -> None:
    """A function of the driver."""
    code = getattr(cuda, name)(*arguments)
    if code:
        raise RuntimeError(f"{name}: error {code}")


def encode(case: Case, address: int) -> Any:
    """The 128 bytes that the driver makes of a tensor map."""
    m = case.map
    raw = ctypes.create_string_buffer(256)
    at = -(-ctypes.addressof(raw) // 64) * 64
    sizes = (ctypes.c_uint64 * m.rank)(*m.sizes)
    strides = (ctypes.c_uint64 * max(m.rank - 1, 1))(*(m.strides or (0,)))
    steps = (ctypes.c_uint32 * m.rank)(*(m.steps or (1,) * m.rank))
    head = (ctypes.c_void_p(at), ELEMENTS[m.element][0], m.rank, ctypes.c_void_p(address), sizes, strides)
    tail = (steps, INTERLEAVE[m.interleave], SWIZZLE[m.swizzle], L2_PROMOTION[m.l2_promotion], FILL[m.fill])
    if m.im2col is None:
        call("cuTensorMapEncodeTiled", *head, (ctypes.c_uint32 * m.rank)(*m.box), *tail)
    else:
        # The driver's corners are in the order D, H, W.
        corners = [
            (ctypes.c_int * (m.rank - 2))(*reversed(c))
            for c in (m.im2col.lower_corner, m.im2col.upper_corner)
        ]
        call("cuTensorMapEncodeIm2col", *head, *corners, m.im2col.channels, m.im2col.pixels, *tail)
    return (ctypes.c_char * 128).from_buffer_copy(ctypes.string_at(at, 128))


def run(case: Case) -> tuple[Array, Array]:
    """Shared memory and tensor after a copy."""
    tensor, before = contents(case), shared_before(case)
    out = np.zeros(SHARED, np.uint8)
    places = []
    for array in (tensor, before, out):
        place = ctypes.c_uint64()
        call("cuMemAlloc_v2", ctypes.byref(place), ctypes.c_size_t(array.nbytes))
        call("cuMemcpyHtoD_v2", place, ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes))
        places.append(place)
    module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
    call("cuModuleLoadData", ctypes.byref(module), program(case).encode())
    call("cuModuleGetFunction", ctypes.byref(kernel), module, b"k")
    raw = encode(case, places[0].value or 0)
    arguments = (ctypes.c_void_p * 3)(
        ctypes.addressof(raw), ctypes.addressof(places[1]), ctypes.addressof(places[2])
    )
    call("cuLaunchKernel", kernel, 1, 1, 1, 128, 1, 1, 0, None, arguments, None)
    call("cuCtxSynchronize")
    call("cuMemcpyDtoH_v2", ctypes.c_void_p(out.ctypes.data), places[2], ctypes.c_size_t(SHARED))
    call("cuMemcpyDtoH_v2", ctypes.c_void_p(tensor.ctypes.data), places[0], ctypes.c_size_t(TENSOR))
    for place in places:
        call("cuMemFree_v2", place)
    call("cuModuleUnload", module)
    return out, tensor


def record(i: int) -> dict[str, Array]:
    """What changed in case `i`; a case that the GPU refuses has one number instead, the error's.

    An error ends the process's use of the GPU: each case has one of its own.
    """
    device, context = ctypes.c_int(), ctypes.c_void_p()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(device), 0)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuCtxSetCurrent", context)
    case = CASES[i]
    try:
        out, tensor = run(case)
    except RuntimeError as error:
        print(i, case, error, flush=True)
        return {f"error{i}": np.array([int(str(error).rsplit(" ", 1)[1])])}
    before, after = (shared_before(case), out) if case.what.startswith("load") else (contents(case), tensor)
    changed = np.flatnonzero(before != after)
    return {f"places{i}": changed.astype(np.uint32), f"values{i}": after[changed]}


def main(target: str) -> None:
    """Record all cases."""
    found: dict[str, Array] = {}
    with multiprocessing.get_context("spawn").Pool(14, maxtasksperchild=1) as pool:
        for part in pool.imap(record, range(len(CASES)), chunksize=1):
            found |= part
    np.savez_compressed(target, **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1])
