"""Programs written by hand over native code from a C compiler: the runtime without Tessera's compiler."""

from __future__ import annotations

import numpy as np

from tessera.program.arch import host_cpu_targets
from tessera.program.dim import ceildiv, symbol
from tessera.program.dtype import bf16, f32, i32
from tessera.program.program import (
    Buffer,
    Constant,
    Extent,
    Gemm,
    Launch,
    Plan,
    Pointer,
    Port,
    Program,
    ScalarInput,
)

N, B = symbol("n"), symbol("batch")
HIDDEN, WIDTH = 24, 16
TARGETS = host_cpu_targets()
KERNELS = ("saxpy", "softmax", "bias_relu", "widen", "narrow")


def plan(*steps: Launch | Gemm, **fields: object) -> Plan:
    return Plan(targets=(TARGETS[0],), steps=steps, **fields)


def saxpy_program(name: str = "saxpy") -> Program:
    """`y = a * x + y`, in place."""
    shape = (N,)
    return Program(
        name=name,
        inputs=(
            Port(name="a", dtype=f32, kind="scalar"),
            Port(name="x", dtype=f32, shape=shape),
            Port(name="y", dtype=f32, shape=shape),
        ),
        outputs=(Port(name="y", dtype=f32, shape=shape, initial="y"),),
        plans=(
            plan(
                Launch(
                    kernel="saxpy",
                    grid=(ceildiv(N, 256), 1, 1),
                    args=(
                        ScalarInput(name="a", dtype=f32),
                        Pointer(space="input", name="x"),
                        Pointer(space="output", name="y"),
                        Extent(value=N),
                    ),
                )
            ),
        ),
    )


def softmax_program(name: str = "softmax") -> Program:
    """Row softmax of a (batch, n) matrix."""
    return Program(
        name=name,
        inputs=(Port(name="x", dtype=f32, shape=(B, N)),),
        outputs=(Port(name="output", dtype=f32, shape=(B, N)),),
        plans=(
            plan(
                Launch(
                    kernel="softmax",
                    grid=(B, 1, 1),
                    args=(
                        Pointer(space="input", name="x"),
                        Pointer(space="output", name="output"),
                        Extent(value=N),
                    ),
                )
            ),
        ),
    )


def mlp_program(name: str = "forward") -> Program:
    """bf16 in and out: `relu(x @ W + b)`, W widened once in setup, everything else in the arena."""
    narrow_bytes, wide_bytes = B * (WIDTH * 4), B * (HIDDEN * 4)
    setup = Launch(
        kernel="widen",
        grid=(WIDTH * HIDDEN, 1, 1),
        args=(Pointer(space="constant", name="W"), Pointer(space="persistent", name="W32")),
    )
    steps = (
        Launch(
            kernel="widen",
            grid=(B * WIDTH, 1, 1),
            args=(Pointer(space="input", name="x"), Pointer(space="buffer", name="x32")),
        ),
        Gemm(
            dtype=f32,
            m=B,
            n=HIDDEN,
            k=WIDTH,
            a=Pointer(space="buffer", name="x32"),
            b=Pointer(space="persistent", name="W32"),
            c=Pointer(space="buffer", name="h"),
        ),
        Launch(
            kernel="bias_relu",
            grid=(B, 1, 1),
            args=(
                Pointer(space="buffer", name="h"),
                Pointer(space="constant", name="b"),
                Pointer(space="buffer", name="h"),
                Extent(value=HIDDEN, dtype=i32),
            ),
        ),
        Launch(
            kernel="narrow",
            grid=(B * HIDDEN, 1, 1),
            args=(Pointer(space="buffer", name="h"), Pointer(space="output", name="output")),
        ),
    )
    return Program(
        name=name,
        inputs=(Port(name="x", dtype=bf16, shape=(B, WIDTH)),),
        outputs=(Port(name="output", dtype=bf16, shape=(B, HIDDEN)),),
        constants=(
            Constant(name="W", dtype=bf16, shape=(WIDTH, HIDDEN)),
            Constant(name="b", dtype=f32, shape=(HIDDEN,)),
        ),
        plans=(
            plan(
                *steps,
                buffers=(
                    Buffer(name="x32", offset_bytes=0, bytes=narrow_bytes),
                    Buffer(name="h", offset_bytes=narrow_bytes, bytes=wide_bytes),
                ),
                arena_bytes=narrow_bytes + wide_bytes,
                setup=(setup,),
                persistent=(Buffer(name="W32", offset_bytes=0, bytes=WIDTH * HIDDEN * 4),),
                persistent_bytes=WIDTH * HIDDEN * 4,
            ),
        ),
    )


def mlp_weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    weight = rng.normal(size=(WIDTH, HIDDEN)).astype(bf16.numpy)
    return {"W": weight, "b": rng.normal(size=HIDDEN).astype(np.float32)}
