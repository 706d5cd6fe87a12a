"""Who may sign: keys, certificates, and the policy that says so."""

import os
import random
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from authority import DAY, NOW, Holder, pem, root, stock, usage
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tessera.package import (
    KeyPair,
    Package,
    TrustPolicy,
    check_signature,
    generate_key,
    read_signer,
    sign_package,
)
from tessera.package.bundle import bundle_to_json
from tessera.package.signing import SigningKey
from tessera.package.statement import statement_over
from tessera.package.trust import find_policy, policy_of, policy_of_table, read_policy, required_policy
from tessera.program.errors import ConfigError, SignatureError

SIGNS = usage(sign=True)
ISSUES = usage(issue=True)
CODE = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)
WEB = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)


@pytest.fixture
def authority(tmp_path: Path) -> Holder:
    holder = root()
    (tmp_path / "root.crt").write_bytes(pem(holder))
    return holder


def signed_by(package: Path, signer: Holder, *between: Holder) -> Path:
    """The package, signed by `signer` whatever may be wrong with its certificate."""
    from tessera.package.archive import Archive
    from tessera.package.limits import DEFAULT_LIMITS

    chain = tuple(h.certificate.public_bytes(Encoding.DER) for h in (signer, *between))
    bundle = SigningKey(signer.key, chain).sign(statement_over("small", Package.load(package).files))
    out = package.with_name("by-certificate.tsc")
    with out.open("wb", buffering=0) as file:
        Archive(package, DEFAULT_LIMITS).write_signed(file, bundle_to_json(bundle))
    return out


def accepted(package: Path, tmp_path: Path, **more: object):
    return check_signature(Package.load(package), TrustPolicy("test", roots=(tmp_path / "root.crt",), **more))


def refusal(package: Path, tmp_path: Path, **more: object) -> SignatureError:
    with pytest.raises(SignatureError) as caught:
        accepted(package, tmp_path, **more)
    return caught.value


def test_chain_is_accepted_by_us_and_by_the_stock_command(
    unsigned: Path, authority: Holder, tmp_path: Path
) -> None:
    middle = authority.issue("middle", ISSUES, authority=True)
    key, chain = middle.issue("release", SIGNS).write(tmp_path / "keys", middle)
    out = sign_package(unsigned, read_signer(key, chain), out=tmp_path / "s.tsc")
    signer = accepted(out, tmp_path)
    assert (signer.subject, signer.rule) == ("CN=release", "roots: root.crt")
    folder = Package.load(out, require_signature=tmp_path / "root.crt").unpack(tmp_path / "folder")
    signature = folder / "META/model.sig"
    said = stock(
        "verify",
        "certificate",
        folder,
        "--signature",
        signature,
        "--certificate_chain",
        tmp_path / "root.crt",
    )
    assert said.returncode == 0, said.stderr


def test_we_accept_the_chain_that_the_stock_command_signed(
    unsigned: Path, authority: Holder, tmp_path: Path
) -> None:
    middle = authority.issue("middle", ISSUES, authority=True)
    leaf = middle.issue("release", SIGNS)
    key, _ = leaf.write(tmp_path / "keys", middle)
    (tmp_path / "leaf.crt").write_bytes(pem(leaf))
    (tmp_path / "middle.crt").write_bytes(pem(middle))
    folder = Package.load(unsigned).unpack(tmp_path / "folder")
    (folder / "META").mkdir()
    said = stock(
        *("sign", "certificate", folder, "--signature", folder / "META/model.sig", "--private_key", key),
        *("--signing_certificate", tmp_path / "leaf.crt", "--certificate_chain", tmp_path / "middle.crt"),
    )
    assert said.returncode == 0, said.stderr
    assert Package.load(folder, require_signature=tmp_path / "root.crt").verify() == []


def test_certificate_of_another_authority_is_refused(
    unsigned: Path, authority: Holder, tmp_path: Path
) -> None:
    # Of the same name, even.
    impostor = root()
    error = refusal(signed_by(unsigned, impostor.issue("release", SIGNS), impostor), tmp_path)
    assert error.fields["rule"] == "roots"
    assert "CN=release, issued by CN=root" in error.message


def test_missing_certificate_between_is_refused(unsigned: Path, authority: Holder, tmp_path: Path) -> None:
    middle = authority.issue("middle", ISSUES, authority=True)
    leaf = middle.issue("release", SIGNS)
    assert refusal(signed_by(unsigned, leaf), tmp_path).fields["rule"] == "roots"
    accepted(signed_by(unsigned, leaf, middle), tmp_path)


@pytest.mark.parametrize(
    ("extensions", "fits"),
    [
        ((SIGNS,), True),
        ((CODE,), True),
        ((SIGNS, CODE), True),
        ((), False),
        ((ISSUES,), False),
        ((WEB,), False),
        ((SIGNS, WEB), False),
        ((ISSUES, CODE), False),
    ],
)
def test_certificate_must_be_one_for_signing(
    unsigned: Path, authority: Holder, tmp_path: Path, extensions: tuple, fits: bool
) -> None:
    leaf = authority.issue("release", *extensions)
    package = signed_by(unsigned, leaf)
    if fits:
        accepted(package, tmp_path)
        return
    assert refusal(package, tmp_path).fields["rule"] == "key usage"
    with pytest.raises(SignatureError, match="not one for signing"):
        read_signer(*leaf.write(tmp_path / "keys"))


def test_issuer_that_is_no_authority_is_refused(unsigned: Path, authority: Holder, tmp_path: Path) -> None:
    for middle in (
        authority.issue("middle", SIGNS),
        authority.issue("middle", SIGNS, authority=True),
    ):
        package = signed_by(unsigned, middle.issue("release", SIGNS), middle)
        assert refusal(package, tmp_path).fields["rule"] == "roots"


def test_certificate_of_another_day_is_refused(unsigned: Path, authority: Holder, tmp_path: Path) -> None:
    expired = authority.issue("release", SIGNS, begins=NOW - 2 * DAY, ends=NOW - DAY)
    package = signed_by(unsigned, expired)
    error = refusal(package, tmp_path)
    assert error.fields["rule"] == "expired"
    assert f"expired on {NOW - DAY:%Y-%m-%d}" in error.message
    assert accepted(package, tmp_path, accept_expired=True).subject == "CN=release"
    with pytest.raises(SignatureError, match="expired"):
        read_signer(*expired.write(tmp_path / "keys"))
    future = authority.issue("release", SIGNS, begins=NOW + DAY)
    assert refusal(signed_by(unsigned, future), tmp_path).fields["rule"] == "not yet valid"
    middle = authority.issue("middle", ISSUES, authority=True, begins=NOW - 2 * DAY, ends=NOW - DAY)
    error = refusal(signed_by(unsigned, middle.issue("release", SIGNS), middle), tmp_path)
    assert "CN=middle" in error.message


def test_root_that_expired_vouches_for_nobody(unsigned: Path, tmp_path: Path) -> None:
    old = root(begins=NOW - 3 * DAY, ends=NOW - 2 * DAY)
    (tmp_path / "root.crt").write_bytes(pem(old))
    error = refusal(signed_by(unsigned, old.issue("release", SIGNS)), tmp_path)
    assert error.fields["rule"] == "roots"


def test_identity_must_be_in_the_certificate(unsigned: Path, authority: Holder, tmp_path: Path) -> None:
    mail = (x509.SubjectAlternativeName([x509.RFC822Name("release@example.com")]), False)
    package = signed_by(unsigned, authority.issue("release", SIGNS, mail))
    for name in ("release@example.com", "release", "CN=release"):
        accepted(package, tmp_path, identities=(name,))
    error = refusal(package, tmp_path, identities=("admin@example.com",))
    assert error.fields["rule"] == "identities"
    assert "admin@example.com" in error.message


def test_key_that_is_trusted_counts_whoever_certified_it(
    unsigned: Path, authority: Holder, key: KeyPair, tmp_path: Path
) -> None:
    signer = read_signer(key.private)
    leaf = root("stranger").issue("release", SIGNS, key=signer.key)
    package = signed_by(unsigned, leaf)
    assert check_signature(Package.load(package), policy_of([key.public])).fingerprint == key.fingerprint
    assert refusal(package, tmp_path).fields["rule"] == "roots"


def test_bare_key_is_refused_where_a_certificate_is_asked_for(
    signed: Path, authority: Holder, key: KeyPair, tmp_path: Path
) -> None:
    error = refusal(signed, tmp_path)
    assert "asks for a certificate" in error.message
    assert error.fields["found"] == key.fingerprint


def test_certificate_of_another_key_cannot_sign(unsigned: Path, authority: Holder, tmp_path: Path) -> None:
    one, other = authority.issue("one", SIGNS), authority.issue("other", SIGNS)
    key, _ = one.write(tmp_path / "keys")
    _, chain = other.write(tmp_path / "keys")
    with pytest.raises(SignatureError, match="none of its 1 certificates"):
        read_signer(key, chain)
    chain.write_bytes(b"no certificate")
    with pytest.raises(SignatureError, match="holds no certificate"):
        read_signer(key, chain)
    # In a bundle, the certificate's key is what the signature must be of.
    forged = Holder("one", other.key, one.certificate)
    assert refusal(signed_by(unsigned, forged), tmp_path).fields["rule"] == "signature"


def test_malformed_and_foreign_certificates_are_refused(
    unsigned: Path, authority: Holder, tmp_path: Path
) -> None:
    import json

    from test_signature_tampering import with_signature

    package = signed_by(unsigned, authority.issue("release", SIGNS))
    document = json.loads(Package.load(package).signature)
    certificates = document["verificationMaterial"]["x509CertificateChain"]["certificates"]
    for chain, match in (
        ([], "0 certificates"),
        (certificates * 9, "9 certificates"),
        ([{"rawBytes": "AAAA"}], "malformed"),
        ([{"rawBytes": certificates[0]["rawBytes"][:-8]}], "malformed"),
    ):
        document["verificationMaterial"]["x509CertificateChain"]["certificates"] = chain
        forged = with_signature(package, json.dumps(document).encode())
        assert match in refusal(forged, tmp_path).message
    private = rsa.generate_private_key(65537, 2048)
    foreign = authority.issue("release", SIGNS, key=private)  # type: ignore[arg-type]
    key = generate_key(tmp_path / "k")
    chain_of_rsa = (foreign.certificate.public_bytes(Encoding.DER),)
    bundle = SigningKey(read_signer(key.private).key, chain_of_rsa).sign(b"{}")
    forged = with_signature(package, bundle_to_json(bundle))
    assert "RSA" in refusal(forged, tmp_path).message


def test_certificate_with_any_bytes_changed_is_refused(authority: Holder, tmp_path: Path) -> None:
    middle = authority.issue("middle", ISSUES, authority=True)
    mail = (x509.SubjectAlternativeName([x509.RFC822Name("release@example.com")]), False)
    leaf = middle.issue("release", SIGNS, mail)
    chain = [h.certificate.public_bytes(Encoding.DER) for h in (leaf, middle)]
    policy = TrustPolicy("test", roots=(tmp_path / "root.crt",), identities=("release@example.com",))
    good = SigningKey(leaf.key, tuple(chain)).sign(b"{}")
    assert policy.accept(good, entry="e").subject == "CN=release"
    rng = random.Random(6)
    # Every byte once, and some more several at a time.
    changes = [(which, [at]) for which in (0, 1) for at in range(len(chain[which]))]
    changes += [(w, rng.sample(range(len(chain[w])), 3)) for w in (0, 1) for _ in range(200)]
    for which, places in changes:
        broken = bytearray(chain[which])
        for at in places:
            broken[at] ^= rng.randrange(1, 256)
        changed = [*chain[:which], bytes(broken), *chain[which + 1 :]]
        with pytest.raises(SignatureError):
            policy.accept(replace(good, chain=tuple(changed)), entry="e")


def write_policy(folder: Path, text: str) -> Path:
    file = folder / "tessera.toml"
    file.write_text("[project]\nname = 'x'\n[trust]\n" + text)
    return file


def test_policy_of_a_project_is_found_above_and_its_paths_start_there(
    signed: Path, key: KeyPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_policy(tmp_path, 'require_signature = true\nkeys = ["release.pub.pem"]\n')
    inner = tmp_path / "a/b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    policy = find_policy(Path.cwd())
    assert policy is not None
    assert policy.require_signature
    assert check_signature(Package.load(signed), policy).fingerprint == key.fingerprint
    Package.load(signed, require_signature=True)
    Package.load(signed, require_signature=file)


def test_policy_names_its_file_and_what_it_accepts(signed: Path, tmp_path: Path) -> None:
    generate_key(tmp_path / "other")
    file = write_policy(tmp_path, 'keys = ["other.pub.pem"]\n')
    with pytest.raises(SignatureError, match=r"tessera\.toml accepts sha256:\w{16}… \(other\.pub\.pem\)"):
        Package.load(signed, require_signature=file)


@pytest.mark.parametrize(
    ("text", "match", "key"),
    [
        ("require_signatures = true", "did you mean 'require_signature'", "require_signatures"),
        ('require_signature = "yes"', "not true or false", "require_signature"),
        ("require_signature = true", "names neither keys nor roots", "require_signature"),
        ('keys = "release.pub.pem"', "not a list of public key files", "keys"),
        ("keys = [1]", "not a list", "keys"),
        ('keys = [""]', "not a list", "keys"),
        ('identities = ["me"]', "about certificates", "identities"),
        ("accept_expired = true", "about certificates", "accept_expired"),
    ],
)
def test_policy_that_is_wrong_is_refused_at_its_key(tmp_path: Path, text: str, match: str, key: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        read_policy(write_policy(tmp_path, text + "\n"))
    assert caught.value.fields["key"] == key


def test_policy_that_cannot_be_read_is_an_error_and_not_no_policy(tmp_path: Path) -> None:
    for text in ("trust = 1", "[trust", "\0"):
        (tmp_path / "tessera.toml").write_text(text)
        with pytest.raises(ConfigError):
            find_policy(tmp_path)
    with pytest.raises(ConfigError):
        required_policy(tmp_path / "none.toml")
    with pytest.raises(ConfigError):
        policy_of_table([], tmp_path / "tessera.toml")
    with pytest.raises(ConfigError):
        policy_of()


@pytest.mark.parametrize(
    ("text", "match", "key"),
    [
        ("[Trust]\nrequire_signature = true\n", "did you mean 'trust'", "Trust"),
        ("[trusts]\nrequire_signature = true\n", "did you mean 'trust'", "trusts"),
        ('require_signature = true\nkeys = ["k.pem"]\n', r"write \[trust\]", "require_signature"),
        ('keys = ["k.pem"]\n', r"write \[trust\]", "keys"),
    ],
)
def test_policy_under_another_name_is_an_error_and_not_no_policy(
    tmp_path: Path, text: str, match: str, key: str
) -> None:
    (tmp_path / "tessera.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        find_policy(tmp_path)
    assert caught.value.fields["key"] == key
    assert re.search(match, caught.value.hint or "")


def test_project_file_without_a_policy_does_not_hide_the_one_above(signed: Path, tmp_path: Path) -> None:
    write_policy(tmp_path, 'require_signature = true\nkeys = ["release.pub.pem"]\n')
    inner = tmp_path / "models"
    inner.mkdir()
    (inner / "tessera.toml").write_text("[project]\nname = 'x'\n")
    policy = find_policy(inner)
    assert policy is not None
    assert policy.require_signature


@pytest.mark.parametrize("target", ["nowhere.toml", "tessera.toml", "."], ids=["dangling", "loop", "folder"])
def test_policy_file_that_cannot_be_followed_is_an_error_and_not_no_policy(
    tmp_path: Path, target: str
) -> None:
    (tmp_path / "tessera.toml").symlink_to(target)
    with pytest.raises(ConfigError, match="cannot read the policy"):
        find_policy(tmp_path)


def test_policy_that_a_stranger_left_where_anybody_may_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = tmp_path / "common"
    inner = common / "work"
    inner.mkdir(parents=True)
    file = write_policy(common, 'keys = ["release.pub.pem"]\n')
    if os.geteuid() == 0:
        os.chown(file, 65534, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert find_policy(inner) is not None
    common.chmod(0o1777)
    with pytest.raises(ConfigError, match="another user owns this policy"):
        find_policy(inner)
    assert read_policy(file) is not None
    # One that is one's own may lie there.
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid)
    assert find_policy(inner) is not None


def test_requirement_with_nobody_to_trust_is_an_error(
    signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="nobody is trusted"):
        Package.load(signed, require_signature=True)
    (tmp_path / "tessera.toml").write_text("[project]\nname = 'x'\n")
    with pytest.raises(ConfigError, match="nobody is trusted"):
        Package.load(signed, require_signature=True)
    with pytest.raises(SignatureError, match=r"none\.pem"):
        Package.load(signed, require_signature=tmp_path / "none.pem")


def test_key_that_a_policy_names_must_be_there(signed: Path, tmp_path: Path) -> None:
    file = write_policy(tmp_path, 'keys = ["gone.pub.pem"]\n')
    with pytest.raises(SignatureError, match=r"gone\.pub\.pem"):
        Package.load(signed, require_signature=file)


def test_packages_load_without_cryptography_where_no_signature_is_asked_for(
    signed: Path, key: KeyPair
) -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from tessera.package import Package\n"
        f"assert Package.load({str(signed)!r}).verify() == []\n"
        f"Package.load({str(signed)!r}, require_signature={str(key.public)!r})"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingDependencyError" in said.stderr
    assert "tessera[sign]" in said.stderr
