"""The launch rule of a kernel: grid, block and shared memory, as numbers or functions of sizes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import CodeType
from typing import Any

from tessera.language.parameters import KernelParam
from tessera.program.arch import MAX_BLOCK, MAX_BLOCK_THREADS, MAX_GRID, SM_LIMITS
from tessera.program.dim import Dim, Expr, format_dim, symbol, symbols_of
from tessera.program.errors import KernelError, SourceLocation, TesseraError

Size = int | Expr | Callable[..., Any]
"""A size, or a function of sizes."""
Grid = Size | Sequence[int | Expr]
"""One to three sizes, or a function of sizes that gives them."""

Bound = int | Callable[..., Any] | None
"""A limit that holds for every launch, or a function that gives it; None: there is none."""
_BOUNDS = {"min_blocks": 32, "max_registers": 255}
"""Most blocks of a multiprocessor, and registers of a thread, on any architecture."""

MAX_SHARED_BYTES = max(limits.shared_optin_bytes for limits in SM_LIMITS.values())
"""Most shared memory of a block on any architecture."""


def grid_of(kernel: str, rule: Grid, params: Sequence[KernelParam]) -> tuple[Dim, Dim, Dim]:
    """Blocks by axis.

    Raises:
        KernelError: Not one to three sizes, over a limit, or of a symbol that no parameter gives.
    """
    sizes = _three(kernel, "grid", rule, params)
    for axis, (size, limit) in enumerate(zip(sizes, MAX_GRID, strict=True)):
        if isinstance(size, int) and not 0 <= size <= limit:
            raise _error(
                kernel,
                "grid",
                rule,
                f"{size} blocks along axis {axis}; allowed are 0 to {limit}",
                "put the longest extent first: the first axis takes 2147483647" if axis else None,
            )
    return sizes


def block_of(kernel: str, rule: Grid, params: Sequence[KernelParam]) -> tuple[int, int, int]:
    """Threads by axis.

    Raises:
        KernelError: Not one to three fixed sizes, or more than 1024 threads.
    """
    sizes = _three(kernel, "block", rule, params)
    fixed: list[int] = []
    for axis, (size, limit) in enumerate(zip(sizes, MAX_BLOCK, strict=True)):
        if not isinstance(size, int):
            raise _error(
                kernel, "block", rule, f"{format_dim(size)} threads is not a fixed number", "block=256"
            )
        if not 1 <= size <= limit:
            raise _error(
                kernel,
                "block",
                rule,
                f"{size} threads along axis {axis}; allowed are 1 to {limit}",
                "block=256",
            )
        fixed.append(size)
    threads = fixed[0] * fixed[1] * fixed[2]
    if threads > MAX_BLOCK_THREADS:
        text = f"{' x '.join(map(str, fixed))} is {threads} threads; a block has at most {MAX_BLOCK_THREADS}"
        raise _error(kernel, "block", rule, text, "make the block smaller and the grid larger")
    return fixed[0], fixed[1], fixed[2]


def shared_of(kernel: str, rule: Size, params: Sequence[KernelParam]) -> Dim:
    """Bytes of dynamic shared memory per block.

    Raises:
        KernelError: Not one size, or more than any architecture has.
    """
    size = _size(kernel, "shared_bytes", rule, _value(kernel, "shared_bytes", rule, params))
    if isinstance(size, int) and not 0 <= size <= MAX_SHARED_BYTES:
        text = f"{size} bytes; allowed are 0 to {MAX_SHARED_BYTES}"
        raise _error(kernel, "shared_bytes", rule, text, "use smaller tiles")
    _check_known(kernel, "shared_bytes", rule, (size,), params)
    return size


def bound_of(kernel: str, what: str, rule: Bound, params: Sequence[KernelParam]) -> int | None:
    """`min_blocks` or `max_registers` of a kernel.

    Raises:
        KernelError: Not a fixed number within the limit.
    """
    if rule is None:
        return None
    value = _value(kernel, what, rule, params)
    if value is None:
        return None
    size = _size(kernel, what, rule, value)
    if not isinstance(size, int):
        raise _error(kernel, what, rule, f"{format_dim(size)} is not a fixed number", f"{what}=2")
    if not 1 <= size <= _BOUNDS[what]:
        raise _error(kernel, what, rule, f"{size}; allowed are 1 to {_BOUNDS[what]}", None)
    return size


def _three(kernel: str, what: str, rule: Grid, params: Sequence[KernelParam]) -> tuple[Dim, Dim, Dim]:
    value = _value(kernel, what, rule, params)
    values = value if isinstance(value, (tuple, list)) else (value,)
    if not 1 <= len(values) <= 3:
        raise _error(kernel, what, rule, f"{len(values)} sizes; allowed are 1 to 3", f"{what}=(16, 16)")
    sizes = [_size(kernel, what, rule, v) for v in values] + [1] * (3 - len(values))
    _check_known(kernel, what, rule, sizes, params)
    return sizes[0], sizes[1], sizes[2]


def _size(kernel: str, what: str, rule: Grid, value: Any) -> Dim:
    if isinstance(value, Expr):
        return value
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        hint = "use ts.cdiv(n, 256) or //, which give integers" if isinstance(value, float) else f"{what}=256"
        raise _error(kernel, what, rule, f"{value!r} is not an integer", hint)
    return int(value.__index__())


def _value(kernel: str, what: str, rule: Any, params: Sequence[KernelParam]) -> Any:
    if not callable(rule):
        return rule
    sizes = _sizes(params)
    arguments = {}
    for name in inspect.signature(rule).parameters:
        if name not in sizes:
            raise _error(kernel, what, rule, *_unknown(name, params))
        arguments[name] = sizes[name]
    try:
        return rule(**arguments)
    except TesseraError as error:
        raise _error(kernel, what, rule, error.message, "use +, -, *, //, %, ts.cdiv, ts.maximum") from None
    except Exception as error:
        text = f"the rule failed: {type(error).__name__}: {error}"
        raise _error(kernel, what, rule, text, f"{what}=lambda n: ts.cdiv(n, 256)") from error


def _sizes(params: Sequence[KernelParam]) -> dict[str, Dim]:
    """What a rule may take: symbols of shapes, and integer scalars."""
    names = {name for p in params for name in symbols_of(*p.shape)}
    names |= {p.name for p in params if p.kind == "scalar" and p.dtype.kind in ("int", "uint")}
    return {name: symbol(name) for name in names}


def _unknown(name: str, params: Sequence[KernelParam]) -> tuple[str, str]:
    known = ", ".join(sorted(_sizes(params))) or "none"
    param = next((p for p in params if p.name == name), None)
    if param is None:
        return f"no parameter gives the size {name!r} a value", f"known sizes: {known}"
    if param.kind == "array":
        return f"{name!r} is an array, not a size", f"known sizes: {known}"
    return f"{name!r} is {param.dtype}, and sizes are integers", f"known sizes: {known}"


def _check_known(
    kernel: str, what: str, rule: Grid, sizes: Sequence[Dim], params: Sequence[KernelParam]
) -> None:
    missing = sorted(symbols_of(*sizes) - set(_sizes(params)))
    if missing:
        raise _error(kernel, what, rule, *_unknown(missing[0], params))


def _error(kernel: str, what: str, rule: object, text: str, hint: str | None) -> KernelError:
    code = getattr(rule, "__code__", None)
    where = (
        SourceLocation(code.co_filename, code.co_firstlineno, function=kernel)
        if isinstance(code, CodeType)
        else None
    )
    return KernelError(f"{kernel}: {what}: {text}", hint=hint, location=where, kernel=kernel)
