"""Names of entries: which are safe, and how any other name becomes a safe one.

An entry's name is a relative path of ASCII segments that means the same file on
every file system: no `..`, no drive, no backslash, nothing hidden, no two names
that differ only in case. Names from programs are percent-encoded to fit.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable

from tessera.program.errors import IntegrityError, PackageError

MAX_NAME = 512
"""Most characters of an entry's name."""
MAX_SEGMENT = 200
"""Most characters of one segment: file systems stop at 255 bytes, and temporary names need some."""
MAX_SEGMENTS = 8
"""Most segments of a name."""

_SAFE = re.compile(r"[A-Za-z0-9_%+][A-Za-z0-9_.%+-]*\Z")
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.+-")
_MAX_ENCODED = 160
_CUT = "%-"
"""Stands before the digest of a cut name: `%` that is no escape."""
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|\Z)", re.IGNORECASE)
"""File names that Windows keeps for devices, with any ending."""


def encode_name(name: str, *, escape_case: bool = False) -> str:
    """`name` as a file stem: what is unsafe becomes `%XX` of its UTF-8 bytes.

    Names whose encoding is longer than 160 characters are cut and end in `%-` and a digest; they
    cannot be decoded, and are found through the manifest.

    Args:
        name: Any name of a program, kernel or constant.
        escape_case: Whether capital letters are encoded too.

    Raises:
        PackageError: The name is empty or is not valid Unicode.
    """
    try:
        data = name.encode()
    except UnicodeEncodeError:
        raise PackageError(f"the name {name!r} is not valid Unicode") from None
    if not data:
        raise PackageError("a program, kernel or constant has an empty name")
    text = "".join(_encode_byte(byte, escape_case=escape_case) for byte in data)
    if text[0] in ".-" or _DEVICES.match(text):
        text = f"%{data[0]:02X}" + text[1:]
    if len(text) > _MAX_ENCODED:
        digest = hashlib.sha256(data).hexdigest()[:32]
        text = re.sub(r"%.?\Z", "", text[: _MAX_ENCODED - 40]) + _CUT + digest
    return text


def _encode_byte(byte: int, *, escape_case: bool) -> str:
    plain = byte in _PLAIN and not (escape_case and 65 <= byte <= 90)
    return chr(byte) if plain else f"%{byte:02X}"


def decode_name(stem: str) -> str:
    """The name that `encode_name` made `stem` from.

    Raises:
        PackageError: The stem was cut, or is no such encoding.
    """
    from urllib.parse import unquote

    if re.search(r"%(?![0-9A-F]{2})", stem):
        raise PackageError(f"{stem!r} cannot be decoded", hint="the manifest has its name")
    return unquote(stem, errors="strict")


def encode_names(names: Iterable[str]) -> dict[str, str]:
    """A stem for each of `names`, no two of which are equal on a case-insensitive file system.

    Names that differ only in case all have their capitals encoded; the rest stay readable.
    """
    plain = {name: encode_name(name) for name in names}
    folded = Counter(stem.lower() for stem in plain.values())
    return {
        name: stem if folded[stem.lower()] == 1 else encode_name(name, escape_case=True)
        for name, stem in plain.items()
    }


_PROBLEMS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("is empty", lambda n: not n),
    ("holds a NUL byte", lambda n: "\0" in n),
    ("holds a backslash", lambda n: "\\" in n),
    ("is an absolute path", lambda n: n.startswith("/") or re.match(r"[A-Za-z]:", n) is not None),
    ("leaves the package with '..'", lambda n: ".." in n.split("/")),
    ("is a folder, not a file", lambda n: n.endswith("/")),
    ("is not ASCII", lambda n: not n.isascii()),
    (f"is longer than {MAX_NAME} characters", lambda n: len(n) > MAX_NAME),
    (f"has more than {MAX_SEGMENTS} segments", lambda n: n.count("/") >= MAX_SEGMENTS),
    (
        f"has a segment over {MAX_SEGMENT} characters",
        lambda n: any(len(s) > MAX_SEGMENT for s in n.split("/")),
    ),
    (
        "has a segment that is not plain letters, digits and _.%+-",
        lambda n: not all(_SAFE.match(s) and not s.endswith(".") for s in n.split("/")),
    ),
    ("is a device on Windows", lambda n: any(_DEVICES.match(s) for s in n.split("/"))),
)
"""Everything that makes a name unsafe, most telling first."""


def check_name(name: str) -> None:
    """Refuse an entry's name that is not a plain relative path.

    Raises:
        IntegrityError: The name is unsafe; the message says how.
    """
    for problem, is_so in _PROBLEMS:
        if is_so(name):
            raise IntegrityError(f"entry name {name[:120]!r} {problem}", entry=name)


def check_names(names: Iterable[str]) -> None:
    """Refuse names that are unsafe or would be one file on some file system.

    Raises:
        IntegrityError: A name is unsafe, appears twice, differs from another only in case, or is
            also a folder of another.
    """
    seen: dict[str, str] = {}
    for name in names:
        check_name(name)
        key = name.lower()
        if (twin := seen.get(key)) is not None:
            problem = "appears twice" if twin == name else f"differs from {twin!r} only in case"
            raise IntegrityError(f"entry {name!r} {problem}", entry=name)
        seen[key] = name
    for key, name in seen.items():
        parts = key.split("/")
        for end in range(1, len(parts)):
            if (folder := "/".join(parts[:end])) in seen:
                raise IntegrityError(f"entry {seen[folder]!r} is also a folder of {name!r}", entry=name)
