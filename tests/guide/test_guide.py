"""The deployment guide's snippets, run as written.

Each file in `snippets/` is one block of the guide, word for word. What the guide leaves to the reader (the
kernels that a batch compiles, the layers of `[...]`, the package in the current folder) the tests supply.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tessera as ts
from tessera.program.errors import TraceError
from tessera.reference import run_graph

SNIPPETS = Path(__file__).parent / "snippets"


def run(name: str, namespace: dict[str, Any]) -> dict[str, Any]:
    """Run a snippet in `namespace`, its file name kept so that errors point into it."""
    path = SNIPPETS / f"{name}.py"
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    return namespace


def elided(text: str, layers: str) -> str:
    """The snippet with the guide's `[...]`, which stands for the reader's own layers, filled in."""
    assert text.count("[...]") == 1
    return text.replace("[...]", layers)


@ts.jit
def attention_kernel(
    q: ts.Tensor[ts.f32, "rows", 64], k: ts.Tensor[ts.f32, "cols", 64], v: ts.Tensor[ts.f32, "cols", 64]
) -> ts.Tensor:
    return ts.matmul(ts.softmax(ts.matmul(q, k.T) * 0.125, axis=-1), v)


@ts.jit
def feedforward_kernel(
    x: ts.Tensor[ts.f32, "rows", 64], up: ts.Tensor[ts.f32, 64, 256], down: ts.Tensor[ts.f32, 256, 64]
) -> ts.Tensor:
    return ts.matmul(ts.gelu(ts.matmul(x, up)), down)


@ts.jit
def layernorm_kernel(x: ts.Tensor[ts.f32, "rows", 64]) -> ts.Tensor:
    return ts.layernorm(x)


# The guide exports for sm_80 and sm_90 alone: without a GPU the package runs on the reference device.
FALLS_BACK = pytest.mark.filterwarnings("ignore::tessera.runtime.DeviceFallbackWarning")
BATCH = {
    "attention_kernel": attention_kernel,
    "feedforward_kernel": feedforward_kernel,
    "layernorm_kernel": layernorm_kernel,
}


@pytest.fixture(scope="module")
def chapter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and names after the guide's AOT chapter was run from top to bottom."""
    folder = tmp_path_factory.mktemp("guide")
    before = Path.cwd()
    os.chdir(folder)
    try:
        namespace: dict[str, Any] = {"__name__": "guide", **BATCH}
        for name in ("aot_basic", "aot_advanced", "aot_batch"):
            run(name, namespace)
        text = elided((SNIPPETS / "model_export.py").read_text(), "[ts.Linear(1024, 1024), ts.ReLU()]")
        (folder / "model_export.py").write_text(text)
        exec(compile(text, str(folder / "model_export.py"), "exec"), namespace)
    finally:
        os.chdir(before)
    return folder, namespace


@pytest.fixture
def linear_deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a `deployment.tsd` that runs on this CPU; it is the current one."""
    from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget
    from tessera.package import Package

    fn = ts.jit(lambda x: ts.softmax(ts.relu(x), axis=-1), name="forward")
    compiler = AOTCompiler(AOTConfig(targets=[CompilationTarget("cpu")]))
    compiled = compiler.compile(fn, [ts.TensorSpec((None, 32), "f32")])
    Package.from_artifact(compiled.artifact, name="linear").save(tmp_path / "deployment.tsd")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_basic_aot_saves_a_kernel_for_three_architectures(chapter: tuple[Path, dict[str, Any]]) -> None:
    from tessera.deploy import DeploymentPackage

    package = DeploymentPackage.load(chapter[0] / "my_kernel.tsc")
    assert {b.target for b in package.binaries} >= {"sm_70", "sm_80", "sm_90"}
    assert [str(p.dtype) for p in package.programs["my_kernel"].inputs] == ["bf16", "bf16"]
    assert package.verify() == []


def test_advanced_aot_compiles_for_hopper_with_ptx(chapter: tuple[Path, dict[str, Any]]) -> None:
    from tessera.deploy import DeploymentPackage

    assert chapter[1]["config"].targets[1].wgmma_config == "m64n256k32"
    package = DeploymentPackage.load(chapter[0] / "model_kernels.tsp")
    formats = {(b.target, b.format) for b in package.binaries}
    assert {("sm_80", "cubin"), ("sm_90a", "cubin")} <= formats
    assert "ptx" in {kind for _, kind in formats}


def test_batch_saves_every_kernel_by_its_name(chapter: tuple[Path, dict[str, Any]]) -> None:
    from tessera.deploy import DeploymentPackage

    package = DeploymentPackage.load(chapter[0] / "model_kernels.tsp")
    assert set(package.programs) == {"attention", "feedforward", "layernorm"}


@FALLS_BACK
def test_model_export_quantizes_weights_and_agrees_with_the_model(
    chapter: tuple[Path, dict[str, Any]], rng: np.random.Generator
) -> None:
    from tessera.deploy import DeploymentPackage

    folder, namespace = chapter
    package = DeploymentPackage.load(folder / "model_deployment.tsd")
    (program,) = package.programs.values()
    assert "i8" in {str(c.dtype) for c in program.constants}
    x = rng.standard_normal((2, 512, 1024)).astype(np.float32)
    traced = namespace["model"].trace([ts.TensorSpec(("batch", 512, 1024), ts.f32)])
    (expected,) = run_graph(
        traced.graph, {traced.graph.nodes[0].attrs["name"]: x}, traced.constants, precision="f64"
    ).values()
    with package.create_runtime(device="cpu") as runtime:
        output = runtime.execute(x)
    # int8 weights, per output channel: 1/254 of the largest weight per product, averaged over 1024 products.
    assert np.abs(output - expected).max() < 0.02 * np.abs(expected).max()
    assert np.abs(output - expected).max() > 0


def test_model_export_with_the_elision_left_in_names_it() -> None:
    namespace: dict[str, Any] = {"__name__": "guide", "ts": ts}
    with pytest.raises(TraceError, match=r"MyModel\.layers\[0\]"):
        run("model_export", namespace)


@FALLS_BACK
def test_deployment_api_runs_single_and_batched(
    chapter: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.chdir(chapter[0])
    namespace = run("deployment_api", {"__name__": "guide"})
    x = rng.standard_normal((1, 512, 1024)).astype(np.float32)
    output = namespace["inference"](x)
    assert output.shape == (1, 512, 1024)
    batch = [x[0], rng.standard_normal((512, 1024)).astype(np.float32)]
    outputs = namespace["batch_inference"](batch)
    assert len(outputs) == 2
    np.testing.assert_allclose(outputs[0], output[0], rtol=1e-5, atol=1e-5)


def test_runtime_optimization_measures_and_saves_what_a_server_reads(
    linear_deployment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.random.default_rng(3).standard_normal((16, 32), dtype=np.float32)
    found = run("runtime_optimization", {"generate_test_inputs": lambda: rows})
    assert found["recommendations"].optimal_batch_size >= 1
    assert "Recommended batch size: " in capsys.readouterr().out
    from tessera.serve import ServerConfig

    saved = ServerConfig.load(linear_deployment / "runtime_config.json", environment={})
    assert saved.max_batch_size == found["optimized_config"].max_batch_size


def test_memory_optimization_measures_and_serves_from_a_pool(
    linear_deployment: Path, rng: np.random.Generator
) -> None:
    from tessera.deploy import create_memory_pool, load_model

    given = {
        "model_package": "deployment.tsd",
        "load_model": load_model,
        "create_memory_pool": create_memory_pool,
    }
    found = run("memory_optimization", given)
    effect = found["mem_optimizer"].effect
    assert effect.after.executions >= 1
    assert effect.after.peak_bytes >= found["analysis"].execution_bytes
    server = found["MemoryEfficientServer"]("deployment.tsd")
    x = rng.standard_normal((8, 32)).astype(np.float32)
    np.testing.assert_array_equal(server.infer(x), server.model(x))
    assert server.memory_pool.usage()["limit_bytes"] == 8 << 30
    assert server.memory_pool.device == server.model.runtime.device


def test_troubleshooting_says_what_this_machine_lacks(
    linear_deployment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run("troubleshooting", {})
    said = capsys.readouterr().out
    assert "Package corrupted" not in said
    assert found["mem_status"].required > 0
    assert ("CUDA version mismatch" in said) is not bool(found["diagnostics"].check_cuda_version())
    assert ("Performance degradation" in said) is (found["perf"].latency > found["perf"].target_latency)


def test_debug_mode_traces_and_writes_its_report(
    linear_deployment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tessera.deploy import load_model

    x = np.random.default_rng(4).standard_normal((8, 32), dtype=np.float32)
    found = run("debug_mode", {"load_model": load_model, "test_input": x})
    debug = found["debug"]
    assert debug.trace.difference < 1e-5
    assert debug.leaks.ok
    said = capsys.readouterr().err
    assert "program forward on " in said
    assert "input x: float32[8, 32]" in said
    page = (linear_deployment / "debug_report.html").read_text()
    assert "no leak" in page


def test_error_recovery_answers_by_its_own_hands_and_by_the_fallback(
    linear_deployment: Path, rng: np.random.Generator
) -> None:
    import logging

    from tessera.deploy import OutOfMemoryError, clear_gpu_cache, load_model
    from tessera.program.errors import DeviceError

    model = load_model("deployment.tsd")
    Path("deployment.tsd").rename("model_v1_stable.tsd")
    failing: list[Exception] = []

    def primary_model(x: np.ndarray[Any, Any]) -> Any:
        if failing:
            raise failing[0]
        return model(x)

    given = {
        "primary_model": primary_model,
        "fallback_model": model,
        "OutOfMemoryError": OutOfMemoryError,
        "clear_gpu_cache": clear_gpu_cache,
        "logger": logging.getLogger("guide"),
        "fallback_response": lambda: "busy",
    }
    found = run("error_recovery", given)
    x = rng.standard_normal((8, 32)).astype(np.float32)
    np.testing.assert_array_equal(found["robust_inference"](x), model(x))
    failing.append(OutOfMemoryError("full"))
    np.testing.assert_array_equal(found["robust_inference"](x), model(x))
    failing[:] = [ValueError("no")]
    assert found["robust_inference"](x) == "busy"
    # What the snippet's own handlers cannot settle, its fallback package does.
    found["fallback_response"] = lambda: (_ for _ in ()).throw(DeviceError("away"))
    np.testing.assert_array_equal(found["robust_inference"](x), model(x))
    assert (found["recovery"].counts.retries, found["recovery"].counts.fallbacks) == (3, 1)


def test_batching_optimization_answers_each_request_at_its_own_length(
    linear_deployment: Path, rng: np.random.Generator
) -> None:
    import asyncio

    from tessera.deploy import AOTCompiler, AOTConfig, CompilationTarget, load_model
    from tessera.package import Package

    fn = ts.jit(lambda x: ts.softmax(ts.relu(x), axis=-1), name="forward")
    spec = ts.TensorSpec((None, None, 32), "f32")
    artifact = AOTCompiler(AOTConfig(targets=[CompilationTarget("cpu")])).compile(fn, [spec]).artifact
    Package.from_artifact(artifact, name="tokens").save("tokens.tsd")
    found = run("batching_optimization", {})
    requests = [rng.standard_normal((n, 32)).astype(np.float32) for n in (5, 1, 7, 12, 6)]
    with load_model("tokens.tsd", "cpu") as model:
        server = found["BatchedServer"](model)

        async def alone(x: np.ndarray[Any, Any]) -> Any:
            return await asyncio.wait_for(server.infer(x), 30)

        async def together() -> list[Any]:
            # The others came while the device was busy; the snippet's own call finds them waiting.
            waiting = [server.batcher.add_request(x) for x in requests[:4]]
            last = await alone(requests[4])
            while server.batcher.should_process():
                server.batcher.return_results(model.batch_inference(server.batcher.get_batch()))
            return [*(await asyncio.gather(*waiting)), last]

        results = asyncio.run(together())
        for x, y in zip(requests, results, strict=True):
            np.testing.assert_array_equal(y, model(x[None])[0])


@FALLS_BACK
def test_load_balancing_serves_from_four_replicas(
    chapter: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    import asyncio
    from types import SimpleNamespace

    from tessera.deploy import load_model

    monkeypatch.chdir(chapter[0])
    found = run("load_balancing", {"__name__": "guide"})
    xs = [rng.standard_normal((1, 512, 1024)).astype(np.float32) for _ in range(6)]

    async def together() -> list[Any]:
        return await asyncio.gather(*(found["serve_request"](SimpleNamespace(input=x)) for x in xs))

    with found["balancer"] as balancer:
        outputs = asyncio.run(together())
        rows = balancer.replicas
    assert [(r.name, r.state.value) for r in rows] == [(f"cuda:{n}", "ready") for n in range(4)]
    assert sum(r.answered for r in rows) == 6
    with load_model("model_deployment.tsd") as model:
        for x, output in zip(xs, outputs, strict=True):
            np.testing.assert_allclose(output, model(x), rtol=1e-5, atol=1e-5)


def free_port(port: int) -> None:
    """Skip unless the port that a snippet names is free here."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            pytest.skip(f"port {port}, which the snippet names, is in use on this machine")


def test_metrics_collection_exports_what_the_snippet_counts() -> None:
    import prometheus_client

    free_port(9090)
    before = set(prometheus_client.REGISTRY._collector_to_names)
    given = {"model": lambda x: 2 * x, "get_gpu_utilization": lambda: 37.5}
    found = run("metrics_collection", given)
    try:
        assert [found["inference_with_metrics"](x) for x in (1, 2, 3)] == [2, 4, 6]
        with urllib.request.urlopen("http://127.0.0.1:9090/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
    finally:
        found["metrics"].close()
        for collector in set(prometheus_client.REGISTRY._collector_to_names) - before:
            prometheus_client.REGISTRY.unregister(collector)
    assert "inference_requests_total 3.0" in lines
    assert "inference_latency_seconds_count 3.0" in lines
    assert "gpu_utilization_percent 37.5" in lines
    assert 'tessera_function_calls_total{function="inference_with_metrics",outcome="ok"} 3.0' in lines


def test_logging_configuration_writes_json_with_context_where_the_snippet_says(
    rng: np.random.Generator,
) -> None:
    import logging

    from tessera.serve.observe.log_queue import QueuedHandler

    folder = Path("/var/log/tessera")
    if folder.exists():
        pytest.skip(f"{folder}, which the snippet names, belongs to a server of this machine")
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"{folder}, which the snippet names: {error.strerror}")
    root, level = logging.getLogger(), logging.getLogger().level
    try:
        run("logging_configuration", {"request_id": "r-17", "input_data": rng.standard_normal((8, 512))})
        (handler,) = (h for h in root.handlers if isinstance(h, QueuedHandler))
        handler.close()
        root.removeHandler(handler)
        (line,) = (folder / "model.log").read_text().splitlines()
    finally:
        root.setLevel(level)
        shutil.rmtree(folder)
    written = json.loads(line)
    assert (written["logger"], written["level"]) == ("tessera.deployment", "INFO")
    assert written["message"] == "Inference request"
    assert (written["request_id"], written["model_version"]) == ("r-17", "1.0.0")
    assert (written["input_shape"], written["device"]) == ([8, 512], "cuda:0")


TRACING = """
import socket, sys
import numpy as np
known = socket.getaddrinfo
here = {"jaeger": "127.0.0.1"}
socket.getaddrinfo = lambda host, *rest, **more: known(here.get(host, host), *rest, **more)
given = {"preprocess": lambda x: x + 1, "model": lambda x: x @ x.T, "postprocess": lambda y: y.sum(0)}
exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"), given)
result = given["traced_inference"](np.arange(6.0).reshape(2, 3))
given["trace"].get_tracer_provider().shutdown()
print(result.tolist())
"""


def test_distributed_tracing_reaches_a_jaeger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "serve" / "observe"))
    from otlp_receiver import collecting

    # The snippet names Jaeger's old port; Jaeger takes OTLP beside it.
    free_port(4318)
    with collecting(4318) as jaeger:
        done = subprocess.run(
            [sys.executable, "-c", TRACING, str(SNIPPETS / "distributed_tracing.py")],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        spans = {s.name: s for s in jaeger.wait(4)}
    x = np.arange(6.0).reshape(2, 3) + 1
    assert json.loads(done.stdout) == (x @ x.T).sum(0).tolist()
    root = spans.pop("inference")
    assert {a.key: a.value.string_value for a in root.attributes} == {
        "input.shape": "(2, 3)",
        "output.shape": "(2,)",
    }
    assert set(spans) == {"preprocessing", "model_forward", "postprocessing"}
    assert {s.parent_span_id for s in spans.values()} == {root.span_id}
    assert jaeger.resources[0]["service.name"] == "tessera-model"


def test_production_server_answers_as_written_and_stops_on_sigterm(
    chapter: tuple[Path, dict[str, Any]], rng: np.random.Generator
) -> None:
    free_port(8080)
    folder = chapter[0]
    (folder / "server.py").write_text((SNIPPETS / "production_server.py").read_text())
    server = subprocess.Popen([sys.executable, "server.py"], cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        health = wait_for("http://127.0.0.1:8080/health", server)
        assert health["status"] == "healthy"
        assert "gpu_memory" in health
        wait_for("http://127.0.0.1:8080/ready", server)
        x = rng.standard_normal((1, 512, 1024)).astype(np.float32)
        answer = ask("http://127.0.0.1:8080/predict", {"input": x.tolist()})
        assert np.asarray(answer["output"]).shape == (1, 512, 1024)
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0
    finally:
        server.kill()
        server.communicate()


@FALLS_BACK
def test_multi_model_server_answers_as_written(
    linear_deployment: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    for name in ("model_v1.tsd", "model_v2.tsd"):
        (linear_deployment / name).write_bytes((linear_deployment / "deployment.tsd").read_bytes())
    monkeypatch.setenv("TESSERA_PORT", "0")
    # The snippet leaves the import of random to the reader; one in ten requests goes to the second model.
    draws = iter([0.05, 0.5])
    namespace = run("multi_model_server", {"random": SimpleNamespace(random=lambda: next(draws))})
    asked: list[str] = []
    server = namespace["server"]
    get_model = server.get_model
    monkeypatch.setattr(server, "get_model", lambda name: asked.append(name) or get_model(name))
    x = rng.standard_normal((2, 32)).astype(np.float32)
    with server:
        url = f"{server.url}/predict"
        answers = [ask(f"{url}/model_v2", {"input": x.tolist()}), ask(f"{url}/ab", {"input": x.tolist()})]
        ask(f"{url}/ab", {"input": x.tolist()})
        with pytest.raises(urllib.error.HTTPError, match="404"):
            ask(f"{url}/model_v3", {"input": x.tolist()})
        versions = [(row.name, row.version) for row in server.list_models()]
    assert answers[0]["model"] == "model_v2"
    assert asked == ["model_v2", "model_v2", "model_v1", "model_v3"]
    assert versions == [("model_v1", "1.0.0"), ("model_v2", "2.0.0")]
    relu = np.maximum(x.astype(np.float64), 0)
    expected = np.exp(relu) / np.exp(relu).sum(axis=1, keepdims=True)
    for answer in answers:
        np.testing.assert_allclose(answer["output"], expected, rtol=1e-4, atol=1e-6)


def wait_for(url: str, server: subprocess.Popen[str]) -> Any:
    for _ in range(300):
        if server.poll() is not None:
            raise AssertionError(f"the server ended: {server.stderr.read() if server.stderr else ''}")
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return json.load(response)
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not come up in 30 s")


def ask(url: str, body: Any) -> Any:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)
