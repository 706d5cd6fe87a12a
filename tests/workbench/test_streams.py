"""stdout and stderr in every state, and JSON alone on stdout, in processes of their own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

TESSERA = [sys.executable, "-m", "tessera"]
INSPECT = [*TESSERA, "inspect", "kernels.py", "--json"]


def run(words: Sequence[str], **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, **options)


@pytest.mark.parametrize(
    "line",
    [
        "import os; os.write(1, b'by descriptor\\n')",
        "import os; os.system('echo by a child')",
        "import atexit; atexit.register(print, 'at exit')",
        "import os; pid = os.fork(); pid and os.waitpid(pid, 0)",
        "import os; os.close(1)",
    ],
    ids=["descriptor", "child", "exit", "fork", "close"],
)
def test_json_stays_one_object_whatever_the_file_does(project: Path, line: str) -> None:
    source = project / "kernels.py"
    source.write_text(f"{line}\n{source.read_text()}")
    said = run(INSPECT)
    assert said.stdout.count("\n") == 1
    assert [e["name"] for e in json.loads(said.stdout)["entries"]] == ["saxpy", "linear_relu"]
    assert said.returncode == 0, said.stderr


def test_json_holds_names_that_are_not_utf8(project: Path) -> None:
    name = os.fsdecode(b"not\xffutf8.py")
    (project / "kernels.py").rename(project / name)
    said = run([*TESSERA, "inspect", name, "--json"])
    assert json.loads(said.stdout)["title"] == name
    assert run([*TESSERA, "inspect", f"{name}.not", "--json"]).returncode == 2


def test_ctrl_c_with_json_is_an_object(project: Path) -> None:
    (project / "slow.py").write_text("import sys, time\nsys.stderr.write('begun\\n')\ntime.sleep(60)\n")
    command = [*TESSERA, "inspect", "slow.py", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert json.loads(out)["error"]["message"] == "interrupted"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("flag", ["", "--json"])
def test_closed_streams_do_no_harm(project: Path, closed: str, flag: str) -> None:
    shell = f"{sys.executable} -m tessera inspect kernels.py {flag} {closed}"
    said = run(["sh", "-c", shell])
    assert (said.returncode, said.stderr) == (0, "")
    shell = f"{sys.executable} -m tessera inspect nothing.py {flag} {closed}"
    assert run(["sh", "-c", shell]).returncode == 2


@pytest.mark.parametrize("flag", ["", "--json"])
def test_full_disk_under_stdout_is_one_line(project: Path, flag: str) -> None:
    said = run(["sh", "-c", f"{sys.executable} -m tessera inspect kernels.py {flag} > /dev/full"])
    assert said.returncode == 1
    assert said.stderr == "error: No space left on device\nhint: df -h shows which disk is full\n"
