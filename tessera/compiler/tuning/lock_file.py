"""A file that says which configurations to compile, so that every machine takes the same."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from tessera.compiler.tuning.record import Kind, Pick, Value
from tessera.compiler.tuning.record_file import sole_writer
from tessera.package.atomic import write_json
from tessera.program.errors import ConfigError

FORMAT = "tessera tuning lock"
VERSION = 1


class LockedPick(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What one kernel is compiled as for one architecture and sizes up to a bucket."""

    kernel: str
    kernel_hash: str
    target: str
    bucket: dict[str, int]
    configuration: dict[str, Value]
    kind: Kind
    """Where the choice came from."""

    @property
    def pick(self) -> Pick:
        """As the compiler takes it."""
        return Pick(self.configuration, self.bucket, self.kind)


class _File(msgspec.Struct, frozen=True):
    format: str
    version: int
    picks: list[LockedPick]


def read_lock(path: Path) -> list[LockedPick]:
    """The picks of a lock file, in its order.

    Raises:
        ConfigError: There is no such file, or it is something else.
    """
    hint = f"write it anew: tessera tune FILE:KERNEL --lock {path}"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        raise ConfigError(f"there is no lock file {path}", hint=hint, file=str(path)) from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read as a lock file: {error}", hint=hint, file=str(path)
        ) from None
    if (found.format, found.version) != (FORMAT, VERSION):
        raise ConfigError(
            f"{path} is {found.format!r} version {found.version}, not {FORMAT!r} version {VERSION}",
            hint=hint,
            file=str(path),
        )
    return found.picks


def write_lock(path: Path, picks: Iterable[LockedPick]) -> None:
    """Write picks; those that the file has for the same kernel and architecture give way.

    Raises:
        ConfigError: The file is there and is something else.
        WriteError: It cannot be written.
    """
    new = list(picks)
    taken = {(p.kernel, p.target) for p in new}
    with sole_writer(path):
        old = read_lock(path) if path.exists() else []
        kept = [p for p in old if (p.kernel, p.target) not in taken]
        ordered = sorted([*kept, *new], key=lambda p: (p.kernel, p.target))
        write_json(path, msgspec.to_builtins(_File(FORMAT, VERSION, ordered), order="sorted"), indent=1)
