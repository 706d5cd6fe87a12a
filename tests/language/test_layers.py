"""Layers: what they compute, and that they refuse sizes that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tessera as ts
from tessera.program.errors import SpecError
from tessera.reference import run_graph


def test_small_transformer_traces_for_any_batch_and_length(rng: np.random.Generator) -> None:
    class Block(ts.Module):
        def __init__(self) -> None:
            self.norm = ts.RMSNorm(16)
            self.attention = ts.MultiHeadAttention(16, 4, 2, causal=True, seed=1)
            self.up, self.down = ts.Linear(16, 32, seed=2), ts.Linear(32, 16, seed=3)

        def forward(self, x: Any) -> Any:
            x = x + self.attention(self.norm(x))
            return x + self.down(ts.silu(self.up(x)))

    class Model(ts.Module):
        def __init__(self) -> None:
            self.words = ts.Embedding(50, 16, seed=0)
            self.block = Block()

        def forward(self, ids: Any) -> Any:
            x = self.block(self.words(ids))
            return ts.log_softmax(x[:, -1] @ self.words.weight.T)

    traced = Model().trace([ts.TensorSpec(("batch", "length"), ts.i64)])
    ids = rng.integers(0, 50, (3, 7))
    whole = run_graph(traced.graph, {"ids": ids}, traced.constants)["output"]
    assert whole.shape == (3, 50)
    np.testing.assert_allclose(np.exp(whole).sum(-1), 1, rtol=1e-5)
    # A causal model's answer for the last word does not depend on how many rows there are.
    one = run_graph(traced.graph, {"ids": ids[1:2]}, traced.constants)["output"]
    np.testing.assert_allclose(one[0], whole[1], rtol=1e-5, atol=1e-5)


def test_small_convolutional_network_has_the_shapes_it_should(rng: np.random.Generator) -> None:
    model = ts.Sequential(
        ts.Conv2d(3, 8, 3, padding=1, seed=0), ts.BatchNorm2d(8), ts.ReLU(), ts.MaxPool2d(2),
        ts.Conv2d(8, 8, 3, padding="same", groups=8, seed=1), ts.GroupNorm(2, 8), ts.SiLU(), ts.AvgPool2d(2),
        ts.AdaptiveAvgPool2d(1), ts.Flatten(), ts.Linear(8, 5, seed=2),
    )  # fmt: skip
    traced = model.trace([ts.TensorSpec(("n", 3, 16, 16))])
    x = rng.standard_normal((2, 3, 16, 16)).astype(np.float32)
    native = run_graph(traced.graph, {"x": x}, traced.constants)["output"]
    exact = run_graph(traced.graph, {"x": x}, traced.constants, precision="f64")["output"]
    assert native.shape == (2, 5)
    np.testing.assert_allclose(native, exact, rtol=1e-4, atol=1e-5)
    assert {"layers.0.weight", "layers.1.running_var", "layers.5.bias"} <= set(model.state_dict())


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ts.MultiHeadAttention(10, 4), "4 heads do not divide size=10"),
        (lambda: ts.MultiHeadAttention(12, 4, 3), "3 kv heads not them"),
        (lambda: ts.Conv2d(3, 4, 3, groups=2), "groups=2 does not divide channels=3"),
        (lambda: ts.Conv2d(0, 4, 3), "channels=0 is not a number of 1 or more"),
        (lambda: ts.Embedding(0, 4), "words=0"),
        (lambda: ts.RMSNorm(-1), "size=-1"),
        (lambda: ts.GroupNorm(2, 0), "channels=0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(make: Any, text: str) -> None:
    with pytest.raises(SpecError, match=text) as raised:
        make()
    assert raised.value.hint
