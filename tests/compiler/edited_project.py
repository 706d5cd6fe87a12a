"""A small project of kernels, functions and a model, and edits to it as data."""

# ruff: noqa: E501 - an edit is one line

from __future__ import annotations

import importlib
import linecache
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Files = Mapping[str, str]
Edit = Callable[[dict[str, str]], None]

KERNELS = '''"""Kernels of a project."""
import math

import numpy as np
from numba import cuda, float32

import tessera as ts
from scaling import RATE, scaled
import scaling

FACTOR = 3.0
SHAPE = (32, 4)
UNUSED = 1


def unused(value):
    return value + 1


@cuda.jit(device=True)
def local(v):
    return v * FACTOR + 2.0


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def plain(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    """Adds."""
    i = cuda.grid(1)
    if i < x.size:
        y[i] = x[i] + float32(1.5)


@ts.kernel(grid=lambda n: ts.cdiv(n, 128), block=128)
def device(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    """Calls a function of the file."""
    i = cuda.grid(1)
    if i < x.size:
        y[i] = local(x[i]) - 1.0


@ts.kernel(grid=lambda n: ts.cdiv(n, 128), block=128)
def imported(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    """Calls a function of another file, which calls one of a third."""
    i = cuda.grid(1)
    if i < x.size:
        y[i] = scaled(x[i])


@ts.kernel(grid=lambda n: ts.cdiv(n, 128), block=128)
def reads(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    """Reads globals: its own, imported ones, attributes of a module."""
    i = cuda.grid(1)
    if i < x.size:
        y[i] = x[i] * RATE + scaling.OFFSET + FACTOR * math.pi


@ts.kernel(grid=lambda n: ts.cdiv(n, 32), block=32)
def shared(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    """Turns each block's part around."""
    part = cuda.shared.array(SHAPE[0], float32)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    part[t] = x[i] if i < x.size else float32(0)
    cuda.syncthreads()
    if i < x.size:
        y[i] = part[31 - t]


def make(power, times):
    """A kernel that closes over two values."""

    @ts.kernel(grid=lambda n: ts.cdiv(n, 64), block=64, name="closed")
    def body(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
        i = cuda.grid(1)
        if i < x.size:
            v = x[i]
            for _ in range(times):
                v = v * power
            y[i] = v

    return body


closed = make(2.0, 3)


@ts.jit
def traced(x: ts.Tensor[ts.f32, "n", 48], y: ts.Tensor[ts.f32, 48]) -> ts.Tensor:
    """Neighbours fuse."""
    return ts.relu(x * FACTOR + y) - 1.0


@ts.jit
def normed(x: ts.Tensor[ts.f32, "n", 48]) -> ts.Tensor:
    """Calls a Python function of another file."""
    return scaling.centred(ts.softmax(x))


WEIGHTS = np.arange(48 * 8, dtype=np.float32).reshape(48, 8) / 100


class Net(ts.Module):
    """A layer."""

    def __init__(self):
        super().__init__()
        self.weight = ts.Parameter(WEIGHTS)

    def forward(self, x: ts.Tensor[ts.f32, "n", 48]) -> ts.Tensor:
        return ts.gelu(ts.matmul(x, self.weight))


net = Net()

cpp = ts.cuda_kernel(
    "cpp.cu", entry="cpp", grid=lambda n: ts.cdiv(n, 64), block=64, outputs="y",
    params={"x": ts.Array[ts.f32, "n"], "y": ts.Array[ts.f32, "n"], "n": ts.Size[ts.i32, "n"]},
)
'''

SCALING = '''"""Functions that kernels import."""
from numba import cuda

import tessera as ts
from deep import BASE, deepest

RATE = 0.25
OFFSET = 7.0
OTHER = 1


@cuda.jit(device=True)
def scaled(v):
    """Scales."""
    return deepest(v) * 2.0


def centred(x):
    """Takes the mean away."""
    return x - ts.mean(x, axis=-1, keepdims=True) * BASE
'''

DEEP = '''"""What scaling imports."""
from numba import cuda

BASE = 0.5


@cuda.jit(device=True)
def deepest(v):
    return v + BASE
'''

CPP = """// A kernel in C++.
#include "part.cuh"

__global__ void cpp(const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x; // where
    if (i < n) y[i] = part(x[i]) * 3.0f;
}
"""

HEADER = """#pragma once
/* A part. */
__device__ inline float part(float v) { return v + 1.0f; }
"""

PROJECT: Files = {
    "kernels.py": KERNELS, "scaling.py": SCALING, "deep.py": DEEP, "cpp.cu": CPP, "part.cuh": HEADER,
}  # fmt: skip
SUBJECTS = (
    "plain", "device", "imported", "reads", "shared", "closed", "traced", "normed", "net", "cpp",
)  # fmt: skip
MODULES = ("kernels", "scaling", "deep")


def change(file: str, old: str, new: str) -> Edit:
    """Replace the one place of a text."""

    def edit(files: dict[str, str]) -> None:
        assert files[file].count(old) == 1, (file, old)
        files[file] = files[file].replace(old, new)

    return edit


def everywhere(pattern: str, new: str, *suffixes: str) -> Edit:
    """Replace a pattern in every file of these kinds."""

    def edit(files: dict[str, str]) -> None:
        for name in files:
            if name.endswith(suffixes):
                files[name] = re.sub(pattern, new, files[name], flags=re.MULTILINE)

    return edit


def _indented_by_two(files: dict[str, str]) -> None:
    for name in files:
        files[name] = re.sub(r"^( +)", lambda m: " " * (len(m[1]) // 2), files[name], flags=re.MULTILINE)


def _turned_around(files: dict[str, str]) -> None:
    """The kernels in another order: what stands alone between decorators moves."""
    head, *parts = re.split(r"(?=^@ts\.kernel)", files["kernels.py"], flags=re.MULTILINE)
    *first, last = parts
    files["kernels.py"] = head + "".join(reversed(first)) + last


def _annotations_as_text(files: dict[str, str]) -> None:
    files["kernels.py"] = files["kernels.py"].replace(
        "import math\n", "from __future__ import annotations\n\nimport math\n", 1
    )


HARMLESS: Mapping[str, Edit] = {
    "nothing": lambda files: None,
    "comment-above": everywhere(r"\A", "# first line\n", ".py"),
    "comment-at-the-end-of-lines": everywhere(r"(?<=[)\w])$", "  # why", "scaling.py", "deep.py"),
    "comment-in-bodies": everywhere(r"^(    i = cuda\.grid\(1\))", r"    # which one\n\1", ".py"),
    "lines-above": everywhere(r"\A", "\n" * 50, ".py", ".cu", ".cuh"),
    "blank-lines-between": everywhere(r"^(@|def )", r"\n\n\n\1", "scaling.py", "deep.py"),
    "trailing-spaces": everywhere(r"$", "  ", ".py", ".cuh"),
    "windows-line-ends": everywhere(r"$(?!\Z)", "\r", ".py"),
    "docstrings": everywhere(r'^(\s*)"""[A-Z][^"]*"""$', r'\1"""Other words."""', ".py"),
    "two-spaces": _indented_by_two,
    "quotes": everywhere(r'\["n"|, "n"', lambda m: m[0].replace('"', "'"), "kernels.py"),  # type: ignore[arg-type]
    "parentheses": change(
        "kernels.py", "x[i] + float32(1.5)", "(\n            x[i] + (float32(1.5))\n        )"
    ),
    "order": _turned_around,
    "unused-function": change("kernels.py", "return value + 1", "return value + 2"),
    "unused-global": change("kernels.py", "UNUSED = 1", "UNUSED = [object()]"),
    "unused-global-of-another-file": change("scaling.py", "OTHER = 1", "OTHER = 2"),
    "unused-import": change("kernels.py", "import math\n", "import math\nimport json\n"),
    "annotations-as-text": _annotations_as_text,
    "comment-in-c++": change("cpp.cu", "// where", "/* which one */"),
    "comment-in-header": change("part.cuh", "/* A part. */", "/* A part\n of it. */\n\n"),
    "spaces-in-c++": change("cpp.cu", "    int i =", "\tint   i  ="),
}
"""Edits that mean nothing: every subject must come from the cache."""

MEANINGFUL: tuple[tuple[str, str, Edit], ...] = (
    ("plain", "number", change("kernels.py", "float32(1.5)", "float32(1.25)")),
    ("plain", "operator", change("kernels.py", "x[i] + float32(1.5)", "x[i] * float32(1.5)")),
    ("plain", "type-of-number", change("kernels.py", "float32(1.5)", "1.5")),
    ("plain", "comparison", change("kernels.py", '"""Adds."""\n    i = cuda.grid(1)\n    if i <', '"""Adds."""\n    i = cuda.grid(1)\n    if i + 1 <')),
    ("plain", "block", change("kernels.py", "ts.cdiv(n, 256), block=256", "ts.cdiv(n, 512), block=512")),
    ("plain", "dtype", change("kernels.py", 'def plain(x: ts.Array[ts.f32, "n"]', 'def plain(x: ts.Array[ts.f64, "n"]')),
    ("plain", "axes", change("kernels.py", 'def plain(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):\n    """Adds."""\n    i = cuda.grid(1)\n    if i < x.size:\n        y[i] =', 'def plain(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n", 1]):\n    """Adds."""\n    i = cuda.grid(1)\n    if i < x.size:\n        y[i, 0] =')),
    ("plain", "name", change("kernels.py", "block=256)\ndef plain", 'block=256, name="renamed")\ndef plain')),
    ("device", "body-of-the-function", change("kernels.py", "v * FACTOR + 2.0", "v * FACTOR + 2.5")),
    ("device", "global-of-the-function", change("kernels.py", "FACTOR = 3.0", "FACTOR = 3.5")),
    ("device", "own-body", change("kernels.py", "local(x[i]) - 1.0", "local(x[i]) - 2.0")),
    ("device", "type-of-global", change("kernels.py", "FACTOR = 3.0", "FACTOR = 3")),
    ("device", "function-made-inline", change("kernels.py", "@cuda.jit(device=True)\ndef local(v):\n    return", "@cuda.jit(device=True, fastmath=True)\ndef local(v):\n    return v /")),
    ("imported", "imported-body", change("scaling.py", "deepest(v) * 2.0", "deepest(v) * 4.0")),
    ("imported", "body-two-files-away", change("deep.py", "return v + BASE", "return v - BASE")),
    ("imported", "global-two-files-away", change("deep.py", "BASE = 0.5", "BASE = 0.75")),
    ("imported", "other-function-of-that-name", change("kernels.py", "from scaling import RATE, scaled", "from scaling import RATE\nfrom deep import deepest as scaled")),
    ("reads", "own-global", change("kernels.py", "FACTOR = 3.0", "FACTOR = -3.0")),
    ("reads", "imported-global", change("scaling.py", "RATE = 0.25", "RATE = 0.125")),
    ("reads", "attribute-of-a-module", change("scaling.py", "OFFSET = 7.0", "OFFSET = 8.0")),
    ("reads", "library-constant", change("kernels.py", "math.pi", "math.e")),
    ("reads", "sign-of-zero", change("scaling.py", "OFFSET = 7.0", "OFFSET = -0.0")),
    ("shared", "tuple-global", change("kernels.py", "SHAPE = (32, 4)", "SHAPE = (64, 4)")),
    ("shared", "barrier", change("kernels.py", "    cuda.syncthreads()", "    cuda.syncwarp()")),
    ("shared", "index", change("kernels.py", "part[31 - t]", "part[t ^ 1]")),
    ("closed", "closed-over-float", change("kernels.py", "make(2.0, 3)", "make(2.5, 3)")),
    ("closed", "closed-over-count", change("kernels.py", "make(2.0, 3)", "make(2.0, 4)")),
    ("closed", "body", change("kernels.py", "v = v * power", "v = v + power")),
    ("traced", "constant", change("kernels.py", "+ y) - 1.0", "+ y) - 3.0")),
    ("traced", "operator", change("kernels.py", "ts.relu(x * FACTOR", "ts.tanh(x * FACTOR")),
    ("traced", "global", change("kernels.py", "FACTOR = 3.0", "FACTOR = 5.0")),
    ("traced", "shape", change("kernels.py", 'y: ts.Tensor[ts.f32, 48]', 'y: ts.Tensor[ts.f32, 1]')),
    ("traced", "dtype", change("kernels.py", 'y: ts.Tensor[ts.f32, 48]', 'y: ts.Tensor[ts.bf16, 48]')),
    ("normed", "imported-function", change("scaling.py", "x - ts.mean", "x + ts.mean")),
    ("normed", "global-two-files-away", change("deep.py", "BASE = 0.5", "BASE = 2.0")),
    ("normed", "axis", change("scaling.py", "axis=-1", "axis=0")),
    ("net", "operator", change("kernels.py", "ts.gelu(ts.matmul", "ts.silu(ts.matmul")),
    ("net", "shape-of-weights", change("kernels.py", "reshape(48, 8)", "reshape(48, 8)[:, :4].copy()")),
    ("net", "dtype-of-weights", change("kernels.py", "reshape(48, 8) / 100", "reshape(48, 8).astype(np.float64)")),
    ("cpp", "number", change("cpp.cu", "3.0f", "4.0f")),
    ("cpp", "header", change("part.cuh", "v + 1.0f", "v + 2.0f")),
    ("cpp", "flag", change("kernels.py", 'outputs="y",\n    params', 'outputs="y", options=["-DWHERE=7"],\n    params')),
    ("cpp", "spaces-in-a-string", change("cpp.cu", "if (i < n)", 'if (i == 0) printf("a  b");\n    if (i < n)')),
    ("cpp", "other-function", change("kernels.py", 'entry="cpp"', 'entry="::cpp", name="other"')),
)  # fmt: skip
"""Subject, name and edit: what comes out must be what a compiler without a cache makes of it."""


@contextmanager
def project(folder: Path, files: Files) -> Iterator[Any]:
    """The project's module, freshly imported from files in a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(textwrap.dedent(text), newline="")
    _forget()
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("kernels")
    finally:
        sys.path.remove(str(folder))
        _forget()


def _forget() -> None:
    importlib.invalidate_caches()
    linecache.clearcache()
    for name in MODULES:
        sys.modules.pop(name, None)
