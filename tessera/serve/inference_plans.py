"""Inference requests whose JSON came before, byte for byte.

A client sends the same JSON before the bytes of its tensors again and again. What was found out about it,
and the JSON of its answers, is remembered: reading and checking it costs more than a small model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import numpy as np

from tessera.program.program import Program
from tessera.serve.answer import Answer
from tessera.serve.inference_answer import JOINED_BYTES, Wanted, infer_answer, wanted_outputs
from tessera.serve.inference_request import LENGTH_HEADER, InferRequest, json_length, read_infer_body
from tessera.serve.inputs import Arrays, Shapes
from tessera.serve.request import Request
from tessera.serve.shared_memory.regions import NO_REGIONS, Regions

MAX_PLANS = 256
"""JSON texts that are remembered of a program, and answers of each."""

MAX_JSON_BYTES = 2048
"""Longer ones are not."""


@dataclass(slots=True)
class Plan:
    """What a request's JSON asks for."""

    body: InferRequest
    wanted: Sequence[Wanted]
    tensors: Sequence[tuple[str, np.dtype[Any], int, tuple[int, ...], int]]
    """Name, dtype, elements, shape and offset behind the JSON of each input."""
    tail_bytes: int
    """Of all inputs."""
    answers: dict[tuple[str, str, Shapes], tuple[bytes, dict[str, str]]] = field(default_factory=dict)
    """JSON and headers of answers, by the model's name and version and the outputs' shapes."""

    def inputs(self, body: bytes, offset: int) -> Arrays:
        """The inputs, read-only and without a copy: they lie in the body from `offset` on."""
        return {
            name: np.frombuffer(body, dtype, count, offset + start).reshape(shape)
            for name, dtype, count, shape, start in self.tensors
        }


class InferPlans:
    """The plans of one server, by program. Lives on one event loop.

    Args:
        regions: The shared memory that tensors may lie in.
    """

    def __init__(self, regions: Regions = NO_REGIONS) -> None:
        self._regions = regions
        self._programs: dict[int, tuple[Program, dict[bytes, Plan]]] = {}

    def read(self, program: Program, request: Request) -> tuple[Plan, Arrays]:
        """What `request` asks for, and its inputs.

        Raises:
            RequestError: The body is not an inference request, or it asks for what there is not.
            InputError: An input is unknown, there twice, or not what it says it is.
        """
        length = json_length(request)
        known, key = None, b""
        if length and length <= MAX_JSON_BYTES:
            known = self._of(program)
            key = request.body[:length]
            plan = known.get(key)
            if plan is not None and len(request.body) - length == plan.tail_bytes:
                return plan, plan.inputs(request.body, length)
        body, inputs = read_infer_body(program, request, length, self._regions)
        plan = Plan(body, wanted_outputs(program, body, self._regions), (), 0)
        if known is not None and _is_repeatable(plan, inputs):
            plan.tensors, plan.tail_bytes = _layout(body, inputs)
            if len(known) >= MAX_PLANS:
                known.clear()
            known[key] = plan
        return plan, inputs

    def _of(self, program: Program) -> dict[bytes, Plan]:
        found = self._programs.get(id(program))
        if found is None or found[0] is not program:
            if len(self._programs) >= MAX_PLANS:
                self._programs.clear()
            found = self._programs[id(program)] = (program, {})
        return found[1]


def _is_repeatable(plan: Plan, inputs: Arrays) -> bool:
    """Whether all that was found out is in the JSON: truths are looked at one by one, and memory that is
    shared may be given back.
    """
    if any(each.place is not None for each in plan.wanted):
        return False
    return all(tensor.parameters.get("binary_data_size") for tensor in plan.body.inputs) and all(
        array.size and array.dtype != np.bool_ for array in inputs.values()
    )


def _layout(
    body: InferRequest, inputs: Arrays
) -> tuple[list[tuple[str, np.dtype[Any], int, tuple[int, ...], int]], int]:
    tensors = []
    offset = 0
    for tensor in body.inputs:
        array = inputs[tensor.name]
        tensors.append((tensor.name, array.dtype, array.size, array.shape, offset))
        offset += array.nbytes
    return tensors, offset


def planned_answer(plan: Plan, name: str, version: str, outputs: Arrays) -> Answer:
    """The response with `outputs` of the model `name`."""
    wanted = plan.wanted
    values = [outputs[each.port.name] for each in wanted]
    is_raw = plan.tail_bytes > 0 and all(
        each.binary and not each.classes and value.dtype is each.dtype and value.flags.c_contiguous
        for each, value in zip(wanted, values, strict=True)
    )
    key = (name, version, tuple([value.shape for value in values]))
    found = plan.answers.get(key) if is_raw else None
    if found is not None:
        json, headers = found
        if sum([value.nbytes for value in values]) < JOINED_BYTES:
            body = b"".join([json, *[value.tobytes() for value in values]])
            return Answer(HTTPStatus.OK, body, "application/octet-stream", headers)
        tail = tuple([value.reshape(-1).view(np.uint8).data for value in values])
        return Answer(HTTPStatus.OK, json, "application/octet-stream", headers, tail)
    head: dict[str, Any] = {"model_name": name, "model_version": version}
    if plan.body.id is not None:
        head["id"] = plan.body.id
    answer = infer_answer(head, wanted, outputs)
    if is_raw:
        if len(plan.answers) >= MAX_PLANS:
            plan.answers.clear()
        json_bytes = int(answer.headers[LENGTH_HEADER])
        plan.answers[key] = (answer.body[:json_bytes], dict(answer.headers))
    return answer
