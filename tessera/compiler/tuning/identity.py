"""What a kernel is apart from the values of what is tuned in it: a digest that records are kept under."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tessera.compiler.cuda_includes import find_headers, meaning, read_source
from tessera.compiler.fingerprint import UnknownValueError, digest, function_digest
from tessera.compiler.options import ToolOptions
from tessera.language.cuda_source import CudaKernel
from tessera.language.kernel import Kernel
from tessera.language.tuning import configured_function
from tessera.program.errors import CompileError


def kernel_hash(kernel: Kernel, options: ToolOptions) -> str:
    """Digest of a kernel's source, launch rules and compiler flags, whatever the configuration.

    A value added to what is tuned changes nothing: records of the others stay.

    Raises:
        CompileError: It reads something that has no lasting description.
    """
    try:
        parts = _cpp_parts(kernel) if isinstance(kernel, CudaKernel) else _numba_parts(kernel)
        rules = [_rule(kernel, rule) for rule in kernel.rules]
    except UnknownValueError as error:
        raise CompileError(
            f"{kernel.name} cannot be tuned: it reads {error}, which cannot be compared with another run's",
            hint="hand it over as an argument, or make it a number, a tuple or an array",
            location=kernel.location,
        ) from None
    params = [[p.name, p.kind, str(p.dtype), [str(d) for d in p.shape]] for p in kernel.params]
    return digest({"kernel": parts, "rules": rules, "params": params, "flags": flags_of(options)})


def flags_of(options: ToolOptions) -> dict[str, Any]:
    """The compiler flags that a record depends on: not the target, which it names, nor what is tuned."""
    return {k: v for k, v in asdict(options).items() if k not in ("target", "lineinfo", "tilings")}


def _numba_parts(kernel: Kernel) -> Any:
    # With one value for all that is tuned, functions that differ in it alone are equal.
    fixed: Any = kernel.fn
    return function_digest(configured_function(fixed, dict.fromkeys(kernel.configuration, 0)))


def _cpp_parts(kernel: CudaKernel) -> Any:
    source = kernel.template
    text = read_source(source.path)
    headers = find_headers(source.path, text, source.include_dirs)
    return {
        "text": meaning(text),
        "headers": {name: meaning(text) for name, text in headers.texts.items()},
        "entry": source.entry,
        "options": source.options,
    }


def _rule(kernel: Kernel, rule: Any) -> Any:
    if not callable(rule):
        return str(rule)
    fixed = (
        configured_function(rule, dict.fromkeys(kernel.configuration, 0))
        if hasattr(rule, "__code__")
        else rule
    )
    return function_digest(fixed)
