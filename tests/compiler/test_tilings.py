"""Tiles of the compiler's templates: every shape computes the same, and one that does not fit says so."""

import random
from dataclasses import replace

import numpy as np
import pytest

import tessera as ts
from tessera.compiler.aot import build_artifact
from tessera.compiler.cache import CompileCache, entry_key
from tessera.compiler.lower_mma import LARGE, SMALL, Tile
from tessera.compiler.matmul_tilings import fits_warps
from tessera.compiler.options import AOTConfig, ToolOptions
from tessera.compiler.tiling import Tiling, is_own
from tessera.compiler.tuning.function_step import function_steps
from tessera.deploy import open_artifact
from tessera.program.errors import CompileError, ResourceError, TesseraError


def function(body, *specs):
    return ts.jit(body, input_specs=[ts.TensorSpec(shape, dtype) for shape, dtype in specs])


def product(dtype, columns=72):
    return function(lambda a, b: ts.relu(ts.matmul(a, b)), ((100, 136), dtype), ((136, columns), dtype))


def transposed(dtype):
    return function(
        lambda a, b: ts.matmul(a, ts.transpose(b, (1, 0))), ((70, 160), dtype), ((72, 160), dtype)
    )


CASES = {
    "f16": product(ts.f16),
    "f16 any": product(ts.f16, 71),
    "f16 nt": transposed(ts.f16),
    "bf16": product(ts.bf16),
    "tf32": product(ts.tf32),
    "i8 nt": transposed(ts.i8),
    "conv": function(
        lambda x, w: ts.conv2d(x, w, padding=1), ((2, 16, 9, 9), ts.f16), ((24, 16, 3, 3), ts.f16)
    ),
    "attention": function(
        lambda q, k, v: ts.attention(q, k, v, causal=True), *([((2, 3, 70, 64), ts.f16)] * 3)
    ),
    "rows": function(lambda x: ts.exp(ts.softmax(x, axis=-1)), ((37, 700), ts.f32)),
    "sums": function(lambda x: ts.sum(x * x, axis=-1), ((37, 300), ts.f32)),
    "elements": function(lambda x: ts.exp(x) * 2 + 1, ((37, 70), ts.f32)),
}


def drawn(fn, rng):
    found = []
    for spec in fn.specs:
        whole = spec.dtype.numpy.kind in "iu"
        values = rng.integers(-3, 4, spec.shape) if whole else rng.normal(size=spec.shape)
        found.append(np.asarray(values).astype(spec.dtype.numpy))
    return found


def only_step(fn, target, **config):
    traced = fn.trace(None)
    steps = function_steps(
        traced.graph, traced.constants, ToolOptions(target), AOTConfig(targets=(target,), **config)
    )
    return steps[-1]


def result(step, configuration, inputs):
    artifact = build_artifact([step.unit(configuration)], step.config, CompileCache.default())
    with open_artifact(artifact, "emulator") as runtime:
        return np.asarray(runtime.execute(*inputs)).astype("f8")


def tried(name, target, count, rng, seed=0):
    """Configurations of a case that were compared with the compiler's own choice, and those refused."""
    fn = CASES[name]
    step = only_step(fn, target)
    inputs = drawn(fn, rng)
    own, *others = step.step.space.configurations()
    assert is_own(own)
    expected = result(step, own, inputs)
    refused, ran = [], 0
    for configuration in random.Random(seed).sample(others, min(count, len(others))):
        try:
            found = result(step, configuration, inputs)
        except (CompileError, ResourceError) as error:
            refused.append(error.message)
            continue
        np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-2, err_msg=str(configuration))
        ran += 1
    assert ran, "every tile drawn was refused"
    return refused


@pytest.mark.parametrize("name", ["f16", "tf32", "i8 nt", "conv", "attention", "rows", "elements"])
def test_tiles_compute_the_same_as_the_compilers_own(name, rng):
    tried(name, "sm_80", 2, rng)


@pytest.mark.parametrize("name", ["bf16", pytest.param("attention", marks=pytest.mark.slow)])
def test_tiles_of_warpgroups_compute_the_same(name, rng):
    fn = CASES[name]
    step = only_step(fn, "sm_90a")
    inputs = drawn(fn, rng)
    configurations = list(step.step.space.configurations())
    chosen = next(c for c in reversed(configurations) if c["UNIT"] == "wgmma" and c["STAGES"] == 3)
    found = result(step, chosen, inputs)
    np.testing.assert_allclose(found, result(step, configurations[0], inputs), rtol=2e-2, atol=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("name", CASES)
def test_many_tiles_compute_the_same_as_the_compilers_own(name, target, rng):
    refused = tried(name, target, 10, rng, seed=1)
    assert all("shared memory" in message or "registers" in message for message in refused)


def test_a_tile_that_does_not_fit_says_by_how_much():
    step = only_step(CASES["f16"], "sm_86")
    values = {"UNIT": "mma", "TILE": "256x128", "WARPS": "2x4", "STAGES": 6, "SPLITS": 1}
    assert step.step.space.holds(values)
    with pytest.raises(CompileError, match="needs 147456 bytes of shared memory; there are 101376") as caught:
        step.unit(values)
    assert "fewer stages" in caught.value.hint
    capped = only_step(CASES["f16"], "sm_80", max_shared_memory_per_block=50_000)
    with pytest.raises(CompileError, match="there are 50000"):
        capped.unit(values)


def test_what_names_no_tile_is_refused():
    step = only_step(CASES["f16"], "sm_80")
    own = {"UNIT": "mma", "TILE": "64x64", "WARPS": "2x2", "STAGES": 3, "SPLITS": 1}
    for wrong in ({"TILE": "64"}, {"STAGES": "three"}, {"STAGES": True}, {"WARPS": "axb"}):
        with pytest.raises(TesseraError, match="a tiling's"):
            step.unit({**own, **wrong})


def test_warps_that_cannot_share_a_tile_are_no_configuration():
    assert fits_warps(SMALL, 2)
    assert fits_warps(LARGE, 2)
    assert not fits_warps(Tile(64, 64, 3, 4, 4), 2), "more threads than chunks"
    assert not fits_warps(Tile(64, 256, 3, 2, 2), 2), "more columns than threads"
    assert not fits_warps(Tile(256, 128, 3, 1, 4), 2), "more sums than registers"


def test_the_space_is_told_by_what_the_target_has():
    assert only_step(CASES["f16"], "sm_80").step.space.parameters[0] == ("UNIT", ("auto", "mma"))
    assert only_step(CASES["f16"], "sm_90a").step.space.parameters[0] == ("UNIT", ("auto", "mma", "wgmma"))
    # What lies across the depth is read by `wgmma` in 16 bits alone.
    assert "wgmma" not in dict(only_step(CASES["tf32"], "sm_90a").step.space.parameters)["UNIT"]
    # Rows of 71 columns are loaded by element: in two stages, and without registers for large tiles.
    parameters = dict(only_step(CASES["f16 any"], "sm_80").step.space.parameters)
    assert parameters["STAGES"] == ("auto", 2)
    assert "256x128" not in parameters["TILE"]
    traced = product(ts.f16).trace(None)
    assert function_steps(traced.graph, {}, ToolOptions("sm_70"), AOTConfig(targets=("sm_70",))) == []


def kernels(options, fn):
    traced = fn.trace(None)
    from tessera.compiler.graph_unit import graph_unit

    unit = graph_unit(traced.graph, traced.constants, [options], AOTConfig(targets=(options.target,)))
    return {job.name: job.key(options) for job in unit.jobs}, unit.program.plans[0]


def test_a_tiling_changes_the_key_and_name_of_its_own_kernels_alone():
    both = function(
        lambda x, w: ts.sum(ts.relu(ts.matmul(x, w)), axis=-1), ((64, 64), ts.f16), ((64, 64), ts.f16)
    )
    options = ToolOptions("sm_80")
    values = {"UNIT": "mma", "TILE": "128x64", "WARPS": "2x2", "STAGES": 3, "SPLITS": 2}
    tuned = replace(options, tilings=(("0_matmul", (Tiling(tuple(values.items())),)),))
    own, _ = kernels(options, both)
    changed, _ = kernels(tuned, both)
    assert "function_1_relu_sum" in own
    assert [n for n in changed if "matmul" in n] != [n for n in own if "matmul" in n]
    shared = set(own) & set(changed)
    assert "function_1_relu_sum" in shared
    assert all(own[name] == changed[name] for name in shared)
    assert entry_key(options, {}) == entry_key(tuned, {})


def test_sizes_choose_between_tilings():
    fn = function(lambda x: ts.exp(x) * 2, (("n",), ts.f32))
    small = Tiling((("THREADS", 64), ("PER_THREAD", 1)), (("n", 1024),))
    large = Tiling((("THREADS", 512), ("PER_THREAD", 4)), (("n", 65536),))
    names = [n for n, _ in [(s.step.name, s) for s in _steps(fn)]]
    options = replace(ToolOptions("sm_80"), tilings=((names[0], (small, large)),))
    jobs, plan = kernels(options, fn)
    (choice,) = plan.steps
    assert [o.steps[0].block[0] for o in choice.options] == [64, 512]
    assert [str(g) for g in choice.options[0].guard] == ["n <= 1024"]
    assert choice.options[1].guard == ()
    assert len(jobs) == 2


def _steps(fn):
    traced = fn.trace(None)
    return function_steps(traced.graph, traced.constants, ToolOptions("sm_80"), AOTConfig(targets=("sm_80",)))
