"""What a line of a random program may be: each function adds one, or finds no operands for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from random_programs import LARGEST, MANTISSA, Step, Value, Writer


def rounded(w: Writer) -> Value | None:
    x = w.pick(lambda v: v.is_float)
    if x is None:
        return None
    n = x.name
    text, bound = w.random.choice([
        (f"ts.tanh({n})", 1.0), (f"ts.sigmoid({n})", 1.0), (f"ts.exp(-ts.abs({n}))", 1.0),
        (f"ts.gelu({n})", x.bound), (f"ts.silu({n})", x.bound), (f"ts.sin({n})", 1.0), (f"ts.cos({n})", 1.0),
        (f"ts.erf({n})", 1.0), (f"ts.sqrt(ts.abs({n}))", x.bound + 1), (f"ts.log1p(ts.abs({n}))", x.bound),
        (f"ts.rsqrt(ts.abs({n}) + 1)", 1.0), (f"ts.softplus({n})", x.bound + 1),
        (f"ts.elu({n})", x.bound + 1),
        (f"{n} / (ts.abs({n}) + 1)", 1.0), (f"ts.hardswish({n})", x.bound), (f"ts.exp2(-ts.abs({n}))", 1.0),
        (f"ts.gelu({n}, approximate='tanh')", x.bound), (f"ts.reciprocal(ts.abs({n}) + 1)", 1.0),
    ])  # fmt: skip
    return w.add(text, bound, 0.0)


def plain(w: Writer) -> Value | None:
    x = w.pick(lambda v: v.dtype != "bool")
    if x is None:
        return None
    n, big = x.name, x.bound + 1
    rows = [(f"ts.{f}({n})", x.bound, x.unit) for f in ("neg", "abs", "relu")]
    rows += [(f"{n} * 2", 2 * x.bound, 2 * x.unit), (f"{n} + 1", big, min(1.0, x.unit)),
             (f"1 - {n}", big, min(1.0, x.unit)),
            (f"ts.clip({n}, -1, 3)" if x.dtype != "u8" else f"ts.clip({n}, 1, 3)", 3.0, x.unit)]  # fmt: skip
    if x.is_float:
        rows += [(f"{n} * 0.5", x.bound / 2, x.unit / 2), (f"ts.leaky_relu({n}, 0.25)", x.bound, x.unit / 4)]
    if x.exact:
        rows += [(f"ts.{f}({n})", big, 1.0) for f in ("floor", "ceil", "round", "trunc", "sign")]
        rows += [
            (f"{n} % 3", 3.0, x.unit),
            (f"ts.square({n})", x.bound**2, x.unit**2),
            (f"{n} // 2", big, 1.0),
        ]
    return w.add(*w.random.choice(rows))


def compare(w: Writer) -> Value | None:
    x = w.pick(lambda v: v.exact and v.dtype != "bool")
    y = x and partner(w, x, lambda v: v.exact)
    if x is None or y is None:
        return None
    sign = w.random.choice(["<", "<=", ">", ">=", "==", "!="])
    return w.add(f"({x.name} {sign} {y})", 1.0, 1.0)


def select(w: Writer) -> Value | None:
    c = w.pick(lambda v: v.dtype == "bool")
    x = w.pick(lambda v: c is not None and fits(v.shape, c.shape) and v.dtype != "bool")
    if c is None or x is None:
        return None
    other = partner(w, x, lambda v: v.dtype == x.dtype)
    bound = max(x.bound, *(v.bound for v in w.values if v.name == other), 1.0)
    units = [v.unit for v in w.values if v.name == other]
    return w.add(f"ts.where({c.name}, {x.name}, {other})", bound, min(x.unit, *units, 1.0))


def fits(a: Sequence[int], b: Sequence[int]) -> bool:
    try:
        np.broadcast_shapes(tuple(a), tuple(b))
    except ValueError:
        return False
    return True


def partner(w: Writer, x: Value, accepted: Callable[[Value], bool]) -> str | None:
    """Another operand for x: a value, a part of x, or a number."""
    y = w.pick(lambda v: accepted(v) and fits(v.shape, x.shape) and v.dtype == x.dtype and v.bound <= 64)
    if y is not None and w.random.random() < 0.8:
        return y.name
    return w.random.choice(["1", "2"])


def pair(w: Writer) -> Value | None:
    x = w.pick()
    if x is None:
        return None
    y = w.pick(lambda v: fits(v.shape, x.shape) and (v.dtype == x.dtype or w.random.random() < 0.2))
    if y is None:
        return None
    if x.dtype == "bool" or y.dtype == "bool":
        kind = w.random.choice(["and", "or", "xor"])
        text = f"ts.logical_{kind}({x.name} > 0, {y.name} > 0)"
        return w.add(text, 1.0, 1.0) if x.exact and y.exact else None
    fine, both = min(x.unit, y.unit), x.bound + y.bound
    rows = [(f"{x.name} + {y.name}", both, fine), (f"{x.name} - {y.name}", both, fine),
            (f"{x.name} * {y.name}", x.bound * y.bound, x.unit * y.unit),
            (f"ts.maximum({x.name}, {y.name})", max(x.bound, y.bound), fine),
            (f"ts.minimum({x.name}, {y.name})", max(x.bound, y.bound), fine)]  # fmt: skip
    if x.is_float and y.is_float:
        rows.append((f"{x.name} / (ts.abs({y.name}) + 1)", x.bound, 0.0))
    return w.add(*w.random.choice(rows))


def reduction(w: Writer) -> Value | None:
    x = w.pick(lambda v: len(v.shape) > 0)
    if x is None:
        return None
    rank = len(x.shape)
    axes = sorted(w.random.sample(range(rank), w.random.randint(1, rank)))
    axis = w.random.choice([f"axis={tuple(axes)}", f"axis={axes[0]}"] + ["axis=None"] * (rank < 3))
    axes = list(range(rank)) if axis == "axis=None" else [axes[0]] if "(" not in axis else axes
    count = float(np.prod([x.shape[a] for a in axes])) or 1.0
    keep = w.random.choice([", keepdims=True", ""])
    if x.dtype == "bool":
        return w.add(f"ts.{w.random.choice(['any', 'all'])}({x.name}, {axis}{keep})", 1.0, 1.0)
    rows = [("sum", x.bound * count, x.unit), ("sum", x.bound * count, x.unit)]
    if all(x.shape[a] for a in axes):
        rows += [("max", x.bound, x.unit), ("min", x.bound, x.unit)]
        rows += [("mean", x.bound, 0.0), ("var", 4 * x.bound**2, 0.0)] * x.is_float
        if x.exact and len(axes) == 1 and "(" not in axis:
            rows += [("argmax", count, 1.0), ("argmin", count, 1.0)] * 2
    op, bound, unit = w.random.choice(rows)
    return w.add(f"ts.{op}({x.name}, {axis}{keep})", bound, unit)


def along(w: Writer) -> Value | None:
    x = w.pick(lambda v: len(v.shape) > 0 and v.dtype != "bool")
    if x is None:
        return None
    axis, n, size = w.axis(x), x.name, x.shape
    rows = [(f"ts.sort({n}, {axis}, descending={w.random.random() < 0.5})", x.bound, x.unit),
            (f"ts.roll({n}, {w.random.randint(-4, 4)}, {axis})", x.bound, x.unit),
            (f"ts.cumsum({n}, {axis})", x.bound * max(size[axis], 1), x.unit),
            (f"ts.flip({n}, {axis})", x.bound, x.unit)]  # fmt: skip
    if x.is_float:
        rows += [(f"ts.softmax({n}, {axis})", 1.0, 0.0),
                 (f"ts.log_softmax({n}, {axis})", 3 * x.bound + 9, 0.0),
                 (f"ts.layernorm({n}, eps=0.1)", 9.0, 0.0),
                 (f"ts.rmsnorm({n}, eps=0.1)", 9.0, 0.0)]  # fmt: skip
    if x.exact:
        rows += [(f"ts.argsort({n}, {axis})", max(size[axis], 1), 1.0)]
    return w.add(*w.random.choice(rows))


def movement(w: Writer) -> Value | None:
    x = w.pick(lambda v: len(v.shape) > 0)
    if x is None:
        return None
    rank, n = len(x.shape), x.name
    perm = w.random.sample(range(rank), rank)
    axis = w.axis(x)
    start, step = w.random.randint(0, 2), w.random.choice([1, 1, 2, 3])
    cut = ", ".join([":"] * (axis % rank) + [f"{start}::{step}"])
    widths = [(w.random.randint(0, 3), w.random.randint(0, 3)) for _ in range(rank)]
    mode = w.random.choice(["constant", "edge", "reflect"])
    rows = [f"{n}.transpose({', '.join(map(str, perm))})"] * 3 + [
        f"{n}[{cut}]", f"{n}[{cut}]", f"{n}[..., None]", f"ts.unsqueeze({n}, 0)",
        f"ts.repeat({n}, {w.random.randint(1, 3)}, {axis})", f"ts.tile({n}, {w.random.randint(1, 3)})",
        f"ts.concat([{n}, {n}], {axis})", f"ts.stack([{n}, {n}], {axis})", *reshapes(w, x),
    ]  # fmt: skip
    if all(x.shape) and x.dtype != "bool":
        rows.append(f"ts.pad({n}, {widths}, {mode!r})")
    y = w.pick(lambda v: v.dtype == x.dtype and v.shape == x.shape)
    if y is not None:
        rows.append(f"ts.concat([{n}, {y.name}, {n}], {axis})")
    bound, unit = max(x.bound, *(y.bound,) if y else ()), min(x.unit, *(y.unit,) if y else ())
    return w.add(w.random.choice(rows), bound, unit)


def reshapes(w: Writer, x: Value) -> list[str]:
    """Two neighbouring axes as one, all as one, and one as two."""
    dims = [str(d) for d in w.shape_text(x)]
    found = [f"{x.name}.reshape(-1)"]
    if len(dims) > 1:
        i = w.random.randrange(len(dims) - 1)
        tensor = f"{x.name}.shape"
        parts = [f"{tensor}[{k}]" for k in range(len(dims))]
        merged = [*parts[:i], f"{parts[i]} * {parts[i + 1]}", *parts[i + 2 :]]
        found += [f"{x.name}.reshape({', '.join(merged)})"] * 2
    for i, size in enumerate(x.shape):
        if dims[i].isdigit() and size and size % 2 == 0:
            parts = [f"{x.name}.shape[{k}]" for k in range(len(dims))]
            parts[i] = w.random.choice([f"2, {size // 2}", f"{size // 2}, 2"])
            found.append(f"{x.name}.reshape({', '.join(parts)})")
    return found


def product(w: Writer) -> Value | None:
    x = w.pick(lambda v: len(v.shape) >= 2 and v.dtype != "bool")
    if x is None:
        return None
    inner = w.shape_text(x)[-1]
    y = w.pick(lambda v: len(v.shape) >= 2 and v.dtype == x.dtype and w.shape_text(v)[-2] == inner)
    k = max(x.shape[-1], 1)
    if y is None or w.random.random() < 0.5:
        form = w.random.choice(
            ["ts.matmul({n}, ts.transpose({n}, {swap}))", "ts.matmul(ts.transpose({n}, {swap}), {n})"]
        )
        swap = (*range(len(x.shape) - 2), len(x.shape) - 1, len(x.shape) - 2)
        return w.add(form.format(n=x.name, swap=swap), x.bound**2 * max(k, *x.shape), x.unit**2)
    return w.add(f"ts.matmul({x.name}, {y.name})", x.bound * y.bound * k, x.unit * y.unit)


def weighted(w: Writer) -> Value | None:
    """With a constant: a linear layer, or a convolution of what has four axes."""
    x = w.pick(lambda v: v.is_float and len(v.shape) >= 2 and all(v.shape))
    if x is None:
        return None
    dims, seed, dtype = w.shape_text(x), w.random.randrange(99), x.dtype
    if len(x.shape) in (3, 4) and isinstance(dims[1], int) and w.random.random() < 0.7:
        out, k = w.random.choice([1, 3, 8, 16, 33]), w.random.choice([1, 2, 3])
        flat = len(x.shape) - 2
        shape = (out, dims[1], *[k] * flat)
        extra = w.random.choice(
            ["", ", stride=2", ", padding=1", ", stride=2, padding=1", ", dilation=2, padding=2"]
        )
        text = f"ts.conv{flat}d({x.name}, {weight(shape, seed, dtype)}{extra})"
        return w.add(text, x.bound * 2 * dims[1] * k**flat, x.unit / 2)
    if not isinstance(dims[-1], int):
        return None
    shape = (w.random.choice([1, 3, 8, 16, 33]), dims[-1])
    return w.add(f"ts.linear({x.name}, {weight(shape, seed, dtype)})", x.bound * 2 * dims[-1], x.unit / 2)


def weight(shape: tuple[int, ...], seed: int, dtype: str) -> str:
    """Of halves up to 2."""
    return f"ts.tensor(np.random.default_rng({seed}).integers(-4, 5, {shape}) / 2, dtype='{dtype}')"


def pooled(w: Writer) -> Value | None:
    x = w.pick(lambda v: v.is_float and len(v.shape) in (3, 4) and all(v.shape))
    if x is None:
        return None
    flat = len(x.shape) - 2
    kind = w.random.choice(["max", "avg"])
    extra = w.random.choice(["2", "3, 1, padding=1", "3, 2", "2, 1"])
    return w.add(f"ts.{kind}_pool{flat}d({x.name}, {extra})", x.bound, x.unit if kind == "max" else 0.0)


def attended(w: Writer) -> Value | None:
    q = w.pick(lambda v: v.is_float and len(v.shape) >= 3 and v.bound <= 8 and v.shape[-1] > 0)
    if q is None:
        return None
    dims = w.shape_text(q)

    def alike(v: Value) -> bool:
        others = w.shape_text(v)
        return (
            (v.dtype, len(others)) == (q.dtype, len(dims))
            and v.bound <= 8
            and (*others[:-2], others[-1]) == (*dims[:-2], dims[-1])
        )

    k = w.pick(alike)
    if k is None:
        return None
    v = w.random.choice([k, q]) if w.shape_text(k)[-2] == w.shape_text(q)[-2] else k
    swap = (*range(len(q.shape) - 2), len(q.shape) - 1, len(q.shape) - 2)
    by_hand = (
        f"ts.matmul(ts.softmax(ts.matmul({q.name}, ts.transpose({k.name}, {swap})) * 0.25, -1), {v.name})"
    )
    whole = f"ts.attention({q.name}, {k.name}, {v.name}, causal={w.random.random() < 0.5})"
    return w.add(w.random.choice([by_hand, whole]), v.bound, 0.0)


def placed(w: Writer) -> Value | None:
    """By positions: taken, several at once, added."""
    x = w.pick(lambda v: len(v.shape) > 0 and all(v.shape))
    if x is None:
        return None
    axis, n = w.random.randrange(len(x.shape)), x.name
    spots = [w.random.randint(-x.shape[axis], x.shape[axis] - 1) for _ in range(w.random.randint(1, 5))]
    rows = [(f"ts.take({n}, np.array({spots}), {axis})", x.bound, x.unit)]
    index = w.pick(lambda v: v.dtype in ("i64", "i32") and len(v.shape) <= 2)
    if index is not None:
        rows.append((f"ts.take({n}, {index.name}, {axis})", x.bound, x.unit))
        if len(x.shape) >= 2:
            rows += [(f"{n}[{index.name}, {index.name} + 1]", x.bound, x.unit)] * 2
            rows.append((f"{n}[{index.name}, :, {index.name}]", x.bound, x.unit))
    if x.dtype != "bool":
        shape = [1] * len(x.shape)
        shape[axis] = len(spots)
        size = [f"{n}.shape[{k}]" for k in range(len(x.shape))]
        size[axis] = str(len(spots))
        where = f"ts.broadcast_to(ts.tensor(np.array({spots}).reshape({shape})), ({', '.join(size)},))"
        for op, bound in (("scatter", 2 * x.bound), ("scatter_add", 7 * x.bound)):
            rows.append(
                (
                    f"ts.{op}({n}, {where}, 2 * ts.take({n}, np.array({spots}), {axis}), {axis})",
                    bound,
                    x.unit,
                )
            )
    return w.add(*w.random.choice(rows))


def cast(w: Writer) -> Value | None:
    x = w.pick(lambda v: v.exact)
    if x is None:
        return None
    to = w.random.choice([d for d in MANTISSA if d != "bool"])
    whole = x.unit >= 1
    if to not in LARGEST and (
        (w.special and x.is_float) or x.bound > 2 ** MANTISSA[to] or to == "u8" or not whole
    ):
        return None
    return w.add(f"ts.cast({x.name}, '{to}')", x.bound, x.unit)


WEIGHTS: tuple[tuple[Step, int], ...] = (
    (rounded, 2), (plain, 3), (compare, 1), (select, 2), (pair, 4), (reduction, 4), (along, 3), (movement, 5),
    (product, 3), (weighted, 3), (pooled, 1), (attended, 2), (placed, 2), (cast, 1),
)  # fmt: skip
"""What a line may be, and how often."""

STEPS = tuple(step for step, weight in WEIGHTS for _ in range(weight))
