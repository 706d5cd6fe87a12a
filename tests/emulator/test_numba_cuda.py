"""The private places of numba-cuda that the emulator relies on."""

from __future__ import annotations

import pytest

numba_cuda = pytest.importorskip("tessera.emulator.numba_cuda")
pytest.importorskip("numba.cuda")


def test_every_private_place_of_numba_cuda_is_still_there() -> None:
    missing = [name for name, there in numba_cuda.places().items() if not there]
    assert not missing, (
        f"numba-cuda has moved {missing}: the emulator replaces or reads them; "
        "adapt tessera/emulator/numba_cuda.py to this version"
    )


def test_the_finalizers_reach_the_driver_through_a_global_called_driver() -> None:
    driver = numba_cuda.parts().driver

    def names(code: object) -> set[str]:
        inner = [c for c in code.co_consts if hasattr(c, "co_names")]
        return set(code.co_names).union(*map(names, inner))

    for name in numba_cuda.FINALIZERS:
        assert "driver" in names(getattr(driver, name).__code__), (
            f"numba-cuda's {name} no longer names `driver`: what is freed after as_cuda() would reach a GPU"
        )
