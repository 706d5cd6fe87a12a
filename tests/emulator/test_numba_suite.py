"""numba-cuda's own tests on the emulated device: a few of its modules, and the results file of all."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("numba.cuda")

from tests.emulator import run_numba_suite as suite


def test_results_file_states_what_passes_by_name() -> None:
    report = json.loads(suite.RESULTS.read_text())
    passed, failed = report["counts"]["passed"], report["counts"]["failed"]
    assert (passed, failed) == (len(report["passed"]), len(report["failed"]))
    assert report["percent"] == round(100 * passed / (passed + failed), 1)
    assert report["percent"] >= 90
    assert all(report["failed"].values()), "each failure has its reason"
    assert all(report["needs_driver"].values())


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["llvm", "lockstep"])
def test_modules_of_the_suite_pass(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(suite.ENGINE, engine)
    for module in ("test_sm", "test_warp_ops", "test_forall"):
        records = suite.run_in_child(module, seconds=120, module_seconds=600)
        assert len(records) > 3
        assert {r["name"]: r["reason"] for r in records if r["outcome"] == "failed"} == {}


def test_a_test_that_hangs_or_kills_its_process_is_one_failure(tmp_path, monkeypatch) -> None:
    package = tmp_path / "mytests"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "test_it.py").write_text(
        "import os, time, unittest\n"
        "class T(unittest.TestCase):\n"
        "    def test_a(self): pass\n"
        "    def test_b(self): os._exit(3)\n"
        "    def test_c(self): time.sleep(60)\n"
        "    def test_d(self): self.skipTest('no reason')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(suite.PACKAGE_VARIABLE, "mytests")
    records = suite.run_in_child("test_it", seconds=1, module_seconds=60)
    outcomes = {str(r["name"]).rsplit("_", 1)[1]: r["outcome"] for r in records}
    assert outcomes == {"a": "passed", "b": "failed", "c": "failed", "d": "skipped"}
