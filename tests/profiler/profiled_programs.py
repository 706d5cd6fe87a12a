"""Small programs, made by hand: no compiler is needed to profile them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tessera.program.artifact import Artifact
from tessera.program.dim import symbol
from tessera.program.dtype import f32
from tessera.program.graph import Graph, Node
from tessera.program.program import Buffer, Constant, Launch, Plan, Pointer, Port, Program

BATCH = symbol("batch")


def linear() -> Program:
    """`relu(x @ w)` with x (batch, 64) and w (64, 16), both float32."""
    nodes = (
        Node(op="input", attrs={"name": "x"}, shape=(BATCH, 64), dtype=f32),
        Node(op="constant", attrs={"name": "w"}, shape=(64, 16), dtype=f32),
        Node(op="matmul", inputs=(0, 1), shape=(BATCH, 16), dtype=f32),
        Node(op="relu", inputs=(2,), shape=(BATCH, 16), dtype=f32),
    )
    return Program(
        name="linear",
        inputs=(Port(name="x", dtype=f32, shape=(BATCH, 64)),),
        outputs=(Port(name="output", dtype=f32, shape=(BATCH, 16)),),
        constants=(Constant(name="w", dtype=f32, shape=(64, 16)),),
        graph=Graph(name="linear", nodes=nodes, outputs=(3,)),
    )


def linear_artifact() -> Artifact:
    weights: np.ndarray[Any, Any] = np.random.default_rng(1).standard_normal((64, 16)).astype("float32")
    return Artifact(programs=(linear(),), binaries=(), constants={"w": weights})


def planned() -> Program:
    """A program without a graph whose plan uses two buffers that may share nothing."""

    def launch(kernel: str, *args: Pointer) -> Launch:
        return Launch(kernel=kernel, grid=(BATCH, 1, 1), block=(128, 1, 1), args=args)

    first, second = Pointer(space="buffer", name="first"), Pointer(space="buffer", name="second")
    plan = Plan(
        targets=("sm_80",),
        steps=(
            launch("load", Pointer(space="input", name="x"), first),
            launch("middle", first, second),
            launch("store", second, Pointer(space="output", name="y", offset_bytes=4 * BATCH)),
        ),
        buffers=(
            Buffer(name="first", offset_bytes=0, bytes=4 * BATCH),
            Buffer(name="second", offset_bytes=4 * BATCH, bytes=8 * BATCH),
        ),
        arena_bytes=12 * BATCH,
    )
    return Program(
        name="planned",
        inputs=(Port(name="x", dtype=f32, shape=(BATCH,)),),
        outputs=(Port(name="y", dtype=f32, shape=(2 * BATCH,)),),
        plans=(plan,),
    )
