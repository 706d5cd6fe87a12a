"""What a model did so far, in the form of Triton's statistics.

Source: Triton Inference Server, docs/protocol/extension_statistics.md.
"""

from __future__ import annotations

from typing import Any

from tessera.serve.models.registry import Backend
from tessera.serve.observe.model_metrics import Figures


def statistics(backend: Backend, figures: Figures) -> dict[str, Any]:
    """The statistics of `backend`; durations are in nanoseconds, of all requests together.

    Args:
        backend: What answers.
        figures: Its counts.
    """
    requests, failed = figures.requests, sum(figures.failures.values())
    waited = figures.queue_seconds.count
    return {
        "name": backend.name,
        "version": backend.version,
        "last_inference": round(figures.last_s * 1e3),
        "inference_count": figures.rows,
        "execution_count": figures.batch_seconds.count,
        "inference_stats": {
            "success": _duration(requests, figures.request_s),
            "fail": _duration(failed, 0.0),
            "queue": _duration(waited, figures.queue_s),
            "compute_input": _duration(requests, figures.input_s),
            "compute_infer": _duration(requests, figures.infer_s),
            "compute_output": _duration(requests, figures.output_s),
            "cache_hit": _duration(0, 0.0),
            "cache_miss": _duration(0, 0.0),
        },
        "batch_stats": [],
        "memory_usage": _memory(backend),
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}


def _memory(backend: Backend) -> list[dict[str, Any]]:
    usage = backend.memory_usage()
    device = str(usage.get("device"))
    used = usage.get("in_use_bytes")
    if not isinstance(used, int):
        return []
    kind = "GPU" if device.startswith("cuda") else "CPU"
    return [
        {"type": kind, "id": int(device.partition(":")[2] or 0) if kind == "GPU" else 0, "byte_size": used}
    ]
