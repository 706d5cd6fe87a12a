"""PackageBuilder and from_artifact: what goes in, and what does not fit."""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from specimens import make_artifact, make_program

from tessera.package import Package, PackageBuilder, VersionSpec, parse_bytes
from tessera.program.artifact import Artifact, KernelBinary
from tessera.program.errors import ArchitectureError, PackageError


@dataclass
class Compiled:
    artifact: Artifact


class Wrapped:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def numpy(self) -> np.ndarray:
        return self.array


class Exposed:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        return self.array


def test_the_guides_snippet_builds_a_package(tmp_path: Path) -> None:
    weights = {"embed.weight": np.ones((8, 4), dtype=ml_dtypes.bfloat16)}
    library = tmp_path / "libtessera_rt.so"
    library.write_bytes(b"\x7fELF")
    builder = PackageBuilder()
    builder.add_kernels(
        Compiled(make_artifact(targets=("sm_70", "sm_80", "sm_90"))), architectures=["sm_80", "sm_90"]
    )
    builder.add_weights(weights, compression="gzip")
    builder.add_config({"model_type": "transformer", "hidden_size": 1024})
    builder.add_runtime_library(library)
    package = builder.build(
        name="my_model",
        version="1.0.0",
        metadata={"author": "MyCompany", "requirements": {"cuda": ">=11.8", "memory": "16GB"}},
    )
    loaded = Package.load(package.save(tmp_path / "my_model_v1.0.0.tsd"))
    assert (loaded.name, loaded.version) == ("my_model", "1.0.0")
    assert loaded.manifest.metadata == {"author": "MyCompany"}
    assert loaded.manifest.requirements == {"cuda": ">=11.8", "memory": "16GB"}
    assert loaded.config == {"model_type": "transformer", "hidden_size": 1024}
    assert loaded.runtime_config == {}
    assert {row.target for row in loaded.binaries} == {"sm_80", "sm_90"}
    assert loaded.programs["forward"].targets == ("sm_80", "sm_90")
    assert "runtime/libtessera_rt.so" in loaded.manifest.runtime
    assert loaded.binary("forward", "k0", "sm_70") is None


def test_a_package_in_memory_answers_like_the_saved_one(artifact: Artifact, tmp_path: Path) -> None:
    memory = Package.from_artifact(
        artifact, name="demo", config={"a": [1, 2.5, None]}, metadata={"x": {"y": True}}
    )
    saved = Package.load(memory.save(tmp_path / "demo.tsd"))
    assert memory.path is None
    assert memory.programs == saved.programs
    assert memory.config == saved.config == {"a": [1, 2.5, None]}
    assert memory.weights == saved.weights
    assert memory.binaries == saved.binaries
    assert (
        memory.binary("forward", "k0", "sm_80")
        == saved.binary("forward", "k0", "sm_80")
        == artifact.binaries[0]
    )
    assert [(e.path, e.size, e.sha256) for e in memory.entries] == [
        (e.path, e.size, e.sha256) for e in saved.entries
    ]
    for name, value in artifact.constants.items():
        np.testing.assert_array_equal(memory.constant(name), value)
        assert not memory.constant(name).flags.writeable
    assert memory.verify() == []


def test_without_weights_a_constant_says_how_to_get_it(artifact: Artifact, tmp_path: Path) -> None:
    package = Package.from_artifact(artifact, name="demo", include_weights=False)
    loaded = Package.load(package.save(tmp_path / "a.tsd"))
    assert loaded.weights == []
    with pytest.raises(PackageError, match="no weight 'bias'") as caught:
        loaded.constant("bias")
    assert "include_weights=True" in (caught.value.hint or "")


def test_build_makes_the_package_of_a_subclass(tmp_path: Path) -> None:
    class Deployment(Package):
        def extra(self) -> str:
            return self.name

    class Builder(PackageBuilder):
        package_class = Deployment

    package = Builder().build("sub")
    assert isinstance(package, Deployment)
    assert package.extra() == "sub"
    assert isinstance(Deployment.load(package.save(tmp_path / "a.tsd")), Deployment)


def test_kernels_come_as_compiled_artifact_or_list() -> None:
    one, two, three = (make_artifact(name) for name in "abc")
    builder = PackageBuilder().add_kernels(one).add_kernels([Compiled(two), three])
    assert list(builder.build("x").programs) == ["a", "b", "c"]
    for wrong in ("a string", 3, {"a": one}, [one, None]):
        with pytest.raises(PackageError, match="is not compiled"):
            PackageBuilder().add_kernels(wrong)


def test_kernels_of_one_name_in_several_programs_stay_apart(tmp_path: Path) -> None:
    builder = PackageBuilder().add_kernels([make_artifact("a", seed=1), make_artifact("b", seed=2)])
    loaded = Package.load(builder.build("x").save(tmp_path / "x.tsp"))
    assert [row.path for row in loaded.binaries] == [
        "kernels/sm_80/a.attention.cubin",
        "kernels/sm_80/b.attention.cubin",
    ]
    one, two = (loaded.binary(name, "k0", "sm_80") for name in "ab")
    assert one is not None
    assert two is not None
    assert one.data != two.data


def test_kernels_whose_labels_meet_still_get_their_own_files(tmp_path: Path) -> None:
    binaries = [("a", "b.c"), ("a.b", "c"), ("z", "c"), ("z", "b.c"), ("z", "A"), ("z", "a")]
    made = tuple(KernelBinary(p, n, (n,), "sm_90", "cubin", f"{p}|{n}".encode()) for p, n in binaries)
    programs = tuple(make_program(name) for name in ("a", "a.b", "z"))
    loaded = Package.load(Package.from_artifact(Artifact(programs, made), name="x").save(tmp_path / "x.tsp"))
    for program, name in binaries:
        binary = loaded.binary(program, name, "sm_90")
        assert binary is not None
        assert binary.data == f"{program}|{name}".encode()


def test_machine_code_is_preferred_to_ptx() -> None:
    binaries = tuple(KernelBinary("p", "k", ("k",), "sm_90", f, f.encode()) for f in ("ptx", "cubin"))
    package = Package.from_artifact(Artifact((make_program("p"),), binaries), name="x")
    assert [package.binary("p", "k", "sm_90", f).format for f in (None, "ptx", "cubin")] == [
        "cubin",
        "ptx",
        "cubin",
    ]
    assert package.binary("p", "k", "sm_90", "so") is None
    assert package.binary("p", "other", "sm_90") is None


def test_an_architecture_that_was_not_compiled_is_refused() -> None:
    artifact = make_artifact(targets=("sm_80", "cpu-x86_64-v3"))
    with pytest.raises(PackageError, match=r"nothing was compiled for sm_90; there is cpu-x86_64-v3, sm_80"):
        PackageBuilder().add_kernels(artifact, architectures=["sm_80", "sm_90"])
    with pytest.raises(ArchitectureError, match="sm_999"):
        PackageBuilder().add_kernels(artifact, architectures=["sm_999"])
    package = PackageBuilder().add_kernels(artifact, architectures=["cpu"]).build("x")
    assert [row.target for row in package.binaries] == ["cpu-x86_64-v3"]


def test_weights_come_in_many_forms() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    builder = PackageBuilder().add_weights(
        {"n": array, "w": Wrapped(array), "a": Exposed(array), "s": np.float32(2)}
    )
    package = builder.build("x")
    for name in "nwa":
        np.testing.assert_array_equal(package.constant(name), array)
    assert package.constant("s") == 2


def test_torch_tensors_become_weights() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    state: Mapping[str, object] = {
        "f32": torch.nn.Parameter(torch.arange(6.0).reshape(2, 3)),
        "bf16": torch.arange(6.0).to(torch.bfloat16),
        "fp8": torch.arange(6.0).to(torch.float8_e4m3fn),
        "t": torch.arange(6.0).reshape(2, 3).T,
    }
    package = PackageBuilder().add_weights(state).build("x")
    assert {row.name: row.dtype.name for row in package.weights} == {
        "f32": "f32",
        "bf16": "bf16",
        "fp8": "f8e4m3",
        "t": "f32",
    }
    for name, value in state.items():
        np.testing.assert_array_equal(package.constant(name).astype("f4"), value.detach().float().numpy())


@pytest.mark.parametrize("value", [[1.0, 2.0], "text", None, object()])
def test_what_is_no_array_is_refused(value: object) -> None:
    with pytest.raises(PackageError, match="weight 'w'"):
        PackageBuilder().add_weights({"w": value})


@pytest.mark.parametrize("dtype", ["c8", "c16", "O", "U3", "M8[s]", "f4,i4"])
def test_element_types_that_tessera_lacks_are_refused(dtype: str) -> None:
    with pytest.raises(PackageError, match="weight 'w': unknown dtype"):
        PackageBuilder().add_weights({"w": np.zeros(3, dtype=dtype)})


def test_weights_take_the_place_of_compiled_constants(artifact: Artifact) -> None:
    new = np.full((4, 4), 7, dtype=np.float32)
    package = PackageBuilder().add_kernels(artifact).add_weights({"layers.0.weight": new}).build("x")
    np.testing.assert_array_equal(package.constant("layers.0.weight"), new)
    np.testing.assert_array_equal(package.constant("bias"), artifact.constants["bias"])


@pytest.mark.parametrize("wrong", [np.zeros((4, 5), dtype=np.float32), np.zeros((4, 4), dtype=np.float64)])
def test_weights_unlike_the_program_are_refused(artifact: Artifact, wrong: np.ndarray) -> None:
    builder = PackageBuilder().add_kernels(artifact).add_weights({"layers.0.weight": wrong})
    with pytest.raises(PackageError, match=r"layers\.0\.weight"):
        builder.build("x")


def test_a_saved_weight_unlike_its_program_is_refused_on_load(tmp_path: Path) -> None:
    # A builder would not make it, so the table is changed in an unpacked folder and resealed.
    from tessera.package.manifest import manifest_to_json

    artifact = make_artifact(w=np.zeros((2, 3), dtype=np.float32))
    folder = Package.from_artifact(artifact, name="x").unpack(tmp_path / "x")
    import msgspec

    manifest = Package.load(folder).manifest
    rows = tuple(msgspec.structs.replace(row, shape=(3, 2)) for row in manifest.weights)
    (folder / "manifest.json").write_bytes(manifest_to_json(msgspec.structs.replace(manifest, weights=rows)))
    with pytest.raises(PackageError, match=r"'w' is f32\(3, 2\), but program 'forward' takes f32\(2, 3\)"):
        Package.load(folder)


def test_clashes_are_refused() -> None:
    with pytest.raises(PackageError, match="two programs are called 'forward'"):
        PackageBuilder().add_kernels([make_artifact(), make_artifact()]).build("x")
    with pytest.raises(PackageError, match="'w' was added before"):
        PackageBuilder().add_weights({"w": np.zeros(1)}).add_weights({"w": np.zeros(1)})
    one, two = make_artifact("a", w=np.zeros(3)), make_artifact("b", w=np.ones(3))
    with pytest.raises(PackageError, match="two different weights are called 'w'"):
        PackageBuilder().add_kernels([one, two]).build("x")
    three = make_artifact("c", w=np.zeros(4))
    with pytest.raises(PackageError, match="'w'"):
        PackageBuilder().add_kernels([one, three]).build("x")
    shared = make_artifact("d", w=np.array([0.0, np.nan]))
    other = make_artifact("e", w=np.array([0.0, np.nan]))
    assert PackageBuilder().add_kernels([shared, other]).build("x").constant("w").shape == (2,)
    double = Artifact(one.programs, one.binaries * 2, one.constants)
    with pytest.raises(PackageError, match="two binaries 'attention'"):
        Package.from_artifact(double, name="x")


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 201, 3])
def test_a_name_that_cannot_be_is_refused(name: object) -> None:
    with pytest.raises(PackageError, match="name:"):
        PackageBuilder().build(name)


@pytest.mark.parametrize("version", ["", "v 1", "1/2", 1.0, "x" * 65])
def test_a_version_that_cannot_be_is_refused(version: object) -> None:
    with pytest.raises(PackageError, match="version:"):
        PackageBuilder().build("x", version)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": float("nan")}, "config.a"),
        ({"a": [1, {"b": 1 << 70}]}, r"config.a\[1\].b"),
        ({"a": {1: 2}}, "key 1"),
        ({"a": b"x"}, "config.a"),
        ({"a": "\ud800"}, "config.a"),
        ({"a": np.zeros(3)}, "config.a"),
    ],
)
def test_a_config_that_json_cannot_hold_is_refused(value: dict[str, object], where: str) -> None:
    with pytest.raises(PackageError, match=where):
        PackageBuilder().add_config(value)


def test_a_config_that_holds_itself_is_refused() -> None:
    loop: dict[str, object] = {}
    loop["again"] = loop
    with pytest.raises(PackageError, match="nested too deep"):
        PackageBuilder().add_config(loop)


def test_configs_merge_and_numpy_scalars_are_numbers(tmp_path: Path) -> None:
    builder = PackageBuilder().add_config({"a": 1, "b": np.float32(0.5)}).add_config({"a": 2})
    builder.add_config({"batch": 8}, name="runtime")
    loaded = Package.load(builder.build("x").save(tmp_path / "x.tsd"))
    assert loaded.config == {"a": 2, "b": 0.5}
    assert loaded.runtime_config == {"batch": 8}
    with pytest.raises(PackageError, match="'model' or 'runtime'"):
        builder.add_config({}, name="other")


def test_a_runtime_library_that_is_nowhere_says_what_to_do() -> None:
    with pytest.raises(PackageError, match=r"libnowhere\.so") as caught:
        PackageBuilder().add_runtime_library("libnowhere.so")
    assert "path" in (caught.value.hint or "")


def test_an_unknown_compression_is_refused() -> None:
    with pytest.raises(PackageError, match="zstd"):
        PackageBuilder().add_weights({}, compression="zstd")


@pytest.mark.parametrize(
    ("requirements", "problem"),
    [
        ({"cuda": "11.8"}, "not a version condition"),
        ({"cuda": ">=11.x"}, "not a version condition"),
        ({"cuda": 11.8}, "not a string"),
        ({"memory": "lots"}, "not a size"),
        ({"memory": "16 XB"}, "not a size"),
        ({"gpu": "A100"}, "unknown requirement 'gpu'"),
        ("cuda", "must be a dict"),
    ],
)
def test_malformed_requirements_are_refused(requirements: object, problem: str) -> None:
    with pytest.raises(PackageError, match=problem):
        PackageBuilder().build("x", metadata={"requirements": requirements})


@pytest.mark.parametrize(
    ("spec", "version", "allowed"),
    [
        (">=11.8", "11.8", True),
        (">=11.8", "11.8.0", True),
        (">=11.8", "11.10", True),
        (">=11.8", "9.2", False),
        (">=11.8,<13", "13.0", False),
        (">=11.8, <13", "12.9.1", True),
        ("==12", "12.0.0", True),
        ("!=12.1", "12.1", False),
        (">12", "12.0", False),
        ("<=12", "12.0.1", False),
    ],
)
def test_versions_are_compared_number_by_number(spec: str, version: str, allowed: bool) -> None:
    assert VersionSpec.parse(spec).allows(version) is allowed


def test_sizes_are_powers_of_1024() -> None:
    sizes = {
        "16GB": 16 << 30,
        "4 GiB": 4 << 30,
        "512mb": 512 << 20,
        "4096": 4096,
        "1.5K": 1536,
        "2TB": 2 << 40,
        "7B": 7,
    }
    assert {text: parse_bytes(text) for text in sizes} == sizes


def test_a_malformed_program_is_refused_before_it_is_packed() -> None:
    from tessera.program.errors import ProgramError
    from tessera.program.program import Launch, Plan, Program

    bad = Program(
        name="p",
        inputs=(),
        outputs=(),
        plans=(Plan(targets=("sm_80",), steps=(Launch(kernel="", grid=(1, 1, 1)),)),),
    )
    with pytest.raises(ProgramError, match="kernel"):
        Package.from_artifact(Artifact((bad,), ()), name="x")
    with pytest.raises(PackageError, match="which is not there"):
        Package.from_artifact(
            Artifact((), (KernelBinary("p", "k", ("k",), "sm_80", "cubin", b"x"),)), name="x"
        )
    with pytest.raises(PackageError, match="not a full target"):
        Package.from_artifact(
            Artifact((make_program("p"),), (KernelBinary("p", "k", ("k",), "compute_80", "ptx", b"x"),)),
            name="x",
        )


def test_errors_can_be_pickled(tmp_path: Path) -> None:
    (tmp_path / "a.tsd").write_bytes(b"PK")
    with pytest.raises(PackageError) as caught:
        Package.load(tmp_path / "a.tsd")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.entry) == (str(caught.value), caught.value.entry)


def test_config_files_are_readable_json(tmp_path: Path) -> None:
    folder = PackageBuilder().add_config({"é": [1]}).build("x").unpack(tmp_path / "x")
    assert json.loads((folder / "config" / "model_config.json").read_text()) == {"é": [1]}
