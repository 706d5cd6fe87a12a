"""System calls that device code makes: `vprintf`, `malloc`, `free` and a failed `assert`.

Source: PTX ISA 8.8, section 12 (calls to functions that the driver provides), and the CUDA C++ Programming
Guide 13.0, sections "Formatted Output", "Dynamic Global Memory Allocation" and "Assertion".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tessera.emulator.lanes import Array
from tessera.emulator.printf import Read, formatted, text_at
from tessera.emulator.ptx import Address, Operand, Register, Variable
from tessera.program.errors import DeviceError

if TYPE_CHECKING:
    from tessera.emulator.instructions import Executor

RETURNED = Variable("result", "param", "b64")
_POINTER = Variable("pointer", "param", "b64")


def _addresses(executor: Executor, argument: Operand) -> Array:
    raw = executor.argument(argument, _POINTER)
    return np.ascontiguousarray(raw).view(np.uint64)[:, 0]


def _bytes(executor: Executor, thread: int, address: int, size: int) -> bytes:
    # A register of its own holds the address, so that the usual checks apply.
    executor.registers["%builtin"] = np.full(executor.count, address, np.uint64)
    alone = np.zeros(executor.count, np.bool_)
    alone[thread] = True
    raw = executor.gather("generic", Address(Register("%builtin")), size, alone, 0)
    return bytes(raw[thread].tobytes())


def _reader(executor: Executor, thread: int) -> Read:
    return lambda address, size: _bytes(executor, thread, address, size)


def _text(executor: Executor, thread: int, address: int) -> str:
    return text_at(_reader(executor, thread), address)


def _print(executor: Executor, arguments: tuple[Operand, ...], mask: Array) -> Array:
    formats = _addresses(executor, arguments[0])
    packed = _addresses(executor, arguments[1])
    result = np.zeros((executor.count, 4), np.uint8)
    for thread in np.flatnonzero(mask):
        text, taken = formatted(_reader(executor, int(thread)), int(formats[thread]), int(packed[thread]))
        executor.run.machine.printed.append(text)
        result[thread] = np.array([taken], np.int32).view(np.uint8)
    return result


def _allocate(executor: Executor, arguments: tuple[Operand, ...], mask: Array) -> Array:
    sizes = _addresses(executor, arguments[0])
    result = np.zeros(executor.count, np.uint64)
    for thread in np.flatnonzero(mask):
        address = executor.run.machine.memory.allocate(int(sizes[thread]))
        result[thread] = address
        if executor.run.watch is not None:
            executor.run.watch.took(int(thread), address, int(sizes[thread]))
    return result.view(np.uint8).reshape(executor.count, 8)


def _free(executor: Executor, arguments: tuple[Operand, ...], mask: Array) -> None:
    for address in _addresses(executor, arguments[0])[mask]:
        executor.run.machine.memory.free(int(address))


def _fail(executor: Executor, arguments: tuple[Operand, ...], mask: Array) -> None:
    thread = int(np.flatnonzero(mask)[0])
    message, file, function = (
        _text(executor, thread, int(_addresses(executor, arguments[i])[thread])) for i in (0, 1, 3)
    )
    line = int(executor.argument(arguments[2], Variable("line", "param", "b32"))[thread].view(np.uint32)[0])
    raise DeviceError(
        f"{file}:{line}: {function}: block {executor.run.geometry.index}, thread {thread}: "
        f"assertion `{message}` failed"
    )


Builtin = Callable[["Executor", tuple[Operand, ...], Array], Array | None]

BUILTINS: dict[str, Builtin] = {
    "vprintf": _print,
    "malloc": _allocate,
    "free": _free,
    "__assertfail": _fail,
    "__assert_fail": _fail,
}
"""Functions that the driver provides, by name."""
