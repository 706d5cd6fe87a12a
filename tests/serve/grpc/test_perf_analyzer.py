"""NVIDIA's `perf_analyzer`, unmodified, measures a server, and checks its answers meanwhile.

It is found by the variable PERF_ANALYZER or in PATH. `pip install perf-analyzer` brings it where the C
library is glibc 2.38 or later.
"""

import csv
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from grpc_servers import PACKAGE, Served, served

PROGRAM = os.environ.get("PERF_ANALYZER") or shutil.which("perf_analyzer")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="pip install perf-analyzer (it needs glibc 2.38)"),
]


@pytest.fixture(scope="module")
def sharing(pair_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of the pair package that takes shared memory."""
    config = {"device": "reference", "shared_memory": True}
    with served(
        tmp_path_factory.mktemp("perf"), PACKAGE.format(package=str(pair_package), config=config)
    ) as s:
        yield s


@pytest.fixture
def data(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Eight inputs and the outputs that are expected."""
    pairs = [rng.standard_normal((2, 2)).astype(np.float32) for _ in range(8)]
    content = {
        "data": [{"a": a.tolist(), "b": b.tolist()} for a, b in pairs],
        "validation_data": [{"total": (a + b).tolist(), "product": (a * b).tolist()} for a, b in pairs],
    }
    path = tmp_path / "data.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("protocol", "options"),
    [
        ("http", []),
        ("http", ["--async"]),
        ("http", ["-b", "4"]),
        ("grpc", []),
        ("grpc", ["--async"]),
        ("grpc", ["--streaming", "--async"]),
        ("grpc", ["-b", "4"]),
        ("grpc", ["--grpc-compression-algorithm", "gzip"]),
    ],
)
def test_measures_and_finds_every_answer_right(
    sharing: Served, data: Path, tmp_path: Path, protocol: str, options: list[str]
) -> None:
    report = tmp_path / "report.csv"
    checks = [] if "-b" in options else ["--input-data", str(data)]
    shapes = ["--shape", "a:2", "--shape", "b:2"]
    figures = run(sharing, protocol, report, [*options, *checks, *shapes])
    assert figures["Inferences/Second"] > 0
    assert figures["Concurrency"] == 4


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_measures_with_shared_memory(sharing: Served, tmp_path: Path, protocol: str) -> None:
    options = ["--shared-memory", "system", "--output-shared-memory-size", "64"]
    options += ["--shape", "a:2", "--shape", "b:2"]
    assert run(sharing, protocol, tmp_path / "report.csv", options)["Inferences/Second"] > 0


def run(server: Served, protocol: str, report: Path, options: list[str]) -> dict[str, float]:
    """The first row of the report."""
    command = [str(PROGRAM), "-m", "pair", "-i", protocol, "-f", str(report), *options]
    command += ["-u", server.http if protocol == "http" else server.grpc]
    command += ["--concurrency-range", "4:4", "--measurement-mode", "count_windows"]
    command += ["--measurement-request-count", "200", "-s", "999", "-r", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with report.open() as lines:
        return {key: float(value or 0) for key, value in next(csv.DictReader(lines)).items()}
