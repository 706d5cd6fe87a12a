"""The document of a server's interface, its pages, and looks into the process."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from small_models import NumpyModel, echo_model, linear_model, linear_program, two_port_program

from tessera.program.dtype import DTYPES, DType
from tessera.serve import ProductionServer
from tessera.serve.observe import json_schema
from tessera.serve.observe.figures import Family
from tessera.serve.observe.status import Status

HOSTILE = "<img src=x onerror=alert(1)>\u202e\"'</script>"


def pair_model() -> NumpyModel:
    return NumpyModel(two_port_program(), lambda a, b: {"total": a + b, "product": a * b})


@pytest.fixture(scope="module", params=["linear", "pair"])
def server(request: pytest.FixtureRequest) -> Iterator[ProductionServer]:
    model = linear_model() if request.param == "linear" else pair_model()
    made = ProductionServer(model, {"port": 0, "admin_port": 0, "enable_debug": True})

    @made.endpoint("/mine/{n}")
    async def mine(n: int, request: Any) -> dict[str, int]:
        """Gives the number back.

        And more about it.
        """
        return {"n": n}

    with made:
        yield made


def openapi(server: ProductionServer) -> dict[str, Any]:
    found = httpx.get(f"{server.url}/openapi.json").raise_for_status().json()
    assert isinstance(found, dict)
    return found


def test_document_is_valid_openapi_and_has_models_and_users_endpoints(server: ProductionServer) -> None:
    document = openapi(server)
    validate(document)
    name = next(n for n in ("linear", "pair") if f"/v2/models/{n}/infer" in document["paths"])
    assert {"/predict", "/health", f"/v2/models/{name}/infer", "/mine/{n}"} <= set(document["paths"])
    mine = document["paths"]["/mine/{n}"]
    assert set(mine) == {"get", "post"}
    assert mine["get"]["summary"] == "Gives the number back."
    assert not any(path.startswith("/debug") for path in document["paths"])


def body_schema(document: dict[str, Any], path: str) -> Any:
    return document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]


def test_schema_takes_what_the_server_takes_and_refuses_what_it_refuses() -> None:
    with ProductionServer(linear_model(), {"port": 0}) as server:
        validator = Draft202012Validator(body_schema(openapi(server), "/predict"))
        bodies: list[Any] = [
            {"input": [[1, 2, 3, 4.5]]},
            {"inputs": {"x": [[1, 2, 3, 4]] * 3}},
            {"input": [[1, 2, 3]]},
            {"input": [[1, 2, 3, "4"]]},
            {"input": [[1, 2, 3, 1e39]]},
            {"input": [[1]], "inputs": {}},
            {"inputs": {"y": [[1, 2, 3, 4]]}},
            {"input": None},
            {},
            [],
        ]
        for body in bodies:
            status = httpx.post(f"{server.url}/predict", json=body).status_code
            assert validator.is_valid(body) is (status == 200), (body, status)


@pytest.mark.parametrize("dtype", list(DTYPES.values()), ids=str)
def test_schema_of_a_dtype_ends_where_the_server_refuses(dtype: DType) -> None:
    if dtype.name == "tf32":
        pytest.skip("tf32 is how f32 is computed with, not what is sent")
    model = echo_model(dtype)
    validator = Draft202012Validator(json_schema.predict_body(model.program))
    with ProductionServer(model, {"port": 0}) as server:
        limit = json_schema.element(dtype)
        values: list[Any] = [0, 1, True, False, 1.5, "1", None]
        if "maximum" in limit:
            values += [limit["maximum"], limit["minimum"]]
            if dtype.kind != "float":
                values += [limit["maximum"] + 1, limit["minimum"] - 1]
        if "exclusiveMaximum" in limit:
            bound = limit["exclusiveMaximum"]
            values += [bound, -bound, math.nextafter(bound, 0.0), math.nextafter(-bound, 0.0)]
        for value in values:
            body = {"input": [[value] * 3]}
            answer = httpx.post(f"{server.url}/predict", json=body)
            assert validator.is_valid(body) is (answer.status_code == 200), (value, answer.text)


def test_documented_answers_are_what_is_answered(server: ProductionServer, rng: np.random.Generator) -> None:
    document = openapi(server)
    is_linear = "/v2/models/linear/infer" in document["paths"]
    x = rng.standard_normal((2, 4 if is_linear else 2)).tolist()
    body = {"input": x} if is_linear else {"inputs": {"a": x, "b": x}}
    answer = httpx.post(f"{server.url}/predict", json=body).raise_for_status().json()
    said = document["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    Draft202012Validator(said).validate(answer)
    refused = httpx.post(f"{server.url}/predict", json={})
    Draft202012Validator(document["components"]["schemas"]["Error"]).validate(refused.json())


def check_against_document(server: ProductionServer, examples: int) -> None:
    """Requests that the document allows and that it does not, against the server."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    from hypothesis import HealthCheck, Phase, given, settings

    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            try:
                strategy = operation.as_strategy(generation_mode=mode)
            except Exception:  # noqa: BLE001 - nothing about it can be wrong
                continue

            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
            )
            @given(case=strategy)
            def check(case: Any) -> None:
                case.call_and_validate()

            try:
                check()
            except BaseException as error:
                if "Unsatisfiable" in type(error).__name__ or "SkipTest" in type(error).__name__:
                    continue
                raise


@pytest.mark.filterwarnings("ignore")
def test_server_keeps_to_its_document(server: ProductionServer) -> None:
    check_against_document(server, 3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_schemathesis_finds_nothing(server: ProductionServer, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            Path(sys.executable).with_name("st"),
            *("run", f"{server.url}/openapi.json", "--no-color"),
            *("--checks", "all", "--max-examples", "50"),
        ],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.parametrize("path", ["docs", "status", "pages/page.css", "pages/docs.js", "pages/status.js"])
def test_pages_load_nothing_from_elsewhere(server: ProductionServer, path: str) -> None:
    answer = httpx.get(f"{server.url}/{path}").raise_for_status()
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"(src|href|url)\s*[=(]\s*[\"']?(https?:)?//", answer.text)
    assert "innerHTML" not in answer.text
    assert "onclick" not in answer.text


@pytest.mark.parametrize("path", ["docs", "status"])
def test_pages_bring_an_icon_so_that_browsers_ask_for_none(server: ProductionServer, path: str) -> None:
    answer = httpx.get(f"{server.url}/{path}").raise_for_status()
    assert '<link rel="icon" href="data:,">' in answer.text
    assert "img-src data:" in answer.headers["content-security-policy"]


def test_every_path_of_the_server_says_what_it_is_for(server: ProductionServer) -> None:
    paths = httpx.get(f"{server.url}/openapi.json").raise_for_status().json()["paths"]
    calls = [
        (path, call) for path, row in paths.items() for name, call in row.items() if name in ("get", "post")
    ]
    assert [path for path, call in calls if call["summary"] == path] == []


@pytest.mark.parametrize("name", ["../status.py", "status.html", "..%2f..%2fapp.py", "none"])
def test_pages_give_no_other_file(server: ProductionServer, name: str) -> None:
    assert httpx.get(f"{server.url}/pages/{name}").status_code == 404


def test_status_counts_models_and_endpoints_of_hostile_names_too() -> None:
    program = linear_program(name="linear")
    fields = {f: getattr(program, f) for f in program.__struct_fields__}
    model = NumpyModel(type(program)(**{**fields, "name": HOSTILE}), linear_model()._compute, 0.01)
    with ProductionServer(model, {"port": 0}) as server:
        for _ in range(5):
            httpx.post(f"{server.url}/predict", json={"input": [[1, 2, 3, 4]] * 2}).raise_for_status()
        httpx.post(f"{server.url}/predict", json={"input": [[1]]})
        found = httpx.get(f"{server.url}/status.json").json()
        validate(openapi(server))
    (shown,) = found["models"]
    assert (shown["name"], shown["state"], shown["answered"], shown["failed"]) == (HOSTILE, "ready", 5, 1)
    assert shown["rows_per_batch"] == 2
    assert 0.01 <= shown["p50_s"] <= shown["p99_s"]
    (predict,) = (r for r in found["routes"] if r["path"] == "/predict")
    assert (predict["answered"], predict["errors"]) == (6, 1)
    assert found["requests_per_s"] > 0


def test_rates_are_those_of_the_last_seconds() -> None:
    from tessera.serve.models.registry import Registry

    now_s, count = 0.0, 0.0

    def snapshot() -> list[Family]:
        values = {("GET", "/a", "200"): count, ("GET", "/a", "500"): count / 10}
        return [Family("tessera_http_requests", "counter", "", ("method", "path", "status"), values)]

    status = Status(Registry(), snapshot, clock=lambda: now_s)
    for _ in range(60):
        now_s += 1
        count += 20
        found = status.now()
    assert found["requests_per_s"] == pytest.approx(22)
    assert found["errors_per_s"] == pytest.approx(2)
    for _ in range(20):
        now_s += 1
        found = status.now()
    assert found["requests_per_s"] == 0


def test_with_keys_pages_open_and_their_data_do_not() -> None:
    with ProductionServer(
        linear_model(), {"port": 0, "api_keys": "me:0123456789abcdef0123456789abcdef"}
    ) as server:
        for path, status in (("docs", 200), ("status", 200), ("openapi.json", 401), ("status.json", 401)):
            assert httpx.get(f"{server.url}/{path}").status_code == status, path
        key = {"Authorization": "Bearer 0123456789abcdef0123456789abcdef"}
        document = httpx.get(f"{server.url}/openapi.json", headers=key).json()
    validate(document)
    assert set(document["components"]["securitySchemes"]) == {"bearer", "key"}


def test_pages_can_be_left_out() -> None:
    with ProductionServer(linear_model(), {"port": 0, "enable_pages": False}) as server:
        for path in ("docs", "status", "openapi.json", "status.json"):
            assert httpx.get(f"{server.url}/{path}").status_code == 404


def test_profile_shows_what_the_process_does(server: ProductionServer) -> None:
    until = threading.Event()

    def spin_here() -> None:
        while not until.is_set():
            sum(range(100))

    thread = threading.Thread(target=spin_here, name="spinner", daemon=True)
    thread.start()
    try:
        url = f"{server.admin_url}/debug/profile?seconds=0.3"
        found = httpx.get(url, timeout=20)
        folded = httpx.get(f"{url}&format=folded", timeout=20).text
        text = httpx.get(f"{url}&format=text", timeout=20).text
    finally:
        until.set()
        thread.join()
    assert "speedscope.json" in found.headers["content-disposition"]
    profile = found.json()
    frames = profile["shared"]["frames"]
    (spinner,) = (p for p in profile["profiles"] if p["name"] == "spinner")
    assert spinner["endValue"] == pytest.approx(sum(spinner["weights"]))
    names = {frames[i]["name"] for sample in spinner["samples"] for i in sample}
    assert any("spin_here" in name for name in names)
    line = next(line for line in folded.splitlines() if line.startswith("spinner;"))
    assert "spin_here" in line
    assert int(line.rpartition(" ")[2]) > 0
    assert re.search(r"spinner: \d+ samples", text)


def test_memory_and_tasks_are_told(server: ProductionServer) -> None:
    memory = httpx.get(f"{server.admin_url}/debug/memory").json()
    assert memory["peak_bytes"] > 1 << 20
    assert any("tessera-worker" in name for name in memory["threads"])
    tasks = httpx.get(f"{server.admin_url}/debug/tasks").text
    assert "Session.serve" in tasks


@pytest.mark.parametrize(
    "query", ["seconds=0", "seconds=nan", "seconds=61", "hz=1e9", "format=xml", "seconds=x"]
)
def test_profiles_out_of_range_are_refused(server: ProductionServer, query: str) -> None:
    assert httpx.get(f"{server.admin_url}/debug/profile?{query}").status_code == 400


def test_debugging_is_for_operators_and_off_unless_asked_for(server: ProductionServer) -> None:
    assert httpx.get(f"{server.url}/debug/memory").status_code == 403
    with ProductionServer(linear_model(), {"port": 0, "admin_port": 0}) as other:
        assert httpx.get(f"{other.admin_url}/debug/memory").status_code == 404


def test_document_is_json_without_surprises(server: ProductionServer) -> None:
    text = httpx.get(f"{server.url}/openapi.json").text
    assert json.loads(text)["openapi"] == "3.1.0"
