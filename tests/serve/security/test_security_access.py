"""API keys and rates: who may come in, over a real server and by the gate itself."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.program.errors import ConfigError
from tessera.serve import ProductionServer, RequestError
from tessera.serve.config import ServerConfig
from tessera.serve.security.access import Gate, make_gate
from tessera.serve.security.keys import KeyRing, parse_keys
from tessera.serve.security.rate_limit import RateLimit, address_key

KEY = "k3y-of-alice-0123456789"
OTHER = "k3y-of-bob-0123456789ab"
BODY = {"input": [[1.0, 2.0, 3.0, 4.0]]}


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def locked(linear_package: Path) -> Iterator[ProductionServer]:
    """A server that asks for keys."""
    settings = {"port": 0, "device": "reference", "api_keys": f"alice:{KEY}"}
    with ProductionServer(linear_package, settings) as server:
        yield server


@pytest.mark.parametrize(
    "headers", [{"Authorization": f"Bearer {KEY}"}, {"authorization": f"bearer   {KEY}"}, {"X-API-Key": KEY}]
)
def test_request_with_a_key_is_answered(locked: ProductionServer, headers: dict[str, str]) -> None:
    assert httpx.post(f"{locked.url}/predict", json=BODY, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, 'Bearer realm="tessera"'),
        ({"Authorization": "Bearer wrong"}, 'Bearer realm="tessera", error="invalid_token"'),
        ({"Authorization": f"Basic {KEY}"}, 'Bearer realm="tessera", error="invalid_token"'),
        ({"Authorization": "Bearer"}, 'Bearer realm="tessera", error="invalid_token"'),
        ({"X-API-Key": KEY[:-1]}, 'Bearer realm="tessera", error="invalid_token"'),
        ({"X-API-Key": KEY.upper()}, 'Bearer realm="tessera", error="invalid_token"'),
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/v2/models/linear/infer", "/nothing", "/metrics", "/v2"])
def test_request_without_a_known_key_is_401_with_a_challenge(
    locked: ProductionServer, path: str, headers: dict[str, str], challenge: str
) -> None:
    answer = httpx.post(f"{locked.url}{path}", json=BODY, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == challenge
    assert set(answer.json()) == {"error", "hint"}
    assert KEY not in answer.text


@pytest.mark.parametrize("path", ["/health", "/ready", "/v2/health/live", "/v2/health/ready"])
def test_probes_need_no_key(locked: ProductionServer, path: str) -> None:
    assert httpx.get(f"{locked.url}{path}").status_code == 200
    assert httpx.get(f"{locked.url}//{path}").status_code == 401


def test_endpoint_learns_the_callers_name(linear_package: Path) -> None:
    settings = {"port": 0, "device": "reference", "api_keys": f"alice:{KEY},bob:{OTHER}"}
    server = ProductionServer(linear_package, settings)

    @server.endpoint("/who")
    def who(request):  # type: ignore[no-untyped-def]
        return {"caller": request.caller}

    with server:
        for name, key in (("alice", KEY), ("bob", OTHER)):
            assert httpx.get(f"{server.url}/who", headers={"X-API-Key": key}).json() == {"caller": name}


def test_replaced_file_exchanges_keys_while_the_server_runs(
    linear_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tessera.serve.security.keys.RECHECK_S", 0.0)
    path = tmp_path / "keys.txt"
    path.write_text(f"# ours\nalice:{KEY}\n")
    settings = {"port": 0, "device": "reference", "api_keys_file": str(path)}
    with ProductionServer(linear_package, settings) as server, httpx.Client(base_url=server.url) as client:

        def status(key: str) -> int:
            return client.get("/v2", headers={"X-API-Key": key}).status_code

        assert (status(KEY), status(OTHER)) == (200, 401)
        (tmp_path / "new").write_text(f"alice:{KEY}\nbob:{OTHER}\n")
        (tmp_path / "new").replace(path)
        assert (status(KEY), status(OTHER)) == (200, 200)
        (tmp_path / "new").write_text(f"bob:{OTHER}\n")
        (tmp_path / "new").replace(path)
        assert (status(KEY), status(OTHER)) == (401, 200)


def test_damaged_or_missing_file_keeps_the_keys_before(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.txt"
    path.write_text(f"alice:{KEY}\n")
    ring = KeyRing(file=path, clock=clock)
    for damage in (lambda: path.write_text(f"bob:{OTHER}\nbroken"), lambda: path.write_text(""), path.unlink):
        damage()
        clock.now_s += 2
        assert ring.name_of(KEY) == "alice"
        assert ring.name_of(OTHER) is None
    assert caplog.text.count("keys before stay in force") == 3
    assert OTHER not in caplog.text
    path.write_text(f"bob:{OTHER}\n")
    clock.now_s += 2
    assert ring.names == ("alice",)
    assert ring.name_of(OTHER) == "bob"
    assert ring.names == ("bob",)


def test_file_may_hold_digests_in_place_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    path.write_text(f"alice:sha256:{hashlib.sha256(KEY.encode()).hexdigest()}\n")
    ring = KeyRing(file=path)
    assert ring.name_of(KEY) == "alice"
    assert ring.name_of(path.read_text().strip().removeprefix("alice:")) is None


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("justakeywithoutaname", "no ':'"),
        (f":{KEY}", "name is not made of"),
        (f"a b:{KEY}", "name is not made of"),
        (f"a:{KEY},a:{OTHER}", "'a' is there twice"),
        ("a:short", "has 5 characters, at least 16"),
        ("a:sha256:12", "not 64 hexadecimal digits"),
        ("a:gr\u00fc\u00dfe-aus-berlin-123", "beyond ASCII"),
        (" , ", "has no keys"),
    ],
)
def test_wrong_keys_are_named_by_place_and_never_shown(text: str, part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        KeyRing(text)
    assert part in caught.value.message
    for secret in (KEY, OTHER, "justakey"):
        assert secret not in str(caught.value)


def test_missing_file_of_keys_is_named(linear_package: Path, tmp_path: Path) -> None:
    settings = {"port": 0, "device": "reference", "api_keys_file": str(tmp_path / "none.txt")}
    with pytest.raises(ConfigError, match=r"none\.txt"):
        ProductionServer(linear_package, settings).start()


def test_name_in_text_and_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    path.write_text(f"alice:{OTHER}\n")
    with pytest.raises(ConfigError, match="'alice' is in api_keys and in"):
        KeyRing(f"alice:{KEY}", path)


def test_keys_are_never_shown_in_settings_errors_or_warnings(caplog: pytest.LogCaptureFixture) -> None:
    assert KEY not in repr(ServerConfig.load({"api_keys": f"a:{KEY}"}, environment={}))
    ServerConfig.load({"api_keys": f"a:{KEY}"}, environment={"TESSERA_API_KEYS": f"b:{OTHER}"})
    assert "api_keys" in caplog.text
    assert KEY not in caplog.text
    assert OTHER not in caplog.text
    with pytest.raises(ConfigError) as caught:
        ServerConfig.load({"api_keys": [KEY]}, environment={})
    assert KEY not in str(caught.value)


@given(st.text(max_size=40))
def test_whatever_is_sent_as_a_key_is_refused_without_an_error(text: str) -> None:
    gate = Gate(KeyRing(f"alice:{KEY}"))
    for credentials in ((text, None), (None, text), (f"Bearer {text}", None)):
        with pytest.raises(RequestError) as caught:
            gate.admit_credentials(*credentials)
        assert caught.value.fields["status"] == 401


@given(st.lists(st.text(max_size=30), max_size=5))
def test_any_lines_are_keys_or_an_error(lines: list[str]) -> None:
    try:
        digests = parse_keys(lines, "file")
    except ConfigError:
        return
    assert all(len(digest) == 32 for _, digest in digests)


def test_rate_is_that_of_the_bucket(clock: Clock) -> None:
    limit = RateLimit(2.0, 3, clock=clock)
    assert [limit.take("a") for _ in range(5)] == [0, 0, 0, 1, 1]
    assert limit.take("b") == 0
    clock.now_s += 0.5
    assert [limit.take("a") for _ in range(2)] == [0, 1]
    clock.now_s += 1000
    assert [limit.take("a") for _ in range(4)] == [0, 0, 0, 1]


@given(st.floats(0.01, 100), st.integers(1, 20), st.lists(st.floats(0, 3), max_size=60))
def test_no_client_gets_more_than_its_rate_and_a_retry_after_holds(
    per_second: float, burst: int, pauses: list[float]
) -> None:
    clock = Clock()
    limit = RateLimit(per_second, burst, clock=clock)
    start_s, served = clock.now_s, 0
    for pause in pauses:
        clock.now_s += pause
        wait_s = limit.take("a")
        served += wait_s == 0
        assert served <= burst + (clock.now_s - start_s) * per_second + 1e-6
    wait_s = limit.take("a")
    clock.now_s += wait_s
    assert limit.take("a") == 0 or wait_s == 0


def test_table_of_clients_is_bounded_and_forgets_the_quietest(clock: Clock) -> None:
    limit = RateLimit(0.001, 1, max_clients=100, clock=clock)
    assert limit.take("busy") == 0
    for i in range(5000):
        limit.take(f"10.0.{i // 256}.{i % 256}")
        assert limit.take("busy") > 0
    assert len(limit) == 100


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not:an:address", "not:an:address"),
        (None, "unknown"),
    ],
)
def test_addresses_of_one_client_share_a_bucket(address: str | None, key: str) -> None:
    assert address_key(address) == key


def test_too_many_requests_are_429_with_retry_after_and_probes_are_not_counted(linear_package: Path) -> None:
    settings = {"port": 0, "device": "reference", "rate_limit": 0.01, "rate_limit_burst": 2}
    with ProductionServer(linear_package, settings) as server, httpx.Client(base_url=server.url) as client:
        for _ in range(5):
            client.get("/health").raise_for_status()
        assert [client.post("/predict", json=BODY).status_code for _ in range(2)] == [200, 200]
        refused = client.post("/predict", json=BODY)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 100
        assert "0.01 a second" in refused.json()["error"]
        client.get("/ready").raise_for_status()


def test_each_key_has_its_own_rate_and_guessing_costs_the_guesser(clock: Clock) -> None:
    gate = Gate(KeyRing(f"alice:{KEY},bob:{OTHER}"), RateLimit(1.0, 1, clock=clock))
    assert gate.admit_credentials(None, KEY, "10.0.0.1") == "alice"
    assert gate.admit_credentials(None, OTHER, "10.0.0.1") == "bob"
    statuses = []
    for key in (KEY, "wrong", "wrong"):
        with pytest.raises(RequestError) as caught:
            gate.admit_credentials(None, key, "10.0.0.1")
        statuses.append(caught.value.fields["status"])
    assert statuses == [429, 401, 429]


def test_server_without_keys_and_rates_has_no_gate() -> None:
    assert make_gate(ServerConfig.load({}, environment={})) is None
    assert make_gate(ServerConfig.load({"rate_limit": 5.0}, environment={})) is not None
