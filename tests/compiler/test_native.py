import ctypes
import math
import os
import subprocess

import numpy as np
import pytest
from sample_kernels import scale_cpu

from tessera.compiler import linker
from tessera.compiler.linker import find_linker
from tessera.compiler.native import LEVELS, CpuKernel, kernel_to_object, link_program
from tessera.compiler.options import ToolOptions
from tessera.program.arch import CPU_LEVELS, host_cpu_targets
from tessera.program.errors import CompileError, ToolchainError

HERE = host_cpu_targets()
SCALE = CpuKernel("scale", scale_cpu, ("f32*", "f32*", "i64", "f32"), (True, True))


def library(tmp_path, kernels, target=None, **settings):
    options = ToolOptions(target or HERE[0], **settings)
    data = link_program([kernel_to_object(k, options) for k in kernels], "program", options)
    path = tmp_path / f"{options.target}.so"
    path.write_bytes(data)
    return path


def call(path, name, values, begin, end):
    """Call a kernel as the runtime does: an array of pointers to the arguments' values."""
    slots = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
    ctypes.CDLL(str(path))[name](slots, ctypes.c_int64(begin), ctypes.c_int64(end))


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("settings", [{}, {"opt_level": 0}, {"fast_math": True}])
def test_kernel_computes_what_numpy_does(tmp_path, rng, target, settings):
    path = library(tmp_path, [SCALE], target, **settings)
    x, y = rng.normal(size=1000).astype("f4"), rng.normal(size=1000).astype("f4")
    before = y.copy()
    call(path, "scale", [pointer(x), pointer(y), ctypes.c_int64(1000), ctypes.c_float(2.5)], 100, 900)
    exact = np.tanh(x.astype("f8")) * 2.5 + before
    np.testing.assert_allclose(y[100:900], exact[100:900], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(y[:100], before[:100])
    np.testing.assert_array_equal(y[900:], before[900:])


def test_library_depends_on_nothing_but_libm_and_libc(tmp_path):
    path = library(tmp_path, [SCALE])
    text = subprocess.run(
        ["readelf", "-dW", "--dyn-syms", path], capture_output=True, text=True, check=True
    ).stdout
    needed = [line.split("[")[1].rstrip("]") for line in text.splitlines() if "(NEEDED)" in line]
    assert set(needed) <= {"libm.so.6", "libc.so.6"}
    assert not any(word in text for word in ("Py", "NRT", "numba", "RUNPATH", "RPATH"))
    exported = [line.split()[-1] for line in text.splitlines() if " GLOBAL " in line and " UND " not in line]
    assert exported == ["scale"]


def test_several_kernels_share_one_library(tmp_path, rng):
    def square(x, y, begin, end):
        for i in range(begin, end):
            y[i] = x[i] ** 2

    def rows(x, y, begin, end):
        for i in range(begin, end):
            total = 0.0
            for j in range(x.shape[1]):
                total += x[i, j]
            y[i] = total

    path = library(
        tmp_path,
        [
            CpuKernel("square", square, ("f64*", "f64*")),
            CpuKernel("rows", rows, ("array:f32:2", "array:f32:1")),
        ],
    )
    x, y = rng.normal(size=64), np.zeros(64)
    call(path, "square", [pointer(x), pointer(y)], 0, 64)
    np.testing.assert_array_equal(y, x * x)
    table, sums = rng.normal(size=(5, 7)).astype("f4"), np.zeros(5, "f4")

    def flat(array):
        numbers = [array.size, array.itemsize]
        return [
            *(ctypes.c_void_p(0), ctypes.c_void_p(0)),
            *(ctypes.c_int64(v) for v in numbers),
            pointer(array),
            *(ctypes.c_int64(v) for v in (*array.shape, *array.strides)),
        ]

    call(path, "rows", [*flat(table), *flat(sums)], 0, 5)
    np.testing.assert_allclose(sums, table.astype("f8").sum(axis=1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("target", list(CPU_LEVELS))
def test_object_is_made_for_every_level(target):
    data = kernel_to_object(SCALE, ToolOptions(target))
    machine = {"x86_64": 62, "aarch64": 183}[LEVELS[target].machine]
    assert data.startswith(b"\x7fELF")
    assert int.from_bytes(data[18:20], "little") == machine


@pytest.mark.skipif("cpu-x86_64-v3" not in HERE, reason="this machine has no AVX2")
def test_level_decides_the_instructions(tmp_path):
    def add(x, y, begin, end):
        for i in range(begin, end):
            y[i] = x[i] + y[i]

    kernel = CpuKernel("add", add, ("f32*", "f32*"), (True, True))
    uses = {}
    for target in ("cpu-x86_64-v2", "cpu-x86_64-v3"):
        path = library(tmp_path, [kernel], target)
        text = subprocess.run(["objdump", "-d", path], capture_output=True, text=True, check=True).stdout
        uses[target] = "ymm" in text, "zmm" in text
    assert uses == {"cpu-x86_64-v2": (False, False), "cpu-x86_64-v3": (True, False)}


def test_call_of_something_outside_is_refused_by_name():
    def talking(y, begin, end):
        for i in range(begin, end):
            print(i)

    with pytest.raises(CompileError, match=r"talking .* which code without Python cannot"):
        kernel_to_object(CpuKernel("talking", talking, ("f64*",)), ToolOptions(HERE[0]))


def test_division_by_zero_gives_infinity_without_python(tmp_path):
    def divide(x, y, begin, end):
        for i in range(begin, end):
            y[i] = 1.0 / x[i] + math.copysign(0.0, x[i])

    path = library(tmp_path, [CpuKernel("divide", divide, ("f64*", "f64*"))])
    x, y = np.array([0.0, 2.0]), np.zeros(2)
    call(path, "divide", [pointer(x), pointer(y)], 0, 2)
    np.testing.assert_array_equal(y, [np.inf, 0.5])


@pytest.mark.parametrize("fast_math", [False, True])
def test_infinity_and_nan_survive_fast_math(tmp_path, fast_math):
    def largest(x, y, n, begin, end):
        for i in range(begin, end):
            top = -math.inf
            for j in range(n):
                top = max(top, x[j])
            y[i] = top
            y[i + 1] = 1.0 if math.isnan(x[n]) else 0.0

    kernel = CpuKernel("largest", largest, ("f64*", "f64*", "i64"))
    path = library(tmp_path, [kernel], fast_math=fast_math)
    x, y = np.array([-np.inf, -5.0, -7.0, np.nan]), np.zeros(2)
    call(path, "largest", [pointer(x), pointer(y), ctypes.c_int64(3)], 0, 1)
    np.testing.assert_array_equal(y, [-5.0, 1.0])


def test_linker_says_what_it_is():
    assert find_linker(LEVELS[HERE[0]].machine).description


def test_chosen_compiler_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("TESSERA_CC", "no-such-compiler")
    with pytest.raises(ToolchainError, match="no-such-compiler"):
        find_linker("x86_64")


def test_machine_without_a_compiler_gets_the_remedy(monkeypatch, tmp_path):
    monkeypatch.delenv("TESSERA_CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(linker, "find_spec", lambda _: None)
    with pytest.raises(ToolchainError) as caught:
        find_linker("x86_64")
    assert "tessera[toolchain]" in caught.value.hint


def test_failing_linker_is_quoted():
    with pytest.raises(ToolchainError, match="linking program with"):
        link_program([b"not an object"], "program", ToolOptions(HERE[0]))


def test_linker_that_makes_nothing_is_an_error(monkeypatch):
    monkeypatch.setenv("TESSERA_CC", "true")
    with pytest.raises(ToolchainError, match=r"linking program with .*: it ended with status 0"):
        linker.link_shared([b"not an object"], "program", "x86_64")


def test_long_name_is_linked():
    found = linker.link_shared([], "n" * 300, os.uname().machine)
    assert found.startswith(b"\x7fELF")
