"""Kernels written by hand: a Numba CUDA function, its signature and its launch rule."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from tessera.language.annotations import caller_names
from tessera.language.builder import active
from tessera.language.execution import kernel_executor
from tessera.language.launch import Bound, Grid, Size, block_of, bound_of, grid_of, shared_of
from tessera.language.launcher import launcher
from tessera.language.location import caller_location, definition_location
from tessera.language.parameters import KernelParam, kernel_parameters
from tessera.language.promotion import holds
from tessera.language.tensor import Tensor
from tessera.language.tuning import (
    Configuration,
    Space,
    Value,
    Where,
    bound_rule,
    check_read,
    configured_function,
    first_configuration,
    make_space,
    rule_names,
)
from tessera.language.written import Written, function_tree, written_arrays
from tessera.program.dim import Dim, as_symbol, evaluate, format_dim, format_shape
from tessera.program.errors import InputError, KernelError, SourceLocation, TesseraError, TraceError

if TYPE_CHECKING:
    import ast

    import numpy as np

__all__ = ["Kernel", "KernelParam", "kernel"]

_T = TypeVar("_T")
_RULES = ("grid", "block", "shared_bytes", "min_blocks", "max_registers")
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
        tune: Values of names that the kernel reads: see `kernel`.
        where: Which of them go together: see `kernel`.
        min_blocks: Blocks that a multiprocessor is to hold: see `kernel`.
        max_registers: Registers per thread: see `kernel`.
        configuration: Values of the tuned names; by default those of the kernel's file, else the first.

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
        tune: Mapping[str, Sequence[Value]] | None = None,
        where: Where = None,
        min_blocks: Bound = None,
        max_registers: Bound = None,
        configuration: Configuration | None = None,
    ) -> None:
        # A function under @cuda.jit keeps the plain one as py_func.
        self._original: Any = getattr(fn, "py_func", fn)
        if not inspect.isfunction(self._original):
            raise KernelError(
                f"a kernel is written as a Python function, not {type(fn).__name__} {fn!r:.60}",
                hint="@ts.kernel(grid=…, block=…) above def …(x: ts.Array[ts.f32, 'n']):",
                location=caller_location(),
            )
        self._definition: dict[str, Any] = {
            "grid": grid, "block": block, "shared_bytes": shared_bytes, "outputs": outputs, "name": name,
            "names": names, "tune": tune, "where": where, "min_blocks": min_blocks,
            "max_registers": max_registers,
        }  # fmt: skip
        self.name: str = name or self._original.__name__
        """Entry name."""
        self.location: SourceLocation | None = definition_location(self._original)
        """Where the kernel is defined."""
        if not _ENTRY.fullmatch(self.name):
            raise KernelError(
                f"a kernel cannot be called {self.name!r}",
                hint="name='my_kernel': letters, digits and _",
                location=self.location,
            )
        tree = function_tree(self._original)
        self.space: Space | None = self._checked(
            self._said_at(tree, "tune"), lambda: self._space(tune, where)
        )
        """What may be tuned; None if nothing."""
        self.configuration: dict[str, Value] = self._checked(
            self._said_at(tree, "tune"), lambda: self._chosen(configuration)
        )
        """Values of what may be tuned."""
        self._fn: Any = (
            configured_function(self._original, self.configuration) if self.space else self._original
        )
        grid, block, shared_bytes = (bound_rule(r, self.configuration) for r in (grid, block, shared_bytes))
        self.params: tuple[KernelParam, ...] = self._checked(
            self.location, lambda: kernel_parameters(self.name, self._original, names or {}, tree)
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
        self.min_blocks: int | None = self._bound(tree, "min_blocks", min_blocks)
        """Blocks that a multiprocessor is to hold at once."""
        self.max_registers: int | None = self._bound(tree, "max_registers", max_registers)
        """Most registers of a thread."""
        functools.update_wrapper(self, self._original)

    def _bound(self, tree: ast.FunctionDef | None, what: str, rule: Bound) -> int | None:
        own = bound_rule(rule, self.configuration)
        return self._checked(self._said_at(tree, what), lambda: bound_of(self.name, what, own, self.params))

    @property
    def fn(self) -> Callable[..., Any]:
        """The plain Python function, which sees the values of the configuration."""
        if self.space is not None:
            # What the file defines below the kernel belongs to its globals too.
            self._fn.__globals__.update(self._original.__globals__)
            self._fn.__globals__.update(self.configuration)
        found: Callable[..., Any] = self._fn
        return found

    @property
    def rules(self) -> tuple[Any, ...]:
        """Grid, block, shared memory and limits as they were given: numbers, or functions."""
        return tuple(self._definition[rule] for rule in _RULES)

    def configured(self, configuration: Configuration, *, name: str | None = None) -> Kernel:
        """The kernel with other values for what may be tuned.

        Args:
            configuration: A value for each parameter of `tune`.
            name: Another entry name.

        Raises:
            KernelError: It is not one of the kernel's configurations, or cannot be launched.
        """
        return self._remade({"configuration": configuration, **({"name": name} if name else {})})

    def _remade(self, changes: Mapping[str, Any]) -> Kernel:
        return Kernel(self._original, **{**self._definition, **changes})

    def _space(self, tune: Mapping[str, Sequence[Value]] | None, where: Where) -> Space | None:
        if tune is None:
            if where is not None:
                raise KernelError(
                    f"{self.name}: where says which values go together, but nothing is tuned",
                    hint='tune={"BLOCK": [64, 128, 256]}',
                )
            return None
        space = make_space(self.name, tune, where)
        self._check_tuned(space)
        return space

    def _check_tuned(self, space: Space) -> None:
        """Refuse names that cannot have an effect."""
        text = next((n for n, values in space.parameters if any(isinstance(v, str) for v in values)), None)
        if text is not None:
            raise KernelError(f"{self.name}: tune: {text} has text as a value", hint="numbers alone")
        check_read(self.name, self._original, space.names, rule_names(*self.rules))

    def _chosen(self, configuration: Configuration | None) -> dict[str, Value]:
        if self.space is None:
            if configuration:
                raise KernelError(f"{self.name}: nothing is tuned in it", hint='tune={"BLOCK": [64, 128]}')
            return {}
        if configuration is None:
            return first_configuration(self.space, self._original.__globals__)
        if not self.space.holds(configuration):
            raise KernelError(
                f"{self.name}: {dict(configuration)} is not one of its configurations",
                hint=f"tuned are: {', '.join(self.space.names)}",
                location=self.location,
            )
        return {name: configuration[name] for name in self.space.names}

    def _said_at(self, tree: ast.FunctionDef | None, argument: str) -> SourceLocation | None:
        """Where the decorator says `argument`; the kernel's own place if it does not."""
        calls = [d for d in tree.decorator_list if hasattr(d, "keywords")] if tree else []
        value = next((k.value for d in calls for k in d.keywords if k.arg == argument), None)
        if value is None:
            return self.location
        return SourceLocation(
            self.source_file, value.lineno, value.col_offset, value.end_col_offset, self._original.__name__
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
        return str(self._original.__code__.co_filename)

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
    tune: Mapping[str, Sequence[Value]] | None = None,
    where: Where = None,
    min_blocks: Bound = None,
    max_registers: Bound = None,
    **misspelt: NoReturn,
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
        tune: Names that the kernel or its launch rules read, and values to try for each:
            `tune={"BLOCK": [64, 128, 256]}`. Rules take them by name, as they take sizes.
        where: Which values go together: `"BLOCK * UNROLL <= 1024"`, or a function of some of the names.
        min_blocks: Blocks that a multiprocessor is to hold at once: the assembler limits registers to that
            end. A number, or a function of tuned names.
        max_registers: Most registers of a thread; a number, or a function of tuned names.
        misspelt: Nothing: any other name is an error that says which was meant.

    Raises:
        KernelError: The definition cannot be launched; `location` is the line at fault.
    """
    if misspelt:
        raise _unknown_setting(next(iter(misspelt)))
    if grid is None or fn is not None:
        raise KernelError(
            "ts.kernel needs a launch rule: how many blocks there are",
            hint="@ts.kernel(grid=lambda n: ts.cdiv(n, 256), block=256)",
            location=caller_location(),
        )
    names, rule = caller_names(), grid
    rest: dict[str, Any] = {
        "tune": tune,
        "where": where,
        "min_blocks": min_blocks,
        "max_registers": max_registers,
    }
    return lambda fn: Kernel(
        fn, grid=rule, block=block, shared_bytes=shared_bytes, outputs=outputs, name=name, names=names, **rest
    )


def _unknown_setting(name: str) -> KernelError:
    import difflib

    known = [p for p in inspect.signature(kernel).parameters if p not in ("fn", "misspelt")]
    near = difflib.get_close_matches(name, known, n=1)
    return KernelError(
        f"ts.kernel has no setting called {name!r}",
        hint=(f"did you mean {near[0]}? " if near else "") + "settings: " + ", ".join(known),
        location=caller_location(),
    )
