"""Whatever is done to a signed package, it is refused, and what was touched is named."""

import base64
import json
import random
import re
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from authority import private_pem
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from specimens import make_artifact

from tessera.package import KeyPair, Limits, Package, generate_key, read_signer, sign_package
from tessera.package.archive import Archive
from tessera.package.bundle import PAYLOAD_TYPE, bundle_from_json, bundle_to_json, pae
from tessera.package.keys import read_private_key, sign_bytes
from tessera.package.limits import DEFAULT_LIMITS
from tessera.package.manifest import manifest_from_json, manifest_to_json
from tessera.package.signing import SigningKey
from tessera.package.statement import SIGNATURE_TYPE, encode_statement, statement_over
from tessera.program.errors import IntegrityError, PackageError, SignatureError


def refused(
    path: Path, key: KeyPair, match: str, *, entry: str | None = None, limits: Limits = DEFAULT_LIMITS
) -> PackageError:
    """The error with which a package is refused when its key is asked for."""
    with pytest.raises(PackageError) as caught:
        load_whole(path, key, limits)
    assert re.search(match, str(caught.value))
    if entry is not None:
        assert caught.value.fields["entry"] == entry
    return caught.value


def load_whole(path: Path, key: KeyPair, limits: Limits) -> None:
    """Load a package with its signature and everything else checked."""
    package = Package.load(path, require_signature=key.public, verify_weights="upfront", limits=limits)
    for finding in package.verify():
        raise PackageError(f"{finding.entry}: {finding.problem}", entry=finding.entry)


def with_signature(package: Path, signature: bytes) -> Path:
    """The package with another signature in its place."""
    out = package.with_name("forged.tsc")
    with out.open("wb", buffering=0) as file:
        Archive(package, DEFAULT_LIMITS).write_signed(file, signature)
    return out


def edited(package: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """The package with its bundle edited."""
    document = json.loads(Package.load(package).signature)
    edit(document)
    return with_signature(package, json.dumps(document).encode())


def flipped_is_refused(data: bytes, at: int, bit: int, key: KeyPair, path: Path) -> None:
    broken = bytearray(data)
    broken[at] ^= 1 << bit
    path.write_bytes(broken)
    error = refused(path, key, "")
    assert error.fields["entry"]


def test_flipping_any_byte_is_refused(signed: Path, key: KeyPair, tmp_path: Path) -> None:
    data = signed.read_bytes()
    rng = random.Random(3)
    for at in range(0, len(data), 23):
        flipped_is_refused(data, at, rng.randrange(8), key, tmp_path / "flipped.tsc")


@pytest.mark.slow
def test_flipping_every_byte_is_refused(signed: Path, key: KeyPair, tmp_path: Path) -> None:
    data = signed.read_bytes()
    rng = random.Random(4)
    for at in range(len(data)):
        flipped_is_refused(data, at, rng.randrange(8), key, tmp_path / "flipped.tsc")


def test_cutting_a_package_short_is_refused(signed: Path, key: KeyPair, tmp_path: Path) -> None:
    data = signed.read_bytes()
    for length in [*range(0, len(data), 101), len(data) - 1]:
        cut = tmp_path / "cut.tsc"
        cut.write_bytes(data[:length])
        refused(cut, key, "")


def test_flipping_any_byte_of_a_folder_is_refused_or_changes_nothing_signed(
    signed: Path, key: KeyPair, tmp_path: Path
) -> None:
    folder = Package.load(signed).unpack(tmp_path / "folder")
    rng = random.Random(5)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name, data = path.relative_to(folder).as_posix(), path.read_bytes()
        for at in rng.sample(range(len(data)), min(len(data), 40)):
            broken = bytearray(data)
            broken[at] ^= 1 << rng.randrange(8)
            path.write_bytes(broken)
            error = refused(folder, key, "")
            assert error.fields["entry"] == name
        path.write_bytes(data)
    assert Package.load(folder, require_signature=key.public).verify() == []


def test_added_file_is_refused(signed: Path, key: KeyPair, tmp_path: Path) -> None:
    with zipfile.ZipFile(signed, "a") as archive:
        archive.writestr("weights/c.bin", b"1234")
    refused(signed, key, "")
    again = sign_package(tmp_path / "plain.tsc", read_signer(key.private), out=tmp_path / "again.tsc")
    folder = Package.load(again).unpack(tmp_path / "folder")
    (folder / "weights/c.bin").write_bytes(b"1234")
    refused(folder, key, "is not in the manifest", entry="weights/c.bin")
    (folder / "META/other.sig").write_bytes(b"{}")
    (folder / "weights/c.bin").unlink()
    refused(folder, key, "is not in the manifest", entry="META/other.sig")


def test_removed_and_renamed_files_are_refused(signed: Path, key: KeyPair, tmp_path: Path) -> None:
    folder = Package.load(signed).unpack(tmp_path / "folder")
    (folder / "weights/a.bin").rename(tmp_path / "kept")
    refused(folder, key, "not in the folder", entry="weights/a.bin")
    (tmp_path / "kept").rename(folder / "weights/z.bin")
    refused(folder, key, "not in the folder", entry="weights/a.bin")


def test_swapped_weights_are_refused(signed: Path, key: KeyPair, tmp_path: Path) -> None:
    folder = Package.load(signed).unpack(tmp_path / "folder")
    a, b = folder / "weights/a.bin", folder / "weights/b.bin"
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    refused(folder, key, "sha256", entry="weights/a.bin")
    # Now with a manifest that says so.
    rewrite(folder, lambda e: {"weights/a.bin": "weights/b.bin", "weights/b.bin": "weights/a.bin"}.get(e, e))
    assert Package.load(folder).verify() == []
    error = refused(folder, key, "is not what was signed", entry="weights/a.bin")
    assert error.fields["entries"] == ["weights/a.bin", "weights/b.bin", "manifest.json"]
    assert error.fields["rule"] == "contents"


def rewrite(folder: Path, content_of: Callable[[str], str]) -> None:
    """Give each entry of the folder's manifest the digest of another's former content."""
    import msgspec

    path = folder / "manifest.json"
    manifest = manifest_from_json(path.read_bytes(), DEFAULT_LIMITS)
    digests = {e.path: e.sha256 for e in manifest.entries}
    entries = tuple(msgspec.structs.replace(e, sha256=digests[content_of(e.path)]) for e in manifest.entries)
    path.write_bytes(manifest_to_json(msgspec.structs.replace(manifest, entries=entries)))


def test_replaced_manifest_is_refused(signed: Path, key: KeyPair, tmp_path: Path) -> None:
    import msgspec

    folder = Package.load(signed).unpack(tmp_path / "folder")
    path = folder / "manifest.json"
    manifest = manifest_from_json(path.read_bytes(), DEFAULT_LIMITS)
    path.write_bytes(manifest_to_json(msgspec.structs.replace(manifest, name="other")))
    assert Package.load(folder).verify() == []
    refused(folder, key, "is not what was signed", entry="manifest.json")


def test_stripped_signature_is_refused(unsigned: Path, signed: Path, key: KeyPair, tmp_path: Path) -> None:
    error = refused(unsigned, key, "is not signed")
    assert error.fields["rule"] == "require_signature"
    assert error.fields["wanted"] == [key.fingerprint]
    folder = Package.load(signed).unpack(tmp_path / "folder")
    shutil.rmtree(folder / "META")
    refused(folder, key, "is not signed")


def test_signature_of_another_package_is_refused(signed: Path, key: KeyPair, tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    weights = {name: rng.standard_normal(4, dtype=np.float32) for name in ("a", "b")}
    other = Package.from_artifact(make_artifact(**weights), name="small", kind="tsc").save(tmp_path / "o.tsc")
    sign_package(other, read_signer(key.private))
    refused(
        with_signature(signed, Package.load(other).signature),
        key,
        "is not what was signed",
        entry="weights/a.bin",
    )


Weights = dict[str, np.ndarray[Any, Any]]


@pytest.mark.parametrize(
    ("change", "entry", "match"),
    [
        (lambda w: {"a": w["b"], "b": w["a"]}, "weights/a.bin", "is not what was signed"),
        (lambda w: {"a": w["a"]}, "weights/b.bin", "is signed, but not in the package"),
        (lambda w: {"a": w["a"], "b2": w["b"]}, "weights/b.bin", r"not in the package .* weights/b2\.bin"),
        (lambda w: {**w, "c": w["a"]}, "weights/c.bin", "is not signed: it was added later"),
        (lambda w: {"a": w["a"], "b": w["b"] + 1}, "weights/b.bin", "is not what was signed"),
        (lambda w: {"a": w["a"], "b": w["b"].reshape(2, 2)}, "programs/forward.json", "manifest.json"),
    ],
    ids=["swapped", "removed", "renamed", "added", "changed", "reshaped"],
)
def test_whole_other_file_with_the_old_signature_is_refused(
    signed: Path, key: KeyPair, tmp_path: Path, change: Callable[[Weights], Weights], entry: str, match: str
) -> None:
    package = Package.load(signed)
    artifact = make_artifact(**change({w.name: package.constant(w.name) for w in package.weights}))
    other = Package.from_artifact(artifact, name="small", kind="tsc").save(tmp_path / "other.tsc")
    forged = with_signature(other, package.signature)
    assert Package.load(forged).verify() == []
    error = refused(forged, key, match, entry=entry)
    assert error.fields["rule"] == "contents"


def test_signature_of_another_key_says_which_was_found_and_wanted(
    signed: Path, key: KeyPair, tmp_path: Path
) -> None:
    other = generate_key(tmp_path / "other")
    error = refused(signed, other, "is signed with the key sha256:", entry="META/model.sig")
    assert error.fields["rule"] == "keys"
    assert error.fields["found"] == key.fingerprint
    assert error.fields["wanted"] == [other.fingerprint]
    assert key.fingerprint[:16] in error.message
    assert other.fingerprint[:16] in error.message

    # Claiming to be the wanted key does not help.
    def claim(document: dict[str, Any]) -> None:
        document["verificationMaterial"]["publicKey"]["hint"] = other.fingerprint

    forged = edited(signed, claim)
    assert refused(forged, other, "is not that of").fields["rule"] == "signature"
    refused(forged, key, "is signed with the key")

    # Nor does claiming nothing.
    def silent(document: dict[str, Any]) -> None:
        del document["verificationMaterial"]["publicKey"]["hint"]

    refused(edited(signed, silent), other, "is signed with the key unknown")
    Package.load(edited(signed, silent), require_signature=key.public)


def twice(document: dict[str, Any]) -> None:
    document["dsseEnvelope"]["signatures"] *= 2


def none(document: dict[str, Any]) -> None:
    document["dsseEnvelope"]["signatures"] = []


def other_type(document: dict[str, Any]) -> None:
    document["dsseEnvelope"]["payloadType"] = "application/json"


def other_bundle(document: dict[str, Any]) -> None:
    document["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.1"


def unknown_field(document: dict[str, Any]) -> None:
    document["dsseEnvelope"]["alg"] = "none"


def two_signers(document: dict[str, Any]) -> None:
    document["verificationMaterial"]["certificate"] = {"rawBytes": "AAAA"}


def no_signer(document: dict[str, Any]) -> None:
    document["verificationMaterial"] = {}


def message(document: dict[str, Any]) -> None:
    document["messageSignature"] = document.pop("dsseEnvelope")


def no_base64(document: dict[str, Any]) -> None:
    document["dsseEnvelope"]["payload"] += "\n"


def spare_bits(document: dict[str, Any]) -> None:
    document["dsseEnvelope"]["signatures"][0]["sig"] = "AB=="


def empty_signature(document: dict[str, Any]) -> None:
    document["dsseEnvelope"]["signatures"][0]["sig"] = ""


def payload_of_nothing(document: dict[str, Any]) -> None:
    document["dsseEnvelope"]["payload"] = ""


@pytest.mark.parametrize(
    ("edit", "rule"),
    [
        (twice, "signatures"),
        (none, "signatures"),
        (other_type, "payload type"),
        (other_bundle, "bundle"),
        (unknown_field, "bundle"),
        (two_signers, "bundle"),
        (no_signer, "bundle"),
        (message, "bundle"),
        (no_base64, "bundle"),
        (spare_bits, "bundle"),
        (empty_signature, "signature"),
        (payload_of_nothing, "signature"),
    ],
)
def test_edited_bundle_is_refused(
    signed: Path, key: KeyPair, edit: Callable[[dict[str, Any]], None], rule: str
) -> None:
    error = refused(edited(signed, edit), key, "", entry="META/model.sig")
    assert isinstance(error, SignatureError)
    assert error.fields["rule"] == rule


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "not strict JSON"),
        (b"null", "no Sigstore bundle"),
        (b"\xff\xfe", "not strict JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "nested 100000 deep"),
        (b'{"mediaType": "a", "mediaType": "b"}', "appears twice"),
        (b'{"mediaType": NaN}', "not a JSON number"),
        (b"{" + b" " * 5000 + b"}", "more than 4000"),
    ],
)
def test_bundle_that_is_no_strict_json_is_refused(
    signed: Path, key: KeyPair, data: bytes, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = with_signature(signed, data)
    if "more than" in match:
        refused(forged, key, match, entry="META/model.sig", limits=Limits(signature_bytes=4000))
    else:
        refused(forged, key, match, entry="META/model.sig")


def signed_payload(signed: Path, key: KeyPair, payload: bytes) -> Path:
    """The package, with the right key's signature over another payload."""
    bundle = SigningKey(read_private_key(key.private)).sign(payload)
    return with_signature(signed, bundle_to_json(bundle))


def test_payload_that_is_no_statement_is_refused_though_it_is_signed(signed: Path, key: KeyPair) -> None:
    files = Package.load(signed).files
    good = json.loads(statement_over("small", files))
    cases: list[tuple[bytes, str]] = [
        (b"", "not strict JSON"),
        (b"{}", "malformed"),
        (b"[" * 1000 + b"]" * 1000, "nested 1000 deep"),
        (encode_statement("https://slsa.dev/provenance/v1", [], {}), "states 'https://slsa"),
        (encode_statement(SIGNATURE_TYPE, [], good["predicate"]), "0 subjects"),
        (encode_statement(SIGNATURE_TYPE, good["subject"] * 2, good["predicate"]), "2 subjects"),
        (encode_statement(SIGNATURE_TYPE, good["subject"], {}), "malformed"),
        (json.dumps({**good, "_type": "https://in-toto.io/Statement/v0.1"}).encode(), "is of type"),
        (json.dumps({**good, "subject": [{"digest": {"sha256": "0" * 64}}]}).encode(), "root digest"),
    ]
    for payload, match in cases:
        refused(signed_payload(signed, key, payload), key, match, entry="META/model.sig")


def forged_files(edit: Callable[[list[dict[str, str]]], None], files: Any, **serialization: Any) -> bytes:
    """A statement with edited resources and the root digest that goes with them."""
    import hashlib

    statement = json.loads(statement_over("small", files))
    resources = statement["predicate"]["resources"]
    edit(resources)
    statement["predicate"]["serialization"].update(serialization)
    root = hashlib.sha256(b"".join(bytes.fromhex(r["digest"]) for r in resources)).hexdigest()
    statement["subject"][0]["digest"]["sha256"] = root
    return json.dumps(statement).encode()


def test_statement_over_other_files_is_refused(signed: Path, key: KeyPair) -> None:
    files = Package.load(signed).files
    cases: list[tuple[Callable[[list[dict[str, str]]], object], str, str]] = [
        (
            lambda r: r.remove(by_name(r, "weights/b.bin")),
            "is not signed: it was added later",
            "weights/b.bin",
        ),
        (lambda r: r.append({**r[0], "name": "weights/c.bin"}), "not in the package", "weights/c.bin"),
        (lambda r: r.append(dict(by_name(r, "weights/b.bin"))), "is not what was signed", "weights/b.bin"),
        (lambda r: by_name(r, "weights/b.bin").update(algorithm="md5"), "is not what", "weights/b.bin"),
        (lambda r: by_name(r, "weights/b.bin").update(algorithm="blake2b"), "is not what", "weights/b.bin"),
        (lambda r: by_name(r, "weights/b.bin").update(digest="00" * 20), "malformed", "META/model.sig"),
        (
            lambda r: by_name(r, "weights/b.bin").update(name="weights/../weights/b.bin"),
            "",
            "weights/../weights/b.bin",
        ),
    ]
    for edit, match, entry in cases:
        refused(signed_payload(signed, key, forged_files(edit, files)), key, match, entry=entry)
    # A statement that says to ignore a file does not take it from what must be signed.
    ignoring = forged_files(
        lambda r: r.remove(by_name(r, "weights/b.bin")),
        files,
        ignore_paths=["weights/b.bin", "META/model.sig"],
    )
    refused(signed_payload(signed, key, ignoring), key, "added later", entry="weights/b.bin")


def test_parts_that_leave_a_gap_or_overlap_are_refused(signed: Path, key: KeyPair) -> None:
    import hashlib

    files = Package.load(signed).files

    def parts(spans: list[tuple[int, int]]) -> bytes:
        def edit(resources: list[dict[str, str]]) -> None:
            for r in list(resources):
                size = files[r["name"]].size
                own = spans if r["name"] == "weights/b.bin" else [(0, size)]
                resources.remove(r)
                for start, stop in own:
                    digest = hashlib.sha256(files[r["name"]].content()[start:stop]).hexdigest()
                    name = f"{r['name']}:{start}:{stop}"
                    resources.append({"name": name, "algorithm": "sha256-sharded-8", "digest": digest})

        return forged_files(edit, files, method="shards")

    Package.load(signed_payload(signed, key, parts([(0, 8), (8, 16)])), require_signature=key.public)
    for spans in (
        [(0, 8)],
        [(8, 16)],
        [(0, 8), (4, 16)],
        [(0, 8), (9, 16)],
        [(0, 17)],
        [(0, 8), (8, 8), (8, 16)],
    ):
        refused(
            signed_payload(signed, key, parts(spans)), key, "is not what was signed", entry="weights/b.bin"
        )


def by_name(resources: list[dict[str, str]], name: str) -> dict[str, str]:
    return next(r for r in resources if r["name"] == name)


def test_algorithms_cannot_be_confused(signed: Path, key: KeyPair, tmp_path: Path) -> None:
    payload = statement_over("small", Package.load(signed).files)
    bundle = SigningKey(read_private_key(key.private)).sign(payload)
    from dataclasses import replace

    from cryptography.hazmat.primitives import hashes

    # The right key with another hash, over the bare payload, or over one of another type.
    private = read_private_key(key.private)
    for signature in (
        private.sign(pae(payload), ec.ECDSA(hashes.SHA384())),
        private.sign(payload, ec.ECDSA(hashes.SHA256())),
        sign_bytes(private, pae(payload).replace(PAYLOAD_TYPE.encode(), b"application/vnd.in-toto+jsom")),
        ed25519.Ed25519PrivateKey.generate().sign(pae(payload)),
        bytes(64),
        b"\x30\x06\x02\x01\x00\x02\x01\x00",
    ):
        forged = with_signature(signed, bundle_to_json(replace(bundle, signature=signature)))
        assert refused(forged, key, "is not that of").fields["rule"] == "signature"
    # A key of another curve signs with its own hash; the bundle has no say.
    larger = ec.generate_private_key(ec.SECP384R1())
    path = tmp_path / "larger.pem"
    path.write_bytes(private_pem(larger))
    path.chmod(0o600)
    hint = SigningKey(read_private_key(path)).sign(payload)
    refused(
        with_signature(signed, bundle_to_json(replace(hint, hint=key.fingerprint))), key, "is not that of"
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(b"")
@given(st.binary(max_size=300))
def test_any_bytes_as_a_bundle_are_an_error_of_ours(data: bytes) -> None:
    with pytest.raises((IntegrityError, SignatureError)):
        bundle_from_json(data, entry="META/model.sig", limits=DEFAULT_LIMITS)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_value_in_any_place_of_a_bundle_is_an_error_of_ours_or_means_the_same(
    data: st.DataObject,
) -> None:
    document: dict[str, Any] = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "0" * 64}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(b"{}").decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": "AAAA", "keyid": ""}],
        },
    }
    place: Any = document
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        deeper = isinstance(place[key], dict | list) and len(place[key]) > 0
        if not deeper or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(_JSON)
    with suppress(IntegrityError, SignatureError):
        bundle_from_json(json.dumps(document).encode(), entry="META/model.sig", limits=DEFAULT_LIMITS)
