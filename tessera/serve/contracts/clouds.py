"""What each cloud expects of a container, from its variables and its documentation.

Sources: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html,
https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements,
https://learn.microsoft.com/azure/machine-learning/how-to-deploy-custom-container.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessera.program.errors import ConfigError

Environment = Mapping[str, str]

SAGEMAKER_FOLDER = Path("/opt/ml/model")
"""Where SageMaker unpacks a model's archive."""

_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*\Z")


@dataclass(frozen=True, slots=True)
class Contract:
    """What one cloud expects."""

    name: str
    """Value of the setting `contract`."""
    settings: Mapping[str, Any]
    """Settings of the server by key; those of the environment and of a call go before them."""
    probes: tuple[str, ...]
    """Paths that answer 200 when the model is ready, 503 before; they need no key."""
    live: tuple[str, ...]
    """Paths that answer 200 while the process does."""
    scores: tuple[str, ...]
    """Paths that infer."""
    client_scores: tuple[str, ...]
    """Paths that infer, and whose errors are written as Google's are: `{"error": {"code", "message"}}`."""
    model: str | None
    """Where the cloud put the model: a folder or a URI; None: it did not say."""

    @property
    def free_paths(self) -> tuple[str, ...]:
        """Paths that need no key."""
        return (*self.probes, *self.live)


def contract_of(name: str, environment: Environment) -> Contract:
    """The contract of that name, as `environment` fills it in.

    Raises:
        ConfigError: There is no such contract, or a variable of the cloud's is wrong.
    """
    make = _CONTRACTS.get(name)
    if make is None:
        raise ConfigError(
            f"there is no contract {name!r}", hint=f"there is: {', '.join(_CONTRACTS)}", key="contract"
        )
    return make(environment)


def detect_contract(environment: Environment) -> str | None:
    """The contract of the cloud that this process runs in, as far as its traces tell."""
    if "AIP_HTTP_PORT" in environment:
        return "vertex"
    if "AZUREML_MODEL_DIR" in environment:
        return "azure"
    return "sagemaker" if SAGEMAKER_FOLDER.is_dir() else None


def _sagemaker(environment: Environment) -> Contract:
    return Contract(
        name="sagemaker",
        settings=_settings(environment, "SAGEMAKER_BIND_TO_PORT", 8080),
        probes=("/ping",),
        live=(),
        # The second one is where boto3 looks when its endpoint_url is this server.
        scores=("/invocations", "/endpoints/{endpoint}/invocations"),
        client_scores=(),
        model=str(SAGEMAKER_FOLDER) if SAGEMAKER_FOLDER.is_dir() else None,
    )


def _vertex(environment: Environment) -> Contract:
    predict = _path(environment, "AIP_PREDICT_ROUTE", "/predict")
    return Contract(
        name="vertex",
        settings=_settings(environment, "AIP_HTTP_PORT", 8080),
        probes=(_path(environment, "AIP_HEALTH_ROUTE", "/health"),),
        live=(),
        scores=(predict,),
        # Where Google's client looks when its api_endpoint is this server.
        client_scores=("/v1/{endpoint:path}:predict",),
        model=environment.get("AIP_STORAGE_URI") or None,
    )


def _azure(environment: Environment) -> Contract:
    return Contract(
        name="azure",
        settings=_settings(environment, None, 5001),
        probes=("/ready",),
        live=("/",),
        scores=("/score",),
        client_scores=(),
        model=environment.get("AZUREML_MODEL_DIR") or None,
    )


_CONTRACTS: dict[str, Callable[[Environment], Contract]] = {
    "sagemaker": _sagemaker,
    "vertex": _vertex,
    "azure": _azure,
}

NAMES = tuple(_CONTRACTS)
"""What the setting `contract` may be."""


def _settings(environment: Environment, variable: str | None, port: int) -> dict[str, Any]:
    # A container's network is the platform's to guard: it decides who reaches the port.
    text = environment.get(variable, "") if variable else ""
    if not text:
        return {"host": "0.0.0.0", "port": port}  # noqa: S104
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 16:
        raise ConfigError(
            f"the environment variable {variable} is {text!r}; it must be a port", hint=f"unset {variable}"
        )
    return {"host": "0.0.0.0", "port": int(text)}  # noqa: S104


def _path(environment: Environment, variable: str, default: str) -> str:
    path = environment.get(variable) or default
    if not _PATH.match(path):
        raise ConfigError(
            f"the environment variable {variable} is {path!r}; it must be a path such as {default}",
            hint=f"unset {variable}",
        )
    return path
