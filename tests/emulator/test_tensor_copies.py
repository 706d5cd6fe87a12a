"""Bulk tensor copies against what a GPU copied (an H200): `hardware/record_tensor.py` says how."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tessera.emulator.tensor_maps import decode, encode_tensor_map
from tessera.program.errors import DeviceError, KernelError
from tessera.program.tensor_map import Im2col, TensorMap
from tests.emulator.both import IMPLEMENTATIONS, copy_tensor
from tests.emulator.hardware.record import FOLDER
from tests.emulator.hardware.tensor_cases import CASES, Case, contents, program, shared_before

BOTH = pytest.mark.parametrize("where", IMPLEMENTATIONS)
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Array]:
    with np.load(FOLDER / "tensor_recorded.npz") as found:
        return dict(found)


def groups() -> dict[str, list[int]]:
    """Positions of the cases by what they do."""
    found: dict[str, list[int]] = {}
    for i, case in enumerate(CASES):
        m = case.map
        kind = "im2col" if m.im2col else "interleave" if m.interleave else f"swizzle {m.swizzle}"
        found.setdefault(f"{case.what.partition('+')[0]}, {kind}", []).append(i)
    return found


@BOTH
@pytest.mark.parametrize("group", groups())
def test_copies_are_those_of_a_gpu(where: str, group: str, recorded: dict[str, Array]) -> None:
    for i in groups()[group]:
        case = CASES[i]
        if f"error{i}" in recorded:
            with pytest.raises(DeviceError, match=r"no multiple of 16|does not begin before"):
                copy_tensor(where, program(case), case, contents(case), shared_before(case))
            continue
        before = shared_before(case) if case.what.startswith("load") else contents(case)
        expected = before.copy()
        expected[recorded[f"places{i}"]] = recorded[f"values{i}"]
        out, tensor = copy_tensor(where, program(case), case, contents(case), shared_before(case))
        found = out if case.what.startswith("load") else tensor
        different = np.flatnonzero(found != expected)
        assert different.size == 0, f"{case}: bytes {different[:8].tolist()}"


def test_maps_come_back_from_their_bytes() -> None:
    for case in CASES:
        m = replace(case.map, address=0x1_2345_6780)
        m = replace(m, steps=m.steps or (1,) * m.rank)
        assert decode(encode_tensor_map(m)) == m
    with pytest.raises(KernelError, match="no tensor map"):
        decode(bytes(128))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"element": "f8"}, "element 'f8' is not known"),
        ({"swizzle": 48}, "swizzle 48 is not known"),
        ({"address": 8}, "not a multiple of 16"),
        ({"sizes": (80, 40, 2)}, "1 strides for 3 dimensions"),
        ({"sizes": (0, 40)}, "each is from 1"),
        ({"strides": (168,)}, "each is a multiple of 16"),
        ({"box": (64, 257)}, "each from 1 to 256"),
        ({"box": (60, 8)}, "multiple of 16"),
        ({"box": (64, 8), "swizzle": 64}, "does not fit swizzle 64"),
        ({"steps": (1, 9)}, "each from 1 to 8"),
        ({"fill": "nan"}, "cannot be NaN"),
        ({"interleave": 16}, "these have 3 to 5"),
        ({"sizes": (8, 8, 8), "strides": (128, 1024), "box": (8, 8, 8), "interleave": 32}, "swizzle 32 only"),
        ({"im2col": Im2col((0,), (0,), 16, 8)}, "these have 3 to 5"),
    ],
)
def test_maps_that_the_driver_refuses_are_refused(changes: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "element": "u16", "address": 0, "sizes": (80, 40), "strides": (160,), "box": (64, 16), **changes
    }  # fmt: skip
    with pytest.raises(KernelError, match=message):
        TensorMap(**given)


@BOTH
def test_a_tensor_outside_of_memory_is_found(where: str) -> None:
    m = TensorMap("u16", 0, (80, 40), (1 << 20,), (64, 16))
    case = Case(m, (0, 0))
    with pytest.raises(DeviceError, match="nothing is allocated") as caught:
        copy_tensor(where, program(case), case, contents(case), shared_before(case))
    assert caught.value.fields["kind"] == "out of bounds"
