"""The parameter types of a CUDA C++ kernel, read from the name that its type has in PTX.

PTX says of a pointer only that it has 8 bytes. The compiler is therefore asked for the name of a template
instance, `probe<decltype(&kernel)>`, which spells the kernel's whole type, `extern "C"` or not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

PROBE = "tessera_kernel_type"
"""The template that is compiled beside the kernel."""
PROBE_SOURCE = f"\ntemplate <class> __global__ void {PROBE}() {{}}\n"
"""Its definition: behind the user's text, so that no line moves."""

_BUILTIN = {
    "v": "void", "w": "wchar_t", "b": "bool", "c": "char", "a": "signed char", "h": "unsigned char",
    "s": "short", "t": "unsigned short", "i": "int", "j": "unsigned int", "l": "long", "m": "unsigned long",
    "x": "long long", "y": "unsigned long long", "n": "__int128", "o": "unsigned __int128", "f": "float",
    "d": "double", "e": "long double",
}  # fmt: skip
"""Source: Itanium C++ ABI, 5.1.5.2, <builtin-type>."""

_SPELLINGS: dict[str, tuple[str, ...]] = {
    "f64": ("double",),
    "f32": ("float",),
    "tf32": ("float",),
    "f16": ("__half",),
    "bf16": ("__nv_bfloat16",),
    "f8e4m3": ("__nv_fp8_e4m3",),
    "f8e5m2": ("__nv_fp8_e5m2",),
    "i64": ("long", "long long", "unsigned long", "unsigned long long", "longlong", "ulonglong", "ulong"),
    "i32": ("int", "unsigned int", "uint"),
    "i16": ("short", "unsigned short", "ushort"),
    "i8": ("signed char", "char"),
    "u64": ("unsigned long", "unsigned long long", "ulonglong", "ulong", "long", "long long", "longlong"),
    "u32": ("unsigned int", "uint", "int"),
    "u16": ("unsigned short", "ushort", "short"),
    "u8": ("unsigned char", "char", "uchar"),
    "bool": ("bool",),
}
"""What C++ calls each dtype. Kernels read integers with a sign or without, whatever the array holds."""
_PACKED = {
    "f16": ("__half2",),
    "bf16": ("__nv_bfloat162",),
    "f8e4m3": ("__nv_fp8x2_e4m3", "__nv_fp8x4_e4m3"),
    "f8e5m2": ("__nv_fp8x2_e5m2", "__nv_fp8x4_e5m2"),
    "i8": ("int", "unsigned int"),
    "u8": ("int", "unsigned int"),
}
"""Several elements in one value: what arithmetic on pairs and dp4a take."""
_VECTOR = re.compile(r"(float|double|char|uchar|short|ushort|int|uint|long|ulong|longlong|ulonglong)[1-4]")
_ANY_BITS = ("int", "uint")
"""Vectors of these move any elements: a `uint4` is 16 bytes of whatever it is."""
_BITS = ("unsigned char", "unsigned short", "unsigned int", "unsigned long", "unsigned long long")
_NARROW_FLOATS = ("f16", "bf16", "f8e4m3", "f8e5m2")
_KNOWN = frozenset(
    {*_BUILTIN.values(), *(n for table in (_SPELLINGS, _PACKED) for names in table.values() for n in names)}
    - {"void"}
)


@dataclass(frozen=True, slots=True)
class CppType:
    """One parameter's type."""

    name: str
    """Of what is pointed to, or of the value: `float`, `__half2`, `ns::Particle`."""
    pointer: bool = False
    constant: bool = False
    """Whether the kernel may only read what is pointed to."""

    def __str__(self) -> str:
        return f"{'const ' if self.constant else ''}{self.name}{'*' if self.pointer else ''}"

    def holds(self, dtype: str) -> bool:
        """Whether elements of `dtype` may be read as this.

        As their own type, vectors of it, and several packed into one; narrow floats as bits too. What `void`
        and structures hold is for the kernel to know.
        """
        vector = _VECTOR.fullmatch(self.name)
        name = vector[1] if vector else self.name
        if name not in _KNOWN and not vector:
            return True
        return (
            name in (*_SPELLINGS[dtype], *_PACKED.get(dtype, ()))
            or (vector is not None and name in _ANY_BITS)
            or (dtype in _NARROW_FLOATS and name in _BITS)
            or (dtype == "bool" and name in _SPELLINGS["u8"])
        )


def kernel_types(lowered: str) -> tuple[CppType, ...] | None:
    """The parameters of the kernel whose probe is called `lowered` in PTX.

    None where the name holds something that this does not read.

    Source: Itanium C++ ABI, 5.1 (mangling), as NVRTC writes it.
    """
    head = f"_Z{len(PROBE)}{PROBE}I"
    if not lowered.startswith(head):
        return None
    reader = _Reader(lowered, len(head))
    reader.seen.append(_Named(PROBE))
    try:
        kernel = reader.type()
    except (_UnknownError, IndexError, ValueError):
        return None
    inner = kernel.inner
    if kernel.name != "*" or inner is None or inner.name != "()":
        return None
    return tuple(_plain(p) for p in inner.parts[1:] if p.name != "void")


def declared_as(kind: str, found: CppType) -> bool:
    """Whether a parameter declared as `kind` (`f32*`, `i32`) fits the C++ type."""
    pointer = kind.endswith("*")
    return found.pointer == pointer and found.holds(kind.rstrip("*"))


def dtypes_of(found: CppType) -> Sequence[str]:
    """The dtypes that fit a C++ type best."""
    return [dtype for dtype, names in _SPELLINGS.items() if found.name in names and dtype != "tf32"]


class _UnknownError(Exception):
    """A production that no parameter of a kernel needs."""


@dataclass(frozen=True, slots=True)
class _Named:
    """A type as it is read: its name, `*` and what it points to, `()` and result and parameters."""

    name: str
    inner: _Named | None = None
    parts: tuple[_Named, ...] = ()
    constant: bool = False


def _plain(found: _Named) -> CppType:
    if found.name != "*" or found.inner is None:
        return CppType(found.name)
    inner = found.inner
    name = f"{_plain(inner)}" if inner.name == "*" else inner.name
    return CppType(name, pointer=True, constant=inner.constant)


@dataclass(slots=True)
class _Reader:
    """Reads types off a mangled name, and remembers those that may be named again."""

    text: str
    at: int
    seen: list[_Named]

    def __init__(self, text: str, at: int) -> None:
        self.text, self.at, self.seen = text, at, []

    def take(self, letters: str) -> bool:
        found = self.text.startswith(letters, self.at)
        self.at += len(letters) * found
        return found

    def type(self) -> _Named:
        letter = self.text[self.at]
        if letter in _BUILTIN:
            self.at += 1
            return _Named(_BUILTIN[letter])
        if letter == "S" and not self.take("St"):
            return self.again()
        if letter.isdigit() or letter in "NS":
            return self.named()
        self.at += 1
        return self.keep(self.built(letter))

    def built(self, letter: str) -> _Named:
        if letter in "PRO":
            return _Named("*" if letter == "P" else "&", self.type())
        if letter in "rVK":
            return self.qualified(letter)
        if letter == "F":
            self.take("Y")
            parts = []
            while not self.take("E"):
                parts.append(self.type())
            return _Named("()", None, tuple(parts))
        if letter == "A":
            end = self.text.index("_", self.at)
            size, self.at = self.text[self.at : end], end + 1
            return _Named(f"{_plain(self.type())}[{size}]")
        raise _UnknownError

    def qualified(self, letter: str) -> _Named:
        constant = letter == "K"
        while self.text[self.at] in "VK":
            constant |= self.text[self.at] == "K"
            self.at += 1
        inner = self.type()
        return _Named(inner.name, inner.inner, inner.parts, constant)

    def again(self) -> _Named:
        end = self.text.index("_", self.at)
        digits = self.text[self.at + 1 : end]
        self.at = end + 1
        found = self.seen[int(digits, 36) + 1 if digits else 0]
        return self.keep(self.with_arguments(found)) if self.text[self.at : self.at + 1] == "I" else found

    def named(self) -> _Named:
        if not self.take("N"):
            found = self.keep(_Named(self.word()))
            return self.keep(self.with_arguments(found)) if self.text[self.at] == "I" else found
        while self.text[self.at] in "rVK":
            self.at += 1
        found = (
            self.again()
            if self.text[self.at] == "S" and not self.take("St")
            else self.keep(_Named(self.word()))
        )
        while not self.take("E"):
            if self.text[self.at] == "I":
                found = self.with_arguments(found)
            else:
                found = _Named(f"{found.name}::{self.word()}")
            self.keep(found)
        return found

    def word(self) -> str:
        digits = re.compile(r"\d+").match(self.text, self.at)
        if digits is None:
            raise _UnknownError
        start = digits.end()
        self.at = start + int(digits[0])
        return self.text[start : self.at]

    def with_arguments(self, found: _Named) -> _Named:
        self.at += 1
        arguments = []
        while not self.take("E"):
            arguments.append(self.argument())
        return _Named(f"{found.name}<{', '.join(arguments)}>")

    def argument(self) -> str:
        if not self.take("L"):
            return str(_plain(self.type()))
        self.type()
        end = self.text.index("E", self.at)
        value, self.at = self.text[self.at : end], end + 1
        return value.replace("n", "-")

    def keep(self, found: _Named) -> _Named:
        self.seen.append(found)
        return found
