"""Tensor: a value, or the promise of one while a function is traced."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeAlias

from tessera.language.builder import GraphBuilder
from tessera.language.location import caller_location
from tessera.program.dim import Dim, format_shape, product
from tessera.program.dtype import DType, as_dtype, bool_
from tessera.program.errors import ShapeError, SpecError, TraceError
from tessera.program.spec import TensorSpec

if TYPE_CHECKING:
    import numpy as np

    NdArray = np.ndarray[Any, np.dtype[Any]]
    TensorLike: TypeAlias = "Tensor | NdArray | np.generic | bool | int | float"


class UnknownAttributeError(TraceError, AttributeError):
    """A Tensor has no attribute of that name; an AttributeError too, so that `hasattr` works."""


def annotated(kind: type, params: object, *, example: str) -> Any:
    """`Annotated[kind, TensorSpec]` for `kind[dtype, size, …]`.

    Raises:
        SpecError: `params` are not a dtype and sizes.
    """
    dtype, *sizes = params if isinstance(params, tuple) else (params,)
    if not isinstance(dtype, DType):
        raise SpecError(
            f"ts.{kind.__name__}[{dtype!r}, …]: the dtype comes first, and {dtype!r} is none of Tessera's",
            hint=example,
        )
    return Annotated[kind, TensorSpec(tuple(sizes), dtype)]


class Array:
    """Annotation of a kernel's array: `ts.Array[ts.f32, "n"]`, a dtype, then the size of each axis."""

    def __class_getitem__(cls, params: object) -> Any:
        return annotated(cls, params, example='ts.Array[ts.f32, "n"]')


class Size:
    """Annotation of a kernel's parameter that is filled in from its arrays' sizes: `ts.Size[ts.i32, "n"]`."""

    def __class_getitem__(cls, params: object) -> Any:
        return annotated(cls, params, example='ts.Size[ts.i32, "n"]')


class Tensor:
    """An n-dimensional array that operators make and take. No operator changes it.

    Outside a trace it holds a NumPy array; while a `ts.jit` function is traced it
    stands for a value that is not there yet. `ts.Tensor[ts.bf16, "n", 1024]` as an
    annotation carries a TensorSpec.

    Args:
        data: Anything that NumPy makes an array of.
        dtype: Element type; by default that of `data` (f32 for Python floats).
    """

    __slots__ = ("__weakref__", "_data", "_dtype", "_trace")

    _data: NdArray | None
    _dtype: DType
    _trace: tuple[GraphBuilder, int] | None

    def __init__(self, data: object, dtype: DType | str | None = None) -> None:
        from tessera.language.creation import to_array

        self._trace = None
        self._data, self._dtype = to_array(data, dtype)

    @classmethod
    def traced(cls, builder: GraphBuilder, index: int) -> Tensor:
        """The tensor that node `index` of `builder` will be."""
        self = cls.__new__(cls)
        self._data, self._trace = None, (builder, index)
        self._dtype = builder.nodes[index].dtype
        return self

    def __class_getitem__(cls, params: object) -> Any:
        return annotated(cls, params, example='ts.Tensor[ts.bf16, "batch", 1024]')

    @property
    def shape(self) -> tuple[Dim, ...]:
        """Sizes by axis; a symbolic size while traced."""
        if self._trace is not None:
            return self._trace[0].nodes[self._trace[1]].shape
        return tuple(self.numpy().shape)

    @property
    def dtype(self) -> DType:
        """Element type."""
        return self._dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> Dim:
        """Number of elements."""
        return product(self.shape)

    @property
    def is_traced(self) -> bool:
        """Whether this tensor has no value yet."""
        return self._trace is not None

    @property
    def trace_node(self) -> tuple[GraphBuilder, int]:
        """The graph and node of a traced tensor."""
        if self._trace is None:
            raise TraceError("this tensor has a value and is no node of a graph")
        return self._trace

    def numpy(self) -> NdArray:
        """The value as a NumPy array that shares memory with the tensor.

        Raises:
            TraceError: The function is being traced: there is no value yet.
        """
        if self._data is None:
            self._no_value("its values")
        return self._data

    def assign(self, data: object) -> None:
        """Replace the value by another of the same shape, converted to the same dtype.

        Raises:
            ShapeError: The shape is another.
        """
        from tessera.language.creation import to_array

        self._known("assign")
        array, _ = to_array(data, self._dtype)
        if array.shape != self.shape:
            raise ShapeError(f"a tensor of shape {format_shape(self.shape)} cannot hold {array.shape}")
        self._data = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NdArray:
        import numpy as np

        return np.array(self._known("np.asarray"), dtype=dtype, copy=copy)

    def _known(self, wanted: str) -> NdArray:
        if self._data is None:
            self._no_value(wanted)
        return self._data

    def _no_value(self, wanted: str) -> NoReturn:
        builder, index = self.trace_node
        raise TraceError(
            f"{builder.label(index)}, {self._dtype}{format_shape(self.shape)}, has no value while "
            f"{builder.name} is traced, but {wanted} needs one",
            hint="branch on shapes or on Python values; for values of tensors use operators such as "
            "ts.where, ts.maximum and ts.minimum",
            location=caller_location(),
        )

    def __bool__(self) -> bool:
        return bool(self._known("a condition (bool)"))

    def __int__(self) -> int:
        return int(self._known("int()"))

    def __float__(self) -> float:
        return float(self._known("float()"))

    def __index__(self) -> int:
        return operator.index(self._known("an index"))

    def item(self) -> bool | int | float:
        """The only element, as a Python number."""
        number: bool | int | float = self._known("item()").item()
        return number

    def tolist(self) -> Any:
        """The value as nested lists of Python numbers."""
        return self._known("tolist()").tolist()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a Tensor of rank 0")
        size = self.shape[0]
        return size if isinstance(size, int) else len(self._known("len()"))

    def __iter__(self) -> Iterator[Tensor]:
        if self._trace is not None and self.shape and isinstance(self.shape[0], int):
            return (self[i] for i in range(self.shape[0]))
        rows = self._known("iteration over its rows")
        return (Tensor(row, self._dtype) for row in rows)

    def __getitem__(self, key: Any) -> Tensor:
        from tessera.language.indexing import index

        entries = key if isinstance(key, tuple) else (key,)
        if self._trace is not None or any(isinstance(e, Tensor) and e.is_traced for e in entries):
            return index(self, key)
        known = tuple(e.numpy() if isinstance(e, Tensor) else e for e in entries)
        return Tensor(self.numpy()[known if isinstance(key, tuple) else known[0]], self._dtype)

    def __contains__(self, item: object) -> bool:
        return item in self._known("the in operator")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(f"'Tensor' object has no attribute {name!r}")
        raise UnknownAttributeError(
            f"a Tensor has no attribute {name!r}", hint=_similar(name), location=caller_location()
        )

    def __repr__(self) -> str:
        kind = f"{self._dtype}{format_shape(self.shape)}"
        if self._trace is not None:
            return f"<{type(self).__name__} {self._trace[0].label(self._trace[1])}: {kind}, traced>"
        return f"{type(self).__name__}({self._data}, {kind})"

    # Operators. Each is the function of the same name in tessera.language.operators.

    def __neg__(self) -> Tensor:
        return ops.neg(self)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return ops.abs(self)

    def __add__(self, other: TensorLike) -> Tensor:
        return ops.add(self, other)

    def __radd__(self, other: TensorLike) -> Tensor:
        return ops.add(other, self)

    def __sub__(self, other: TensorLike) -> Tensor:
        return ops.sub(self, other)

    def __rsub__(self, other: TensorLike) -> Tensor:
        return ops.sub(other, self)

    def __mul__(self, other: TensorLike) -> Tensor:
        return ops.mul(self, other)

    def __rmul__(self, other: TensorLike) -> Tensor:
        return ops.mul(other, self)

    def __truediv__(self, other: TensorLike) -> Tensor:
        return ops.div(self, other)

    def __rtruediv__(self, other: TensorLike) -> Tensor:
        return ops.div(other, self)

    def __matmul__(self, other: TensorLike) -> Tensor:
        return ops.matmul(self, other)

    def __rmatmul__(self, other: TensorLike) -> Tensor:
        return ops.matmul(other, self)

    def __pow__(self, exponent: TensorLike) -> Tensor:
        return ops.pow(self, exponent)

    def __rpow__(self, base: TensorLike) -> Tensor:
        return ops.pow(base, self)

    def __floordiv__(self, other: TensorLike) -> Tensor:
        return ops.floordiv(self, other)

    def __rfloordiv__(self, other: TensorLike) -> Tensor:
        return ops.floordiv(other, self)

    def __mod__(self, other: TensorLike) -> Tensor:
        return ops.mod(self, other)

    def __rmod__(self, other: TensorLike) -> Tensor:
        return ops.mod(other, self)

    def _logical(self, symbol: str, name: str, *operands: TensorLike) -> Tensor:
        for value in (self, *operands):
            kind = getattr(value, "dtype", bool_ if isinstance(value, bool) else None)
            if str(kind) != "bool":
                raise TraceError(
                    f"{symbol} is for bool tensors; one operand is {kind or type(value).__name__}",
                    hint=f"compare first, or ask whether it is not 0: ts.{name}",
                    location=caller_location(),
                )
        function: Callable[..., Tensor] = getattr(ops, name)
        return function(self, *operands)

    def __and__(self, other: TensorLike) -> Tensor:
        return self._logical("&", "logical_and", other)

    def __or__(self, other: TensorLike) -> Tensor:
        return self._logical("|", "logical_or", other)

    def __xor__(self, other: TensorLike) -> Tensor:
        return self._logical("^", "logical_xor", other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __invert__(self) -> Tensor:
        return self._logical("~", "logical_not")

    def _unsupported(self, symbol: str) -> NoReturn:
        raise TraceError(
            f"Tensor has no operator {symbol}",
            hint=f"operators: {', '.join(ops.OPERATORS)}",
            location=caller_location(),
        )

    def __lshift__(self, _: object) -> NoReturn:
        self._unsupported("<<")

    def __rshift__(self, _: object) -> NoReturn:
        self._unsupported(">>")

    def __lt__(self, other: TensorLike) -> Tensor:
        return ops.lt(self, other)

    def __le__(self, other: TensorLike) -> Tensor:
        return ops.le(self, other)

    def __gt__(self, other: TensorLike) -> Tensor:
        return ops.gt(self, other)

    def __ge__(self, other: TensorLike) -> Tensor:
        return ops.ge(self, other)

    def __eq__(self, other: TensorLike) -> Tensor:  # type: ignore[override]  # elementwise, as in NumPy
        return ops.eq(self, other)

    def __ne__(self, other: TensorLike) -> Tensor:  # type: ignore[override]
        return ops.ne(self, other)

    __hash__ = object.__hash__

    def reshape(self, *shape: Dim | Sequence[Dim]) -> Tensor:
        """The same elements in another shape; one size may be -1."""
        return ops.reshape(self, *shape)

    def transpose(self, *axes: int | Sequence[int]) -> Tensor:
        """The axes in another order; reversed if none are given."""
        flat = axes[0] if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
        return ops.transpose(self, flat or None)  # type: ignore[arg-type]

    @property
    def T(self) -> Tensor:  # noqa: N802 - the name that NumPy made known
        """The axes reversed."""
        return ops.transpose(self)

    def sum(self, axis: int | Sequence[int] | None = None, *, keepdims: bool = False) -> Tensor:
        """The sum over `axis`, or over all."""
        return ops.sum(self, axis, keepdims=keepdims)

    def mean(self, axis: int | Sequence[int] | None = None, *, keepdims: bool = False) -> Tensor:
        """The mean over `axis`, or over all."""
        return ops.mean(self, axis, keepdims=keepdims)

    def max(self, axis: int | Sequence[int] | None = None, *, keepdims: bool = False) -> Tensor:
        """The largest element along `axis`, or of all."""
        return ops.max(self, axis, keepdims=keepdims)

    def min(self, axis: int | Sequence[int] | None = None, *, keepdims: bool = False) -> Tensor:
        """The smallest element along `axis`, or of all."""
        return ops.min(self, axis, keepdims=keepdims)

    def cast(self, dtype: DType | str) -> Tensor:
        """The elements in another dtype."""
        return ops.cast(self, as_dtype(dtype, what="cast"))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from tessera.language.numpy_calls import call_ufunc

        return call_ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, function: Any, _types: Any, args: Any, kwargs: Any) -> Any:
        from tessera.language.numpy_calls import call_function

        return call_function(function, args, kwargs)


def _similar(name: str) -> str:
    import difflib

    known = [n for n in dir(Tensor) if not n.startswith("_")]
    if name in ops.OPERATORS:
        return f"write ts.{name}(x)"
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"attributes: {', '.join(known)}"


# At the end: operators need Tensor, and Tensor's methods need operators.
from tessera.language import operators as ops  # noqa: E402
