"""Execution on the CPU through real native code, without Tessera's compiler."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable

import numpy as np
import pytest
from handmade import HIDDEN, WIDTH, mlp_program, mlp_weights, plan, saxpy_program, softmax_program

from tessera.program.artifact import Artifact
from tessera.program.dtype import bf16, f64
from tessera.program.errors import DeviceError, InputError, OutOfMemoryError
from tessera.program.program import Gemm, Pointer, Port, Program
from tessera.runtime import DeviceFallbackWarning, open_artifact

Build = Callable[..., Artifact]


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x.astype(np.float64) - x.max(axis=-1, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=-1, keepdims=True)


def mlp(x: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    return np.maximum(x.astype(np.float64) @ weights["W"].astype(np.float64) + weights["b"], 0)


@pytest.mark.parametrize("n", [0, 1, 255, 256, 257, 100_000])
def test_kernel_with_scalar_and_initial_output_computes(
    build: Build, rng: np.random.Generator, n: int
) -> None:
    x, y = rng.normal(size=(2, n)).astype(np.float32)
    before = y.copy()
    with open_artifact(build(saxpy_program())) as runtime:
        result = runtime.execute(2.5, x, y)
    np.testing.assert_allclose(result, 2.5 * x.astype(np.float64) + y, rtol=1e-6, atol=1e-6)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(y, before)


@pytest.mark.parametrize("batch", [0, 1, 7, 64, 4096])
def test_plan_with_setup_gemm_and_arena_computes_any_batch(
    build: Build, rng: np.random.Generator, batch: int
) -> None:
    weights = mlp_weights(rng)
    x = rng.normal(size=(batch, WIDTH)).astype(bf16.numpy)
    runtime = open_artifact(build(mlp_program(), constants=weights))
    result = runtime.execute(x)
    assert result.dtype == bf16.numpy
    assert result.shape == (batch, HIDDEN)
    # Cut off to 8 bits of mantissa.
    np.testing.assert_allclose(result.astype(np.float64), mlp(x, weights), rtol=2**-7, atol=2**-7)
    runtime.close()


def test_shapes_seen_before_give_the_same_result(build: Build, rng: np.random.Generator) -> None:
    runtime = open_artifact(build(softmax_program()))
    for shape in [(3, 5), (5, 3), (3, 5), (1, 1), (2, 1000), (3, 5)]:
        x = rng.normal(size=shape).astype(np.float32)
        np.testing.assert_allclose(runtime.execute(x), softmax(x), rtol=1e-5, atol=1e-7)


def test_more_shapes_than_are_kept_still_work(build: Build, rng: np.random.Generator) -> None:
    runtime = open_artifact(build(softmax_program()))
    for columns in [*range(1, 300), 1, 2]:
        x = rng.normal(size=(2, columns)).astype(np.float32)
        np.testing.assert_allclose(runtime.execute(x), softmax(x), rtol=1e-5, atol=1e-6)


def test_large_launch_is_shared_among_threads(
    build: Build, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tessera.runtime.cpu.SPLIT_NS", 0)
    x = rng.normal(size=(999, 257)).astype(np.float32)
    runtime = open_artifact(build(softmax_program()))
    for _ in range(5):
        np.testing.assert_allclose(runtime.execute(x), softmax(x), rtol=1e-5, atol=1e-7)


def test_nan_and_infinity_pass_through_without_warning(build: Build) -> None:
    runtime = open_artifact(build(softmax_program(), saxpy_program()))
    result = runtime.execute("softmax", [[np.nan, 1.0], [0.0, 0.0]])
    assert np.isnan(result[0]).all()
    np.testing.assert_allclose(result[1], 0.5)
    assert np.isinf(runtime.execute("saxpy", 3e38, [3e38], [0.0]))[0]


def test_gemm_overflow_gives_infinity_without_warning(build: Build, rng: np.random.Generator) -> None:
    weights = mlp_weights(rng)
    x = np.full((2, WIDTH), 3e38, bf16.numpy)
    result = open_artifact(build(mlp_program(), constants=weights)).execute(x)
    assert not np.isfinite(result.astype(np.float32)).all()


def test_inputs_that_are_not_contiguous_are_copied(build: Build, rng: np.random.Generator) -> None:
    x = rng.normal(size=(6, 4)).astype(np.float32)
    runtime = open_artifact(build(softmax_program()))
    np.testing.assert_allclose(runtime.execute(x.T), softmax(x.T), rtol=1e-5)
    np.testing.assert_allclose(runtime.execute(x[::-1, ::2]), softmax(x[::-1, ::2]), rtol=1e-5)
    misaligned = np.frombuffer(b"\0" + x.tobytes(), np.float32, offset=1).reshape(x.shape)
    np.testing.assert_allclose(runtime.execute(misaligned), softmax(x), rtol=1e-5)


def test_read_only_inputs_are_taken(build: Build, rng: np.random.Generator) -> None:
    x = rng.normal(size=(6, 4)).astype(np.float32)
    x.flags.writeable = False
    runtime = open_artifact(build(softmax_program()))
    np.testing.assert_allclose(runtime.execute(x), softmax(x), rtol=1e-5)


def test_threads_share_one_runtime(build: Build, rng: np.random.Generator) -> None:
    weights = mlp_weights(rng)
    runtime = open_artifact(build(mlp_program(), constants=weights))
    failures: list[object] = []

    def work(seed: int) -> None:
        own = np.random.default_rng(seed)
        for _ in range(40):
            x = own.normal(size=(int(own.integers(1, 40)), WIDTH)).astype(bf16.numpy)
            result = runtime.execute(x).astype(np.float64)
            if not np.allclose(result, mlp(x, weights), rtol=2**-7, atol=2**-7):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert runtime.memory_usage()["in_use_bytes"] == 0


def test_result_is_not_overwritten_by_the_next_call(build: Build, rng: np.random.Generator) -> None:
    runtime = open_artifact(build(softmax_program()))
    x = rng.normal(size=(3, 5)).astype(np.float32)
    first = runtime.execute(x)
    kept = first.copy()
    runtime.execute(-x)
    np.testing.assert_array_equal(first, kept)


def test_memory_limit_is_enforced_and_says_what_is_missing(build: Build, rng: np.random.Generator) -> None:
    runtime = open_artifact(build(mlp_program(), constants=mlp_weights(rng)), memory_pool_size="64KB")
    runtime.execute(np.zeros((64, WIDTH), bf16.numpy))
    with pytest.raises(OutOfMemoryError, match=r"64\.0 KiB") as caught:
        runtime.execute(np.zeros((1000, WIDTH), bf16.numpy))
    assert caught.value.required == 1000 * (WIDTH + HIDDEN) * 4
    assert caught.value.available == 65536
    assert "memory_pool_size" in str(caught.value)
    runtime.execute(np.zeros((64, WIDTH), bf16.numpy))
    assert runtime.memory_usage()["reserved_bytes"] <= 65536


def test_program_without_code_for_this_cpu_says_what_there_is(build: Build) -> None:
    import msgspec

    program = softmax_program()
    only_gpu = msgspec.structs.replace(
        program, plans=tuple(msgspec.structs.replace(p, targets=("sm_80", "sm_90")) for p in program.plans)
    )
    with pytest.raises(DeviceError, match=r"'softmax' has no code for this CPU .*sm_80, sm_90") as caught:
        open_artifact(build(only_gpu))
    assert "--arch cpu" in (caught.value.hint or "")


def test_kernel_missing_from_the_library_is_named(build: Build) -> None:
    import msgspec

    program = softmax_program()
    plan = program.plans[0]
    renamed = msgspec.structs.replace(
        plan, steps=(msgspec.structs.replace(plan.steps[0], kernel="narrower"),)
    )
    artifact = build(msgspec.structs.replace(program, plans=(renamed,)))
    with pytest.raises(DeviceError, match="narrower"):
        open_artifact(artifact)


def test_library_that_is_no_library_is_a_device_error(build: Build) -> None:
    from dataclasses import replace

    artifact = build(softmax_program())
    broken = replace(artifact.binaries[0], data=b"not an ELF file")
    with pytest.raises(DeviceError, match="cannot be loaded on this machine"):
        open_artifact(replace(artifact, binaries=(broken,)))


def test_library_loads_from_a_folder_where_memory_files_are_not_allowed(
    build: Build, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("os.memfd_create")
    x = rng.normal(size=(6, 4)).astype(np.float32)
    np.testing.assert_allclose(open_artifact(build(softmax_program())).execute(x), softmax(x), rtol=1e-5)


def test_libraries_of_closed_runtimes_do_not_stand_in_for_later_ones(
    build: Build, rng: np.random.Generator
) -> None:
    # The dynamic loader knows a library by its path, and descriptor numbers are reused.
    for _ in range(3):
        x = rng.normal(size=(4, 4)).astype(np.float32)
        first = open_artifact(build(softmax_program()))
        np.testing.assert_allclose(first.execute(x), softmax(x), rtol=1e-5)
        first.close()
        del first


def test_wrong_shape_names_input_axis_and_size(build: Build, rng: np.random.Generator) -> None:
    runtime = open_artifact(build(mlp_program(), constants=mlp_weights(rng)))
    with pytest.raises(InputError, match=r"'x' .*axis 1 is 5, expected 16"):
        runtime.execute(np.zeros((2, 5), np.float32))
    with pytest.raises(InputError, match=r"'x' .*1 axes, expected 2"):
        runtime.execute(np.zeros(WIDTH, np.float32))


@pytest.mark.parametrize("k", [0, 1, 5])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("transpose_a", "transpose_b"), [(False, False), (True, False), (False, True)])
def test_product_reads_its_matrices_in_place(
    build: Build, rng: np.random.Generator, k: int, batch: int, transpose_a: bool, transpose_b: bool
) -> None:
    m, n = 4, 6
    a_shape = (batch, k, m) if transpose_a else (batch, m, k)
    b_shape = (n, k) if transpose_b else (k, n)
    gemm = Gemm(
        dtype=f64,
        m=m,
        n=n,
        k=k,
        batch=batch,
        stride_a=m * k,
        stride_c=m * n,
        transpose_a=transpose_a,
        transpose_b=transpose_b,
        a=Pointer(space="input", name="a"),
        b=Pointer(space="input", name="b"),
        c=Pointer(space="output", name="c"),
    )
    program = Program(
        name="product",
        inputs=(Port(name="a", dtype=f64, shape=a_shape), Port(name="b", dtype=f64, shape=b_shape)),
        outputs=(Port(name="c", dtype=f64, shape=(batch, m, n)),),
        plans=(plan(gemm),),
    )
    a, b = rng.normal(size=a_shape), rng.normal(size=b_shape)
    expected = (a.swapaxes(1, 2) if transpose_a else a) @ (b.T if transpose_b else b)
    np.testing.assert_allclose(open_artifact(build(program)).execute(a, b), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(
    importlib.util.find_spec("tessera.runtime.emulator") is not None, reason="there is an emulator"
)
def test_device_that_this_version_lacks_says_so(build: Build) -> None:
    with pytest.raises(DeviceError, match="'emulator' is not part of this version"):
        open_artifact(build(softmax_program()), "emulator", strict_device=True)
    with pytest.warns(DeviceFallbackWarning, match="running on cpu instead"):
        assert open_artifact(build(softmax_program()), "emulator").device == "cpu"
