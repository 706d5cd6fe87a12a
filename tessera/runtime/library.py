"""A shared library loaded from bytes."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tessera.program.errors import DeviceError

CpuKernel = Callable[[int, int, int], None]
"""`(address of the argument array, begin, end)`."""


class Library:
    """A library of CPU kernels, loaded from memory; it never touches a disk if the system allows that.

    Args:
        data: The bytes of a `.so`.
        name: What to call it in messages.

    Raises:
        DeviceError: This machine cannot load it.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self._name = name
        self._fd: int | None = None
        self._folder: Path | None = None
        try:
            self._library = self._open_in_memory(data)
        except OSError:
            # No memfd_create or /proc here, or memory files may not be executed.
            self._library = self._open_in_folder(data)

    def kernel(self, name: str) -> CpuKernel:
        """The kernel called `name`. Calls release the GIL.

        Raises:
            DeviceError: The library has none.
        """
        try:
            function = self._library[name]
        except AttributeError:
            raise DeviceError(
                f"{self._name} has no kernel {name!r}", hint="compile the program again", kernel=name
            ) from None
        function.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        function.restype = None
        # Whoever can call the kernel keeps its code mapped.
        function.owner = self  # type: ignore[attr-defined]
        return function

    def _open_in_memory(self, data: bytes) -> ctypes.CDLL:
        if not hasattr(os, "memfd_create"):
            raise OSError("no memfd_create")
        fd = os.memfd_create("tessera-kernels")
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(data)
            library = ctypes.CDLL(f"/proc/self/fd/{fd}")
        except OSError:
            os.close(fd)
            raise
        # The loader knows a library by its path, and would take the next one with this
        # number for the same: the descriptor stays ours for as long as the library is.
        self._fd = fd
        return library

    def _open_in_folder(self, data: bytes) -> ctypes.CDLL:
        folder = Path(tempfile.mkdtemp(prefix="tessera-"))
        try:
            path = folder / "kernels.so"
            path.write_bytes(data)
            return ctypes.CDLL(str(path))
        except OSError as error:
            raise DeviceError(
                f"{self._name} cannot be loaded on this machine: {error}",
                hint="compile for this machine with --arch cpu; if its temporary folder forbids "
                "programs (noexec), set TMPDIR to one that allows them",
            ) from error
        finally:
            # A loaded library stays mapped when its file is gone.
            shutil.rmtree(folder, ignore_errors=True)

    def __del__(self) -> None:
        library = getattr(self, "_library", None)
        if library is None:
            return
        with suppress(Exception):  # the interpreter may be shutting down
            import _ctypes

            _ctypes.dlclose(library._handle)  # noqa: SLF001 - ctypes has no public way
            if self._fd is not None:
                os.close(self._fd)
