"""`tessera package keygen|sign|verify|inspect` and whom commands trust."""

import json
import os
import pty
import select
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tessera.package import Package
from tessera.program.program import Program

from .conftest import Tessera

sys.path.insert(0, str(Path(__file__).parents[1] / "package"))
from authority import pem, root, usage

POLICY = '[trust]\nrequire_signature = true\nkeys = ["release.pub.pem"]\n'


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A package for the CPU."""
    from .conftest import KERNELS

    folder = tmp_path_factory.mktemp("built")
    (folder / "kernels.py").write_text(KERNELS)
    command = [sys.executable, "-m", "tessera", "package", "build", "kernels.py:linear_relu", "--arch", "cpu"]
    subprocess.run([*command, "-o", "p.tsd"], cwd=folder, check=True, capture_output=True)
    return (folder / "p.tsd").read_bytes()


@pytest.fixture
def package(project: Path, built: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TESSERA_KEY_PASSPHRASE", raising=False)
    (project / "p.tsd").write_bytes(built)
    return project / "p.tsd"


@pytest.fixture
def key(tessera: Tessera, package: Path) -> str:
    """The fingerprint of release.pem."""
    said = tessera("package", "keygen", "release", "--no-passphrase", "--json")
    assert said.status == 0, said.err
    return str(said.json["fingerprint"])


def test_signed_package_is_verified_and_shown(tessera: Tessera, package: Path, key: str) -> None:
    assert tessera("package", "verify", "p.tsd", "--key", "release.pub.pem").status == 1
    said = tessera("package", "sign", "p.tsd", "--key", "release.pem")
    assert said.status == 0, said.err
    assert f"signed p.tsd with sha256:{key[:16]}" in said.out
    assert "next: tessera package verify p.tsd --key release.pub.pem" in said.out
    said = tessera("package", "verify", "p.tsd", "--key", "release.pub.pem")
    assert said.status == 0, said.err
    assert "trusted by keys: release.pub.pem" in said.out
    data = tessera("package", "verify", "p.tsd", "--key", "release.pub.pem", "--json").json
    assert data["ok"]
    assert data["signature"] == {
        "entry": "META/model.sig",
        "fingerprint": key,
        "subject": None,
        "trusted": True,
        "rule": "keys: release.pub.pem",
        "problem": None,
    }
    assert data["provenance"]["trusted"]
    shown = tessera("package", "inspect", "p.tsd")
    assert f"signature: sha256:{key[:16]}…, not checked" in shown.out
    assert "provenance: built by urn:tessera:builder:local from linear_relu" in shown.out
    assert "numba" in shown.out
    assert max(map(len, shown.out.split("provenance")[1].splitlines())) <= 80
    data = tessera("package", "inspect", "p.tsd", "--json").json
    assert data["signature"]["trusted"] is None
    assert data["provenance"]["sources"] == ["linear_relu"]


def test_unsigned_package_says_so(tessera: Tessera, package: Path, key: str) -> None:
    shown = tessera("package", "inspect", "p.tsd").out
    assert "signature: none\nprovenance: none" in shown
    data = tessera("package", "verify", "p.tsd", "--json").json
    assert data == {"ok": True, "findings": [], "signature": None, "provenance": None}
    said = tessera("package", "verify", "p.tsd", "--key", "release.pub.pem")
    assert said.status == 1
    assert "p.tsd is not signed; --key accepts sha256:" in said.err
    assert "hint: tessera package sign p.tsd --key KEY.pem" in said.err


def test_refusal_names_rule_keys_and_what_to_type(tessera: Tessera, package: Path, key: str) -> None:
    other = tessera("package", "keygen", "other", "--no-passphrase", "--json").json["fingerprint"]
    tessera("package", "sign", "p.tsd", "--key", "other.pem")
    said = tessera("package", "verify", "p.tsd", "--key", "release.pub.pem")
    assert said.status == 1
    assert f"signed with the key sha256:{other[:16]}…" in said.err
    assert f"--key accepts sha256:{key[:16]}… (release.pub.pem)" in said.err
    assert "tessera package sign p.tsd --key" in said.err or "p.tsd --key KEY.pem" in said.err
    error = tessera("package", "verify", "p.tsd", "--key", "release.pub.pem", "--json").json["error"]
    assert (error["rule"], error["found"], error["wanted"]) == ("keys", other, [key])
    assert (
        tessera("package", "verify", "p.tsd", "--key", "release.pub.pem", "--key", "other.pub.pem").status
        == 0
    )


def test_certificate_names_the_signer(tessera: Tessera, package: Path, project: Path) -> None:
    authority = root("Example root")
    (project / "root.crt").write_bytes(pem(authority))
    middle = authority.issue("Example builds", usage(issue=True), authority=True)
    key, chain = middle.issue("release", usage(sign=True)).write(project / "keys", middle)
    said = tessera("package", "sign", "p.tsd", "--key", key, "--cert", chain)
    assert said.status == 0, said.err
    assert "next: tessera package verify p.tsd --trust ROOT.pem" in said.out
    said = tessera("package", "verify", "p.tsd", "--trust", "root.crt")
    assert said.status == 0, said.err
    assert "(CN=release), trusted by roots: root.crt" in said.out
    assert tessera("package", "verify", "p.tsd", "--trust", "root.crt", "--json").json["signature"][
        "subject"
    ] == ("CN=release")
    (project / "strange.crt").write_bytes(pem(root("Example root")))
    said = tessera("package", "verify", "p.tsd", "--trust", "strange.crt")
    assert said.status == 1
    assert "no trusted root vouches for CN=release, issued by CN=Example builds" in said.err
    (project / "tessera.toml").write_text(
        '[trust]\nrequire_signature = true\nroots = ["root.crt"]\nidentities = ["someone else"]\n'
    )
    said = tessera("run", "p.tsd", "--device", "cpu", "--size", "batch=2")
    assert said.status == 1
    assert "it is signed by CN=release" in said.err
    assert "accepts someone else" in said.err


def test_signing_again_and_elsewhere(tessera: Tessera, package: Path, key: str) -> None:
    before = package.read_bytes()
    said = tessera("package", "sign", "p.tsd", "--key", "release.pem", "-o", "s.tsd", "--no-provenance")
    assert said.status == 0
    assert package.read_bytes() == before
    assert not Path("s.tsd.sigstore.json").exists()
    assert tessera("package", "verify", "s.tsd", "--key", "release.pub.pem").status == 0
    said = tessera("package", "sign", "s.tsd", "--key", "release.pem")
    assert f"in place of sha256:{key[:16]}" in said.out
    data = tessera(
        "package", "sign", "s.tsd", "--key", "release.pem", "--builder", "https://ci.example/1", "--json"
    )
    assert data.json["replaced"]
    assert "built by https://ci.example/1" in tessera("package", "inspect", "s.tsd").out


def test_provenance_of_another_package_or_signer_is_found(tessera: Tessera, package: Path, key: str) -> None:
    tessera("package", "sign", "p.tsd", "--key", "release.pem")
    beside = Path("p.tsd.sigstore.json")
    good = beside.read_text()
    tessera("package", "keygen", "other", "--no-passphrase")
    tessera("package", "sign", "p.tsd", "--key", "other.pem")
    strange = beside.read_text()
    tessera("package", "sign", "p.tsd", "--key", "release.pem")
    beside.write_text(strange)
    said = tessera("package", "verify", "p.tsd", "--key", "release.pub.pem")
    assert said.status == 1
    assert "p.tsd.sigstore.json: it is signed with the key" in said.err
    for text, problem in (
        ("{}", "no Sigstore bundle"),
        ("", "not strict JSON"),
        (good[:300], "not strict JSON"),
    ):
        beside.write_text(text)
        said = tessera("package", "verify", "p.tsd", "--key", "release.pub.pem")
        assert said.status == 1
        assert problem in said.err
        shown = tessera("package", "inspect", "p.tsd")
        assert shown.status == 0
        assert "p.tsd.sigstore.json is wrong: " in shown.out
        assert problem in shown.out
    beside.unlink()
    assert tessera("package", "verify", "p.tsd", "--key", "release.pub.pem").status == 0
    # One of another package: the manifest's digest tells.
    tessera("package", "build", "kernels.py:linear_relu", "--arch", "cpu", "-o", "q.tsd", "--version", "9")
    tessera("package", "sign", "q.tsd", "--key", "release.pem")
    beside.write_bytes(Path("q.tsd.sigstore.json").read_bytes())
    said = tessera("package", "verify", "p.tsd", "--key", "release.pub.pem")
    assert said.status == 1
    assert "about another package" in said.err
    assert "hint: get p.tsd.sigstore.json again from who signed the package" in said.err


def test_provenance_outlives_unpacking(tessera: Tessera, package: Path, key: str) -> None:
    tessera("package", "sign", "p.tsd", "--key", "release.pem")
    tessera("package", "unpack", "p.tsd", "folder")
    Path("folder.sigstore.json").write_bytes(Path("p.tsd.sigstore.json").read_bytes())
    said = tessera("package", "verify", "folder", "--key", "release.pub.pem")
    assert said.status == 0, said.err
    assert "provenance: built by" in said.out


def test_provenance_is_an_in_toto_statement_of_the_files_own_bytes(
    tessera: Tessera, package: Path, key: str
) -> None:
    import base64
    import hashlib

    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey

    tessera("package", "sign", "p.tsd", "--key", "release.pem")
    bundle = json.loads(Path("p.tsd.sigstore.json").read_text())
    # Checked by another implementation of DSSE.
    envelope = bundle["dsseEnvelope"]
    public = Path("release.pub.pem").read_text()
    judge = SSlibKey(key, "ecdsa", "ecdsa-sha2-nistp256", {"public": public})
    signatures = [{**s, "keyid": key} for s in envelope["signatures"]]
    assert Envelope.from_dict({**envelope, "signatures": signatures}).verify([judge], 1)
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    whole = {"name": "p.tsd", "digest": {"sha256": hashlib.sha256(package.read_bytes()).hexdigest()}}
    assert whole in statement["subject"]
    build = statement["predicate"]["buildDefinition"]
    assert build["externalParameters"]["sources"] == ["linear_relu"]
    assert build["externalParameters"]["options"]["targets"][0]["target"].startswith("cpu")
    assert any(d.get("uri", "").startswith("pkg:pypi/numba@") for d in build["resolvedDependencies"])
    assert any(len(d.get("digest", {}).get("sha256", "")) == 64 for d in build["resolvedDependencies"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_other_libraries_read_what_is_written(tessera: Tessera, package: Path, key: str) -> None:
    import base64

    from google.protobuf import json_format
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.v1 import statement_pb2
    from sigstore_models.bundle import v1 as bundles

    tessera("package", "sign", "p.tsd", "--key", "release.pem")
    for text in (Path("p.tsd.sigstore.json").read_text(), Package.load("p.tsd").signature.decode()):
        bundle = bundles.Bundle.from_json(text)
        assert bundle.verification_material.public_key.hint == key
        payload = base64.b64decode(json.loads(text)["dsseEnvelope"]["payload"])
        statement = json_format.Parse(payload, statement_pb2.Statement())
        if statement.predicate_type == "https://slsa.dev/provenance/v1":
            # The schema itself: an unknown field or another type is an error.
            predicate = json.dumps(json.loads(payload)["predicate"])
            provenance = json_format.Parse(predicate, provenance_pb2.Provenance())
            assert provenance.run_details.builder.id == "urn:tessera:builder:local"
        else:
            assert statement.predicate_type == "https://model_signing/signature/v1.0"


def test_project_that_requires_a_signature_holds_every_command_to_it(
    tessera: Tessera, package: Path, key: str, project: Path
) -> None:
    (project / "tessera.toml").write_text(POLICY)
    for command in (
        ("run", "p.tsd", "--device", "cpu", "--size", "batch=2"),
        ("bench", "p.tsd", "--device", "cpu"),
        ("profile", "p.tsd", "--device", "cpu"),
        ("profile", "p.tsd"),
        ("serve", "p.tsd", "--device", "cpu", "--port", "0"),
        ("report", "p.tsd", "-o", "p.html"),
    ):
        said = tessera(*command)
        assert said.status == 1
        assert "p.tsd is not signed" in said.err
        assert "tessera.toml accepts" in said.err
    assert tessera("package", "verify", "p.tsd").status == 1
    assert tessera("package", "inspect", "p.tsd").status == 0
    assert tessera("package", "sign", "p.tsd", "--key", "release.pem").status == 0
    assert tessera("run", "p.tsd", "--device", "cpu", "--size", "batch=2").status == 0
    assert "trusted by keys: release.pub.pem" in tessera("package", "verify", "p.tsd").out


def test_project_that_names_keys_judges_a_signature_that_is_there(
    tessera: Tessera, package: Path, key: str, project: Path
) -> None:
    (project / "tessera.toml").write_text(POLICY.replace("require_signature = true\n", ""))
    assert tessera("package", "verify", "p.tsd").status == 0
    assert tessera("package", "verify", "p.tsd", "--require-signature").status == 1
    tessera("package", "keygen", "other", "--no-passphrase")
    tessera("package", "sign", "p.tsd", "--key", "other.pem")
    said = tessera("package", "verify", "p.tsd")
    assert said.status == 1
    assert "tessera.toml accepts sha256:" in said.err
    assert tessera("run", "p.tsd", "--device", "cpu", "--size", "batch=2").status == 0
    tessera("package", "sign", "p.tsd", "--key", "release.pem")
    assert (
        "trusted by keys: release.pub.pem" in tessera("package", "verify", "p.tsd", "--require-signature").out
    )


def test_policy_beside_a_package_can_ask_but_not_vouch(
    tessera: Tessera, package: Path, key: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "tessera.toml").write_text(POLICY)
    elsewhere = project.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    said = tessera("package", "verify", package)
    assert said.status == 1
    assert "is not signed" in said.err
    tessera("package", "sign", package, "--key", project / "release.pem")
    assert tessera("package", "verify", package).status == 0
    said = tessera("package", "verify", package, "--require-signature")
    assert said.status == 2
    assert "nobody is trusted: no tessera.toml in" in said.err
    assert tessera("package", "verify", package, "--policy", project / "tessera.toml").status == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[trust]\nkey = []\n", "did you mean 'keys'"),
        ("[trust]\nrequire_signature = 1\n", "not true or false"),
        ("[trust]\nrequire_signature = true\n", "names neither keys nor roots"),
        ("trust = true\n", "'trust' must be a section"),
    ],
)
def test_wrong_policy_is_shown_at_its_line(
    tessera: Tessera, package: Path, project: Path, text: str, message: str
) -> None:
    (project / "tessera.toml").write_text(text)
    said = tessera("compile", "kernels.py:saxpy", "--arch", "sm_80")
    assert said.status == 2
    assert message in said.err
    assert "tessera.toml:" in said.err
    said = tessera("package", "verify", "p.tsd")
    assert said.status == 2
    assert message in said.err


def test_encrypted_key_takes_its_passphrase_from_file_or_environment(
    tessera: Tessera, package: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "words").write_text("correct horse\nsecond line\n")
    said = tessera("package", "keygen", "locked", "--passphrase-file", "words")
    assert said.status == 0, said.err
    assert "(encrypted, mode 0600)" in said.out
    assert stat.S_IMODE((project / "locked.pem").stat().st_mode) == 0o600
    said = tessera("package", "sign", "p.tsd", "--key", "locked.pem")
    assert said.status == 2
    assert "TESSERA_KEY_PASSPHRASE" in said.err
    assert (
        tessera("package", "sign", "p.tsd", "--key", "locked.pem", "--passphrase-file", "words").status == 0
    )
    monkeypatch.setenv("TESSERA_KEY_PASSPHRASE", "correct horse")
    assert tessera("package", "sign", "p.tsd", "--key", "locked.pem").status == 0
    monkeypatch.setenv("TESSERA_KEY_PASSPHRASE", "wrong")
    said = tessera("package", "sign", "p.tsd", "--key", "locked.pem")
    assert said.status == 1
    assert "the passphrase is wrong" in said.err
    (project / "words").write_text("\n")
    assert tessera("package", "keygen", "more", "--passphrase-file", "words").status == 2
    assert tessera("package", "keygen", "more", "--passphrase-file", "none").status == 2
    assert not (project / "more.pem").exists()


def talk(arguments: list[str], answers: list[bytes], cwd: Path) -> tuple[int, str]:
    """Run `tessera` in a terminal, typing an answer at each prompt."""
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover
        os.chdir(cwd)
        os.execv(sys.executable, [sys.executable, "-m", "tessera", *arguments])
    said = b""
    pending = list(answers)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.3)[0]:
            # The prompt stands still: what was typed before it is thrown away.
            if pending and said.rstrip().endswith(b":"):
                os.write(terminal, pending.pop(0))
            continue
        try:
            data = os.read(terminal, 4096)
        except OSError:
            break
        if not data:
            break
        said += data
    else:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), said.decode()


def test_passphrase_is_asked_for_in_a_terminal_and_not_shown(package: Path, project: Path) -> None:
    words = b"correct horse\n"
    status, said = talk(["package", "keygen", "asked"], [words, words], project)
    assert status == 0, said
    assert "correct horse" not in said
    status, said = talk(["package", "sign", "p.tsd", "--key", "asked.pem"], [words], project)
    assert status == 0, said
    assert "signed p.tsd" in said
    Package.load(package, require_signature=project / "asked.pub.pem")
    status, said = talk(["package", "keygen", "given-up"], [b"\x03"], project)
    assert status == 130, said
    assert not (project / "given-up.pem").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("sign", "none.tsd", "--key", "release.pem"), 2, "there is no package none.tsd"),
        (("sign", "p.tsd", "--key", "none.pem"), 1, "cannot read the private key"),
        (("sign", "p.tsd", "--key", "release.pub.pem"), 1, "is a public key: it is no private key"),
        (("sign", "p.tsd", "--key", "kernels.py"), 1, "is no private key"),
        (("sign", "kernels.py", "--key", "release.pem"), 2, "is Python source"),
        (("sign", "p.tsd"), 2, "--key"),
        (("sign", "p.tsd", "--key", "release.pem", "--cert", "release.pub.pem"), 1, "holds no certificate"),
        (("sign", "p.tsd", "--key", "release.pem", "-o", "no/where.tsd"), 1, "No such file"),
        (("verify", "p.tsd", "--key", "release.pem"), 1, "is a private key"),
        (("verify", "p.tsd", "--trust", "release.pub.pem"), 1, "holds no certificate"),
        (("verify", "p.tsd", "--policy", "none.toml"), 2, "cannot read the policy"),
        (("verify", "p.tsd", "--policy", "kernels.py"), 2, "is no .toml file"),
        (("verify", "p.tsd", "--policy", "a.toml", "--key", "release.pub.pem"), 2, "cannot be combined"),
        (("keygen", "release", "--no-passphrase"), 1, "never overwritten"),
        (("keygen", "no/where", "--no-passphrase"), 1, "No such file"),
        (("sign", "p.tsd", "--key", "release.pem", "--builder", "me"), 2, "--builder 'me' is no URI"),
        (("keygen", ".", "--no-passphrase"), 1, "is no name for a key"),
        (("keygen", "..", "--no-passphrase"), 1, "is no name for a key"),
    ],
)
def test_wrong_calls_say_what_is_wrong(
    tessera: Tessera, package: Path, key: str, arguments: tuple[str, ...], status: int, message: str
) -> None:
    before = package.read_bytes()
    said = tessera("package", *arguments)
    assert (said.status, message in said.err) == (status, True), said.err
    assert "Traceback" not in said.err
    assert package.read_bytes() == before


def test_damaged_package_is_not_signed(tessera: Tessera, package: Path, key: str) -> None:
    data = bytearray(package.read_bytes())
    data[len(data) // 3] ^= 4
    package.write_bytes(data)
    said = tessera("package", "sign", "p.tsd", "--key", "release.pem")
    assert said.status == 1
    assert package.read_bytes() == bytes(data)
    assert not Path("p.tsd.sigstore.json").exists()


def test_server_refuses_what_is_not_signed(tessera: Tessera, package: Path, key: str, project: Path) -> None:
    said = tessera("serve", "p.tsd", "--require-signature", "--device", "cpu", "--port", "0")
    assert said.status == 2
    assert "nobody is trusted" in said.err
    said = tessera("serve", "p.tsd", "--key", "release.pub.pem", "--device", "cpu", "--port", "0")
    assert said.status == 1
    assert "p.tsd is not signed" in said.err
    tessera("package", "sign", "p.tsd", "--key", "release.pem")
    (project / "tessera.toml").write_text(POLICY.replace("require_signature = true\n", ""))
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tessera",
            "serve",
            "p.tsd",
            "--require-signature",
            "--port",
            "0",
            "--device",
            "cpu",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert line.startswith("serving p.tsd on http://127.0.0.1:"), error


def test_policy_beside_a_package_does_not_answer_for_the_environment(
    tessera: Tessera, package: Path, key: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tessera("package", "keygen", "stranger", "--no-passphrase")
    tessera("package", "sign", "p.tsd", "--key", "stranger.pem")
    (project / "tessera.toml").write_text(POLICY.replace("release", "stranger"))
    elsewhere = project.parent / "operator"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("TESSERA_REQUIRE_SIGNATURE", str(project / "release.pub.pem"))
    said = tessera("serve", package, "--device", "cpu", "--port", "0")
    assert said.status == 1
    assert "release.pub.pem accepts sha256:" in said.err
    monkeypatch.setenv("TESSERA_REQUIRE_SIGNATURE", "true")
    said = tessera("serve", package, "--device", "cpu", "--port", "0")
    assert said.status == 2
    assert "nobody is trusted: no tessera.toml in" in said.err


def test_checked_package_is_what_runs_though_another_takes_its_place(
    tessera: Tessera, package: Path, key: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tessera.workbench.opening import benchable
    from tessera.workbench.profile_ncu import _package

    (project / "tessera.toml").write_text(POLICY)
    foreign = package.read_bytes()
    tessera("package", "sign", "p.tsd", "--key", "release.pem")
    signed = package.read_bytes()
    opened = benchable("p.tsd", "cpu", None)
    copied, _ = _package("p.tsd", "cuda:0", None, project)
    Path("other.tsd").write_bytes(foreign)
    Path("other.tsd").replace(package)
    assert isinstance(opened, Package)
    assert opened.signature is not None
    assert copied.read_bytes() == signed


def test_command_that_takes_source_says_that_a_package_is_one(tessera: Tessera, package: Path) -> None:
    said = tessera("tune", "p.tsd")
    assert said.status == 2
    assert "p.tsd is a package, and its source is needed here" in said.err


def test_diff_tells_what_changed_and_ends_with_status_1(tessera: Tessera, package: Path, key: str) -> None:
    said = tessera("package", "diff", "p.tsd", "p.tsd")
    assert (said.status, "hold the same" in said.out) == (0, True)
    # Who signed it is no difference in what it holds.
    tessera("package", "sign", "p.tsd", "--key", "release.pem", "-o", "s.tsd")
    assert tessera("package", "diff", "p.tsd", "s.tsd").status == 0
    tessera(
        "package", "build", "kernels.py:linear_relu", "--arch", "sm_80", "-o", "q.tsd", "--version", "2.0"
    )
    said = tessera("package", "diff", "p.tsd", "q.tsd")
    assert said.status == 1
    assert "0.1.0 → 2.0" in said.out
    assert max(map(len, said.out.splitlines())) <= 80
    data = tessera("package", "diff", "p.tsd", "q.tsd", "--json").json
    assert not data["same"]
    kinds = {(c["part"], c["kind"]) for c in data["changes"]}
    assert {("kernel", "added"), ("kernel", "removed"), ("program", "changed")} <= kinds
    assert tessera("package", "diff", "p.tsd", "none.tsd").status == 2


def test_repack_makes_a_file_of_a_folder(tessera: Tessera, package: Path, key: str) -> None:
    tessera("package", "sign", "p.tsd", "--key", "release.pem")
    tessera("package", "unpack", "p.tsd", "folder")
    said = tessera("package", "repack", "folder", "-o", "again.tsd", "--json")
    assert said.json["signed"]
    assert Path("again.tsd").read_bytes() == package.read_bytes()
    assert tessera("package", "repack", "p.tsd", "-o", "no/where.tsd").status == 1
    assert tessera("package", "repack", "p.tsd", "-o", "x.tsd", "--weights", "zip").status == 2
    assert tessera("package", "repack", "p.tsd").status == 2
    Path("folder/META/model.sig").write_text("{}")
    said = tessera("package", "inspect", "folder")
    assert "signature: of unknown, and wrong: " in said.out


def test_signed_package_is_loaded_by_the_public_functions(
    tessera: Tessera, package: Path, key: str, project: Path
) -> None:
    from tessera.deploy import DeploymentPackage, ProductionServer, load_model
    from tessera.program.errors import PackageError, ServeError, SignatureError

    for load in (DeploymentPackage.load, lambda p, **k: load_model(p, "cpu", **k)):
        with pytest.raises(SignatureError):
            load(package, require_signature="release.pub.pem")
    with pytest.raises(PackageError, match="lazy"):
        load_model(
            DeploymentPackage.load(package, verify_weights="lazy"), "cpu", require_signature="release.pub.pem"
        )
    unsigned = DeploymentPackage.load(package)
    with pytest.raises(SignatureError):
        load_model(unsigned, "cpu", require_signature="release.pub.pem")
    tessera("package", "sign", "p.tsd", "--key", "release.pem")
    model = load_model(package, "cpu", require_signature="release.pub.pem")
    x, w = np.random.default_rng(0).standard_normal((2, 8)), np.random.default_rng(1).standard_normal((8, 4))
    found = model(x.astype(np.float32), w.astype(np.float32))
    np.testing.assert_allclose(np.asarray(found), np.maximum(x @ w, 0), rtol=1e-4, atol=1e-5)
    server = ProductionServer(package, {"device": "cpu", "port": 0, "require_signature": "release.pub.pem"})
    server.start()
    server.stop()
    empty = Program(name="x", inputs=(), outputs=(), plans=())
    from tessera.program.artifact import Artifact

    artifact = Artifact(programs=(empty,), binaries=(), constants={})
    with pytest.raises(ServeError, match="has none"):
        ProductionServer(artifact, {"port": 0}, require_signature=True)
