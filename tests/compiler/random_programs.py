"""Random tensor functions, written as source: what compiled code is compared with the reference on.

Numbers are small multiples of a power of two, so that sums, products and comparisons of them are exact in
any order and must be right to the last bit. What rounds is marked so, and then only taken by functions that
do not jump.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

import tessera as ts
from tessera.program.dim import Dim, evaluate
from tessera.program.errors import TesseraError

MANTISSA = {
    "f64": 52,
    "f32": 23,
    "f16": 10,
    "bf16": 7,
    "i64": 62,
    "i32": 30,
    "i16": 14,
    "i8": 6,
    "u8": 7,
    "bool": 1,
}
LARGEST = {"f16": 1e4, "bf16": 1e6, "f32": 1e6, "f64": 1e6}
SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 16, 17, 33, 64, 65)
FLOATS = ("f32", "f32", "f32", "f16", "bf16", "f64")
INTEGERS = ("i64", "i32", "i16", "i8", "u8")
MOST_ELEMENTS = 20_000

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Value:
    """A name in the program, and what is known of its numbers."""

    name: str
    shape: tuple[int, ...]
    """As it runs: symbols have their values."""
    dtype: str
    bound: float
    """No finite element is larger in magnitude."""
    unit: float
    """Every element is a multiple of it; 0: rounded somewhere."""

    @property
    def exact(self) -> bool:
        return self.unit > 0

    @property
    def is_float(self) -> bool:
        return self.dtype in LARGEST


@dataclass(frozen=True, slots=True)
class RandomProgram:
    """Source, inputs, and which outputs must be right to the last bit."""

    source: str
    specs: tuple[ts.TensorSpec, ...]
    inputs: tuple[Array, ...]
    outputs: tuple[Value, ...]

    def function(self) -> ts.JitFunction:
        """The program as a tensor function."""
        names: dict[str, object] = {"ts": ts, "np": np}
        exec(self.source, names)
        return ts.jit(names["program"], name="program")

    def exact(self) -> tuple[bool, ...]:
        return tuple(v.exact or not v.is_float for v in self.outputs)

    def dtypes(self) -> list[str]:
        """Of floats that it may round to."""
        given = {spec.dtype.name for spec in self.specs}
        return [d for d in LARGEST if d in given or f"'{d}'" in self.source] or ["f32"]

    def __str__(self) -> str:
        specs = ", ".join(f"{spec.shape}:{spec.dtype}" for spec in self.specs)
        shapes = [a.shape for a in self.inputs]
        return f"{self.source}\n# specs {specs}\n# run with {shapes}"


@dataclass
class Writer:
    """A program as it grows."""

    random: Random
    sizes: dict[str, int]
    special: bool
    lines: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    scope: dict[str, object] = field(default_factory=dict)
    """The traced tensors by name."""

    def pick(self, accepted: Callable[[Value], bool] = lambda v: True) -> Value | None:
        found = [v for v in self.values if accepted(v)]
        return self.random.choice(found) if found else None

    def shape_text(self, value: Value) -> tuple[Dim, ...]:
        return self.scope[value.name].shape  # type: ignore[attr-defined, no-any-return]

    def axis(self, value: Value) -> int:
        return self.random.randrange(-len(value.shape), len(value.shape))

    def add(self, text: str, bound: float, unit: float) -> Value | None:
        """The value of one more line; None where the language refuses it."""
        name = f"v{len(self.lines)}"
        try:
            found = eval(text, {"ts": ts, "np": np}, self.scope)
        except TesseraError:
            return None
        shape = tuple(evaluate(d, self.sizes) for d in found.shape)
        if np.prod(shape) > MOST_ELEMENTS:
            return None
        dtype = found.dtype.name
        if dtype in LARGEST and not bound <= LARGEST[dtype]:
            return None
        if dtype == "bool":
            bound, unit = 1.0, 1.0
        if dtype not in LARGEST:
            unit = 1.0
            bound = 255.0 if dtype == "u8" else bound
        elif unit and bound / unit > 2 ** MANTISSA[dtype]:
            unit = 0.0
        self.scope[name] = found
        self.lines.append(f"{name} = {text}")
        value = Value(name, shape, dtype, bound, unit)
        self.values.append(value)
        return value


Step = Callable[[Writer], Value | None]


def random_program(random: Random, lines: int, steps: Sequence[Step], special: bool = False) -> RandomProgram:
    """A program of about so many lines; each made by one of the `steps`; with
    `special`, NaN and infinities are among its floats."""
    sizes = {s: random.choice(SIZES) for s in ("n", "m")}
    made: list[RandomProgram] = []
    w = Writer(random, sizes, special)
    main = "f32" if random.random() < 0.5 else random.choice(FLOATS)
    inputs = []
    for i in range(random.randint(1, 3)):
        rank = random.choice([1, 2, 2, 3, 3, 4])
        dims = [
            random.choice(["n", "m"]) if random.random() < 0.35 else random.choice(SIZES[1:])
            for _ in range(rank)
        ]
        while np.prod([sizes.get(d, d) for d in dims]) > MOST_ELEMENTS // 4:
            dims[random.randrange(rank)] = random.choice([1, 2, 3])
        inputs.append(
            (f"x{i}", tuple(dims), main if random.random() < 0.8 else random.choice(FLOATS + INTEGERS))
        )
    specs = tuple(ts.TensorSpec(shape, dtype) for _, shape, dtype in inputs)

    def write(*tensors: ts.Tensor) -> tuple[ts.Tensor, ...]:
        for (name, shape, dtype), tensor in zip(inputs, tensors, strict=True):
            w.scope[name] = tensor
            unit = 0.5 if dtype in LARGEST else 1.0
            w.values.append(Value(name, tuple(sizes.get(d, d) for d in shape), dtype, 4.0, unit))
        for _ in range(6 * lines):
            if len(w.lines) >= lines:
                break
            random.choice(steps)(w)
        results = w.values[len(inputs) :] or w.values
        others = [v for v in results[:-1] if random.random() < 0.2]
        kept = [*others[:3], results[-1]]
        made.append(finish(w, inputs, specs, kept))
        return tuple(w.scope[v.name] for v in kept)

    names = ", ".join(name for name, _, _ in inputs)
    ts.jit(eval(f"lambda {names}: write({names})", {"write": write}), name="program").trace(specs)
    return made[-1]


def finish(w: Writer, inputs: list, specs: tuple[ts.TensorSpec, ...], kept: list[Value]) -> RandomProgram:
    """The source without lines that no result needs, and numbers to run it on."""
    needed, lines = {v.name for v in kept}, []
    for line in reversed(w.lines):
        name, _, text = line.partition(" = ")
        if name in needed:
            lines.append(f"    {line}")
            needed |= {v.name for v in w.values if mentions(text, v.name)}
    names = ", ".join(name for name, _, _ in inputs)
    body = "\n".join(reversed(lines))
    source = f"def program({names}):\n{body}\n    return {', '.join(v.name for v in kept)},\n"
    rng = np.random.default_rng(w.random.getrandbits(32))
    arrays = []
    for (_, shape, dtype), spec in zip(inputs, specs, strict=True):
        low = 0 if dtype == "u8" else -8
        array = rng.integers(low, 9, tuple(w.sizes.get(d, d) for d in shape))
        value = array / 2 if dtype in LARGEST else array // 2
        value = value.astype(spec.dtype.numpy)
        if w.special and dtype in LARGEST and value.size:
            value.flat[rng.integers(value.size, size=2)] = rng.choice([np.nan, np.inf, -np.inf], 2)
        arrays.append(value)
    return RandomProgram(source, specs, tuple(arrays), tuple(kept))


def mentions(text: str, name: str) -> bool:
    return any(part == name for part in "".join(c if c.isalnum() else " " for c in text).split())
