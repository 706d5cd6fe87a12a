"""System calls that device code makes: `vprintf`, `malloc`, `free` and a failed `assert`.

Source: PTX ISA 8.8, section 12 (calls to functions that the driver provides), and the CUDA C++ Programming
Guide 13.0, sections "Formatted Output", "Dynamic Global Memory Allocation" and "Assertion".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tessera.emulator.lanes import Array
from tessera.emulator.ptx import Address, Operand, Register, Variable
from tessera.program.errors import DeviceError

if TYPE_CHECKING:
    from tessera.emulator.instructions import Executor

RETURNED = Variable("result", "param", "b64")
_FIELD = re.compile(r"%(?P<flags>[-+ #0]*)(?P<width>\d+|\*)?(?:\.(?P<precision>\d+|\*))?"
                    r"(?P<length>hh|h|ll|l|z|j|t)?(?P<kind>[diouxXeEfFgGaAcsp%])")  # fmt: skip
_POINTER = Variable("pointer", "param", "b64")
_LONGEST_STRING = 4096


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


def _text(executor: Executor, thread: int, address: int) -> str:
    found = b""
    while len(found) < _LONGEST_STRING:
        byte = _bytes(executor, thread, address + len(found), 1)
        if byte == b"\0":
            break
        found += byte
    return found.decode(errors="replace")


def _print(executor: Executor, arguments: tuple[Operand, ...], mask: Array) -> Array:
    formats = _addresses(executor, arguments[0])
    packed = _addresses(executor, arguments[1])
    result = np.zeros((executor.count, 4), np.uint8)
    for thread in np.flatnonzero(mask):
        pattern = _text(executor, int(thread), int(formats[thread]))
        values = _Arguments(executor, int(thread), int(packed[thread]))
        executor.run.machine.printed.append(_FIELD.sub(values.field, pattern))
        result[thread] = np.array([values.taken], np.int32).view(np.uint8)
    return result


class _Arguments:
    """The values of one `printf`, laid out like a C struct of the promoted types."""

    def __init__(self, executor: Executor, thread: int, address: int) -> None:
        self.executor, self.thread, self.address = executor, thread, address
        self.at = 0
        self.taken = 0

    def next(self, size: int) -> bytes:
        self.at = -(-self.at // size) * size
        raw = _bytes(self.executor, self.thread, self.address + self.at, size)
        self.at += size
        self.taken += 1
        return raw

    def field(self, match: re.Match[str]) -> str:
        kind, length = match["kind"], match["length"] or ""
        if kind == "%":
            return "%"
        # A `*` takes its number from the values, before the value itself.
        numbers = [
            str(int.from_bytes(self.next(4), "little", signed=True)) if match[part] == "*" else match[part]
            for part in ("width", "precision")
        ]
        form = "%" + match["flags"] + (numbers[0] or "") + ("." + numbers[1] if numbers[1] else "")
        if kind in "eEfFgGaA":
            value = np.frombuffer(self.next(8), np.float64)[0].item()
            return float(value).hex() if kind in "aA" else (form + kind) % value
        if kind == "s":
            address = int.from_bytes(self.next(8), "little")
            return (form + "s") % _text(self.executor, self.thread, address)
        if kind == "p":
            return (form + "s") % hex(int.from_bytes(self.next(8), "little"))
        size = 8 if length in ("l", "ll", "z", "j", "t") else 4
        number = int.from_bytes(self.next(size), "little", signed=kind in "di")
        if length in ("h", "hh"):
            number &= 0xFF if length == "hh" else 0xFFFF
        return (form + ("c" if kind == "c" else kind.replace("u", "d"))) % number


def _allocate(executor: Executor, arguments: tuple[Operand, ...], mask: Array) -> Array:
    sizes = _addresses(executor, arguments[0])
    result = np.zeros(executor.count, np.uint64)
    for thread in np.flatnonzero(mask):
        result[thread] = executor.run.machine.memory.allocate(int(sizes[thread]))
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
