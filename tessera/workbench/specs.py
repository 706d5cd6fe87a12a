"""Shapes and dtypes as they are typed on the command line: `x=bf16[None,1024]`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from tessera.program.dim import Expr
from tessera.program.dtype import as_dtype
from tessera.program.errors import SpecError
from tessera.program.size_text import parse_size
from tessera.program.spec import TensorSpec
from tessera.workbench.failure import UsageError

_SPEC = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*(?:\[(.*)\])?\s*\Z")
_COMMA = re.compile(r",(?![^(]*\))")
"""Between sizes, not between the two arguments of cdiv(n, 256)."""
_EXAMPLE = "--spec 'x=bf16[None,1024]'"


def parse_spec(text: str, name: str | None = None) -> TensorSpec:
    """The spec written as `bf16[None,1024]`; no brackets mean a tensor of rank 0.

    Raises:
        SpecError: The text is no such spec, or the dtype is unknown.
    """
    match = _SPEC.match(text)
    if not match:
        raise SpecError(f"{text!r} is no spec: it should read dtype[size,size]", hint=f"such as {_EXAMPLE}")
    sizes = [size.strip() for size in _COMMA.split(match[2] or "")]
    if sizes and not sizes[-1]:
        sizes.pop()
    return TensorSpec(tuple(_size(s, text) for s in sizes), as_dtype(match[1], what=f"spec {text!r}"), name)


def _size(text: str, whole: str) -> int | str | Expr | None:
    if text in ("None", "?", ":"):
        return None
    if text.isidentifier():
        return text
    try:
        return parse_size(text)
    except SpecError as error:
        raise SpecError(f"spec {whole!r}: {error.message}", hint=f"such as {_EXAMPLE}") from None


def parse_named_specs(texts: Iterable[str]) -> dict[str, dict[str, TensorSpec]]:
    """Specs by function and argument, from `x=bf16[None,1024]` (function "") and `linear.x=…`.

    Raises:
        SpecError: A spec is malformed.
        UsageError: A spec names no argument.
    """
    found: dict[str, dict[str, TensorSpec]] = {}
    for text in texts:
        path, equals, spec = text.partition("=")
        function, _, argument = path.strip().rpartition(".")
        if not equals or not argument.isidentifier():
            raise UsageError(f"--spec {text!r} names no argument", hint=f"write it as {_EXAMPLE}")
        found.setdefault(function, {})[argument] = parse_spec(spec, argument)
    return found


def order_specs(function: str, arguments: Sequence[str], specs: Mapping[str, TensorSpec]) -> list[TensorSpec]:
    """The specs in the order of the arguments.

    Raises:
        UsageError: An argument has no spec, or a spec no argument.
    """
    unknown = [name for name in specs if name not in arguments]
    if unknown:
        raise UsageError(
            f"--spec: {function} has no argument {unknown[0]!r}", hint=f"arguments: {', '.join(arguments)}"
        )
    missing = [name for name in arguments if name not in specs]
    if missing:
        wanted = " ".join(f"--spec '{name}=f32[None,…]'" for name in missing)
        raise UsageError(
            f"{function}: no spec for argument {missing[0]!r}",
            hint=f"add {wanted}, or [specs.{function}] to tessera.toml",
        )
    return [specs[name] for name in arguments]


def parse_sizes(texts: Iterable[str]) -> dict[str, int]:
    """Sizes by symbol, from `n=1000`.

    Raises:
        UsageError: A text is not of that form, or the size is negative.
    """
    sizes: dict[str, int] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name.strip().isidentifier() or not equals:
            raise UsageError(f"--size {text!r} is not of the form name=number", hint="such as --size n=1000")
        if not value.strip().isdecimal():
            raise UsageError(
                f"--size {text}: {value.strip()!r} is no size: sizes are whole numbers from 0 on",
                hint=f"such as --size {name.strip()}=1000",
            )
        sizes[name.strip()] = int(value)
    return sizes
