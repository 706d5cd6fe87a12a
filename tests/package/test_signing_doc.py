"""The page on signing says what the code does."""

import re
from pathlib import Path

import pytest

from tessera.package import Package
from tessera.package.provenance import BUILD_TYPE, LOCAL_BUILDER, SUFFIX
from tessera.package.trust import _KINDS, read_policy
from tessera.program.artifact import Artifact

PAGE = (Path(__file__).parents[2] / "docs" / "signing.md").read_text()


def test_the_code_on_the_page_runs(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Package.from_artifact(artifact, name="hello").save("hello.tsd")
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "docs/signing.md", "exec"), {})
    assert Package.load("hello.tsd").signature is not None


def test_the_policy_on_the_page_is_one(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "tessera.toml"
    file.write_text(block)
    policy = read_policy(file)
    assert policy is not None
    assert policy.keys == (tmp_path / "keys/release.pub.pem",)
    assert all(re.search(rf"^{name} = ", block, re.MULTILINE) for name in _KINDS)


def test_names_on_the_page_are_those_of_the_code() -> None:
    for name in (BUILD_TYPE, LOCAL_BUILDER, f"hello.tsd{SUFFIX}"):
        assert f"`{name}`" in PAGE
