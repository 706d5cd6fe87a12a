"""`ErrorRecovery`: what is tried again, what is not, and who answers in the end."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from handmade import saxpy_program

from tessera.deploy import ErrorRecovery, clear_gpu_cache, create_memory_pool, load_model, open_artifact
from tessera.package import Package
from tessera.program.artifact import Artifact
from tessera.program.errors import (
    ConfigError,
    DeviceError,
    InputError,
    OutOfMemoryError,
    OverloadedError,
    PackageError,
)
from tessera.runtime.recovery import RecoveryCounts


@pytest.fixture(scope="module")
def stable(build: Callable[..., Artifact], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of `a * x + y`."""
    path = tmp_path_factory.mktemp("stable") / "stable.tsd"
    return Package.from_artifact(build(saxpy_program()), name="stable").save(path)


class Flaky:
    """Fails so many times, then answers."""

    def __init__(self, failures: int, error: BaseException | None = None) -> None:
        self.left = failures
        self.calls = 0
        self.error = error or DeviceError("the device is away")

    def __call__(self, *args: object) -> str:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return "answer"


def test_call_that_fails_in_passing_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    recovery = ErrorRecovery(max_retries=3, retry_delay_ms=0)
    flaky = Flaky(2)
    with caplog.at_level(logging.WARNING, "tessera.recovery"):
        assert recovery.with_recovery(flaky)(1) == "answer"
    assert flaky.calls == 3
    assert recovery.counts == RecoveryCounts(calls=1, retries=2)
    assert caplog.text.count("the device is away") == 2


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_without_a_fallback_the_last_error_is_raised(retries: int) -> None:
    recovery = ErrorRecovery(max_retries=retries, retry_delay_ms=0)
    flaky = Flaky(99)
    with pytest.raises(DeviceError, match="the device is away"):
        recovery.with_recovery(flaky)()
    assert flaky.calls == retries + 1
    assert recovery.counts == RecoveryCounts(calls=1, retries=retries, failures=1)


@pytest.mark.parametrize("error", [InputError("wrong shape"), ValueError("no"), KeyError("x")])
def test_error_that_stays_is_neither_tried_again_nor_handed_on(stable: Path, error: Exception) -> None:
    recovery = ErrorRecovery(retry_delay_ms=0, fallback_model=stable, device="cpu")
    flaky = Flaky(1, error)
    with pytest.raises(type(error)):
        recovery.with_recovery(flaky)(1.0)
    assert flaky.calls == 1
    assert recovery.counts == RecoveryCounts(calls=1)


@pytest.mark.parametrize(
    "error",
    [OverloadedError("full"), OutOfMemoryError("full"), ConnectionResetError("gone"), TimeoutError("late")],
)
def test_fallback_model_answers_where_every_try_fails(
    stable: Path, rng: np.random.Generator, error: Exception
) -> None:
    recovery = ErrorRecovery(1, 0, stable, device="cpu")
    x, y = rng.normal(size=(2, 50)).astype(np.float32)
    guarded = recovery.with_recovery(Flaky(99, error))
    np.testing.assert_allclose(guarded(2.0, x, y), 2 * x + y, rtol=1e-6)
    np.testing.assert_allclose(guarded(3.0, x, y), 3 * x + y, rtol=1e-6)
    assert recovery.counts == RecoveryCounts(calls=2, retries=2, fallbacks=2)


def test_open_model_may_be_the_fallback(stable: Path, rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(2, 5)).astype(np.float32)
    with load_model(stable, device="cpu") as model:
        recovery = ErrorRecovery(0, 0, model)
        assert recovery.fallback is model
        np.testing.assert_allclose(recovery.with_recovery(Flaky(1))(1.0, x, y), x + y, rtol=1e-6)


def test_methods_and_names_reach_the_fallback_model(stable: Path, rng: np.random.Generator) -> None:
    recovery = ErrorRecovery(0, 0, stable, device="cpu")
    names = [port.name for port in load_model(stable, device="cpu").program.inputs]
    x, y = rng.normal(size=(2, 5)).astype(np.float32)

    class Service:
        @recovery.with_recovery
        def infer(self, *args: object, **kwargs: object) -> object:
            raise DeviceError("the device is away")

    service = Service()
    np.testing.assert_allclose(service.infer(2.0, x, y), 2 * x + y, rtol=1e-6)
    named = service.infer(**dict(zip(names, (2.0, x, y), strict=True)))
    np.testing.assert_allclose(named, 2 * x + y, rtol=1e-6)
    with pytest.raises(InputError, match="by position or by name"):
        service.infer(2.0, x, y=y)


def test_fallback_that_fails_too_names_both_errors(stable: Path) -> None:
    recovery = ErrorRecovery(0, 0, stable, device="cpu")
    with pytest.raises(InputError) as caught:
        recovery.with_recovery(Flaky(1))(2.0)
    assert isinstance(caught.value.__cause__, DeviceError)
    assert recovery.counts == RecoveryCounts(calls=1, failures=1)


def test_async_functions_are_guarded_as_well(stable: Path, rng: np.random.Generator) -> None:
    recovery = ErrorRecovery(1, 0, stable, device="cpu")
    x, y = rng.normal(size=(2, 5)).astype(np.float32)
    flaky = Flaky(3)

    @recovery.with_recovery
    async def infer(*args: object) -> object:
        return flaky(*args)

    assert inspect.iscoroutinefunction(infer)
    np.testing.assert_allclose(asyncio.run(infer(2.0, x, y)), 2 * x + y, rtol=1e-6)
    assert asyncio.run(infer(2.0, x, y)) == "answer"
    assert recovery.counts == RecoveryCounts(calls=2, retries=2, fallbacks=1)


def test_only_errors_that_were_named_are_tried_again() -> None:
    recovery = ErrorRecovery(2, 0, retry_on=(KeyError,))
    assert recovery.with_recovery(Flaky(2, KeyError("x")))() == "answer"
    with pytest.raises(DeviceError):
        recovery.with_recovery(Flaky(1))()


def test_running_out_of_memory_gives_idle_memory_back(
    build: Callable[..., Artifact], rng: np.random.Generator
) -> None:
    x, y = rng.normal(size=(2, 4096)).astype(np.float32)
    runtime = open_artifact(large_arena(build(saxpy_program())))
    runtime.execute(2.0, x, y)
    assert runtime.memory_usage()["reserved_bytes"] > 0
    assert clear_gpu_cache() == 0
    assert runtime.memory_usage()["reserved_bytes"] > 0
    flaky = Flaky(1, OutOfMemoryError("full", required=2, available=1))
    assert ErrorRecovery(1, 0).with_recovery(flaky)() == "answer"
    assert runtime.memory_usage()["reserved_bytes"] == 0
    np.testing.assert_allclose(runtime.execute(2.0, x, y), 2 * x + y, rtol=1e-6)


def large_arena(artifact: Artifact) -> Artifact:
    """The artifact's program, with working memory that it does not need."""
    (program,) = artifact.programs
    plans = tuple(msgspec.structs.replace(plan, arena_bytes=1 << 16) for plan in program.plans)
    return replace(artifact, programs=(msgspec.structs.replace(program, plans=plans),))


def test_memory_in_use_stays(build: Callable[..., Artifact], rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(2, 16)).astype(np.float32)
    pool = create_memory_pool("1MB")
    runtime = open_artifact(large_arena(build(saxpy_program())))
    with pool.get_buffer() as buffer:
        runtime.execute(2.0, x, y, workspace=buffer)
        with pytest.raises(OutOfMemoryError):
            ErrorRecovery(0, 0).with_recovery(Flaky(1, OutOfMemoryError("full")))()
        assert pool.usage()["in_use_bytes"] == buffer.bytes > 0
        np.testing.assert_allclose(runtime.execute(2.0, x, y, workspace=buffer), 2 * x + y, rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"max_retries": -1},
        {"max_retries": 1.5},
        {"max_retries": True},
        {"retry_delay_ms": -1},
        {"retry_delay_ms": float("nan")},
        {"retry_delay_ms": "soon"},
    ],
)
def test_numbers_that_are_none_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        ErrorRecovery(**options)


def test_fallback_that_is_no_package_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(PackageError):
        ErrorRecovery(fallback_model=tmp_path / "missing.tsd")
    (tmp_path / "broken.tsd").write_bytes(b"no package")
    with pytest.raises(PackageError):
        ErrorRecovery(fallback_model=tmp_path / "broken.tsd")
