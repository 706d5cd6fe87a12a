"""Whom to believe: who may sign packages, from options or the section `[trust]` of a `tessera.toml`."""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.package.bundle import Bundle, fault, pae
from tessera.package.certificates import (
    check_chain,
    identities,
    leaf_key,
    parse_chain,
    read_certificates,
    subject,
)
from tessera.package.keys import fingerprint, is_signed, read_pem, read_public_key, short
from tessera.package.project_file import PROJECT_FILE, project_files
from tessera.program.errors import ConfigError, SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.x509 import Certificate

"""Name of the file that holds a policy, in its section `[trust]`."""
EXAMPLE = '[trust]\nrequire_signature = true\nkeys = ["release.pub.pem"]'


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed, and why that is believed."""

    fingerprint: str
    """SHA-256 of the public key in PEM."""
    subject: str | None
    """Name in the certificate; None for a bare key."""
    rule: str
    """What accepted the signature: `keys: release.pub.pem`."""


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """Whose signatures count. Keys and roots are read when a signature is checked, not before."""

    source: str
    """Where the policy is written: a file, or the options of a call."""
    keys: tuple[Path, ...] = ()
    """Public keys in PEM; any of them may sign."""
    roots: tuple[Path, ...] = ()
    """Certificates in PEM; whom they vouch for may sign."""
    identities: tuple[str, ...] = ()
    """Names of which a signer's certificate must have one; empty: any that a root vouches for."""
    require_signature: bool = True
    """Whether a package that nobody here has signed is refused."""
    accept_expired: bool = False
    """Whether certificates that have expired since count as on their first day."""

    def accept(self, bundle: Bundle, *, entry: str, package: str = "PKG") -> Signer:
        """Who signed `bundle`, if it is one of those.

        Args:
            bundle: What is signed.
            entry: What to call it in a message.
            package: The package's path, for the command that a message gives.

        Raises:
            SignatureError: It is not, or the signature is wrong. `fields` has the `rule`, and the
                fingerprints `found` and `wanted`.
        """
        try:
            accept = self._accept_certificate if bundle.chain else self._accept_key
            key, who = accept(bundle, entry)
        except SignatureError as error:
            error.hint = error.hint and error.hint.replace("PKG", package)
            raise
        if not is_signed(key, bundle.signature, pae(bundle.payload)):
            raise fault(
                entry,
                "signature",
                f"the signature is not that of {short(who.fingerprint)} over this payload",
                found=who.fingerprint,
            )
        return who

    def _accept_key(self, bundle: Bundle, entry: str) -> tuple[EllipticCurvePublicKey, Signer]:
        keys = self._read_keys()
        # Older signers do not say which key it was.
        for digest, (path, key) in keys.items():
            right = is_signed(key, bundle.signature, pae(bundle.payload)) if bundle.hint is None else None
            if digest == bundle.hint or right:
                return key, Signer(digest, None, f"keys: {path.name}")
        if not keys:
            raise self._refusal(
                "keys",
                f"it is signed with the key {short(bundle.hint)}; {self.source} asks for a certificate",
                entry,
                bundle.hint,
            )
        raise self._refusal(
            "keys",
            f"it is signed with the key {short(bundle.hint)}; {self._wanted(keys)}",
            entry,
            bundle.hint,
        )

    def _accept_certificate(self, bundle: Bundle, entry: str) -> tuple[EllipticCurvePublicKey, Signer]:
        chain = parse_chain(bundle.chain, entry)
        key, who = leaf_key(chain[0], entry), subject(chain[0])
        digest = fingerprint(key)
        keys = self._read_keys()
        if digest in keys:
            return key, Signer(digest, who, f"keys: {keys[digest][0].name}")
        if not self.roots:
            raise self._refusal(
                "keys",
                f"it is signed by {who} with the key {short(digest)}; {self._wanted(keys)}",
                entry,
                digest,
            )
        roots: list[Certificate] = [c for path in self.roots for c in read_certificates(path)]
        check_chain(chain, roots, entry=entry, accept_expired=self.accept_expired)
        if self.identities and not set(self.identities) & set(identities(chain[0])):
            raise self._refusal(
                "identities",
                f"it is signed by {who}; {self.source} accepts {' or '.join(self.identities)}",
                entry,
                digest,
            )
        return key, Signer(digest, who, f"roots: {', '.join(path.name for path in self.roots)}")

    def _read_keys(self) -> dict[str, tuple[Path, EllipticCurvePublicKey]]:
        pairs = [(path, read_public_key(path)) for path in self.keys]
        return {fingerprint(key): (path, key) for path, key in pairs}

    def _wanted(self, keys: Mapping[str, tuple[Path, EllipticCurvePublicKey]]) -> str:
        named = " or ".join(f"{short(digest)} ({path.name})" for digest, (path, _) in keys.items())
        return f"{self.source} accepts {named or 'no key'}"

    def _refusal(self, rule: str, problem: str, entry: str, found: str | None) -> SignatureError:
        return fault(
            entry,
            rule,
            problem,
            hint="sign with an accepted key: tessera package sign PKG --key KEY.pem; or accept this one: its"
            " public key in `keys` of [trust], or --key PUB.pem",
            found=found,
            wanted=list(self._read_keys()) if rule == "keys" else list(self.identities),
        )

    def unsigned(self, what: str) -> SignatureError:
        """The error for a package without a signature."""
        wanted = self._read_keys() if self.keys else {}
        whose = self._wanted(wanted) if wanted else f"{self.source} asks for a certificate"
        return SignatureError(
            f"{what} is not signed; {whose}",
            hint=f"tessera package sign {what} --key KEY.pem",
            rule="require_signature",
            found=None,
            wanted=list(wanted),
        )


def policy_of(
    keys: Sequence[Path] = (), roots: Sequence[Path] = (), *, source: str = "this call"
) -> TrustPolicy:
    """A policy of key files and certificate files, all of which are read at once.

    Raises:
        SignatureError: A file does not hold what it should.
        ConfigError: There are none.
    """
    if not keys and not roots:
        raise ConfigError(
            "no signature is trusted where no key is named",
            hint=f"--key PUB.pem, --trust ROOT.pem, or in {PROJECT_FILE}: {EXAMPLE}",
            key="trust",
        )
    for key in keys:
        read_public_key(key)
    for root in roots:
        read_certificates(root)
    return TrustPolicy(source, tuple(keys), tuple(roots))


_KINDS: dict[str, tuple[str, str]] = {
    "require_signature": ("true or false", "bool"),
    "keys": ('a list of public key files, such as ["release.pub.pem"]', "list"),
    "roots": ('a list of certificate files, such as ["root.pem"]', "list"),
    "identities": ('a list of names in certificates, such as ["release@example.com"]', "list"),
    "accept_expired": ("true or false", "bool"),
}
"""Every setting of `[trust]`: what it may be, in words, and how that is told."""


def policy_of_table(table: object, file: Path) -> TrustPolicy:
    """The policy that the section `[trust]` of `file` holds. Paths in it start from the file's folder.

    Raises:
        ConfigError: An unknown key, a value of the wrong kind, or a rule that nothing can satisfy;
            `fields["key"]` names the key.
    """
    if not isinstance(table, dict):
        raise ConfigError("'trust' must be a section", hint=EXAMPLE, key="trust")
    for key, value in table.items():
        if key not in _KINDS:
            near = difflib.get_close_matches(key, _KINDS, n=1)
            hint = (f"did you mean {near[0]!r}? " if near else "") + f"keys of [trust]: {', '.join(_KINDS)}"
            raise ConfigError(f"unknown key {key!r} in [trust]", hint=hint, key=key)
        words, kind = _KINDS[key]
        fits = isinstance(value, bool) if kind == "bool" else _is_list_of_texts(value)
        if not fits:
            raise ConfigError(f"[trust] {key} is {value!r}, not {words}", hint=EXAMPLE, key=key)
    keys, roots = table.get("keys", []), table.get("roots", [])
    if table.get("require_signature") and not keys and not roots:
        raise ConfigError(
            "[trust] requires a signature, but names neither keys nor roots",
            hint=EXAMPLE,
            key="require_signature",
        )
    for key in ("identities", "accept_expired"):
        if table.get(key) and not roots:
            raise ConfigError(
                f"[trust] {key} is about certificates, but there are no roots", hint=EXAMPLE, key=key
            )
    return TrustPolicy(
        str(file),
        tuple(file.parent / path for path in keys),
        tuple(file.parent / path for path in roots),
        tuple(table.get("identities", ())),
        require_signature=table.get("require_signature", False),
        accept_expired=table.get("accept_expired", False),
    )


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) and text for text in value)


def read_policy(file: Path) -> TrustPolicy | None:
    """The policy in a project file; None if it has no section `[trust]`.

    Raises:
        ConfigError: The file cannot be read, is no TOML, or its section is wrong.
    """
    try:
        data: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise ConfigError(f"cannot read the policy {file}: {reason}", hint=f"ls -l {file}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is no TOML: {error}", hint=EXAMPLE) from None
    for name in data:
        _check_spelling(name, file)
    return policy_of_table(data["trust"], file) if "trust" in data else None


def _check_spelling(name: str, file: Path) -> None:
    """See that `name` is not what somebody wrote who meant the section: it would ask for nothing.

    Raises:
        ConfigError: It is.
    """
    if name in _KINDS:
        raise ConfigError(
            f"{file}: {name} stands in no section, so that it asks for nothing",
            hint=f"write [trust] on the line above it:\n{EXAMPLE}",
            key=name,
        )
    if name != "trust" and difflib.get_close_matches(name.casefold(), ["trust"], cutoff=0.8):
        raise ConfigError(f"{file}: unknown section [{name}]", hint="did you mean 'trust'?", key=name)


def find_policy(start: Path) -> TrustPolicy | None:
    """The policy of the nearest `tessera.toml` with a section `[trust]`, in the folder `start` or above it.

    A file without that section does not hide one further up.

    Raises:
        ConfigError: As `read_policy` says; something by that name that cannot be read is no absent policy.
            Another user owns it, in a folder where anybody may write.
    """
    for file in project_files(start):
        policy = read_policy(file) if os.path.lexists(file) else None
        if policy is not None:
            _check_owner(file)
            return policy
    return None


def _check_owner(file: Path) -> None:
    """See that a policy that was come upon was not left there by a stranger, as in `/tmp`.

    Raises:
        ConfigError: It may have been.
    """
    folder, owner = file.parent.stat(), file.stat().st_uid
    if folder.st_mode & stat.S_IWOTH and owner not in (0, os.geteuid()):
        raise ConfigError(
            f"{file}: another user owns this policy, in a folder where anybody may write",
            hint=f"name a policy in the call; or, where the file is yours: chmod o-w {file.parent}",
            key="trust",
        )


Required = bool | str | Path | TrustPolicy
"""How a caller asks for a signature: see `required_policy`."""


def required_policy(required: Required) -> TrustPolicy | None:
    """The policy that `require_signature=required` asks for; None: none is required.

    Args:
        required: A policy; a file with a public key, with certificates, or a `tessera.toml`; True: the
            policy of the project that the process stands in; False.

    Raises:
        ConfigError: There is no such policy.
        SignatureError: The file holds neither a key nor a certificate.
    """
    if isinstance(required, TrustPolicy):
        return required
    if required is False:
        return None
    if required is True:
        policy = find_policy(Path.cwd())
    elif Path(required).suffix == ".toml":
        policy = read_policy(Path(required))
    else:
        return _policy_of_pem(Path(required))
    if policy is None or not (policy.keys or policy.roots):
        where = (
            f"no {PROJECT_FILE} in {Path.cwd()} or above it names"
            if required is True
            else f"{required} does not name"
        )
        raise ConfigError(
            f"a signature is required, but nobody is trusted: {where} keys or roots in [trust]",
            hint=f"name a key in the call, or in {PROJECT_FILE}:\n{EXAMPLE}",
            key="trust",
        )
    return policy


def _policy_of_pem(path: Path) -> TrustPolicy:
    if b"BEGIN CERTIFICATE" in read_pem(path, "key or certificate"):
        return policy_of(roots=[path], source=path.name)
    return policy_of([path], source=path.name)
