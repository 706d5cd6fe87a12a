"""MultiModelServer: several models, in several versions, behind one port."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tessera.program.errors import ServeError
from tessera.serve.model import ModelSource
from tessera.serve.models.handle import ModelHandle
from tessera.serve.models.registry import Backend, ModelNotFoundError
from tessera.serve.models.repository import Repository
from tessera.serve.models.route import Route, RoutePlan, make_plan
from tessera.serve.models.shadow import Shadow
from tessera.serve.models.spec import ModelSpec, model_spec
from tessera.serve.models.split import Alias, TrafficSplit
from tessera.serve.models.traffic_file import read_traffic
from tessera.serve.server import ProductionServer
from tessera.serve.session import Session

if TYPE_CHECKING:
    from tessera.package.trust import Required


class MultiModelServer(ProductionServer):
    """Serves any number of models over HTTP, which may come and go while it runs.

    ```python
    server = MultiModelServer({"port": 8080})
    server.register_model(name="model_v1", package="model_v1.tsd", version="1.0.0", device="cuda:0")

    @server.endpoint("/predict/{model_name}")
    async def predict(model_name: str, request):
        model = server.get_model(model_name)
        return {"output": await model.infer(request.input)}

    server.run()
    ```

    Everything else is as in `ProductionServer`; `infer` goes to the default model.

    Args:
        config: Settings by key, or the path of a TOML or JSON file of them; see `ServerConfig`.

    Raises:
        ConfigError: A setting is unknown or wrong.
    """

    _has_one_model: ClassVar[bool] = False

    def __init__(self, config: Mapping[str, Any] | str | os.PathLike[str] | None = None) -> None:
        self._prepare(config)
        self._aliases: dict[str, Alias] = {}
        if self.config.traffic:
            for path, plan in read_traffic(Path(self.config.traffic)).items():
                self._add_route(path, plan, None)

    def register_model(
        self,
        name: str,
        package: ModelSource,
        version: str | None = None,
        device: str | None = None,
        *,
        reload: bool = False,
        require_signature: Required | None = None,
        **settings: Any,
    ) -> None:
        """Serve `package` under `name`.

        Before the server runs this notes it; while it runs, this returns when the model is loaded
        and answers. It then takes the place of what has the same name and version, without a request
        being refused: see `load_model`.

        Args:
            name: What clients call it.
            package: Path of a package; an `Artifact` or a loaded `Model` will do as well.
            version: The version that clients see; None: the package's.
            device: Where it runs; None: the server's setting.
            reload: Whether it is loaded again when its file is replaced.
            require_signature: Who must have signed it; None: the server's setting.
            settings: Its own in place of the server's: `max_batch_size`, `batch_timeout_ms`, `workers`,
                `max_queue`, `memory_pool_size`, `program`, `strategy`.

        Raises:
            ConfigError: A setting is unknown or wrong.
            PackageError: There is no such file.
            ServeError: There is a model of that name and version, and the server does not run yet.
            TesseraError: It cannot be loaded, while the server runs; what was there answers as before.
        """
        spec = self._spec(name, package, version, device, reload, require_signature, settings)
        if self._session is None:
            if any((other.name, other.version) == (spec.name, spec.version) for other in self._models):
                raise ServeError(
                    f"there are two models {name!r} of version {version!r}",
                    hint="give each a version of its own; only a running server replaces one",
                )
            self._models.append(spec)
            return
        self._calls.run_sync(lambda session: self._load(session, spec), instead="await server.load_model(…)")

    async def load_model(
        self,
        name: str,
        package: ModelSource,
        version: str | None = None,
        device: str | None = None,
        *,
        reload: bool = False,
        require_signature: Required | None = None,
        **settings: Any,
    ) -> ModelHandle:
        """As `register_model` while the server runs, for endpoints.

        The new model is loaded and warmed up beside the old one; the memory of both is held until
        the old one has finished what it accepted.
        """
        spec = self._spec(name, package, version, device, reload, require_signature, settings)
        await self._calls.run(lambda session: self._load(session, spec))
        return ModelHandle(self._calls, name, version)

    async def reload_model(self, name: str, version: str | None = None) -> None:
        """Load a model again from its package, in place of itself; all its versions, or one.

        Raises:
            ModelNotFoundError: There is no such model.
            TesseraError: It cannot be loaded; the old one answers as before.
        """
        await self._calls.run(lambda session: session.lifecycle.reload(name, version))

    def unregister_model(self, name: str, version: str | None = None) -> None:
        """Serve a model no more: all its versions, or one.

        While the server runs, new requests are answered 404 at once; this returns when those that
        were accepted are finished, and the model's memory is given back.

        Raises:
            ModelNotFoundError: There is no such model.
        """
        if self._session is None:
            self._forget(self._known(name, version))
            return
        self._calls.run_sync(
            lambda session: self._unload(session, name, version),
            instead="await server.unload_model(…)",
        )

    async def unload_model(self, name: str, version: str | None = None) -> None:
        """As `unregister_model` while the server runs, for endpoints."""
        await self._calls.run(lambda session: self._unload(session, name, version))

    unload = unregister_model

    def get_model(self, name: str, version: str | None = None) -> ModelHandle:
        """A model by name; in an endpoint, an unknown one is answered 404.

        Args:
            name: The model's.
            version: Which one; None: the latest by semantic version, at each call.

        Raises:
            ModelNotFoundError: There is none of that name and version; the hint lists what there is.
        """
        if self._session is None:
            if name not in self._aliases:
                self._known(name, version)
        else:
            self._session.registry.resolve(name, version)
        return ModelHandle(self._calls, name, version)

    def route(
        self,
        path: str,
        split: Mapping[str, float],
        *,
        key: str | None = None,
        choose: str | None = None,
        shadow: Shadow | Mapping[str, Any] | str | None = None,
        seed: int | None = None,
    ) -> Route:
        """Answer `path` as `/predict` is answered, by one of several models.

        ```python
        route = server.route("/predict", split={"scores@1.0.0": 0.9, "scores@2.0.0": 0.1}, key="user")
        route.set_split({"scores@1.0.0": 0.5, "scores@2.0.0": 0.5})  # at any time, from any thread
        ```

        A target that is not loaded is passed over. The answer's header `X-Tessera-Model` says who gave it.

        Args:
            path: Such as `/predict`; it may have parameters.
            split: Weights by target, `NAME` (its latest version) or `NAME@VERSION`.
            key: What keeps a caller with one target: `user`, a field of the body, or `header:X-User`,
                `query:user`, `path:user`. None, or not in the request: each request is drawn.
            choose: Where, in the same way, a request may name its target. It wins over `key`.
            shadow: A target that gets copies, whose answers are compared and dropped; see `Shadow`.
            seed: Of the draws; None: a random one.

        Raises:
            ConfigError: A target, weight or place makes no sense.
            ServeError: There is an endpoint at the path, or the server runs already.
        """
        if self._session is not None:
            raise ServeError(
                f"route {path!r} is added to a running server", hint="add it before run() or start()"
            )
        return self._add_route(path, make_plan(path, split, key=key, choose=choose, shadow=shadow), seed)

    def alias(self, name: str, split: Mapping[str, float], *, seed: int | None = None) -> Alias:
        """Let `name` stand for one of several models, drawn at each request, in every protocol.

        Clients of the Open Inference Protocol ask for `name` as for any model; the answer's
        `model_name` and `model_version` say who gave it. `alias.set_split` changes the shares at any time.

        Args:
            name: What clients ask for. A model of that name goes before it.
            split: Weights by target, `NAME` (its latest version) or `NAME@VERSION`.
            seed: Of the draws; None: a random one.

        Raises:
            ConfigError: A target or a weight makes no sense.
        """
        alias = Alias(name, TrafficSplit(dict(split), salt=name), seed)
        self._aliases[name] = alias
        if self._session is not None:
            self._session.registry.set_alias(name, alias.targets)
        return alias

    def _own_session(self) -> Session:
        session = super()._own_session()
        for alias in self._aliases.values():
            session.registry.set_alias(alias.name, alias.targets)
        return session

    def _add_route(self, path: str, plan: RoutePlan, seed: int | None) -> Route:
        route = Route(path, plan, lambda: self._calls.session.registry, seed)
        # Checks the path as that of any other endpoint.
        self.endpoint(path, methods=["POST"])(route.answer)
        self._routes.append(route)
        return route

    def check(self) -> list[str]:
        """As in `ProductionServer`; packages of the repository that could not be served are warnings."""
        warnings = super().check()
        if self.config.repository:
            folder = Repository(Path(self.config.repository), self.config)
            warnings += folder.check()
        return warnings

    def _spec(
        self,
        name: str,
        package: ModelSource,
        version: str | None,
        device: str | None,
        reload: bool,
        require_signature: Required | None,
        settings: Mapping[str, Any],
    ) -> ModelSpec:
        own = dict(settings) if device is None else {**settings, "device": device}
        return model_spec(
            package,
            self.config,
            name=name,
            version=version,
            require_signature=require_signature,
            reload=reload,
            settings=own,
        )

    async def _load(self, session: Session, spec: ModelSpec) -> Backend:
        backend = await session.lifecycle.load(spec)
        self._forget(
            [other for other in self._models if (other.name, other.version) == (spec.name, spec.version)]
        )
        self._models.append(spec)
        return backend

    async def _unload(self, session: Session, name: str, version: str | None) -> None:
        entries = await session.lifecycle.unload(name, version, wait=True)
        self._forget([entry.spec for entry in entries if entry.spec])

    def _known(self, name: str, version: str | None) -> list[ModelSpec]:
        found = [s for s in self._models if s.name == name and version in (None, s.version)]
        if not found:
            there = ", ".join(map(str, self._models)) or "none is registered"
            raise ModelNotFoundError(
                f"there is no model {name[:80]!r}" + (f" of version {version[:80]!r}" if version else ""),
                f"there is: {there}",
            )
        return found

    def _forget(self, specs: list[ModelSpec]) -> None:
        self._models = [spec for spec in self._models if spec not in specs]
