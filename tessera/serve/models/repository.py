"""A folder of packages as models.

Its layout is one of these, for each model:

    NAME.tsd                 also .tsp and .tsc; the version is the package's
    NAME/VERSION/ANY.tsd     the version is the folder's name, as in Triton's repositories

A package may be unpacked: a folder with a `manifest.json` stands for one. Names that begin with a dot
or an underscore, and all other files, are passed over.

Source: Triton Inference Server, docs/user_guide/model_repository.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tessera.program.errors import ConfigError, TesseraError
from tessera.serve.config import ServerConfig
from tessera.serve.models.spec import ModelSpec, model_spec
from tessera.serve.models.versions import VersionPolicy, version_key
from tessera.serve.request import RequestError
from tessera.serve.security.exposure import check_package

ENDINGS = (".tsd", ".tsp", ".tsc")


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder holds at one moment."""

    models: Mapping[str, Mapping[str | None, Path]] = field(default_factory=dict)
    """Packages by name and version; without a version of the folder's, None: the package's."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Why a model cannot be told, by name."""


class Repository:
    """A folder of packages.

    Args:
        folder: Where it is.
        config: The server's settings: the policy of versions, and what models have as settings.

    Raises:
        ConfigError: There is no such folder.
    """

    def __init__(self, folder: Path, config: ServerConfig) -> None:
        if not folder.is_dir():
            raise ConfigError(
                f"the model repository {str(folder)!r} is no folder",
                hint="it holds packages: NAME.tsd, or NAME/VERSION/model.tsd",
                key="repository",
            )
        self._folder = folder
        self._config = config
        self._policy = VersionPolicy.parse(config.version_policy)

    def scan(self) -> Found:
        """What the folder holds now. No package is opened.

        Raises:
            OSError: It cannot be read.
        """
        models: dict[str, dict[str | None, Path]] = {}
        problems: dict[str, str] = {}
        for path in sorted(self._folder.iterdir()):
            if path.name.startswith((".", "_")):
                continue
            name = path.stem if path.suffix in ENDINGS else path.name
            versions: dict[str | None, Path] = {None: path} if _is_package(path) else _versions(path)
            if not versions:
                continue
            if name in models:
                problems[name] = f"the repository has several: {path.name} and others of that name"
            models.setdefault(name, versions)
        for name in problems:
            del models[name]
        return Found(models, problems)

    def specs(self, found: Found, name: str) -> list[ModelSpec]:
        """The versions of `name` that are to be served, the latest first.

        Raises:
            RequestError: It is not in the folder (404), or has no version that the policy takes.
            ConfigError: The folder's name is none that a model can have.
        """
        if name in found.problems:
            raise RequestError(f"the model {name[:80]!r} cannot be loaded: {found.problems[name]}")
        versions = found.models.get(name)
        if versions is None:
            raise RequestError(
                f"the repository has no model {name[:80]!r}",
                hint="POST v2/repository/index lists what it has",
                status=404,
            )
        chosen = self._policy.choose([version for version in versions if version is not None])
        if not chosen and None not in versions:
            raise RequestError(
                f"the policy {self._config.version_policy!r} takes no version of the model {name[:80]!r}: "
                f"there is {', '.join(str(v) for v in versions)[:200]}"
            )
        served: list[str | None] = [*chosen] or [None]
        return [
            model_spec(versions[v], self._config, name=name, version=v, in_repository=True) for v in served
        ]

    def check(self) -> list[str]:
        """What could not be served of the folder, and why; every byte of the rest is read."""
        found = self.scan()
        wrong = [f"{name} cannot be served: {text}" for name, text in found.problems.items()]
        for name in found.models:
            try:
                for spec in self.specs(found, name):
                    check_package(spec.source, spec.required, program=spec.config.program, thoroughly=True)
            except TesseraError as error:
                wrong.append(f"{name} cannot be served: {error.message}")
        return wrong

    def reason(self, text: str) -> str:
        """`text` without the folder's path, which is nobody's business but this machine's."""
        return text.replace(f"{self._folder}/", "")


def _versions(folder: Path) -> dict[str | None, Path]:
    """The packages in a model's folder by version."""
    found: dict[str | None, Path] = {}
    if not folder.is_dir():
        return found
    for version in sorted(folder.iterdir(), key=lambda path: version_key(path.name), reverse=True):
        if not version.is_dir() or version.name.startswith((".", "_")):
            continue
        packages = [path for path in sorted(version.iterdir()) if path.name[0] != "." and _is_package(path)]
        if _is_package(version):
            packages = [version]
        if packages:
            found[version.name] = packages[0]
    return found


def _is_package(path: Path) -> bool:
    return (path / "manifest.json").is_file() if path.is_dir() else path.suffix in ENDINGS
