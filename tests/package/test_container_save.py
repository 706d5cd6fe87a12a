"""Saving: whole or not at all."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tessera.package import Package, PackageBuilder, verify
from tessera.program.artifact import Artifact
from tessera.program.errors import PackageError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def built(artifact: Artifact) -> Package:
    return Package.from_artifact(artifact, name="demo")


def test_saving_over_a_package_in_use_keeps_its_weights(
    built: Package, tmp_path: Path, artifact: Artifact
) -> None:
    path = built.save(tmp_path / "a.tsd")
    old = Package.load(path)
    weight = old.constant("layers.0.weight")
    PackageBuilder().build("other").save(path)
    assert Package.load(path).name == "other"
    np.testing.assert_array_equal(weight, artifact.constants["layers.0.weight"])
    old.save(path)
    assert Package.load(path).name == "demo"
    assert names(tmp_path) == ["a.tsd"]


def test_the_kind_follows_the_ending_unless_it_is_given(
    built: Package, artifact: Artifact, tmp_path: Path
) -> None:
    kinds = {
        ending: Package.load(built.save(tmp_path / f"a{ending}")).manifest
        for ending in (".tsc", ".tsp", ".tsd", ".x")
    }
    assert {ending: m.kind for ending, m in kinds.items()} == {
        ".tsc": "tsc",
        ".tsp": "tsp",
        ".tsd": "tsd",
        ".x": "tsd",
    }
    assert kinds[".tsc"].runtime == ()
    assert "runtime/launcher.py" in kinds[".tsd"].runtime
    fixed = Package.from_artifact(artifact, name="a", kind="tsp")
    assert Package.load(fixed.save(tmp_path / "fixed.tsd")).manifest.kind == "tsp"


def test_the_native_runtime_goes_into_deployments_alone(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "libtessera_rt.so"
    library.write_bytes(b"native")
    monkeypatch.setattr("tessera.package.draft.SHIPPED_RUNTIME", library)
    package = Package.from_artifact(artifact, name="a")
    runtimes = {
        ending: Package.load(package.save(tmp_path / f"a{ending}")).manifest.runtime
        for ending in (".tsc", ".tsd")
    }
    assert runtimes == {".tsc": (), ".tsd": ("runtime/launcher.py", "runtime/libtessera_rt.so")}


@pytest.mark.parametrize(
    ("place", "hint"), [("missing/a.tsd", "mkdir -p"), ("folder", "unpack"), ("file/a.tsd", "")]
)
def test_a_place_that_cannot_be_written_says_why(
    built: Package, tmp_path: Path, place: str, hint: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PackageError) as caught:
        built.save(tmp_path / place)
    assert str(tmp_path / place) in caught.value.message
    assert hint in (caught.value.hint or "")
    assert names(tmp_path) == ["file", "folder"]


def test_a_saved_file_has_the_mode_of_any_new_file(built: Package, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    assert built.save(tmp_path / "a.tsd").stat().st_mode == (tmp_path / "plain").stat().st_mode


SAVE = """
import sys
import numpy as np
from tessera.package import PackageBuilder
rng = np.random.default_rng(0)
weights = {f"w{i}": rng.standard_normal(1 << 20) for i in range(16)}
package = PackageBuilder().add_weights(weights).build("big")
print("saving", flush=True)
"""


def test_a_kill_in_the_middle_leaves_the_old_file(built: Package, tmp_path: Path) -> None:
    path = built.save(tmp_path / "a.tsd")
    before = path.read_bytes()
    interrupted = 0
    for delay in (0.0, 0.0, 0.01, 0.03, 0.1):
        path.write_bytes(before)
        command = [sys.executable, "-c", SAVE + f"package.save({str(path)!r})"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            while not list(tmp_path.glob(".*.tmp")) and process.poll() is None:
                time.sleep(0.0002)
            time.sleep(delay)
            process.kill()
        unfinished = list(tmp_path.glob(".*.tmp"))
        if unfinished:
            interrupted += 1
            assert path.read_bytes() == before
        else:
            assert verify(path) == []
        for file in unfinished:
            file.unlink()
    assert interrupted, "no kill hit a save in the middle"


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    # RLIMIT_FSIZE makes a write beyond 1 MB fail as a full disk does.
    script = (
        SAVE
        + f"""
import resource
from tessera.program.errors import PackageError
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    package.save({str(tmp_path / "a.tsd")!r})
except PackageError as error:
    print(error)
    sys.exit(7)
"""
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "cannot write" in done.stdout
    assert "File too large" in done.stdout
    assert names(tmp_path) == []


def test_an_unpack_that_fails_leaves_nothing(built: Package, tmp_path: Path) -> None:
    path = built.save(tmp_path / "a.tsd")
    entry = Package.load(path).manifest.entry("weights/layers.0.weight.bin")
    assert entry is not None
    assert entry.offset is not None
    data = bytearray(path.read_bytes())
    data[entry.offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(PackageError, match=r"layers\.0\.weight"):
        Package.load(path).unpack(tmp_path / "out")
    assert names(tmp_path) == ["a.tsd"]


def test_unpack_takes_an_empty_folder_and_no_other(built: Package, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert Package.load(built.unpack(tmp_path / "empty")).verify() == []
    with pytest.raises(PackageError, match="not an empty folder"):
        built.unpack(tmp_path / "empty")
    with pytest.raises(PackageError, match="not an empty folder"):
        built.unpack(built.save(tmp_path / "file.tsd"))
    with pytest.raises(PackageError, match="cannot write"):
        built.unpack(tmp_path / "no" / "such")


def test_saving_the_same_file_from_many_threads_is_safe(built: Package, tmp_path: Path) -> None:
    path = tmp_path / "a.tsd"
    built.save(path)
    threads = [threading.Thread(target=built.save, args=(path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert Package.load(path).name == "demo"
    for thread in threads:
        thread.join()
    assert verify(path) == []
    assert names(tmp_path) == ["a.tsd"]


def test_a_save_holds_one_weight_at_a_time(tmp_path: Path) -> None:
    # 32 weights of 4 MB that take no memory until they are laid out in C order.
    script = f"""
import resource
import numpy as np
from tessera.package import PackageBuilder
weights = {{f"w{{i}}": np.broadcast_to(np.float32(i), (1 << 20,)) for i in range(32)}}
package = PackageBuilder().add_weights(weights).build("big")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
package.save({str(tmp_path / "big.tsd")!r})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    grown_bytes = int(done.stdout) * 1024
    assert (tmp_path / "big.tsd").stat().st_size > 128 << 20
    assert grown_bytes < 32 << 20, f"grew by {grown_bytes >> 20} MB"
