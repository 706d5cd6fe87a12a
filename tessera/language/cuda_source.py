"""Kernels written in CUDA C++: a file, the name of a `__global__` function in it, and its parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from tessera.language.annotations import caller_names
from tessera.language.kernel import Kernel
from tessera.language.launch import Bound, Grid, Size
from tessera.language.launcher import launcher
from tessera.language.location import caller_location
from tessera.language.tuning import Configuration, Space, Value, Where
from tessera.program.errors import KernelError

_EXAMPLE = 'params={"x": ts.Array[ts.f32, "n"], "y": ts.Array[ts.f32, "n"], "n": ts.Size[ts.i32, "n"]}'
_NAME = re.compile(r"[A-Za-z_]\w*")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class CudaSource:
    """Where a kernel's CUDA C++ is, and how it is compiled."""

    path: Path
    """The file."""
    entry: str
    """The `__global__` function as C++ names it there: `scale`, `ns::scale`, `scale<float, 4>`."""
    options: tuple[str, ...] = ()
    """Further flags of NVRTC: `-std=c++20`, `-DTILE=32`."""
    include_dirs: tuple[Path, ...] = ()
    """Folders of headers besides the file's own and the toolkit's."""

    @property
    def function(self) -> str:
        """The function's name without namespaces and template arguments."""
        return self.entry.partition("<")[0].rpartition("::")[2].strip()

    @property
    def placeholders(self) -> tuple[str, ...]:
        """Names of tuned values among the template arguments: `VEC` of `scale<float, {VEC}>`."""
        return tuple(_PLACEHOLDER.findall(self.entry))

    def configured(self, configuration: Configuration) -> CudaSource:
        """The source with tuned values filled in: template arguments of the entry, macros for the others."""
        texts = {n: str(int(v)) if isinstance(v, bool) else str(v) for n, v in configuration.items()}
        entry = _PLACEHOLDER.sub(lambda m: texts.get(m[1], m[0]), self.entry)
        macros = tuple(f"-D{name}={text}" for name, text in texts.items() if name not in self.placeholders)
        return replace(self, entry=entry, options=(*self.options, *macros))

    def line(self) -> int:
        """Line of the function's definition, 1 if it is not found (a macro may make it)."""
        text = self.path.read_text(errors="replace")
        pattern = rf"__global__[^;{{}}]*?\b({re.escape(self.function)})\s*\("
        found = re.search(pattern, text)
        return text.count("\n", 0, found.start(1)) + 1 if found else 1


class CudaKernel(Kernel):
    """A CUDA C++ kernel with all that is needed to launch it; made by `ts.cuda_kernel`.

    Its pointer parameters are arrays, in C order without gaps; its numbers are scalars or sizes.

    Args:
        fn: A Python function of the same parameters, annotated; it is never called.
        source: The CUDA C++.
        rest: As for `Kernel`.
    """

    def __init__(self, fn: Callable[..., Any], source: CudaSource, **rest: Any) -> None:
        self.template = source
        """The CUDA C++ before tuned values are filled in."""
        self._launches: dict[tuple[Any, ...], Kernel] = {}
        super().__init__(fn, **rest)
        self.source = source.configured(self.configuration)
        """The CUDA C++."""

    def __getitem__(self, shape: Any) -> Callable[..., None]:
        """The kernel with a grid and block of the caller's choice: see `Kernel`."""
        chosen = launcher(self, shape, caller_location())
        key = (chosen.grid, chosen.block, chosen.shared_bytes)
        if key not in self._launches:
            changes = {"grid": key[0], "block": key[1], "shared_bytes": key[2]}
            self._launches[key] = self._remade({**changes, "configuration": self.configuration or None})
        kernel = self._launches[key]

        def launch(*args: Any) -> None:
            kernel(*args)

        return launch

    def _remade(self, changes: Mapping[str, Any]) -> Kernel:
        return CudaKernel(self._original, self.template, **{**self._definition, **changes})

    def _check_tuned(self, space: Space) -> None:
        unknown = sorted(set(self.template.placeholders) - set(space.names))
        if unknown:
            raise KernelError(
                f"{self.name}: the entry {self.template.entry!r} names {unknown[0]!r}, which is not tuned",
                hint="tuned are: " + ", ".join(space.names),
            )

    @property
    def source_file(self) -> str:
        """The CUDA C++ file."""
        return str(self.template.path)


def cuda_kernel(
    file: str | Path,
    *,
    entry: str,
    grid: Grid,
    outputs: Sequence[str] | str,
    params: Mapping[str, Any] | None = None,
    block: Grid = 256,
    shared_bytes: Size = 0,
    name: str | None = None,
    options: Sequence[str] = (),
    include_dirs: Sequence[str | Path] = (),
    tune: Mapping[str, Sequence[Value]] | None = None,
    where: Where = None,
    min_blocks: Bound = None,
    max_registers: Bound = None,
) -> Any:
    """A kernel from CUDA C++ source, compiled by NVRTC; it needs neither nvcc nor a GPU.

        scale = ts.cuda_kernel(
            "scale.cu", entry="scale", grid=lambda n: ts.cdiv(n, 256), outputs="y",
            params={"x": ts.Array[ts.f32, "n"], "y": ts.Array[ts.f32, "n"], "n": ts.Size[ts.i32, "n"]},
        )

    Without `params` it is a decorator of a Python function that declares them and has no body:

        @ts.cuda_kernel("scale.cu", entry="scale", grid=lambda n: ts.cdiv(n, 256), outputs="y")
        def scale(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"], n: ts.Size[ts.i32, "n"]): ...

    Args:
        file: The source; a relative path starts at the folder of the calling file.
        entry: The `__global__` function, as C++ names it: `scale`, `ns::scale`, `scale<float, 4>`.
        grid: Blocks, as for `ts.kernel`.
        outputs: The arrays that the kernel writes.
        params: By name, in the order of the C++ parameters: `ts.Array[dtype, size, …]` for a pointer, a dtype
            for a number, `ts.Size[dtype, size]` for a number that is filled in from the arrays' sizes.
        block: Threads, as for `ts.kernel`.
        shared_bytes: Dynamic shared memory per block, as for `ts.kernel`.
        name: Entry name in packages; by default the C++ function's.
        options: Further flags of NVRTC, such as `-std=c++20` or `-DTILE=32`.
        include_dirs: Folders of headers besides the file's own; relative as `file` is.
        tune: Values to try, by name: a name that stands in braces in `entry`, as in `scale<float, {VEC}>`, is
            a template argument, any other a macro.
        where: Which values go together, as for `ts.kernel`.
        min_blocks: As for `ts.kernel`.
        max_registers: As for `ts.kernel`.

    Returns:
        A `CudaKernel`, or the decorator that makes one.

    Raises:
        KernelError: The file is not there, or the definition cannot be launched.
    """
    names = caller_names()
    called = caller_location()
    here = Path(called.file if called else ".").resolve().parent
    source = CudaSource(
        _existing(here / file), entry.strip(), tuple(options), tuple(here / folder for folder in include_dirs)
    )
    if not _NAME.fullmatch(source.function):
        raise KernelError(
            f"{entry!r} is not the name of a C++ function",
            hint='entry="scale", "ns::scale" or "scale<float>"',
            location=caller_location(),
        )
    rest = {
        "grid": grid, "block": block, "shared_bytes": shared_bytes, "outputs": outputs,
        "name": name or source.function, "names": names, "tune": tune, "where": where,
        "min_blocks": min_blocks, "max_registers": max_registers,
    }  # fmt: skip
    if params is None:
        return lambda fn: CudaKernel(fn, source, **rest)
    return CudaKernel(_declaration(source, params, str(names.get("__name__", ""))), source, **rest)


def _existing(path: Path) -> Path:
    if path.is_file():
        return path.resolve()
    import difflib

    files = sorted(p.name for p in path.parent.glob("*.cu*")) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, files, n=1) or files[:1]
    raise KernelError(
        f"there is no file {path}",
        hint=f"did you mean {near[0]}?" if near else "paths start at the folder of the calling file",
        location=caller_location(),
    )


def _declaration(source: CudaSource, params: Mapping[str, Any], module: str) -> Callable[..., Any]:
    """A function of these parameters that seems to stand where the C++ does: errors point there."""
    for name in params:
        if not name.isidentifier():
            raise KernelError(
                f"{source.function}: {name!r} cannot name a parameter",
                hint=_EXAMPLE,
                location=caller_location(),
            )
    listing = ", ".join(params)
    code = compile(f"def declared({listing}): ...", str(source.path), "exec")
    inner = next(c for c in code.co_consts if isinstance(c, CodeType))
    placed = inner.replace(co_name=source.function, co_firstlineno=source.line())
    declared = FunctionType(placed, {"__name__": module}, source.function)
    declared.__annotations__ = dict(params)
    return declared
