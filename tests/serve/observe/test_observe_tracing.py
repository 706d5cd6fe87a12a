"""Traces of servers, as a collector receives them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import random
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from otlp_receiver import collecting, collecting_grpc
from small_models import linear_model

from tessera.program.errors import ConfigError, MissingDependencyError
from tessera.serve import ProductionServer
from tessera.serve.observe import tracing_config
from tessera.serve.observe.trace import RequestTrace, Sampler, parse_traceparent
from tessera.serve.observe.trace_export import TraceExport
from tessera.serve.observe.tracing_config import TracingConfig

BODY = {"input": [[1.0, 2.0, 3.0, 4.0]]}


@pytest.fixture(autouse=True)
def keep_global_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    # OpenTelemetry takes a provider once in a process; tests of it run in processes of their own.
    monkeypatch.setattr(TracingConfig, "share", lambda self: None)


def traced(url: str, **settings: Any) -> dict[str, Any]:
    return {"port": 0, "enable_tracing": True, "tracing_endpoint": url, "tracing_sampling": 1.0, **settings}


def attributes(span: Any) -> dict[str, Any]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


def test_request_is_a_tree_of_spans_with_the_callers_trace_and_true_durations() -> None:
    seconds = 0.05
    parent = f"00-{0xABC:032x}-{0xDEF:016x}-01"
    with collecting() as collector:
        settings = traced(collector.url, tracing_service="shop", tracing_attributes="team=a, stage=test")
        with ProductionServer(linear_model(seconds), settings) as server:
            before_ns = time.time_ns()
            headers = {"traceparent": parent, "tracestate": "vendor=x", "X-Request-Id": "r-7"}
            answer = httpx.post(f"{server.url}/predict", json=BODY, headers=headers)
            after_ns = time.time_ns()
        spans = {span.name: span for span in collector.wait(6)}
    assert set(spans) == {"POST /predict", "receive", "queue", "batch", "infer", "send"}
    root = spans["POST /predict"]
    assert {s.trace_id.hex() for s in spans.values()} == {f"{0xABC:032x}"}
    assert root.parent_span_id.hex() == f"{0xDEF:016x}"
    assert root.kind == root.SPAN_KIND_SERVER
    assert root.trace_state == "vendor=x"
    assert {spans[n].parent_span_id for n in ("receive", "queue", "batch", "send")} == {root.span_id}
    assert spans["infer"].parent_span_id == spans["batch"].span_id
    assert len({s.span_id for s in spans.values()}) == 6
    said = attributes(root)
    assert (said["http.request.method"], said["http.route"]) == ("POST", "/predict")
    assert (said["http.response.status_code"], said["tessera.request_id"]) == (200, "r-7")
    assert attributes(spans["batch"])["tessera.model"] == "linear"
    assert attributes(spans["batch"])["tessera.batch.rows"] == 1
    # The course: each begins where the one before ended, within the whole.
    order = [spans[n] for n in ("receive", "queue", "batch", "send")]
    for earlier, later in pairwise(order):
        assert earlier.start_time_unix_nano <= earlier.end_time_unix_nano <= later.start_time_unix_nano + 1000
    assert before_ns <= root.start_time_unix_nano <= root.end_time_unix_nano <= after_ns + 10_000_000
    infer = spans["infer"]
    assert infer.end_time_unix_nano - infer.start_time_unix_nano >= seconds * 1e9
    assert answer.headers["traceresponse"] == f"00-{0xABC:032x}-{root.span_id.hex()}-01"
    assert answer.headers["x-request-id"] == "r-7"
    assert collector.paths[0] == "/v1/traces"
    resource = collector.resources[0]
    assert (resource["service.name"], resource["team"], resource["stage"]) == ("shop", "a", "test")


async def test_requests_of_a_batch_are_linked_with_each_other() -> None:
    with collecting() as collector:
        with ProductionServer(linear_model(0.05), traced(collector.url)) as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:
                answers = await asyncio.gather(*(client.post("/predict", json=BODY) for _ in range(8)))
        spans = collector.wait(8 * 6)
    assert {a.status_code for a in answers} == {200}
    roots = {s.span_id: s for s in spans if s.kind == s.SPAN_KIND_SERVER}
    assert len({s.trace_id for s in roots.values()}) == 8
    batches = defaultdict(list)
    for span in spans:
        if span.name == "batch":
            batches[attributes(span)["tessera.batch.id"]].append(span)
    assert max(map(len, batches.values())) > 1
    for members in batches.values():
        requests = {s.parent_span_id for s in members}
        assert requests <= set(roots)
        for span in members:
            assert attributes(span)["tessera.batch.requests"] == len(members)
            assert {link.span_id for link in span.links} == requests - {span.parent_span_id}
            assert all(link.trace_id == roots[link.span_id].trace_id for link in span.links)


def test_callers_decision_goes_before_the_ratio() -> None:
    with collecting() as collector:
        with ProductionServer(linear_model(), traced(collector.url, tracing_sampling=0.0)) as server:
            for flag in ("00", "01", None):
                headers = {"traceparent": f"00-{7:032x}-{9:016x}-{flag}"} if flag else {}
                answer = httpx.post(f"{server.url}/predict", json=BODY, headers=headers)
                assert ("traceresponse" in answer.headers) is (flag == "01")
        spans = collector.wait(6)
    assert len(spans) == 6


def test_refused_and_failing_requests_are_traced_with_their_status() -> None:
    with collecting() as collector:
        with ProductionServer(linear_model(), traced(collector.url)) as server:
            httpx.post(f"{server.url}/predict", json={"input": [[1]]})
            httpx.get(f"{server.url}/nowhere")
        spans = collector.wait(4)
    statuses = {s.name: attributes(s)["http.response.status_code"] for s in spans if s.kind == 2}
    assert statuses == {"POST /predict": 400, "GET (none)": 404}


def test_traces_go_by_grpc_too() -> None:
    with collecting_grpc() as collector:
        settings = traced(collector.url, tracing_protocol="grpc")
        with ProductionServer(linear_model(), settings) as server:
            httpx.post(f"{server.url}/predict", json=BODY)
            spans = collector.wait(6)
    assert Counter(s.name for s in spans)["infer"] == 1


@pytest.mark.parametrize("status", [500, 503, 400, None])
def test_collector_that_fails_disturbs_nobody_and_is_said_once(
    status: int | None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tessera.serve.observe import trace_export

    monkeypatch.setattr(trace_export, "INTERVAL_S", 0.02)
    monkeypatch.setattr(tracing_config, "TIMEOUT_S", 0.2)
    with collecting() as collector:
        collector.status = status or 200
        url = collector.url if status else "http://127.0.0.1:1"
        with ProductionServer(linear_model(), traced(url)) as server:
            for _ in range(20):
                assert httpx.post(f"{server.url}/predict", json=BODY).status_code == 200
                time.sleep(0.01)
            until = time.monotonic() + 10
            lost = 0.0
            while not lost and time.monotonic() < until:
                found = re.search(
                    r"(?m)^tessera_traces_lost_total (\S+)", httpx.get(f"{server.url}/metrics").text
                )
                assert found
                lost = float(found[1])
                time.sleep(0.05)
            # Where the collector is gone, an exporter left alone would go on trying for a minute.
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                pool.submit(server.stop).result(30)
    assert lost > 0
    said = [r.getMessage() for r in caplog.records if "cannot be sent" in r.getMessage()]
    assert len(said) == 1


def test_traces_beyond_the_limit_are_dropped_and_counted() -> None:
    class Stuck:
        def export(self, spans: Any) -> Any:
            time.sleep(0.5)
            raise OSError("gone")

        def shutdown(self) -> None:
            pass

    export = TraceExport(lambda trace: [], Stuck(), max_pending=10)  # type: ignore[arg-type]
    for _ in range(500):
        export.finished(RequestTrace(None, "", time.perf_counter()))
    assert export.counts.dropped == 490
    export.close(2.0)
    assert export.counts.failed == 10


USERS_SPANS = """
import sys
from opentelemetry import propagate, trace
from tessera.deploy import ProductionServer
settings = {"device": "reference", "enable_tracing": True, "tracing_sampling": 1.0}
server = ProductionServer("linear.tsd", settings)
@server.endpoint("/mine")
async def mine(request):
    with trace.get_tracer("mine").start_as_current_span("preprocessing"):
        sent = {}
        propagate.inject(sent)
        await server.infer(request.input)
    return sent
@server.endpoint("/plain")
def plain(request):
    with trace.get_tracer("mine").start_as_current_span("in a thread"):
        server.infer_sync(request.input)
server.run()
"""


def test_endpoints_own_spans_and_calls_belong_to_the_request(
    linear_package: Path, tmp_path: Path, start_process: Any
) -> None:
    (tmp_path / "linear.tsd").write_bytes(linear_package.read_bytes())
    with collecting() as collector:
        server = start_process(
            USERS_SPANS, TESSERA_TRACING_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="50"
        )
        collector.spans.clear()
        sent = httpx.post(f"{server.url}/mine", json=BODY, timeout=20).json()
        httpx.post(f"{server.url}/plain", json=BODY, timeout=20)
        httpx.post(
            f"{server.url}/mine", json=BODY, timeout=20, headers={"traceparent": f"00-{5:032x}-{6:016x}-00"}
        )
        server.process.terminate()
        code, log = server.finish()
        spans = collector.spans
    assert code == 0, log
    by_name = {s.name: s for s in spans}
    root, own = by_name["POST /mine"], by_name["preprocessing"]
    assert (own.trace_id, own.parent_span_id) == (root.trace_id, root.span_id)
    assert sent["traceparent"] == f"00-{own.trace_id.hex()}-{own.span_id.hex()}-01"
    thread = by_name["in a thread"]
    assert thread.parent_span_id == by_name["POST /plain"].span_id
    names = Counter(s.name for s in spans)
    assert (names["infer"], names["preprocessing"], names["POST /mine"]) == (2, 1, 1)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01",
        b"00-" + b"1" * 32 + b"-" + b"0" * 16 + b"-01",
        b"ff-" + b"1" * 32 + b"-" + b"1" * 16 + b"-01",
        b"00-" + b"1" * 32 + b"-" + b"1" * 16 + b"-01-more",
        b"00-" + b"A" * 32 + b"-" + b"1" * 16 + b"-01",
        b"00-" + b"1" * 31 + b"-" + b"1" * 16 + b"-01",
    ],
)
def test_malformed_traceparents_are_ignored(value: bytes) -> None:
    assert parse_traceparent(value) is None


def test_later_versions_of_traceparent_are_read() -> None:
    found = parse_traceparent(b"01-" + b"1" * 32 + b"-" + b"2" * 16 + b"-03-what-comes")
    assert found is not None
    assert found.is_sampled


@given(st.binary(max_size=80))
def test_any_bytes_in_the_headers_make_a_context(value: bytes) -> None:
    headers = [(b"traceparent", value), (b"tracestate", value), (b"x-request-id", value)]
    context = Sampler(0.5).context(headers, 0.0)
    assert len(context.request_id) <= 128


def test_sampler_keeps_its_ratio() -> None:
    sampler = Sampler(0.25, random.Random(3).random)
    taken = sum(sampler.context([], 0.0).trace is not None for _ in range(4000))
    # Six standard deviations of 4000 draws.
    assert abs(taken - 1000) < 6 * (4000 * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"endpoint": "collector:4318"}, "endpoint"),
        ({"protocol": "thrift"}, "thrift"),
        ({"sampling_ratio": 1.5}, "1.5"),
        ({"endpoint": "http://a", "jaeger_endpoint": "http://b"}, "jaeger_endpoint"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        TracingConfig(**settings).check()


def test_missing_opentelemetry_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing_config, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError) as caught:
        ProductionServer(linear_model(), {"port": 0, "enable_tracing": True})
    assert caught.value.hint == "pip install 'tessera[tracing]'"


def test_server_without_tracing_does_not_import_opentelemetry() -> None:
    script = "import tessera.serve.server, sys; print([m for m in sys.modules if 'opentelemetry' in m])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_access_log_has_every_error_and_its_share_of_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tessera.access")
    with ProductionServer(linear_model(), {"port": 0, "access_log": 0.0}) as server:
        for _ in range(5):
            httpx.post(f"{server.url}/predict", json=BODY)
        refused = httpx.post(f"{server.url}/predict", json={"x": 1})
        httpx.get(f"{server.url}/nowhere?key=secret", headers={"X-Request-Id": "mine"})
    lines = [r for r in caplog.records if r.name == "tessera.access"]
    assert [(r.status, r.path) for r in lines] == [(400, "/predict"), (404, "/nowhere")]  # type: ignore[attr-defined]
    assert lines[0].request_id  # type: ignore[attr-defined]
    assert lines[1].request_id == "mine"  # type: ignore[attr-defined]
    assert "secret" not in caplog.text
    assert refused.status_code == 400


def test_failed_request_tells_client_and_log_the_same_identifier(caplog: pytest.LogCaptureFixture) -> None:
    server = ProductionServer(linear_model(), {"port": 0, "access_log": 1.0})

    @server.endpoint("/fails")
    async def fails() -> None:
        raise RuntimeError("cause")

    with server:
        answer = httpx.get(f"{server.url}/fails", headers={"X-Request-Id": "r-9"})
        quiet = httpx.post(f"{server.url}/predict", json=BODY)
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "r-9")
    assert "x-request-id" not in quiet.headers


def test_production_server_writes_json_with_the_requests_identifier(
    linear_package: Path, tmp_path: Path, start_process: Any
) -> None:
    import json

    (tmp_path / "linear.tsd").write_bytes(linear_package.read_bytes())
    script = """
import logging
from tessera.deploy import ProductionServer
settings = {"device": "reference", "log_format": "json", "log_file": "s.log", "access_log": 1}
server = ProductionServer("linear.tsd", settings)
@server.endpoint("/mine")
async def mine():
    logging.getLogger("mine").warning("inside")
    return {}
server.run()
"""
    server = start_process(script)
    httpx.get(f"{server.url}/mine", headers={"X-Request-Id": "r-11"})
    server.process.terminate()
    server.finish()
    lines = [json.loads(line) for line in (tmp_path / "s.log").read_text().splitlines()]
    (inside,) = (line for line in lines if line["message"] == "inside")
    assert inside["request_id"] == "r-11"
    (access,) = (line for line in lines if line.get("path") == "/mine")
    assert (access["logger"], access["status"], access["request_id"]) == ("tessera.access", 200, "r-11")
    assert lines[-1]["message"] == "stopped"
    assert np.isfinite(access["duration_ms"])


def test_full_disk_for_the_log_does_not_disturb_the_server(
    linear_package: Path, tmp_path: Path, start_process: Any
) -> None:
    (tmp_path / "linear.tsd").write_bytes(linear_package.read_bytes())
    script = """
from tessera.deploy import ProductionServer
ProductionServer("linear.tsd", {"device": "reference", "log_file": "/dev/full", "access_log": 1}).run()
"""
    server = start_process(script)
    with httpx.Client(base_url=server.url, timeout=20) as client:
        for _ in range(200):
            assert client.post("/predict", json=BODY).status_code == 200
        found = re.search(r"(?m)^tessera_log_lines_lost_total (\S+)", client.get("/metrics").text)
        assert found
        assert float(found[1]) > 0
    server.process.terminate()
    code, said = server.finish()
    assert code == 0
    assert said.count("the log cannot be written") == 1
