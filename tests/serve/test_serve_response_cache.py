"""The cache of answers: what it keeps, for how long, and for whom."""

import re
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import WEIGHT, NumpyModel, linear_model, linear_program

from tessera.program.dtype import bf16
from tessera.serve import ProductionServer
from tessera.serve.response_cache import ENTRY_BYTES, ResponseCache, key_of


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def ones(count: int) -> dict[str, np.ndarray[Any, Any]]:
    return {"y": np.ones(count, np.uint8)}


def test_equal_inputs_are_answered_without_the_model(rng: np.random.Generator) -> None:
    model = linear_model()
    with ProductionServer(model, {"port": 0, "cache_bytes": 1 << 20}) as server:
        warm_up = len(model.batches)
        x, other = rng.standard_normal((2, 3, 4)).astype(np.float32)
        for each in (x, x, other, x):
            answer = httpx.post(f"{server.url}/predict", json={"input": each.tolist()}).json()["output"]
            np.testing.assert_allclose(answer, each.astype(np.float64) @ WEIGHT, rtol=1e-5, atol=1e-5)
        assert len(model.batches) - warm_up == 2
        text = httpx.get(f"{server.url}/metrics").text
        counts = {
            n: float(v) for n, v in re.findall(r"^nv_cache_num_(\w+)_per_model\{.*\} (\S+)$", text, re.M)
        }
        assert counts == {"hits": 2, "misses": 2}


def test_nothing_is_kept_by_default() -> None:
    model = linear_model()
    with ProductionServer(model, {"port": 0}) as server:
        warm_up = len(model.batches)
        for _ in range(3):
            httpx.post(f"{server.url}/predict", json={"input": [[1, 2, 3, 4]]}).raise_for_status()
        assert len(model.batches) - warm_up == 3


def test_errors_are_not_kept() -> None:
    calls = []

    def fails_once(x: np.ndarray[Any, Any]) -> dict[str, Any]:
        calls.append(len(x))
        if x.any() and sum(1 for n in calls if n == 2) == 1:
            raise RuntimeError("once")
        return {"output": x @ WEIGHT}

    model = NumpyModel(linear_program(), fails_once)
    with ProductionServer(model, {"port": 0, "cache_bytes": 1 << 20, "max_batch_size": 1}) as server:
        body = {"input": [[1, 2, 3, 4], [5, 6, 7, 8]]}
        statuses = [httpx.post(f"{server.url}/predict", json=body).status_code for _ in range(3)]
        assert statuses[-1] == 200


def test_restarted_server_has_forgotten() -> None:
    model = linear_model()
    server = ProductionServer(model, {"port": 0, "cache_bytes": 1 << 20})
    counts = []
    for _ in range(2):
        with server:
            before = len(model.batches)
            httpx.post(f"{server.url}/predict", json={"input": [[1, 2, 3, 4]]}).raise_for_status()
            counts.append(len(model.batches) - before)
    assert counts == [1, 1]


def test_answer_ends_with_its_time() -> None:
    clock = Clock()
    cache = ResponseCache(1 << 20, 10.0, clock=clock)
    cache.put(b"a", ones(5))
    clock.now_s = 9.9
    assert cache.get(b"a") is not None
    clock.now_s = 10.0
    assert cache.get(b"a") is None
    assert (len(cache), cache.bytes) == (0, 0)


def test_what_was_asked_for_longest_ago_makes_room() -> None:
    cache = ResponseCache(3 * (ENTRY_BYTES + 100), 10.0)
    for key in (b"a", b"b", b"c"):
        cache.put(key, ones(100))
    cache.get(b"a")
    cache.put(b"d", ones(100))
    assert [k for k in (b"a", b"b", b"c", b"d") if cache.get(k)] == [b"a", b"c", b"d"]
    cache.put(b"e", ones(1 << 20))
    assert cache.get(b"e") is None
    assert len(cache) == 3


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5000)), max_size=60), st.integers(0, 20_000))
def test_bytes_are_bounded_and_add_up(puts: list[tuple[int, int]], limit: int) -> None:
    cache = ResponseCache(limit, 10.0)
    kept: dict[bytes, int] = {}
    for key, count in puts:
        cache.put(bytes([key]), ones(count))
        if ENTRY_BYTES + count <= limit:
            kept[bytes([key])] = count
        assert cache.bytes <= limit
    assert cache.bytes == sum(ENTRY_BYTES + kept[k] for k in kept if cache.get(k))
    cache.clear()
    assert (cache.bytes, len(cache)) == (0, 0)


def test_kept_answers_are_copies_that_nobody_changes() -> None:
    cache = ResponseCache(1 << 20, 10.0)
    batch = np.arange(10.0)
    cache.put(b"a", {"y": batch[2:4]})
    batch[:] = 0
    found = cache.get(b"a")
    assert found is not None
    assert found["y"].tolist() == [2.0, 3.0]
    assert found["y"].base is None
    with pytest.raises(ValueError, match="read-only"):
        found["y"][0] = 1


def test_keys_differ_by_name_dtype_shape_and_every_bit() -> None:
    x = np.arange(6, dtype=np.float32)
    inputs: list[dict[str, Any]] = [
        {"x": x},
        {"y": x},
        {"x": x.reshape(2, 3)},
        {"x": x.reshape(3, 2)},
        {"x": x.view(np.int32)},
        {"x": x.astype(np.float64)},
        {"x": x[:3], "y": x[3:]},
        {"x": x[:4], "y": x[4:]},
        {"x": np.empty(0, np.float32)},
        {"x": np.float32(0)},
        {"x": np.float32(-0.0)},
        {"x": np.zeros(1, bf16.numpy)},
        {"x": np.zeros(1, np.float16)},
    ]
    made = [key_of({k: np.asarray(v) for k, v in each.items()}) for each in inputs]
    assert len(set(made)) == len(made)
    assert key_of({"x": x}) == key_of({"x": x.copy()})
