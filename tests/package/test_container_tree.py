"""The unpacked form: as strict as the file."""

import os
from pathlib import Path

import pytest

from tessera.package import Limits, Package, verify
from tessera.program.artifact import Artifact
from tessera.program.errors import IntegrityError, PackageError


@pytest.fixture
def folder(artifact: Artifact, tmp_path: Path) -> Path:
    return Package.from_artifact(artifact, name="demo").unpack(tmp_path / "demo")


def test_a_folder_loads_like_the_file(folder: Path, artifact: Artifact, tmp_path: Path) -> None:
    package = Package.load(folder)
    assert package.programs == {p.name: p for p in artifact.programs}
    assert package.constant("bias").tobytes() == artifact.constants["bias"].tobytes()
    assert not package.constant("bias").flags.writeable
    binary = package.binary("forward", "k1", "sm_80")
    assert binary is not None
    assert binary.data == artifact.binaries[0].data
    assert package.verify() == []


def test_a_folder_of_packages_is_no_package_and_the_hint_says_how_to_serve_it(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"has no manifest\.json") as caught:
        Package.load(tmp_path)
    assert caught.value.hint == f"if it holds packages: tessera serve --repository {tmp_path}"


def test_an_extra_file_is_refused_and_named(folder: Path) -> None:
    (folder / "runtime" / "__pycache__").mkdir()
    (folder / "runtime" / "__pycache__" / "x.pyc").write_bytes(b"")
    with pytest.raises(IntegrityError, match="not in the manifest") as caught:
        Package.load(folder)
    assert caught.value.entry == "runtime/__pycache__/x.pyc"


def test_a_missing_file_is_refused_and_named(folder: Path) -> None:
    package = Package.load(folder)
    (folder / "weights" / "bias.bin").unlink()
    with pytest.raises(IntegrityError, match="not in the folder") as caught:
        Package.load(folder)
    assert caught.value.entry == "weights/bias.bin"
    assert "weights/bias.bin" in [f.entry for f in package.verify()]


@pytest.mark.parametrize("target", ["layers.0.weight.bin", "/etc/hostname", "nowhere"])
def test_a_symbolic_link_is_refused(folder: Path, target: str) -> None:
    loaded = Package.load(folder)
    (folder / "weights" / "bias.bin").unlink()
    (folder / "weights" / "bias.bin").symlink_to(target)
    with pytest.raises(IntegrityError, match="symbolic link") as caught:
        Package.load(folder)
    assert caught.value.entry == "weights/bias.bin"
    with pytest.raises(PackageError):
        loaded.constant("bias")


def test_a_linked_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "weights").rename(tmp_path / "elsewhere")
    (folder / "weights").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="symbolic link"):
        Package.load(folder)


def test_a_pipe_does_not_block(folder: Path, tmp_path: Path) -> None:
    loaded = Package.load(folder)
    (folder / "weights" / "bias.bin").unlink()
    os.mkfifo(folder / "weights" / "bias.bin")
    with pytest.raises(IntegrityError, match="special file"):
        Package.load(folder)
    with pytest.raises(IntegrityError, match="not a regular file"):
        loaded.constant("bias")
    os.mkfifo(tmp_path / "pipe.tsd")
    with pytest.raises(IntegrityError, match="not a regular file"):
        Package.load(tmp_path / "pipe.tsd")


@pytest.mark.parametrize("change", [b"", b"12345", b"123"])
def test_a_file_of_another_size_is_refused(folder: Path, change: bytes) -> None:
    loaded = Package.load(folder)
    (folder / "weights" / "bias.bin").write_bytes(change)
    with pytest.raises(IntegrityError, match="the manifest says 4"):
        Package.load(folder)
    with pytest.raises(IntegrityError, match="the manifest says 4"):
        loaded.constant("bias")


def test_a_name_that_differs_in_case_is_refused(folder: Path) -> None:
    (folder / "weights" / "BIAS.bin").write_bytes(b"1234")
    with pytest.raises(IntegrityError, match="only in case"):
        Package.load(folder)


def test_a_folder_that_is_no_package_says_so(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"no manifest\.json"):
        Package.load(tmp_path)
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(PackageError):
        Package.load(tmp_path)


def test_too_many_files_are_refused(folder: Path) -> None:
    for i in range(20):
        (folder / f"extra{i}").mkdir()
    with pytest.raises(IntegrityError, match="more than 12 files"):
        Package.load(folder, limits=Limits(entries=12))


def test_a_file_that_is_not_there_is_an_error_with_its_path(tmp_path: Path) -> None:
    for check in (Package.load, verify):
        with pytest.raises(PackageError, match="No such file") as caught:
            check(tmp_path / "none.tsd")
        assert not isinstance(caught.value, IntegrityError)
        assert "none.tsd" in caught.value.message
