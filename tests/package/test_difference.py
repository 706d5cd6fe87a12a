"""What differs between two packages, and packages that are written anew."""

import shutil
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from specimens import make_artifact

from tessera.package import KeyPair, Package, PackageBuilder, read_signer, sign_package
from tessera.package.difference import Change, differences
from tessera.package.repacking import repack
from tessera.program.artifact import Resources
from tessera.program.errors import IntegrityError


def package_of(tmp_path: Path, name: str = "p", **weights: np.ndarray) -> Package:
    builder = PackageBuilder()
    builder.add_weights(weights)
    return Package.load(builder.build(name, "1.0").save(tmp_path / f"{name}.tsd"))


def by_name(changes: list[Change], part: str) -> dict[str, Change]:
    return {c.name: c for c in changes if c.part == part}


def test_equal_packages_do_not_differ_however_they_are_stored(artifact, tmp_path: Path) -> None:
    package = Package.from_artifact(artifact, name="x")
    saved = Package.load(package.save(tmp_path / "x.tsd"))
    folder = Package.load(saved.unpack(tmp_path / "folder"))
    assert differences(package, saved) == differences(saved, folder) == []
    repack(saved, tmp_path / "small.tsd", deflate_weights=True)
    assert differences(saved, Package.load(tmp_path / "small.tsd")) == []


def test_weights_are_compared_by_value(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    same, moved = rng.standard_normal(8, dtype=np.float32), rng.standard_normal((3, 4), dtype=np.float32)
    other = moved.copy()
    other[1, 2] += 0.5
    other[2, 3] -= 0.25
    old = package_of(tmp_path, "a", same=same, moved=moved, gone=same, shaped=same)
    new = package_of(tmp_path, "b", same=same, moved=other, fresh=same, shaped=same.reshape(2, 4))
    found = by_name(differences(old, new), "weight")
    assert found.keys() == {"moved", "gone", "fresh", "shaped"}
    assert found["moved"].detail == "2 of 12 elements, by 0.5 at most"
    assert (found["gone"].kind, found["gone"].before_bytes, found["gone"].after_bytes) == (
        "removed",
        32,
        None,
    )
    assert (found["fresh"].kind, found["fresh"].before_bytes, found["fresh"].after_bytes) == (
        "added",
        None,
        32,
    )
    assert found["shaped"].detail == "f32[8] → f32[2, 4]"


@pytest.mark.parametrize(
    "dtype", [np.int8, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.bool_]
)
def test_weights_of_every_width_are_compared(tmp_path: Path, dtype: type) -> None:
    old = np.array([0, 1, 1, 0, 1]).astype(dtype)
    new = np.array([0, 1, 0, 0, 1]).astype(dtype)
    found = differences(package_of(tmp_path, "a", w=old), package_of(tmp_path, "b", w=new))
    assert by_name(found, "weight")["w"].detail == "1 of 5 elements, by 1 at most"


def test_what_is_no_number_is_compared_by_its_bits(tmp_path: Path) -> None:
    old = np.array([np.nan, np.inf, -0.0, 1.0], np.float32)
    new = np.array([np.nan, -np.inf, 0.0, 1.0], np.float32)
    found = differences(package_of(tmp_path, "a", w=old), package_of(tmp_path, "b", w=new))
    assert by_name(found, "weight")["w"].detail == "2 of 4 elements, by 0 at most"


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(-100, 100), min_size=1, max_size=30), st.data())
def test_counted_elements_are_those_that_differ(
    tmp_path_factory: pytest.TempPathFactory, values: list[int], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("d")
    others = [data.draw(st.sampled_from([v, v + 1, v - 3])) for v in values]
    old, new = (
        package_of(folder, name, w=np.array(items, np.int16))
        for name, items in (("a", values), ("b", others))
    )
    count = sum(a != b for a, b in zip(values, others, strict=True))
    most = max(abs(a - b) for a, b in zip(values, others, strict=True))
    found = by_name(differences(old, new), "weight")
    assert (found["w"].detail if found else "") == (
        f"{count} of {len(values)} elements, by {most} at most" if count else ""
    )


def test_kernels_tell_registers_and_the_manifest_tells_tools() -> None:
    artifact = make_artifact(targets=("sm_80", "sm_90"))
    kernel = artifact.binaries[0]
    changed = replace(kernel, data=b"other", resources=Resources(registers=40, spill_bytes=16, occupancy=0.5))
    old = Package.from_artifact(artifact, name="x", version="1.0")
    new = Package.from_artifact(
        replace(
            artifact,
            binaries=(changed,),
            provenance={"toolchain": {"numba": "0.69"}, "targets": [{"target": "sm_80", "opt_level": 2}]},
        ),
        name="x",
        version="1.1",
        metadata={"author": "me"},
    )
    changes = differences(old, new)
    kernels = by_name(changes, "kernel")
    assert (
        kernels["attention sm_80 cubin"].detail
        == "registers 32 → 40, spill bytes 0 → 16, occupancy N/A → 0.5"
    )
    assert (kernels["attention sm_80 cubin"].before_bytes, kernels["attention sm_80 cubin"].after_bytes) == (
        240,
        5,
    )
    assert kernels["attention sm_90 cubin"].kind == "removed"
    facts = by_name(changes, "manifest")
    assert facts["version"].detail == "1.0 → 1.1"
    assert facts["metadata author"].detail == "me"
    assert facts["tool numba"].kind == "added"
    assert facts["numba"].kind == "removed"
    assert facts["target sm_80"].kind == "added"
    again = Package.from_artifact(
        replace(artifact, provenance={"targets": [{"target": "sm_80", "opt_level": 3}]}),
        name="x",
        version="1.1",
    )
    assert by_name(differences(new, again), "manifest")["target sm_80"].detail == "opt_level 2 → 3"


def test_damaged_weight_is_not_compared(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    old = package_of(tmp_path, "a", w=rng.standard_normal(8))
    new = package_of(tmp_path, "b", w=rng.standard_normal(8))
    folder = new.unpack(tmp_path / "folder")
    (folder / "weights/w.bin").write_bytes(bytes(64))
    with pytest.raises(IntegrityError, match=r"weights/w\.bin"):
        differences(old, Package.load(folder))


def test_repacked_folder_is_the_file_it_came_from(signed: Path, key: KeyPair, tmp_path: Path) -> None:
    folder = Package.load(signed).unpack(tmp_path / "folder")
    assert not repack(Package.load(folder), tmp_path / "again.tsc")
    assert (tmp_path / "again.tsc").read_bytes() == signed.read_bytes()


def test_repacking_in_place_another_way_drops_the_signature_and_says_so(tmp_path: Path, key: KeyPair) -> None:
    package = package_of(tmp_path, "a", w=np.zeros(5000, np.float32))
    path = sign_package(package.path, read_signer(key.private))
    large = path.stat().st_size
    assert repack(Package.load(path), path, deflate_weights=True)
    small = Package.load(path, verify_weights="upfront")
    assert small.signature is None
    assert path.stat().st_size < large - 15_000
    assert small.constant("w").tolist() == [0.0] * 5000
    assert not repack(small, path, deflate_weights=False)
    assert path.stat().st_size < large
    assert Package.load(path).manifest.entry("weights/w.bin").compression == "none"


def test_folder_that_was_never_a_file_is_repacked(artifact, tmp_path: Path, key: KeyPair) -> None:
    folder = Package.from_artifact(artifact, name="x").unpack(tmp_path / "folder")
    sign_package(folder, read_signer(key.private))
    assert repack(Package.load(folder), tmp_path / "x.tsd")
    assert (tmp_path / "x.tsd").read_bytes() == Package.from_artifact(artifact, name="x").save(
        tmp_path / "y.tsd"
    ).read_bytes()


def test_damaged_package_is_not_repacked(signed: Path, tmp_path: Path) -> None:
    folder = Package.load(signed).unpack(tmp_path / "folder")
    (folder / "weights/a.bin").write_bytes(bytes(16))
    with pytest.raises(IntegrityError, match=r"weights/a\.bin"):
        repack(Package.load(folder), tmp_path / "x.tsc")
    assert not (tmp_path / "x.tsc").exists()
    shutil.rmtree(folder)
