"""`pytest --tessera-cuda`: tests of Numba CUDA code run without a GPU.

The emulated device is there from the collection of the first test to the end of the run. Also
`tessera_cuda = true` in the ini file; `tessera_cuda_cc = 9.0` or `--tessera-cuda-cc 9.0` chooses the GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tessera.emulator.cuda_device import Device

_ACTIVE: pytest.StashKey[AbstractContextManager[Device]] = pytest.StashKey()
_DEVICE: pytest.StashKey[Device] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    group = parser.getgroup("tessera")
    group.addoption(
        "--tessera-cuda",
        action="store_true",
        help="run numba.cuda code on an emulated GPU (default: ini option)",
    )
    group.addoption("--tessera-cuda-cc", metavar="X.Y", help="compute capability of that GPU: 8.0")
    parser.addini("tessera_cuda", "run numba.cuda code on an emulated GPU", type="bool", default=False)
    parser.addini("tessera_cuda_cc", "compute capability of the emulated GPU", default="8.0")


def pytest_configure(config: pytest.Config) -> None:
    """Put the emulated device in place before test modules, which may ask for one, are imported."""
    if not (config.getoption("--tessera-cuda") or config.getini("tessera_cuda")):
        return
    # numba-cuda costs half a second; only runs that want it pay.
    from tessera.emulator import as_cuda
    from tessera.program.errors import TesseraError

    text = str(config.getoption("--tessera-cuda-cc") or config.getini("tessera_cuda_cc"))
    major, _, minor = text.partition(".")
    if not (major.isdigit() and minor.isdigit()):
        raise pytest.UsageError(f"--tessera-cuda-cc {text}: a compute capability such as 8.0")
    active = as_cuda((int(major), int(minor)))
    try:
        config.stash[_DEVICE] = active.__enter__()
    except TesseraError as error:
        raise pytest.UsageError(f"--tessera-cuda: {error}") from error
    config.stash[_ACTIVE] = active


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take the emulated device away again."""
    active = config.stash.get(_ACTIVE, None)
    if active is not None:
        del config.stash[_ACTIVE]
        active.__exit__(None, None, None)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say that results are an emulated device's."""
    device = config.stash.get(_DEVICE, None)
    return f"tessera: numba.cuda runs on {device.name}" if device else None
