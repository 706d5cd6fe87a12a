"""Kernels written by hand: a Numba CUDA function, its signature and its launch rule."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from tessera.language.annotations import caller_names
from tessera.language.builder import active
from tessera.language.execution import kernel_executor
from tessera.language.launch import Grid, Size, block_of, grid_of, shared_of
from tessera.language.launcher import launcher
from tessera.language.location import caller_location, definition_location
from tessera.language.parameters import KernelParam, kernel_parameters
from tessera.language.promotion import holds
from tessera.language.tensor import Tensor
from tessera.language.written import Written, function_tree, written_arrays
from tessera.program.dim import Dim, as_symbol, evaluate, format_dim, format_shape
from tessera.program.errors import InputError, KernelError, SourceLocation, TesseraError, TraceError

if TYPE_CHECKING:
    import ast

    import numpy as np

__all__ = ["Kernel", "KernelParam", "kernel"]

_T = TypeVar("_T")
_ENTRY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""What an entry of a cubin may be called."""


class Kernel:
    """A Numba CUDA kernel with all that is needed to launch it; made by `ts.kernel`.

    Args:
        fn: A plain Python function in the language of `numba.cuda`.
        grid: Blocks by axis: see `kernel`.
        block: Threads by axis: see `kernel`.
        shared_bytes: Dynamic shared memory per block: see `kernel`.
        outputs: Arrays that the kernel writes; by default those its source stores to.
        name: Entry name; by default the function's.
        names: What annotations given as text may name besides globals.

    Raises:
        KernelError: The definition cannot be launched; `location` is the line at fault.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        grid: Grid,
        block: Grid,
        shared_bytes: Size = 0,
        outputs: Sequence[str] | None = None,
        name: str | None = None,
        names: Mapping[str, Any] | None = None,
    ) -> None:
        # A function under @cuda.jit keeps the plain one as py_func.
        self.fn: Callable[..., Any] = getattr(fn, "py_func", fn)
        """The plain Python function."""
        if not inspect.isfunction(self.fn):
            raise KernelError(
                f"a kernel is written as a Python function, not {type(self.fn).__name__} {self.fn!r:.60}",
                hint="@ts.kernel(grid=…, block=…) above def …(x: ts.Array[ts.f32, 'n']):",
                location=caller_location(),
            )
        self.name: str = name or self.fn.__name__
        """Entry name."""
        self.location: SourceLocation | None = definition_location(self.fn)
        """Where the kernel is defined."""
        if not _ENTRY.fullmatch(self.name):
            raise KernelError(
                f"a kernel cannot be called {self.name!r}",
                hint="name='my_kernel': letters, digits and _",
                location=self.location,
            )
        tree = function_tree(self.fn)
        self.params: tuple[KernelParam, ...] = self._checked(
            self.location, lambda: kernel_parameters(self.name, self.fn, names or {}, tree)
        )
        """Parameters in order."""
        self.given: tuple[KernelParam, ...] = tuple(p for p in self.params if p.kind != "size")
        """Those that callers give an argument for."""
        self.grid: tuple[Dim, Dim, Dim] = self._checked(
            self._said_at(tree, "grid"), lambda: grid_of(self.name, grid, self.params)
        )
        """Blocks by axis, over symbols of the shapes and integer scalars."""
        self.block: tuple[int, int, int] = self._checked(
            self._said_at(tree, "block"), lambda: block_of(self.name, block, self.params)
        )
        """Threads by axis."""
        self.shared_bytes: Dim = self._checked(
            self._said_at(tree, "shared_bytes"), lambda: shared_of(self.name, shared_bytes, self.params)
        )
        """Dynamic shared memory per block."""
        self.outputs: tuple[str, ...] = self._checked(
            self._said_at(tree, "outputs"), lambda: self._outputs(tree, outputs)
        )
        """Arrays that the kernel writes, in the order of the parameters."""
        functools.update_wrapper(self, self.fn)

    def _said_at(self, tree: ast.FunctionDef | None, argument: str) -> SourceLocation | None:
        """Where the decorator says `argument`; the kernel's own place if it does not."""
        calls = [d for d in tree.decorator_list if hasattr(d, "keywords")] if tree else []
        value = next((k.value for d in calls for k in d.keywords if k.arg == argument), None)
        if value is None:
            return self.location
        return SourceLocation(
            self.source_file, value.lineno, value.col_offset, value.end_col_offset, self.fn.__name__
        )

    def _checked(self, place: SourceLocation | None, make: Callable[[], _T]) -> _T:
        """What `make` gives; its errors get `place` if they have none of their own."""
        try:
            return make()
        except TesseraError as error:
            error.location = error.location or place
            raise

    def _outputs(self, tree: ast.FunctionDef | None, given: Sequence[str] | None) -> tuple[str, ...]:
        arrays = {p.name: len(p.shape) for p in self.params if p.kind == "array"}
        example = f"outputs=({next(reversed(arrays))!r},)"
        if given is None and tree is None:
            raise KernelError(f"{self.name}: its source cannot be read to see what it writes", hint=example)
        written = written_arrays(tree, arrays) if tree else Written(frozenset(), frozenset())
        if given is None:
            found = written.certain | written.possible
        else:
            found = frozenset((given,) if isinstance(given, str) else given)
            self._check_given(found, written, arrays)
        if not found:
            raise KernelError(
                f"{self.name} writes no array, so it can give back nothing",
                hint=f"store a result, as in {next(reversed(arrays))}[i] = ..., or say {example}",
            )
        return tuple(name for name in arrays if name in found)

    def _check_given(self, given: frozenset[str], written: Written, arrays: Mapping[str, int]) -> None:
        unknown = sorted(given - set(arrays))
        if unknown:
            raise KernelError(
                f"{self.name}: outputs: {unknown[0]!r} is not an array parameter",
                hint="arrays: " + ", ".join(arrays),
            )
        left_out = sorted(written.certain - given)
        if left_out:
            raise KernelError(
                f"{self.name}: it writes {left_out[0]!r}, which is not among outputs",
                hint=f"add {left_out[0]!r} to outputs, or leave outputs out",
            )

    @property
    def source_file(self) -> str:
        """The file that the kernel is defined in, as Python reports it."""
        return self.fn.__code__.co_filename

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the kernel once.

        Arrays that it writes are written: an argument that is a Tensor or a NumPy array of the
        right dtype holds the result afterwards.

        Returns:
            The written array as a Tensor, or a tuple of them.

        Raises:
            InputError: An argument is missing or of another kind, dtype or rank, or cannot be written to.
        """
        builder = active()
        if builder is not None:
            raise TraceError(
                f"{self.name}: a kernel cannot be called while {builder.name} is traced",
                hint="call the kernel outside of ts.jit functions, or write this part with operators",
                location=caller_location(),
            )
        try:
            bound = self._signature().bind(*args, **kwargs)
        except TypeError as error:
            raise InputError(f"{self.name}: {error}", location=caller_location()) from None
        bound.apply_defaults()
        inputs = {p.name: self._input(p, bound.arguments[p.name]) for p in self.given}
        results = kernel_executor()(self, dict(inputs))
        written = [self._write_back(name, inputs[name], results[name]) for name in self.outputs]
        return written[0] if len(written) == 1 else tuple(written)

    def __getitem__(self, shape: Any) -> Callable[..., None]:
        """The kernel with a grid and block of the caller's choice, as Numba launches: `saxpy[grid, block]`.

        Args:
            shape: `grid, block[, stream[, shared_bytes]]`. The stream, which orders work on a GPU, is not
                needed: a launch returns when it is done.

        Raises:
            KernelError: Not that, or more than the limits of a launch.
        """
        return launcher(self, shape, caller_location())

    def arguments(self, args: Sequence[Any]) -> list[Any]:
        """Arguments of a launch, checked: NumPy arrays and NumPy scalars of the parameters' dtypes.

        Raises:
            InputError: An argument is missing or of another kind, dtype or rank, or cannot be written to.
        """
        if len(args) != len(self.given):
            names = ", ".join(p.name for p in self.given)
            raise InputError(
                f"{self.name} takes {len(self.given)} arguments ({names}), {len(args)} given",
                location=caller_location(),
            )
        values = {p.name: self._input(p, value) for p, value in zip(self.given, args, strict=True)}
        return [
            values[p.name] if p.kind == "array" else p.dtype.numpy.type(self._value(p, values))
            for p in self.params
        ]

    def _signature(self) -> inspect.Signature:
        """What a caller gives."""
        whole = inspect.signature(self.fn)
        names = {p.name for p in self.given}
        return whole.replace(parameters=[p for p in whole.parameters.values() if p.name in names])

    def _value(self, param: KernelParam, values: Mapping[str, Any]) -> Any:
        """A scalar as it was given; a size from the shapes of the arrays."""
        if param.kind == "scalar":
            return values[param.name]
        known = {
            p.name: int(values[p.name]) for p in self.given if p.kind == "scalar" and not p.dtype.is_float
        }
        for p in self.given:
            axes = zip(p.shape, values[p.name].shape, strict=True) if p.kind == "array" else ()
            known |= {name: size for dim, size in axes if (name := as_symbol(dim))}
        return evaluate(param.shape[0], known)

    def _input(self, param: KernelParam, value: Any) -> Any:
        import numpy as np

        if param.kind == "scalar":
            return self._number(param, value)
        array = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
        if isinstance(value, (list, tuple)):
            array = array.astype(param.dtype.numpy)
        if array.dtype != param.dtype.numpy or array.ndim != len(param.shape):
            raise self._wrong(
                param, f"is {array.dtype} with {array.ndim} axes", f"{param.dtype}{format_shape(param.shape)}"
            )
        if param.name in self.outputs and not array.flags.writeable:
            raise self._wrong(param, "is read-only, but the kernel writes to it", "a copy: np.array(x)")
        return array

    def _number(self, param: KernelParam, value: Any) -> bool | int | float:
        number = value.item() if hasattr(value, "item") and getattr(value, "size", 0) == 1 else value
        integral = isinstance(number, int) or (isinstance(number, float) and number.is_integer())
        if not isinstance(number, (bool, int, float)) or not (param.dtype.is_float or integral):
            raise self._wrong(param, f"is {value!r}", f"a number of {param.dtype}")
        if param.dtype.is_float:
            return float(number)
        if param.dtype.kind == "bool":
            return bool(number)
        if not holds(param.dtype, int(number)):
            raise self._wrong(param, f"is {value!r}", f"a number that fits {param.dtype}")
        return int(number)

    def _wrong(self, param: KernelParam, text: str, expected: str) -> InputError:
        return InputError(
            f"{self.name}: argument {param.name!r} {text}",
            hint=f"it takes {expected}",
            location=caller_location(),
            input=param.name,
        )

    def _write_back(self, name: str, given: np.ndarray[Any, Any], result: np.ndarray[Any, Any]) -> Tensor:
        import numpy as np

        if result is not given:
            np.copyto(given, result)
        dtype = next(p.dtype for p in self.params if p.name == name)
        return Tensor(given, dtype)

    def __repr__(self) -> str:
        grid = ", ".join(map(format_dim, self.grid))
        return f"<ts.kernel {self.name}: grid ({grid}), block {self.block}>"


def kernel(
    fn: None = None,
    *,
    grid: Grid | None = None,
    block: Grid = 256,
    shared_bytes: Size = 0,
    outputs: Sequence[str] | None = None,
    name: str | None = None,
) -> Callable[[Callable[..., Any]], Kernel]:
    """Mark a Numba CUDA kernel: `@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)`.

    Every parameter has an annotation: a dtype (`ts.f32`) for a number, `ts.Array[ts.f32, "n"]`
    for an array, with a size for each axis.

    Args:
        fn: Nothing: a kernel needs a grid, so the decorator is called.
        grid: Blocks: one to three sizes, or a function that gives them from sizes of arrays and
            integer parameters, which it takes by name.
        block: Threads: one to three fixed sizes, 1024 in all at most, or such a function.
        shared_bytes: Dynamic shared memory per block, or such a function.
        outputs: Arrays that the kernel writes. By default those its source stores to, and those it
            hands to another function.
        name: Entry name; by default the function's.

    Raises:
        KernelError: The definition cannot be launched; `location` is the line at fault.
    """
    if grid is None or fn is not None:
        raise KernelError(
            "ts.kernel needs a launch rule: how many blocks there are",
            hint="@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)",
            location=caller_location(),
        )
    names, rule = caller_names(), grid
    return lambda fn: Kernel(
        fn, grid=rule, block=block, shared_bytes=shared_bytes, outputs=outputs, name=name, names=names
    )
