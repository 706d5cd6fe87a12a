"""safetensors files in and out."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from specimens import make_artifact

import tessera as ts
from tessera.package import Package, PackageBuilder, export_weights, read_safetensors, write_safetensors
from tessera.program.errors import IntegrityError, PackageError

DTYPES = (
    "float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8",
    "bool", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2,
)  # fmt: skip
NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20).filter(
    lambda name: name != "__metadata__"
)


def random_array(dtype: object, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(-9, 9, shape)
    return values.astype(np.dtype(dtype))  # type: ignore[call-overload]


def raw(header: object, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def row(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def assert_same(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.dictionaries(
        NAMES, st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=3)), max_size=5
    ),
    metadata=st.dictionaries(
        NAMES, st.text(st.characters(exclude_categories=("Cs",)), max_size=9), max_size=3
    ),
)
def test_a_round_trip_gives_the_same_bytes_and_metadata(
    tmp_path_factory: pytest.TempPathFactory, kinds: dict, metadata: dict
) -> None:
    tensors = {n: random_array(dtype, tuple(shape), i) for i, (n, (dtype, shape)) in enumerate(kinds.items())}
    path = write_safetensors(tensors, tmp_path_factory.mktemp("s") / "m.safetensors", metadata=metadata)
    found = read_safetensors(path)
    assert_same(found.tensors, tensors)
    assert found.metadata == metadata


def test_the_reference_library_reads_what_is_written_and_writes_what_is_read(tmp_path: Path) -> None:
    reference = pytest.importorskip("safetensors.numpy", reason="the safetensors package is not installed")
    tensors = {f"t/{np.dtype(d)} é": random_array(d, (3, 5), i) for i, d in enumerate(DTYPES[:12])}
    path = write_safetensors(tensors, tmp_path / "ours.safetensors", metadata={"format": "np"})
    assert_same(reference.load_file(path), tensors)
    reference.save_file(tensors, tmp_path / "theirs.safetensors", metadata={"format": "np"})
    assert_same(read_safetensors(tmp_path / "theirs.safetensors").tensors, tensors)


def test_tensors_are_views_that_cannot_be_written(tmp_path: Path) -> None:
    path = write_safetensors({"a": random_array("float32", (4,))}, tmp_path / "m.safetensors")
    array = read_safetensors(path).tensors["a"]
    assert not array.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b"\x01\0", "header's length alone takes 8"),
        (raw({}, length=1 << 62), "the most is"),
        (raw({}, length=99), "the file has 10"),
        (raw(b" {}"), "does not begin with"),
        (raw(b'{"a":'), "not strict JSON"),
        (raw(b'{"a":1,"a":2}'), "appears twice"),
        (raw(b"{" + b'"a":{' * 50 + b"}" * 51), "nested"),
        (raw({"__metadata__": {"a": 1}}), "no object of strings"),
        (raw({"a": 3}), "needs dtype"),
        (raw({"a": {**row(), "extra": 1}}, b"1234"), "nothing else"),
        (raw({"a": row(shape=[-1])}, b"1234"), "no list of up to"),
        (raw({"a": row(shape=[True])}, b"1234"), "no list of up to"),
        (raw({"a": row(shape=[1.0])}, b"1234"), "no list of up to"),
        (raw({"a": row(shape=[1 << 62, 4])}, b"1234"), "its offsets span 4"),
        (raw({"a": row(shape=[1] * 65)}, b"1234"), "no list of up to"),
        (raw({"a": row(offsets=[4, 0])}, b"1234"), "its offsets span -4"),
        (raw({"a": row(offsets=[0])}, b"1234"), "no pair"),
        (raw({"a": row(), "b": row()}, b"1234"), "overlaps"),
        (raw({"a": row(offsets=[4, 8])}, b"12345678"), "leaves a gap"),
        (raw({"a": row()}, b"123"), "cut short"),
        (raw({"a": row()}, b"12345"), "1 bytes after"),
        (raw({"": row()}, b"1234"), "name is empty"),
        (raw(b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"1234"), "not valid Unicode"),
    ],
)
def test_a_torn_or_hostile_file_is_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=problem):
        PackageBuilder().add_weights(path)


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 400), byte=st.integers(0, 255), cut=st.integers(0, 400))
def test_a_damaged_file_is_read_or_refused_cleanly(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int, cut: int
) -> None:
    path = tmp_path_factory.mktemp("s") / "m.safetensors"
    tensors = {"a": random_array("float32", (3, 2)), "b": random_array("int8", (5,))}
    data = bytearray(write_safetensors(tensors, path, metadata={"k": "v"}).read_bytes())
    data[at % len(data)] = byte
    path.write_bytes(data[: len(data) - cut % 3])
    try:
        read_safetensors(path)
    except PackageError:
        return


@pytest.mark.parametrize("code", ["F4", "C64", 7, None])
def test_an_element_type_without_a_counterpart_is_named(tmp_path: Path, code: object) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(raw({"w": row(dtype=code)}, b"1234"))
    with pytest.raises(PackageError, match="tensor 'w': element type"):
        read_safetensors(path)


def test_a_file_that_is_not_there_or_is_a_folder_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no.safetensors"):
        with pytest.raises(PackageError, match=r"directory"):
            PackageBuilder().add_weights(str(path))


@pytest.mark.parametrize("name", ["", "__metadata__", "\ud800"])
def test_a_name_that_cannot_be_written_leaves_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(PackageError, match="no place"):
        write_safetensors({name: random_array("int8", (2,))}, tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("compression", ["gzip", None])
def test_a_file_goes_through_a_package_and_out_again(tmp_path: Path, compression: str | None) -> None:
    tensors = {f"layer.{i}/ñ": random_array(d, (4, 3), i) for i, d in enumerate(DTYPES)}
    source = write_safetensors(tensors, tmp_path / "in.safetensors", metadata={"format": "pt"})
    builder = PackageBuilder().add_kernels(make_artifact())
    builder.add_weights(str(source), compression=compression)  # type: ignore[arg-type]
    package = Package.load(builder.build("m", metadata={"author": "me"}).save(tmp_path / "m.tsd"))
    assert package.manifest.metadata == {"author": "me", "safetensors": {"format": "pt"}}
    assert export_weights(package, tmp_path / "out.safetensors").read_bytes() == source.read_bytes()


def test_a_package_without_weights_exports_none(tmp_path: Path) -> None:
    package = PackageBuilder().add_kernels(make_artifact()).build("m")
    with pytest.raises(PackageError, match="has no weights"):
        export_weights(package, tmp_path / "x.safetensors")


def test_a_module_hands_over_its_state() -> None:
    layer = ts.Linear(4, 3)
    package = PackageBuilder().add_kernels(make_artifact()).add_weights(layer).build("m")
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(package.constant(name), array)


def test_what_is_no_state_is_refused() -> None:
    with pytest.raises(PackageError, match="list is no state_dict"):
        PackageBuilder().add_weights([1, 2])  # type: ignore[arg-type]
