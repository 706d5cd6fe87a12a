"""The whole way: a function compiled to native code, packaged, served by a process."""

import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from server_process import ServerProcess

import tessera as ts


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [ts.f32, ts.bf16])
def test_compiled_module_is_served_from_native_code(
    dtype: ts.DType, tmp_path: Path, start_process: Callable[..., ServerProcess], rng: np.random.Generator
) -> None:
    from tessera.compiler.aot import AOTCompiler

    weight = rng.standard_normal((8, 5)).astype(np.float32)

    @ts.jit
    def dense(x: ts.Tensor, w: ts.Tensor) -> ts.Tensor:
        return ts.relu(ts.matmul(x, w))

    specs = [ts.TensorSpec(("batch", 8), dtype), ts.TensorSpec((8, 5), dtype)]
    package = tmp_path / "dense.tsc"
    AOTCompiler(target_architectures=["cpu"]).compile(dense, specs).save(package)
    server = start_process(
        "from tessera.serve import ProductionServer\n"
        f"ProductionServer({str(package)!r}, {{'device': 'cpu', 'workers': 2}}).run()\n"
    )
    x = rng.standard_normal((3, 8)).astype(np.float32)
    with httpx.Client(base_url=server.url, timeout=30) as client:
        assert client.get("/health").json()["memory"]["device"] == "cpu"
        answer = client.post("/predict", json={"inputs": {"x": x.tolist(), "w": weight.tolist()}})
        output = np.array(answer.raise_for_status().json()["output"])
    rounded = [v.astype(dtype.numpy).astype(np.float64) for v in (x, weight)]
    # bf16 keeps 8 bits: one rounding of the result, of sums of 8 products.
    tolerance = 1e-5 if dtype is ts.f32 else 2**-7
    np.testing.assert_allclose(output, np.maximum(rounded[0] @ rounded[1], 0), rtol=tolerance, atol=tolerance)
    server.process.send_signal(signal.SIGTERM)
    assert server.finish()[0] == 0
