"""Answers that are kept end with the version of the model that gave them, and answer for no other."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from scaled_models import scale_of, scaled_package

from tessera.serve import MultiModelServer


async def test_kept_answers_end_with_the_version_and_answer_for_no_other_model(tmp_path: Path) -> None:
    server = MultiModelServer({"port": 0, "device": "reference", "cache_bytes": 1 << 20})
    path = scaled_package(tmp_path / "m.tsd", 2, "1.0.0")
    server.register_model("m", path)
    server.register_model("other", scaled_package(tmp_path / "other.tsd", 5, "1.0.0"))
    x = np.ones((1, 4), np.float32)
    await asyncio.to_thread(server.start)
    try:
        model, other = server.get_model("m"), server.get_model("other")
        for _ in range(2):
            assert scale_of(x, await model.infer(x)) == pytest.approx(2)
            assert scale_of(x, await other.infer(x)) == pytest.approx(5)
        # The same version: only its weights are new.
        scaled_package(path, 3, "1.0.0")
        await server.reload_model("m")
        for _ in range(2):
            assert scale_of(x, await model.infer(x)) == pytest.approx(3)
            assert scale_of(x, await other.infer(x)) == pytest.approx(5)
    finally:
        await asyncio.to_thread(server.stop)
