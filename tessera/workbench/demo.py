"""The whole way once, on real input: compile, package, verify, serve, answer, report.

`tessera demo` runs it on the digits classifier of `examples/digits`: every stage is what a user would call,
and the server is a process of its own.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tessera.program.errors import ConfigError, IntegrityError, ServeError, TesseraError
from tessera.workbench.output import progress

if TYPE_CHECKING:
    import numpy as np

    from tessera.runtime import DeploymentPackage

TARGETS = ("sm_70", "sm_80", "sm_90", "cpu")
"""V100, A100, H100 and this machine's processor."""
START_LIMIT_S = 60.0
"""How long the server may take until it is ready."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One model's way through the demo."""

    name: str
    path: Path
    package: DeploymentPackage
    labels: np.ndarray[Any, Any]
    predicted: np.ndarray[Any, Any]
    """(360,) digit that the server gave the highest score."""
    reference: np.ndarray[Any, Any]
    """(360,) digit that the NumPy reference gives the highest score."""
    latencies_ms: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """Share of the held-out digits that the server got right."""
        return float((self.predicted == self.labels).mean())

    def latency_ms(self, fraction: float) -> float:
        """The quantile of the latencies, such as 0.5 for the median."""
        from tessera.profiler.timing import quantile

        return quantile(sorted(self.latencies_ms), fraction)

    @property
    def agreement(self) -> float:
        """Share of the held-out digits on which server and reference say the same."""
        return float((self.predicted == self.reference).mean())


class Stages:
    """Wall-clock seconds of each stage, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body as a stage called `name`; stages of the same name add up."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def example_module() -> ModuleType:
    """The module `examples/digits/model.py`, from the checkout or the installed package.

    Raises:
        ConfigError: Neither has it.
    """
    here = Path(__file__).resolve()
    for folder in (here.parents[2] / "examples" / "digits", here.parents[1] / "_examples" / "digits"):
        path = folder / "model.py"
        if path.is_file():
            spec = importlib.util.spec_from_file_location("tessera_demo_digits", path)
            if spec is not None and spec.loader is not None:
                module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                return module
    raise ConfigError(
        "the example examples/digits/model.py is not where Tessera is installed",
        hint="run the demo from a clone of the repository: make demo",
    )


@contextlib.contextmanager
def server_process(package: Path, log: Path) -> Iterator[str]:
    """The URL of `tessera serve PACKAGE` in a process of its own, which is stopped with SIGTERM at the end.

    Raises:
        ServeError: It did not get ready, or did not end cleanly.
    """
    command = [sys.executable, "-m", "tessera", "serve", str(package), "--port", "0", "--device", "cpu"]
    with log.open("w") as errors:
        process = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        yield _ready_url(process, log)
        process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=30)
        if status != 0:
            raise ServeError(f"the server ended with status {status}", hint=f"see {log}")
    finally:
        process.kill()
        process.wait()


def _ready_url(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None  # noqa: S101 - Popen was given a pipe
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        line = process.stdout.readline() if selector.select(START_LIMIT_S) else ""
    try:
        return str(json.loads(line)["url"])
    except (ValueError, KeyError, TypeError):
        raise ServeError(
            f"the server did not get ready in {START_LIMIT_S:.0f} s", hint=f"see {log}"
        ) from None


def compile_models(
    folder: Path, module: ModuleType, stages: Stages
) -> list[tuple[str, Path, DeploymentPackage]]:
    """Compile and package the float32 and the bfloat16 model; names, files and open packages."""
    from tessera.deploy import ModelExporter

    images, _ = module.held_out()
    made = []
    with stages.stage("compile and package"), progress(2000) as show:
        for position, name in enumerate(("digits_f32", "digits_bf16")):

            def advance(done: int, total: int, label: str, start: int = position * 1000) -> None:
                show(start + 1000 * done / max(total, 1), label)

            exporter = ModelExporter(
                model=getattr(module, name), example_inputs=images[:8], target_architectures=TARGETS
            )
            path = folder / f"{name}.tsd"
            made.append((name, path, exporter.export(path, progress=advance)))
    return made


def verify_packages(made: list[tuple[str, Path, DeploymentPackage]], stages: Stages) -> int:
    """Check every byte of the packages; how many entries they have.

    Raises:
        IntegrityError: A package is not what its manifest says.
    """
    with stages.stage("verify"):
        for name, _, package in made:
            findings = package.verify()
            if findings:
                raise IntegrityError(
                    f"{name}: {findings[0].entry}: {findings[0].problem}", entry=findings[0].entry
                )
    return sum(len(package.entries) for _, _, package in made)


def serve_and_ask(
    name: str, path: Path, package: DeploymentPackage, module: ModuleType, log: Path, stages: Stages
) -> Outcome:
    """Serve a package, send it every held-out digit over HTTP, and compare with the reference."""
    import numpy as np

    images, labels = module.held_out()
    with stages.stage("start the server"):
        server = contextlib.ExitStack()
        url = server.enter_context(server_process(path, log))
    with server, stages.stage(f"ask {len(images)} digits over HTTP"):
        answers, latencies = ask(url, images.tolist())
    with stages.stage("compute the reference"), package.create_runtime(device="reference") as runtime:
        expected = np.asarray(runtime.execute(images))
    predicted = np.asarray(answers, np.float32).argmax(axis=1)
    return Outcome(name, path, package, labels, predicted, expected.argmax(axis=1), tuple(latencies))


def ask(url: str, images: list[list[float]]) -> tuple[list[list[float]], list[float]]:
    """Scores and latencies in ms of one `/predict` request per image, over one connection.

    Raises:
        ServeError: A request was not answered with 200.
    """
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    scores: list[list[float]] = []
    latencies: list[float] = []
    with contextlib.closing(connection), progress(len(images)) as show:
        for count, image in enumerate(images):
            body = json.dumps({"input": [image]})
            start = time.perf_counter()
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer: Any = json.loads(response.read())
            latencies.append((time.perf_counter() - start) * 1e3)
            if response.status != 200:
                raise ServeError(
                    f"digit {count}: the server answered {response.status}: {answer.get('error')}"
                )
            scores.append(answer["output"][0])
            show(count + 1, "digits over HTTP")
    return scores, latencies


MIN_ACCURACY = 0.95


def check_outcome(outcome: Outcome) -> None:
    """Whether the served model is right.

    Raises:
        TesseraError: It is wrong too often, or disagrees with the reference on a digit.
    """
    if outcome.accuracy < MIN_ACCURACY:
        raise TesseraError(
            f"{outcome.name}: {outcome.accuracy:.1%} of the digits are right, {MIN_ACCURACY:.0%} expected"
        )
    if outcome.agreement < 1:
        wrong = [i for i, same in enumerate(outcome.predicted == outcome.reference) if not same]
        raise TesseraError(
            f"{outcome.name}: server and reference disagree on {len(wrong)} digits, first number {wrong[0]}"
        )
