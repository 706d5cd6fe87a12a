"""What we sign is what `model_signing` accepts, and the other way round."""

import json
import os
import stat
import zipfile
from pathlib import Path

import pytest
from authority import private_pem, stock
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tessera.package import (
    KeyPair,
    Package,
    TrustPolicy,
    check_signature,
    generate_key,
    read_signer,
    sign_package,
    verify,
)
from tessera.package.keys import fingerprint, public_pem, read_private_key, read_public_key
from tessera.program.errors import IntegrityError, PackageError, SignatureError


def test_stock_command_verifies_an_unpacked_package_that_we_signed(
    signed: Path, key: KeyPair, tmp_path: Path
) -> None:
    folder = Package.load(signed).unpack(tmp_path / "folder")
    said = stock(
        "verify", "key", folder, "--signature", folder / "META/model.sig", "--public_key", key.public
    )
    assert said.returncode == 0, said.stderr
    other = generate_key(tmp_path / "other")
    said = stock(
        "verify", "key", folder, "--signature", folder / "META/model.sig", "--public_key", other.public
    )
    assert said.returncode != 0


def test_stock_command_refuses_an_unpacked_package_that_was_changed(
    signed: Path, key: KeyPair, tmp_path: Path
) -> None:
    folder = Package.load(signed).unpack(tmp_path / "folder")
    (folder / "weights/a.bin").write_bytes(bytes(16))
    said = stock(
        "verify", "key", folder, "--signature", folder / "META/model.sig", "--public_key", key.public
    )
    assert said.returncode != 0
    assert "weights/a.bin" in said.stderr


def test_we_verify_what_the_stock_command_signed(unsigned: Path, key: KeyPair, tmp_path: Path) -> None:
    folder = Package.load(unsigned).unpack(tmp_path / "folder")
    (folder / "META").mkdir()
    said = stock(
        "sign", "key", folder, "--signature", folder / "META/model.sig", "--private_key", key.private
    )
    assert said.returncode == 0, said.stderr
    package = Package.load(folder, require_signature=key.public)
    assert package.verify() == []
    # A container of the folder has the same manifest, and so the same signature holds.
    packed = package.save(tmp_path / "packed.tsc")
    assert Package.load(packed, require_signature=key.public).verify() == []


@pytest.mark.parametrize("algorithm", ["blake2", "blake3", "sha256"])
@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_we_verify_every_way_of_hashing_that_the_stock_library_has(
    unsigned: Path, key: KeyPair, tmp_path: Path, algorithm: str, shards: bool
) -> None:
    from model_signing import hashing, signing

    folder = Package.load(unsigned).unpack(tmp_path / "folder")
    (folder / "META").mkdir()
    config = hashing.Config()
    if shards:
        config.use_shard_serialization(hashing_algorithm=algorithm, shard_size=100)
    else:
        config.use_file_serialization(hashing_algorithm=algorithm)
    signature = tmp_path / "model.sig"
    signing.Config().use_elliptic_key_signer(private_key=key.private).set_hashing_config(config).sign(
        folder, signature
    )
    signature.rename(folder / "META/model.sig")
    assert Package.load(folder, require_signature=key.public).verify() == []
    weight = folder / "weights/a.bin"
    weight.write_bytes(bytes(16))
    with pytest.raises(PackageError) as caught:
        Package.load(folder, require_signature=key.public, verify_weights="upfront")
    assert caught.value.fields["entry"] == "weights/a.bin"


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_larger_curves_are_signed_and_verified_as_the_stock_command_does(
    unsigned: Path, tmp_path: Path, curve: ec.EllipticCurve
) -> None:
    private = ec.generate_private_key(curve)
    secret, public = tmp_path / "k.pem", tmp_path / "k.pub.pem"
    secret.write_bytes(private_pem(private))
    secret.chmod(0o600)
    public.write_bytes(public_pem(private.public_key()))
    out = sign_package(unsigned, read_signer(secret), out=tmp_path / "s.tsc")
    folder = Package.load(out, require_signature=public).unpack(tmp_path / "f")
    said = stock("verify", "key", folder, "--signature", folder / "META/model.sig", "--public_key", public)
    assert said.returncode == 0, said.stderr


def test_signing_keeps_every_other_byte(unsigned: Path, signed: Path) -> None:
    before, after = unsigned.read_bytes(), signed.read_bytes()
    with zipfile.ZipFile(unsigned) as plain, zipfile.ZipFile(signed) as more:
        assert [i.filename for i in more.infolist()] == [*plain.namelist(), "META/model.sig"]
        end = plain.start_dir
        assert all(plain.read(name) == more.read(name) for name in plain.namelist())
        assert more.testzip() is None
    assert after[:end] == before[:end]
    assert Package.load(signed).digest == Package.load(unsigned).digest
    assert verify(signed) == []


def test_signing_again_replaces_the_signature(signed: Path, key: KeyPair, tmp_path: Path) -> None:
    other = generate_key(tmp_path / "other")
    first = signed.read_bytes()
    sign_package(signed, read_signer(other.private))
    with zipfile.ZipFile(signed) as archive:
        assert archive.namelist().count("META/model.sig") == 1
    Package.load(signed, require_signature=other.public)
    with pytest.raises(SignatureError):
        Package.load(signed, require_signature=key.public)
    # Equal contents and an equal key give equal bytes.
    sign_package(signed, read_signer(key.private))
    assert signed.read_bytes() == first


def test_signing_in_place_keeps_permissions_and_follows_links(
    unsigned: Path, key: KeyPair, tmp_path: Path
) -> None:
    unsigned.chmod(0o640)
    link = tmp_path / "link.tsc"
    link.symlink_to(unsigned)
    sign_package(link, read_signer(key.private))
    assert link.is_symlink()
    assert stat.S_IMODE(unsigned.stat().st_mode) == 0o640
    Package.load(unsigned, require_signature=key.public)


def test_folder_is_signed_where_it_is(unsigned: Path, key: KeyPair, tmp_path: Path) -> None:
    folder = Package.load(unsigned).unpack(tmp_path / "folder")
    signer = read_signer(key.private)
    sign_package(folder, signer)
    Package.load(folder, require_signature=key.public)
    said = stock(
        "verify", "key", folder, "--signature", folder / "META/model.sig", "--public_key", key.public
    )
    assert said.returncode == 0, said.stderr
    with pytest.raises(PackageError, match="is a folder"):
        sign_package(folder, signer, out=tmp_path / "x.tsc")


def test_unpacking_and_packing_keep_the_signature(signed: Path, key: KeyPair, tmp_path: Path) -> None:
    folder = Package.load(signed).unpack(tmp_path / "folder")
    packed = Package.load(folder, require_signature=key.public).save(tmp_path / "again.tsc")
    assert packed.read_bytes() == signed.read_bytes()


def test_damaged_package_is_not_signed(unsigned: Path, key: KeyPair) -> None:
    data = bytearray(unsigned.read_bytes())
    at = Package.load(unsigned).manifest.entry("weights/b.bin").offset
    data[at] ^= 1
    unsigned.write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        sign_package(unsigned, read_signer(key.private))
    assert caught.value.fields["entry"] == "weights/b.bin"
    assert unsigned.read_bytes() == bytes(data)


def test_signing_that_fails_leaves_the_package_as_it_was(
    unsigned: Path, key: KeyPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = unsigned.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(PackageError, match="No space left"):
        sign_package(unsigned, read_signer(key.private))
    assert unsigned.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plain.tsc", "release.pem", "release.pub.pem"]


def test_new_key_is_private_and_never_overwritten(key: KeyPair, tmp_path: Path) -> None:
    assert stat.S_IMODE(key.private.stat().st_mode) == 0o600
    assert fingerprint(read_public_key(key.public)) == key.fingerprint
    with pytest.raises(PackageError, match="never overwritten"):
        generate_key(tmp_path / "release")
    key.private.unlink()
    with pytest.raises(PackageError, match=r"release\.pub\.pem exists"):
        generate_key(tmp_path / "release")


def test_encrypted_key_needs_its_passphrase(unsigned: Path, tmp_path: Path) -> None:
    pair = generate_key(tmp_path / "locked", b"correct horse")
    assert b"ENCRYPTED" in pair.private.read_bytes()
    pair.private.chmod(0o644)
    with pytest.raises(SignatureError, match="no passphrase"):
        read_signer(pair.private)
    with pytest.raises(SignatureError, match="passphrase is wrong"):
        read_signer(pair.private, passphrase=b"wrong")
    sign_package(unsigned, read_signer(pair.private, passphrase=b"correct horse"))
    Package.load(unsigned, require_signature=pair.public)


def test_plain_key_that_others_may_read_is_refused(key: KeyPair) -> None:
    key.private.chmod(0o640)
    with pytest.raises(SignatureError, match="0640") as caught:
        read_signer(key.private)
    assert caught.value.hint == f"chmod 600 {key.private}"


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: rsa.generate_private_key(65537, 2048), "RSA"),
        (ed25519.Ed25519PrivateKey.generate, "Ed25519"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
    ],
)
def test_key_of_another_kind_is_refused_by_name(tmp_path: Path, make, kind: str) -> None:
    path = tmp_path / "k.pem"
    private = make()
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    with pytest.raises(SignatureError, match=kind):
        read_private_key(path)


def test_file_that_is_no_key_is_refused(key: KeyPair, tmp_path: Path) -> None:
    empty, large = tmp_path / "empty.pem", tmp_path / "large.pem"
    empty.write_bytes(b"")
    large.write_bytes(bytes(2 << 20))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (empty, large, pipe, tmp_path / "none.pem", tmp_path):
        for read in (read_private_key, read_public_key):
            with pytest.raises(SignatureError):
                read(path)
    with pytest.raises(SignatureError, match="is a private key"):
        read_public_key(key.private)
    with pytest.raises(SignatureError, match="is empty"):
        read_private_key(empty)
    with pytest.raises(SignatureError, match="cannot read the private key: No such file or directory"):
        read_private_key(tmp_path / "none.pem")
    ssh = tmp_path / "ssh"
    ssh.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
    ssh.chmod(0o600)
    with pytest.raises(SignatureError, match="in the form of OpenSSH") as caught:
        read_private_key(ssh)
    assert "ssh-keygen -p -m PKCS8" in str(caught.value.hint)
    with pytest.raises(SignatureError, match="is a public key: it is no private key"):
        read_private_key(key.public)
    torn = tmp_path / "torn.pem"
    torn.write_bytes(key.private.read_bytes()[:100])
    torn.chmod(0o600)
    with pytest.raises(SignatureError, match="damaged"):
        read_private_key(torn)


def test_signature_is_checked_before_programs_are_parsed(
    unsigned: Path, key: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tessera.package import package as module

    def never(data: bytes) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(module, "program_from_json", never)
    with pytest.raises(SignatureError, match="is not signed"):
        Package.load(unsigned, require_signature=key.public)


def test_weights_that_nobody_hashes_are_not_covered(signed: Path, key: KeyPair) -> None:
    with pytest.raises(PackageError, match="lazy"):
        Package.load(signed, require_signature=key.public, verify_weights="lazy")


def test_package_in_memory_is_signed_by_nobody(artifact, key: KeyPair) -> None:
    package = Package.from_artifact(artifact, name="x")
    assert package.signature is None
    with pytest.raises(SignatureError, match="not signed"):
        check_signature(package, TrustPolicy("test", (key.public,)))


def test_bundle_is_the_document_that_the_stock_command_writes(
    signed: Path, unsigned: Path, key: KeyPair, tmp_path: Path
) -> None:
    folder = Package.load(unsigned).unpack(tmp_path / "small")
    stock("sign", "key", folder, "--signature", tmp_path / "model.sig", "--private_key", key.private)
    theirs, ours = (
        json.loads((tmp_path / "model.sig").read_text()),
        json.loads(Package.load(signed).signature),
    )
    assert ours["verificationMaterial"] == theirs["verificationMaterial"]
    assert ours.keys() == theirs.keys()
    assert ours["dsseEnvelope"].keys() == theirs["dsseEnvelope"].keys()
