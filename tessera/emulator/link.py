"""Several PTX texts made one module, as a linker makes one cubin of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tessera.emulator.parser import parse_ptx
from tessera.emulator.ptx import Function, Module, Variable
from tessera.program.errors import CompileError

_PRIVATE = re.compile(
    r"^(?!.*\.(?:visible|extern|weak|common)\b)\s*\.(?:global|const)\b[^;={(]*?([$\w]+)(?:\[\d*\])?\s*[;=]",
    re.MULTILINE,
)


def read_ptx(ptx: str | bytes) -> Module:
    """The module of PTX as compilers write it: text or bytes, parts and ends marked by NUL.

    Raises:
        CompileError: It is not PTX, does not parse, or two parts define the same function.
    """
    if isinstance(ptx, (bytes, bytearray, memoryview)):
        try:
            ptx = bytes(ptx).decode()
        except UnicodeDecodeError:
            raise CompileError(
                "this is not PTX but other bytes, such as a cubin's",
                hint="the emulator runs the PTX that a compiler makes before the cubin",
            ) from None
    if not isinstance(ptx, str):
        raise CompileError(
            f"PTX is text or bytes, not {type(ptx).__name__}", hint="pass the text of a .ptx file"
        )
    return link_ptx([part for part in ptx.split("\x00") if part.strip()] or [""])


def link_ptx(texts: Sequence[str]) -> Module:
    """One module of several texts.

    Definitions take the place of declarations. Variables that a text keeps to itself may have the same name
    in another: the later ones are renamed.

    Raises:
        CompileError: A text does not parse, or two define the same function.
    """
    modules = []
    taken: set[str] = set()
    for number, text in enumerate(texts):
        private = set(_PRIVATE.findall(text))
        for name in private & taken:
            text = re.sub(rf"(?<![$\w]){re.escape(name)}(?![$\w])", f"{name}_unit{number}", text)
        taken |= private
        modules.append(parse_ptx(text))
    if len(modules) == 1:
        return modules[0]
    linked = Module(max(m.version for m in modules), modules[0].target, files=dict(modules[0].files))
    for module in modules:
        for variable in module.variables.values():
            linked.variables[variable.name] = _variable(linked.variables.get(variable.name), variable)
        for function in module.functions.values():
            linked.functions[function.name] = _function(linked.functions.get(function.name), function)
    return linked


def _variable(before: Variable | None, new: Variable) -> Variable:
    if before is None or (before.external and not new.external):
        return new
    # Of common and weak definitions the one that holds something counts.
    return new if new.initial and not before.initial else before


def _function(before: Function | None, new: Function) -> Function:
    if before is None or not before.body:
        return new
    if new.body and new.is_entry:
        raise CompileError(f"the kernel {new.name} is defined twice")
    return before
