"""Kernels: their signature, launch rule and outputs, and what is refused."""

from __future__ import annotations

import linecache
from typing import Any

import numpy as np
import pytest
from numba import cuda

import tessera as ts
from tessera.language.execution import executors
from tessera.language.kernel import Kernel, KernelParam
from tessera.program.dim import Expr, ceildiv, evaluate, symbol
from tessera.program.errors import InputError, KernelError

N, M = symbol("n"), symbol("m")


@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
def saxpy(a: ts.f32, x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = a * x[i] + y[i]


def test_saxpy_has_its_signature_and_launch_rule() -> None:
    assert saxpy.name == "saxpy"
    assert saxpy.params == (
        KernelParam("a", "scalar", ts.f32),
        KernelParam("x", "array", ts.f32, (N,)),
        KernelParam("y", "array", ts.f32, (N,)),
    )
    assert saxpy.grid == (ceildiv(N, 256), 1, 1)
    assert saxpy.block == (256, 1, 1)
    assert saxpy.shared_bytes == 0
    assert saxpy.outputs == ("y",)
    assert saxpy.location is not None
    assert linecache.getline(saxpy.location.file, saxpy.location.line).startswith("def saxpy")
    assert "cdiv(n, 256)" in repr(saxpy)


def test_kernel_keeps_the_plain_function() -> None:
    assert saxpy.fn.__name__ == saxpy.__name__ == "saxpy"
    assert "numba" not in type(saxpy.fn).__module__
    assert saxpy.fn.__code__.co_varnames[:3] == ("a", "x", "y")


def test_kernel_under_cuda_jit_is_unwrapped() -> None:
    @ts.kernel(grid=1, block=1)
    @cuda.jit
    def k(y: ts.Array[ts.f32, "n"]):
        y[0] = 1

    assert k.outputs == ("y",)
    assert type(k.fn).__name__ == "function"


def test_grid_of_several_axes_over_shapes_and_integer_scalars() -> None:
    @ts.kernel(
        grid=lambda n, m, steps: (ts.cdiv(n, 16), ts.cdiv(m, 16) * 2, ts.maximum(steps, 1)),
        block=(16, 16),
        shared_bytes=lambda m: 4 * m,
        name="tiles",
    )
    def k(steps: ts.i32, x: ts.Array[ts.bf16, "n", "m", 4, None], y: ts.Array[ts.f32, "n"]):
        y[0] = x[0, 0, 0, 0] + steps

    assert k.name == "tiles"
    assert k.params[1].shape == (N, M, 4, symbol("x_3"))
    assert [evaluate(g, {"n": 33, "m": 16, "steps": 0}) for g in k.grid] == [3, 2, 1]
    assert k.block == (16, 16, 1)
    assert k.shared_bytes == M * 4


def test_python_types_and_lambdas_without_arguments() -> None:
    @ts.kernel(grid=lambda: 4, block=lambda: (8, 4), shared_bytes=128)
    def k(a: float, b: int, c: bool, y: ts.Array[ts.f64, "n"]):
        y[b] = a if c else 0

    assert [p.dtype for p in k.params[:3]] == [ts.f32, ts.i64, ts.bool]
    assert (k.grid, k.block, k.shared_bytes) == ((4, 1, 1), (8, 4, 1), 128)


def test_grid_may_be_a_fixed_expression() -> None:
    @ts.kernel(grid=(ceildiv(N, 4), 2), block=32)
    def k(y: ts.Array[ts.f32, "n"]):
        y[0] = 0

    assert isinstance(k.grid[0], Expr)


def fault(make: Any) -> KernelError:
    """The error of a definition, checked to have a place in this file and a hint."""
    with pytest.raises(KernelError) as raised:
        make()
    error = raised.value
    assert error.hint, error
    assert error.location is not None
    assert error.location.file == __file__
    return error


def line_of(error: KernelError) -> str:
    assert error.location is not None
    return linecache.getline(error.location.file, error.location.line)


def test_missing_annotation_is_at_its_parameter() -> None:
    def make() -> None:
        @ts.kernel(grid=1, block=32)
        def k(
            x: ts.Array[ts.f32, "n"],
            scale,
        ):
            x[0] = scale

    error = fault(make)
    assert "parameter 'scale' has no annotation" in error.message
    assert "scale: ts.f32" in str(error.hint)
    assert line_of(error).strip() == "scale,"
    assert error.location is not None
    assert error.location.column == line_of(error).index("scale")


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        ("float64x", "the annotation of 'v', float64x, is neither"),
        (str, "str, is neither"),
        (ts.Array, "Array, is neither"),
        (ts.Tensor, "Tensor, is neither"),
        (ts.Tensor[ts.f32, "n"], "is neither"),
        (ts.Array[ts.f32], "array 'v' has no axes"),
        ('ts.Array["n", ts.f32]', "the dtype comes first"),
        ('ts.Array[np.float32, "n"]', "float32'> is none of Tessera's"),
        ("ts.Array[ts.f32, -1]", "size -1 of axis 0 is negative"),
    ],
)
def test_annotation_that_is_neither_dtype_nor_array(annotation: Any, text: str) -> None:
    def k(y: ts.Array[ts.f32, "n"], v):
        y[0] = v

    k.__annotations__["v"] = annotation
    assert text in fault(lambda: ts.kernel(grid=1, block=1)(k)).message


def test_grid_of_an_unknown_symbol_is_at_the_rule() -> None:
    def make() -> None:
        @ts.kernel(
            grid=lambda rows: ts.cdiv(rows, 256),
            block=256,
        )
        def k(x: ts.Array[ts.f32, "n"], count: ts.i32):
            x[0] = count

    error = fault(make)
    assert "no parameter gives the size 'rows' a value" in error.message
    assert error.hint == "known sizes: count, n"
    assert "lambda rows" in line_of(error)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"grid": lambda a: a}, "'a' is f32, and sizes are integers"),
        ({"grid": lambda y: y}, "'y' is an array, not a size"),
        ({"grid": symbol("q")}, "no parameter gives the size 'q'"),
        ({"grid": lambda n: n / 256}, "has no value"),
        ({"grid": lambda n: 256 if n > 3 else 1}, "has no value"),
        ({"grid": lambda n: undefined(n)}, "the rule failed: NameError"),  # type: ignore[name-defined]
        ({"grid": 1.5}, "1.5 is not an integer"),
        ({"grid": "n"}, "'n' is not an integer"),
        ({"grid": True}, "True is not an integer"),
        ({"grid": ()}, "0 sizes; allowed are 1 to 3"),
        ({"grid": (1, 1, 1, 1)}, "4 sizes"),
        ({"grid": -1}, "-1 blocks along axis 0"),
        ({"grid": (1, 70000)}, "70000 blocks along axis 1; allowed are 0 to 65535"),
        ({"block": 2048}, "2048 threads along axis 0; allowed are 1 to 1024"),
        ({"block": (32, 64)}, "32 x 64 x 1 is 2048 threads; a block has at most 1024"),
        ({"block": (1, 1, 128)}, "128 threads along axis 2; allowed are 1 to 64"),
        ({"block": 0}, "0 threads"),
        ({"block": lambda n: n}, "n threads is not a fixed number"),
        ({"shared_bytes": 300_000}, "300000 bytes; allowed are 0 to 232448"),
        ({"shared_bytes": lambda q: q}, "no parameter gives the size 'q'"),
    ],
)
def test_launch_rule_that_cannot_be(rule: dict[str, Any], text: str) -> None:
    def make() -> Kernel:
        settings = {"grid": 1, "block": 32, **rule}

        @ts.kernel(**settings)
        def k(a: ts.f32, y: ts.Array[ts.f32, "n"]):
            y[0] = a

        return k

    with pytest.raises(KernelError) as raised:
        make()
    assert text in raised.value.message
    assert raised.value.message.startswith("k: ")
    assert raised.value.location is not None
    assert raised.value.location.file == __file__


def test_kernel_without_arrays_or_writes_is_refused() -> None:
    def no_array() -> None:
        @ts.kernel(grid=1, block=32)
        def k(a: ts.f32):
            print(a)

    def no_write() -> None:
        @ts.kernel(grid=1, block=32)
        def k(x: ts.Array[ts.f32, "n"]):
            value = x[0]
            print(value)

    assert "has no array parameter" in fault(no_array).message
    error = fault(no_write)
    assert "writes no array" in error.message
    assert "outputs=('x',)" in str(error.hint)


def test_outputs_are_checked_against_the_source() -> None:
    def copy(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
        y[0] = x[0]

    def define(*outputs: str) -> Kernel:
        return ts.kernel(grid=1, block=1, outputs=outputs)(copy)

    assert define("y").outputs == ("y",)
    assert define("y", "x").outputs == ("x", "y")
    assert "outputs: 'z' is not an array" in fault(lambda: define("z")).message
    assert "it writes 'y', which is not among outputs" in fault(lambda: define("x")).message
    assert "writes no array" in fault(lambda: ts.kernel(grid=1, block=1, outputs=[])(print_x)).message


def print_x(x: ts.Array[ts.f32, "n"]):
    print(x[0])


def test_kernel_without_source_must_say_its_outputs() -> None:
    scope: dict[str, Any] = {"ts": ts}
    exec("def k(x: ts.Array[ts.f32, 'n']):\n    x[0] = 1\n", scope)
    with pytest.raises(KernelError, match="its source cannot be read") as raised:
        ts.kernel(grid=1, block=1)(scope["k"])
    assert raised.value.hint == "outputs=('x',)"
    assert ts.kernel(grid=1, block=1, outputs=("x",))(scope["k"]).outputs == ("x",)


def test_size_of_an_array_may_follow_from_another() -> None:
    @ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)
    def total(x: ts.Array[ts.f32, "n"], out: ts.Array[ts.f32, "cdiv(n, 256)"]):
        out[cuda.blockIdx.x] = x[cuda.grid(1)]

    assert total.params[1].shape == (ceildiv(N, 256),)
    assert total.grid == (ceildiv(N, 256), 1, 1)


def test_size_that_stands_nowhere_alone_is_refused_at_its_array() -> None:
    def make() -> Kernel:
        @ts.kernel(grid=1, block=64)
        def twice(x: ts.Array[ts.f32, "2*n"]):
            x[0] = 1

        return twice

    error = fault(make)
    assert "nothing gives the size 'n' of array 'x' a value" in error.message
    assert "n: ts.i64" in str(error.hint)
    assert error.location is not None
    assert "2*n" in linecache.getline(error.location.file, error.location.line)


def test_size_named_like_a_float_parameter_is_refused() -> None:
    def make() -> None:
        @ts.kernel(grid=1, block=32)
        def k(n: ts.f32, x: ts.Array[ts.f32, "n"]):
            x[0] = n

    assert "also the name of a parameter" in fault(make).message


def test_a_launch_rule_is_refused_at_its_own_words() -> None:
    def make() -> None:
        @ts.kernel(
            grid=1,
            block=(32, 64),
        )
        def k(x: ts.Array[ts.f32, "n"]):
            x[0] = 1

    error = fault(make)
    assert error.location is not None
    line = line_of(error)
    assert line[error.location.column : error.location.end_column] == "(32, 64)"


def test_variable_arguments_are_refused() -> None:
    def make() -> None:
        @ts.kernel(grid=1, block=32)
        def k(*arrays: ts.Array[ts.f32, "n"]):
            arrays[0][0] = 1

    assert "*arrays" in fault(make).message


def run_saxpy(kernel: Kernel, inputs: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """An executor for this one kernel."""
    assert kernel is saxpy
    assert list(inputs) == ["a", "x", "y"]
    return {"y": np.float32(inputs["a"]) * inputs["x"] + inputs["y"]}


def test_calling_a_kernel_writes_its_arrays_and_returns_them(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(2, 1000)).astype(np.float32)
    expected = np.float32(3) * x + y
    with executors(kernel=run_saxpy):
        result = saxpy(3, ts.tensor(x), y)
        assert isinstance(result, ts.Tensor)
        np.testing.assert_array_equal(y, expected)
        assert np.shares_memory(result.numpy(), y)
        np.testing.assert_array_equal(saxpy(a=0.0, x=x, y=y.copy()).numpy(), expected)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"x": np.ones(3)}, "argument 'x' is float64 with 1 axes"),
        ({"x": np.ones((3, 1), np.float32)}, "argument 'x' is float32 with 2 axes"),
        ({"a": "3"}, "argument 'a' is '3'"),
        ({"a": 1j}, "argument 'a' is"),
        ({"b": 1}, "unexpected keyword argument 'b'"),
    ],
)
def test_wrong_argument_is_named(change: dict[str, Any], text: str) -> None:
    arguments = {"a": 1.0, "x": np.ones(3, np.float32), "y": np.ones(3, np.float32), **change}
    with executors(kernel=run_saxpy), pytest.raises(InputError) as raised:
        saxpy(**arguments)
    assert text in raised.value.message
    assert raised.value.location is not None


def test_read_only_array_that_is_written_is_refused() -> None:
    y = np.ones(3, np.float32)
    y.setflags(write=False)
    with executors(kernel=run_saxpy), pytest.raises(InputError, match="'y' is read-only"):
        saxpy(1.0, np.ones(3, np.float32), y)


def test_decorator_without_a_launch_rule_says_what_to_write() -> None:
    def bare() -> None:
        ts.kernel(run_saxpy)  # type: ignore[arg-type]

    def no_grid() -> None:
        ts.kernel(block=256)

    for make in (bare, no_grid):
        assert "needs a launch rule" in fault(make).message


def test_name_that_is_no_entry_is_refused() -> None:
    error = fault(lambda: ts.kernel(grid=1, block=1, name="my kernel")(print_x))
    assert "cannot be called 'my kernel'" in error.message


def test_integer_argument_that_does_not_fit_is_refused() -> None:
    @ts.kernel(grid=1, block=1)
    def fill(count: ts.i32, flag: ts.bool, y: ts.Array[ts.i32, "n"]):
        y[0] = count if flag else 0

    def run(kernel: Kernel, inputs: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
        return {"y": np.full_like(inputs["y"], inputs["count"] if inputs["flag"] is True else 0)}

    y = np.zeros(2, np.int32)
    with executors(kernel=run):
        assert fill(np.int64(7), 1, y).tolist() == [7, 7]
        for wrong in (2**31, 1.5, "1", None):
            with pytest.raises(InputError, match="argument 'count' is"):
                fill(wrong, 1, y)


@pytest.mark.parametrize(
    ("wrong", "meant"), [("blok", "block"), ("shared", "shared_bytes"), ("max_regs", "max_registers")]
)
def test_misspelt_settings_are_named_with_what_was_meant(wrong: str, meant: str) -> None:
    with pytest.raises(KernelError, match=f"ts.kernel has no setting called '{wrong}'") as caught:
        ts.kernel(grid=1, **{wrong: 64})  # type: ignore[arg-type]
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(f"did you mean {meant}? ")
    assert caught.value.location is not None
    assert caught.value.location.file == __file__


@pytest.mark.parametrize("rule", [lambda n: n // 0, lambda n: n % 0, lambda n: ts.cdiv(n, -2)])
def test_a_rule_that_divides_by_nothing_is_refused_at_its_line(rule: Any) -> None:
    with pytest.raises(KernelError, match=r"k: grid: .* by (0|-2): .* a positive number") as caught:

        @ts.kernel(grid=rule)
        def k(x: ts.Array[ts.f32, "n"]):
            x[0] = 1.0

    assert caught.value.location is not None
    assert "lambda n: n // 0" in linecache.getline(__file__, caught.value.location.line)
