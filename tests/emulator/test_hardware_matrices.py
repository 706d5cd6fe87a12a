"""Matrix instructions against what a GPU computed for the same bits, and the two implementations against each
other on the same programs.

`hardware/record.py` says how the results are recorded.
"""

from typing import Any

import numpy as np
import pytest

from tessera.emulator import Emulator
from tests.emulator.hardware.matrices import Form, forms, inputs
from tests.emulator.hardware.record import MATRICES, outputs_of
from tests.emulator.warp import run, widened

Array = np.ndarray[Any, Any]
TYPES: dict[str, Any] = {"f16": np.float16, "f32": np.float32, "f64": np.float64}


def by_opcode() -> dict[str, list[int]]:
    """Positions of the forms, by the first matrix instruction in their body."""
    groups: dict[str, list[int]] = {}
    for i, form in enumerate(forms()):
        names = [part.split()[0].split(".")[0] for part in form.body.split(";") if part.strip()]
        matrix = next(n for n in names if n in ("mma", "wmma", "wgmma") or n.endswith("matrix"))
        groups.setdefault(matrix, []).append(i)
    return groups


@pytest.fixture(scope="module")
def recorded() -> dict[str, Array]:
    if not MATRICES.exists():
        pytest.skip("no results of a GPU yet: hardware/record.py says how to record them")
    with np.load(MATRICES) as found:
        return dict(found)


@pytest.fixture(scope="module")
def engine() -> Emulator:
    return Emulator(workers=1, memory_bytes=1 << 24, level=0)


def different(form: Form, found: Array, expected: Array) -> Array:
    """Threads and outputs that are further apart than the form allows."""
    if not form.tolerance:
        return np.argwhere(found != expected)
    a, b = (widened(np.ascontiguousarray(x).view(TYPES[form.kind])) for x in (found, expected))
    # Sums are as exact as their largest terms, which lie around 1.
    return np.argwhere(np.abs(a - b) > form.tolerance * np.maximum(np.abs(b), 1))


@pytest.mark.parametrize("implementation", ["interpreter", "engine"])
@pytest.mark.parametrize("opcode", by_opcode())
def test_results_are_those_of_a_gpu(
    opcode: str, implementation: str, recorded: dict[str, Array], engine: Emulator
) -> None:
    all_forms = forms()
    for case in by_opcode()[opcode]:
        form = all_forms[case]
        found = run(form.body, recorded["inputs"], engine if implementation == "engine" else None)
        wrong = different(form, found, outputs_of(recorded, case))
        assert wrong.size == 0, f"{form.body[-300:]}: thread, output {wrong[:3].tolist()}"


@pytest.mark.slow
@pytest.mark.parametrize("opcode", by_opcode())
def test_implementations_agree_on_what_is_recorded(opcode: str, engine: Emulator) -> None:
    all_forms = forms()
    for case in by_opcode()[opcode]:
        body = all_forms[case].body
        found = run(body, inputs(), engine)
        assert found.any(), body
        np.testing.assert_array_equal(found, run(body, inputs()), err_msg=body[-300:])
