"""Programs and artifacts to package."""

from __future__ import annotations

import numpy as np

from tessera.program import dtype as dt
from tessera.program.artifact import Artifact, KernelBinary, Resources
from tessera.program.dim import symbol
from tessera.program.program import Constant, Launch, Plan, Pointer, Port, Program


def make_program(
    name: str = "forward", targets: tuple[str, ...] = ("sm_80",), **constants: np.ndarray
) -> Program:
    n = symbol("n")
    return Program(
        name=name,
        inputs=(Port(name="x", dtype=dt.f32, shape=(n, 4)),),
        outputs=(Port(name="y", dtype=dt.f32, shape=(n, 4)),),
        constants=tuple(
            Constant(name=k.replace("__", "."), dtype=dt.as_dtype(v.dtype), shape=v.shape)
            for k, v in constants.items()
        ),
        plans=tuple(
            Plan(
                targets=(t,),
                steps=(Launch(kernel="k0", grid=(n, 1, 1), args=(Pointer(space="input", name="x"),)),),
            )
            for t in targets
        ),
    )


def make_artifact(
    name: str = "forward", targets: tuple[str, ...] = ("sm_80",), seed: int = 0, **constants: np.ndarray
) -> Artifact:
    rng = np.random.default_rng(seed)
    return Artifact(
        programs=(make_program(name, targets, **constants),),
        binaries=tuple(
            KernelBinary(
                name,
                "attention",
                ("k0", "k1"),
                t,
                "so" if t.startswith("cpu") else "cubin",
                rng.bytes(80) * 3,
                None if t.startswith("cpu") else Resources(registers=32, spill_bytes=0),
            )
            for t in targets
        ),
        constants={k.replace("__", "."): v for k, v in constants.items()},
        provenance={"numba": "0.68", "options": ["-O3"]},
        notes=("a note",),
    )
