"""Files that appear whole or not at all."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tessera.package.atomic import atomic_file, write_json
from tessera.program.errors import ConfigError, PackageError


def limited(code: str, limit: int) -> str:
    """What a process prints that may write files of `limit` bytes: beyond, a disk is full."""
    script = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
{code}
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout


def test_json_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"µ": [1, 2.5, None]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"µ": [1, 2.5, None]}
    assert path.read_text(encoding="utf-8").endswith("}\n")
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, [float("nan")])
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write") as caught:
        write_json(tmp_path / "no" / "a.json", 1)
    assert "mkdir -p" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="is a folder"):
        write_json(tmp_path, 1)


def test_devices_and_pipes_are_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to("/dev/null")
    for path in (pipe, tmp_path / "link"):
        with pytest.raises(PackageError, match="is a device or a pipe"), atomic_file(path) as file:
            file.write(b"x")
    assert pipe.is_fifo()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "pipe"]


def test_names_that_no_file_can_have_are_errors_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, hint in ((tmp_path / ("n" * 300), "shorter name"), (tmp_path / "file" / "a", "ls -ld")):
        with pytest.raises(PackageError, match="cannot write") as caught, atomic_file(path) as file:
            file.write(b"x")
        assert hint in str(caught.value.hint)


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit of a file's size here")
@pytest.mark.parametrize("count", [1, 3])
def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path: Path, count: int) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    said = limited(
        f"""
from pathlib import Path
from tessera.package.atomic import atomic_file
from tessera.program.errors import PackageError
try:
    with atomic_file(Path({str(path)!r})) as file:
        for _ in range({count}):
            file.write(b"x" * 3000)
except PackageError as error:
    print(error)
""",
        2000,
    )
    # A file without a buffer takes the first 2000 bytes and says nothing: it must not be taken for all.
    assert "cannot write" in said
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_what_a_block_raises_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def stopped() -> None:
        with atomic_file(path) as file:
            file.write(b"new")
            raise PackageError("stop")

    with pytest.raises(PackageError, match="stop"):
        stopped()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
