"""What `run_all.py` tunes and profiles."""

import tessera as ts


@ts.jit
def product(a: ts.Tensor[ts.f16, 1024, 1024], b: ts.Tensor[ts.f16, 1024, 1024]) -> ts.Tensor:
    return ts.matmul(a, b)


@ts.jit
def scores(x: ts.Tensor[ts.bf16, "batch", 1024], w: ts.Tensor[ts.bf16, 1024, 1024]) -> ts.Tensor:
    return ts.softmax(ts.matmul(x, w), axis=-1)
