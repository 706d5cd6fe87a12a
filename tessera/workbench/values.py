"""Arrays as words: shape, dtype, statistics, and the first few elements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

SHOWN = 1000
"""Arrays of at most this many elements are given whole in `--json`."""


def array_data(value: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Shape, dtype, statistics over the finite elements and, if it is small, the values."""
    import numpy as np

    from tessera.program.dtype import as_dtype

    wide = value.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    data: dict[str, Any] = {
        "shape": list(value.shape),
        "dtype": as_dtype(value.dtype).name,
        "min": float(finite.min()) if finite.size else None,
        "max": float(finite.max()) if finite.size else None,
        "mean": float(finite.mean()) if finite.size else None,
        "not_finite": int(wide.size - finite.size),
    }
    if value.size <= SHOWN:
        data["values"] = wide.tolist() if value.dtype.kind not in "iub" else value.tolist()
    return data


def array_lines(name: str, value: np.ndarray[Any, Any]) -> list[str]:
    """The array as a person reads it."""
    import numpy as np

    facts = array_data(value)
    head = f"{name}: {facts['dtype']}({', '.join(map(str, value.shape))})"
    if facts["mean"] is not None:
        head += f"  min {facts['min']:.6g}  mean {facts['mean']:.6g}  max {facts['max']:.6g}"
    if facts["not_finite"]:
        head += f"  {facts['not_finite']} not finite"
    shown = value.astype(np.float32) if value.dtype.kind not in "iubf" else value
    # Of a matrix 6 rows, of more axes 4: with 6 of each axis, rank 4 would fill 250 lines.
    edges = 3 if value.ndim <= 2 else 1
    text = np.array2string(
        shown, threshold=32, edgeitems=edges, precision=5, suppress_small=True, max_line_width=78
    )
    return [head, *(f"  {line}" for line in text.splitlines())]
