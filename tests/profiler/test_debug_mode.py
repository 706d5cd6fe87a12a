"""`DebugMode` and `load_model`: what is traced, leaks that are found, calls that are wrong."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from profiled_programs import linear_artifact

from tessera.deploy import DebugMode, load_model
from tessera.package import Package
from tessera.program.errors import ConfigError, InputError
from tessera.runtime.model import Model


@pytest.fixture
def model(tmp_path: Path) -> Model:
    path = Package.from_artifact(linear_artifact(), name="linear").save(tmp_path / "linear.tsd")
    return load_model(path, device="reference")


def rows(count: int = 4) -> np.ndarray:
    return np.random.default_rng(2).standard_normal((count, 64), dtype=np.float32)


def test_loaded_model_is_a_function_of_its_inputs(model: Model) -> None:
    x = rows()
    weights = linear_artifact().constants["w"]
    with model:
        np.testing.assert_allclose(model(x), np.maximum(x @ weights, 0), rtol=1e-5, atol=1e-5)
    assert model.runtime.closed
    assert "linear" in repr(model)


def test_loading_a_program_that_is_not_there_names_those_that_are(model: Model) -> None:
    with pytest.raises(InputError, match="linear"):
        load_model(model.package, device="reference", program="forward")


def test_trace_summarizes_arrays_steps_and_difference(model: Model) -> None:
    x = rows()
    x[0, 0], x[1, 1] = np.nan, np.inf
    debug = DebugMode()
    trace = debug.trace_execution(model, x)
    (given,), (output,) = trace.inputs, trace.outputs
    assert (given.name, given.dtype, given.shape) == ("x", "float32", (4, 64))
    assert (given.nans, given.infinities, given.most) == (1, 1, np.inf)
    assert output.shape == (4, 16)
    assert trace.total_ms > 0
    assert trace.difference is not None
    assert trace.difference < 1e-4
    assert debug.trace == trace


def test_leak_check_finds_memory_that_calls_keep(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    debug = DebugMode()
    debug.trace_execution(model, rows())
    assert debug.check_memory_leaks(calls=10)
    kept = []
    plain = model.runtime.execute

    def leaking(*given: object, **options: object) -> object:
        kept.append(np.ones(1000))
        return plain(*given, **options)

    monkeypatch.setattr(model.runtime, "execute", leaking)
    leaks = debug.check_memory_leaks(calls=10)
    assert not leaks
    assert leaks.host_bytes_per_call > 8000


def test_methods_before_a_trace_say_what_to_call(tmp_path: Path) -> None:
    debug = DebugMode()
    for call in (
        debug.check_memory_leaks,
        debug.profile_kernels,
        lambda: debug.export_report(tmp_path / "r"),
    ):
        with pytest.raises(ConfigError, match="nothing was traced") as raised:
            call()
        assert "trace_execution" in (raised.value.hint or "")


def test_verbose_messages_end_with_the_block(model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger("tessera")
    before = (root.level, list(root.handlers))
    with DebugMode(verbose=True) as debug:
        debug.trace_execution(model, rows())
        assert "output output: float32[4, 16]" in capsys.readouterr().err
    assert (root.level, list(root.handlers)) == before
    with DebugMode() as debug:
        debug.trace_execution(model, rows())
    assert capsys.readouterr().err == ""


def test_wrong_inputs_are_refused_and_nothing_is_kept(model: Model) -> None:
    debug = DebugMode()
    with pytest.raises(InputError):
        debug.trace_execution(model, np.ones((4, 63), np.float32))
    assert debug.trace is None
