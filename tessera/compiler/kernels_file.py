"""The kernels stage as a file: a program with its plans and the kernels written for it, `.kernels.json`.

    {"format": "tessera kernels", "schema": "1.0", "program": {…}, "kernels": [{…}], "constants": {…}}

A kernel is the text of a Python module, which is compiled and never called. One that was read is held to what
the generator writes: imports of Numba, Tessera and `math`, and one function without nested ones.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from tessera.compiler.graph_file import (
    Weight,
    check_file_name,
    checked,
    read_document,
    refused,
    weights_to_data,
)
from tessera.compiler.graph_unit import Lowered
from tessera.compiler.kernel_source import POINTERS, SCALARS, KernelSource
from tessera.program.codec import encode
from tessera.program.errors import CompileError, ProgramError, SourceLocation
from tessera.program.program import Choice, Launch, Program, Step
from tessera.program.validate import validate

FORMAT = "tessera kernels"
SCHEMA = "1.0"
_MODULES = tuple(f"tessera.compiler.{name}" for name in ("cpu_folds", "cpu_math", "device", "device_math"))
"""What kernels import functions from."""
_FORBIDDEN = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.Import, ast.ImportFrom, ast.With,
    ast.AsyncWith, ast.Try, ast.Global, ast.Nonlocal, ast.Await, ast.Yield, ast.YieldFrom, ast.JoinedStr,
    ast.Delete, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
)  # fmt: skip
_NUMBA = frozenset({"cuda", "float32", "float64", "int64", "int32", "int16", "int8", "uint32", "uint8"})


class _Kernel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    name: str
    form: Literal["cuda", "cpu"]
    targets: tuple[str, ...]
    source: str
    args: tuple[str, ...]
    noalias_const: tuple[bool, ...] = ()
    threads: int | None = None
    shared_bytes: int = 0
    dynamic_shared_bytes: int = 0
    least_cc: tuple[int | str, ...] = (7, 0)
    note: str = ""
    cc_dependent: bool = False
    lines: tuple[tuple[int, SourceLocation], ...] = ()


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str = FORMAT
    schema: str = SCHEMA
    program: Program
    kernels: tuple[_Kernel, ...]
    constants: dict[str, Weight] = {}
    notes: tuple[str, ...] = ()


def kernels_to_json(lowered: Lowered) -> bytes:
    """The document; equal programs, kernels and weights give equal bytes."""
    graph = lowered.program.graph
    assert graph is not None  # noqa: S101 - what was lowered had one
    return encode(
        _Document(
            program=lowered.program,
            kernels=tuple(_to_data(source, targets) for source, targets in lowered.kernels),
            constants=weights_to_data(graph, lowered.constants),
            notes=lowered.notes,
        )
    )


def _to_data(source: KernelSource, targets: tuple[str, ...]) -> _Kernel:
    return _Kernel(
        name=source.name,
        form=source.target,
        targets=targets,
        source=source.source,
        args=source.args,
        noalias_const=source.noalias_const,
        threads=source.threads,
        shared_bytes=source.shared_bytes,
        dynamic_shared_bytes=source.dynamic_shared_bytes,
        least_cc=source.least_cc,
        note=source.note,
        cc_dependent=source.cc_dependent,
        lines=tuple(sorted(source.locations.items(), key=lambda pair: pair[0])),
    )


def kernels_from_json(data: bytes, file: str = "kernels.json") -> Lowered:
    """The lowered program of a document.

    Args:
        data: The contents of a `.kernels.json` file.
        file: Its name, for errors.

    Raises:
        CompileError: It is no such document, of another version or torn, its plans and kernels do not fit
            together, or a kernel is more than the generator writes; the message names the field or kernel.
    """
    document = read_document(data, file, FORMAT, SCHEMA, _Document)
    try:
        program = document.program
        if program.graph is None:
            raise ProgramError("program.graph: it is missing", path="program.graph")
        check_file_name("program.name", program.name)
        weights = checked(program.graph, document.constants)
        validate(program)
        _check_launches(program, document.kernels)
        kernels = tuple(
            (_from_data(f"kernels[{i}]", kernel), kernel.targets) for i, kernel in enumerate(document.kernels)
        )
    except ProgramError as error:
        raise refused(error, file) from None
    return Lowered(program, kernels, weights, document.notes)


def _from_data(where: str, kernel: _Kernel) -> KernelSource:
    known = POINTERS.keys() | SCALARS.keys()
    if odd := [kind for kind in kernel.args if kind not in known]:
        raise ProgramError(f"{where}.args: {odd[0]!r} is no kind of argument", path=f"{where}.args")
    if kernel.noalias_const and len(kernel.noalias_const) != len(kernel.args):
        raise ProgramError(
            f"{where}.noalias_const: {len(kernel.noalias_const)} for {len(kernel.args)} arguments",
            path=f"{where}.noalias_const",
        )
    _check_source(f"{where}.source", kernel)
    return KernelSource(
        name=kernel.name,
        target=kernel.form,
        source=kernel.source,
        args=kernel.args,
        noalias_const=kernel.noalias_const,
        threads=kernel.threads,
        shared_bytes=kernel.shared_bytes,
        dynamic_shared_bytes=kernel.dynamic_shared_bytes,
        least_cc=kernel.least_cc,
        note=kernel.note,
        cc_dependent=kernel.cc_dependent,
        locations=dict(kernel.lines),
    )


def _check_launches(program: Program, kernels: Sequence[_Kernel]) -> None:
    """See that every kernel that a plan launches for a target is there."""
    found = {(kernel.name, target) for kernel in kernels for target in kernel.targets}
    for i, plan in enumerate(program.plans):
        for name in _launched((*plan.setup, *plan.steps)):
            for target in plan.targets:
                if (name, target) not in found:
                    raise ProgramError(
                        f"program.plans[{i}]: no kernel is called {name!r} for {target}",
                        path=f"program.plans[{i}]",
                    )


def _launched(steps: Sequence[Step]) -> list[str]:
    names: list[str] = []
    for step in steps:
        if isinstance(step, Choice):
            names += [name for option in step.options for name in _launched(option.steps)]
        elif isinstance(step, Launch):
            names.append(step.kernel)
    return names


def _check_source(where: str, kernel: _Kernel) -> None:
    """See that a module does nothing but define its kernel.

    Raises:
        ProgramError: It does more; the message has the line.
    """
    try:
        module = ast.parse(kernel.source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ProgramError(f"{where}: no Python: {error}", path=where) from None
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef)]
    if [function.name for function in functions] != [kernel.name]:
        raise ProgramError(f"{where}: it has to define {kernel.name!r} and nothing else", path=where)
    for node in module.body:
        if not (_is_text(node) or _is_import(node) or node in functions):
            _refuse(where, node, "only imports and the kernel are allowed")
    function = functions[0]
    arguments = function.args
    plain = not (
        function.decorator_list or function.returns or arguments.defaults or arguments.kw_defaults
        or arguments.vararg or arguments.kwarg or any(a.annotation for a in arguments.args)
    )  # fmt: skip
    if not plain:
        _refuse(where, function, "a kernel has no decorators, defaults or annotations")
    for inner in ast.walk(function):
        if inner is not function and isinstance(inner, _FORBIDDEN):
            _refuse(where, inner, f"{type(inner).__name__} is nothing that kernels are made of")
        name = getattr(inner, "id", None) or getattr(inner, "attr", None)
        if isinstance(name, str) and name.startswith("__"):
            _refuse(where, inner, f"{name} is no name of a kernel")


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_import(node: ast.stmt) -> bool:
    if isinstance(node, ast.Import):
        return all(alias.name == "math" for alias in node.names)
    if not isinstance(node, ast.ImportFrom) or node.level:
        return False
    if node.module == "numba":
        return all(alias.name in _NUMBA for alias in node.names)
    if node.module == "tessera":
        return all(alias.name == "gpu" for alias in node.names)
    return node.module in _MODULES and all(alias.name != "*" for alias in node.names)


def _refuse(where: str, node: ast.AST, text: str) -> None:
    line = getattr(node, "lineno", 1)
    raise ProgramError(f"{where}: line {line}: {text}", path=where)


def narrowed(lowered: Lowered, targets: Sequence[str], name: str | None = None) -> Lowered:
    """A lowered program for some of its targets, and under another name if one is given.

    Raises:
        CompileError: It was not lowered for one of them.
    """
    known = lowered.program.targets
    if missing := [target for target in targets if target not in known]:
        raise CompileError(
            f"the kernels of {lowered.name} are for {', '.join(known)}, not for {missing[0]}",
            hint=f"--arch {known[0]}, or start from the source or its .graph.json",
        )
    plans = []
    for plan in lowered.program.plans:
        kept = tuple(target for target in plan.targets if target in targets)
        if kept:
            plans.append(msgspec.structs.replace(plan, targets=kept))
    name = name or lowered.name
    program = msgspec.structs.replace(lowered.program, plans=tuple(plans), name=name)
    notes = tuple(_notes_of(lowered.notes, known, targets))
    return Lowered(program, lowered.kernels, lowered.constants, notes)


def _notes_of(notes: Iterable[str], known: Sequence[str], targets: Sequence[str]) -> Iterator[str]:
    """The notes without what they say of other targets: `sm_80, sm_90: …` begins with those it is about."""
    for note in notes:
        about, _, text = note.partition(": ")
        names = about.split(", ")
        kept = [name for name in names if name in targets]
        if not set(names) <= set(known):
            yield note
        elif kept:
            yield f"{', '.join(kept)}: {text}"
