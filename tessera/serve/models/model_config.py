"""How a model is served, in the form of Triton's model configuration.

Source: Triton Inference Server, `model_config.proto` and docs/protocol/extension_model_configuration.md.
"""

from __future__ import annotations

from typing import Any

from tessera.program.datatypes import DATATYPES
from tessera.program.program import Port
from tessera.serve.config import ServerConfig
from tessera.serve.models.registry import Backend
from tessera.serve.rows import row_rule

_TYPES = {"BYTES": "TYPE_STRING"}
"""Names that are not simply those of the protocol after `TYPE_`."""


def model_config(backend: Backend, config: ServerConfig) -> dict[str, Any]:
    """The configuration of `backend`.

    Args:
        backend: What answers.
        config: The settings it is served with.

    Returns:
        JSON's values. For a model whose requests are stacked, sizes are those of one row, and
        `max_batch_size` is above 0.

    Raises:
        OverloadedError: It is still being loaded.
    """
    program = backend.model.program
    stacked = row_rule(program).symbol is not None
    device = backend.model.device
    gpu = device.startswith("cuda")
    found: dict[str, Any] = {
        "name": backend.name,
        "platform": "tessera",
        "backend": "tessera",
        "version_policy": {"specific": {"versions": [int(backend.version)]}}
        if backend.version.isdecimal()
        else {"latest": {"num_versions": 1}},
        "max_batch_size": config.max_batch_size if stacked else 0,
        "input": [_port(port, stacked=stacked) for port in program.inputs],
        "output": [_port(port, stacked=stacked) for port in program.outputs],
        "instance_group": [
            {
                "name": f"{backend.name}_0",
                "kind": "KIND_GPU" if gpu else "KIND_CPU",
                "count": config.workers,
                "gpus": [int(device.partition(":")[2] or 0)] if gpu else [],
            }
        ],
        "parameters": {
            "device": {"string_value": device},
            "version": {"string_value": backend.version},
        },
    }
    if stacked:
        found["dynamic_batching"] = {
            "max_queue_delay_microseconds": round(config.batch_timeout_ms * 1000),
            "default_queue_policy": {"max_queue_size": config.max_queue},
        }
    return found


def _port(port: Port, *, stacked: bool) -> dict[str, Any]:
    datatype = DATATYPES[port.dtype.name]
    sizes = [size if isinstance(size, int) else -1 for size in port.shape]
    return {
        "name": port.name,
        "data_type": _TYPES.get(datatype, f"TYPE_{datatype}"),
        # Triton has no scalars: they are tensors of one element.
        "dims": (sizes[1:] if stacked and port.kind == "tensor" else sizes) or [1],
    }
