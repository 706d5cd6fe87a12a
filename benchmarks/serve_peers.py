"""The servers that `benchmarks/serve.py` compares, each as the files and the command that start it.

All of them serve the same two networks with the same weights, in NumPy unless they bring their own way.
"""

from __future__ import annotations

from dataclasses import dataclass, field

WEIGHTS = """
import numpy as np
loaded = np.load("MODEL.npz")
layers = [(loaded[f"w{i}"].T.copy(), loaded[f"b{i}"]) for i in range(len(loaded.files) // 2)]

def network(x):
    for i, (w, b) in enumerate(layers):
        x = x @ w + b
        if i + 1 < len(layers):
            x = np.maximum(x, 0)
    return x
"""


@dataclass(frozen=True, slots=True)
class Server:
    """One server under test."""

    name: str
    command: tuple[str, ...]
    """`PYTHON`, `PORT`, `MODEL` and `SINK` are replaced."""
    files: dict[str, str]
    """By name; the same words are replaced."""
    path: str
    """Where it takes requests."""
    body: str
    """What it takes: `input`, `v2`, `binary`, `bento`, or `` for none."""
    ready: str
    """A path that answers 200 when it is ready."""
    venv: str = ""
    """The folder of its own environment; empty: that of the benchmark."""
    packages: tuple[str, ...] = ()
    """What that environment has."""
    environment: dict[str, str] = field(default_factory=dict)


_TESSERA = """
from tessera.serve import ProductionServer

ProductionServer("MODEL.tsd", {
    "port": PORT, "device": "cpu", "max_batch_size": 64, "log_level": "WARNING", "enable_metrics": True,
    "enable_tracing": True, "tracing_sampling": 0.01, "tracing_endpoint": "SINK",
}).run()
"""

_HELLO = """
import uvicorn

HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"5")]

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"hello"})

uvicorn.run(app, port=PORT, log_level="warning", access_log=False, lifespan="off")
"""

_STARLETTE = (
    WEIGHTS
    + """
import orjson, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

async def predict(request):
    x = np.asarray(orjson.loads(await request.body())["input"], np.float32)
    body = orjson.dumps({"output": network(x)}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, media_type="application/json")

async def ready(request):
    return Response(b"")

routes = [Route("/predict", predict, methods=["POST"]), Route("/ready", ready)]
uvicorn.run(Starlette(routes=routes), port=PORT, log_level="warning", access_log=False, lifespan="off")
"""
)

_LITSERVE = (
    WEIGHTS
    + """
import litserve as ls

class Api(ls.LitAPI):
    def setup(self, device):
        pass
    def decode_request(self, request):
        return np.asarray(request["input"], np.float32)
    def batch(self, inputs):
        return np.concatenate(inputs)
    def unbatch(self, output):
        return [output[i : i + 1] for i in range(len(output))]
    def predict(self, x):
        return network(x)
    def encode_response(self, output):
        return {"output": output.tolist()}

if __name__ == "__main__":
    server = ls.LitServer(Api(max_batch_size=BATCH, batch_timeout=0.002 if BATCH > 1 else 0.0),
                          accelerator="cpu", workers_per_device=1)
    server.run(port=PORT, log_level="error", generate_client_file=False, access_log=False)
"""
)

_BENTOML = (
    WEIGHTS
    + """
import bentoml

@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Network:
    @bentoml.api(**({"batchable": True, "max_batch_size": BATCH} if BATCH > 1 else {}))
    def predict(self, input: np.ndarray) -> np.ndarray:
        return network(input.astype(np.float32).reshape(-1, 64))
"""
)

_MLSERVER = (
    WEIGHTS
    + """
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

class Network(MLModel):
    async def load(self):
        return True
    async def predict(self, payload):
        x = NumpyCodec.decode_input(payload.inputs[0])
        y = network(x.astype(np.float32))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("output", y)])
"""
)

_MLSERVER_SETTINGS = """{"http_port": PORT, "grpc_port": 0, "metrics_port": 0, "metrics_endpoint": null,
 "parallel_workers": 0, "debug": false, "host": "127.0.0.1"}"""
_MLSERVER_MODEL = """{"name": "network", "implementation": "model.Network",
 "max_batch_size": BATCH, "max_batch_time": BATCH_TIME}"""

_RUN = ("PYTHON", "server.py")

SERVERS: tuple[Server, ...] = (
    Server("uvicorn hello", _RUN, {"server.py": _HELLO}, "/", "", "/"),
    Server(
        "Tessera, tensors as bytes",
        _RUN,
        {"server.py": _TESSERA},
        "/v2/models/NAME/infer",
        "binary",
        "/ready",
    ),
    Server("Tessera, OIP as JSON", _RUN, {"server.py": _TESSERA}, "/v2/models/NAME/infer", "v2", "/ready"),
    Server("Tessera, /predict", _RUN, {"server.py": _TESSERA}, "/predict", "input", "/ready"),
    Server("Starlette + NumPy", _RUN, {"server.py": _STARLETTE}, "/predict", "input", "/ready"),
    Server(
        "MLServer",
        ("BIN/mlserver", "start", "."),
        {"model.py": _MLSERVER, "settings.json": _MLSERVER_SETTINGS, "model-settings.json": _MLSERVER_MODEL},
        "/v2/models/network/infer",
        "v2",
        "/v2/health/ready",
        "mlserver",
        ("mlserver==1.7.1", "uvloop"),
    ),
    Server(
        "LitServe",
        _RUN,
        {"server.py": _LITSERVE},
        "/predict",
        "input",
        "/health",
        "litserve",
        ("litserve==0.2.19", "numpy"),
    ),
    Server(
        "BentoML",
        ("BIN/bentoml", "serve", "service:Network", "--port", "PORT", "--host", "127.0.0.1"),
        {"service.py": _BENTOML},
        "/predict",
        "input",
        "/readyz",
        "bentoml",
        ("bentoml==1.4.39", "numpy"),
    ),
)
