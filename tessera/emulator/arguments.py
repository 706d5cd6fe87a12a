"""What a launch hands to compiled code, in the bytes that it expects: arguments, sizes, first values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tessera.emulator.ptx import TYPE_BYTES, Function, Immediate, Symbol, Variable
from tessera.emulator.tensor_maps import encode_tensor_map
from tessera.emulator.translate import Translation
from tessera.program.arch import MAX_GRID
from tessera.program.errors import DeviceError, KernelError
from tessera.program.tensor_map import TensorMap

NAMES = {"f16": np.float16, "f32": np.float32, "f64": np.float64}


Sizes = tuple[int, int, int]


def check_sizes(grid: Sizes, block: Sizes) -> None:
    """Refuse sizes that no launch has.

    Raises:
        KernelError: No blocks, no threads, or too many of them.
    """
    if min(*grid, *block) < 1 or block[0] * block[1] * block[2] > 1024:
        raise KernelError(f"cannot launch a grid of {grid} blocks of {block} threads (1 to 1024 threads)")
    for axis, size, limit in zip("xyz", grid, MAX_GRID, strict=True):
        if size > limit:
            raise KernelError(f"cannot launch a grid of {grid} blocks: a GPU takes {limit} along {axis}")


def check_params(function: Function, params: Sequence[bytes]) -> None:
    """Refuse parameters that a kernel does not have.

    Raises:
        KernelError: Too few, too many, or of another size.
    """
    variables = function.params
    if len(params) != len(variables):
        raise KernelError(f"{function.name} takes {len(variables)} parameters, {len(params)} given")
    for raw, variable in zip(params, variables, strict=True):
        if len(raw) != size_of(variable):
            raise KernelError(
                f"parameter {variable.name} has {size_of(variable)} bytes, {len(raw)} were given"
            )


def size_of(variable: Variable) -> int:
    """Bytes of a variable."""
    return TYPE_BYTES[variable.type] * variable.count


def raw_argument(value: Any, variable: Variable) -> bytes:
    """An argument's bytes as its parameter has them.

    Raises:
        KernelError: It has another size, or a type that cannot become the parameter's.
    """
    size = size_of(variable)
    if isinstance(value, TensorMap):
        value = encode_tensor_map(value)
    if isinstance(value, bytes) and len(value) == size:
        return value
    if isinstance(value, np.generic):
        raw = value.tobytes()
        if len(raw) == size:
            return raw
        raise KernelError(f"parameter {variable.name} has {size} bytes, a {value.dtype} has {len(raw)}")
    if isinstance(value, bool | int) and not variable.type.startswith("f"):
        if size not in (1, 2, 4, 8) or not -(1 << (8 * size - 1)) <= value < 1 << 8 * size:
            raise KernelError(f"{value} does not fit parameter {variable.name} of {size} bytes")
        return (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    if isinstance(value, int | float) and variable.type in NAMES:
        return np.array(value, NAMES[variable.type]).tobytes()
    # Code that Numba makes has bits for every number; an integer is never meant to hold a float's.
    if isinstance(value, float) and size in (4, 8) and variable.type[0] == "b":
        return np.array(value, {4: np.float32, 8: np.float64}[size]).tobytes()
    raise KernelError(f"parameter {variable.name} ({variable.type}) cannot be a {type(value).__name__}")


def parameter_buffer(translation: Translation, function: Function, params: Sequence[bytes]) -> bytes:
    """The bytes of all parameters, each where the kernel's code looks for it."""
    buffer = bytearray(max(translation.param_bytes, 1))
    for variable, raw in zip(function.params, params, strict=True):
        start = translation.params[variable.name]
        buffer[start : start + len(raw)] = raw
    return bytes(buffer)


def aligned_copy(raw: bytes, align: int) -> np.ndarray[Any, Any]:
    """The bytes at an address that is a multiple of `align`."""
    memory = np.zeros(len(raw) + align, np.uint8)
    start = -memory.ctypes.data % align
    memory[start : start + len(raw)] = np.frombuffer(raw, np.uint8)
    return memory[start : start + len(raw)]


def initial_bytes(variable: Variable, symbols: dict[str, int]) -> bytes:
    """The bytes that a module variable begins with."""
    size = TYPE_BYTES[variable.type]
    raw = bytearray(size * variable.count)
    for i, item in enumerate(variable.initial):
        if isinstance(item, Symbol):
            number = symbols.get(item.name, 0) + item.offset
        elif item.bits is not None:
            number = item.bits
        elif isinstance(item.value, int):
            number = item.value
        else:
            number = _float_bits(item, variable.type)
        raw[i * size : (i + 1) * size] = (number & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    return bytes(raw)


def _float_bits(item: Immediate, kind: str) -> int:
    if kind not in NAMES:
        raise DeviceError(f"a {kind} variable cannot begin as {item.value}")
    return int.from_bytes(np.array(item.value, NAMES[kind]).tobytes(), "little")
