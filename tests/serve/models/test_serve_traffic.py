"""Requests that are split among models, and copied to others."""

import hashlib
import math
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scaled_models import ScaledModel, scale_of
from test_serve_lifecycle import Load, wait_until

from tessera.deploy import MultiModelServer, ProductionServer
from tessera.program.errors import ConfigError, ServeError
from tessera.serve.models.route import make_plan
from tessera.serve.models.shadow import Shadow, alike
from tessera.serve.models.split import TrafficSplit

X = [[1.0, 2.0, 3.0, 4.0]]
WEIGHTS = st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 10), min_size=1)


def chosen(split: TrafficSplit, keys: int) -> list[str]:
    """The target of each of the keys `user-0`, `user-1`…"""
    return [split.ranked(f"user-{i}", random.random)[0] for i in range(keys)]


def assert_shares(found: list[str], weights: dict[str, float]) -> None:
    """Each target's count is within five standard deviations of its weight's."""
    counts, total = Counter(found), sum(weights.values())
    for target, weight in weights.items():
        share = weight / total
        deviation = math.sqrt(len(found) * share * (1 - share))
        assert abs(counts[target] - len(found) * share) <= 5 * deviation + 1e-6


@given(WEIGHTS, st.text())
def test_keys_are_spread_as_the_weights_say(weights: dict[str, float], salt: str) -> None:
    assert_shares(chosen(TrafficSplit(weights, salt), 2000), weights)


@given(WEIGHTS, st.integers(0, 1 << 30))
def test_requests_without_a_key_are_drawn_as_the_weights_say(weights: dict[str, float], seed: int) -> None:
    draw = random.Random(seed).random
    split = TrafficSplit(weights)
    assert_shares([split.ranked(None, draw)[0] for _ in range(2000)], weights)


def test_the_hash_is_the_one_that_is_documented() -> None:
    weights = {"v1": 0.7, "v2": 0.2, "v3": 0.1}

    def score(target: str, key: str) -> float:
        digest = hashlib.blake2b(f"/predict\0{target}\0{key}".encode(), digest_size=8).digest()
        return weights[target] / -math.log((int.from_bytes(digest, "big") + 0.5) / 2**64)

    split = TrafficSplit(weights, "/predict")
    for i in range(500):
        key = f"user-{i}"
        assert split.ranked(key, random.random) == sorted(weights, key=lambda t: -score(t, key))
    # The same in every process and version: callers would change sides otherwise.
    assert "".join(t[1] for t in chosen(split, 40)) == PINNED


PINNED = "2112111121131211111121111111111113131223"


@given(WEIGHTS, WEIGHTS)
def test_a_change_of_weights_moves_keys_only_to_targets_that_grew(
    before: dict[str, float], after: dict[str, float]
) -> None:
    old, new = chosen(TrafficSplit(before), 2000), chosen(TrafficSplit(after), 2000)

    def share(weights: dict[str, float], target: str) -> float:
        return weights.get(target, 0.0) / sum(weights.values())

    # Rendezvous hashing: what moves from a to b does so because b grew against a.
    ratio = {t: after.get(t, 0.0) / before[t] if t in before else math.inf for t in {*before, *after}}
    assert all(ratio[b] >= ratio[a] * (1 - 1e-9) for a, b in zip(old, new, strict=True) if a != b)
    moved = sum(a != b for a, b in zip(old, new, strict=True)) / 2000
    least = sum(max(0.0, share(after, t) - share(before, t)) for t in after)
    assert moved >= least - 5 * math.sqrt(0.25 / 2000)


def test_splits_of_other_paths_are_independent() -> None:
    weights = {"a": 0.5, "b": 0.5}
    one, two = (chosen(TrafficSplit(weights, salt), 4000) for salt in ("/one", "/two"))
    both = sum(a == b for a, b in zip(one, two, strict=True))
    assert abs(both - 2000) < 5 * math.sqrt(1000)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"split": {}}, "no targets"),
        ({"split": {"a": -1}}, "weight of 'a' is -1"),
        ({"split": {"a": math.nan}}, "weight of 'a' is nan"),
        ({"split": {"a": True}}, "weight of 'a' is True"),
        ({"split": {"a": 0}}, "every weight"),
        ({"split": {"a@": 1}}, "'a@' names no model"),
        ({"split": {"@1": 1}}, "'@1' names no model"),
        ({"split": ["a"]}, "the split of '/x'"),
        ({"split": {"a": 1}, "key": "cookie:user"}, "'cookie:user' is no place"),
        ({"split": {"a": 1}, "key": "header:"}, "'header:' is no place"),
        ({"split": {"a": 1}, "shadow": {"target": "b", "share": 2}}, "share is 2"),
        ({"split": {"a": 1}, "shadow": {"goal": "b"}}, "goal"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_plan("/x", **settings)
    assert part in caught.value.message


def make_server(**settings: Any) -> MultiModelServer:
    """A server of `m` in the versions 1, 2 and 3, whose scales are these."""
    server = MultiModelServer({"port": 0, "device": "reference", **settings})
    for scale in (1, 2, 3):
        server.register_model("m", ScaledModel(scale), version=str(scale))
    return server


def variant(answer: httpx.Response) -> int:
    """The model that answered, by its output and by the header, which agree."""
    assert answer.status_code == 200, answer.text
    scale = round(scale_of(X, answer.json()["output"]))
    assert answer.headers["X-Tessera-Model"] == f"m@{scale}"
    return scale


def test_callers_stay_with_their_model_wherever_the_key_is() -> None:
    server = make_server()
    split = {"m@1": 0.5, "m@2": 0.5}
    server.route("/field", split, key="user")
    server.route("/header", split, key="header:X-User")
    server.route("/query", split, key="query:user")
    server.route("/path/{user}", split, key="path:user")
    with server, httpx.Client(base_url=server.url, timeout=20) as client:

        def ask(user: str) -> list[int]:
            return [
                variant(client.post("/field", json={"input": X, "user": user})),
                variant(client.post("/header", json={"input": X}, headers={"x-user": user})),
                variant(client.post(f"/query?user={user}", json={"input": X})),
                variant(client.post(f"/path/{user}", json={"input": X})),
            ]

        first = [ask(f"u{i}") for i in range(20)]
        assert [ask(f"u{i}") for i in range(20)] == first
        assert {scale for row in first for scale in row} == {1, 2}
        # A number is as good a key as its digits; a list is none.
        by_number, by_text = ({"input": X, "user": key} for key in (7, "7"))
        assert variant(client.post("/field", json=by_number)) == variant(client.post("/field", json=by_text))
        refused = client.post("/field", json={"input": X, "user": ["a"]})
        assert refused.status_code == 400
        assert "'user' is list" in refused.json()["error"]


def test_a_canary_is_asked_by_name_and_otherwise_by_its_share() -> None:
    server = make_server()
    route = server.route("/predict", {"m@1": 1, "m@2": 0}, choose="header:X-Variant", seed=1)
    with server, httpx.Client(base_url=server.url, timeout=20) as client:
        body = {"input": X}
        assert {variant(client.post("/predict", json=body)) for _ in range(10)} == {1}
        assert variant(client.post("/predict", json=body, headers={"X-Variant": "m@2"})) == 2
        refused = client.post("/predict", json=body, headers={"X-Variant": "m@3"})
        assert (refused.status_code, refused.json()["hint"]) == (400, "there is m@1, m@2")
        route.set_split({"m@1": 0.5, "m@2": 0.5})
        drawn = [variant(client.post("/predict", json=body)) for _ in range(60)]
        assert set(drawn) == {1, 2}
        assert route.counts == {"m@1": 10 + drawn.count(1), "m@2": 1 + drawn.count(2)}
        text = client.get("/metrics").text
        assert f'tessera_route_requests_total{{route="/predict",target="m@2"}} {1 + drawn.count(2)}.0' in text


def test_a_target_that_is_not_loaded_costs_no_request() -> None:
    server = make_server()
    server.route("/predict", {"m@1": 0.5, "m@2": 0.5, "new": 0.5}, key="user")
    with server, httpx.Client(base_url=server.url, timeout=20) as client:

        def ask() -> set[int]:
            asked = [client.post("/predict", json={"input": X, "user": f"u{i}"}) for i in range(30)]
            return {variant(answer) for answer in asked}

        assert ask() == {1, 2}
        server.unregister_model("m", "2")
        assert ask() == {1}
        server.unregister_model("m")
        answer = client.post("/predict", json={"input": X})
        assert answer.status_code == 404


def test_changing_the_split_under_load_drops_no_request() -> None:
    server = make_server()
    route = server.route("/predict/m", {"m@1": 1})
    with server:
        load = Load(server)
        load.newest = 3
        draw = random.Random(5)
        for _ in range(100):
            route.set_split({f"m@{scale}": draw.random() + 0.01 for scale in draw.sample((1, 2, 3), 2)})
            time.sleep(0.003)
        load.finish()
    assert load.answers > 100
    assert sum(route.counts.values()) == load.answers
    assert set(route.counts) == {"m@1", "m@2", "m@3"}


def test_routes_are_added_before_the_start_and_once() -> None:
    server = make_server()
    server.route("/predict", {"m": 1})
    with pytest.raises(ServeError, match="two endpoints"):
        server.route("/predict", {"m": 1})
    with server, pytest.raises(ServeError, match="running server"):
        server.route("/other", {"m": 1})


@pytest.fixture
def shadowed() -> Iterator[MultiModelServer]:
    """`m` of scale 1, and beside it an equal one, another one, a broken and a slow one."""
    server = MultiModelServer({"port": 0, "device": "reference"})
    server.register_model("m", ScaledModel(1), version="1")
    server.register_model("same", ScaledModel(1 + 1e-6))
    server.register_model("other", ScaledModel(1.5))
    broken = ScaledModel(1)
    server.register_model("broken", broken)
    server.register_model("slow", ScaledModel(1, seconds=0.3))
    server.route("/predict", {"m": 1})
    with server:
        broken.close()
        yield server


@pytest.mark.parametrize(
    ("target", "result"),
    [("same", "equal"), ("other", "different"), ("broken", "failed"), ("missing", "failed")],
)
def test_copies_are_compared_and_change_no_answer(
    shadowed: MultiModelServer, target: str, result: str
) -> None:
    (route,) = shadowed._routes
    route.set_shadow(target)
    with httpx.Client(base_url=shadowed.url, timeout=20) as client:
        assert [variant(client.post("/predict", json={"input": X})) for _ in range(5)] == [1] * 5
        assert wait_until(lambda: sum(route.shadow_counts.values()) == 5)
        assert route.shadow_counts == {(target, result): 5}
        line = f'tessera_shadow_requests_total{{route="/predict",target="{target}",result="{result}"}} 5.0'
        assert line in client.get("/metrics").text
        route.set_shadow(None)
        variant(client.post("/predict", json={"input": X}))
        assert sum(route.shadow_counts.values()) == 5


def test_slow_shadows_are_bounded_and_hold_no_answer_back(shadowed: MultiModelServer) -> None:
    (route,) = shadowed._routes
    route.set_shadow(Shadow("slow", max_pending=2))
    with httpx.Client(base_url=shadowed.url, timeout=20) as client:
        for _ in range(10):
            variant(client.post("/predict", json={"input": X}))
        # All were answered while copies are still under way.
        assert sum(route.shadow_counts.values()) < 10
        assert route.shadow_counts["slow", "dropped"] >= 1
        assert wait_until(lambda: sum(route.shadow_counts.values()) == 10)
    route.set_shadow(Shadow("same", share=0.0))
    variant(httpx.post(f"{shadowed.url}/predict", json={"input": X}))
    assert ("same", "equal") not in route.shadow_counts


def test_answers_are_alike_within_the_tolerance(rng: np.random.Generator) -> None:
    value = rng.standard_normal((3, 4)).astype(np.float32)
    assert alike({"y": value}, {"y": value * np.float32(1 + 5e-4)}, 1e-3, 0.0)
    assert not alike({"y": value}, {"y": value * np.float32(1 + 5e-3)}, 1e-3, 0.0)
    assert not alike({"y": value}, {"y": value[:2]}, 1.0, 1.0)
    assert not alike({"y": value}, {"z": value}, 1.0, 1.0)
    assert alike({"y": np.array([np.nan, np.inf])}, {"y": np.array([np.nan, np.inf])}, 0.0, 0.0)
    assert not alike({"y": np.array([2**53])}, {"y": np.array([2**53 + 1])}, 0.0, 0.0)


def test_an_alias_splits_clients_of_every_protocol() -> None:
    server = make_server()
    alias = server.alias("both", {"m@1": 0.5, "m@2": 0.5, "gone": 1.0}, seed=3)
    with server, httpx.Client(base_url=server.url, timeout=20) as client:
        body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": X[0]}]}

        def ask() -> int:
            answer = client.post("/v2/models/both/infer", json=body).raise_for_status().json()
            scale = round(scale_of(X, np.reshape(answer["outputs"][0]["data"], (1, 3))))
            assert (answer["model_name"], answer["model_version"]) == ("m", str(scale))
            return scale

        assert_shares([str(ask()) for _ in range(200)], {"1": 0.5, "2": 0.5})
        assert client.get("/v2/models").json() == {"models": ["both", "m"]}
        assert client.get("/v2/models/both").json()["versions"] == ["3", "2", "1"]
        alias.set_split({"m@3": 1})
        assert {ask() for _ in range(10)} == {3}
        assert client.get("/v2/models/both/versions/1").status_code == 404
        alias.set_split({"gone": 1})
        assert client.post("/v2/models/both/infer", json=body).status_code == 404
        with pytest.raises(ConfigError, match="weight"):
            alias.set_split({"m": -1})


FILE = """
[[routes]]
path = "/predict"
split = {{ "m@1" = {one}, "m@2" = {two} }}
key = "user"
shadow = {{ target = "m@1", share = 1.0 }}
"""


def test_a_file_says_the_split_and_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "traffic.toml"
    path.write_text(FILE.format(one=1, two=0))
    server = make_server(traffic=str(path), poll_s=0.02)
    with server, httpx.Client(base_url=server.url, timeout=20) as client:

        def ask() -> set[int]:
            return {variant(client.post("/predict", json={"input": X, "user": f"u{i}"})) for i in range(20)}

        assert ask() == {1}
        path.write_text(FILE.format(one=0, two=1))
        assert wait_until(lambda: ask() == {2})
        path.write_text(FILE.format(one=-1, two=1))
        time.sleep(0.1)
        assert ask() == {2}
        path.write_text(FILE.format(one=1, two=1))
        assert wait_until(lambda: ask() == {1, 2})


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("routes = 3", "no list of routes"),
        ("[[routes]]\npath = '/a'", "lacks its path or its split"),
        ("[[routes]]\npath = '/a'\nsplit = {a = 1}\nkeys = 'x'", "unknown key 'keys'"),
        ("[[routes]]\npath = '/a'\nsplit = {a = -1}", "weight of 'a'"),
        ("[[routes]", "not TOML"),
    ],
)
def test_files_that_make_no_sense_end_the_start(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "traffic.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=part):
        make_server(traffic=str(path))
    with pytest.raises(ConfigError, match="cannot read"):
        make_server(traffic=str(tmp_path / "missing.toml"))
    with pytest.raises(ConfigError, match="several models"):
        ProductionServer(ScaledModel(1), {"traffic": str(path)})
