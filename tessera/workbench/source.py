"""A Python file of the user's: running it, and finding the kernels, functions and Modules in it."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Literal

from tessera.program.errors import CompileError, SourceLocation, TesseraError
from tessera.program.spec import TensorSpec
from tessera.workbench.failure import UsageError, missing_package, short_path, text_of
from tessera.workbench.specs import order_specs

if TYPE_CHECKING:
    from tessera import JitFunction, Kernel, Module
    from tessera.compiler.graph_file import SavedGraph
    from tessera.compiler.graph_unit import Lowered

    Subject = JitFunction | Kernel | Module | SavedGraph | Lowered

PACKAGE_SUFFIXES = (".tsc", ".tsp", ".tsd")
PROGRAM_ENDINGS: dict[str, Literal["graph", "kernels"]] = {".graph.json": "graph", ".kernels.json": "kernels"}
"""Files of the compiler's stages that stand for a source: those of `tessera.compiler.stages`."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a file that can be compiled."""

    name: str
    """Its name in the file."""
    kind: Literal["kernel", "function", "module", "graph", "kernels"]
    """`kernel`: a Numba CUDA kernel; `function`: a traced function; `module`: a model with weights; `graph`
    and `kernels`: a program from a file of that stage."""
    subject: Subject
    """The object itself."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the arguments that need a spec; none for what carries its own."""
        if self.is_specified:
            return ()
        function = getattr(self.subject, "forward" if self.kind == "module" else "fn")
        return tuple(inspect.signature(function).parameters)

    @property
    def specs(self) -> list[TensorSpec] | None:
        """Specs that the source itself gives, if it does."""
        return None if self.is_specified else self.subject.specs  # type: ignore[union-attr]

    @property
    def is_specified(self) -> bool:
        """Whether it says itself what goes in, and nobody else can."""
        return self.kind in ("kernel", "graph", "kernels")

    def needs_specs(self) -> bool:
        """Whether someone else must say what goes in."""
        return not self.is_specified and not self.specs

    def input_specs(self, given: dict[str, TensorSpec]) -> list[TensorSpec] | None:
        """The specs to compile with: those given, or None where the source has its own.

        Raises:
            UsageError: Neither has them, or those given do not fit the arguments.
        """
        if given and not self.is_specified:
            own = dict(zip(self.arguments, self.specs or (), strict=False))
            return order_specs(self.name, self.arguments, {**own, **given})
        if self.needs_specs():
            order_specs(self.name, self.arguments, {})
        return None


def is_package(target: str) -> bool:
    """Whether `target` is a package file or an unpacked package, rather than source."""
    path = Path(target)
    return path.suffix in PACKAGE_SUFFIXES or (path / "manifest.json").is_file()


def split_target(target: str) -> tuple[Path, str | None]:
    """The file and the name of `FILE[:NAME]`.

    Raises:
        UsageError: There is no such file.
    """
    file, colon, name = target.rpartition(":")
    path = Path(file) if colon and name.isidentifier() else Path(target)
    if not path.is_file():
        raise UsageError(_not_a_file(path), hint=_near_files(path))
    return path, name if colon and name.isidentifier() else None


def load_entries(target: str) -> list[Entry]:
    """What `FILE[:NAME]` names: one entry, or all of the file in the order written.

    Raises:
        UsageError: There is no such file, or nothing of that name in it.
        CompileError: The file does not run, or has nothing to compile.
    """
    path, name = split_target(target)
    if stage := program_stage(path):
        return _program_entries(path, stage, name)
    module = load_module(path)
    entries = find_entries(module)
    if name is not None:
        return [_named(name, entries, module, path)]
    if not entries:
        what = f"{short_path(str(path))} has no kernel, function or Module to compile"
        raise CompileError(what, hint=_how_to_write(module))
    return entries


def program_stage(path: str | Path) -> Literal["graph", "kernels"] | None:
    """The stage of a file that holds a program; None for other files."""
    name = Path(path).name
    return next((stage for ending, stage in PROGRAM_ENDINGS.items() if name.endswith(ending)), None)


def _program_entries(path: Path, stage: Literal["graph", "kernels"], name: str | None) -> list[Entry]:
    from tessera.compiler.stages import load_program

    subject = load_program(path.read_bytes(), stage, short_path(str(path)))
    if name not in (None, subject.name):
        raise UsageError(f"{name!r} is not there in {short_path(str(path))}", hint=f"it has {subject.name}")
    return [Entry(subject.name, stage, subject)]


def _instead_of(path: Path) -> str:
    if path.suffix in (".cu", ".cuh", ".cpp"):
        return f"declare its kernels in a Python file: ts.cuda_kernel({path.name!r}, entry=…, params=…)"
    return f"what it is goes by its ending: {', '.join(('.py', *PACKAGE_SUFFIXES, *PROGRAM_ENDINGS))}"


def load_module(path: Path) -> ModuleType:
    """Run a Python file as a module of its own name, its folder first on the import path.

    Raises:
        CompileError: It has a syntax error, or raises; `location` is the line of the user's.
    """
    path = path.resolve()
    if is_package(str(path)):
        raise UsageError(
            f"{short_path(str(path))} is a package, and its source is needed here",
            hint="name the file that it was built from: kernels.py",
        )
    if path.suffix != ".py":
        raise UsageError(
            f"{short_path(str(path))} is neither Python source, a package nor a file of a stage",
            hint=_instead_of(path),
        )
    name = path.stem if path.stem.isidentifier() else "_tessera_source"
    if name in sys.modules or name in sys.stdlib_module_names:
        name = f"_tessera_source_{name}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{short_path(str(path))} cannot be loaded as Python source")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    process = os.getpid()
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        _end_if_forked(process)
        sys.modules.pop(name, None)
        raise _as_failure(error, path) from error
    _end_if_forked(process)
    return module


def _end_if_forked(process: int) -> None:
    """End here if the file has forked and this is the child: the command is done by the parent alone."""
    if os.getpid() != process:
        os._exit(0)


def _as_failure(error: BaseException, path: Path) -> BaseException:
    """What the failure of a user's file is shown as."""
    if isinstance(error, SyntaxError):
        spot = SourceLocation(
            str(error.filename or path),
            error.lineno or 1,
            None if error.offset is None else error.offset - 1,
            None if error.end_offset is None or error.end_lineno != error.lineno else error.end_offset - 1,
        )
        return CompileError(f"syntax error: {error.msg}", location=spot)
    place = _last_line_of_user(error.__traceback__, path)
    if isinstance(error, TesseraError):
        if error.location is None:
            error.location = place
        return error
    # An ImportError too.
    if type(error).__name__ == "CudaSupportError":
        return CompileError(
            "this line asks for a GPU while the file is loaded, and there is none",
            hint="leave signatures out, to compile functions when they are used: @cuda.jit(device=True); "
            "put launches under  if __name__ == '__main__':",
            location=place,
        )
    if isinstance(error, ImportError):
        ours = missing_package(error, needed_for=short_path(str(path)))
        if ours is not None:
            ours.location = place
            return ours
        missing = isinstance(error, ModuleNotFoundError) and error.name
        hint = f"pip install {error.name}, or correct the name" if missing else None
        return CompileError(text_of(error), hint=hint, location=place)
    if isinstance(error, SystemExit):
        hint = "put what is not a definition under  if __name__ == '__main__':"
        return CompileError("the file ends the program when it is loaded", hint=hint, location=place)
    if isinstance(error, KeyboardInterrupt):
        return error
    return CompileError(text_of(error), location=place)


def _last_line_of_user(trace: TracebackType | None, path: Path) -> SourceLocation | None:
    """The deepest line of the traceback that lies in the user's own folder."""
    frames = [f for f in traceback.extract_tb(trace) if _is_user_file(f.filename, path)]
    if not frames:
        return None
    last = frames[-1]
    function = None if last.name == "<module>" else last.name
    one_line = last.end_lineno == last.lineno
    return SourceLocation(
        last.filename, last.lineno or 1, last.colno, last.end_colno if one_line else None, function
    )


def _is_user_file(file: str, path: Path) -> bool:
    return Path(file).is_relative_to(path.parent) and "site-packages" not in Path(file).parts


def find_entries(module: ModuleType) -> list[Entry]:
    """Kernels, functions and Module instances among the names of `module`, each once, in order."""
    from tessera import JitFunction, Kernel, Module

    kinds: tuple[tuple[type, Literal["kernel", "function", "module"]], ...] = (
        (Kernel, "kernel"),
        (JitFunction, "function"),
        (Module, "module"),
    )
    found: list[Entry] = []
    seen: set[int] = set()
    for name, value in vars(module).items():
        kind = next((word for cls, word in kinds if isinstance(value, cls)), None)
        # A kernel that the file imported from elsewhere belongs to the other file.
        home = getattr(getattr(value, "fn", None), "__module__", module.__name__)
        if kind and id(value) not in seen and home == module.__name__:
            seen.add(id(value))
            found.append(Entry(name, kind, value))
    return found


def _named(name: str, entries: list[Entry], module: ModuleType, path: Path) -> Entry:
    from tessera import Module

    for entry in entries:
        if entry.name == name:
            return entry
    value = getattr(module, name, None)
    if isinstance(value, type) and issubclass(value, Module):
        return Entry(name, "module", _instance(value, path))
    import difflib

    known = [entry.name for entry in entries]
    near = difflib.get_close_matches(name, known, n=1)
    what = "is neither a kernel, a function nor a Module" if hasattr(module, name) else "is not there"
    listing = f"it has {', '.join(known) or 'nothing to compile'}"
    raise UsageError(
        f"{name!r} {what} in {short_path(str(path))}",
        hint=(f"did you mean {near[0]!r}? " if near else "") + listing,
    )


def _instance(kind: type[Module], path: Path) -> Module:
    try:
        return kind()
    except TypeError as error:
        raise CompileError(
            f"{kind.__name__} cannot be made without arguments: {error}",
            hint=f"add a line such as  model = {kind.__name__}(…)  to {path.name} and name that",
        ) from None


def _how_to_write(module: ModuleType) -> str:
    from tessera import Module

    classes = [n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, Module)]
    classes = [n for n in classes if n != "Module"]
    if classes:
        return f"it defines the class {classes[0]}: add a line such as  model = {classes[0]}()"
    return "put @ts.jit above a function, or @ts.kernel(grid=…, block=…) above a Numba CUDA kernel"


def _not_a_file(path: Path) -> str:
    return f"{path} is a folder, not a file" if path.is_dir() else f"there is no file {path}"


def _near_files(path: Path) -> str | None:
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir():
        return None
    import difflib

    endings = (".py", *PACKAGE_SUFFIXES, *PROGRAM_ENDINGS)
    names = sorted(p.name for p in folder.iterdir() if p.name.endswith(endings))
    near = difflib.get_close_matches(path.name, names, n=1)
    if near:
        return f"did you mean {folder / near[0]}?"
    return f"{folder}/ has {', '.join(names[:8])}" if names else None
