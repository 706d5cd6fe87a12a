"""`workspace=`: executions in memory that the caller lends from a pool."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from handmade import HIDDEN, WIDTH, mlp_program, mlp_weights, saxpy_program, softmax_program

from tessera.deploy import Runtime, create_memory_pool, open_artifact
from tessera.program.artifact import Artifact
from tessera.program.dtype import bf16, f32
from tessera.program.errors import ConfigError, DeviceError, InputError, OutOfMemoryError
from tessera.program.graph import Graph, Node
from tessera.program.program import Port, Program

Build = Callable[..., Artifact]


@pytest.fixture
def runtime(build: Build) -> Runtime:
    return open_artifact(build(mlp_program(), constants=mlp_weights(np.random.default_rng(1))))


def rows(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.normal(size=(count, WIDTH)).astype(bf16.numpy)


def test_lent_memory_gives_the_same_result_and_is_used_again(
    runtime: Runtime, rng: np.random.Generator
) -> None:
    x = rows(rng, 64)
    expected = runtime.execute(x)
    before = runtime.memory_usage()
    pool = create_memory_pool("8MB")
    for _ in range(5):
        with pool.get_buffer() as buffer:
            np.testing.assert_array_equal(runtime.execute(x, workspace=buffer), expected)
            assert pool.usage()["in_use_bytes"] == buffer.bytes > 0
            assert (buffer.device, pool.device) == ("cpu", "cpu")
    assert pool.allocations == 1
    assert pool.usage()["in_use_bytes"] == 0
    assert pool.usage()["limit_bytes"] == 8 << 20
    assert runtime.memory_usage() == before


def test_buffer_grows_with_what_is_run_in_it(runtime: Runtime, rng: np.random.Generator) -> None:
    pool = create_memory_pool(None)
    with pool.get_buffer() as buffer:
        assert (buffer.bytes, buffer.device) == (0, None)
        sizes = []
        for count in (4, 400, 40):
            x = rows(rng, count)
            np.testing.assert_array_equal(runtime.execute(x, workspace=buffer), runtime.execute(x))
            sizes.append(buffer.bytes)
    assert sizes[0] < sizes[1] == sizes[2]
    assert pool.usage()["reserved_bytes"] >= sizes[2]
    assert pool.trim() >= sizes[2]
    assert pool.usage()["reserved_bytes"] == 0


def test_models_share_one_pool(build: Build, runtime: Runtime, rng: np.random.Generator) -> None:
    other = open_artifact(build(softmax_program()))
    x, y = rows(rng, 32), rng.normal(size=(32, WIDTH)).astype(np.float32)
    pool = create_memory_pool("8MB")
    with pool.get_buffer() as buffer:
        first = runtime.execute(x, workspace=buffer)
        np.testing.assert_array_equal(other.execute(y, workspace=buffer), other.execute(y))
    np.testing.assert_array_equal(first, runtime.execute(x))
    assert pool.allocations == 1


def test_batches_run_in_lent_memory(runtime: Runtime, rng: np.random.Generator) -> None:
    x = rows(rng, 10)
    pool = create_memory_pool("8MB")
    with pool.get_buffer() as buffer:
        outputs = runtime.execute_batch(x, max_batch_size=4, workspace=buffer)
    assert outputs.shape == (10, HIDDEN)
    assert pool.usage()["peak_bytes"] > 0


def test_exhausted_pool_says_what_is_needed_what_is_free_and_what_to_do(
    runtime: Runtime, rng: np.random.Generator
) -> None:
    x = rows(rng, 64)
    pool = create_memory_pool("64KB")
    with pool.get_buffer() as first, pool.get_buffer() as second:
        runtime.execute(x, workspace=first)
        free = (64 << 10) - first.bytes
        with pytest.raises(OutOfMemoryError, match="of working memory are needed") as caught:
            runtime.execute(rows(rng, 512), workspace=second)
        assert caught.value.available == free
        assert caught.value.required > free
        assert "create_memory_pool with more" in str(caught.value)
        # It is the pool that is full, not the first buffer that is lost.
        runtime.execute(x, workspace=first)
    assert pool.usage()["in_use_bytes"] == 0


def test_execution_over_max_workspace_size_is_refused(runtime: Runtime, rng: np.random.Generator) -> None:
    pool = create_memory_pool("8MB", max_workspace_size="16KB")
    with pool.get_buffer() as buffer:
        runtime.execute(rows(rng, 4), workspace=buffer)
        with pytest.raises(OutOfMemoryError, match=r"max_workspace_size allows 16\.0 KiB"):
            runtime.execute(rows(rng, 512), workspace=buffer)
        runtime.execute(rows(rng, 4), workspace=buffer)


def test_threads_that_share_a_buffer_wait_for_each_other(runtime: Runtime, rng: np.random.Generator) -> None:
    inputs = [rows(rng, 16 + i) for i in range(4)]
    expected = [runtime.execute(x) for x in inputs]
    wrong: list[int] = []
    with create_memory_pool("8MB").get_buffer() as buffer:

        def work(index: int) -> None:
            for _ in range(50):
                if not np.array_equal(runtime.execute(inputs[index], workspace=buffer), expected[index]):
                    wrong.append(index)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.parametrize("size", ["8 apples", "", 0, -1, 1.5, True, "0GB"])
def test_size_that_is_no_size_is_named(size: object) -> None:
    with pytest.raises(ConfigError, match=r"memory pool: .* is not a size"):
        create_memory_pool(size)
    with pytest.raises(ConfigError, match="max_workspace_size"):
        create_memory_pool("8GB", max_workspace_size=size)


def test_workspace_larger_than_the_pool_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_workspace_size is 2\.0 GiB, the whole pool 1\.0 GiB"):
        create_memory_pool("1GB", max_workspace_size="2GB")


@pytest.mark.parametrize("wrong", [5, "8GB", b"", np.empty(8)])
def test_what_is_no_buffer_is_refused(runtime: Runtime, rng: np.random.Generator, wrong: object) -> None:
    with pytest.raises(InputError, match="workspace= takes a buffer of a memory pool"):
        runtime.execute(rows(rng, 2), workspace=wrong)


def test_buffer_outside_its_block_is_refused(runtime: Runtime, rng: np.random.Generator) -> None:
    buffer = create_memory_pool("8MB").get_buffer()
    x = rows(rng, 2)
    with pytest.raises(InputError, match="outside its block"):
        runtime.execute(x, workspace=buffer)
    with buffer:
        runtime.execute(x, workspace=buffer)
        with pytest.raises(InputError, match="entered twice"):
            buffer.__enter__()
    with pytest.raises(InputError, match="outside its block"):
        runtime.execute(x, workspace=buffer)


def test_device_without_lent_memory_says_so() -> None:
    nodes = (
        Node(op="input", attrs={"name": "x"}, shape=(4,), dtype=f32),
        Node(op="relu", inputs=(0,), shape=(4,), dtype=f32),
    )
    port = Port(name="x", dtype=f32, shape=(4,))
    graph = Graph(name="relu", nodes=nodes, outputs=(1,))
    program = Program(
        name="relu", inputs=(port,), outputs=(Port(name="output", dtype=f32, shape=(4,)),), graph=graph
    )
    runtime = open_artifact(Artifact((program,), ()), "reference")
    with create_memory_pool("8MB").get_buffer() as buffer, pytest.raises(DeviceError, match="no workspace"):
        runtime.execute(np.ones(4, np.float32), workspace=buffer)


def test_failed_call_leaves_the_buffer_usable(build: Build, rng: np.random.Generator) -> None:
    runtime = open_artifact(build(saxpy_program()))
    x, y = rng.normal(size=(2, 9)).astype(np.float32)
    with create_memory_pool("8MB").get_buffer() as buffer:
        with pytest.raises(InputError):
            runtime.execute(1.0, x, y[:5], workspace=buffer)
        np.testing.assert_allclose(runtime.execute(1.0, x, y, workspace=buffer), x + y, rtol=1e-6)
