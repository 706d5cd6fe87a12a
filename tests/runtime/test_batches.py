"""`execute_batch`: stacking, parts, and taking apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from handmade import B, N, saxpy_program, softmax_program
from hypothesis import given
from hypothesis import strategies as st

from tessera.program.artifact import Artifact
from tessera.program.dim import Dim
from tessera.program.dtype import f32
from tessera.program.errors import InputError
from tessera.program.program import Port, Program
from tessera.runtime import open_artifact
from tessera.runtime.batch import run_batch
from tessera.runtime.inputs import InputReader

Build = Callable[..., Artifact]


def program(*inputs: tuple[Dim, ...], outputs: tuple[tuple[Dim, ...], ...] = ((B, N),)) -> Program:
    return Program(
        name="p",
        inputs=tuple(Port(name=f"x{i}", dtype=f32, shape=s) for i, s in enumerate(inputs)),
        outputs=tuple(Port(name=f"y{i}", dtype=f32, shape=s) for i, s in enumerate(outputs)),
    )


class Doubler:
    """Doubles the first input, and remembers the sizes of its batches."""

    def __init__(self, outputs: int = 1) -> None:
        self.sizes: list[int] = []
        self.outputs = outputs

    def __call__(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        self.sizes.append(len(inputs[0]))
        return [inputs[0] * 2 + i for i in range(self.outputs)]


def test_list_of_examples_comes_back_as_a_list(build: Build, rng: np.random.Generator) -> None:
    runtime = open_artifact(build(softmax_program()))
    examples = [rng.normal(size=6).astype(np.float32) for _ in range(70)]
    results = runtime.execute_batch(examples, max_batch_size=32)
    assert isinstance(results, list)
    for example, result in zip(examples, results, strict=True):
        np.testing.assert_array_equal(result, runtime.execute(example[None])[0])


def test_stacked_examples_come_back_stacked(build: Build, rng: np.random.Generator) -> None:
    runtime = open_artifact(build(softmax_program()))
    stacked = rng.normal(size=(70, 6)).astype(np.float32)
    expected = runtime.execute(stacked)
    np.testing.assert_array_equal(runtime.execute_batch(stacked), expected)
    np.testing.assert_array_equal(runtime.execute_batch("softmax", stacked, max_batch_size=7), expected)
    np.testing.assert_array_equal(runtime.execute_batch({"x": stacked}, max_batch_size=1), expected)


@given(count=st.integers(0, 40), size=st.integers(1, 12))
def test_parts_cover_the_batch_in_order(count: int, size: int) -> None:
    run = Doubler()
    stacked = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    reader = InputReader(program((B, N)))
    np.testing.assert_array_equal(run_batch(reader, run, stacked, size), stacked * 2)
    assert sum(run.sizes) == count
    assert max(run.sizes) <= size
    assert all(s == size for s in run.sizes[:-1])
    listed = run_batch(reader, run, list(stacked), size)
    assert len(listed) == count
    for result, row in zip(listed, stacked, strict=True):
        np.testing.assert_array_equal(result, row * 2)


def test_examples_may_be_nested_lists() -> None:
    assert [r.tolist() for r in run_batch(InputReader(program((B, N))), Doubler(), [[1, 2], [3, 4]], 8)] == [
        [2, 4],
        [6, 8],
    ]


def test_several_inputs_and_outputs_keep_their_names() -> None:
    reader = InputReader(program((B, N), (B,), outputs=((B, N), (B, N))))
    pairs = [(np.full(2, i, np.float32), i) for i in range(5)]
    results = run_batch(reader, Doubler(2), pairs, 2)
    assert [sorted(r) for r in results] == [["y0", "y1"]] * 5
    assert results[3]["y1"].tolist() == [7, 7]
    named = run_batch(reader, Doubler(2), [{"x0": p[0], "x1": p[1]} for p in pairs], 2)
    assert [r["y0"].tolist() for r in named] == [r["y0"].tolist() for r in results]
    stacked = run_batch(reader, Doubler(2), (np.ones((5, 2)), np.ones(5)), 2)
    assert stacked["y0"].shape == (5, 2)


def test_input_without_the_axis_is_the_same_for_all() -> None:
    reader = InputReader(program((B, N), (N,)))
    weight = np.ones(2, np.float32)
    seen: list[tuple[int, ...]] = []

    def run(inputs: list[np.ndarray]) -> list[np.ndarray]:
        seen.append(inputs[1].shape)
        return [inputs[0] + inputs[1]]

    stacked = run_batch(reader, run, (np.zeros((5, 2)), weight), 2)
    np.testing.assert_array_equal(stacked, np.ones((5, 2)))
    listed = run_batch(reader, run, [(np.zeros(2), weight)] * 5, 2)
    assert len(listed) == 5
    assert set(seen) == {(2,)}
    with pytest.raises(InputError, match=r"'x1' has no batch axis.* example 1 differs"):
        run_batch(reader, run, [(np.zeros(2), weight), (np.zeros(2), weight * 2)], 2)


def test_empty_list_is_an_empty_list() -> None:
    assert run_batch(InputReader(program((B, N))), Doubler(), [], 4) == []


def test_examples_of_different_shapes_are_named() -> None:
    with pytest.raises(InputError, match=r"example 2 has shape \(4\), example 0 has \(3\)"):
        run_batch(InputReader(program((B, N))), Doubler(), [np.zeros(3), np.zeros(3), np.zeros(4)], 4)


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (program((8, N)), "no input has a symbolic first axis"),
        (program((B, N), outputs=((N,),)), "output 'y0' .* does not begin with 'batch'"),
        (program((B, N), outputs=((),)), "output 'y0'"),
        (program((B, B)), "needs 'batch' again"),
    ],
)
def test_program_that_cannot_be_split_says_why(case: Program, why: str) -> None:
    with pytest.raises(InputError, match=why):
        run_batch(InputReader(case), Doubler(), np.zeros((4, 4), np.float32), 2)


def test_batch_of_saxpy_keeps_its_scalar(build: Build) -> None:
    runtime = open_artifact(build(saxpy_program()))
    result = runtime.execute_batch({"a": 2, "x": np.ones(5), "y": np.arange(5)}, max_batch_size=2)
    assert result.tolist() == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("size", [0, -1])
def test_batch_size_below_one_is_refused(size: int) -> None:
    with pytest.raises(InputError, match="max_batch_size"):
        run_batch(InputReader(program((B, N))), Doubler(), np.zeros((4, 4), np.float32), size)
