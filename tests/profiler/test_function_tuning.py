"""Tuning of tensor functions: steps of the compiler's own templates, from sweep to package."""

import numpy as np
import pytest

import tessera as ts
from tessera.compiler.options import ToolOptions
from tessera.compiler.tuning.function_step import function_steps
from tessera.compiler.tuning.lock_file import LockedPick, write_lock
from tessera.compiler.tuning.record import Record, picks
from tessera.compiler.tuning.record_file import RecordFile
from tessera.deploy import AOTCompiler, AOTConfig, BatchCompiler, open_artifact
from tessera.profiler.tuning.subject import step_subject
from tessera.profiler.tuning.sweep import default_inputs, tune_subject, usual_strategy
from tessera.profiler.tuning.trial import DeviceMeter, EmulatorMeter, Trials
from tessera.program.errors import ConfigError
from tessera.program.program import Choice, Launch


@ts.jit
def dense(x: ts.Tensor[ts.f16, "batch", 64], w: ts.Tensor[ts.f16, 64, 64], b: ts.Tensor[ts.f16, 64]):
    return ts.softmax(ts.matmul(x, w) + b, axis=-1)


class Layer(ts.Module):
    """A model with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = ts.Parameter(np.random.default_rng(0).normal(size=(32, 32)).astype("f4"))

    def forward(self, x: ts.Tensor[ts.f32, "rows", 32]) -> ts.Tensor:
        return ts.exp(ts.relu(x)) * 2


def steps_of(fn, target="sm_80", **config):
    traced = fn.trace(None)
    made = AOTConfig(targets=(target,), **config)
    return function_steps(traced.graph, traced.constants, ToolOptions(target), made)


def compiled(fn, **options):
    return AOTCompiler(AOTConfig(targets=["sm_80"], **options)).compile(fn)


def test_steps_have_names_and_identities_of_their_own():
    product, rows = steps_of(dense)
    assert (product.name, rows.name) == ("dense.0_matmul", "dense.1_add_softmax")
    assert product.identity != rows.identity
    assert [s.identity for s in steps_of(dense)] == [product.identity, rows.identity]
    assert steps_of(dense, max_shared_memory_per_block=40_000)[0].identity != product.identity
    assert set(product.own.values()) == {"auto"}


def test_a_sweep_of_a_step_tries_its_tiles_and_keeps_them(tmp_path):
    _, rows = steps_of(dense)
    file = RecordFile(tmp_path / "cache.json")
    sweep = tune_subject(step_subject(rows), sizes={"batch": 40}, file=file)
    assert len(sweep.records) == 13
    assert {r.kernel for r in sweep.records} == {"dense.1_add_softmax"}
    assert sweep.reference.configuration == {"TEAM": "auto", "THREADS": "auto"}
    assert sweep.reference.bucket == {"batch": 64}
    assert all(r.status == "ok" and r.shared_bytes is not None for r in sweep.records)
    assert sorted(r.key for r in file.read()) == sorted(r.key for r in sweep.records)


@pytest.mark.slow
def test_a_tile_that_does_not_fit_is_kept_with_its_reason():
    product = steps_of(dense)[0]
    subject = step_subject(product)
    program = subject.compile(subject.reference).programs[0]
    inputs, sizes = default_inputs(program, {"batch": 40}, 0)
    trials = Trials(subject, EmulatorMeter("sm_80"), inputs, sizes)
    large = {"UNIT": "mma", "TILE": "256x128", "WARPS": "2x4", "STAGES": 6, "SPLITS": 1}
    assert trials.attempt(large).status == "ok", "163 KB of an A100"
    capped = step_subject(steps_of(dense, max_shared_memory_per_block=100_000)[0])
    record = Trials(capped, EmulatorMeter("sm_80"), inputs, sizes).attempt(large)
    assert record.status == "compile"
    assert "147456 bytes of shared memory; there are 100000" in record.reason


def test_measuring_counts_the_steps_own_kernels():
    step = steps_of(dense)[1]
    subject = step_subject(step)
    program = subject.compile(subject.reference).programs[0]
    inputs, sizes = default_inputs(program, {"batch": 8}, 0)
    meter = DeviceMeter("emulator", "a GPU", "1.0")
    own = Trials(subject, meter, inputs, sizes).reference().cost_ms
    import dataclasses

    whole = dataclasses.replace(subject, kernels="")
    assert 0 < own < Trials(whole, meter, inputs, sizes).reference().cost_ms


def test_a_budget_smaller_than_the_space_is_drawn_at_random():
    product, rows = steps_of(dense)
    assert usual_strategy(rows.step.space, 13) == "grid"
    assert usual_strategy(rows.step.space, 12) == "random"
    assert usual_strategy(product.step.space, 64) == "random"


def measured(step, bucket, **values):
    """As a GPU would have recorded it."""
    return Record(
        kernel=step.name, kernel_hash=step.identity, target="sm_80", gpu="A100", driver="1", kind="measured",
        bucket=bucket, sizes=bucket, configuration=values, status="ok", cost_ms=1e-3,
    )  # fmt: skip


def test_compiling_takes_tiles_on_record_by_sizes(tmp_path, rng):
    cache = tmp_path / "autotune_cache.json"
    product, rows = steps_of(dense)
    RecordFile(cache).add(
        [
            measured(rows, {"batch": 16}, TEAM="warp", THREADS=32),
            measured(rows, {"batch": 256}, TEAM="block", THREADS=128),
            measured(product, {"batch": 256}, UNIT="mma", TILE="128x64", WARPS="2x2", STAGES=3, SPLITS=2),
        ]
    )
    made = compiled(dense, enable_autotuning=True, autotune_cache=str(cache))
    matmul, softmax = made.programs[0].plans[0].steps
    assert isinstance(softmax, Choice)
    assert [o.steps[0].block[0] for o in softmax.options] == [32, 128]
    assert "batch <= 16" in map(str, softmax.options[0].guard)
    assert isinstance(matmul, Choice)
    assert len(matmul.options[0].steps) == 2, "parts of the depth, and their sum"
    assert any("TILE=128x64" in note and "on record" in note for note in made.artifact.notes)
    tilings = made.artifact.provenance["tilings"]["dense"]["sm_80"]
    assert [name for name, _ in tilings] == ["0_matmul", "1_add_softmax"]
    w, b = rng.normal(size=(64, 64)).astype("f2"), rng.normal(size=64).astype("f2")
    with open_artifact(made.artifact, "emulator") as runtime:
        for batch in (1, 16, 17, 70):
            x = rng.normal(size=(batch, 64)).astype("f2")
            scores = x.astype("f8") @ w.astype("f8") + b.astype("f8")
            e = np.exp(scores - scores.max(-1, keepdims=True))
            found = runtime.execute(x, w, b)
            np.testing.assert_allclose(found, e / e.sum(-1, keepdims=True), rtol=3e-2, atol=2e-3)


def test_a_model_is_tuned_where_it_is_small_and_left_alone_where_not(tmp_path):
    cache = tmp_path / "autotune_cache.json"
    made = compiled(Layer(), enable_autotuning=True, autotune_cache=str(cache))
    assert any("best of 21 that were tried" in note for note in made.artifact.notes)
    assert len(RecordFile(cache).read()) == 21
    again = compiled(Layer(), enable_autotuning=True, autotune_cache=str(cache))
    assert any("on record" in note for note in again.artifact.notes)
    assert [b.data for b in again.binaries] == [b.data for b in made.binaries]

    @ts.jit
    def large(x: ts.Tensor[ts.f16, 2048, 2048]):
        return ts.matmul(x, x)

    untouched = compiled(large, enable_autotuning=True)
    assert any("too much work to emulate" in note for note in untouched.artifact.notes)
    assert untouched.programs == compiled(large).programs


def test_predictions_displace_the_compilers_choice_by_a_clear_gain_alone():
    step = steps_of(dense)[1]
    import msgspec

    own = msgspec.structs.replace(measured(step, {}, **step.own), kind="predicted", cost_ms=1.0)
    other = measured(step, {}, TEAM="warp", THREADS=32)
    known = {"kernel": step.name, "kernel_hash": step.identity, "target": "sm_80", "own": step.own}
    for cost, wins in ((0.95, False), (0.8, True)):
        rival = msgspec.structs.replace(other, kind="predicted", cost_ms=cost)
        (pick,) = picks([own, rival], **known)
        assert (pick.configuration == other.configuration) is wins
    slower = msgspec.structs.replace(own, kind="measured", cost_ms=0.001001)
    assert picks([slower, other], **known)[0].configuration == other.configuration, "measured: any gain"


def test_a_lock_decides_tiles_and_a_changed_function_is_refused(tmp_path):
    lock = tmp_path / "tessera.lock"
    chosen = {
        "0_matmul": {"UNIT": "mma", "TILE": "64x64", "WARPS": "4x2", "STAGES": 5, "SPLITS": 1},
        "1_add_softmax": {"TEAM": "block", "THREADS": 64},
    }
    write_lock(
        lock,
        [
            LockedPick(
                kernel=step.name, kernel_hash=step.identity, target="sm_80", bucket={},
                configuration=chosen[step.step.name], kind="measured",
            )
            for step in steps_of(dense)
        ],
    )  # fmt: skip
    made = compiled(dense, autotune_lock=str(lock))
    softmax = made.programs[0].plans[0].steps[1]
    assert isinstance(softmax, Launch)
    assert softmax.block == (64, 1, 1)
    with pytest.raises(ConfigError, match="has changed since it was tuned"):
        compiled(dense, autotune_lock=str(lock), max_shared_memory_per_block=45_000)
    with pytest.raises(ConfigError, match=r"nothing for Layer.0_\S+ and sm_80") as caught:
        compiled(Layer(), autotune_lock=str(lock))
    assert "tessera tune FILE:Layer --arch sm_80" in caught.value.hint


def test_names_of_programs_do_not_matter(tmp_path):
    cache = tmp_path / "autotune_cache.json"
    rows = steps_of(dense)[1]
    product = steps_of(dense)[0]
    RecordFile(cache).add(
        [measured(rows, {}, TEAM="block", THREADS=64), measured(product, {}, **product.own)]
    )
    config = AOTConfig(targets=["sm_80"], enable_autotuning=True, autotune_cache=str(cache))
    made = AOTCompiler(config).compile(dense, name="another")
    assert made.programs[0].plans[0].steps[1].block == (64, 1, 1)


def test_exported_and_batched_models_take_tiles_too(tmp_path, rng):
    from tessera.compiler.cache import CompileCache
    from tessera.compiler.export import export_artifact

    cache = tmp_path / "autotune_cache.json"
    config = AOTConfig(targets=["sm_80"], enable_autotuning=True, autotune_cache=str(cache))
    example = rng.normal(size=(4, 32)).astype("f4")
    compiled(Layer(), enable_autotuning=True, autotune_cache=str(cache))
    for way in ("best of 21 that were tried", "on record"):
        artifact = export_artifact(Layer(), example, config, CompileCache.default())
        assert artifact.programs[0].name == "forward"
        assert any("batch up to" in note and way in note for note in artifact.notes)
    # Open sizes have names: `rows` of the annotation, and `batch` of what is exported.
    assert {tuple(r.bucket) for r in RecordFile(cache).read()} == {("rows",), ("batch",)}
    batch = BatchCompiler(config)
    batch.add_kernel(Layer(), name="one")
    assert any("rows up to" in note and "on record" in note for note in batch.compile_all().artifact.notes)
