"""Random packages come back as they were, through file, folder and file again."""

import math
import os
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.package import Package, PackageBuilder
from tessera.program import dim
from tessera.program.artifact import Artifact, KernelBinary, Resources
from tessera.program.dtype import DTYPES
from tessera.program.program import Constant, Extent, Immediate, Launch, Plan, Pointer, Port, Program

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
TARGETS = st.sampled_from(["sm_70", "sm_80", "sm_90", "sm_90a", "cpu-x86_64-v3"])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def constants(draw: st.DrawFn) -> dict[str, tuple[Constant, np.ndarray]]:
    found = {}
    for name in draw(st.lists(NAMES, max_size=5, unique=True)):
        dtype = draw(st.sampled_from([d for d in DTYPES.values() if d.name != "tf32"]))
        shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
        size = math.prod(shape) * dtype.itemsize
        data = draw(st.binary(min_size=size, max_size=size))
        if dtype.kind == "bool":
            data = bytes(byte & 1 for byte in data)
        array = np.ndarray(shape, dtype.numpy, buffer=data or b"\0").copy()
        found[name] = (Constant(name=name, dtype=dtype, shape=shape), array)
    return found


@st.composite
def artifacts(draw: st.DrawFn) -> Artifact:
    weights = draw(constants())
    programs, binaries = [], []
    n = dim.symbol("n")
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        plans = []
        for target in draw(st.lists(TARGETS, max_size=3, unique=True)):
            kernels = tuple(draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)))
            grid = dim.ceildiv(n * draw(st.integers(1, 9)), draw(st.integers(1, 9)))
            launches = [
                Launch(
                    kernel=kernel,
                    grid=(grid, 1, 1),
                    args=(
                        Pointer(space="input", name="x", offset_bytes=n * 4),
                        Extent(value=n),
                        Immediate(value=draw(st.floats(-1e9, 1e9)), dtype=DTYPES["f32"]),
                        *(Pointer(space="constant", name=w) for w in weights),
                    ),
                )
                for kernel in kernels
            ]
            plans.append(Plan(targets=(target,), steps=tuple(launches)))
            form = "so" if target.startswith("cpu") else draw(st.sampled_from(["cubin", "ptx"]))
            resources = Resources(registers=draw(st.integers(1, 255))) if draw(st.booleans()) else None
            data = draw(st.binary(max_size=300))
            binaries.append(KernelBinary(name, draw(NAMES), kernels, target, form, data, resources))
        port = Port(name="x", dtype=DTYPES["f32"], shape=(n, draw(st.integers(1, 9))))
        programs.append(
            Program(
                name=name,
                inputs=(port,),
                outputs=(Port(name="y", dtype=DTYPES["bf16"], shape=(n,)),),
                constants=tuple(constant for constant, _ in weights.values()),
                plans=tuple(plans),
            )
        )
    return Artifact(
        tuple(programs),
        tuple(binaries),
        {name: array for name, (_, array) in weights.items()},
        draw(st.dictionaries(NAMES, JSON, max_size=3)),
    )


def same(package: Package, artifact: Artifact) -> None:
    assert package.programs == {p.name: p for p in artifact.programs}
    assert package.verify() == []
    for binary in artifact.binaries:
        for kernel in binary.kernels:
            assert package.binary(binary.program, kernel, binary.target, binary.format) == binary
    for name, value in artifact.constants.items():
        found = package.constant(name)
        assert (found.dtype, found.shape, found.tobytes()) == (value.dtype, value.shape, value.tobytes())


@settings(max_examples=int(os.environ.get("TESSERA_PACKAGE_EXAMPLES", "40")), deadline=None)
@given(artifacts(), st.dictionaries(NAMES, JSON, max_size=3), st.booleans())
def test_a_random_package_comes_back(artifact: Artifact, config: dict[str, object], gzip: bool) -> None:
    builder = PackageBuilder().add_kernels(artifact).add_config(config)
    if gzip:
        builder.add_weights(artifact.constants, compression="gzip")
    package = builder.build("random", metadata={"config": config})
    with tempfile.TemporaryDirectory() as place:
        file = package.save(Path(place) / "a.tsd")
        loaded = Package.load(file)
        same(loaded, artifact)
        assert loaded.config == config
        assert loaded.manifest.metadata == {"config": config}
        unpacked = Package.load(loaded.unpack(Path(place) / "folder"))
        same(unpacked, artifact)
        assert unpacked.save(Path(place) / "b.tsd").read_bytes() == file.read_bytes()
