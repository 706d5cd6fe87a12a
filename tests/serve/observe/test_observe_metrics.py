"""What is counted, and how it is shown."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import numpy as np
import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from small_models import NumpyModel, linear_model, linear_program

from tessera.deploy import MetricsCollector
from tessera.program.errors import DeviceError, ServeError
from tessera.serve import ProductionServer
from tessera.serve.observe import gpu_figures
from tessera.serve.observe.figures import SECONDS, Family, Histogram, merged, to_text
from tessera.serve.observe.gpu_figures import GpuFigures
from tessera.serve.observe.model_metrics import Figures, ModelMetrics


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """By name and labels, as Prometheus' own parser reads them."""
    found = {}
    for family in text_string_to_metric_families(text):
        for s in family.samples:
            # The parser adds _total to counters that come without it, as Triton's do.
            name = s.name.removesuffix("_total") if s.name.startswith("nv_") else s.name
            found[name, tuple(sorted(s.labels.items()))] = s.value
    return found


def labelled(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1))
def test_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], share: float) -> None:
    histogram = Histogram.empty(SECONDS)
    histogram.observe_many(values)
    assert histogram.count == len(values)
    assert histogram.total == pytest.approx(sum(values))
    true = sorted(values)[int(np.ceil(share * len(values) - 1e-9)) - 1]
    found = histogram.quantile(share)
    assert found is not None
    bounds = (0.0, *SECONDS)
    place = next((i for i in range(1, len(bounds)) if true <= bounds[i]), None)
    if place is None:
        assert found == SECONDS[-1]
    else:
        assert bounds[place - 1] - 1e-12 <= found <= bounds[place] + 1e-12


def test_quantile_of_nothing_is_unknown() -> None:
    assert Histogram.empty(SECONDS).quantile(0.5) is None


@given(st.text(), st.floats(allow_nan=False), st.lists(st.floats(0, 100)))
def test_text_is_read_back_by_prometheus_own_parser(label: str, value: float, seconds: list[float]) -> None:
    label = label.encode("utf-8", "replace").decode()
    histogram = Histogram.empty((1.0, 10.0))
    histogram.observe_many(seconds)
    families = [
        Family("a", "counter", "x\ny\\z", ("model",), {(label,): value}),
        Family("nv_b", "counter", "b", ("model",), {(label,): 2.0}, is_plain=True),
        Family("c", "histogram", "c", ("model",), histograms={(label,): histogram}),
    ]
    found = samples(to_text(families))
    assert found["a_total", labelled(model=label)] == value
    assert found["nv_b", labelled(model=label)] == 2.0
    assert found["c_count", labelled(model=label)] == len(seconds)
    assert found["c_bucket", labelled(model=label, le="10.0")] == sum(s <= 10 for s in seconds)
    assert found["c_bucket", labelled(model=label, le="+Inf")] == len(seconds)


def test_snapshots_of_processes_add_up_after_a_way_through_bytes() -> None:
    def snapshot(count: float, ready: float, seconds: float) -> list[Family]:
        histogram = Histogram.empty((1.0,))
        histogram.observe(seconds)
        return [
            Family("n", "counter", "", ("model",), {("m",): count}),
            Family("ready", "gauge", "", (), {(): ready}, merge="min"),
            Family("s", "histogram", "", ("model",), histograms={("m",): histogram}),
        ]

    sent = [msgspec.msgpack.encode(snapshot(*each)) for each in ((2.0, 1.0, 0.5), (3.0, 0.0, 2.0))]
    found = samples(to_text(merged(msgspec.msgpack.decode(each, type=list[Family]) for each in sent)))
    assert found["n_total", labelled(model="m")] == 5
    assert found["ready", ()] == 0
    assert found["s_count", labelled(model="m")] == 2
    assert found["s_bucket", labelled(model="m", le="1.0")] == 1


def test_reloaded_model_goes_on_counting() -> None:
    known: dict[tuple[str, str], Figures] = {}
    for _ in range(3):
        metrics = ModelMetrics(known)
        metrics.request_rejected("overloaded")
        metrics.bind("m", "1")
        metrics.batch_finished(0.1, 4, [0.0, 0.2], ["cancelled"])
    figures = known["m", "1"]
    assert (figures.requests, figures.rows) == (6, 12)
    assert figures.failures == {"REJECTED": 3, "CANCELED": 3}
    assert figures.request_s == pytest.approx(3 * (0.1 + 0.3))


def scrape(server: ProductionServer) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return samples(httpx.get(f"{server.url}/metrics").text)


def test_triton_names_count_requests_rows_batches_and_their_time() -> None:
    model = linear_model(seconds=0.02)
    with ProductionServer(model, {"port": 0}) as server:
        for rows in (1, 3):
            body = {"input": np.random.default_rng(rows).standard_normal((rows, 4)).tolist()}
            assert httpx.post(f"{server.url}/predict", json=body).status_code == 200
        assert httpx.post(f"{server.url}/predict", json={"input": [[1, 2]]}).status_code == 400
        found = scrape(server)
    at = labelled(model="linear", version="1")
    assert found["nv_inference_request_success", at] == 2
    assert found["nv_inference_count", at] == 4
    assert found["nv_inference_exec_count", at] == 2
    assert found["nv_inference_pending_request_count", at] == 0
    infer_us = found["nv_inference_compute_infer_duration_us", at]
    assert infer_us >= 2 * 20_000
    assert found["nv_inference_request_duration_us", at] >= infer_us
    assert found["nv_inference_queue_duration_us", at] > 0
    assert found["nv_inference_first_response_histogram_ms_count", at] == 2
    assert found["nv_inference_first_response_histogram_ms_sum", at] >= 40
    assert found["nv_inference_request_failure", labelled(model="linear", version="1", reason="OTHER")] == 1
    assert found["nv_inference_request_failure", labelled(model="linear", version="1", reason="BACKEND")] == 0


def test_failures_of_the_model_are_the_backends() -> None:
    def fail(x: np.ndarray) -> dict[str, np.ndarray]:
        if x.any():
            raise DeviceError("the GPU is gone")
        return {"output": np.zeros((len(x), 3), np.float32)}

    with ProductionServer(NumpyModel(linear_program(), fail), {"port": 0}) as server:
        assert httpx.post(f"{server.url}/predict", json={"input": [[1, 2, 3, 4]]}).status_code == 500
        found = scrape(server)
    reason = labelled(model="linear", version="1", reason="BACKEND")
    assert found["nv_inference_request_failure", reason] == 1
    assert found["nv_inference_request_success", labelled(model="linear", version="1")] == 0


def test_clients_cannot_make_up_labels() -> None:
    with ProductionServer(linear_model(), {"port": 0}) as server:
        for i in range(20):
            httpx.request(("PROPFIND", "GET", "MKCOL")[i % 3], f"{server.url}/nowhere/{i}")
        text = httpx.get(f"{server.url}/metrics").text
    counted = re.findall(r"^tessera_http_requests_total\{(.*)\}", text, re.MULTILINE)
    assert [label for label in counted if "nowhere" in label or "PROP" in label] == []
    assert 'method="(other)",path="(none)",status="404"' in counted


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[GpuFigures]], None]:
    def plug(found: list[GpuFigures]) -> None:
        monkeypatch.setattr(gpu_figures, "_opener", lambda: lambda: found)

    return plug


def test_gpus_are_shown_where_they_are_and_what_is_unknown_is_left_out(
    gpus: Callable[[list[GpuFigures]], None],
) -> None:
    gpus([GpuFigures("GPU-1", 0.5, 2e9, 8e9, 120.5, None, 17.25), GpuFigures("GPU-2", 0.0)])
    with ProductionServer(linear_model(), {"port": 0}) as server:
        found = scrape(server)
    assert found["nv_gpu_utilization", labelled(gpu_uuid="GPU-1")] == 0.5
    assert found["nv_gpu_utilization", labelled(gpu_uuid="GPU-2")] == 0.0
    assert found["nv_gpu_memory_used_bytes", labelled(gpu_uuid="GPU-1")] == 2e9
    assert found["nv_gpu_power_usage", labelled(gpu_uuid="GPU-1")] == 120.5
    assert found["nv_energy_consumption", labelled(gpu_uuid="GPU-1")] == 17.25
    assert not any(name == "nv_gpu_power_limit" for name, _ in found)


def test_servers_of_the_public_face_are_told_how_gpus_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import tessera.deploy

    monkeypatch.setattr(gpu_figures, "_opener", None)
    assert tessera.deploy.ProductionServer is ProductionServer
    assert gpu_figures._opener is not None
    # This machine has no GPU, or it has one and gives its figures: neither raises.
    reader = gpu_figures._opener()
    assert reader is None or list(reader()) is not None


def test_programs_own_counters_are_on_the_servers_page() -> None:
    counter = prometheus_client.Counter("my_own_things_total", "Mine")
    try:
        counter.inc(3)
        with ProductionServer(linear_model(), {"port": 0}) as server:
            text = httpx.get(f"{server.url}/metrics").text
    finally:
        prometheus_client.REGISTRY.unregister(counter)
    assert "my_own_things_total 3.0" in text
    assert "process_resident_memory_bytes" in text


async def test_collector_counts_calls_errors_and_time_of_plain_and_async_functions() -> None:
    metrics = MetricsCollector(prometheus_client.CollectorRegistry())

    @metrics.track
    def plain(x: int) -> int:
        """Doc."""
        if x < 0:
            raise ValueError("negative")
        return x + 1

    @metrics.track
    async def awaited(x: int) -> int:
        await asyncio.sleep(0)
        return plain(x)

    assert plain(1) == 2
    assert await awaited(2) == 3
    with pytest.raises(ValueError, match="negative"):
        await awaited(-1)
    assert (plain.__name__, plain.__doc__) == ("plain", "Doc.")
    exporter = metrics.export_to_prometheus(port=0)
    try:
        with urllib.request.urlopen(exporter.url, timeout=10) as response:
            assert response.headers["content-type"].startswith("text/plain")
            found = samples(response.read().decode())
        with pytest.raises(ServeError, match=str(exporter.port)):
            metrics.export_to_prometheus(port=exporter.port)
    finally:
        exporter.close()
    calls = "tessera_function_calls_total"
    assert found[calls, labelled(function="plain", outcome="ok")] == 2
    assert found[calls, labelled(function="plain", outcome="error")] == 1
    assert found[calls, labelled(function="awaited", outcome="error")] == 1
    assert found["tessera_function_seconds_count", labelled(function="plain")] == 3


def test_every_metric_is_in_the_manual_and_the_other_way_round(
    linear_package: Path, gpus: Callable[[list[GpuFigures]], None]
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "serving_observability.md").read_text()
    table = page.partition("## Metrics")[2].partition("### Metrics of your own")[0]
    names = {n for row in re.findall(r"^\|(.*?)\|", table, re.MULTILINE) for n in re.findall(r"`(\w+)", row)}
    gpus([GpuFigures("GPU-1", 0.5, 2e9, 8e9, 120.5, 300.0, 17.25)])
    with ProductionServer(linear_package, {"port": 0, "device": "reference"}) as server:
        text = httpx.get(f"{server.url}/metrics").text
    exposed = set(re.findall(r"^# HELP ((?:tessera|nv)_\w+)", text, re.MULTILINE))
    assert exposed == {n for n in names if n.startswith(("tessera_", "nv_"))}
