"""`x[…]` of a tensor: from Python's key to the operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tessera.language.emit import emit
from tessera.language.location import caller_location
from tessera.language.rules.slicing import OPERAND
from tessera.program.errors import TraceError

if TYPE_CHECKING:
    from tessera.language.tensor import Tensor


def index(x: Tensor, key: Any) -> Tensor:
    """`x[key]`: integers, slices, `...`, `None`, and tensors or arrays of integers.

    Raises:
        TraceError: Something else stands in the key.
        ShapeError: There are too many indices, or one is outside.
    """
    from tessera.language.tensor import Tensor

    entries: list[Any] = []
    gathered: list[Any] = []
    for entry in key if isinstance(key, tuple) else (key,):
        if isinstance(entry, slice) or entry is None or entry is ...:
            entries.append(entry)
        elif isinstance(entry, Tensor) or hasattr(entry, "dtype") or isinstance(entry, list):
            gathered.append(entry if isinstance(entry, Tensor) else Tensor(entry))
            entries.append(OPERAND)
        elif hasattr(entry, "__index__") and not isinstance(entry, bool):
            entries.append(int(entry.__index__()))
        else:
            raise TraceError(
                f"getitem: {entry!r:.40} is no index",
                hint="integers, slices, ..., None, and tensors of integers",
                location=caller_location(),
            )
    if any(tensor.dtype.kind == "bool" for tensor in gathered):
        raise TraceError(
            "getitem: a mask selects as many elements as it has True, which no shape can say",
            hint="ts.where(mask, x, 0) keeps the shape",
            location=caller_location(),
        )
    if len(gathered) > 1:
        # Beside several tensors a number is one more of them, of rank 0.
        tensors = iter(gathered)
        numbers = [e for e in entries if e is OPERAND or isinstance(e, int)]
        gathered = [next(tensors) if e is OPERAND else e for e in numbers]
        entries = [OPERAND if isinstance(e, int) else e for e in entries]
    return emit("getitem", x, *gathered, key=tuple(entries))
