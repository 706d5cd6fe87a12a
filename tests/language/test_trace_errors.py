"""What cannot be traced ends in one error, at the user's line, with a remedy."""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tessera as ts
from tessera.program.errors import KernelError, ShapeError, SpecError, TesseraError, TraceError

X = ts.TensorSpec(("n", 4))


def fault(function: Any, *specs: ts.TensorSpec) -> TesseraError:
    """The error of tracing, checked to be at the line that says `# here` and to have a hint."""
    with pytest.raises(TesseraError) as raised:
        ts.jit(function, name="f").trace(list(specs) or [X])
    error = raised.value
    assert error.location is not None
    line = linecache.getline(error.location.file, error.location.line)
    assert "# here" in line, f"{error.location}: {line}"
    assert error.hint, error
    if error.location.column is not None:
        assert not line[error.location.column].isspace()
    return error


def test_branch_on_a_value() -> None:
    def f(x: Any) -> Any:
        if x.sum() > 0:  # here
            return x
        return -x

    error = fault(f)
    assert isinstance(error, TraceError)
    assert "the result of gt" in error.message
    assert "a condition (bool)" in error.message
    assert "while f is traced" in error.message
    assert error.location is not None
    assert error.location.column == 11


def test_every_way_to_ask_for_a_value() -> None:
    def boolean(x: Any) -> Any:
        return x if x else -x  # here

    def integer(x: Any) -> Any:
        return x * int(x.sum())  # here

    def real(x: Any) -> Any:
        return x * float(x.sum())  # here

    def array(x: Any) -> Any:
        return x + np.asarray(x)  # here

    def rows(x: Any) -> Any:
        return sum(row for row in x)  # here

    def unpack(x: Any) -> Any:
        a, b = x  # here
        return a + b

    def equal(x: Any) -> Any:
        return x if x == 0 else -x  # here

    def length(x: Any) -> Any:
        return x * len(x)  # here

    def index(x: Any) -> Any:
        return [x][x]  # here

    def contains(x: Any) -> Any:
        return x if 1 in x else -x  # here

    def values(x: Any) -> Any:
        return x.numpy()  # here

    def number(x: Any) -> Any:
        return x * x.sum().item()  # here

    def ranged(x: Any) -> Any:
        return [x for _ in range(x)]  # here

    functions = (boolean, integer, real, array, rows, unpack, equal, length, index, contains, values,
                 number, ranged)  # fmt: skip
    for function in functions:
        error = fault(function)
        assert isinstance(error, TraceError), function
        assert "has no value while f is traced" in error.message


def test_symbolic_size_has_no_value() -> None:
    def compared(x: Any) -> Any:
        return x if x.shape[0] > 3 else -x  # here

    def counted(x: Any) -> Any:
        for _ in range(x.shape[0]):  # here
            x = x + 1
        return x

    def operand(x: Any) -> Any:
        return x / x.shape[0]  # here

    for function in (compared, counted, operand):
        error = fault(function)
        assert isinstance(error, TraceError)
        assert "size n has no value" in error.message


def test_numpy_functions_say_what_to_write() -> None:
    def sine(x: Any) -> Any:
        return np.cbrt(x)  # here

    def average(x: Any) -> Any:
        return np.mean(x)  # here

    def stacked(x: Any) -> Any:
        return np.concatenate([x, x])  # here

    def reduced(x: Any) -> Any:
        return np.add.reduce(x)  # here

    assert "np.cbrt is not an operator" in fault(sine).message
    assert fault(average).hint == "write ts.mean"
    assert "np.concatenate" in fault(stacked).message
    assert "np.add.reduce" in fault(reduced).message


def test_operator_that_does_not_exist() -> None:
    def attribute(x: Any) -> Any:
        return x.sofmax(-1)  # here

    def function(x: Any) -> Any:
        return ts.sofmax(x)  # type: ignore[attr-defined]  # here

    def shift(x: Any) -> Any:
        return x << 2  # here

    def store(x: Any) -> Any:
        x[0] = 1  # here
        return x

    assert "no attribute 'sofmax'" in fault(attribute).message
    assert "did you mean ts.softmax" in str(with_location(function))
    assert "no operator <<" in fault(shift).message
    assert "item assignment" in with_location(store).message


def with_location(function: Any) -> TesseraError:
    """The error of tracing, checked to be at the line that says `# here`."""
    with pytest.raises(TraceError) as raised:
        ts.jit(function, name="f").trace([X])
    error = raised.value
    assert error.location is not None
    assert "# here" in linecache.getline(error.location.file, error.location.line)
    return error


def test_mistakes_of_python_are_trace_errors_at_their_line() -> None:
    def misspelled(x: Any) -> Any:
        wide = x * 2
        return wid + wide  # type: ignore[name-defined]  # here

    def helper(x: Any) -> Any:
        return x.reshape(4, -1) + {}["scale"]  # here

    def asserts(x: Any) -> Any:
        assert x.shape[1] == 5, "five columns"  # here
        return x

    error = fault(misspelled)
    assert error.hint == "did you mean wide?"
    assert isinstance(error.__cause__, NameError)
    assert "KeyError" in with_location(lambda x: helper(x)).message
    assert "five columns" in with_location(asserts).message


def test_matmul_names_operands_roles_and_shapes() -> None:
    def f(x: Any, W: Any) -> Any:
        return ts.matmul(x, W)  # here

    error = fault(f, ts.TensorSpec(("n", 1024)), ts.TensorSpec((512, 64)))
    assert isinstance(error, ShapeError)
    assert "the left operand x of shape (n, 1024)" in error.message
    assert "the right operand W of shape (512, 64)" in error.message
    assert "last axis of the left is 1024" in error.message
    turned = fault(f, ts.TensorSpec(("n", 1024)), ts.TensorSpec((512, 1024)))
    assert "transpose the right operand" in str(turned.hint)


def test_two_symbols_that_must_be_equal_say_how_to_name_them() -> None:
    def f(x: Any, y: Any) -> Any:
        return x + y  # here

    error = fault(f, ts.TensorSpec(("batch", 1024)), ts.TensorSpec(("rows", 1024)))
    assert isinstance(error, ShapeError)
    assert "(batch, 1024)" in error.message
    assert "(rows, 1024)" in error.message
    assert "give both axes one name, such as 'batch'" in str(error.hint)
    unnamed = fault(f, ts.TensorSpec((None, 1024)), ts.TensorSpec((None, 1024)))
    assert "give both axes one name, such as 'batch'" in str(unnamed.hint)
    fixed = fault(f, ts.TensorSpec(("batch", 1024)), ts.TensorSpec((8, 1024)))
    assert "put 8 in the TensorSpec" in str(fixed.hint)


def test_matmul_of_two_symbols_says_how_to_name_them() -> None:
    def f(x: Any, w: Any) -> Any:
        return x @ w  # here

    error = fault(f, ts.TensorSpec(("n", "k")), ts.TensorSpec(("j", "m")))
    assert "give both axes one name" in str(error.hint)


def test_reshape_that_is_not_known_to_fit() -> None:
    def f(x: Any) -> Any:
        return x.reshape(-1, 3)  # here

    error = fault(f)
    assert isinstance(error, ShapeError)
    assert "4*n elements" in error.message
    assert "is not known to hold" in error.message


def test_wrong_number_of_specs_is_at_the_definition() -> None:
    def f(x: Any, w: Any, *, scale: float = 1) -> Any:  # here
        return x @ w * scale

    error = fault(f, X)
    assert "f takes 2 inputs (x, w, scale), got 1 spec" in error.message
    assert "got 4 specs" in fault(f, X, X, X, X).message


def test_missing_specs_say_both_ways_to_give_them() -> None:
    def f(x: Any) -> Any:  # here
        return x

    with pytest.raises(TraceError, match="shapes and dtypes of its inputs are not known") as raised:
        ts.jit(f).trace()
    assert "x: ts.Tensor[ts.f32, 'batch', 1024]" in str(raised.value.hint)
    assert "input_specs=" in str(raised.value.hint)
    assert raised.value.location is not None


def test_what_is_no_spec_is_refused() -> None:
    for wrong in (X, "x", 3, [3], [(3, 4)]):
        with pytest.raises(TraceError, match="spec"):
            ts.jit(lambda x: x).trace(wrong)  # type: ignore[arg-type]


def test_two_inputs_of_one_name_are_refused() -> None:
    twice = [ts.TensorSpec((3,), name="x"), ts.TensorSpec((3,), name="x")]
    with pytest.raises(TraceError, match="two inputs are called 'x'"):
        ts.jit(lambda a, b: a + b).trace(twice)


def test_returns_that_are_no_tensors() -> None:
    def nothing(x: Any) -> Any:  # here
        ts.relu(x)

    def number(x: Any) -> Any:
        return 3  # here

    def nested(x: Any) -> Any:
        return x, (x, x)  # here

    def named(x: Any) -> Any:
        return {"a": x, "b": None}  # here

    def empty(x: Any) -> Any:
        return ()  # here

    assert "does it lack a return statement?" in str(fault(nothing).hint)
    assert "returns 3, of type int" in fault(number).message
    assert "as 'output_1'" in fault(nested).message
    assert "None as 'b'" in fault(named).message
    assert "no tensor" in with_location(empty).message


def test_functions_that_cannot_be_traced_are_refused_when_decorated() -> None:
    def generator(x: Any) -> Iterator[Any]:
        yield x

    async def coroutine(x: Any) -> Any:
        return x

    for function, text in (
        (generator, "generator or coroutine"),
        (coroutine, "generator or coroutine"),
        (lambda *x: x, r"takes \*x"),
        (lambda **x: x, r"takes \*\*x"),
        (3, "takes a function, not int"),
        (dict, "takes a function, not dict"),
        (ts.ReLU(), "takes a function, not ReLU"),
    ):
        with pytest.raises(TraceError, match=text):
            ts.jit(function)  # type: ignore[call-overload]


def test_tensor_kept_from_an_ended_trace_is_refused() -> None:
    kept: list[Any] = []

    def first(x: Any) -> Any:
        kept.append(ts.exp(x))
        return x

    def second(x: Any) -> Any:
        return x + kept[0]  # here

    ts.jit(first).trace([X])
    error = fault(second)
    assert "belongs to the trace of first" in error.message
    with pytest.raises(TraceError, match="belongs to the trace of first"):
        ts.relu(kept[0])


def test_error_in_the_function_ends_the_trace() -> None:
    with pytest.raises(TraceError):
        ts.jit(lambda x: x.nothing).trace([X])
    assert ts.relu(ts.tensor([-1.0])).tolist() == [0]


def test_annotation_that_is_wrong_in_itself_is_an_error() -> None:
    with pytest.raises(SpecError, match="the dtype comes first"):

        @ts.jit
        def f(x: ts.Tensor["n", ts.f32]) -> Any:  # type: ignore[valid-type]
            return x


def test_kernel_in_a_traced_function_is_refused() -> None:
    @ts.kernel(grid=1, block=32)
    def double(y: ts.Array[ts.f32, "n"]) -> None:
        y[0] = 2

    def f(x: Any) -> Any:
        return double(x)  # here

    assert "a kernel cannot be called while f is traced" in fault(f).message

    def g(x: Any) -> Any:
        return double(np.ones(3, np.float32))  # here

    fault(g)


@pytest.mark.parametrize("name", ["a/b", "..", "a b", ".hidden", "-x"])
def test_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(TraceError, match="cannot be called"):
        ts.jit(lambda x: x, name=name)


def test_two_outputs_of_one_name_are_refused() -> None:
    with pytest.raises(TraceError, match="two outputs called '1'"):
        ts.jit(lambda x: {1: x, "1": x + 1}).trace([ts.TensorSpec((3,))])


def test_arguments_that_an_operator_does_not_take_are_answered_with_its_parameters() -> None:
    def typo(x: Any) -> Any:
        return ts.softmax(x, axsi=-1)  # here

    def missing(x: Any) -> Any:
        return ts.take(x, np.array([1]))  # type: ignore[call-arg]  # here

    assert "ts.softmax(x, axis" in (fault(typo).hint or "")
    assert "axis" in (fault(missing).hint or "")


def test_assignment_to_elements_says_what_makes_new_tensors() -> None:
    def f(x: Any) -> Any:
        x[0] = 3  # here
        return x

    assert "ts.where" in (fault(f).hint or "")


def test_attribute_of_a_model_that_was_not_set_says_where() -> None:
    class Model(ts.Module):
        def __init__(self) -> None:
            self.weight = ts.Parameter(np.ones((4, 4), np.float32))

        def forward(self, x: ts.Tensor[ts.f32, "n", 4]) -> Any:
            return x @ self.wieght  # type: ignore[attr-defined]

    class Bare(ts.Module):
        def forward(self, x: ts.Tensor[ts.f32, "n", 4]) -> Any:
            return x @ self.scale_of_rows  # type: ignore[attr-defined]

    with pytest.raises(TraceError) as raised:
        Model()(np.ones((2, 4), np.float32))
    assert raised.value.hint == "did you mean weight?"
    with pytest.raises(TraceError) as raised:
        Bare()(np.ones((2, 4), np.float32))
    assert "__init__: scale_of_rows" in (raised.value.hint or "")


def test_kernel_that_is_no_python_function_is_refused() -> None:
    with pytest.raises(KernelError, match="not builtin_function_or_method"):
        ts.kernel(grid=1, block=32)(print)
