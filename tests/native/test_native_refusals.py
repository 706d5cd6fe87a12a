"""Damaged and hostile packages are refused with an error that names the place; nothing crashes."""

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from ctypes_runtime import NativeError, NativeLibrary
from native_project import ROOT, build_script
from test_native_execution import softmax_layernorm

import tessera as ts
from tessera.deploy import AOTCompiler
from tessera.package import Package, PackageBuilder, generate_key, read_signer, sign_package
from tessera.package.manifest import SIGNATURE, Manifest, ProgramRow
from tessera.program.errors import PackageError

sys.path.insert(0, str(ROOT / "tests" / "package"))
from forge import Forged, Forger, deflate, patched

from tessera.package.records import DEFLATED, Slot

HERE = Path(__file__).parent


@ts.jit
def halved(x: ts.Tensor[ts.f32, "n"]):
    return x * 0.5


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with every kind of entry, some deflated; a .tsc, which does not carry the runtime."""
    builder = PackageBuilder()
    builder.add_kernels(AOTCompiler(target_architectures=["cpu"]).compile(halved))
    builder.add_weights({"w": np.arange(6, dtype=np.float32)})
    builder.add_weights({"z": np.zeros(100, dtype=np.int8)}, compression="gzip")
    builder.add_config({"layers": 2})
    return builder.build("small", "1.0.0").save(tmp_path_factory.mktemp("small") / "small.tsc")


@pytest.fixture
def forger(tmp_path: Path) -> Forger:
    return Forger(tmp_path / "forged.tsd")


def run_flips(program: Path, package: Path, scratch: Path, step: int) -> str:
    command = [str(program), str(package), str(scratch), str(step)]
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return done.stdout


def test_no_flipped_byte_passes(compile_program: Callable[..., Path], small: Path, tmp_path: Path) -> None:
    program = compile_program(HERE / "flips.cpp", tmp_path / "flips")
    key = generate_key(tmp_path / "key")
    signed = sign_package(small, read_signer(key.private), out=tmp_path / "signed.tsc")
    for package in (small, signed):
        assert "refused" in run_flips(program, package, tmp_path / "scratch.tsc", 211)


@pytest.mark.slow
def test_no_flipped_byte_or_cut_file_upsets_the_sanitizers(
    compiler: str, compile_program: Callable[..., Path], small: Path, tmp_path: Path
) -> None:
    probe = tmp_path / "probe.cpp"
    probe.write_text("int main() {}")
    flags = ("-fsanitize=address,undefined", "-g")
    done = subprocess.run(
        [compiler, *flags, probe, "-o", tmp_path / "probe"], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("the compiler has no sanitizers: apt install libasan8 libubsan1")
    library = ROOT / "native" / "build" / "sanitized" / "libtessera_rt.so"
    build_script("--sanitize", "--output", library)
    program = compile_program(HERE / "flips.cpp", tmp_path / "flips", *flags, library=library)
    assert "refused" in run_flips(program, small, tmp_path / "scratch.tsc", 5)


@pytest.mark.parametrize("length", [0, 1, 97, 98, 99, 1000])
def test_a_file_that_was_cut_off_is_refused(
    native: NativeLibrary, small: Path, tmp_path: Path, length: int
) -> None:
    cut = tmp_path / "cut.tsd"
    cut.write_bytes(small.read_bytes()[:length])
    with pytest.raises(NativeError, match=r"cut off|is not what a package ends with|is missing"):
        native.load(cut)


def moved(slot: Slot, offset: int) -> Slot:
    return Slot(slot.name, slot.method, slot.crc, slot.packed_size, slot.size, offset)


def sized(slot: Slot, size: int) -> Slot:
    return Slot(slot.name, 0, slot.crc, size, size, slot.header_offset)


A, B = "weights/a.bin", "weights/b.bin"
HOSTILE: dict[str, Callable[[Forger], None]] = {
    "leaves": lambda f: setattr(f, "entries", [Forged("../evil.bin")]),
    "leaves in the middle": lambda f: setattr(f, "entries", [Forged("weights/../../evil.bin")]),
    "absolute": lambda f: setattr(f, "entries", [Forged("/etc/passwd")]),
    "drive": lambda f: setattr(f, "entries", [Forged("C:/windows/a.bin")]),
    "backslash": lambda f: setattr(f, "entries", [Forged("weights\\a.bin")]),
    "nul": lambda f: setattr(f, "entries", [Forged("weights/a\0.bin")]),
    "folder": lambda f: setattr(f, "entries", [Forged("weights/")]),
    "hidden": lambda f: setattr(f, "entries", [Forged("weights/.hidden")]),
    "device": lambda f: setattr(f, "entries", [Forged("weights/aux.bin")]),
    "long": lambda f: setattr(f, "entries", [Forged("weights/" + "a" * 300)]),
    "empty": lambda f: setattr(f, "entries", [Forged("")]),
    "twice": lambda f: setattr(f, "entries", [Forged(A), Forged(A, b"evil", listed=False)]),
    "case": lambda f: setattr(f, "entries", [Forged(A), Forged("weights/A.bin")]),
    "folder of another": lambda f: setattr(f, "entries", [Forged("weights/a"), Forged("weights/A/b.bin")]),
    "overlap": lambda f: setattr(f, "entries", [Forged(A), Forged(B, edit=lambda s: moved(s, 0))]),
    "gap": lambda f: setattr(
        f, "entries", [Forged(A), Forged(B, edit=lambda s: moved(s, s.header_offset + 4))]
    ),
    "beyond": lambda f: setattr(f, "entries", [Forged(A, edit=lambda s: sized(s, 1 << 40))]),
    "far beyond": lambda f: setattr(f, "entries", [Forged(A, edit=lambda s: sized(s, (1 << 64) - 1))]),
    "offset": lambda f: setattr(f, "entries", [Forged(A, edit=lambda s: moved(s, (1 << 64) - 1))]),
    "bomb": lambda f: setattr(f, "entries", [Forged("runtime/bomb.py", bytes(50 << 20), DEFLATED)]),
    "unlisted": lambda f: setattr(f, "entries", [Forged(A, listed=False)]),
    "link": lambda f: setattr(
        f, "entries", [Forged(A, central=lambda r: patched(r, 38, struct.pack("<L", 0o120777 << 16)))]
    ),
    "trailing": lambda f: setattr(f, "whole", lambda data: data + b"x"),
    "leading": lambda f: setattr(f, "whole", lambda data: b"x" + data),
    "comment": lambda f: setattr(f, "end", lambda records: records[:-2] + b"\1\0x"),
    "count": lambda f: setattr(f, "count", 1 << 40),
    "duplicate key": lambda f: setattr(
        f, "document", signed(lambda t: t.replace('"kind"', '"name": "x",\n "kind"'))
    ),
    "not a number": lambda f: setattr(f, "document", signed(lambda t: t.replace('"1"', "NaN"))),
    "deep": lambda f: setattr(
        f, "document", signed(lambda t: t.replace('"metadata": {}', '"metadata": ' + "[" * 999 + "]" * 999))
    ),
    "no format": lambda f: setattr(f, "document", signed(lambda t: t.replace('"format"', '"form"'))),
    "signature first": lambda f: setattr(f, "entries", [Forged(A), Forged(SIGNATURE, listed=False)]),
    "signature twice": lambda f: setattr(f, "last", [Forged(SIGNATURE), Forged(SIGNATURE)]),
    "signature deflated": lambda f: setattr(f, "last", [Forged(SIGNATURE, bytes(99), DEFLATED)]),
    "signature damaged": lambda f: setattr(f, "last", [Forged(SIGNATURE, packed=b"1235")]),
    "signature of another name": lambda f: setattr(f, "last", [Forged("META/other.sig")]),
    "signature in another case": lambda f: setattr(f, "last", [Forged("meta/model.sig")]),
    "more than a signature": lambda f: setattr(f, "last", [Forged(SIGNATURE), Forged(B)]),
    "unsigned": lambda f: setattr(f, "document", lambda d: d.replace(b"forged", b"frogad")),
}


def signed(edit: Callable[[str], str]) -> Callable[[bytes], bytes]:
    """A change of the manifest whose digest is right again."""

    def run(document: bytes) -> bytes:
        head = edit(document[:-68].decode()).encode()
        return head + hashlib.sha256(head).hexdigest().encode() + b'"\n}\n'

    return run


@pytest.mark.parametrize("attack", HOSTILE)
def test_what_python_refuses_is_refused(native: NativeLibrary, forger: Forger, attack: str) -> None:
    forger.entries = [Forged(A)]
    HOSTILE[attack](forger)
    path = forger.write()
    with pytest.raises(PackageError):
        Package.load(path)
    with pytest.raises(NativeError) as caught:
        native.load(path, device=None).verify()
    assert caught.value.status in ("integrity", "package")


def test_what_is_sound_is_accepted(native: NativeLibrary, forger: Forger) -> None:
    forger.entries = [Forged(A), Forged("runtime/b.py", b"x" * 99, DEFLATED)]
    native.load(forger.write(), device=None).verify()


def test_a_signature_is_read_past(native: NativeLibrary, forger: Forger, small: Path, tmp_path: Path) -> None:
    forger.entries, forger.last = [Forged(A)], [Forged(SIGNATURE)]
    native.load(forger.write(), device=None).verify()
    key = generate_key(tmp_path / "key")
    package = sign_package(small, read_signer(key.private), out=tmp_path / "signed.tsc")
    runtime = native.load(package)
    runtime.verify()
    x = np.linspace(-1, 1, 7, dtype=np.float32)
    assert runtime.execute(x)[0].tolist() == (x / 2).tolist()
    folder = Package.load(package).unpack(tmp_path / "folder")
    native.load(folder).verify()
    (folder / "META/more.sig").write_bytes(b"{}")
    with pytest.raises(NativeError, match=r"META/more\.sig"):
        native.load(folder)


def test_a_bomb_that_lies_about_its_size_is_stopped(native: NativeLibrary, forger: Forger) -> None:
    forger.entries = [Forged(A, b"1234", DEFLATED, packed=deflate(bytes(50 << 20)))]
    with pytest.raises(NativeError, match="does not inflate to the 4 bytes it states: too much data"):
        native.load(forger.write(), device=None).verify()


def test_another_major_version_is_refused(native: NativeLibrary, forger: Forger) -> None:
    forger.entries = [Forged(A)]
    forger.manifest = lambda m: msgspec.structs.replace(m, format="2.0")
    with pytest.raises(NativeError, match=r"format version '2\.0' is not 1\.x") as caught:
        native.load(forger.write(), device=None)
    assert caught.value.status == "package"


@pytest.mark.parametrize("member", ["other.bin", "extra"])
def test_a_folder_with_links_or_strays_is_refused(
    native: NativeLibrary, small: Path, tmp_path: Path, member: str
) -> None:
    folder = Package.load(small).unpack(tmp_path / "folder")
    native.load(folder).verify()
    if member == "extra":
        (folder / "weights" / "extra.bin").write_bytes(b"x")
    else:
        target = next((folder / "weights").iterdir())
        shutil.move(target, tmp_path / "elsewhere")
        target.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NativeError, match=r"is not in the manifest|symbolic link"):
        native.load(folder)


def broken_programs(document: dict) -> dict[str, dict]:
    """By the field that the error must name, the document with that field wrong."""

    def edited(change: Callable[[dict], object]) -> dict:
        copy = json.loads(json.dumps(document))
        change(copy)
        return copy

    def step(d: dict) -> dict:
        return d["plans"][0]["steps"][0]

    def plan(d: dict) -> dict:
        return d["plans"][0]

    return {
        "schema": edited(lambda d: d.update(schema="2.0")),
        "name": edited(lambda d: d.update(name="")),
        r"inputs\[0\]\.dtype": edited(lambda d: d["inputs"][0].update(dtype="f33")),
        r"inputs\[0\]\.shape\[0\]": edited(lambda d: d["inputs"][0].update(shape=[["pow", 2, 3]])),
        r"outputs\[0\]\.shape\[0\]": edited(lambda d: d["outputs"][0].update(shape=["unknown"])),
        r"plans\[0\]\.targets\[0\]": edited(lambda d: plan(d).update(targets=["cpu"])),
        r"plans\[0\]\.steps\[0\]\.type": edited(lambda d: step(d).update(type="jump")),
        r"plans\[0\]\.steps\[0\]\.grid": edited(lambda d: step(d).update(grid=[1, 2])),
        r"plans\[0\]\.steps\[0\]\.block": edited(lambda d: step(d).update(block=[2, 1, 1])),
        r"plans\[0\]\.steps\[0\]\.args\[0\]": edited(lambda d: step(d)["args"][0].update(name="nobody")),
        r"plans\[0\]\.arena_bytes": edited(lambda d: plan(d).update(arena_bytes=1.5)),
        r"plans\[0\]\.steps": edited(lambda d: plan(d).update(steps={})),
    }


def test_a_malformed_program_is_refused_by_field(
    native: NativeLibrary, compiled: Callable[..., Path], forger: Forger
) -> None:
    package = Package.load(compiled("softmax_layernorm", softmax_layernorm))
    from tessera.program.codec import program_to_json

    (program,) = package.programs.values()
    document = json.loads(program_to_json(program))
    for field, broken in broken_programs(document).items():
        path = "programs/p.json"
        forger.entries = [Forged(path, json.dumps(broken).encode())]
        forger.manifest = lambda m: msgspec.structs.replace(
            m, programs=(ProgramRow(name="softmax_layernorm", path="programs/p.json"),)
        )
        written = forger.write()
        with pytest.raises(PackageError):
            Package.load(written)
        with pytest.raises(NativeError, match=f"programs/p.json: {field}: ") as caught:
            native.load(written, device=None)
        assert caught.value.status == "program"


def test_unknown_keys_of_a_later_minor_version_are_ignored(native: NativeLibrary, forger: Forger) -> None:
    def later(manifest: Manifest) -> Manifest:
        return msgspec.structs.replace(manifest, format="1.7")

    forger.entries = [Forged(A)]
    forger.manifest = later
    forger.document = signed(lambda t: t.replace('"kind"', '"novelty": [1, {"a": null}],\n "kind"'))
    native.load(forger.write(), device=None).verify()


def test_a_missing_weight_says_how_to_add_it(native: NativeLibrary, digits: object, tmp_path: Path) -> None:
    spec = ts.TensorSpec(shape=("batch", 64), dtype=ts.f32)
    compiled = AOTCompiler(target_architectures=["cpu"]).compile(digits.load(ts.f32), input_specs=[spec])
    bare = Package.from_artifact(compiled.artifact, name="bare", include_weights=False)
    with pytest.raises(NativeError, match="has no weight") as caught:
        native.load(bare.save(tmp_path / "bare.tsd"))
    assert "include_weights=True" in caught.value.hint


def test_code_for_other_machines_says_what_to_compile(native: NativeLibrary, tmp_path: Path) -> None:
    specimens = pytest.importorskip("specimens")
    package = Package.from_artifact(specimens.make_artifact(), name="gpu_only").save(tmp_path / "gpu.tsd")
    with pytest.raises(NativeError, match=r"has no code for this CPU.*it has code for: sm_80") as caught:
        native.load(package, "cpu")
    assert "--arch cpu" in caught.value.hint
