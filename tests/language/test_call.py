"""Calling traced functions: what reaches the executor, and what comes back."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from recorder import Recorder

import tessera as ts
from tessera.language.execution import executors, function_executor
from tessera.program.errors import InputError, MissingDependencyError


@ts.jit
def scaled(x: Any, w: Any, factor: float = 2.0, *, shift: float | None = None) -> Any:
    y = x @ w * factor
    return y if shift is None else y + shift


def test_call_runs_the_traced_function(recorder: Recorder, rng: np.random.Generator) -> None:
    x, w = rng.normal(size=(2, 3)), rng.normal(size=(3, 4))
    np.testing.assert_allclose(scaled(x, ts.tensor(w)).numpy(), x @ w * 2)
    np.testing.assert_allclose(scaled(w=w, x=x, factor=3, shift=1.0).numpy(), x @ w * 3 + 1)
    traced, specs, inputs = recorder.calls[0]
    assert traced.graph.name == "scaled"
    assert specs == [ts.TensorSpec((2, 3), ts.f64), ts.TensorSpec((3, 4), ts.f64)]
    assert list(inputs) == ["x", "w"]


def test_one_trace_serves_calls_of_one_kind(recorder: Recorder) -> None:
    f = ts.jit(lambda x, k=1: x * k)
    a, b = np.ones(3), np.ones(4)
    for argument in ((a,), (a * 2,), (b,), (a, 1.0), (a, True), (a.astype("float32"),), (a, 1)):
        f(*argument)
    traces = [call[0] for call in recorder.calls]
    assert traces[0] is traces[1] is traces[6]
    assert len({id(t) for t in traces}) == 5


SCALE = 2.0
SHIFT = ts.tensor([1.0, 1.0])


def _shifted(x: Any) -> Any:
    return x * SCALE + SHIFT


def test_changed_globals_and_weights_make_a_new_trace(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    f = ts.jit(lambda x: _shifted(x))
    x = np.ones(2, np.float32)
    assert f(x).tolist() == f(x).tolist() == [3, 3]
    assert recorder.calls[0][0] is recorder.calls[1][0]
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 5.0)
    assert f(x).tolist() == [6, 6]
    monkeypatch.setattr(sys.modules[__name__], "SHIFT", ts.tensor([2.0, 3.0]))
    assert f(x).tolist() == [7, 8]
    SHIFT.assign([0.0, 4.0])
    assert f(x).tolist() == [5, 9]
    monkeypatch.setattr(sys.modules[__name__], "_shifted", lambda x: x - 1)
    assert f(x).tolist() == [0, 0]


def test_changed_closures_lists_and_modules_make_a_new_trace(recorder: Recorder) -> None:
    class Scaled(ts.Module):
        def __init__(self) -> None:
            self.by: Any = np.float32(3)

        def forward(self, x: Any) -> Any:
            return x * self.by

    scaled, steps, last = Scaled(), [lambda x: x + 1], 1.0
    inner = ts.jit(lambda x: scaled(x) * last)

    @ts.jit
    def f(x: Any) -> Any:
        for step in steps:
            x = step(x)
        return inner(x)

    x = np.ones(1, np.float32)
    assert f(x).tolist() == [6]
    steps.append(lambda x: x * 10)
    assert f(x).tolist() == [60]
    scaled.by = np.full(1, 4, np.float32)
    assert f(x).tolist() == scaled(x * 20).tolist() == [80]
    scaled.by = np.full(1, 5, np.float32)
    assert f(x).tolist() == scaled(x * 20).tolist() == [100]
    last = 0.5
    assert f(x).tolist() == [50]


class Recursive(ts.Module):
    def forward(self, x: Any) -> Any:
        return x + float(len(list(recursive.parameters())))


recursive = Recursive()


def test_module_whose_forward_names_the_module_is_called(recorder: Recorder) -> None:
    assert ts.jit(lambda x: recursive(x) + 1)(np.ones(1, np.float32)).tolist() == [2]
    assert recursive(np.ones(1, np.float32)).tolist() == [1]


def test_zero_and_minus_zero_do_not_trace_alike(recorder: Recorder) -> None:
    f = ts.jit(lambda x, k=0.0: x / k)
    x = np.ones(1, np.float32)
    assert [f(x, k).tolist()[0] for k in (0.0, -0.0, 0.0)] == [np.inf, -np.inf, np.inf]
    assert recorder.calls[0][0] is recorder.calls[2][0]


def test_declared_specs_keep_symbols_for_every_shape(recorder: Recorder) -> None:
    @ts.jit
    def f(x: ts.Tensor[ts.f32, "n", 4]) -> Any:
        return x.sum(-1)

    for rows in (1, 5):
        assert f(np.ones((rows, 4), np.float32)).tolist() == [4] * rows
    assert recorder.calls[0][0] is recorder.calls[1][0]
    for wrong in (np.ones((2, 5), np.float32), np.ones(4, np.float32), np.ones((2, 4))):
        with pytest.raises(InputError, match=r"argument 'x' is .*, declared is f32\[n, 4\]") as raised:
            f(wrong)
        assert raised.value.location is not None
        assert raised.value.location.file == __file__


def test_results_have_the_structure_of_the_return(recorder: Recorder) -> None:
    x = ts.randn(3)
    pair = ts.jit(lambda x: (x + 1, x - 1))(x)
    assert isinstance(pair, tuple)
    assert [type(t) for t in pair] == [ts.Tensor, ts.Tensor]
    named = ts.jit(lambda x: {"up": x + 1})(x)
    assert list(named) == ["up"]
    assert ts.jit(lambda x: x.cast(ts.tf32))(x).dtype is ts.tf32
    assert ts.jit(lambda x: x.cast(ts.bf16))(x).dtype is ts.bf16


def test_inputs_reach_the_executor_contiguous(recorder: Recorder) -> None:
    f = ts.jit(lambda x, y: x.T + y)
    f(np.ones((4, 3)).T, np.float64(2))
    inputs = recorder.calls[0][2]
    assert inputs["x"].flags.c_contiguous
    assert inputs["y"].shape == ()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([1, 2], np.ones(2)), "argument 'x' is a list"),
        ((np.ones(2),) * 5, "too many positional"),
        ((), "missing a required"),
    ],
)
def test_wrong_arguments_are_named(recorder: Recorder, arguments: Any, text: str) -> None:
    with pytest.raises(InputError, match=text) as raised:
        scaled(*arguments)
    assert raised.value.location is not None
    assert not recorder.calls


def test_executor_may_be_a_dotted_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Somewhere:
        @staticmethod
        def run(traced: Any, specs: Any, inputs: Any) -> Any:
            return {"output": np.zeros(1)}

    monkeypatch.setitem(sys.modules, "somewhere", Somewhere)  # type: ignore[arg-type]
    with executors(function="somewhere:run"):
        assert ts.jit(lambda x: x)(np.ones(1)).tolist() == [0]
        assert function_executor() is Somewhere.run


def test_executor_that_is_not_installed_says_what_to_install() -> None:
    with executors(function="nowhere_at_all:run"), pytest.raises(MissingDependencyError) as raised:
        scaled(np.ones((1, 1)), np.ones((1, 1)))
    assert raised.value.hint == "pip install 'tessera[compile]'"
