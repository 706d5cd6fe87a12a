"""What a model takes and gives, as JSON Schema."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tessera.program.datatypes import DATATYPES
from tessera.program.dtype import DType
from tessera.program.program import Port, Program

Schema = dict[str, Any]

_ROUNDED = {"f32": 24, "tf32": 24, "f16": 11}
"""Significant bits of the floats to which NumPy rounds; the others it makes by way of float32."""

ROWS_SHOWN = (1, 2, 3)
"""Sizes that a schema lists where several tensors must agree in one, which JSON Schema cannot say."""


def element(dtype: DType, *, is_output: bool = False) -> Schema:
    """One element. In answers, what JSON cannot write (NaN, infinities) is null."""
    if dtype.kind == "bool":
        return {"type": "boolean"}
    if dtype.kind in ("int", "uint"):
        low = -(1 << (dtype.bits - 1)) if dtype.kind == "int" else 0
        high = (1 << (dtype.bits - (dtype.kind == "int"))) - 1
        return {"type": "integer", "minimum": low, "maximum": high}
    if is_output:
        return {"type": ["number", "null"]}
    limit = _largest(dtype)
    if dtype.name not in _ROUNDED:
        return {"type": "number", "minimum": -limit, "maximum": limit}
    # What is nearer to the largest number than to the next, which there is not, is rounded to it.
    limit += 2.0 ** (math.frexp(limit)[1] - _ROUNDED[dtype.name] - 1)
    return {"type": "number", "exclusiveMinimum": -limit, "exclusiveMaximum": limit}


def nested(port: Port, sizes: Mapping[str, int] | None = None, *, is_output: bool = False) -> Schema:
    """A tensor as nested arrays, a scalar as a number.

    Args:
        port: What it is.
        sizes: Of symbols, where they are known.
        is_output: Whether it comes in answers.
    """
    schema = element(port.dtype, is_output=is_output)
    for dim in reversed(port.shape):
        size = dim if isinstance(dim, int) else (sizes or {}).get(str(dim))
        array: Schema = {"type": "array", "items": schema}
        if isinstance(size, int):
            array |= {"minItems": size, "maxItems": size}
        else:
            array["minItems"] = 1
        schema = array
    return schema


def described(port: Port) -> str:
    """A port as people read it."""
    return str(port)


def predict_body(program: Program) -> Schema:
    """What `/predict` takes."""
    variants: list[Schema] = []
    for sizes in _sizes(program):
        inputs = {p.name: nested(p, sizes) for p in program.inputs}
        if len(inputs) == 1:
            variants.append(_object({"input": next(iter(inputs.values()))}, forbidden=("inputs",)))
        named = _object(inputs) | {"additionalProperties": False}
        variants.append(_object({"inputs": named}, forbidden=("input",)))
    return variants[0] if len(variants) == 1 else {"oneOf": variants}


def predict_answer(program: Program) -> Schema:
    """What `/predict` answers."""
    outputs = {p.name: nested(p, is_output=True) for p in program.outputs}
    if len(outputs) == 1:
        return _object({"output": next(iter(outputs.values()))})
    return _object({"outputs": _object(outputs)})


def infer_body(program: Program) -> Schema:
    """What `/v2/models/…/infer` takes, its tensors as JSON."""
    variants: list[Schema] = []
    for sizes in _sizes(program, always=True):
        inputs = [_tensor(p, sizes) for p in program.inputs]
        variants.append(
            _object(
                {
                    "inputs": {
                        "type": "array",
                        "prefixItems": inputs,
                        "items": False,
                        "minItems": len(inputs),
                        "maxItems": len(inputs),
                    }
                }
            )
        )
    for variant in variants:
        variant["properties"]["id"] = {"type": ["string", "null"]}
        variant["properties"] |= {
            "parameters": {"type": "object"},
            "outputs": _wanted(program),
        }
    return variants[0] if len(variants) == 1 else {"anyOf": variants}


def infer_answer(program: Program) -> Schema:
    """What `/v2/models/…/infer` answers."""
    output = _object(
        {
            "name": {"enum": [p.name for p in program.outputs]},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "datatype": {"type": "string"},
            "data": {"type": "array"},
        }
    )
    fields = {"model_name": {"type": "string"}, "model_version": {"type": "string"}}
    made = _object({**fields, "outputs": {"type": "array", "items": output}})
    made["properties"]["id"] = {"type": "string"}
    return made


def _wanted(program: Program) -> Schema:
    each = _object({"name": {"enum": [p.name for p in program.outputs]}})
    return {"type": "array", "items": each, "maxItems": 1}


def _tensor(port: Port, sizes: Mapping[str, int]) -> Schema:
    shape = [dim if isinstance(dim, int) else sizes.get(str(dim), 1) for dim in port.shape]
    count = 1
    for size in shape:
        count *= size
    return _object(
        {
            "name": {"const": port.name},
            "shape": {"const": shape},
            "datatype": {"const": DATATYPES[port.dtype.name]},
            "data": {"type": "array", "items": element(port.dtype), "minItems": count, "maxItems": count},
        }
    )


def _sizes(program: Program, *, always: bool = False) -> Sequence[Mapping[str, int]]:
    symbols = {str(d) for p in program.inputs for d in p.shape if not isinstance(d, int)}
    several = len([p for p in program.inputs if any(not isinstance(d, int) for d in p.shape)]) > 1
    if not symbols or not (several or always):
        return [{}]
    return [dict.fromkeys(symbols, n) for n in ROWS_SHOWN]


def _object(properties: Mapping[str, Schema], forbidden: Sequence[str] = ()) -> Schema:
    made: Schema = {"type": "object", "properties": dict(properties), "required": list(properties)}
    made["properties"] |= dict.fromkeys(forbidden, False)
    return made


def _largest(dtype: DType) -> float:
    if dtype.name == "f64":
        import sys

        return sys.float_info.max
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype.numpy).max)
