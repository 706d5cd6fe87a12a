"""The parameters of a kernel, from its annotations."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tessera.language.annotations import annotated_spec, resolve_annotations
from tessera.language.location import definition_location
from tessera.language.tensor import Array, Size, Tensor
from tessera.program.dim import Dim, as_symbol, format_shape, symbols_of
from tessera.program.dtype import DType, as_dtype
from tessera.program.errors import KernelError, SourceLocation, SpecError
from tessera.program.spec import TensorSpec


@dataclass(frozen=True, slots=True)
class KernelParam:
    """One parameter of a kernel."""

    name: str
    kind: Literal["array", "scalar", "size"]
    """`size`: an integer that is filled in; callers do not give it."""
    dtype: DType
    shape: tuple[Dim, ...] = ()
    """Sizes by axis; empty for a scalar; the one value of a size."""


def kernel_parameters(
    kernel: str, fn: Callable[..., Any], names: Mapping[str, Any], tree: ast.FunctionDef | None
) -> tuple[KernelParam, ...]:
    """The parameters of `fn` in order.

    Args:
        kernel: Name of the kernel, for messages.
        fn: The kernel as a plain Python function.
        names: What annotations given as text may name besides globals.
        tree: The kernel's syntax, for the places in messages.

    Raises:
        KernelError: A parameter lacks an annotation, or has one that is neither dtype nor array.
    """
    places = _places(fn, tree)
    try:
        annotations = resolve_annotations(fn, names)
    except SpecError as error:
        raise KernelError(
            f"{kernel}: {error.message}", hint=error.hint, location=definition_location(fn)
        ) from None
    params = []
    for parameter in inspect.signature(fn).parameters.values():
        where = places.get(parameter.name)
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise KernelError(
                f"{kernel}: {parameter} takes any number of arguments, a kernel a fixed one",
                hint="write the parameters out",
                location=where,
            )
        params.append(_parameter(kernel, parameter.name, annotations, where))
    if not any(p.kind == "array" for p in params):
        raise KernelError(
            f"{kernel} has no array parameter, so it can give back nothing",
            hint='y: ts.Array[ts.f32, "n"]',
            location=definition_location(fn),
        )
    _check_symbols(kernel, params, places)
    return tuple(params)


def _parameter(
    kernel: str, name: str, annotations: Mapping[str, Any], where: SourceLocation | None
) -> KernelParam:
    hint = f'{name}: ts.f32 for a number, {name}: ts.Array[ts.f32, "n"] for an array'
    if name not in annotations:
        raise KernelError(
            f"{kernel}: parameter {name!r} has no annotation", hint=hint, location=where, parameter=name
        )
    annotation = annotations[name]
    spec = annotated_spec(annotation, Array)
    if spec is not None:
        if not spec.shape:
            raise KernelError(
                f"{kernel}: array {name!r} has no axes", hint=hint, location=where, parameter=name
            )
        return KernelParam(name, "array", spec.dtype, spec.dims(name))
    size = annotated_spec(annotation, Size)
    if size is not None:
        return _size(kernel, name, size, where)
    if isinstance(annotation, DType) or annotation in (int, float, bool):
        return KernelParam(name, "scalar", as_dtype(annotation))
    if annotated_spec(annotation, Tensor) is not None or annotation is Tensor:
        hint = f"tensors belong to ts.jit; {hint}"
    raise KernelError(
        f"{kernel}: the annotation of {name!r}, {_text(annotation)}, is neither a dtype nor an array",
        hint=hint,
        location=where,
        parameter=name,
    )


def _size(kernel: str, name: str, spec: TensorSpec, where: SourceLocation | None) -> KernelParam:
    if len(spec.shape) != 1 or spec.shape[0] is None or spec.dtype.kind not in ("int", "uint"):
        raise KernelError(
            f"{kernel}: the size {name!r} is {spec.dtype}{list(spec.shape)}, not one integer",
            hint=f'{name}: ts.Size[ts.i32, "n"]',
            location=where,
            parameter=name,
        )
    return KernelParam(name, "size", spec.dtype, spec.dims(name))


def _text(annotation: Any) -> str:
    if isinstance(annotation, str):
        return annotation
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _check_symbols(kernel: str, params: list[KernelParam], places: Mapping[str, SourceLocation]) -> None:
    for param in params:
        clash = next((p for p in params if p.name in symbols_of(*param.shape) and not _may_share(p)), None)
        if clash is not None:
            other = clash.kind == "size"
            what = f"the size {clash.shape[0]}" if other else "not an integer"
            raise KernelError(
                f"{kernel}: the size {clash.name!r} of array {param.name!r} is also the name of a parameter "
                f"that is {what}",
                hint=f'ts.Size[…, "{clash.name}"], or give the size another name'
                if other
                else "give the size another name",
                location=places.get(param.name),
                parameter=param.name,
            )
    given = {name for p in params if p.kind == "array" for d in p.shape if (name := as_symbol(d))}
    given |= {p.name for p in params if _is_size(p)}
    for param in params:
        for name in sorted(symbols_of(*param.shape) - given):
            raise KernelError(
                f"{kernel}: nothing gives the size {name!r} of array {param.name!r} a value: "
                f"it stands nowhere alone, only in {format_shape(param.shape)}",
                hint=f"add an integer parameter {name}: ts.i64, or give an array an axis that is {name!r}",
                location=places.get(param.name),
                parameter=param.name,
            )


def _may_share(param: KernelParam) -> bool:
    """Whether a size may have this parameter's name: it is that size."""
    return _is_size(param) or (param.kind == "size" and as_symbol(param.shape[0]) == param.name)


def _is_size(param: KernelParam) -> bool:
    return param.kind == "scalar" and not param.dtype.is_float


def _places(fn: Callable[..., Any], tree: ast.FunctionDef | None) -> dict[str, SourceLocation]:
    if tree is None:
        return {}
    file = fn.__code__.co_filename
    arguments = [*tree.args.posonlyargs, *tree.args.args, *tree.args.kwonlyargs]
    arguments += [a for a in (tree.args.vararg, tree.args.kwarg) if a is not None]
    return {
        a.arg: SourceLocation(file, a.lineno, a.col_offset, a.end_col_offset, fn.__name__) for a in arguments
    }
