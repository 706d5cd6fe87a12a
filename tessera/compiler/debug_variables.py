"""Lowered kernels in which every Python variable has one place in memory, for a debugger to read.

numba-cuda tells where a scalar is by `llvm.dbg.value`, each time it is stored. NVVM drops most of these at
optimization level 0, and what it keeps holds for ranges of the text, not for the way that a thread took. So
each variable gets a place of its own here: it is stored there whenever it is assigned, beside a byte that
says that it was, and `llvm.dbg.declare` says where that is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MARK = "// every scalar variable is followed by a byte that says whether it was assigned"
"""Line in PTX that was made from such a module."""
_FUNCTION = re.compile(r"^define .*?^}", re.MULTILINE | re.DOTALL)
_VALUE = re.compile(
    r'^  call void @"llvm\.dbg\.value"\(metadata (?P<type>\S+) (?P<value>.+), metadata (?P<variable>!\d+), '
    r"metadata (?P<expression>!\d+)\), !dbg (?P<place>!\d+)$",
    re.MULTILINE,
)
_SCALAR = re.compile(
    r'^  call void @"llvm\.dbg\.declare"\(metadata (?P<type>i\d+|half|float|double)\* (?P<place>%\S+), ',
    re.MULTILINE,
)
"""Scalar arguments have a place already, which NVVM optimizes away."""
_DECLARED = re.compile(r'@"llvm\.dbg\.declare"\(metadata .+?\* (%\S+), metadata !')
_ENTRY = re.compile(r"^entry:\n", re.MULTILINE)
_NAME = re.compile(r'^(!\d+) = !DILocalVariable\(.*?name: "([^"]*)"', re.MULTILINE)
_DECLARE = 'declare void @"llvm.dbg.declare"(metadata, metadata, metadata)\n'


@dataclass(frozen=True, slots=True)
class _Slot:
    variable: str
    type: str
    expression: str
    place: str

    @property
    def name(self) -> str:
        return f'%"debug.{self.variable[1:]}"'

    @property
    def holder(self) -> str:
        return f"{{{self.type}, i8}}"

    def part(self, index: int) -> str:
        """Address of the value (0) or of the byte that says that there is one (1)."""
        holder = self.holder
        return f"getelementptr inbounds {holder}, {holder}* {self.name}, i32 0, i32 {index}"


def give_places(module: str) -> str:
    """The LLVM module with a place for each scalar variable of its functions."""
    names = dict(_NAME.findall(module))
    changed = _FUNCTION.sub(lambda match: _in_function(match[0], names), module)
    if changed != module and '@"llvm.dbg.declare"' not in module:
        changed += _DECLARE
    return changed


def _in_function(text: str, names: dict[str, str]) -> str:
    counter = iter(range(1 << 30))
    text = _undeleted(text)
    text = _SCALAR.sub(lambda match: _value_of(match, counter), text)
    slots: dict[str, _Slot] = {}
    for match in _VALUE.finditer(text):
        slot = _Slot(match["variable"], match["type"], match["expression"], match["place"])
        slots.setdefault(slot.variable, slot)
    if not slots:
        return text

    def store(match: re.Match[str]) -> str:
        slot = slots[match["variable"]]
        if slot.type != match["type"]:
            return ""
        alike = (s for s in slots.values() if names.get(s.variable) == names.get(slot.variable))
        return "\n".join(_stores(slot, match["value"], alike, match["place"], counter))

    body = _VALUE.sub(store, text)
    head = "".join(line + "\n" for slot in slots.values() for line in _declaration(slot, counter))
    return _ENTRY.sub(lambda _: "entry:\n" + head, body, count=1)


def _undeleted(text: str) -> str:
    """The function without the stores by which Numba clears a variable behind its last use."""
    for place in dict.fromkeys(_DECLARED.findall(text)):
        clearing = re.compile(
            rf"^  store .+ zeroinitializer, .+\* {re.escape(place)}(?:, !dbg !\d+)?\n", re.MULTILINE
        )
        first = clearing.search(text)
        if first is not None:
            # The first is at the begin: until it is assigned the variable is empty.
            text = text[: first.end()] + clearing.sub("", text[first.end() :])
    return text


def _value_of(match: re.Match[str], counter: Iterator[int]) -> str:
    value, kind = f'%"debug.at.{next(counter)}"', match["type"]
    loaded = f"  {value} = load {kind}, {kind}* {match['place']}\n"
    return f'{loaded}  call void @"llvm.dbg.value"(metadata {kind} {value}, '


def _declaration(slot: _Slot, counter: Iterator[int]) -> list[str]:
    flag = f'%"debug.at.{next(counter)}"'
    return [
        f"  {slot.name} = alloca {slot.holder}",
        f"  {flag} = {slot.part(1)}",
        f"  store i8 0, i8* {flag}",
        f'  call void @"llvm.dbg.declare"(metadata {slot.holder}* {slot.name}, metadata {slot.variable}, '
        f"metadata {slot.expression}), !dbg {slot.place}",
    ]


def _stores(slot: _Slot, value: str, alike: Iterable[_Slot], place: str, counter: Iterator[int]) -> list[str]:
    """The value stored; and that of several variables of the name this one holds the last value."""
    target = f'%"debug.at.{next(counter)}"'
    lines = [
        f"  {target} = {slot.part(0)}, !dbg {place}",
        f"  store volatile {slot.type} {value}, {slot.type}* {target}, !dbg {place}",
    ]
    for other in alike:
        flag = f'%"debug.at.{next(counter)}"'
        lines += [
            f"  {flag} = {other.part(1)}, !dbg {place}",
            f"  store volatile i8 {int(other is slot)}, i8* {flag}, !dbg {place}",
        ]
    return lines
