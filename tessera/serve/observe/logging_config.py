"""LoggingConfig: where logs go and what they look like."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tessera.program.errors import ConfigError
from tessera.serve.observe.log_file import LogFile, StandardError
from tessera.serve.observe.log_format import to_json, to_text
from tessera.serve.observe.log_queue import Line, QueuedHandler, Sink

FORMATS: dict[str, Line] = {"json": to_json, "text": to_text}


@dataclass(frozen=True, slots=True)
class LoggingConfig:
    """How a program logs.

    ```python
    LoggingConfig.setup(format="json", output_file="model.log", enable_rotation=True)
    logging.getLogger("tessera.deployment").info("started", extra={"device": "cuda:0"})
    ```

    Lines are written by a thread of their own: a slow or full disk never holds up whoever logs.
    Within a request of a `ProductionServer` each line has its `request_id`, and its `trace_id` and
    `span_id` if it is traced.
    """

    level: int | str = logging.INFO
    """The least level that is logged."""
    format: Literal["json", "text"] = "json"
    """One JSON object a line, or text for people."""
    output_file: str | os.PathLike[str] | None = None
    """Where to; None: standard error."""
    enable_rotation: bool = False
    """Whether a file is put aside when it is large or old."""
    max_bytes: int = 100_000_000
    """With rotation, the largest file; 0: any size."""
    backup_count: int = 10
    """With rotation, how many old files are kept."""
    rotate_every_s: float | None = None
    """With rotation, the period that a file covers, in UTC: 86400 for one a day; None: any time."""
    max_pending: int = 8192
    """Records that may wait to be written; more are dropped and counted."""
    logger: str = ""
    """Whose records; empty: everybody's."""

    @classmethod
    def setup(
        cls,
        level: int | str = logging.INFO,
        format: Literal["json", "text"] = "json",  # noqa: A002 - the guide's name
        output_file: str | os.PathLike[str] | None = None,
        enable_rotation: bool = False,
        max_bytes: int = 100_000_000,
        backup_count: int = 10,
        rotate_every_s: float | None = None,
        max_pending: int = 8192,
        logger: str = "",
    ) -> QueuedHandler:
        """Log as said from now on, in place of an earlier setup of the same logger; see the fields.

        Raises:
            ConfigError: A setting is wrong, or the file cannot be written.
        """
        made = cls(
            level,
            format,
            output_file,
            enable_rotation,
            max_bytes,
            backup_count,
            rotate_every_s,
            max_pending,
            logger,
        )
        return made.apply()

    def apply(self) -> QueuedHandler:
        """Log so from now on; the handler's `counts` say what became of the records.

        Raises:
            ConfigError: A setting is wrong, or the file cannot be written.
        """
        level = _level(self.level)
        if self.format not in FORMATS:
            raise ConfigError(f"the log's format is {self.format!r}", hint="one of: json, text", key="format")
        for key in ("max_bytes", "backup_count"):
            if getattr(self, key) < 0:
                raise ConfigError(f"{key} is {getattr(self, key)}; it must not be negative", key=key)
        if self.rotate_every_s is not None and self.rotate_every_s <= 0:
            raise ConfigError(f"rotate_every_s is {self.rotate_every_s:g}", hint="86400: a day", key="rotate")
        handler = QueuedHandler(self._sink(), FORMATS[self.format], max_pending=self.max_pending)
        target = logging.getLogger(self.logger or None)
        for earlier in list(target.handlers):
            if isinstance(earlier, QueuedHandler):
                target.removeHandler(earlier)
                earlier.close()
        target.addHandler(handler)
        target.setLevel(level)
        return handler

    def _sink(self) -> Sink:
        if self.output_file is None:
            return StandardError()
        path = Path(self.output_file)
        try:
            return LogFile(
                path,
                max_bytes=self.max_bytes if self.enable_rotation else 0,
                rotate_every_s=self.rotate_every_s if self.enable_rotation else None,
                backup_count=self.backup_count,
            )
        except OSError as error:
            raise ConfigError(
                f"cannot write the log {path}: {error.strerror}",
                hint=f"ls -ld {path.parent}; or another output_file",
                key="output_file",
            ) from error


def _level(level: int | str) -> int:
    known = logging.getLevelNamesMapping()
    found = known.get(level.upper()) if isinstance(level, str) else level
    if not isinstance(found, int) or isinstance(found, bool):
        raise ConfigError(
            f"the log's level is {level!r}", hint="DEBUG, INFO, WARNING, ERROR or CRITICAL", key="level"
        )
    return found
