"""The manual's page on protocols says what is so."""

import ast
import re
from pathlib import Path

SERVE = Path(__file__).parents[1]
PAGE = (SERVE.parents[1] / "docs" / "serving_protocols.md").read_text()


def test_every_test_that_the_list_names_is_there() -> None:
    table = PAGE.partition("## Conformance")[2].partition("## perf_analyzer")[0]
    named = 0
    for row in table.splitlines():
        file = ""
        for found, test in re.findall(r"`([\w/]*\.py)?::(test_\w+)`", row):
            file = found or file
            tree = ast.parse((SERVE / file).read_text())
            names = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
            assert test in names, f"{file}::{test}"
            named += 1
    assert named > 30


def test_every_method_of_the_service_is_in_the_list() -> None:
    from tessera.serve.grpc.protocol import inference_pb2

    families = ("SystemSharedMemory", "CudaSharedMemory", "TraceSetting")
    for method in inference_pb2.SERVICE.methods:
        if not method.name.startswith(families):
            assert f"`{method.name}`" in PAGE, method.name
