"""Where a server was made, so that another process can make it again.

Endpoints are functions, and functions do not travel. So a child imports the program's modules
again, the main one by the name `__mp_main__`, as `multiprocessing` does, and takes the server that
it finds there. A package with none but the default endpoints needs no import: its path is enough.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from tessera.program.errors import ServeError
from tessera.serve.model import Opener, opener

if TYPE_CHECKING:
    from tessera.serve.config import ServerConfig
    from tessera.serve.endpoints import Endpoint
    from tessera.serve.models.spec import ModelSpec
    from tessera.serve.server import ProductionServer

MAIN, MAIN_AGAIN = "__main__", "__mp_main__"


class Origin(msgspec.Struct, frozen=True):
    """How to make a server again."""

    sys_path: list[str]
    arguments: list[str]
    """`sys.argv`."""
    package: str | None
    """The package's path; None: the model is an object of the program."""
    required: str | bool | dict[str, Any]
    """Who must have signed the package: a path, a flag, or the fields of a `TrustPolicy`."""
    main_file: str | None
    """The main module's file."""
    main_name: str | None
    """The main module's name, if it was run by `python -m`."""
    modules: list[str]
    """Modules that have endpoints."""
    endpoints: list[str]
    """What the server answers beside the defaults: path, module and function of each."""
    number: int
    """How many servers the program had made before this one."""


class _ServedAgain(BaseException):
    """`run()` or `start()` was reached while a program was imported again."""


class _Making:
    """Servers that this process makes."""

    def __init__(self) -> None:
        self.numbers = itertools.count()
        self.is_again = False
        """Whether this process imports a program only to have its server."""
        self.made: list[ProductionServer] = []
        """What was made since then."""


_making = _Making()


def made(server: ProductionServer) -> int:
    """Take note of a new server; its number."""
    if _making.is_again:
        _making.made.append(server)
    return next(_making.numbers)


def module_of(handler: Any) -> str:
    """The module that has `handler`, by the name that it has when it is first run."""
    module = str(getattr(handler, "__module__", MAIN))
    return MAIN if module == MAIN_AGAIN else module


def refuse_again() -> None:
    """End the import of a program that would serve, in a process that only wants its server."""
    if _making.is_again:
        raise _ServedAgain


def origin_of(number: int, spec: ModelSpec, handlers: list[tuple[str, str, str]]) -> Origin:
    """How to make this process's server `number` again.

    Args:
        number: From `made`.
        spec: Its model.
        handlers: Path, module and qualified name of each endpoint.

    Raises:
        ServeError: The program was typed in, so that there is nothing to import.
    """
    package = None if spec.path is None else str(spec.path.absolute())
    main = sys.modules.get(MAIN)
    found_by = getattr(main, "__spec__", None)
    name = None if found_by is None else str(found_by.name)
    file = getattr(main, "__file__", None)
    path = Path(file).absolute() if isinstance(file, str) else None
    found = path is not None and path.exists()
    modules = list(dict.fromkeys(module for _, module, _ in handlers))
    if not found and name is None and (MAIN in modules or package is None):
        what = f"the endpoint {handlers[0][0]!r}" if handlers else "the model"
        raise ServeError(
            f"{what} was typed in, and processes of their own cannot import it",
            hint="write the server to a file, or serve with processes = 1",
        )
    return Origin(
        sys_path=[entry or str(Path.cwd()) for entry in sys.path],
        arguments=list(sys.argv),
        package=package,
        required=_travelling(spec.required),
        main_file=str(path) if found else None,
        main_name=name,
        modules=modules,
        endpoints=[" ".join(handler) for handler in handlers],
        number=number,
    )


def endpoints_again(origin: Origin) -> tuple[ProductionServer | None, Sequence[Endpoint]]:
    """The server that `origin` describes and its endpoints; no server if it has none of its own.

    Raises:
        ServeError: The program makes no such server when it is imported.
    """
    if not origin.endpoints:
        return None, ()
    server = _server_again(origin)
    return server, server.remake()[1]


def opener_again(origin: Origin, config: ServerConfig) -> Opener:
    """What opens the model of the server that `origin` describes.

    Raises:
        ServeError: The program makes no such server when it is imported.
    """
    if origin.package is None:
        return _server_again(origin).remake()[0][0].open
    return opener(
        origin.package,
        device=config.device,
        program=config.program,
        memory_pool_size=config.memory_pool_size,
        require_signature=_required(origin.required),
    )


def _server_again(origin: Origin) -> ProductionServer:
    _making.is_again = True
    try:
        _import(origin)
    except _ServedAgain:
        pass
    finally:
        _making.is_again = False
    return _chosen(origin, _making.made)


def _chosen(origin: Origin, servers: list[ProductionServer]) -> ProductionServer:
    fitting = [
        s for s in servers if [" ".join(entry) for entry in s.describe_endpoints()] == origin.endpoints
    ]
    exact = [s for s in fitting if s.number == origin.number]
    found = exact or (fitting if len(fitting) == 1 else [])
    if found:
        return found[0]
    where = origin.main_name or origin.main_file or ", ".join(origin.modules)
    wanted = ", ".join(entry.split()[0] for entry in origin.endpoints) or "no endpoints of its own"
    raise ServeError(
        f"{where} was imported again and made {len(servers)} servers, none of them with {wanted}",
        hint='make the server and its endpoints at the top of the file, not under if __name__ == "__main__"',
    )


def _import(origin: Origin) -> None:
    sys.argv[:] = origin.arguments
    code, name = _main_code(origin)
    if code is not None:
        main = ModuleType(MAIN_AGAIN)
        main.__file__ = origin.main_file
        main.__package__ = (name or "").rpartition(".")[0] or None
        sys.modules[MAIN] = sys.modules[MAIN_AGAIN] = main
        exec(code, main.__dict__)  # noqa: S102 - the user's own program, as they started it
    for module in origin.modules:
        if module not in (MAIN, MAIN_AGAIN):
            importlib.import_module(module)


def _main_code(origin: Origin) -> tuple[CodeType | None, str | None]:
    """The main module's code, and its name if it has one."""
    if origin.main_name is not None:
        spec = importlib.util.find_spec(origin.main_name)
        loader: Any = spec.loader if spec else None
        return (loader.get_code(origin.main_name) if loader else None), origin.main_name
    if origin.main_file is None:
        return None, None
    path = Path(origin.main_file)
    return compile(path.read_bytes(), str(path), "exec"), None


def _travelling(required: Any) -> str | bool | dict[str, Any]:
    if isinstance(required, bool):
        return required
    if isinstance(required, str | Path):
        return str(Path(required).absolute())
    values = {name: getattr(required, name) for name in required.__dataclass_fields__}
    return {
        name: [str(Path(v).absolute()) if isinstance(v, Path) else v for v in value]
        if isinstance(value, tuple)
        else value
        for name, value in values.items()
    }


def _required(sent: str | bool | dict[str, Any]) -> Any:
    if not isinstance(sent, dict):
        return sent
    from tessera.package.trust import TrustPolicy

    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in sent.items()
    }
    for name in ("keys", "roots"):
        values[name] = tuple(Path(path) for path in values[name])
    return TrustPolicy(**values)
