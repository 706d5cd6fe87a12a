"""The format page says what the code does."""

import os
import re
from dataclasses import fields
from pathlib import Path

import pytest

from tessera.package import Limits, Manifest, Package, PackageBuilder, parse_bytes
from tessera.package.requirements import check_requirements
from tessera.program.artifact import Artifact
from tessera.program.dtype import DTYPES

PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text()


def test_the_code_on_the_page_runs(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Package.from_artifact(artifact, name="my_model").save("my_model_v1.0.0.tsd")
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "docs/format.md", "exec"), {})
    assert sorted(os.listdir(tmp_path)) == ["my_model", "my_model_v1.0.0.tsd"]  # noqa: PTH208


def test_every_key_of_the_manifest_is_on_the_page() -> None:
    for name in Manifest.__struct_fields__:
        assert f"`{name}`" in PAGE


def test_every_dtype_is_on_the_page() -> None:
    section = PAGE.split("## Weights")[1].split("## The manifest")[0]
    assert set(re.findall(r"`(\w+)`", section)) >= set(DTYPES)


def test_the_limits_on_the_page_are_the_limits() -> None:
    shown = PAGE.split("| limit | by default |")[1].split("\n\n")[0].replace(",", "")
    sizes = [parse_bytes(text) for text in re.findall(r"\d+ [KMGT]iB", shown)]
    found = Limits()
    assert sizes == [
        found.manifest_bytes,
        found.document_bytes,
        found.signature_bytes,
        found.ratio_free_bytes,
        found.inflated_bytes,
        found.total_bytes,
    ]
    for number in (found.entries, found.json_depth, found.ratio):
        assert f" {number} " in shown
    assert len(fields(Limits)) == len(sizes) + 3


def test_every_requirement_on_the_page_is_known() -> None:
    section = PAGE.split("### Requirements")[1].split("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    values = [re.findall(r"`([^`]+)`", form)[0] for _, form in rows]
    requirements = {
        n: v for (names, _), v in zip(rows, values, strict=True) for n in re.findall(r"`(\w+)`", names)
    }
    assert len(requirements) == 7
    assert check_requirements(requirements) == requirements
    PackageBuilder().build("x", metadata={"requirements": requirements})
