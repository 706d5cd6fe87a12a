"""Hundreds of instruction forms against what a GPU computed for the same bits (an H200, capability 9.0).

`hardware/record.py` says how the results were recorded.
"""

from typing import Any

import numpy as np
import pytest

from tessera.emulator import Emulator
from tests.emulator.hardware.record import RECORDED, forms, outputs_of
from tests.emulator.warp import run, widened

Array = np.ndarray[Any, Any]
APPROXIMATE: dict[str, tuple[Any, float]] = {
    "f32": (np.float32, 2.0**-16), "f64": (np.float64, 2.0**-19), "f16x2": (np.float16, 2.0**-9),
}  # fmt: skip
"""How far `.approx` results may be from the hardware's, relative to 1 or to their size."""


def by_opcode() -> dict[str, list[int]]:
    """Positions of the forms, by the opcode of their main instruction."""
    groups: dict[str, list[int]] = {}
    for i, body in enumerate(forms()):
        names = [part.split()[0].split(".")[0] for part in body.split(";") if part.strip()]
        main = next(
            (n for n in names if n not in ("mov", "and", "cvt")), "cvt" if "cvt" in names else names[0]
        )
        groups.setdefault(main, []).append(i)
    return groups


@pytest.fixture(scope="module")
def recorded() -> dict[str, Array]:
    with np.load(RECORDED) as found:
        return dict(found)


def close(body: str, found: Array, expected: Array) -> bool:
    """Whether `.approx` results agree as well as their type allows, and in being infinite or NaN."""
    kind = next((k for k in ("bf16x2", *APPROXIMATE) if f".{k} " in body), "f32")
    if kind == "bf16x2":
        a, b = ((x[:, :1] << np.uint32(16)).view(np.float32) for x in (found, expected))
        tolerance = 2.0**-7
    else:
        dtype, tolerance = APPROXIMATE[kind]
        columns = 2 if kind == "f64" else 1
        a, b = (np.ascontiguousarray(x[:, :columns]).view(dtype) for x in (found, expected))
    if "sin" in body or "cos" in body:
        # The hardware's argument reduction is coarse beyond a few turns.
        near = np.abs(a) <= 1
        return bool((np.isnan(a) == np.isnan(b)).all() and (near | np.isnan(a)).all())
    with np.errstate(all="ignore"):
        return bool(np.allclose(widened(a), widened(b), rtol=tolerance, atol=2.0**-126, equal_nan=True))


@pytest.fixture(scope="module")
def engine() -> Emulator:
    return Emulator(workers=1, memory_bytes=1 << 26, level=0)


@pytest.mark.parametrize("implementation", ["interpreter", "engine"])
@pytest.mark.parametrize("opcode", by_opcode())
def test_results_are_those_of_a_gpu(
    opcode: str, implementation: str, recorded: dict[str, Array], engine: Emulator
) -> None:
    runs_it = engine if implementation == "engine" else None
    for case in by_opcode()[opcode]:
        body = forms()[case]
        found, expected = run(body, recorded["inputs"], runs_it), outputs_of(recorded, case)
        if "approx" in body or "div.full" in body:
            assert close(body, found, expected), body
        else:
            different = np.argwhere(found != expected)
            assert different.size == 0, f"{body}: thread, output {different[:3].tolist()}"
