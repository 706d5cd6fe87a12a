"""Symbolic integers: sizes that are known only when a program runs.

A `Dim` is a Python int or an `Expr`, a polynomial with integer coefficients
over atoms. An atom is a symbol (`"n"`) or an integer function (`floordiv`,
`ceildiv`, `mod`, `min`, `max`) of two Dims. Polynomials are kept in normal
form, so that equal expressions compare equal: `n*2 + n == 3*n`.
"""

from __future__ import annotations

import re
import reprlib
from abc import ABC
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from tessera.program.errors import InputError, ProgramError, SpecError, TraceError

INT64_MAX = 2**63 - 1
SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
"""What a symbol may be called."""


@dataclass(frozen=True, slots=True)
class Call:
    """An integer function of two Dims, an atom of a polynomial."""

    op: str
    lhs: Dim
    rhs: Dim


Atom = str | Call
Monomial = tuple[Atom, ...]


def _atom_key(atom: Atom) -> str:
    return atom if isinstance(atom, str) else "~" + repr(_atom_data(atom))


def _evaluate_call(op: str, lhs: int, rhs: int) -> int:
    if op in ("floordiv", "ceildiv", "mod") and rhs <= 0:
        raise _no_divisor(op, rhs)
    return _FUNCTIONS[op](lhs, rhs)


def _no_divisor(op: str, divisor: int) -> InputError:
    return InputError(f"{op} by {divisor}: a size must be divided by a positive number")


_FUNCTIONS: dict[str, Callable[[int, int], int]] = {
    "floordiv": lambda a, b: a // b,
    "ceildiv": lambda a, b: -(-a // b),
    "mod": lambda a, b: a % b,
    "min": min,
    "max": max,
}


@dataclass(frozen=True, slots=True, eq=False)
class Expr:
    """A polynomial over symbols, in normal form. Immutable and hashable."""

    terms: tuple[tuple[Monomial, int], ...]
    """Sorted (monomial, coefficient) pairs; no coefficient is 0."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expr) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(self.terms)

    def __add__(self, other: Dim) -> Dim:
        return _combine(self, other, 1) if _is_dim(other) else NotImplemented

    def __sub__(self, other: Dim) -> Dim:
        return _combine(self, other, -1) if _is_dim(other) else NotImplemented

    def __rsub__(self, other: Dim) -> Dim:
        return _combine(other, self, -1) if _is_dim(other) else NotImplemented

    def __neg__(self) -> Dim:
        return 0 - self

    def __mul__(self, other: Dim) -> Dim:
        if not _is_dim(other):
            return NotImplemented
        product: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in _terms(other):
                monomial = tuple(sorted(left + right, key=_atom_key))
                product[monomial] = product.get(monomial, 0) + a * b
        return _from_terms(product)

    __radd__ = __add__
    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        return _call("floordiv", self, other)

    def __rfloordiv__(self, other: Dim) -> Dim:
        return _call("floordiv", other, self)

    def __mod__(self, other: Dim) -> Dim:
        return _call("mod", self, other)

    def __rmod__(self, other: Dim) -> Dim:
        return _call("mod", other, self)

    def _no_value(self, *_: object) -> NoReturn:
        raise TraceError(
            f"the size {self} has no value while a function is traced: it cannot be compared or branched on",
            hint="give the TensorSpec a fixed size there, or write the function without that branch",
        )

    __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __int__ = __index__ = __float__ = _no_value
    __truediv__ = __rtruediv__ = _no_value

    def __str__(self) -> str:
        return format_dim(self)

    def __repr__(self) -> str:
        return f"Expr({format_dim(self)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Expr, (self.terms,)


# msgspec writes a dataclass field by field and never asks the codec's hook; so it must not know one.
del Expr.__dataclass_fields__


if TYPE_CHECKING:
    Dim = int | Expr
else:

    class Dim(ABC):  # noqa: B024
        """An int or an `Expr`; a class so that decoders can name the type."""

    Dim.register(int)
    Dim.register(Expr)


def _is_dim(value: object) -> bool:
    return isinstance(value, Expr) or (isinstance(value, int) and not isinstance(value, bool))


def symbol(name: str) -> Expr:
    """The symbolic size called `name`.

    Raises:
        SpecError: `name` is not an identifier.
    """
    if not isinstance(name, str) or not SYMBOL.match(name):
        raise SpecError(
            f"a symbolic size cannot be called {name!r}", hint="letters, digits and _, as in 'batch'"
        )
    return Expr((((name,), 1),))


def _terms(value: Dim) -> Iterable[tuple[Monomial, int]]:
    if isinstance(value, Expr):
        return value.terms
    return (((), value),) if value else ()


def _from_terms(terms: Mapping[Monomial, int]) -> Dim:
    kept = {m: c for m, c in terms.items() if c}
    if not kept:
        return 0
    if set(kept) == {()}:
        return kept[()]
    # Highest degree first, then by name: the order a person writes a polynomial in.
    order = sorted(kept.items(), key=lambda t: (-len(t[0]), tuple(map(_atom_key, t[0]))))
    return Expr(tuple(order))


def _combine(lhs: Dim, rhs: Dim, sign: int) -> Dim:
    total = dict(_terms(lhs))
    for monomial, coefficient in _terms(rhs):
        total[monomial] = total.get(monomial, 0) + sign * coefficient
    return _from_terms(total)


def _call(op: str, lhs: Dim, rhs: Dim) -> Dim:
    if not (_is_dim(lhs) and _is_dim(rhs)):
        wrong = lhs if not _is_dim(lhs) else rhs
        raise SpecError(f"{op}: sizes are integers, not {wrong!r}")
    if isinstance(lhs, int) and isinstance(rhs, int):
        return int(_evaluate_call(op, lhs, rhs))
    if op in ("floordiv", "ceildiv", "mod") and isinstance(rhs, int):
        if rhs <= 0:
            raise _no_divisor(op, rhs)
        if rhs == 1:
            return 0 if op == "mod" else lhs
        if all(c % rhs == 0 for _, c in _terms(lhs)):
            return 0 if op == "mod" else _from_terms({m: c // rhs for m, c in _terms(lhs)})
    if op in ("floordiv", "ceildiv", "mod") and lhs == rhs:
        return 0 if op == "mod" else 1
    if op in ("min", "max") and lhs == rhs:
        return lhs
    return Expr((((Call(op, lhs, rhs),), 1),))


def ceildiv(a: Dim, b: Dim) -> Dim:
    """`a / b` rounded up: how many blocks of `b` cover `a`."""
    return _call("ceildiv", a, b)


def minimum(a: Dim, b: Dim) -> Dim:
    """The smaller of two sizes."""
    return _call("min", a, b)


def maximum(a: Dim, b: Dim) -> Dim:
    """The larger of two sizes."""
    return _call("max", a, b)


def align(a: Dim, boundary: int) -> Dim:
    """`a` rounded up to a multiple of `boundary`."""
    return ceildiv(a, boundary) * boundary


def product(dims: Iterable[Dim]) -> Dim:
    """The product of sizes; 1 for none: the element count of a shape."""
    total: Dim = 1
    for dim in dims:
        total = total * dim
    return total


def symbols_of(*dims: Dim) -> frozenset[str]:
    """The names of every symbol in `dims`."""
    found: set[str] = set()
    for dim in dims:
        if isinstance(dim, Expr):
            for monomial, _ in dim.terms:
                for atom in monomial:
                    found |= {atom} if isinstance(atom, str) else symbols_of(atom.lhs, atom.rhs)
    return frozenset(found)


def as_symbol(dim: Dim) -> str | None:
    """The name, if `dim` is one bare symbol."""
    if isinstance(dim, Expr) and len(dim.terms) == 1:
        monomial, coefficient = dim.terms[0]
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], str):
            return monomial[0]
    return None


def evaluate(dim: Dim, values: Mapping[str, int]) -> int:
    """The number that `dim` is under `values`.

    Raises:
        InputError: A symbol has no value, a divisor is not positive, or the
            result does not fit a signed 64-bit integer.
    """
    if isinstance(dim, int):
        return dim
    total = 0
    for monomial, coefficient in dim.terms:
        term = coefficient
        for atom in monomial:
            term *= _evaluate_atom(atom, values)
        total += term
    if not -INT64_MAX - 1 <= total <= INT64_MAX:
        raise InputError(f"the size {format_dim(dim)} is {total}, more than 64 bits hold")
    return total


def _evaluate_atom(atom: Atom, values: Mapping[str, int]) -> int:
    if isinstance(atom, str):
        if atom not in values:
            raise InputError(f"no input gives the size {atom!r} a value", symbol=atom)
        return values[atom]
    return _evaluate_call(atom.op, evaluate(atom.lhs, values), evaluate(atom.rhs, values))


def substitute(dim: Dim, values: Mapping[str, Dim]) -> Dim:
    """`dim` with symbols replaced by other Dims; symbols not in `values` stay."""
    if isinstance(dim, int):
        return dim
    total: Dim = 0
    for monomial, coefficient in dim.terms:
        term: Dim = coefficient
        for atom in monomial:
            if isinstance(atom, str):
                term = term * values.get(atom, symbol(atom))
            else:
                term = term * _call(atom.op, substitute(atom.lhs, values), substitute(atom.rhs, values))
        total = total + term
    return total


def to_data(dim: Dim) -> Any:
    """`dim` as JSON data: an int, a symbol's name, or `[op, a, b]`."""
    if isinstance(dim, int):
        return dim
    total: Any = None
    for monomial, coefficient in dim.terms:
        factors: list[Any] = [_atom_data(a) for a in monomial]
        if coefficient != 1 or not factors:
            factors.append(coefficient)
        term = factors[0]
        for factor in factors[1:]:
            term = ["mul", term, factor]
        total = term if total is None else ["add", total, term]
    return total


def _atom_data(atom: Atom) -> Any:
    return atom if isinstance(atom, str) else [atom.op, to_data(atom.lhs), to_data(atom.rhs)]


MAX_DEPTH = 64
"""Deepest nesting that `from_data` follows: documents may come from strangers."""


MAX_TERMS = 4096
"""Most terms of one product that `from_data` multiplies out: a short document can ask for 2**60."""


def _term_count(value: Dim) -> int:
    return len(value.terms) if isinstance(value, Expr) else 1


def from_data(data: Any, depth: int = 0) -> Dim:
    """The inverse of `to_data`.

    Raises:
        ProgramError: `data` is not such an expression.
    """
    if isinstance(data, int) and not isinstance(data, bool):
        if abs(data) > INT64_MAX:
            raise ProgramError(f"the number {data} does not fit 64 bits")
        return data
    if isinstance(data, str) and SYMBOL.match(data):
        return symbol(data)
    if isinstance(data, list) and len(data) == 3 and depth < MAX_DEPTH:
        op, lhs, rhs = data[0], from_data(data[1], depth + 1), from_data(data[2], depth + 1)
        if op == "add":
            return lhs + rhs
        if op == "mul":
            if _term_count(lhs) * _term_count(rhs) > MAX_TERMS:
                raise ProgramError(f"a size expression of more than {MAX_TERMS} terms")
            return lhs * rhs
        if op in _FUNCTIONS:
            if op in ("floordiv", "ceildiv", "mod") and isinstance(rhs, int) and rhs <= 0:
                raise ProgramError(f"{op} by {rhs} in a size expression")
            return _call(op, lhs, rhs)
    # reprlib stops at a depth of its own, where str would follow a hostile document down.
    raise ProgramError(f"not a size expression: {reprlib.repr(data)[:80]}")


_INFIX = {"floordiv": "//", "mod": "%"}


def format_dim(dim: Dim) -> str:
    """`dim` as a person writes it: `3*n + cdiv(m, 256)`."""
    if isinstance(dim, int):
        return str(dim)
    parts: list[str] = []
    for monomial, coefficient in dim.terms:
        factors = [_format_atom(a) for a in monomial]
        if abs(coefficient) != 1 or not factors:
            factors.insert(0, str(abs(coefficient)))
        sign = "-" if coefficient < 0 else "+"
        parts.append(f"{sign} {'*'.join(factors)}")
    text = " ".join(parts)
    return text[2:] if text.startswith("+ ") else "-" + text[2:]


def _format_atom(atom: Atom) -> str:
    if isinstance(atom, str):
        return atom
    lhs, rhs = format_dim(atom.lhs), format_dim(atom.rhs)
    if atom.op in _INFIX:
        return f"(({lhs}) {_INFIX[atom.op]} ({rhs}))"
    return f"{'cdiv' if atom.op == 'ceildiv' else atom.op}({lhs}, {rhs})"


def format_shape(shape: Iterable[Dim]) -> str:
    """A shape as a person writes it: `(batch, 1024)`."""
    return "(" + ", ".join(format_dim(d) for d in shape) + ")"
