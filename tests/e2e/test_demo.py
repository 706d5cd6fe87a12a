"""`tessera demo` in a process of its own: the whole way, with a real server and the real digits."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path


def test_demo_serves_the_digits_right_and_writes_a_report(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tessera", "demo", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert {m["name"] for m in result["models"]} == {"digits_f32", "digits_bf16"}
    for model in result["models"]:
        assert model["digits"] == 360
        assert model["accuracy"] >= 0.95
        assert model["equal_to_reference"] == 1.0
    assert result["stages"].keys() >= {"compile and package", "verify", "start the server"}
    report = (tmp_path / "report.html").read_text()
    assert "Confusion matrix of digits_bf16" in report
    with zipfile.ZipFile(tmp_path / "out/demo/digits_f32.tsd") as package:
        names = package.namelist()
    for folder in ("kernels/sm_70/", "kernels/sm_80/", "kernels/sm_90/", "weights/", "config/", "runtime/"):
        assert any(name.startswith(folder) for name in names), folder
