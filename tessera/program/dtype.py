"""Element types of tensors and scalars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tessera.program.errors import SpecError

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["float", "int", "uint", "bool"]


@dataclass(frozen=True, slots=True)
class DType:
    """One element type."""

    name: str
    """Short name, as in `ts.bf16`."""
    kind: Kind
    """`float`, `int`, `uint` or `bool`."""
    bits: int
    """Bits of one element in memory."""
    numpy_name: str
    """Name of the NumPy (or ml_dtypes) type with the same memory layout."""

    @property
    def itemsize(self) -> int:
        """Bytes of one element in memory."""
        return self.bits // 8

    @property
    def is_float(self) -> bool:
        """Whether this is a floating-point type."""
        return self.kind == "float"

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype with the same memory layout."""
        # numpy and ml_dtypes cost 70 ms; only those who touch data pay.
        import numpy as np

        if self in (bf16, f8e4m3, f8e5m2):
            import ml_dtypes

            scalar: type[Any] = getattr(ml_dtypes, self.numpy_name)
            return np.dtype(scalar)
        return np.dtype(self.numpy_name)

    def __repr__(self) -> str:
        return f"ts.{self.name}"

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        # The one dtype of that name again: msgspec leaves out a default only if it is the same object.
        return as_dtype, (self.name,)


# msgspec writes a dataclass field by field and never asks the codec's hook; so it must not know one.
del DType.__dataclass_fields__

f64 = DType("f64", "float", 64, "float64")
f32 = DType("f32", "float", 32, "float32")
tf32 = DType("tf32", "float", 32, "float32")
"""float32 in memory; matrix products may round their operands to 10 mantissa bits."""
f16 = DType("f16", "float", 16, "float16")
bf16 = DType("bf16", "float", 16, "bfloat16")
f8e4m3 = DType("f8e4m3", "float", 8, "float8_e4m3fn")
f8e5m2 = DType("f8e5m2", "float", 8, "float8_e5m2")
i64 = DType("i64", "int", 64, "int64")
i32 = DType("i32", "int", 32, "int32")
i16 = DType("i16", "int", 16, "int16")
i8 = DType("i8", "int", 8, "int8")
u64 = DType("u64", "uint", 64, "uint64")
u32 = DType("u32", "uint", 32, "uint32")
u16 = DType("u16", "uint", 16, "uint16")
u8 = DType("u8", "uint", 8, "uint8")
bool_ = DType("bool", "bool", 8, "bool")

DTYPES: dict[str, DType] = {
    d.name: d
    for d in (f64, f32, tf32, f16, bf16, f8e4m3, f8e5m2, i64, i32, i16, i8, u64, u32, u16, u8, bool_)
}
"""Every dtype by name."""

KERNEL_DTYPES = frozenset({u64, u32, u16})
"""Arrays and numbers of hand-written kernels alone have these: no operator is defined on them."""

_ALIASES: dict[str, DType] = {
    **DTYPES,
    **{d.numpy_name: d for d in DTYPES.values() if d is not tf32},
    "half": f16,
    "float": f32,
    "double": f64,
    "fp8_e4m3": f8e4m3,
    "fp8_e5m2": f8e5m2,
    "float8_e4m3": f8e4m3,
}


def as_dtype(value: DType | str | Any, *, what: str = "dtype") -> DType:
    """The `DType` for a DType, one of its names, or a NumPy dtype or scalar type.

    Raises:
        SpecError: No such type; `what` says which setting held it.
    """
    if isinstance(value, DType):
        return value
    name = value if isinstance(value, str) else _numpy_name(value)
    found = _ALIASES.get(name) if name else None
    if found is None:
        raise SpecError(
            f"{what}: unknown dtype {value!r}", hint="one of " + ", ".join(f"ts.{n}" for n in DTYPES)
        )
    return found


def _numpy_name(value: Any) -> str | None:
    if isinstance(value, type):
        return {float: "f32", int: "i64", bool: "bool"}.get(value, value.__name__)
    name = getattr(value, "name", None)
    return name if isinstance(name, str) else None
