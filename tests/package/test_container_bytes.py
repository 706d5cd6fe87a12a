"""What is in the file: readable by any unzip, reproducible, aligned, and every byte of it guarded."""

import os
import random
import subprocess
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from specimens import make_artifact

from tessera.package import Finding, Package, PackageBuilder, verify
from tessera.package.archive import DIRECTORY, END
from tessera.program.artifact import Artifact
from tessera.program.errors import IntegrityError, PackageError


@pytest.fixture
def package(artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # The same content whether or not the native runtime has been built on this machine.
    monkeypatch.setattr("tessera.package.draft.SHIPPED_RUNTIME", tmp_path / "none.so")
    return Package.from_artifact(artifact, name="demo").save(tmp_path / "demo.tsd")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A package with every kind of entry, some deflated, small enough to break at every byte."""
    builder = PackageBuilder()
    builder.add_kernels(make_artifact()).add_weights({"w": np.arange(6, dtype=np.float32)})
    builder.add_weights({"z": np.zeros(100, dtype=np.int8)}, compression="gzip")
    builder.add_config({"layers": 2})
    return builder.build("small", "1.0.0").save(tmp_path / "small.tsc")


def test_unzip_accepts_and_lists_the_tree(package: Path) -> None:
    tested = subprocess.run(["unzip", "-t", package], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "No errors detected" in tested.stdout
    with zipfile.ZipFile(package) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            "config/model_config.json",
            "config/runtime_config.json",
            "kernels/sm_80/attention.cubin",
            "programs/forward.json",
            "runtime/launcher.py",
            "weights/bias.bin",
            "weights/layers.0.weight.bin",
            "manifest.json",
        ]


def test_what_unzip_extracts_loads_as_a_folder(package: Path, tmp_path: Path) -> None:
    subprocess.run(["unzip", "-q", package, "-d", tmp_path / "out"], check=True)
    unpacked = Package.load(tmp_path / "out")
    assert unpacked.verify() == []
    assert unpacked.digest == Package.load(package).digest


def test_bytes_are_the_same_whatever_the_order_and_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    one, two = make_artifact("a", ("sm_80", "sm_90")), make_artifact("b", ("sm_70",))
    weights = {f"layer.{i}": rng.standard_normal((3, i)) for i in range(5)}
    files = []
    for turn in (1, -1):
        builder = PackageBuilder()
        for artifact in (one, two)[::turn]:
            builder.add_kernels(artifact)
        builder.add_weights(dict(list(weights.items())[::turn]), compression="gzip")
        files.append(builder.build("same", "1.0").save(tmp_path / f"{turn}.tsd").read_bytes())
    assert files[0] == files[1]


def test_saving_what_was_loaded_gives_the_same_bytes(package: Path, tmp_path: Path) -> None:
    loaded = Package.load(package)
    assert loaded.save(tmp_path / "copy.tsd").read_bytes() == package.read_bytes()
    folder = loaded.unpack(tmp_path / "folder")
    assert Package.load(folder).save(tmp_path / "packed.tsd").read_bytes() == package.read_bytes()
    again = Package.load(folder).unpack(tmp_path / "again")
    assert (again / "manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()


def test_weights_are_page_aligned_mapped_and_read_only(package: Path) -> None:
    loaded = Package.load(package)
    for entry in loaded.entries:
        if entry.path.startswith("weights/"):
            assert entry.offset is not None
            assert entry.offset % 4096 == 0
            assert package.read_bytes()[entry.offset :][: entry.size] == bytes(
                loaded.constant(entry.path[8:-4])
            )
    weight = loaded.constant("layers.0.weight")
    assert not weight.flags.owndata
    assert weight.ctypes.data % 4096 == 0
    with pytest.raises(ValueError, match="read-only"):
        weight[0, 0] = 1
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        weight.flags.writeable = True


def test_a_weight_outlives_its_package_and_its_file(package: Path, artifact: Artifact) -> None:
    weight = Package.load(package).constant("layers.0.weight")
    package.unlink()
    np.testing.assert_array_equal(weight, artifact.constants["layers.0.weight"])


def test_a_file_cut_short_after_loading_is_an_error_and_no_bus_error(package: Path) -> None:
    loaded = Package.load(package)
    os.truncate(package, 3000)
    with pytest.raises(IntegrityError, match="has 3000 now") as raised:
        loaded.constant("layers.0.weight")
    assert "mv" in (raised.value.hint or "")
    assert [f.entry for f in loaded.verify()] == ["zip end record"]
    with pytest.raises(IntegrityError, match="has 3000 now"):
        loaded.save(package.with_name("copy.tsd"))


def test_every_dtype_and_rank_survives(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    kinds = ["f8", "f4", "f2", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]
    kinds += ["i8", "i4", "i2", "i1", "u1", "?"]
    shapes = [(), (0,), (3,), (2, 0, 4), (2, 3, 4)]
    weights = {
        f"w{i}.{j}": (rng.standard_normal(s) * 9).astype(k)
        for i, k in enumerate(kinds)
        for j, s in enumerate(shapes)
    }
    weights["fortran"] = np.asfortranarray(rng.standard_normal((5, 7)))
    weights["strided"] = rng.standard_normal((9, 9))[::2, ::-3]
    weights["big endian"] = np.arange(5, dtype=">i4")
    for compression in ("gzip", None):
        builder = PackageBuilder().add_weights(weights, compression=compression)
        loaded = Package.load(builder.build("all").save(tmp_path / "all.tsd"))
        for name, value in weights.items():
            found = loaded.constant(name)
            assert found.shape == value.shape
            assert found.dtype == value.dtype.newbyteorder("<")
            assert found.tobytes() == value.astype(found.dtype).tobytes()
            assert not found.flags.writeable


def test_flipping_any_byte_is_found_and_named(small: Path, tmp_path: Path) -> None:
    data = small.read_bytes()
    names = {entry.path for entry in Package.load(small).entries} | {"manifest.json", DIRECTORY, END}
    assert verify(small) == []
    rng = random.Random(0)
    broken = tmp_path / "broken.tsc"
    directory = data.index(b"PK\1\2")
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << rng.randrange(8)
        broken.write_bytes(damaged)
        findings = verify(broken)
        assert findings, f"byte {position} of {len(data)} may change unseen"
        # A changed name in the directory may be named as it now is.
        assert findings[0].entry in names or position > directory, (position, findings[0])


@pytest.mark.slow
def test_flipping_any_byte_of_a_deployment_is_found_whatever_the_bit(package: Path, tmp_path: Path) -> None:
    data = package.read_bytes()
    broken = tmp_path / "broken.tsd"
    for mask in (0x01, 0x20, 0x80, 0xFF):
        for position in range(len(data)):
            broken.write_bytes(data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :])
            assert verify(broken), f"byte {position} of {len(data)} may change unseen"


def test_flipping_a_byte_of_an_entry_names_that_entry_in_file_and_folder(
    package: Path, tmp_path: Path
) -> None:
    loaded = Package.load(package)
    folder = loaded.unpack(tmp_path / "folder")
    data = package.read_bytes()
    for entry in loaded.entries:
        assert entry.offset is not None
        damaged = bytearray(data)
        damaged[entry.offset + (entry.packed_size or entry.size) // 2] ^= 0x10
        broken = tmp_path / "broken.tsd"
        broken.write_bytes(damaged)
        assert [f.entry for f in verify(broken)] == [entry.path]
        original = (folder / entry.path).read_bytes()
        changed = bytearray(original)
        changed[len(changed) // 2] ^= 1
        (folder / entry.path).write_bytes(changed)
        assert [f.entry for f in verify(folder)] == [entry.path]
        (folder / entry.path).write_bytes(original)
    assert verify(folder) == []


def test_flipping_any_byte_of_an_unpacked_manifest_is_found(small: Path, tmp_path: Path) -> None:
    folder = Package.load(small).unpack(tmp_path / "folder")
    data = (folder / "manifest.json").read_bytes()
    for position in range(0, len(data), 3):
        (folder / "manifest.json").write_bytes(
            data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        )
        assert [f.entry for f in verify(folder)] == ["manifest.json"]


def test_a_file_that_is_no_package_is_named(tmp_path: Path) -> None:
    torn = tmp_path / "torn.tsd"
    torn.write_bytes(b"hello")
    with pytest.raises(IntegrityError, match=r"torn\.tsd: zip end record: a file of 5 bytes") as raised:
        Package.load(torn)
    assert raised.value.entry == "zip end record"


def test_a_file_cut_short_or_made_longer_is_refused(small: Path, tmp_path: Path) -> None:
    data = small.read_bytes()
    rng = random.Random(1)
    broken = tmp_path / "broken.tsc"
    for length in [0, 1, 21, 22, 97, 98, len(data) - 1, *(rng.randrange(len(data)) for _ in range(300))]:
        broken.write_bytes(data[:length])
        with pytest.raises(IntegrityError):
            Package.load(broken)
    for junk in (b"\0", b"PK\5\6" + bytes(18), data):
        for whole in (data + junk, junk + data):
            broken.write_bytes(whole)
            with pytest.raises(IntegrityError):
                Package.load(broken)


def test_random_bytes_never_raise_anything_else(small: Path, tmp_path: Path) -> None:
    data = small.read_bytes()
    rng = random.Random(2)
    broken = tmp_path / "broken.tsc"
    for _ in range(500):
        damaged = bytearray(data)
        for _ in range(rng.randrange(1, 6)):
            start = rng.choice([rng.randrange(len(data)), len(data) - rng.randrange(1, 900)])
            damaged[start : start + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(0, 9))
        broken.write_bytes(damaged)
        try:
            Package.load(broken, verify_weights="upfront")
        except PackageError:
            continue
        assert bytes(damaged) == data


def test_verify_weights_decides_when_a_damaged_weight_is_noticed(package: Path) -> None:
    entry = Package.load(package).manifest.entry("weights/bias.bin")
    assert entry is not None
    assert entry.offset is not None
    data = bytearray(package.read_bytes())
    data[entry.offset] ^= 1
    package.write_bytes(data)
    assert Package.load(package, verify_weights="lazy").constant("bias").shape == (4,)
    with pytest.raises(IntegrityError, match=r"weights/bias\.bin"):
        Package.load(package, verify_weights="upfront")
    touched = Package.load(package)
    touched.constant("layers.0.weight")
    with pytest.raises(IntegrityError) as caught:
        touched.constant("bias")
    assert caught.value.entry == "weights/bias.bin"
    assert touched.verify() == [Finding.of(caught.value, "")]
    assert touched.verify()[0].problem.startswith("sha256 is")
    with pytest.raises(IntegrityError, match=r"weights/bias\.bin"):
        touched.save(package.with_name("copy.tsd"))
    assert not package.with_name("copy.tsd").exists()


def test_a_kernel_is_verified_before_it_is_handed_out(package: Path) -> None:
    entry = Package.load(package).manifest.entry("kernels/sm_80/attention.cubin")
    assert entry is not None
    assert entry.offset is not None
    data = bytearray(package.read_bytes())
    data[entry.offset + 3] ^= 1
    package.write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        Package.load(package).binary("forward", "k1", "sm_80")
    assert caught.value.entry == "kernels/sm_80/attention.cubin"


def test_verify_sees_damage_done_after_loading(package: Path) -> None:
    loaded = Package.load(package)
    with package.open("r+b") as file:
        file.seek(-5, 2)
        file.write(b"\1")
    assert [f.entry for f in loaded.verify()] == [END]


def test_compressed_weights_shrink_and_zeros_are_no_bomb(tmp_path: Path) -> None:
    weights = {
        "zeros": np.zeros(4 << 20, dtype=np.int8),
        "pattern": np.tile(np.arange(64, dtype=np.int8), 9000),
    }
    weights["noise"] = np.random.default_rng(0).integers(0, 255, 5000, dtype=np.uint8)
    path = PackageBuilder().add_weights(weights, compression="gzip").build("z").save(tmp_path / "z.tsd")
    loaded = Package.load(path)
    found = {e.path: e.compression for e in loaded.entries}
    assert found["weights/zeros.bin"] == "none"
    assert found["weights/pattern.bin"] == "deflate"
    assert found["weights/noise.bin"] == "none"
    for name, value in weights.items():
        np.testing.assert_array_equal(loaded.constant(name), value)
    assert subprocess.run(["unzip", "-tq", path], capture_output=True, check=False).returncode == 0
