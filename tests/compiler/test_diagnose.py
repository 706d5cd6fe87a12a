import math
from pathlib import Path

import numpy as np
import pytest
from numba import cuda
from numba.core.errors import NumbaError

from tessera.compiler.diagnose import check_names, explain
from tessera.compiler.options import ToolOptions
from tessera.compiler.ptx import CudaKernel, ir_to_ptx, lower
from tessera.program.errors import CompileError, SourceLocation, ToolchainError

HERE = Path(__file__)
factor = 2.0


def plain_helper(a):
    return a


def problem(function):
    """The error that compiling `function` of two float32 vectors ends with."""
    kernel = CudaKernel("k", function, ("array:f32:1", "array:f32:1"), threads=256)
    options = ToolOptions("sm_80")
    try:
        check_names(function)
        ir_to_ptx(lower(kernel, options), kernel, options)
    except Exception as error:  # noqa: BLE001 - Numba raises many unrelated kinds
        return explain(error, function.__name__, function)
    raise AssertionError("it compiled")


def source_at(location):
    line = HERE.read_text().splitlines()[location.line - 1]
    return line[location.column : location.end_column]


def test_misspelt_global_has_its_place_and_the_right_name():
    def kernel(x, y):
        y[0] = x[0] * facter

    error = problem(kernel)
    assert isinstance(error, CompileError)
    assert error.location.file == str(HERE)
    assert source_at(error.location) == "facter"
    assert error.hint == "did you mean factor?"


def test_misspelt_local_has_its_place_and_the_right_name():
    def kernel(x, y):
        index = cuda.grid(1)
        y[index] = x[indx]

    error = problem(kernel)
    assert source_at(error.location) == "indx"
    assert error.hint == "did you mean index?"


def test_misspelt_module_function_has_its_place_and_the_right_name():
    def kernel(x, y):
        y[0] = math.sqr(x[0])

    error = problem(kernel)
    assert source_at(error.location) == "sqr"
    assert error.hint == "did you mean sqrt?"


def test_a_list_says_that_there_is_no_memory_for_it():
    def kernel(x, y):
        values = [x[0], x[1]]
        y[0] = values[0]

    error = problem(kernel)
    assert "a kernel cannot make a list" in error.message
    assert "NRT" not in error.message
    assert "cuda.local.array" in error.hint


def test_misspelling_inside_a_device_function_is_found_there():
    @cuda.jit(device=True)
    def device(a):
        return a * facter

    globals()["_device"] = device

    def kernel(x, y):
        y[0] = _device(x[0])

    assert source_at(problem(kernel).location) == "facter"


@pytest.mark.filterwarnings("ignore:Context.call_conv is deprecated")
def test_recursion_is_told_to_be_a_loop():
    @cuda.jit(device=True)
    def _total(n):
        if n > 9:
            return 0
        return _total(n + 1) + n

    globals()["_total"] = _total

    def kernel(x, y):
        y[0] = _total(3)

    error = problem(kernel)
    assert "calls itself" in error.message
    assert "_total(n + 1)" in HERE.read_text().splitlines()[error.location.line - 1]
    assert "loop" in error.hint


def test_unknown_attribute_of_an_array():
    def kernel(x, y):
        if x.sise > 1:
            y[0] = x[0]

    error = problem(kernel)
    assert source_at(error.location) == "sise"
    assert error.hint == "did you mean size?"
    assert error.location.file == str(HERE)


def test_types_that_do_not_go_together_name_the_line():
    def kernel(x, y):
        y[0] = x[0] + "a"

    error = problem(kernel)
    assert "there is no float32 + str a" in error.message
    assert "x[0] +" in HERE.read_text().splitlines()[error.location.line - 1]


def test_too_many_indices_are_counted():
    def same(x, y):
        y[0] = x[0, 1]

    def mixed(x, y):
        i = cuda.grid(1)
        y[i, 0, 1] = x[i]

    assert "an array's 1 axis is indexed by 2 numbers" in problem(same).message
    assert "an array's 1 axis is indexed by 3 numbers" in problem(mixed).message
    assert "one index for each axis" in problem(mixed).hint


def test_plain_function_is_told_to_be_decorated():
    def kernel(x, y):
        y[0] = plain_helper(x[0])

    error = problem(kernel)
    assert "@cuda.jit(device=True)" in error.hint
    assert source_at(error.location) == "plain_helper"


def test_returned_value_is_explained():
    def kernel(x, y):
        return x[0]

    assert "returns nothing" in problem(kernel).message


def test_value_read_before_it_is_set():
    def kernel(x, y):
        y[0] = later
        later = x[0]  # noqa: F841

    assert "read before it has a value" in problem(kernel).message


def test_array_made_inside_is_explained():
    def kernel(x, y):
        y[0] = np.linalg.svd(x)

    error = problem(kernel)
    assert "svd(" in error.message
    assert error.location.line


def test_message_is_one_line_with_the_compilers_text_kept():
    def kernel(x, y):
        y[0] = x[0] + "a"

    error = problem(kernel)
    assert "\n" not in error.message
    assert "No implementation" in error.compiler_output


def test_lines_of_generated_source_become_the_users():
    def kernel(x, y):
        y[0] = x[0] + "a"

    line = kernel.__code__.co_firstlineno + 1
    place = SourceLocation("/project/model.py", 12, 4)
    with pytest.raises(NumbaError) as caught:
        lower(CudaKernel("k", kernel, ("array:f32:1", "array:f32:1")), ToolOptions("sm_80"))
    assert explain(caught.value, "k", kernel, {line: place}).location == place


def test_own_errors_pass_unchanged():
    error = ToolchainError("as it is")
    assert explain(error, "k", plain_helper) is error


def test_defined_names_pass():
    check_names(plain_helper)
    check_names(source_at)


@pytest.mark.parametrize("text", ["", "\n\n", "something \x1b[31mred\x1b[0m"])
def test_any_text_gives_an_error_with_a_message(text):
    error = explain(RuntimeError(text), "k", plain_helper)
    assert error.message.startswith("k: ")
    assert "\x1b" not in error.message
