import numpy as np
import pytest

import tessera as ts
from tessera.compiler.quantize import quantize
from tessera.deploy.export import ModelExporter
from tessera.program.errors import CompileError, TraceError
from tessera.program.graph import Graph
from tessera.reference import run_graph


class Model(ts.Module):
    def __init__(self, dtype=ts.f32):
        super().__init__()
        self.layers = [
            ts.Linear(48, 64, dtype=dtype, seed=1),
            ts.GELU(),
            ts.Linear(64, 10, dtype=dtype, seed=2),
        ]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return ts.softmax(x)


class Fixed(ts.Module):
    """Needs to know the batch size."""

    def forward(self, x):
        return ts.reshape(x, (int(x.shape[0]) * 4,))


def test_exported_model_takes_any_batch_size(tmp_path, rng):
    exporter = ModelExporter(Model(), ts.randn(1, 48), ["sm_80", "cpu"])
    package = exporter.export(tmp_path / "model.tsd")
    program = exporter.artifact.programs[0]
    x = rng.normal(size=(13, 48)).astype("f4")
    with package.create_runtime(device="cpu") as runtime:
        result = np.asarray(runtime.execute(x))
    (exact,) = run_graph(program.graph, {"x": x}, exporter.artifact.constants, precision="f64").values()
    np.testing.assert_allclose(result, exact, rtol=1e-5, atol=1e-6)
    assert program.name == "forward"
    assert (tmp_path / "model.tsd").is_file()


def test_model_that_needs_its_batch_size_gets_it_with_a_note(tmp_path):
    exporter = ModelExporter(Fixed(), ts.randn(3, 4), ["cpu"])
    exporter.export(tmp_path / "fixed.tsd")
    assert exporter.artifact.programs[0].inputs[0].shape == (3, 4)
    assert any("batch size fixed at 3" in note for note in exporter.artifact.notes)


def test_int8_weights_are_smaller_and_close(tmp_path, rng):
    exporter = ModelExporter(Model(), ts.randn(4, 48, seed=3), ["cpu"])
    package = exporter.export(tmp_path / "small.tsd", quantization="int8")
    assert exporter.artifact.constants["layers.0.weight"].dtype == np.int8
    assert exporter.artifact.constants["layers.0.weight.scale"].shape == (64, 1)
    notes = "\n".join(exporter.artifact.notes)
    assert "layers.0.weight: largest error" in notes
    assert "output changes by at most" in notes
    x = rng.normal(size=(5, 48)).astype("f4")
    full = Model().trace([ts.TensorSpec((5, 48), ts.f32)])
    (exact,) = run_graph(full.graph, {"x": x}, full.constants, precision="f64").values()
    with package.create_runtime(device="cpu") as runtime:
        result = np.asarray(runtime.execute(x))
    np.testing.assert_allclose(result, exact, atol=5e-3)


@pytest.mark.parametrize("dtype", [ts.f32, ts.bf16])
def test_every_code_is_within_half_a_step(dtype):
    traced = Model(dtype).trace([ts.TensorSpec((2, 48), dtype)])
    done = quantize(traced.graph, traced.constants, "int8")
    assert [w.name for w in done.weights] == ["layers.0.weight", "layers.2.weight"]
    for weight in done.weights:
        exact = traced.constants[weight.name].astype("f8")
        scale = done.constants[f"{weight.name}.scale"].astype("f8")
        back = done.constants[weight.name] * scale
        assert (np.abs(back - exact) <= scale / 2 * (1 + 1e-6)).all()
        assert weight.largest_error == pytest.approx(np.abs(back - exact).max())


def test_channel_of_only_zeros_stays_zero():
    weight = np.zeros((8, 3), "f4")
    weight[:, 1] = np.linspace(-1, 1, 8)
    module = ts.jit(lambda x: ts.matmul(x, ts.tensor(weight)))
    traced = module.trace([ts.TensorSpec((2, 8), ts.f32)])
    done = quantize(traced.graph, traced.constants, "int8")
    (scale,) = [v for k, v in done.constants.items() if k.endswith(".scale")]
    np.testing.assert_allclose(scale, [[1.0, 1 / 127, 1.0]], rtol=1e-6)


def test_weight_used_elsewhere_too_is_left():
    weight = ts.tensor(np.eye(4, dtype="f4"))
    traced = ts.jit(lambda x: ts.matmul(x, weight) + weight).trace([ts.TensorSpec((4, 4), ts.f32)])
    with pytest.raises(CompileError, match="no matrix product"):
        quantize(traced.graph, traced.constants, "int8")


def test_unknown_quantization_is_refused(tmp_path):
    with pytest.raises(CompileError, match="int3"):
        ModelExporter(Model(), ts.randn(1, 48), ["cpu"]).export(tmp_path / "x.tsd", quantization="int3")
    assert not (tmp_path / "x.tsd").exists()


def test_quantizing_without_weights_is_refused():
    graph = Graph(name="nothing", nodes=(), outputs=(), output_names=())
    with pytest.raises(CompileError, match="nothing"):
        quantize(graph, {}, "int8")


def test_model_that_cannot_be_traced_is_the_models_error(tmp_path):
    class Branching(ts.Module):
        def forward(self, x):
            return x if ts.sum(x) > 0 else -x

    with pytest.raises(TraceError):
        ModelExporter(Branching(), ts.randn(2, 4), ["cpu"]).export(tmp_path / "x.tsd")


@pytest.mark.parametrize("model", [lambda x: x, 3, ts.Module], ids=["function", "number", "class"])
def test_what_is_no_model_is_refused_by_name(model, tmp_path):
    with pytest.raises(CompileError, match=r"neither a ts\.Module nor a @ts\.jit function") as caught:
        ModelExporter(model, np.ones((4, 4), np.float32), ["cpu"]).export(tmp_path / "x.tsd")
    assert caught.value.hint
    assert not (tmp_path / "x.tsd").exists()


def test_package_without_weights_is_smaller(tmp_path):
    exporter = ModelExporter(Model(), ts.randn(1, 48), ["cpu"])
    exporter.export(tmp_path / "with.tsd")
    exporter.export(tmp_path / "without.tsd", include_weights=False)
    assert (tmp_path / "without.tsd").stat().st_size < (tmp_path / "with.tsd").stat().st_size
