"""What the annotations of a function say about its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Annotated, Any, get_args, get_origin

from tessera.program.errors import TesseraError
from tessera.program.spec import TensorSpec


def caller_names(depth: int = 1) -> dict[str, Any]:
    """Globals and locals of the function that called ours: annotations may name what is local there."""
    frame: FrameType | None = inspect.currentframe()
    for _ in range(depth + 1):
        frame = frame.f_back if frame else None
    return {**frame.f_globals, **frame.f_locals} if frame else {}


def resolve_annotations(fn: Callable[..., Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """The annotations of `fn` as values; those whose text cannot be evaluated stay text.

    Args:
        fn: A plain Python function.
        names: What the text of an annotation may name besides the globals of `fn`.

    Raises:
        TesseraError: An annotation such as `ts.Array[ts.f32, -1]` that is wrong in itself.
    """
    try:
        found = inspect.get_annotations(fn)
    except NameError:
        # From Python 3.14 on annotations are evaluated when asked for, and may name what is not there.
        return {}
    scope = {**getattr(fn, "__globals__", {}), **names}
    return {name: _evaluated(value, scope) for name, value in found.items()}


def _evaluated(value: Any, scope: dict[str, Any]) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return eval(value, scope)  # noqa: S307 - the user's own source, as typing.get_type_hints does
    except TesseraError:
        raise
    except (NameError, AttributeError, SyntaxError, TypeError):
        return value


def annotated_spec(annotation: Any, kind: type) -> TensorSpec | None:
    """The TensorSpec that `kind[dtype, size, …]` carries, if `annotation` is such a one."""
    if get_origin(annotation) is not Annotated:
        return None
    base, *extras = get_args(annotation)
    if not (isinstance(base, type) and issubclass(base, kind)):
        return None
    return next((extra for extra in extras if isinstance(extra, TensorSpec)), None)
