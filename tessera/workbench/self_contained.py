"""Whether Python files mean the same each time they are run: what they read is themselves and libraries.

A file that imports nothing but files like it and a few libraries, and takes nothing from those that differs
from run to run (random numbers, files, the machine, the time), gives the same kernels as long as no file
changes. Everything that is not known to be harmless counts as harmful.
"""

from __future__ import annotations

import ast
import builtins
import re
import sysconfig
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path

import tessera


class NotSelfContainedError(Exception):
    """What a file may do cannot be told from its text; says what."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NUMPY = _words(
    "abs add all any arange arccos arcsin arctan arctan2 argmax argmin argsort array asarray "
    "ascontiguousarray bool_ broadcast_to ceil clip concatenate copy cos cosh cumsum diag diff divide dot "
    "dtype e einsum exp expand_dims expm1 eye flip float16 float32 float64 floor full full_like identity inf "
    "int16 int32 int64 int8 linspace log log10 log1p log2 logspace matmul max maximum mean meshgrid min "
    "minimum mod multiply nan ndarray newaxis ones ones_like outer pad pi power prod ravel repeat reshape "
    "round sign sin sinh sqrt square squeeze stack std subtract sum swapaxes tan tanh tensordot tile "
    "transpose tri tril triu uint16 uint32 uint64 uint8 var vstack where zeros zeros_like"
)
_CUDA = _words(
    "activemask all_sync any_sync atomic ballot_sync blockDim blockIdx brev cbrt cg clz const declare_device "
    "eq_sync ffs float16 fma fp16 grid gridDim gridsize jit laneid lanemask_lt local match_all_sync "
    "match_any_sync nanosleep popc selp shared shfl_down_sync shfl_sync shfl_up_sync shfl_xor_sync "
    "syncthreads syncthreads_and syncthreads_count syncthreads_or syncwarp threadIdx threadfence "
    "threadfence_block threadfence_system vote_sync_intrinsic warpsize"
)
_NUMBA = _words(
    "boolean complex128 complex64 cuda float32 float64 int16 int32 int64 int8 intp jit njit prange uint16 "
    "uint32 uint64 uint8 uintp void"
)
# Weights drawn without a seed differ from run to run; C++ is read from files of its own.
_RANDOM_OR_FILES = _words(
    "randn Conv2d Embedding Linear MultiHeadAttention CudaKernel cuda_kernel TesseraError"
)
LIBRARIES: dict[str, frozenset[str] | None] = {
    "numpy": _NUMPY,
    "numba": _NUMBA,
    "numba.cuda": _CUDA,
    "tessera": frozenset(tessera.__all__) - _RANDOM_OR_FILES,
    "tessera.gpu": None,
    "math": None,
    "cmath": None,
    "__future__": None,
    "dataclasses": None,
    "enum": None,
    "functools": None,
    "itertools": None,
    "typing": None,
    "collections": None,
    "collections.abc": None,
}
"""What may be taken from which module; None: all that it exports."""
_MODULES_IN = {"numba": {"cuda": "numba.cuda"}, "tessera": {"gpu": "tessera.gpu"}}
"""Names in a library that are libraries themselves."""
_BUILTINS = _words(
    "abs all any bool bytes complex dict divmod enumerate filter float frozenset int isinstance issubclass "
    "iter len list map max min next object pow property range reversed round slice sorted staticmethod "
    "classmethod str sum super tuple type zip Ellipsis NotImplemented __name__ __doc__"
)
_ATTRIBUTES = _words("__init__ __call__ __name__ __post_init__ __new__ __class_getitem__")
"""Attributes with double underscores that lead nowhere else."""
_NOT_ATTRIBUTES = re.compile(r"(load|open|read|save|write|dump|tofile|fromfile|ctypes|\w+_frame|\w_globals)")
"""Methods that read or write files, by the start of their names."""
_NOT_KEYWORDS = _words("link file path")
_ANNOTATION = re.compile(r"[\w\s.,*+/%\[\]-]*\Z")


def self_contained(file: Path, path: Sequence[str]) -> dict[str, Path]:
    """The file and all of the user's that it imports, by the name they are imported under.

    Args:
        file: A Python file, run with its folder first on the import path.
        path: The rest of the import path.

    Raises:
        NotSelfContainedError: One of them may do something else the next time.
    """
    search = [str(file.parent), *path]
    found: dict[str, Path] = {"": file}
    trees: list[ast.Module] = []
    pending = [file]
    while pending:
        tree = _tree(pending.pop())
        trees.append(tree)
        for name in _imported(tree):
            if name in LIBRARIES:
                _check_library(name, file.parent)
            elif name not in found:
                origin = _origin(name, search, found)
                found[name] = origin
                pending.append(origin)
    modules = {alias for tree in trees for alias in _library_names(tree)}
    for tree in trees:
        _Check(tree, modules).run()
    return found


def _tree(file: Path) -> ast.Module:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise NotSelfContainedError(f"{file}: {error}") from None
    # What stands there does not run.
    tree.body = [n for n in tree.body if not (isinstance(n, ast.If) and _is_main(n.test) and not n.orelse)]
    return tree


def _is_main(test: ast.expr) -> bool:
    return ast.unparse(test) in ("__name__ == '__main__'", "'__main__' == __name__")


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.module is None:
                raise NotSelfContainedError("a relative import")
            yield from _with_parents(node.module)


def _with_parents(name: str) -> Iterator[str]:
    if name in LIBRARIES:
        yield name
        return
    if "." in name:
        raise NotSelfContainedError(f"import {name}")
    yield name


def _check_library(name: str, folder: Path) -> None:
    root = name.partition(".")[0]
    if PathFinder.find_spec(root, [str(folder)]) is not None:
        raise NotSelfContainedError(f"{folder} has a {root} of its own")


def _origin(name: str, search: list[str], found: dict[str, Path]) -> Path:
    spec: ModuleSpec | None = PathFinder.find_spec(name, search)
    if spec is None or not isinstance(spec.loader, SourceFileLoader) or spec.origin is None:
        raise NotSelfContainedError(f"import {name}")
    origin = Path(spec.origin).resolve()
    if spec.submodule_search_locations is not None or _is_library(origin):
        raise NotSelfContainedError(f"import {name}")
    if origin in found.values():
        raise NotSelfContainedError(f"{origin} is imported under two names")
    return origin


def _is_library(file: Path) -> bool:
    paths = sysconfig.get_paths()
    folders = [Path(paths[k]).resolve() for k in ("stdlib", "platstdlib", "purelib", "platlib")]
    own = Path(tessera.__file__).resolve().parent
    return any(file.is_relative_to(folder) for folder in (*folders, own))


def _is_builtin(name: str) -> bool:
    found = getattr(builtins, name, None)
    return found is not None and not (isinstance(found, type) and issubclass(found, BaseException))


def _library_names(tree: ast.Module) -> Iterator[str]:
    """Names under which a file knows libraries as modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inner = _MODULES_IN.get(node.module or "", {})
            yield from (alias.asname or alias.name for alias in node.names if alias.name in inner)


class _Check:
    """One file against the tables."""

    def __init__(self, tree: ast.Module, modules: set[str]) -> None:
        self.tree = tree
        self.modules = modules
        """Names of modules in any of the files."""
        self.own: dict[str, str] = {}
        """This file's names of libraries."""
        self.bases: set[int] = set()

    def run(self) -> None:
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self.imports(node)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute):
                self.attribute(node)
        for node in ast.walk(self.tree):
            match node:
                case ast.Name():
                    self.name(node)
                case ast.arg(annotation=ast.expr() as told) | ast.AnnAssign(annotation=told):
                    self.annotation(told)
                case ast.FunctionDef(returns=ast.expr() as told):
                    self.annotation(told)
                case ast.keyword(arg=str() as word) if word in _NOT_KEYWORDS:
                    raise NotSelfContainedError(f"{word}=…")

    def imports(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            name = alias.asname or alias.name
            if isinstance(node, ast.Import):
                if alias.asname is None and "." in alias.name:
                    raise NotSelfContainedError(f"import {alias.name}")
                if alias.name in LIBRARIES:
                    self.library(name, alias.name)
                continue
            if alias.name == "*":
                raise NotSelfContainedError("import *")
            module = node.module or ""
            if module in LIBRARIES:
                self.member(module, alias.name)
                inner = _MODULES_IN.get(module, {}).get(alias.name)
                if inner is not None:
                    self.library(name, inner)
            elif alias.name in self.modules or alias.name.startswith("__"):
                raise NotSelfContainedError(f"from {module} import {alias.name}")

    def library(self, name: str, module: str) -> None:
        if self.own.setdefault(name, module) != module:
            raise NotSelfContainedError(f"{name} is two modules")

    def attribute(self, node: ast.Attribute) -> None:
        base = node.value
        if isinstance(base, ast.Name) and base.id in self.own:
            self.bases.add(id(base))
            self.member(self.own[base.id], node.attr)
            inner = _MODULES_IN.get(self.own[base.id], {})
            if node.attr in inner:
                raise NotSelfContainedError(f"{base.id}.{node.attr}")
            return
        dunder = node.attr.startswith("__") and node.attr not in _ATTRIBUTES
        if dunder or _NOT_ATTRIBUTES.match(node.attr) or node.attr in self.modules:
            raise NotSelfContainedError(f".{node.attr}")

    def member(self, module: str, name: str) -> None:
        known = LIBRARIES[module]
        if known is None:
            found = import_module("tessera.language.gpu" if module == "tessera.gpu" else module)
            known = frozenset(getattr(found, "__all__", ()) or vars(found))
        if name not in known or name.startswith("__"):
            raise NotSelfContainedError(f"{module}.{name}")

    def name(self, node: ast.Name) -> None:
        if node.id in self.own:
            if id(node) not in self.bases:
                raise NotSelfContainedError(f"{node.id} is passed on")
        elif node.id not in _BUILTINS and (node.id.startswith("__") or _is_builtin(node.id)):
            raise NotSelfContainedError(node.id)

    def annotation(self, node: ast.expr) -> None:
        for part in ast.walk(node):
            text = part.value if isinstance(part, ast.Constant) else None
            if isinstance(text, str) and ("__" in text or not _ANNOTATION.match(text)):
                raise NotSelfContainedError(f"annotation {text!r}")
