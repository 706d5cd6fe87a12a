"""Mistakes that authors of kernels make, and what they are told: the line, the words, and what to write."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from tessera.compiler.aot import AOTCompiler
from tessera.program.errors import CompileError
from tessera.workbench.failure import error_block

HEAD = """\
import math, random, time
import numpy as np
import tessera as ts
from numba import cuda, float32, float64
TABLE = [1.0, 2.0]
COUNT = 0


def plain(v):
    return v + 1


@ts.kernel(grid=1, block=32, outputs="y")
def k(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
"""

MISTAKES: dict[str, tuple[str, str, str, str]] = {
    "attribute": ("y[i] = x.sze", "has no attribute 'sze'", "sze", "did you mean size?"),
    "function": ("y[i] = math.sqroot(x[i])", "math has no 'sqroot'", "sqroot", "did you mean sqrt?"),
    "name": ("y[i] = foo(x[i])", "'foo' is not defined", "foo", "define or import foo"),
    "list": ("t = [1, 2, 3]\n    y[i] = t[i]", "cannot make a list", "t", "cuda.local.array"),
    "dict": ("t = {1: 2}\n    y[i] = t[i]", "cannot use a dict", "{1: 2}", "array argument"),
    "comprehension": ("y[i] = sum([x[j] for j in range(3)])", "use a list", "[x[j] for j in range(3)]",
                      "for"),
    "generator": ("y[i] = sum(x[j] for j in range(3))", "generator", "(x[j] for j in range(3))", "for"),
    "string": ("y[i] = 'a'", r"cannot be str", "y", "store a number"),
    "none": ("t = None\n    y[i] = t", "cannot be none", "y", "store a number"),
    "new array": ("t = np.zeros(4)\n    y[i] = t[0]", "zeros makes a new array", "t", "cuda.local.array"),
    "float index": ("y[i / 2] = x[i]", "indexed by a value of float64", "y", "i // 2"),
    "thread index": ("y[cuda.threadIdx] = 1", "indexed by a value of Dim3", "y", ".x, .y and .z"),
    "axes": ("y[i, i] = x[i]", "1 axis is indexed by 2", "y", "one index"),
    "shared size": ("t = cuda.shared.array(x.size, float32)\n    y[i] = t[0]", "only when the kernel runs",
                    "t", "shared_bytes"),
    "shared type": ("t = cuda.shared.array(32)\n    y[i] = t[0]", "lacks the type", "t",
                    "array(32, float32)"),
    "local size": ("t = cuda.local.array((i,), float32)\n    y[i] = t[0]", "only when the kernel runs", "t",
                   "cuda.local.array(4"),
    "grid": ("y[cuda.grid()] = 1", r"grid\(\) lacks 'ndim'", "y", "cuda.grid(1)"),
    "unpack": ("a, b = cuda.grid(1)\n    y[a] = b", "cannot be taken apart", "a", "cuda.grid(2)"),
    "shuffle": ("y[i] = cuda.shfl_sync(x[i], 1)", "lacks 'src_lane'", "y", "shfl_sync(mask, value, lane)"),
    "atomic": ("cuda.atomic.add(y, 1.0)", "takes an array, an index and a value", "cuda", "add(y, i, 1.0)"),
    "atomic number": ("cuda.atomic.add(y[0], 0, 1.0)\n    y[i] = 1", "takes an array", "cuda", "add(y, i"),
    "synchronize": ("cuda.synchronize()\n    y[i] = 1", "is for the host", "synchronize", "syncthreads()"),
    "random": ("y[i] = random.random()", "random.random is for the host", "random", "xoroshiro"),
    "time": ("y[i] = time.time()", "time.time is for the host", "time", "tessera bench"),
    "astype": ("y[i] = x[i].astype(float64)", "has no attribute 'astype'", "astype", "float64(…)"),
    "plain function": ("y[i] = plain(x[i])", "plain Python function", "plain", "@cuda.jit(device=True)"),
    "global list": ("y[i] = TABLE[i]", "TABLE is a list", "TABLE", "tuple"),
    "global": ("global COUNT\n    COUNT = 1\n    y[i] = COUNT", "cannot use global", "global COUNT",
               "argument"),
    "try": ("try:\n        y[i] = x[i]\n    except ValueError:\n        pass", "use try", "t",
            "test the value"),
    "with": ("with open('a'):\n        y[i] = 1", "cannot use with", "w", "before the launch"),
    "yield": ("y[i] = 1\n    yield i", "cannot use yield", "yield i", "argument"),
    "f-string": ("print(f'{i}')\n    y[i] = 1", "f-string", "f'{i}'", "print(a, b)"),
    "raise": ("y[i] = 1\n    raise ValueError('x', i)", "constants alone", "i", "raise ValueError"),
    "product": ("y[i] = x @ x", "cannot use @", "x @ x", "ts.matmul"),
    "return": ("y[i] = x[i]\n    return x[i]", "returns nothing", "return", "write the result"),
    "two types": ("t = 0\n    if i > 3:\n        t = x\n    y[i] = t", "on one path", "y", "one type"),
    "conditional": ("y[i] = i if i > 3 else x", "an expression is int64 on one path", "y", "one type"),
    "import": ("import os\n    y[i] = 1", "cannot use import", "import os", "head of the file"),
}  # fmt: skip
"""By name: the kernel's lines, what is said, the text at the place, and the hint."""


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_told_with_its_place_and_a_remedy(name: str, tmp_path: Path) -> None:
    body, message, source, hint = MISTAKES[name]
    path = tmp_path / f"mistake_{name.replace(' ', '_').replace('-', '_')}.py"
    path.write_text(HEAD + f"    {body}\n")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    with pytest.raises(CompileError, match=message) as caught:
        AOTCompiler(target_architectures=["sm_80"]).compile(module.k)
    error = caught.value
    assert hint in str(error.hint)
    assert error.location is not None
    assert error.location.file == str(path)
    line = path.read_text().splitlines()[error.location.line - 1]
    at = error.location.column or 0
    assert line[at:].startswith(source) or source == "return", line[at:]
    assert "^" in error_block(error)
    assert "numba.cuda.core" not in error.message
