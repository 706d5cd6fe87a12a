"""API keys: where they are written, and whose a key is.

A file has a key a line, `NAME:KEY`, or `NAME:sha256:DIGEST` where the key itself should not lie on a
disk. The file is looked at again every second, so that keys are exchanged without a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tessera.program.errors import ConfigError
from tessera.serve.security.files import State, state_of

logger = logging.getLogger("tessera.serve")

MIN_KEY_LENGTH = 16
"""Shorter keys can be guessed: 16 random letters and digits are 95 bits."""

RECHECK_S = 1.0
"""How old what is known of the file may be."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})\Z")
_HINT = "a key a line: NAME:KEY, or NAME:sha256:DIGEST; openssl rand -hex 32 makes a key"

Digests = tuple[tuple[str, bytes], ...]
"""Names, and the SHA-256 of their keys."""


def parse_keys(lines: Iterable[str], source: str) -> Digests:
    """Names and digests of `lines`.

    Args:
        lines: `NAME:KEY` each; blank ones and those that begin with `#` do not count.
        source: Where they are written, for messages. No message ever holds a key.

    Raises:
        ConfigError: A line is of another form, a name is there twice, a key is too short, or there is none.
    """
    found: dict[str, bytes] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, colon, key = text.partition(":")
        problem = _problem(name, colon, key, found)
        if problem:
            raise ConfigError(f"{source}, key {number}: {problem}", hint=_HINT, key="api_keys")
        digest = _DIGEST.match(key)
        found[name] = bytes.fromhex(digest[1]) if digest else hashlib.sha256(key.encode()).digest()
    if not found:
        raise ConfigError(f"{source} has no keys", hint=_HINT, key="api_keys")
    return tuple(found.items())


def _problem(name: str, colon: str, key: str, found: dict[str, bytes]) -> str | None:
    if not colon:
        return "there is no ':' between name and key"
    if not _NAME.match(name):
        return "the name is not made of 1 to 64 letters, digits and . _ @ -"
    if name in found:
        return f"the name {name!r} is there twice"
    if key.startswith("sha256:"):
        return None if _DIGEST.match(key) else f"the digest of {name!r} is not 64 hexadecimal digits"
    if len(key) < MIN_KEY_LENGTH:
        return f"the key of {name!r} has {len(key)} characters, at least {MIN_KEY_LENGTH} are needed"
    if not key.isascii() or any(c.isspace() for c in key):
        return f"the key of {name!r} holds blanks or letters beyond ASCII, which no header can carry"
    return None


class KeyRing:
    """Keys with names, from text and from a file that may be replaced at any time.

    Args:
        text: Keys separated by commas, as an environment variable holds them.
        file: Path of a file of keys.
        clock: Seconds from anywhere.

    Raises:
        ConfigError: The text or the file is damaged, or a name is in both.
    """

    def __init__(
        self,
        text: str | None = None,
        file: str | os.PathLike[str] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fixed = parse_keys(text.split(","), "api_keys") if text else ()
        self._file = Path(file) if file is not None else None
        self._clock = clock
        self._seen: State = None
        self._digests = self._fixed
        if self._file is not None:
            self._seen = state_of(self._file)
            self._digests = self._read(self._file)
        self._next_look_s = clock() + RECHECK_S

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the keys that count now."""
        return tuple(name for name, _ in self._digests)

    def name_of(self, key: str) -> str | None:
        """Whose key it is; None if nobody's. Takes equally long whichever it is, and wherever it differs."""
        self._refresh()
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        found: str | None = None
        for name, known in self._digests:
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def _refresh(self) -> None:
        if self._file is None or self._clock() < self._next_look_s:
            return
        self._next_look_s = self._clock() + RECHECK_S
        state = state_of(self._file)
        if state == self._seen:
            return
        self._seen = state
        try:
            self._digests = self._read(self._file)
        except ConfigError as error:
            # A file that is being written is not a reason to let nobody in, nor everybody.
            logger.error("the keys before stay in force: %s", error.message)
        else:
            logger.info("%s: %d keys are in force", self._file, len(self._digests))

    def _read(self, path: Path) -> Digests:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise ConfigError(
                f"cannot read the API keys {path}: {error.strerror}",
                hint=f"ls -l {path}",
                key="api_keys_file",
            ) from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not text in UTF-8", hint=_HINT, key="api_keys_file") from error
        digests = parse_keys(lines, str(path))
        double = {name for name, _ in digests} & {name for name, _ in self._fixed}
        if double:
            raise ConfigError(
                f"the key {min(double)!r} is in api_keys and in {path}",
                hint="give it another name in one of them",
                key="api_keys_file",
            )
        return (*self._fixed, *digests)
