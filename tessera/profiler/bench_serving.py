"""Latency and throughput of a running server that speaks the Open Inference Protocol, version 2."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from tessera.profiler.bench_client import (
    Address,
    Answer,
    NoAnswerError,
    ask_once,
    message_of,
    parse_address,
    request_bytes,
)
from tessera.profiler.bench_load import Loaded, load
from tessera.profiler.bench_program import Budget
from tessera.profiler.bench_result import BatchResult, BenchResult
from tessera.profiler.check_machine import cpu_model
from tessera.profiler.sizes import choose_sizes, random_inputs
from tessera.program.datatypes import DATATYPES, DTYPE_OF
from tessera.program.dim import symbol
from tessera.program.dtype import as_dtype
from tessera.program.errors import InputError, OptionError, ServeError
from tessera.program.program import Port, Program

CONCURRENCIES = (1, 4, 16)
TIMEOUT_S = 10.0
CLIENT_LIMIT = 0.85
"""Share of the time that the client may work before it, and not the server, may be what is measured."""

T = TypeVar("T")


class _Tensor(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]


class _Metadata(msgspec.Struct):
    name: str
    inputs: list[_Tensor]
    versions: list[str] = []
    platform: str = ""


@dataclass(frozen=True, slots=True)
class _Model:
    """A model behind an address."""

    address: Address
    path: str
    """`/v2/models/linear`."""
    program: Program
    """Its inputs as ports; the first axis is the symbol `batch` where it is open."""
    about: str
    """Server and model, with their versions."""


def bench_server(
    url: str,
    *,
    model: str | None = None,
    batch_sizes: Sequence[int] | None = None,
    concurrency: Sequence[int] | None = None,
    seconds: float = 1.0,
    warmup_seconds: float = 0.2,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    timeout_s: float = TIMEOUT_S,
) -> BenchResult:
    """Measure a server: clients that each wait for an answer before they ask again.

    Every batch size is measured with every number of clients. A latency is that of one request, from the
    first byte sent to the last received, on connections that are kept. Tensors are sent as JSON.

    Args:
        url: `http://127.0.0.1:8080`, or with the model, `http://127.0.0.1:8080/v2/models/linear`.
        model: Name of the model; None: the one in the URL, or the only one.
        batch_sizes: Values of the open first axis; None: 1.
        concurrency: Numbers of clients; None: 1, 4, 16.
        seconds: Time to measure each for.
        warmup_seconds: Time of requests that do not count, for each.
        sizes: Values of further open axes, named by input and axis: `x_1`. Others are taken as 256.
        seed: Of the random inputs.
        timeout_s: Longest time to wait for an answer.

    Raises:
        ServeError: There is no server, it is not ready, does not speak the protocol, refuses the
            request, or stops answering.
        InputError: The model takes no such sizes, or inputs that are not numbers.
        OptionError: A time, batch size or number of clients that is not positive.
        MissingDependencyError: httptools is not installed.
    """
    budget = Budget(seconds, warmup_seconds)
    batches, clients = tuple(batch_sizes or (1,)), tuple(concurrency or CONCURRENCIES)
    if min(batches) < 1 or min(clients) < 1 or not timeout_s > 0:
        raise OptionError(
            f"batch sizes {list(batches)}, clients {list(clients)}, timeout {timeout_s} s: must be positive",
            hint="concurrency=(1, 16)",
        )
    bench = _Bench(parse_address(url), model, budget, dict(sizes or {}), seed, timeout_s)
    return _run(lambda: bench.run(batches, clients))


def _run(work: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine, also where a loop is running, as in a notebook."""
    if not _in_loop():
        return _run_here(work)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_run_here, work).result()


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run_here(work: Callable[[], Awaitable[T]]) -> T:
    async def main() -> T:
        return await work()

    try:
        # A faster loop leaves more of the machine to the server.
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = None
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main())


@dataclass(slots=True)
class _Bench:
    address: Address
    model: str | None
    budget: Budget
    sizes: dict[str, int]
    seed: int
    timeout_s: float

    async def run(self, batches: Sequence[int], clients: Sequence[int]) -> BenchResult:
        model = await self._find()
        notes = [f"Server: {model.about}."]
        rows = []
        for batch in self._batches(model.program, batches, notes):
            values, assumed = choose_sizes(model.program, batch=batch, given=self.sizes)
            if assumed:
                listed = ", ".join(f"{name} = {values[name]}" for name in assumed)
                notes.append(f"Assumed {listed}: no size was given.")
            request = _infer_request(model, values, self.seed)
            await self._try(request)
            for count in clients:
                loaded = await load(self.address, request, count, self.budget, self.timeout_s)
                rows.append(_row(batch, values, loaded))
                notes += _load_notes(loaded)
        return BenchResult(
            target=self.address.origin,
            program=model.program.name,
            device="server",
            hardware=f"{self.address.host}, asked from {cpu_model()}",
            batches=tuple(rows),
            notes=tuple(dict.fromkeys(notes)),
        )

    def _batches(self, program: Program, batches: Sequence[int], notes: list[str]) -> Sequence[int | None]:
        if any(port.shape and port.shape[0] == symbol("batch") for port in program.inputs):
            return batches
        if tuple(batches) != (1,):
            notes.append("The model's first axis is fixed: batch sizes do not apply.")
        return [None]

    async def _try(self, request: bytes) -> None:
        """Ask once: a request that the server refuses is not worth measuring."""
        _, _, body = request.partition(b"\r\n\r\n")
        path = request.split(b" ", 2)[1].decode()
        answer = await self._ask("POST", path, body)
        if answer.status != 200:
            raise ServeError(
                f"{self.address.origin} answers {answer.status} to a request of random numbers: "
                f"{message_of(answer.body)}",
                hint="--size gives sizes that are open, --batch the first one",
                status=answer.status,
            )

    async def _find(self) -> _Model:
        """The model, by its metadata."""
        name, prefix = self.model, ""
        head, found, rest = self.address.path.partition("/v2/models/")
        if found:
            name, prefix = name or rest.partition("/")[0], head
            version = rest.partition("/")[2]
        else:
            prefix, version = self.address.path.removesuffix("/v2"), ""
        ready = await self._ask("GET", f"{prefix}/v2/health/ready")
        if ready.status == 503:
            raise ServeError(
                f"{self.address.origin} is not ready: {message_of(ready.body)}", hint="try again in a moment"
            )
        if ready.status != 200:
            raise ServeError(
                f"{self.address.origin} does not speak the Open Inference Protocol: "
                f"GET {prefix}/v2/health/ready gives {ready.status}",
                hint="tessera serve PKG speaks it, as do Triton, KServe and MLServer",
            )
        path = f"{prefix}/v2/models/{name or await self._only_model(prefix)}"
        path += f"/{version}" if found and version.startswith("versions/") else ""
        metadata = await self._metadata(path)
        about = await self._about(prefix, metadata)
        return _Model(self.address, path, _program(metadata), about)

    async def _only_model(self, prefix: str) -> str:
        """The name of the only model: by the repository's index, or as `tessera serve` says it."""
        index = await self._ask("POST", f"{prefix}/v2/repository/index", b"{}")
        names: list[str] = []
        try:
            if index.status == 200:
                listed = msgspec.json.decode(index.body, type=list[dict[str, Any]])
                names = list(dict.fromkeys(str(entry["name"]) for entry in listed))
            else:
                ready = await self._ask("GET", f"{prefix}/ready")
                names = [str(msgspec.json.decode(ready.body, type=dict[str, Any])["model"])]
        except (msgspec.DecodeError, KeyError):
            names = []
        if len(names) != 1:
            raise ServeError(
                f"which model of {self.address.origin} to measure? "
                + (f"there are {', '.join(names)}" if names else "it does not say which it has"),
                hint=f"{self.address.origin}{prefix}/v2/models/{names[0] if names else 'NAME'}",
            )
        return names[0]

    async def _metadata(self, path: str) -> _Metadata:
        answer = await self._ask("GET", path)
        if answer.status != 200:
            raise ServeError(
                f"{self.address.origin}{path} answers {answer.status}: {message_of(answer.body)}",
                hint="the address ends in /v2/models/NAME of a model that is there",
                status=answer.status,
            )
        try:
            return msgspec.json.decode(answer.body, type=_Metadata)
        except msgspec.DecodeError as error:
            raise ServeError(
                f"{self.address.origin}{path} is no metadata of a model: {error}",
                hint="is it a server of the Open Inference Protocol, version 2?",
            ) from None

    async def _about(self, prefix: str, metadata: _Metadata) -> str:
        answer = await self._ask("GET", f"{prefix}/v2")
        try:
            server = msgspec.json.decode(answer.body, type=dict[str, Any]) if answer.status == 200 else {}
        except msgspec.DecodeError:
            server = {}
        named = f"{server.get('name', 'unnamed')} {server.get('version', '')}".strip()
        return f"{named}, model {metadata.name} {' '.join(metadata.versions[:1])}".strip()[:200]

    async def _ask(self, method: str, path: str, body: bytes = b"") -> Answer:
        try:
            return await ask_once(self.address, method, path, body, self.timeout_s)
        except NoAnswerError as error:
            raise ServeError(
                f"no answer from {self.address.origin}: {error}",
                hint=f"tessera serve PKG --port {self.address.port} starts a server",
            ) from None


def _program(metadata: _Metadata) -> Program:
    """The model's inputs as ports."""
    ports = []
    for tensor in metadata.inputs:
        name = DTYPE_OF.get(tensor.datatype)
        if name is None:
            raise InputError(
                f"input {tensor.name!r} of {metadata.name} is {tensor.datatype[:40]}, which is no number",
                hint="servers are measured with random numbers: " + ", ".join(DTYPE_OF),
            )
        word = "".join(c if c.isalnum() else "_" for c in tensor.name)
        shape = tuple(
            size if size >= 0 else symbol("batch" if axis == 0 else f"{word}_{axis}")
            for axis, size in enumerate(tensor.shape)
        )
        ports.append(Port(name=tensor.name, dtype=as_dtype(name), shape=shape))
    return Program(name=metadata.name, inputs=tuple(ports), outputs=())


def _infer_request(model: _Model, sizes: Mapping[str, int], seed: int) -> bytes:
    """A whole request with random inputs, tensors as flat lists of JSON."""
    arrays = random_inputs(model.program, sizes, seed=seed)
    inputs = [
        {
            "name": port.name,
            "shape": list(arrays[port.name].shape),
            "datatype": DATATYPES[port.dtype.name],
            "data": arrays[port.name].ravel().tolist(),
        }
        for port in model.program.inputs
    ]
    body = msgspec.json.encode({"inputs": inputs})
    return request_bytes(model.address, "POST", f"{model.path}/infer", body)


def _row(batch: int | None, sizes: dict[str, int], loaded: Loaded) -> BatchResult:
    return BatchResult(
        batch=batch,
        sizes=sizes,
        timing=loaded.timing,
        baseline=None,
        device_timing=None,
        per_second=(batch or 1) * loaded.load.per_second,
        bytes=None,
        flops=None,
        max_difference=None,
        load=loaded.load,
    )


def _load_notes(loaded: Loaded) -> list[str]:
    clients = loaded.load.concurrency
    notes = []
    if loaded.load.failures:
        listed = ", ".join(f"{what}: {count}" for what, count in sorted(loaded.load.failures.items()))
        notes.append(f"With {clients} clients some requests failed: {listed}.")
    if loaded.client_share > CLIENT_LIMIT:
        share = f"{100 * loaded.client_share:.0f} %"
        notes.append(
            f"With {clients} clients this client worked {share} of the time: the server may be faster."
        )
    return notes
