"""ProductionServer: a package behind HTTP."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast

from tessera.program.errors import ConfigError, ServeError
from tessera.serve.app import App
from tessera.serve.config import ServerConfig
from tessera.serve.contracts.clouds import contract_of
from tessera.serve.contracts.packages import package_in
from tessera.serve.defaults import DEFAULT_METHODS, memory_usage
from tessera.serve.endpoints import Endpoint, Handler, make_endpoint
from tessera.serve.http import listen, loop_factory
from tessera.serve.loop_calls import LoopCalls
from tessera.serve.model import ModelSource
from tessera.serve.models.registry import ModelStatus
from tessera.serve.models.route import Route
from tessera.serve.models.spec import ModelSpec, model_spec
from tessera.serve.observe.observation import set_up_logging, tracing_of
from tessera.serve.processes import origin
from tessera.serve.security.access import make_gate
from tessera.serve.security.admin import listen_for_operators
from tessera.serve.security.exposure import check_package, warnings_of
from tessera.serve.security.tls import certificates_of
from tessera.serve.service import Phase, Result
from tessera.serve.session import Session

if TYPE_CHECKING:
    from tessera.package.trust import Required
    from tessera.serve.processes.supervisor import Supervisor

logger = logging.getLogger("tessera.serve")

F = TypeVar("F", bound=Handler)


class ProductionServer:
    """Serves one program of a package over HTTP.

    ```python
    server = ProductionServer(model_package="model.tsd", config={"port": 8080})

    @server.endpoint("/predict")
    async def predict(request):
        return {"output": await server.infer(request.json["input"])}

    server.run()
    ```

    Args:
        model_package: Path of a package; None: the environment variable `MODEL_PACKAGE`, or
            the only one where the cloud of the setting `contract` put the model. An
            `Artifact` or a loaded `Model` will do as well.
        config: Settings by key, or the path of a TOML or JSON file of them; see `ServerConfig`.
        require_signature: Who must have signed the package, as `DeploymentPackage.load` takes it;
            None: what the setting of that name says.

    Raises:
        ConfigError: A setting is unknown or wrong, or there is no package to serve.
        PackageError: There is no such file.
    """

    _has_one_model: ClassVar[bool] = True
    """Whether its model may run in a process of its own."""

    def __init__(
        self,
        model_package: ModelSource | None = None,
        config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
        *,
        require_signature: Required | None = None,
    ) -> None:
        self._prepare(config)
        for key in ("repository", "traffic"):
            if getattr(self.config, key) is not None:
                raise ConfigError(
                    f"the setting {key!r} is for servers of several models",
                    hint="MultiModelServer(config), or tessera serve with several packages",
                    key=key,
                )
        if model_package is None:
            model_package = os.environ.get("MODEL_PACKAGE") or _clouds_package(self.config.contract)
        if model_package is None:
            raise ConfigError(
                "no package to serve",
                hint='ProductionServer("model.tsd"), or set MODEL_PACKAGE',
                key="package",
            )
        self._models.append(model_spec(model_package, self.config, require_signature=require_signature))

    def _prepare(self, config: Mapping[str, Any] | str | os.PathLike[str] | None) -> None:
        """What every kind of server has, whatever its models are."""
        self.config = ServerConfig.load(config)
        """The settings, checked."""
        self.number = origin.made(self)
        """How many servers this program had made before."""
        self._models: list[ModelSpec] = []
        self._endpoints: list[Endpoint] = []
        self._routes: list[Route] = []
        self._handlers: list[Handler] = []
        self._session: Session | Supervisor | None = None
        self._calls = LoopCalls(self._running)
        self._thread: threading.Thread | None = None
        if self.config.enable_tracing:
            tracing_of(self.config).check()

    def endpoint(
        self, path: str, methods: Sequence[str] | None = None, *, admin: bool = False
    ) -> Callable[[F], F]:
        """Make the decorated function answer `path`, also in place of a default.

        The function is `async def`, or a plain one that runs in a thread. It may take the
        request, and parameters of the path by name (`/predict/{name}`). What it returns is
        written as JSON, arrays included; a Starlette response is sent as it is.

        Args:
            path: Such as `/predict`.
            methods: Such as `["POST"]`. None: those of the default at this path; otherwise
                GET, and POST too if the function takes the request.
            admin: Whether it is for operators: answered on `admin_port` alone.

        Raises:
            ServeError: The path or the function cannot be used, or the server runs already.
        """

        def register(handler: F) -> F:
            if self._session is not None:
                raise ServeError(
                    f"endpoint {path!r} is added to a running server", hint="decorate before run() or start()"
                )
            chosen = DEFAULT_METHODS.get(path) if methods is None else methods
            made = make_endpoint(path, handler, chosen, admin=admin)
            if any(made.path == other.path for other in self._endpoints):
                raise ServeError(
                    f"there are two endpoints for {path!r}", hint="give one of them another path"
                )
            self._endpoints.append(made)
            self._handlers.append(handler)
            return handler

        return register

    async def infer(self, input_data: Any, *, timeout_s: float | None = None) -> Result:
        """The output of the program for `input_data`, batched with other requests.

        Args:
            input_data: The value of the only input, or a mapping by name: nested lists,
                arrays, numbers.
            timeout_s: Longest to wait.

        Returns:
            An array; with several outputs a dict of arrays by name.

        Raises:
            InputError: Not what the program takes; the message names the input.
            OverloadedError: Too many requests wait, or the server is starting or stopping.
            TimeoutError: `timeout_s` is over.
        """
        return await self._calls.run(lambda session: session.registry.infer(input_data, timeout_s=timeout_s))

    def infer_sync(self, input_data: Any, *, timeout_s: float | None = None) -> Result:
        """As `infer`, for endpoints that are plain functions and for other threads."""
        return self._calls.run_sync(
            lambda session: session.registry.infer(input_data, timeout_s=timeout_s),
            instead="await server.infer(…)",
        )

    def get_memory_usage(self) -> dict[str, Any]:
        """The device's name and its memory in bytes by purpose; the name is None before it is loaded."""
        return memory_usage(self._session.registry) if self._session else {"device": None}

    @property
    def url(self) -> str:
        """Where a client on this machine reaches the server.

        Raises:
            ServeError: It does not run.
        """
        return self._running().url

    @property
    def admin_url(self) -> str | None:
        """Where operators on this machine reach it; None: nowhere.

        Raises:
            ServeError: It does not run.
        """
        return self._running().admin_url

    @property
    def grpc_address(self) -> str | None:
        """Where a client on this machine reaches gRPC, as `HOST:PORT`; None without `grpc_port`.

        Raises:
            ServeError: The server does not run.
        """
        return self._running().grpc_address

    def list_models(self) -> list[ModelStatus]:
        """Every version of every model, and its state; empty while the server does not run."""
        return self._session.registry.listing() if self._session else []

    @property
    def phase(self) -> Phase:
        """Where the server is in its life."""
        return self._session.registry.phase if self._session else Phase.STOPPED

    def check(self) -> list[str]:
        """See that the server could start, without opening a port or a device: settings, keys,
        certificates, and every byte of the packages.

        Returns:
            Warnings of what is missing on a server that others reach.

        Raises:
            TesseraError: What `run` would raise for these.
        """
        make_gate(self.config)
        certificates_of(self.config)
        self._check_models(thoroughly=True)
        return warnings_of(self.config)

    def _check_models(self, *, thoroughly: bool = False) -> None:
        for spec in self._models:
            if not spec.in_repository:
                program = spec.config.program if thoroughly else None
                check_package(spec.source, spec.required, program=program, thoroughly=thoroughly)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, finish what was accepted, return.

        A second signal does not wait for requests any more.

        Raises:
            ServeError: The port is taken, or requests were not finished in time.
            TesseraError: The package cannot be loaded.
        """
        origin.refuse_again()
        set_up_logging(self.config)
        session = self._new_session(log_to_stderr=True)
        self._serve(session, on_signals=threading.current_thread() is threading.main_thread())

    def start(self, *, wait: bool = True, timeout_s: float = 120.0) -> None:
        """Serve from a thread of its own, until `stop`.

        Args:
            wait: Return when the model is ready, rather than when the port is open.
            timeout_s: Longest to wait.

        Raises:
            ServeError: The port is taken, or it took too long.
            TesseraError: The package cannot be loaded.
        """
        origin.refuse_again()
        if self._thread is not None:
            raise ServeError("the server runs already", hint="server.stop()")
        session = self._new_session(log_to_stderr=logging.getLogger().hasHandlers())
        thread = threading.Thread(
            target=self._serve_quietly, args=(session,), name="tessera-server", daemon=True
        )
        self._thread = thread
        thread.start()
        try:
            (session.ready if wait else session.listening).result(timeout_s)
        except TimeoutError as error:
            self.stop()
            raise ServeError(f"the server was not ready within {timeout_s:g} s") from error
        except BaseException:
            thread.join(timeout_s)
            self._thread = None
            raise

    def stop(self) -> None:
        """Stop the server that `start` started, after finishing what was accepted.

        Raises:
            ServeError: Requests were not finished within `drain_timeout_s`.
        """
        thread, session = self._thread, self._session
        if thread is None:
            return
        if session is not None:
            session.stop_from_thread()
        thread.join(2 * self.config.drain_timeout_s + 10)
        self._thread = None
        if session is not None and session.error is not None:
            raise session.error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def app(self) -> App:
        """The server as an ASGI application, for another server to run. It opens no port of its own."""
        session = self._own_session()
        return session.make_app(startup=lambda: self._adopt(session), shutdown=lambda: self._abandon(session))

    async def _adopt(self, session: Session) -> None:
        session.attach()
        self._session = session
        await session.start_models()

    async def _abandon(self, session: Session) -> None:
        await session.drain_and_close()
        self._session = None

    def remake(self) -> tuple[Sequence[ModelSpec], Sequence[Endpoint]]:
        """What another process of this server needs of it: its model, and its endpoints."""
        return tuple(self._models), tuple(self._endpoints)

    def describe_endpoints(self) -> list[tuple[str, str, str]]:
        """Path, module and function of each endpoint beside the defaults."""
        return [
            (made.path, origin.module_of(handler), getattr(handler, "__qualname__", repr(type(handler))))
            for made, handler in zip(self._endpoints, self._handlers, strict=True)
        ]

    def adopt(self, session: Session) -> None:
        """Be the server of `session`, which a process of its own runs."""
        self._session = session

    def _own_session(self) -> Session:
        return Session(self.config, self._models, self._endpoints, routes=self._routes)

    def _new_session(self, *, log_to_stderr: bool) -> Session | Supervisor:
        if self.config.processes == 1 and self.config.replicas == 1:
            return self._own_session()
        if not self._has_one_model or len(self._models) != 1 or self.config.repository is not None:
            raise ConfigError(
                "a server of several models runs in one process",
                hint="processes = 1 and replicas = 1; or a ProductionServer for each model",
                key="processes",
            )
        if self.config.processes > 1 and self.config.shared_memory is not False:
            raise ConfigError(
                "shared_memory wants one process that speaks HTTP: a region that is registered with one of "
                f"{self.config.processes} is not known to the others",
                hint="processes = 1; replicas may be as many as you like",
                key="shared_memory",
            )
        # 20 ms that a server of one process does not pay.
        from tessera.serve.processes.supervisor import Supervisor

        described = origin.origin_of(self.number, self._models[0], self.describe_endpoints())
        return Supervisor(self.config, described, log_to_stderr=log_to_stderr)

    def _running(self) -> Session:
        if self._session is None:
            raise ServeError("the server does not run", hint="call server.run() or server.start() first")
        # A supervisor has a loop, a registry and a URL as well, and callers here ask for no more.
        return cast(Session, self._session)

    def _serve_quietly(self, session: Session | Supervisor) -> None:
        try:
            self._serve(session, on_signals=False)
        except BaseException as error:  # noqa: BLE001 - start() or stop() raises it in the caller's thread
            session.fail(error)

    def _serve(self, session: Session | Supervisor, *, on_signals: bool) -> None:
        if self._session is not None:
            raise ServeError("the server runs already", hint="server.stop()")
        self._check_models()
        for warning in warnings_of(self.config):
            logger.warning("%s", warning)
        if isinstance(session, Session):
            serving = self._serve_alone(session, on_signals=on_signals)
        else:
            serving = session.serve(on_signals=on_signals)
        self._session = session
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(serving)
        finally:
            self._session = None

    def _serve_alone(self, session: Session, *, on_signals: bool) -> Coroutine[None, None, None]:
        listener = listen(self.config.host, self.config.port)
        try:
            admin_listener = listen_for_operators(self.config)
        except BaseException:
            listener.close()
            raise
        return session.serve(listener, admin_listener, on_signals=on_signals)


def _clouds_package(contract: str | None) -> Path | None:
    """The package where a cloud put the model; None if there is no cloud."""
    model = contract_of(contract, os.environ).model if contract else None
    return package_in(model) if model else None
