"""Modules: how parameters are found, named, saved, loaded and traced."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from recorder import Recorder

import tessera as ts
from tessera.program.errors import ConfigError, ShapeError, SpecError, TraceError
from tessera.reference import run_graph


class Block(ts.Module):
    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.norm = ts.LayerNorm(width)
        self.up = ts.Linear(width, 2 * width, seed=seed)
        self.down = ts.Linear(2 * width, width, bias=False, seed=seed + 1)

    def forward(self, x: Any) -> Any:
        return x + self.down(ts.gelu(self.up(self.norm(x))))


class Net(ts.Module):
    def __init__(self, width: int = 4) -> None:  # super().__init__() is not needed
        self.layers = [Block(width, 0), ts.relu, Block(width, 10)]
        self.heads = {"main": ts.Linear(width, 3, seed=20), "other": (ts.Linear(width, 2, seed=21),)}
        self.scale = ts.tensor([2.0])
        self.width = width

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return {"main": self.heads["main"](x) * self.scale, "other": self.heads["other"][0](x)}


def expected(net: Net, x: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """The network, written out in NumPy."""
    from math import erf

    w = net.state_dict()
    for i in (0, 2):
        h = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        h = h * w[f"layers.{i}.norm.weight"] + w[f"layers.{i}.norm.bias"]
        h = h @ w[f"layers.{i}.up.weight"].T + w[f"layers.{i}.up.bias"]
        h = h / 2 * (1 + np.vectorize(erf)(h / np.sqrt(2)))
        x = x + h @ w[f"layers.{i}.down.weight"].T
        x = np.maximum(x, 0) if i == 0 else x
    return {
        "main": (x @ w["heads.main.weight"].T + w["heads.main.bias"]) * w["scale"],
        "other": x @ w["heads.other.0.weight"].T + w["heads.other.0.bias"],
    }


NAMES = [
    *(f"layers.0.{n}" for n in ("norm.weight", "norm.bias", "up.weight", "up.bias", "down.weight")),
    *(f"layers.2.{n}" for n in ("norm.weight", "norm.bias", "up.weight", "up.bias", "down.weight")),
    "heads.main.weight", "heads.main.bias", "heads.other.0.weight", "heads.other.0.bias", "scale",
]  # fmt: skip


def test_parameters_are_named_by_the_way_to_them() -> None:
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert list(net.state_dict()) == NAMES
    assert len(list(net.parameters())) == len(NAMES)
    assert "layers.0.up.weight: f32[8, 4]" in repr(net)


def test_trace_uses_parameters_as_constants_of_their_names() -> None:
    net = Net()
    traced = net.trace([ts.TensorSpec(("batch", 4))])
    assert set(traced.constants) == set(NAMES)
    assert traced.graph.name == "Net"
    assert traced.graph.output_names == ("main", "other")
    assert traced.constants["scale"] is net.scale.numpy()


def test_trace_computes_the_model(rng: np.random.Generator) -> None:
    net = Net()
    traced = net.trace([ts.TensorSpec(("batch", 4))])
    x = rng.normal(size=(5, 4)).astype(np.float32)
    results = run_graph(traced.graph, {"x": x}, traced.constants)
    for name, value in expected(net, x.astype(np.float64)).items():
        np.testing.assert_allclose(results[name], value, rtol=1e-4, atol=1e-5)


def test_calling_a_model_runs_it(recorder: Recorder, rng: np.random.Generator) -> None:
    net = Net()
    x = rng.normal(size=(2, 4)).astype(np.float32)
    result = net(x)
    assert set(result) == {"main", "other"}
    np.testing.assert_allclose(result["main"].numpy(), expected(net, x)["main"], rtol=1e-4, atol=1e-5)
    assert net(ts.tensor(x))["other"].shape == (2, 2)
    assert recorder.calls[0][0] is recorder.calls[1][0]


def test_replaced_weights_and_settings_are_seen_by_the_next_call(recorder: Recorder) -> None:
    class Scale(ts.Module):
        def __init__(self) -> None:
            self.factor = ts.Parameter([2.0])
            self.shift = 1.0

        def forward(self, x: Any) -> Any:
            return x * self.factor + self.shift

    model, x = Scale(), ts.tensor([3.0])
    assert model(x).tolist() == [7]
    model.load_state_dict({"factor": [5.0]})
    assert model(x).tolist() == [16]
    model.shift = 0.0
    assert model(x).tolist() == [15]
    model.factor = ts.Parameter([1.0])
    assert model(x).tolist() == [3]


def test_model_inside_a_jit_function_keeps_its_names() -> None:
    layer = ts.Linear(4, 4, seed=0)
    other = ts.Linear(4, 4, seed=1)

    @ts.jit
    def f(x: Any) -> Any:
        return other(layer(x)) + layer(x)

    assert set(f.trace([ts.TensorSpec(("n", 4))]).constants) == {"weight", "bias", "weight_1", "bias_1"}


def test_shared_weights_are_one() -> None:
    class Tied(ts.Module):
        def __init__(self) -> None:
            self.embed = ts.Parameter(np.ones((3, 4), np.float32))
            self.out = self.embed
            self.me = self

        def forward(self, x: Any) -> Any:
            return x @ self.embed @ self.out.T

    assert list(Tied().state_dict()) == ["embed"]
    assert list(Tied().trace([ts.TensorSpec(("n", 3))]).constants) == ["embed"]


def test_load_state_dict_replaces_every_value(rng: np.random.Generator) -> None:
    source, target = Net(), Net()
    state = {name: rng.normal(size=value.shape) for name, value in source.state_dict().items()}
    source.load_state_dict(state)
    target.load_state_dict({name: ts.tensor(value) for name, value in source.state_dict().items()})
    for name, value in target.state_dict().items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, state[name].astype(np.float32))


def test_load_state_dict_names_what_is_missing_and_unexpected() -> None:
    net = Net()
    state: dict[str, Any] = net.state_dict()
    state["layers.0.up.wieght"] = state.pop("layers.0.up.weight")
    with pytest.raises(ConfigError, match=r"missing layers\.0\.up\.weight, unexpected") as raised:
        net.load_state_dict(state)
    assert raised.value.missing == ["layers.0.up.weight"]
    assert raised.value.unexpected == ["layers.0.up.wieght"]
    assert raised.value.hint == "did you mean layers.0.up.weight?"
    net.load_state_dict(state, strict=False)
    with pytest.raises(ConfigError, match="and 10 more"):
        net.load_state_dict({})


def test_load_state_dict_of_another_shape_changes_nothing() -> None:
    net = Net()
    before = {name: value.copy() for name, value in net.state_dict().items()}
    state = {name: value + 1 for name, value in before.items()} | {"scale": np.ones(3)}
    with pytest.raises(ShapeError, match=r"'scale' has shape \(3,\), the parameter \(1\)"):
        net.load_state_dict(state)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_placeholder_is_named_by_its_place() -> None:
    class MyModel(ts.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [...]

        def forward(self, x: Any) -> Any:
            for layer in self.layers:
                x = layer(x)
            return x

    class Outer(ts.Module):
        def __init__(self) -> None:
            self.parts = {"a": (ts.relu, MyModel())}

        def forward(self, x: Any) -> Any:
            return self.parts["a"][1](x)

    spec = [ts.TensorSpec((1, 4))]
    text = r"MyModel\.layers\[0\] is \.\.\.: put a Module or a function there"
    for act in (
        lambda: MyModel().trace(spec),
        lambda: MyModel()(ts.randn(1, 4)),
        lambda: MyModel().state_dict(),
    ):
        with pytest.raises(TraceError, match=text):
            act()
    with pytest.raises(TraceError, match=r"Outer\.parts\['a'\]\[1\]\.layers\[0\] is \.\.\."):
        Outer().trace(spec)


def test_model_without_forward_says_so() -> None:
    class Empty(ts.Module):
        pass

    with pytest.raises(TraceError):
        Empty().trace([ts.TensorSpec((1,))])
    with pytest.raises(TraceError, match="Empty has no forward"):
        Empty().forward(1)


def test_specs_come_from_the_annotations_of_forward() -> None:
    class Annotated(ts.Module):
        def forward(self, x: ts.Tensor[ts.f32, "n", 4], scale: float = 2.0) -> Any:
            return x * scale

    assert Annotated().specs == [ts.TensorSpec(("n", 4))]
    assert Annotated().trace().graph.nodes[0].shape[1] == 4
    assert Net().specs is None
    with pytest.raises(TraceError, match="Net: the shapes and dtypes of its inputs are not known"):
        Net().trace()


def test_model_survives_copy_and_pickle(recorder: Recorder) -> None:
    net, x = Net(), ts.randn(2, 4, seed=3)
    first = net(x)["main"].numpy()
    for again in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(again(x)["main"].numpy(), first)
        again.scale.assign([0.0])
    np.testing.assert_array_equal(net(x)["main"].numpy(), first)


def test_layers_compute_what_they_say(recorder: Recorder, rng: np.random.Generator) -> None:
    x = rng.normal(size=(3, 5)).astype(np.float32)
    linear = ts.Linear(5, 7, seed=1)
    assert (linear.weight.shape, None if linear.bias is None else linear.bias.shape) == ((7, 5), (7,))
    assert np.abs(linear.weight.numpy()).max() <= 1 / np.sqrt(5)
    assert linear.bias is not None
    np.testing.assert_allclose(
        linear(x).numpy(), x @ linear.weight.numpy().T + linear.bias.numpy(), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(linear.weight.numpy(), ts.Linear(5, 7, seed=1).weight.numpy())
    half = ts.Linear(5, 7, bias=False, dtype=ts.bf16)
    assert (half.weight.dtype, half.bias) == (ts.bf16, None)
    np.testing.assert_array_equal(ts.ReLU()(x).numpy(), np.maximum(x, 0))
    assert np.abs(ts.GELU("tanh")(x).numpy() - ts.GELU()(x).numpy()).max() < 2e-3
    norm = ts.LayerNorm(5, bias=False)
    centered = x - x.mean(-1, keepdims=True)
    normal = centered / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(norm(x).numpy(), normal, rtol=1e-4, atol=1e-5)
    chain = ts.Sequential(linear, ts.relu, ts.Linear(7, 2, seed=2))
    assert list(chain.state_dict()) == [f"layers.{i}.{n}" for i in (0, 2) for n in ("weight", "bias")]
    assert chain(x).shape == (3, 2)


@pytest.mark.parametrize(
    "make", [lambda: ts.Linear(0, 3), lambda: ts.Linear(3, 2.5), lambda: ts.LayerNorm(-1)]
)
def test_layers_refuse_what_is_no_size(make: Any) -> None:
    with pytest.raises(SpecError, match="is not a number of 1 or more"):
        make()
