"""Every error that Tessera raises on purpose.

TesseraError
├── SpecError                a TensorSpec, dtype or shape that cannot be
│   └── ShapeError           shapes that do not fit together
├── TraceError               a function that cannot become a graph
├── KernelError              a kernel definition that cannot be launched
├── CompileError             source that does not compile
│   ├── ArchitectureError    an architecture that is unknown or lacks a feature
│   ├── OptionError          a compiler option that is unknown or out of range
│   ├── ResourceError        a kernel over a hardware limit
│   └── ToolchainError       a compiler or linker that is missing or failed
├── ProgramError             a Program document that is malformed
├── PackageError             a package file that cannot be read or written
│   ├── IntegrityError       a package whose bytes are not what it says
│   └── SignatureError       a signature, key or certificate that is missing, wrong or not trusted
├── HistoryError             a history of benchmarks that cannot be read or written
├── RecordingError           a recording of GPUs that cannot be read or written
├── DeviceError              a device that is absent or failed
│   └── OutOfMemoryError     no memory left on a device
├── InputError               inputs that do not match a Program
│   └── SizeError            a size by a name that the Program has not, or one below 0
├── ServeError               a server that cannot start or answer
│   └── OverloadedError      a queue that is full
├── ConfigError              a setting or project file that is wrong
│   └── WriteError           settings or records that cannot be written: no space, no permission
└── MissingDependencyError   an optional package that is not installed
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """A place in a source file."""

    file: str
    """Path as Python reports it."""
    line: int
    """1-based line."""
    column: int | None = None
    """0-based column of the first offending character, if known."""
    end_column: int | None = None
    """0-based column after the last offending character, if known."""
    function: str | None = None
    """Name of the enclosing function, if known."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class TesseraError(Exception):
    """Root of the tree above.

    Args:
        message: What went wrong, where, and the value measured against its limit.
        hint: What to do about it: the next command to type or line to change.
        location: Where in the user's source, if the error has such a place.
        fields: Structured facts about the error, for `--json` and for handlers.
    """

    exit_status = 1
    """Exit status of a command that ends with this error (2: the call itself was wrong)."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        location: SourceLocation | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.location = location
        self.fields = fields

    def __str__(self) -> str:
        where = f"{self.location}: " if self.location else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.message}{hint}"

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("fields", {})
        if name in fields:
            return fields[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.hint, self.location, self.fields)


def cause_of(error: ImportError) -> str:
    """The line of a failed import that says why: NumPy and others put it below a page of advice."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _rebuild(
    kind: type[TesseraError],
    message: str,
    hint: str | None,
    location: SourceLocation | None,
    fields: dict[str, Any],
) -> TesseraError:
    error = kind.__new__(kind)
    TesseraError.__init__(error, message, hint=hint, location=location, **fields)
    return error


class SpecError(TesseraError):
    """A TensorSpec, dtype or shape that cannot be."""


class ShapeError(SpecError):
    """Shapes that do not fit together."""


class TraceError(TesseraError):
    """A function that cannot become a graph."""


class KernelError(TesseraError):
    """A kernel definition that cannot be launched."""


class CompileError(TesseraError):
    """Source that does not compile."""


class ArchitectureError(CompileError):
    """An architecture that is unknown or lacks a feature."""

    exit_status = 2


class OptionError(CompileError):
    """A compiler option that is unknown or out of range."""

    exit_status = 2


class ResourceError(CompileError):
    """A kernel over a hardware limit; `fields` has `resource`, `required` and `limit`."""


class ToolchainError(CompileError):
    """A compiler or linker that is missing or failed."""


class ProgramError(TesseraError):
    """A Program document that is malformed; `fields["path"]` names the field."""


class PackageError(TesseraError):
    """A package file that cannot be read or written."""


class IntegrityError(PackageError):
    """A package whose bytes are not what it says; `fields["entry"]` names the entry."""


class SignatureError(PackageError):
    """A signature, key or certificate that is missing, wrong or not trusted.

    `fields` has the `rule` that refused it and, where keys differ, the fingerprints `found` and `wanted`.
    """


class HistoryError(TesseraError):
    """A history of benchmarks that cannot be read or written."""


class RecordingError(TesseraError):
    """A recording of GPUs that cannot be read or written."""


class DeviceError(TesseraError):
    """A device that is absent or failed."""


class OutOfMemoryError(DeviceError):
    """No memory left on a device; `fields` has `required` and `available`, in bytes."""


class InputError(TesseraError):
    """Inputs that do not match a Program; `fields["input"]` names the input."""


class SizeError(InputError):
    """A size by a name that the Program has not, or one below 0."""

    exit_status = 2


class ServeError(TesseraError):
    """A server that cannot start or answer."""


class OverloadedError(ServeError):
    """A queue that is full; `fields["retry_after_s"]` says when to come back."""


class ConfigError(TesseraError):
    """A setting or project file that is wrong."""

    exit_status = 2


class WriteError(ConfigError):
    """Settings or records that cannot be written: no space, no permission."""

    exit_status = 1


class MissingDependencyError(TesseraError):
    """An optional package that is not installed."""

    @classmethod
    def extra(cls, package: str, extra: str, *, needed_for: str) -> MissingDependencyError:
        """The error for a missing package that an extra of Tessera brings."""
        return cls(
            f"{needed_for} needs the Python package {package!r}, which is not installed",
            hint=f"pip install 'tessera[{extra}]'",
            package=package,
            extra=extra,
        )
