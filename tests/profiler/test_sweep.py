"""Sweeps over kernels: real compilers, the emulator, and a process that is killed."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from numba import cuda, float32

import tessera as ts
from tessera.compiler.options import ToolOptions
from tessera.compiler.tuning.record_file import RecordFile
from tessera.compiler.tuning.strategy import make_strategy
from tessera.deploy import AOTCompiler, AOTConfig, open_artifact
from tessera.profiler.tuning.subject import kernel_subject
from tessera.profiler.tuning.sweep import default_inputs, run_sweep, tune_kernel
from tessera.profiler.tuning.trial import DeviceMeter, EmulatorMeter, Trials, difference
from tessera.program.errors import ConfigError, KernelError, OptionError, ResourceError
from tessera.program.program import Choice

SM80 = ToolOptions("sm_80")
BLOCK, UNROLL, PITCH, HELD = 128, 1, 32, 4


def scale(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    first = cuda.blockIdx.x * BLOCK * UNROLL + cuda.threadIdx.x
    for k in range(UNROLL):
        i = first + k * BLOCK
        if i < x.shape[0]:
            y[i] = x[i] * 3


def tuned(fn=scale, **changes):
    rules = {
        "tune": {"BLOCK": [32, 128, 256], "UNROLL": [1, 4]},
        "grid": lambda n, BLOCK, UNROLL: ts.cdiv(n, BLOCK * UNROLL),
        "block": lambda BLOCK: BLOCK,
    }
    return ts.kernel(**{**rules, **changes})(fn)


def turned(x: ts.Array[ts.f32, "n", "n"], y: ts.Array[ts.f32, "n", "n"]):
    tile = cuda.shared.array((32, PITCH), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * 32, cuda.blockIdx.y * 32
    for row in range(ty, 32, 8):
        tile[row, tx] = x[top + row, left + tx]
    cuda.syncthreads()
    for row in range(ty, 32, 8):
        y[left + row, top + tx] = tile[tx, row]


def test_a_sweep_finds_the_configuration_without_bank_conflicts():
    kernel = ts.kernel(
        tune={"PITCH": [32, 33, 48]}, grid=lambda n: (ts.cdiv(n, 32), ts.cdiv(n, 32)), block=(32, 8)
    )(turned)
    sweep = tune_kernel(kernel, SM80, sizes={"n": 256})
    assert sweep.best.configuration == {"PITCH": 33}
    assert sweep.reference.configuration == {"PITCH": 32}
    assert {r.kind for r in sweep.records} == {"predicted"}
    assert {r.driver for r in sweep.records} == {"cost model 1"}
    assert [r.shared_bytes for r in sweep.records] == [4096, 4224, 6144]


def test_failures_stay_on_record_with_their_reason(tmp_path):
    def odd(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
        i = cuda.grid(1)
        if MODE == 1:
            i += 10**9
        if i < x.shape[0] or MODE == 1:
            y[i] = x[i] * (MODE + 1)

    kernel = ts.kernel(
        tune={"MODE": [0, 1, 2], "THREADS": [64, 2048]},
        grid=lambda n: ts.cdiv(n, 64),
        block=lambda THREADS: THREADS,
    )(odd)
    file = RecordFile(tmp_path / "cache.json")
    sweep = tune_kernel(kernel, SM80, sizes={"n": 640}, file=file)
    by_key = {(r.configuration["MODE"], r.configuration["THREADS"]): r for r in sweep.records}
    assert by_key[0, 64].status == "ok"
    assert by_key[1, 64].status == "runtime"
    assert by_key[1, 64].reason
    assert by_key[2, 64].status == "wrong"
    assert "differs from the reference" in by_key[2, 64].reason
    assert by_key[0, 2048].status == "compile"
    assert "2048 threads" in by_key[0, 2048].reason
    assert sweep.best == by_key[0, 64]
    assert sorted(r.key for r in file.read()) == sorted(r.key for r in sweep.records)


def test_what_spills_is_not_run():
    def mixed(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
        i = cuda.grid(1)
        held = cuda.local.array(96, float32)
        for k in range(96):
            held[k] = x[(i + k * 977) % x.shape[0]]
        total = held[0]
        for k in range(96):
            total = total * held[95 - k] + held[k]
        y[i] = total

    kernel = ts.kernel(
        tune={"LIMIT": [168, 24]},
        grid=lambda n: n // 64,
        block=64,
        max_registers=lambda LIMIT: LIMIT,
    )(mixed)
    good, bad = tune_kernel(kernel, SM80, sizes={"n": 1024}).records
    assert (good.status, good.spill_bytes) == ("ok", 0)
    assert bad.status == "pruned"
    assert "spill" in bad.reason
    assert bad.registers <= 24


def test_records_are_kept_and_not_tried_again(tmp_path):
    file = RecordFile(tmp_path / "cache.json")
    first = tune_kernel(tuned(), SM80, sizes={"n": 4096}, file=file)
    data = file.path.read_bytes()
    again = tune_kernel(tuned(), SM80, sizes={"n": 4000}, file=file)
    assert (first.recalled, again.recalled) == (0, 6)
    assert again.records == first.records
    assert file.path.read_bytes() == data
    assert tune_kernel(tuned(), SM80, sizes={"n": 5000}, file=file, budget=2).recalled == 0
    # A value more leaves the records of the others valid; another launch rule does not.
    more = tuned(tune={"BLOCK": [32, 128, 256], "UNROLL": [1, 4, 2]})
    assert tune_kernel(more, SM80, sizes={"n": 4096}, file=file).recalled == 6
    other = tuned(grid=lambda n, BLOCK, UNROLL: ts.cdiv(n, BLOCK * UNROLL) + 1)
    assert tune_kernel(other, SM80, sizes={"n": 4096}, file=file, budget=1).recalled == 0


def test_measuring_compares_results_too():
    kernel = tuned(tune={"UNROLL": [1, 4], "BLOCK": [128]})
    subject = kernel_subject(kernel, SM80)
    inputs, sizes = default_inputs(subject.compile(subject.reference).programs[0], {"n": 500}, 0)
    # The emulator stands for a GPU: its runtime measures steps too.
    trials = Trials(subject, DeviceMeter("emulator", "a GPU", "1.0"), inputs, sizes)
    sweep = run_sweep(trials, make_strategy("grid", subject.space, seed=0, budget=9), budget=9)
    assert [(r.status, r.kind, r.gpu, r.driver) for r in sweep.records] == [
        ("ok", "measured", "a GPU", "1.0")
    ] * 2
    assert all(r.cost_ms > 0 for r in sweep.records)


def test_results_differ_beyond_the_tolerance_alone(rng):
    x = rng.normal(size=(3, 4)).astype("f4")
    assert difference([x], [x * np.float32(1 + 1e-6)]) is None
    y = x.copy()
    y[1, 2] += 1
    assert "1 of 12 elements, first at [1, 2]" in difference([x], [y])
    assert difference([np.array([np.nan], "f4")], [np.array([np.nan], "f4")]) is None
    assert "differs" in difference([np.array([1, 2])], [np.array([1, 3])])


def test_what_cannot_be_tuned_says_why():
    with pytest.raises(KernelError, match="names no values to tune"):
        tune_kernel(ts.kernel(grid=1, block=32)(turned), SM80)
    with pytest.raises(OptionError, match="sm_87: no datasheet"):
        EmulatorMeter("sm_87")


def compiled(kernel, **options):
    return AOTCompiler(AOTConfig(targets=["sm_80"], enable_autotuning=True, **options)).compile(kernel)


def test_compiling_takes_what_is_on_record_by_sizes(tmp_path, rng):
    cache = tmp_path / "autotune_cache.json"
    file = RecordFile(cache)
    kernel = tuned()
    for n in (1000, 30000):
        tune_kernel(kernel, SM80, sizes={"n": n}, file=file)
    # What a GPU would have said: small sizes want small blocks.
    import msgspec

    wanted = {1024: {"BLOCK": 32, "UNROLL": 1}, 32768: {"BLOCK": 256, "UNROLL": 4}}
    file.add(
        msgspec.structs.replace(r, cost_ms=1e-6)
        for r in file.read()
        if wanted[r.bucket["n"]] == r.configuration
    )
    made = compiled(kernel, autotune_cache=str(cache))
    (plan,) = made.programs[0].plans
    (choice,) = plan.steps
    assert isinstance(choice, Choice)
    launches = [option.steps[0] for option in choice.options]
    assert [launch.block[0] for launch in launches] == [32, 256]
    assert str(choice.options[0].guard[0]) == "n <= 1024"
    assert choice.options[1].guard == ()
    assert len({b.name for b in made.binaries}) == 2
    assert any("n up to 1024" in note and "BLOCK=32" in note for note in made.artifact.notes)
    with open_artifact(made.artifact, "emulator") as runtime:
        for n in (10, 1024, 1025, 3000):
            x = rng.normal(size=n).astype("f4")
            np.testing.assert_allclose(runtime.execute(x, np.zeros(n, "f4")), x * 3, rtol=1e-6)


def test_compiling_tunes_what_is_not_on_record_and_keeps_it(tmp_path):
    cache = tmp_path / "autotune_cache.json"
    made = compiled(tuned(), autotune_cache=str(cache))
    assert any("best of 6 that were tried" in note for note in made.artifact.notes)
    data = cache.read_bytes()
    again = compiled(tuned(), autotune_cache=str(cache))
    assert any("on record" in note for note in again.artifact.notes)
    assert cache.read_bytes() == data
    assert [b.data for b in again.binaries] == [b.data for b in made.binaries]
    assert compiled(tuned()).programs == made.programs


def test_a_lock_decides_and_a_changed_kernel_is_refused(tmp_path):
    from tessera.compiler.tuning.lock_file import LockedPick, write_lock

    lock = tmp_path / "tessera.lock"
    with pytest.raises(ConfigError, match="there is no lock file"):
        compiled(tuned(), autotune_lock=str(lock))
    identity = kernel_subject(tuned(), SM80).identity
    pick = LockedPick(
        kernel="scale", kernel_hash=identity, target="sm_80", bucket={"n": 8},
        configuration={"BLOCK": 256, "UNROLL": 4}, kind="measured",
    )  # fmt: skip
    write_lock(lock, [pick])
    made = compiled(tuned(), autotune_lock=str(lock))
    assert made.programs[0].plans[0].steps[0].block == (256, 1, 1)
    changed = tuned(max_registers=30)
    with pytest.raises(ConfigError, match="has changed since it was tuned") as caught:
        compiled(changed, autotune_lock=str(lock))
    assert "--lock" in caught.value.hint
    with pytest.raises(ConfigError, match="nothing for scale and sm_90"):
        AOTCompiler(AOTConfig(targets=["sm_90"], autotune_lock=str(lock))).compile(tuned())
    lock.write_text("{}")
    with pytest.raises(ConfigError, match="cannot be read as a lock file"):
        compiled(tuned(), autotune_lock=str(lock))


SOURCE = """\
from numba import cuda

import tessera as ts

BLOCK = 128
UNROLL = 1


@ts.kernel(
    tune={"BLOCK": [32, 64, 96, 128, 160, 192, 224, 256], "UNROLL": [1, 2, 3, 4, 5, 6]},
    grid=lambda n, BLOCK, UNROLL: ts.cdiv(n, BLOCK * UNROLL),
    block=lambda BLOCK: BLOCK,
)
def scale(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    first = cuda.blockIdx.x * BLOCK * UNROLL + cuda.threadIdx.x
    for k in range(UNROLL):
        i = first + k * BLOCK
        if i < x.shape[0]:
            y[i] = x[i] * 3
"""


def begin(folder, cache, strategy):
    """`tessera tune` in a process of its own."""
    command = [sys.executable, "-m", "tessera", "tune", "kernels.py", "--strategy", strategy, "--seed", "3"]
    command += ["--budget", "30", "--size", "n=5000", "--cache", cache, "--json"]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=folder, stdout=quiet, stderr=quiet, env=os.environ.copy())


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["random", "bayesian"])
def test_a_run_killed_ten_times_ends_as_one_that_was_not(tmp_path, strategy):
    (tmp_path / "kernels.py").write_text(SOURCE)

    assert begin(tmp_path, "whole.json", strategy).wait() == 0
    chance, cache = random.Random(5), tmp_path / "killed.json"
    seen, kills = [], 0
    while kills < 10:
        before = cache.read_bytes() if cache.exists() else b""
        process = begin(tmp_path, cache.name, strategy)
        if kills % 4 == 3:
            # At any moment of a start, too: while Python imports, or nothing was compiled yet.
            time.sleep(chance.random() * 3)
        else:
            # Wait for something new, so that the run gets on, then strike at any moment.
            while process.poll() is None and (cache.read_bytes() if cache.exists() else b"") == before:
                time.sleep(0.005)
            time.sleep(chance.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        seen.append(len(RecordFile(cache).read()))
    assert seen == sorted(seen)
    assert seen[0] < 30
    assert begin(tmp_path, cache.name, strategy).wait() == 0
    assert cache.read_bytes() == (tmp_path / "whole.json").read_bytes()


@pytest.mark.slow
def test_two_runs_at_once_on_one_file_end_as_one(tmp_path):
    (tmp_path / "kernels.py").write_text(SOURCE)
    both = [begin(tmp_path, "shared.json", "grid") for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert begin(tmp_path, "whole.json", "grid").wait() == 0
    assert (tmp_path / "shared.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def spread(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
    """Loads UNROLL × HELD numbers, keeps them, and uses shared memory of PITCH rows."""
    shared = cuda.shared.array((PITCH, 32), float32)
    held = cuda.local.array(HELD, float32)
    tx = cuda.threadIdx.x
    first = cuda.blockIdx.x * BLOCK * UNROLL + tx
    for k in range(UNROLL):
        i = first + k * BLOCK
        if i < x.shape[0]:
            for h in range(HELD):
                held[h] = x[(i + h * 37) % x.shape[0]]
            total = float32(0)
            for h in range(HELD):
                total += held[h] * held[HELD - 1 - h]
            shared[(tx // 32) % PITCH, tx % 32] = total
            y[i] = shared[(tx // 32) % PITCH, tx % 32]


def random_space(chance):
    def some(values, most=3):
        return chance.sample(values, chance.randint(1, min(most, len(values))))

    return {
        "BLOCK": some([32, 64, 128, 256, 512, 1024]),
        "UNROLL": some([1, 2, 4, 8], 2),
        "HELD": some([1, 8, 32, 64], 2),
        "PITCH": some([1, 8, 64, 128, 300], 2),
        "LIMIT": some([16, 32, 64, 128, 255], 2),
    }


def random_subject(chance):
    """A kernel of a random space, whose own configuration works: without that nothing is tuned."""
    while True:
        kernel = ts.kernel(
            tune=random_space(chance),
            grid=lambda n, BLOCK, UNROLL: ts.cdiv(n, BLOCK * UNROLL),
            block=lambda BLOCK: BLOCK,
            max_registers=lambda LIMIT: LIMIT,
        )(spread)
        subject = kernel_subject(kernel, ToolOptions(chance.choice(["sm_80", "sm_90"])))
        try:
            return subject, subject.compile(subject.reference).programs[0]
        except ResourceError:
            continue


def best_costs(seed):
    """Of a random space: with and without pruning, and how many were pruned."""
    chance = random.Random(seed)
    subject, program = random_subject(chance)
    everything = list(subject.space.configurations())
    inputs, sizes = default_inputs(program, {"n": chance.choice([2000, 20000])}, seed)
    meter = EmulatorMeter(subject.target)
    found = []
    for prune in (True, False):
        trials = Trials(subject, meter, inputs, sizes, prune=prune)
        records = [trials.attempt(c) for c in everything]
        found.append(min((r.cost_ms for r in records if r.status == "ok"), default=None))
        if prune:
            pruned = sum(r.status == "pruned" for r in records)
    return (*found, pruned)


def spaces_where_pruning_lost(seeds):
    results = [best_costs(seed) for seed in seeds]
    return [r for r in results if r[0] != r[1]], sum(pruned for _, _, pruned in results)


def test_pruning_keeps_the_best_of_a_small_space():
    """The quick form of the next two: what spills is not run."""

    def kept(x: ts.Array[ts.f32, "n"], y: ts.Array[ts.f32, "n"]):
        i = cuda.grid(1)
        held = cuda.local.array(HELD, float32)
        for h in range(HELD):
            held[h] = x[i + h * 7]
        total = float32(0)
        for h in range(HELD):
            total = total * held[HELD - 1 - h] + held[h]
        y[i] = total

    kernel = ts.kernel(
        tune={"HELD": [8, 64], "LIMIT": [128, 24]},
        grid=lambda n: n // 256,
        block=64,
        max_registers=lambda LIMIT: LIMIT,
    )(kept)
    subject = kernel_subject(kernel, SM80)
    inputs, sizes = default_inputs(kernel_program(subject), {"n": 2560}, 0)
    best, pruned = [], 0
    for prune in (True, False):
        trials = Trials(subject, EmulatorMeter("sm_80"), inputs, sizes, prune=prune)
        records = [trials.attempt(c) for c in subject.space.configurations()]
        best.append(min(r.cost_ms for r in records if r.status == "ok"))
        pruned += sum(r.status == "pruned" for r in records)
    assert best[0] == best[1]
    assert pruned > 0


def kernel_program(subject):
    return subject.compile(subject.reference).programs[0]


@pytest.mark.slow
def test_pruning_keeps_the_best_of_some_random_spaces():
    lost, pruned = spaces_where_pruning_lost(range(4))
    assert lost == []
    assert pruned > 0


@pytest.mark.soak
def test_pruning_keeps_the_best_of_99_in_100_random_spaces():
    lost, pruned = spaces_where_pruning_lost(range(200))
    print(f"{len(lost)} of 200 lost their best, {pruned} configurations pruned")
    assert len(lost) <= 2, lost
    assert pruned > 100
