"""`tessera cache`."""

import time
from pathlib import Path

import pytest

from .conftest import Tessera


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TESSERA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kernels"


def test_entries_are_counted_pruned_and_cleared(tessera: Tessera, project: Path, folder: Path) -> None:
    tessera("compile", "kernels.py", "--arch", "sm_80,sm_90")
    files = list(folder.glob("??/*.entry"))
    shown = tessera("cache", "show", "--json").json
    assert shown["folder"] == str(folder)
    assert shown["entries"] == len(files) == 4
    assert shown["bytes"] == sum(f.stat().st_size for f in files)
    assert f"{len(files)} entries" in tessera("cache", "show").out
    largest = max(f.stat().st_size for f in files)
    pruned = tessera("cache", "prune", "--max-size", str(largest * 2), "--json").json
    assert 0 < pruned["removed"] < 4
    assert tessera("cache", "prune", "--json").json == {"removed": 0, "freed_bytes": 0}
    assert tessera("cache", "clear", "--json").json["removed"] == 4 - pruned["removed"]
    assert tessera("cache", "show", "--json").json["entries"] == 0


def test_what_was_used_last_is_kept(tessera: Tessera, project: Path, folder: Path) -> None:
    for arch in ("sm_70", "sm_80"):
        tessera("compile", "kernels.py:saxpy", "--arch", arch)
    # Files' times may be as coarse as 10 ms.
    time.sleep(0.05)
    tessera("compile", "kernels.py:saxpy", "--arch", "sm_70")
    size = max(f.stat().st_size for f in folder.glob("??/*.entry"))
    tessera("cache", "prune", "--max-size", str(size))
    again = tessera("compile", "kernels.py:saxpy", "--arch", "sm_70", "--arch", "sm_80", "--json").json
    assert [row["cached"] for row in again["kernels"]] == [True, False]


def test_folder_that_is_not_there_is_empty(tessera: Tessera, folder: Path) -> None:
    assert tessera("cache", "show", "--json").json["entries"] == 0
    assert tessera("cache", "clear").status == 0


def test_size_that_is_none_is_refused(tessera: Tessera, folder: Path) -> None:
    said = tessera("cache", "prune", "--max-size", "much")
    assert said.status == 2
    assert "much is no size" in said.err
