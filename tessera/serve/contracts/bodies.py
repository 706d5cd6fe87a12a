"""What clouds' clients ask in JSON, and the answers that they expect.

| body | answer |
| --- | --- |
| `{"input": …}`, `{"inputs": {name: …}}` | `{"output": …}`, or `{"outputs": {name: …}}` of several |
| `{"instances": [row, …], "parameters": {…}}` | `{"predictions": [row, …]}` |
| `{"input_data": …}`, `{"data": …}`, a bare array | the output alone, or an object by name |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tessera.program.program import Program
from tessera.serve.inputs import Arrays, describe
from tessera.serve.models.registry import Backend
from tessera.serve.request import RequestError

_KEYS = ("input", "inputs", "instances", "input_data", "data")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a body asks."""

    data: Any
    """As `Backend.infer_all` takes it; of `instances` a list of them."""
    answer: Callable[[Any], Any]
    """Makes the answer's JSON, of outputs by name, or of a list of predictions."""
    by_instance: bool = False
    """Whether `data` are instances."""
    outputs: tuple[str, ...] | None = None
    """Outputs that are wanted; None: all."""


def read_body(program: Program, value: Any) -> Asked:
    """What the JSON `value` asks of `program`.

    Raises:
        RequestError: It has none of the forms above, or several.
    """
    if isinstance(value, list):
        return Asked(value, _alone)
    if not isinstance(value, Mapping):
        raise RequestError("the body is neither a JSON object nor an array", hint=_hint(program))
    given = [key for key in _KEYS if key in value]
    if len(given) != 1:
        has = " and ".join(map(repr, given)) or ", ".join(map(repr, list(value)[:8]))[:100] or "no fields"
        raise RequestError(f"the body has {has}, not one of {', '.join(_KEYS)}", hint=_hint(program))
    key = given[0]
    data = value[key]
    if key == "instances":
        return Asked(_listed(data), _predictions, by_instance=True, outputs=_outputs(program, value))
    if key == "inputs" and not isinstance(data, Mapping):
        raise RequestError("the field 'inputs' is not an object", hint='{"inputs": {"name": [[…]]}}')
    if key == "input_data":
        return Asked(_table(program, data), _alone)
    return Asked(data, _alone if key == "data" else _named)


def _hint(program: Program) -> str:
    return f'send {{"instances": [row, …]}} or {{"input": …}}; inputs: {describe(program)}'


def _named(outputs: Arrays) -> Any:
    return {"output": next(iter(outputs.values()))} if len(outputs) == 1 else {"outputs": outputs}


def _alone(outputs: Arrays) -> Any:
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs


def _predictions(rows: Any) -> Any:
    return {"predictions": rows}


def _listed(data: Any) -> list[Any]:
    if not isinstance(data, list) or not data:
        raise RequestError("the field 'instances' is not an array with elements", hint='{"instances": [row]}')
    return data


def _outputs(program: Program, value: Mapping[str, Any]) -> tuple[str, ...] | None:
    parameters = value.get("parameters")
    if parameters is None:
        return None
    if not isinstance(parameters, Mapping):
        raise RequestError("the field 'parameters' is not an object")
    for name in parameters:
        if name != "outputs":
            raise RequestError(f"there is no parameter {str(name)[:80]!r}", hint="there is: outputs")
    wanted = parameters.get("outputs")
    if wanted is None:
        return None
    known = [port.name for port in program.outputs]
    if not isinstance(wanted, list) or not wanted or any(name not in known for name in wanted):
        raise RequestError(
            f"the parameter 'outputs' is {str(wanted)[:80]}", hint=f"outputs: {', '.join(known)}"
        )
    return tuple(dict.fromkeys(wanted))


def _table(program: Program, data: Any) -> Any:
    """`input_data`: an array, an object by name, or a table as pandas writes it, split."""
    if not isinstance(data, Mapping) or "data" not in data or not {"columns", "index"} & set(data):
        return data
    columns, rows = data.get("columns"), data["data"]
    names = {port.name for port in program.inputs}
    if len(names) == 1 or not isinstance(columns, list) or set(map(str, columns)) != names:
        return rows
    if not isinstance(rows, list) or any(not isinstance(r, list) or len(r) != len(columns) for r in rows):
        raise RequestError(f"the rows of 'input_data' do not all have its {len(columns)} columns")
    return {name: [row[i] for row in rows] for i, name in enumerate(columns)}


async def predictions_of(backend: Backend, asked: Asked) -> Any:
    """The prediction for each instance, in order.

    Where rows are what the program counts on the first axis, an instance is a row and all of them are
    one request; otherwise an instance is a whole input, and a request of its own.
    """
    program = backend.model.program
    wanted = asked.outputs or tuple(port.name for port in program.outputs)
    if _counts_rows(program):
        return _rows(await backend.infer_all(_stacked(program, asked.data)), wanted, len(asked.data))
    answers = await asyncio.gather(*(backend.infer_all(instance) for instance in asked.data))
    return [_prediction(outputs, wanted) for outputs in answers]


def _counts_rows(program: Program) -> bool:
    """Whether every tensor has the same symbolic size on its first axis."""
    ports = [port for port in (*program.inputs, *program.outputs) if port.kind == "tensor"]
    firsts = {port.shape[0] if port.shape else None for port in ports}
    return len(firsts) == 1 and not isinstance(next(iter(firsts)), int | None) and _all_tensors(program)


def _all_tensors(program: Program) -> bool:
    return all(port.kind == "tensor" for port in program.inputs)


def _stacked(program: Program, instances: Sequence[Any]) -> Any:
    names = [port.name for port in program.inputs]
    if not any(isinstance(instance, Mapping) for instance in instances):
        return instances
    for index, instance in enumerate(instances):
        if not isinstance(instance, Mapping) or set(instance) != set(names):
            has = (
                ", ".join(map(repr, list(instance)[:8]))[:100] if isinstance(instance, Mapping) else "a value"
            )
            raise RequestError(f"instance {index} has {has}", hint=f"inputs: {describe(program)}")
    return {name: [instance[name] for instance in instances] for name in names}


def _rows(outputs: Arrays, wanted: Sequence[str], count: int) -> Any:
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    return [{name: outputs[name][row] for name in wanted} for row in range(count)]


def _prediction(outputs: Arrays, wanted: Sequence[str]) -> Any:
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    return {name: outputs[name] for name in wanted}


def array_of(result: Any) -> np.ndarray[Any, Any] | None:
    """The only array in outputs or predictions; None if there are several."""
    if isinstance(result, np.ndarray):
        return result
    if isinstance(result, dict) and len(result) == 1:
        return array_of(next(iter(result.values())))
    if isinstance(result, list) and result and all(isinstance(row, np.ndarray) for row in result):
        return np.stack(result) if len({row.shape for row in result}) == 1 else None
    return None
