"""DWARF that NVVM wrote into PTX: from `.section` directives to functions and variables.

Addresses are lines of the PTX text here: a label stands for the line it is on.

Source: DWARF Debugging Information Format, version 2; PTX ISA 8.8, section 11.5 (debugging directives).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from tessera.emulator.debugging.symbols import (
    MARK,
    ArrayType,
    OtherType,
    RecordType,
    ScalarType,
    SourceFunction,
    SourceVariable,
    Type,
)
from tessera.program.errors import MissingDependencyError

_SECTION = re.compile(r"^\s*\.section\s+(\.debug_\w+)\s*\{?(.*?)^\s*\}", re.MULTILINE | re.DOTALL)
_DATA = re.compile(r"^\s*\.b(8|16|32|64)\s+([^\n]+)", re.MULTILINE)
_LABEL = re.compile(r"^\s*([$\w]+):", re.MULTILINE)
_DEPOT = re.compile(r"__local_depot\d+")
_KINDS = {2: "b", 4: "f", 5: "i", 6: "i", 7: "u", 8: "u"}
"""NumPy kinds of `DW_ATE` encodings."""
_STATIC, _PLUS = "DW_OP_addr", "DW_OP_plus_uconst"


def read_functions(text: str) -> tuple[SourceFunction, ...]:
    """The functions that the debug information of one PTX text describes; none if it has none.

    Raises:
        MissingDependencyError: pyelftools is not installed.
    """
    found = {m[1]: m[2] for m in _SECTION.finditer(text)}
    if ".debug_info" not in found:
        return ()
    try:
        from elftools.dwarf.dwarf_expr import DWARFExprParser
    except ImportError:
        raise MissingDependencyError.extra("pyelftools", "debug", needed_for="tessera debug") from None
    sections = _Sections(text)
    info = _dwarf({name: sections.assemble(body) for name, body in found.items()})
    functions = []
    for unit in info.iter_CUs():
        reader = _Unit(unit, DWARFExprParser(unit.structs), sections.depots, MARK in text)
        functions += [reader.function(die) for die in unit.get_top_DIE().iter_children() if _is_function(die)]
    return tuple(functions)


class _Sections:
    """Bytes of sections; the names of depots that they refer to."""

    def __init__(self, text: str) -> None:
        lines = {}
        line, at = 1, 0
        for match in _LABEL.finditer(text):
            line += text.count("\n", at, match.start(1))
            at = match.start(1)
            lines[match[1]] = line
        self.labels = lines
        self.depots: dict[int, str] = {}
        """Depot by the number that stands for its address."""

    def assemble(self, body: str) -> bytes:
        """The bytes of one section."""
        raw = bytearray()
        for match in _DATA.finditer(body):
            size = int(match[1]) // 8
            for item in match[2].split(","):
                value = self.value(item.strip())
                raw += (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        return bytes(raw)

    def value(self, item: str) -> int:
        name, plus, offset = item.partition("+")
        name = name.strip()
        if re.fullmatch(r"-?\d+|0[xX][0-9a-fA-F]+", name):
            return int(name, 0)
        start = int(offset, 0) if plus else 0
        if name.startswith("."):
            return start
        if _DEPOT.fullmatch(name):
            number = int(name.removeprefix("__local_depot")) + 1
            self.depots[number] = name
            return number
        return self.labels.get(name, 0) + start


def _dwarf(sections: dict[str, bytes]) -> Any:
    from inspect import signature

    from elftools.dwarf.dwarfinfo import DebugSectionDescriptor, DwarfConfig, DWARFInfo

    # Every section is an argument, and there are more of them in each version.
    given: dict[str, Any] = dict.fromkeys(list(signature(DWARFInfo).parameters)[1:])
    for name in ("info", "abbrev", "str", "loc", "ranges"):
        raw = sections.get(f".debug_{name}")
        if raw is not None:
            stream = io.BytesIO(raw)
            given[f"debug_{name}_sec"] = DebugSectionDescriptor(stream, f".debug_{name}", 0, len(raw), 0)
    config = DwarfConfig(little_endian=True, machine_arch="x64", default_address_size=8)
    return DWARFInfo(config, **given)


def _is_function(die: Any) -> bool:
    return die.tag == "DW_TAG_subprogram" and "DW_AT_low_pc" in die.attributes


def _text(die: Any, name: str) -> str:
    value = die.attributes.get(name)
    return value.value.decode() if value is not None else ""


def _number(die: Any, name: str) -> int:
    value = die.attributes.get(name)
    return int(value.value) if value is not None and isinstance(value.value, int) else 0


class _Unit:
    """One compilation unit."""

    def __init__(self, unit: Any, expressions: Any, depots: dict[int, str], flagged: bool) -> None:
        self.expressions, self.depots, self.flagged = expressions, depots, flagged
        self.unit = unit
        self.types: dict[int, Type] = {}

    def function(self, die: Any) -> SourceFunction:
        """A function with all of its variables, those of inner scopes too."""
        variables = tuple(v for v in map(self.variable, _variables(die)) if v is not None)
        name = _text(die, "DW_AT_name")
        symbol = _text(die, "DW_AT_MIPS_linkage_name") or name
        return SourceFunction(name, symbol, _number(die, "DW_AT_decl_line"), variables)

    def variable(self, die: Any) -> SourceVariable | None:
        """A variable in local memory; None for one that was optimized away or lies elsewhere."""
        location = die.attributes.get("DW_AT_location")
        if location is None or not isinstance(location.value, list) or "DW_AT_type" not in die.attributes:
            return None
        operations = self.expressions.parse_expr(location.value)
        if not operations or operations[0].op_name != _STATIC:
            return None
        depot = self.depots.get(operations[0].args[0])
        if depot is None or any(o.op_name != _PLUS for o in operations[1:]):
            return None
        kind = self.type_of(die)
        return SourceVariable(
            _text(die, "DW_AT_name"), kind, _number(die, "DW_AT_decl_line"), depot,
            sum(o.args[0] for o in operations[1:]), self.flagged and isinstance(kind, ScalarType),
            die.tag == "DW_TAG_formal_parameter",
        )  # fmt: skip

    def type_of(self, die: Any) -> Type:
        """The type that a DIE refers to."""
        target = die.get_DIE_from_attribute("DW_AT_type")
        if target.offset not in self.types:
            self.types[target.offset] = self.make_type(target)
        return self.types[target.offset]

    def make_type(self, die: Any) -> Type:
        """A type out of its DIE."""
        name, size = _text(die, "DW_AT_name"), _number(die, "DW_AT_byte_size")
        if die.tag == "DW_TAG_base_type":
            kind = _KINDS.get(_number(die, "DW_AT_encoding"))
            if kind and size in (1, 2, 4, 8) and (kind != "f" or size > 1):
                dtype = np.dtype(np.bool_) if kind == "b" else np.dtype(f"{kind}{size}")
                return ScalarType(name, dtype)
        elif die.tag == "DW_TAG_array_type" and "DW_AT_type" in die.attributes:
            element = self.type_of(die)
            if isinstance(element, ScalarType):
                count = sum(_number(child, "DW_AT_count") for child in die.iter_children())
                members = tuple((f"[{i}]", i * element.size, element) for i in range(count))
                return RecordType(name.split(" (")[0], members, count * element.size)
        elif die.tag == "DW_TAG_structure_type":
            return self.structure(die, name.split(" (")[0], size)
        return OtherType(name or die.tag.removeprefix("DW_TAG_"), size or 8)

    def structure(self, die: Any, name: str, size: int) -> Type:
        """An array descriptor, or a structure of numbers."""
        parts = [c for c in die.iter_children() if c.tag == "DW_TAG_member"]
        offsets = {_text(c, "DW_AT_name"): self.offset(c) for c in parts}
        kinds = {_text(c, "DW_AT_name"): c for c in parts}
        if {"data", "shape", "strides", "itemsize"} <= kinds.keys():
            pointer = kinds["data"].get_DIE_from_attribute("DW_AT_type")
            element = self.type_of(pointer) if "DW_AT_type" in pointer.attributes else OtherType("void", 1)
            shape = self.type_of(kinds["shape"])
            if isinstance(element, ScalarType) and isinstance(shape, RecordType):
                places = (offsets["data"], offsets["shape"], offsets["strides"])
                return ArrayType(element, len(shape.members), *places, size)
            return OtherType(name, size)
        members = [(n, offsets[n], self.type_of(kinds[n])) for n in kinds]
        if members and all(isinstance(t, ScalarType) for _, _, t in members):
            return RecordType(
                name, tuple((n, o, t) for n, o, t in members if isinstance(t, ScalarType)), size
            )
        return OtherType(name, size)

    def offset(self, member: Any) -> int:
        """Offset of a member of a structure."""
        value = member.attributes["DW_AT_data_member_location"].value
        if isinstance(value, int):
            return value
        return sum(o.args[0] for o in self.expressions.parse_expr(value) if o.args)


def _variables(die: Any) -> Iterator[Any]:
    for child in die.iter_children():
        if child.tag in ("DW_TAG_variable", "DW_TAG_formal_parameter"):
            yield child
        elif child.tag == "DW_TAG_lexical_block":
            yield from _variables(child)
