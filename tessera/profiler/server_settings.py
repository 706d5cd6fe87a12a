"""Settings that an optimizer chose, in the file that a server reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from tessera.package.atomic import write_json


class ServerSettings(ABC):
    """What has settings for `ProductionServer`."""

    __slots__ = ()

    @abstractmethod
    def to_settings(self) -> dict[str, str | int]:
        """By the names of `ProductionServer`'s settings."""

    def save(self, path: str | Path) -> Path:
        """Write the settings as JSON, which `ProductionServer(package, config=path)` reads.

        Raises:
            WriteError: The file cannot be written.
        """
        target = Path(path)
        write_json(target, self.to_settings())
        return target
