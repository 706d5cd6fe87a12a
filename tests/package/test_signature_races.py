"""Files that are replaced or written to between the check of a signature and the use."""

import hashlib
import zlib
from pathlib import Path

import msgspec
import pytest
from specimens import make_artifact

from tessera.package import KeyPair, Package, TrustPolicy, check_signature, generate_key
from tessera.package import package as package_module
from tessera.package.content import check_digest
from tessera.package.limits import DEFAULT_LIMITS
from tessera.package.manifest import Entry, manifest_from_json, manifest_to_json
from tessera.program.errors import PackageError, SignatureError


def crossed(document: bytes) -> bytes:
    """The manifest with its two weights' names exchanged: every entry stays what it was signed as."""
    manifest = manifest_from_json(document, DEFAULT_LIMITS)
    first, second = manifest.weights
    weights = (
        msgspec.structs.replace(first, path=second.path),
        msgspec.structs.replace(second, path=first.path),
    )
    return manifest_to_json(msgspec.structs.replace(manifest, weights=weights))


def test_manifest_of_a_folder_put_back_before_the_check_is_refused(
    signed: Path, key: KeyPair, tmp_path: Path
) -> None:
    folder = Package.load(signed).unpack(tmp_path / "folder")
    path = folder / "manifest.json"
    right = path.read_bytes()
    path.write_bytes(crossed(right))
    package = Package.load(folder)
    path.write_bytes(right)
    with pytest.raises(SignatureError, match=r"manifest\.json: is not what was signed"):
        check_signature(package, TrustPolicy("test", (key.public,)))
    assert [finding.entry for finding in package.verify()] == ["manifest.json"]


def test_manifest_of_a_file_put_back_before_the_check_is_refused(
    signed: Path, key: KeyPair, tmp_path: Path
) -> None:
    right, document = signed.read_bytes(), Package.load(signed).document
    wrong = crossed(document)
    assert len(wrong) == len(document)
    crcs = [zlib.crc32(data).to_bytes(4, "little") for data in (document, wrong)]
    path = tmp_path / "written.tsc"
    path.write_bytes(right.replace(document, wrong).replace(*crcs))
    package = Package.load(path)
    with path.open("r+b") as file:
        file.write(right)
    with pytest.raises(SignatureError, match=r"manifest\.json: is not what was signed"):
        check_signature(package, TrustPolicy("test", (key.public,)))
    assert [finding.entry for finding in package.verify()] == ["manifest.json"]


def test_what_is_handed_out_is_what_was_hashed(
    signed: Path, key: KeyPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Package.load(signed).unpack(tmp_path / "folder")
    package = Package.load(folder, require_signature=key.public)

    def check_and_overwrite(entry: Entry, data: memoryview) -> None:
        check_digest(entry, data)
        with (folder / entry.path).open("r+b") as file:
            file.write(b"\0" * entry.size)

    monkeypatch.setattr(package_module, "check_digest", check_and_overwrite)
    row = package.binaries[0]
    binary = package.binary(row.program, row.kernels[0], row.target, row.format)
    assert binary is not None
    assert (folder / row.path).read_bytes() == b"\0" * len(binary.data)
    signed_digest = next(entry.sha256 for entry in package.entries if entry.path == row.path)
    assert hashlib.sha256(binary.data).hexdigest() == signed_digest


def test_file_that_takes_the_place_of_a_checked_one_is_not_read(
    signed: Path, unsigned: Path, key: KeyPair
) -> None:
    package = Package.load(signed, require_signature=key.public)
    wanted = {row.name: package.constant(row.name).copy() for row in package.weights}
    package = Package.load(signed, require_signature=key.public)
    unsigned.replace(signed)
    assert package.signature is not None
    assert {
        row.name for row in package.weights if (package.constant(row.name) == wanted[row.name]).all()
    } == {
        "a",
        "b",
    }
    with pytest.raises(SignatureError, match="is not signed"):
        Package.load(signed, require_signature=key.public)


def test_weights_changed_after_the_check_are_refused_at_first_touch(
    signed: Path, key: KeyPair, tmp_path: Path
) -> None:
    folder = Package.load(signed).unpack(tmp_path / "folder")
    package = Package.load(folder, require_signature=key.public)
    (folder / "weights/a.bin").write_bytes((folder / "weights/b.bin").read_bytes())
    with pytest.raises(PackageError, match=r"weights/a\.bin: sha256 is"):
        package.constant("a")


def test_folder_whose_weights_became_a_link_is_refused(signed: Path, key: KeyPair, tmp_path: Path) -> None:
    folder = Package.load(signed).unpack(tmp_path / "folder")
    package = Package.load(folder, require_signature=key.public)
    (folder / "weights/a.bin").rename(tmp_path / "a.bin")
    (folder / "weights/a.bin").symlink_to(tmp_path / "a.bin")
    with pytest.raises(PackageError):
        package.constant("a")
    with pytest.raises(PackageError, match="symbolic link"):
        Package.load(folder, require_signature=key.public)


def test_names_that_differ_in_case_alone_are_refused_in_a_folder(
    signed: Path, key: KeyPair, tmp_path: Path
) -> None:
    folder = Package.load(signed).unpack(tmp_path / "folder")
    (folder / "META/MODEL.SIG").write_bytes((folder / "META/model.sig").read_bytes())
    with pytest.raises(PackageError):
        Package.load(folder, require_signature=key.public)


def test_key_file_that_is_half_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tessera.package import keys

    write = keys._write_new

    def full(path: Path, data: bytes, mode: int | None) -> None:
        if path.name.endswith(".pub.pem"):
            raise PackageError("no space")
        write(path, data, mode)

    monkeypatch.setattr(keys, "_write_new", full)
    with pytest.raises(PackageError, match="no space"):
        generate_key(tmp_path / "half")
    assert list(tmp_path.iterdir()) == []


def test_policy_that_is_a_link_reads_keys_beside_the_link(
    signed: Path, key: KeyPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that lie beside what it leads to, perhaps a stranger's, are not taken for the project's."""
    strange, own = tmp_path / "strange", tmp_path / "own"
    strange.mkdir()
    own.mkdir()
    generate_key(strange / "release")
    (strange / "tessera.toml").write_text('[trust]\nrequire_signature = true\nkeys = ["release.pub.pem"]\n')
    (own / "tessera.toml").symlink_to(strange / "tessera.toml")
    (own / "release.pub.pem").write_bytes(key.public.read_bytes())
    monkeypatch.chdir(own)
    assert Package.load(signed, require_signature=True).signature is not None
    (own / "release.pub.pem").unlink()
    with pytest.raises(SignatureError, match="cannot read the public key"):
        Package.load(signed, require_signature=True)


def test_provenance_of_another_package_of_the_same_signer_is_refused(
    signed: Path, unsigned: Path, key: KeyPair
) -> None:
    from tessera.package import read_signer, sign_package
    from tessera.package.provenance import (
        check_provenance,
        provenance_path,
        read_provenance,
        write_provenance,
    )

    signer, policy = read_signer(key.private), TrustPolicy("test", (key.public,))
    other = Package.from_artifact(make_artifact(), name="other", kind="tsc").save(signed.with_name("o.tsc"))
    theirs = write_provenance(sign_package(other, signer), signer)
    theirs.replace(provenance_path(signed))
    package, found = Package.load(signed), read_provenance(signed)
    assert found is not None
    with pytest.raises(SignatureError, match="is about another package"):
        check_provenance(package, found, policy)
    write_provenance(signed, signer)
    found = read_provenance(signed)
    assert found is not None
    assert check_provenance(package, found, policy).fingerprint == key.fingerprint
