"""libtessera_rt through ctypes: the C interface as any other language sees it."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

from tessera.program.dtype import DTYPES, as_dtype

NAMES = ("f64", "f32", "tf32", "f16", "bf16", "f8e4m3", "f8e5m2", "i64", "i32", "i16", "i8", "u8", "bool",
         "u64", "u32", "u16")  # fmt: skip
"""Dtypes in the order of `tessera_dtype`."""
STATUSES = ("ok", "input", "package", "integrity", "program", "device", "memory", "internal")
"""Kinds of `tessera_status` in order."""


class NativeError(Exception):
    """A call that failed."""

    def __init__(self, status: str, message: str, hint: str) -> None:
        super().__init__(f"{status}: {message} ({hint})")
        self.status, self.message, self.hint = status, message, hint


class NativeLibrary:
    """The loaded library."""

    def __init__(self, path: Path) -> None:
        self.c = ctypes.CDLL(str(path))
        for name in ("tessera_error_message", "tessera_error_hint", "tessera_version"):
            getattr(self.c, name).restype = ctypes.c_char_p
        self.c.tessera_runtime_program_name.restype = ctypes.c_char_p
        self.c.tessera_runtime_program_count.restype = ctypes.c_size_t
        for name in ("tessera_tensor_data", "tessera_tensor_shape"):
            getattr(self.c, name).restype = ctypes.c_void_p
        for name in ("tessera_tensor_rank", "tessera_tensor_bytes", "tessera_dtype_size"):
            getattr(self.c, name).restype = ctypes.c_int64
        self.c.tessera_dtype_name.restype = ctypes.c_char_p

    def check(self, status: int) -> None:
        if status:
            message = self.c.tessera_error_message().decode()
            raise NativeError(STATUSES[status], message, self.c.tessera_error_hint().decode())

    def load(self, path: Path, device: str | None = "cpu") -> NativeRuntime:
        """The package at `path`, initialized on `device` unless that is None."""
        handle = ctypes.c_void_p()
        self.check(self.c.tessera_runtime_load(str(path).encode(), ctypes.byref(handle)))
        runtime = NativeRuntime(self, handle)
        if device is not None:
            runtime.initialize(device)
        return runtime

    def tensor(self, value: object) -> ctypes.c_void_p:
        array = np.asarray(value)
        array = np.ascontiguousarray(array) if array.ndim else array
        handle, shape = ctypes.c_void_p(), (ctypes.c_int64 * array.ndim)(*array.shape)
        data = ctypes.c_void_p(array.__array_interface__["data"][0])
        dtype = NAMES.index(as_dtype(array.dtype).name)
        create = self.c.tessera_tensor_create
        self.check(create(dtype, ctypes.c_int64(array.ndim), shape, data, ctypes.byref(handle)))
        return handle

    def array(self, handle: ctypes.c_void_p) -> np.ndarray:
        dtype = DTYPES[NAMES[self.c.tessera_tensor_dtype(handle)]].numpy
        rank = self.c.tessera_tensor_rank(handle)
        address = self.c.tessera_tensor_shape(handle)
        shape = tuple((ctypes.c_int64 * rank).from_address(address)) if rank else ()
        data = ctypes.string_at(self.c.tessera_tensor_data(handle), self.c.tessera_tensor_bytes(handle))
        return np.frombuffer(data, dtype).reshape(shape).copy()

    def convert(self, value: object, dtype: str) -> np.ndarray:
        """`value` in another dtype, by `tessera_tensor_convert`."""
        source, target = self.tensor(value), ctypes.c_void_p()
        try:
            convert = self.c.tessera_tensor_convert
            self.check(convert(source, NAMES.index(dtype), ctypes.byref(target)))
            return self.array(target)
        finally:
            self.c.tessera_tensor_free(source)
            self.c.tessera_tensor_free(target)


class NativeRuntime:
    """A `tessera_runtime`."""

    def __init__(self, library: NativeLibrary, handle: ctypes.c_void_p) -> None:
        self._library, self._handle = library, handle

    @property
    def programs(self) -> list[str]:
        c = self._library.c
        count = c.tessera_runtime_program_count(self._handle)
        return [
            c.tessera_runtime_program_name(self._handle, ctypes.c_size_t(i)).decode() for i in range(count)
        ]

    @property
    def device(self) -> str:
        name = ctypes.c_char_p()
        self._library.check(self._library.c.tessera_runtime_device(self._handle, ctypes.byref(name)))
        return (name.value or b"").decode()

    def initialize(self, device: str) -> None:
        self._library.check(self._library.c.tessera_runtime_initialize(self._handle, device.encode()))

    def verify(self) -> None:
        self._library.check(self._library.c.tessera_runtime_verify(self._handle))

    def execute(self, *inputs: object, program: str | None = None) -> list[np.ndarray]:
        c, name = self._library.c, program.encode() if program else None
        outputs, count = (ctypes.c_void_p * 8)(), ctypes.c_size_t()
        given = [self._library.tensor(value) for value in inputs]
        handles = (ctypes.c_void_p * len(given))(*given)
        try:
            self._library.check(
                c.tessera_runtime_execute(
                    self._handle,
                    name,
                    handles,
                    ctypes.c_size_t(len(given)),
                    outputs,
                    ctypes.c_size_t(8),
                    ctypes.byref(count),
                )
            )
        finally:
            for handle in given:
                c.tessera_tensor_free(handle)
        results = [self._library.array(ctypes.c_void_p(handle)) for handle in outputs[: count.value]]
        for handle in outputs[: count.value]:
            c.tessera_tensor_free(ctypes.c_void_p(handle))
        return results

    def __del__(self) -> None:
        self._library.c.tessera_runtime_free(self._handle)
