"""A Program that uses every part of the schema once."""

from __future__ import annotations

from tessera.program.dim import align, ceildiv, symbol
from tessera.program.dtype import bf16, f32, i32, i64
from tessera.program.graph import Graph, Node
from tessera.program.program import (
    BoxMap,
    Buffer,
    Choice,
    Compare,
    Constant,
    Extent,
    Gemm,
    Immediate,
    Launch,
    Option,
    Plan,
    Pointer,
    Port,
    Program,
    ScalarInput,
)

N, K = symbol("n"), symbol("k")


def whole_program() -> Program:
    """Inputs, scalars, weights, a graph, a GPU plan with variants and a CPU plan with setup."""
    x = Pointer(space="input", name="x")
    out = Pointer(space="output", name="out")
    temporary = Pointer(space="buffer", name="t", offset_bytes=N * 4)
    small = Launch(
        kernel="relu_small",
        grid=(ceildiv(N, 256), 1, 1),
        block=(256, 1, 1),
        shared_bytes=K * 4,
        cluster=(2, 1, 1),
        persistent=True,
        args=(
            x,
            out,
            Pointer(space="constant", name="w"),
            Pointer(space="null"),
            Extent(value=N),
            Extent(value=N * K, dtype=i32),
            Immediate(value=1.5, dtype=f32),
            ScalarInput(name="k", dtype=i64),
            BoxMap(
                tensor=x,
                element="f32",
                sizes=(N, K),
                strides_bytes=(N * 4,),
                box=(32, 8),
                swizzle=128,
                l2_promotion=256,
            ),
        ),
    )
    wide = Launch(kernel="relu_wide", grid=(N, 1, 1), block=(32, 4, 1), args=(temporary, out))
    gpu = Plan(
        targets=("sm_80", "sm_90a"),
        steps=(
            wide,
            Choice(
                options=(
                    Option(
                        steps=(small,),
                        guard=(Compare(lhs=N, op="<=", rhs=64), Compare(lhs=8, op="divides", rhs=N)),
                    ),
                    Option(steps=(wide,)),
                )
            ),
        ),
        buffers=(Buffer(name="t", offset_bytes=0, bytes=align(N * 8, 256)),),
        arena_bytes=align(N * 8, 256),
    )
    cpu = Plan(
        targets=("cpu-x86_64-v3",),
        steps=(
            Gemm(
                dtype=f32,
                m=N,
                n=64,
                k=K,
                a=x,
                b=Pointer(space="persistent", name="wide_w"),
                c=out,
                transpose_b=True,
                batch=K,
                stride_a=N * K,
                stride_c=N * 64,
            ),
        ),
        setup=(
            Launch(
                kernel="widen",
                grid=(64, 1, 1),
                args=(Pointer(space="constant", name="w"), Pointer(space="persistent", name="wide_w")),
            ),
        ),
        persistent=(Buffer(name="wide_w", offset_bytes=0, bytes=64 * 4),),
        persistent_bytes=256,
    )
    graph = Graph(
        name="f",
        nodes=(
            Node(op="input", attrs={"name": "x"}, shape=(N,), dtype=f32, file="model.py", line=3),
            Node(op="scalar", attrs={"value": 2.5}, shape=(), dtype=f32),
            Node(op="mul", inputs=(0, 1), shape=(N,), dtype=f32),
            Node(op="sum", inputs=(2,), attrs={"axes": [0], "keepdims": True}, shape=(1,), dtype=f32),
        ),
        outputs=(2, 3),
        output_names=("out", "total"),
    )
    return Program(
        name="f",
        inputs=(
            Port(name="x", dtype=f32, shape=(N,)),
            Port(name="y", dtype=f32, shape=(N,)),
            Port(name="k", dtype=i64, kind="scalar"),
        ),
        outputs=(Port(name="out", dtype=f32, shape=(N,), initial="y"),),
        constants=(Constant(name="w", dtype=bf16, shape=(64,)),),
        plans=(gpu, cpu),
        graph=graph,
    )
