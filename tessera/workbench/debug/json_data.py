"""Values of a program as JSON has them."""

from __future__ import annotations

from typing import Any

import numpy as np


def jsonable(value: Any, most: int = 4096) -> Any:
    """Numbers as numbers, arrays as lists; of arrays of more than `most` elements what they are."""
    from tessera.emulator.debugging.values import ArrayValue, Record

    if isinstance(value, ArrayValue):
        found: dict[str, Any] = {"dtype": str(value.dtype), "shape": list(value.shape), "space": value.space}
        if value.count <= most:
            found["values"] = jsonable(value.all())
        return found
    if isinstance(value, Record):
        return {name: jsonable(item) for name, item in value.members}
    if isinstance(value, np.ndarray):
        return jsonable(value.astype(np.float64).tolist() if value.dtype.kind == "V" else value.tolist())
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, np.floating):
        # The shortest text that names the number in its own width.
        return float(str(value))
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return value
