"""What a model is made of: a package, the name it is served under, and its own settings."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tessera.program.errors import ConfigError
from tessera.serve.config import ServerConfig
from tessera.serve.model import Model, ModelSource, Opener, Replicated, opener
from tessera.serve.security.files import State, state_of

if TYPE_CHECKING:
    from tessera.package.trust import Required

MODEL_SETTINGS = (
    "device",
    "workers",
    "max_batch_size",
    "batch_timeout_ms",
    "memory_pool_size",
    "program",
    "max_queue",
    "require_signature",
    "strategy",
)
"""Settings that each model may have of its own; the server's are its defaults."""

_NAME = re.compile(r"[^\s/@\x00-\x1f]{1,128}")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One version of a model, before it is loaded."""

    source: ModelSource
    """Its package."""
    open: Opener
    """Opens it; called again at each reload."""
    config: ServerConfig
    """The server's settings with the model's own."""
    required: Required = False
    """Who must have signed the package."""
    name: str | None = None
    """What clients call it; None: the program's name."""
    version: str | None = None
    """The version that clients see; None: the package's."""
    reload: bool = False
    """Whether it is loaded again when its file changes."""
    in_repository: bool = False
    """Whether it is of the repository's folder: the server starts without it if it cannot be loaded."""

    @property
    def path(self) -> Path | None:
        """Where the package lies; None: it is in memory."""
        return Path(self.source) if isinstance(self.source, str | os.PathLike) else None

    @property
    def reopens(self) -> bool:
        """Whether it can be opened a second time: a model that is loaded already cannot."""
        return self.path is not None or not isinstance(self.source, Model | Replicated)

    def __str__(self) -> str:
        named = f"{self.name or 'model'}" + (f" {self.version}" if self.version else "")
        return named if self.path is None else f"{named} ({self.path})"


def model_spec(
    source: ModelSource,
    base: ServerConfig,
    *,
    name: str | None = None,
    version: str | None = None,
    require_signature: Required | None = None,
    reload: bool = False,
    in_repository: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> ModelSpec:
    """The model of `source`, with what can be checked before it is loaded.

    Args:
        source: A package's path, an artifact, or a loaded model.
        base: The server's settings.
        name: What clients call it; None: the program's name.
        version: The version that clients see; None: the package's.
        require_signature: Who must have signed it; None: what the setting says.
        reload: Whether it is loaded again when its file changes.
        in_repository: Whether it is of the repository's folder.
        settings: Its own, of `MODEL_SETTINGS`.

    Raises:
        ConfigError: A setting is unknown, wrong, or not a model's; or the name cannot be used.
        PackageError: There is no such file.
    """
    for what, text in (("name", name), ("version", version)):
        if text is not None and not _NAME.fullmatch(text):
            raise ConfigError(
                f"a model's {what} is {text[:140]!r}; it must be 1 to 128 characters without blanks, / and @",
                hint='server.register_model(name="resnet", version="1.0.0", …)',
                key=what,
            )
    for key in settings or {}:
        if key not in MODEL_SETTINGS:
            raise ConfigError(
                f"{key!r} is no setting of a model", hint=f"there are: {', '.join(MODEL_SETTINGS)}", key=key
            )
    config = base.changed(settings or {})
    required = config.require_signature if require_signature is None else require_signature
    opens = opener(
        source,
        device=config.device,
        program=config.program,
        memory_pool_size=config.memory_pool_size,
        require_signature=required,
    )
    spec = ModelSpec(source, opens, config, required, name, version, reload, in_repository)
    if reload and spec.path is None:
        raise ConfigError(
            f"{spec} is in memory, no file of it can change", hint="register it by its path", key="reload"
        )
    return spec


def package_state(path: Path) -> State:
    """What changes when a package is replaced; of an unpacked one, when its manifest is."""
    return state_of(path / "manifest.json" if path.is_dir() else path)
