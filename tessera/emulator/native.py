"""LLVM IR to machine code of this host, kept on disk between processes."""

from __future__ import annotations

import ctypes
import hashlib
import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tessera.program.errors import CompileError, MissingDependencyError

VERSION = "2"
"""Raise when generated code changes meaning for the same IR and state layout."""
_LOCK = threading.Lock()


@dataclass(slots=True)
class NativeKernel:
    """Compiled code; keeps it alive."""

    run_blocks: Any
    """`(context, state, first, last) -> code`."""
    run_block: Any
    """`(context, state) -> code`: goes on with a block that gave way."""
    begin_block: Any
    """`(context, state, number)`: prepares a block of that number."""
    engine: Any
    level: int


def cache_folder() -> Path | None:
    """Where object files are kept; None if `TESSERA_CACHE=off`."""
    if os.environ.get("TESSERA_CACHE", "").lower() == "off":
        return None
    root = os.environ.get("TESSERA_CACHE_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(root) if root else home / "tessera") / "emulator"


class _ObjectCache:
    """Object files by the hash of their IR, options and host."""

    def __init__(self, key: str) -> None:
        folder = cache_folder()
        self.path = folder / f"{key}.o" if folder else None

    def load(self) -> bytes | None:
        """The object file with its checksum removed, or None."""
        if self.path is None:
            return None
        try:
            raw = self.path.read_bytes()
        except OSError:
            return None
        digest, body = raw[:32], raw[32:]
        return body if hashlib.sha256(body).digest() == digest else None

    def save(self, body: bytes) -> None:
        """Keep an object file; a folder that cannot be written is no error."""
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.path.parent, delete=False) as file:
                file.write(hashlib.sha256(body).digest() + body)
            Path(file.name).replace(self.path)
        except OSError:
            return


def object_key(text: str, level: int) -> str:
    """Hash of what decides about the machine code."""
    binding = _binding()
    host = f"{binding.get_host_cpu_name()} {_features(binding)}"
    llvm = ".".join(map(str, binding.llvm_version_info))
    whole = "\0".join((VERSION, llvm, host, str(level), text))
    return hashlib.sha256(whole.encode()).hexdigest()[:40]


def compile_ir(
    ir: str, level: int, key_text: str | None = None, libraries: Sequence[str] = ()
) -> NativeKernel:
    """Machine code for a kernel's IR.

    Args:
        ir: LLVM IR with `run_blocks` and `run_block`.
        level: 0 compiles fast, 2 makes fast code.
        key_text: What the IR is made from, if hashing that is enough for the cache.
        libraries: Modules with functions that the IR calls. They are always optimized: they are few, and
            the same for many kernels.

    Raises:
        CompileError: LLVM does not accept the IR, which is a fault of the translator.
        MissingDependencyError: llvmlite is not installed.
    """
    binding = _binding()
    with _LOCK:
        bodies = [_object(binding, ir, level, key_text or ir)]
        bodies += [_object(binding, text, 2, text) for text in libraries]
        engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _machine(binding, level))
        for body in bodies:
            engine.add_object_file(binding.ObjectFileRef.from_data(body))
        engine.finalize_object()
        blocks = ctypes.CFUNCTYPE(
            ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
        )(engine.get_function_address("run_blocks"))
        block = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)(
            engine.get_function_address("run_block")
        )
        begin = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(
            engine.get_function_address("begin_block")
        )
    return NativeKernel(blocks, block, begin, engine, level)


def _object(binding: Any, ir: str, level: int, key_text: str) -> bytes:
    """The object file of a module, from the cache if it is there."""
    cache = _ObjectCache(object_key(key_text, level))
    body = cache.load()
    if body is None:
        body = _compile(binding, _machine(binding, level), ir, level)
        cache.save(body)
    return body


def _compile(binding: Any, machine: Any, ir: str, level: int) -> bytes:
    try:
        module = binding.parse_assembly(ir)
        module.triple = binding.get_process_triple()
    except RuntimeError as error:
        raise CompileError(f"the emulator's translation is not valid: {error}") from error
    options = binding.create_pipeline_tuning_options(speed_level=level)
    options.loop_vectorization = options.slp_vectorization = False
    if level:
        builder = binding.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
    return bytes(machine.emit_object(module))


def _machine(binding: Any, level: int) -> Any:
    # Code and constants may be mapped further apart than 32-bit references reach, as gigabytes of device
    # memory lie in between: the large model refers to everything by 64 bits.
    target = binding.Target.from_triple(binding.get_process_triple())
    return target.create_target_machine(
        cpu=binding.get_host_cpu_name(), features=_features(binding), opt=level, reloc="static",
        codemodel="large", jit=True,
    )  # fmt: skip


def _features(binding: Any) -> str:
    return str(binding.get_host_cpu_features().flatten())


def _binding() -> Any:
    try:
        # 60 ms, and only a launch needs it.
        import llvmlite.binding as binding
    except ImportError as error:
        raise MissingDependencyError.extra("llvmlite", "compile", needed_for="the emulator") from error
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding
