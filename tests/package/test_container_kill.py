"""A save that is killed leaves the old file or the new one, never a mixture."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

QUICK = 15
SOAK = int(os.environ.get("TESSERA_PACKAGE_KILLS", "200"))

# The child is a process of its own that saves in turns two packages over one file, until it is killed.
SCRIPT = """
import json, os, random, signal, sys, time
from pathlib import Path
import numpy as np
from tessera.package import PackageBuilder, verify

folder, count = Path(sys.argv[1]), int(sys.argv[2])
path = folder / "a.tsd"
rng = np.random.default_rng(0)
built = [
    PackageBuilder().add_weights({f"w{i}": rng.standard_normal(1 << 18) for i in range(n)}).build(f"of {n}")
    for n in (2, 4)
]
whole = {package.save(path).read_bytes() for package in built}
started = time.perf_counter()
built[1].save(path)
save_s = time.perf_counter() - started
found = {"torn": 0, "interrupted": 0, "unsound": 0}
for turn in range(count):
    child = os.fork()
    if child == 0:
        while True:
            for package in built:
                package.save(path)
    time.sleep(random.Random(turn).uniform(0.2, 3) * save_s)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, "the save ended before it was killed"
    unfinished = list(folder.glob(".*.tmp"))
    found["interrupted"] += bool(unfinished)
    found["torn"] += path.read_bytes() not in whole
    found["unsound"] += bool(verify(path))
    for file in unfinished:
        file.unlink()
found["others"] = sorted(set(os.listdir(folder)) - {"a.tsd"})
print(json.dumps(found))
"""


def killed(folder: Path, count: int) -> dict[str, object]:
    command = [sys.executable, "-c", SCRIPT, str(folder), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def check(folder: Path, count: int) -> None:
    found = killed(folder, count)
    assert found.pop("interrupted"), "no kill hit a save in the middle"
    assert found == {"torn": 0, "unsound": 0, "others": []}


def test_a_killed_save_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    check(tmp_path, QUICK)


@pytest.mark.soak
def test_two_hundred_killed_saves_leave_no_torn_file(tmp_path: Path) -> None:
    check(tmp_path, SOAK)
