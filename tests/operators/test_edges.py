"""Empty tensors, positions outside, NaN, and shapes that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tessera as ts
from tessera.program.errors import ShapeError, SpecError, TesseraError, TraceError
from tessera.reference import run_graph
from tests.operators.cases import TOLERANCE
from tests.operators.running import compiled_results

EMPTY: dict[str, Callable[[Any], Any]] = {
    "slices": lambda x: (x[2:], x[-3:, ::-1], x[:-1], x[::2]),
    "one": lambda x: (x[-1], x[0]),
    "pads": lambda x: (ts.pad(x, 1), ts.pad(x, [(1, 1), (0, 0)], "edge"), ts.pad(x, [(2, 1), (0, 1)],
                                                                                 "reflect")),
    "moves": lambda x: (ts.roll(x, 1, 0), ts.concat([x, x + 1]), ts.tile(x, 2), ts.flip(x), ts.triu(x)),
    "lines": lambda x: (ts.cumsum(x, 0), ts.cumsum(x, 1), ts.argsort(x, 0), ts.sort(x)),
    "gathers": lambda x: (ts.take(x, np.array([0, 3]), 0), ts.scatter(x, ts.zeros(x.shape, ts.i64), 1, 0)),
    "folds": lambda x: (ts.prod(x, 0), ts.any(x, 0), ts.all(x, 0), ts.argmax(x, 0), ts.log_softmax(x, 0)),
    "choices": lambda x: (ts.where(x > 0, x, 1), ts.clip(x, 0, 1), x % 2, ts.one_hot(ts.cast(x, ts.i32), 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", EMPTY)
def test_axes_without_elements_are_no_trouble(name: str) -> None:
    fn = ts.jit(EMPTY[name], name=name)
    x = np.zeros((0, 4), np.float32)
    trace = fn.trace([ts.TensorSpec(("n", 4))])
    exact = list(run_graph(trace.graph, {"x": x}, trace.constants).values())
    for device, results in compiled_results(fn, [ts.TensorSpec(("n", 4))], [x]):
        for found, expected in zip(results, exact, strict=True):
            np.testing.assert_array_equal(found, expected, err_msg=device)


def test_an_axis_of_one_element_is_padded_with_the_fill() -> None:
    widths = [(3, 2), (0, 1), (1, 0)]
    x = np.arange(1, 6, dtype=np.float32).reshape(1, 5, 1)
    specs = [ts.TensorSpec((1, "n", 1))]
    for device, (alone, computed) in compiled_results(
        ts.jit(lambda x: (ts.pad(x, widths), ts.pad(x + 1, widths) * 2)), specs, [x]
    ):
        np.testing.assert_array_equal(alone, np.pad(x, widths), err_msg=device)
        np.testing.assert_array_equal(computed, np.pad(x + 1, widths) * 2, err_msg=device)


def test_positions_outside_are_brought_back_everywhere() -> None:
    def read(x: Any, i: Any) -> Any:
        return ts.take(x, i, 0), ts.take_along_axis(x, i[:, None] + ts.zeros((1, 2), ts.i64), 0), x[5]

    x, i = np.arange(8, dtype=np.float32).reshape(4, 2), np.array([4, -5, 100, -100, 3])
    exact = x[[3, 0, 3, 0, 3]]
    specs = [ts.TensorSpec(("n", 2)), ts.TensorSpec((5,), ts.i64)]
    for _, (taken, along, one) in compiled_results(ts.jit(read), specs, [x, i]):
        np.testing.assert_array_equal(taken, exact)
        np.testing.assert_array_equal(along, exact)
        np.testing.assert_array_equal(one, x[3])


def test_nan_counts_as_the_largest_and_is_never_lost() -> None:
    def order(x: Any) -> Any:
        return ts.sort(x), ts.sort(x, descending=True), ts.argmax(x, 1), ts.cumsum(x, 1), ts.topk(x, 2)[1]

    x = np.array([[1, np.nan, -np.inf, np.inf, np.nan, 0.5]], np.float32)
    for _, (up, down, top, total, best) in compiled_results(ts.jit(order), [ts.TensorSpec((1, 6))], [x]):
        np.testing.assert_array_equal(up, np.sort(x))
        np.testing.assert_array_equal(down, [[np.nan, np.nan, np.inf, 1, 0.5, -np.inf]])
        assert top.tolist() == [1]
        np.testing.assert_array_equal(total, [[1, *[np.nan] * 5]])
        assert best.tolist() == [[1, 4]]


def test_integers_wrap_in_sums_and_products() -> None:
    x = np.array([2**62, 2**62, 3], np.int64)
    for _, (total, product) in compiled_results(
        ts.jit(lambda x: (ts.cumsum(x, 0), ts.prod(x))), [ts.TensorSpec(("n",), ts.i64)], [x]
    ):
        assert total.tolist() == np.cumsum(x).tolist()
        assert product == np.prod(x)


X = ts.TensorSpec(("n", 4))
REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "too many indices": (lambda x: x[0, 0, 0], "getitem: 3 indices for the operand x"),
    "outside": (lambda x: x[:, 4], "getitem: index 4 is outside of an axis of 4"),
    "mask": (lambda x: x[x > 0], "a mask selects as many elements as it has True"),
    "a number beside gathers": (lambda x: ts.reshape(x, -1, 2, 2)[[0], 9, [1]], "outside of an axis"),
    "gathers that do not fit": (lambda x: x[[0, 1], [1, 2, 0]], "getitem"),
    "text": (lambda x: x["a"], "'a' is no index"),
    "step": (lambda x: x[::0], "cannot have step 0"),
    "start": (lambda x: x[:, x.shape[0] :], "cannot start at n"),
    "floats": (lambda x: ts.take(x, x, 0), "take: the index x is f32, not an integer|take: the index x of"),
    "concat": (lambda x: ts.concat([x, x[:, 1:]]), "concat: the operand 1 .* does not fit the operand 0"),
    "concat one": (lambda x: ts.concat(x), "concat: it takes a list"),
    "stack": (lambda x: ts.stack([x, x.T]), "stack: the operand 1"),
    "split": (lambda x: ts.split(x, 3, 1), "split: axis 1 .* does not divide into 3 parts"),
    "split sizes": (lambda x: ts.split(x, [1, 2], 1), "do not make up axis 1"),
    "split symbol": (lambda x: ts.split(x, 2), "does not divide into 2 parts"),
    "chunk": (lambda x: ts.chunk(x, 2), "chunk: axis 0 .* does not have a fixed size"),
    "pad": (lambda x: ts.pad(x, 1, "wrap"), "pad: mode='wrap' is unknown"),
    "pad widths": (lambda x: ts.pad(x, [(1, 1)]), "pad: 1 pairs of widths"),
    "pad negative": (lambda x: ts.pad(x, -1), "pad: widths=-1 is less than 0"),
    "broadcast": (lambda x: ts.broadcast_to(x, 3, 5), "broadcast_to: the operand x"),
    "squeeze": (lambda x: ts.squeeze(x, 1), "squeeze: axis 1 .* is 4, not 1"),
    "repeat": (lambda x: ts.repeat(x, 1.5, 0), "repeat: repeats=1.5 is not an integer"),
    "roll": (lambda x: ts.roll(x, (1, 2), 0), "roll: 2 shifts for 1 axes"),
    "scatter": (lambda x: ts.scatter(x, ts.zeros((3,), ts.i64), 1, 0), "scatter: the index .* does not fit"),
    "topk": (lambda x: ts.topk(x, 5), "topk: k=5 of 4 elements"),
    "topk symbol": (lambda x: ts.topk(x, 1, axis=0), "topk: k=1 of n elements"),
    "triangle": (lambda x: ts.tril(x[0]), "tril: .* is no matrix"),
    "arange": (lambda x: ts.arange(0, x.shape[0], 2), "arange: only the stop may be symbolic"),
    "size": (lambda x: ts.zeros((-1,)), "full: -1 is not a size"),
    "embedding": (lambda x: ts.embedding(ts.zeros(2, ts.i64), x[0]), "embedding: the table"),
    "where": (lambda x: ts.where(x > 0, x, ts.zeros(3)), "where: .* do not broadcast"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_named_at_its_line(name: str) -> None:
    call, text = REFUSED[name]
    with pytest.raises((ShapeError, TraceError, SpecError), match=text) as raised:
        ts.jit(lambda x: call(x)).trace([X])
    error: TesseraError = raised.value
    assert error.hint
    assert error.location is not None
    assert error.location.file == __file__


@pytest.mark.parametrize(("dtype", "count"), [("f32", 150), ("f64", 4000)])
def test_long_products_stay_within_their_tolerance(dtype: str, count: int, rng: np.random.Generator) -> None:
    """Each factor rounds once: half a unit in the last place of what is computed in."""
    kind = np.dtype(dtype.replace("f", "float"))
    x = np.exp(rng.uniform(-0.5, 0.5, (16, count))).astype(kind)
    exact = np.prod(x.astype(np.longdouble), axis=1)
    specs = [ts.TensorSpec((16, "n"), dtype)]
    for device, (found,) in compiled_results(ts.jit(lambda x: ts.prod(x, axis=1), name="p"), specs, [x]):
        error = np.max(np.abs(found / exact - 1))
        assert error <= 3 * TOLERANCE[dtype], device
        assert error <= count * np.finfo(kind).eps / 2, device
