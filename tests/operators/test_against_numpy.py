"""Every operator against NumPy in float64: the reference with random sizes, then compiled code."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.program.dtype import DTYPES
from tessera.reference import run_graph
from tests.operators import attention_cases, basic_cases, convolution_cases, elementwise_cases, movement_cases
from tests.operators.cases import Array, Case, close
from tests.operators.running import compiled_results

CASES = [
    *basic_cases.CASES,
    *elementwise_cases.CASES,
    *movement_cases.CASES,
    *convolution_cases.CASES,
    *attention_cases.CASES,
]
BY_NAME = {case.name: case for case in CASES}
assert len(BY_NAME) == len(CASES), "names must be unique"


@pytest.mark.parametrize("name", BY_NAME)
@settings(max_examples=12)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_reference_gives_numpys_answer(name: str, data: st.DataObject, seed: int) -> None:
    case = BY_NAME[name]
    dtype = data.draw(st.sampled_from(case.dtypes))
    sizes = {s: data.draw(st.integers(case.least, 7), label=s) for s in case.symbols()}
    rng = np.random.default_rng(seed)
    operands = case.operands(dtype, sizes, rng)
    trace = case.traced(dtype).trace(case.specs(dtype))
    inputs = dict(zip(trace.graph.leaves("input"), operands, strict=True))
    exact = case.exact(operands)
    double = run_graph(trace.graph, inputs, trace.constants, precision="f64")
    native = run_graph(trace.graph, inputs, trace.constants)
    for (output, value), expected in zip(double.items(), exact, strict=True):
        close(value, expected, "f64", case.slack, f"{name} {output} in float64")
        close(native[output], expected, tolerance_of(dtype, native[output]), case.slack, f"{name} {output}")


def tolerance_of(dtype: str, result: Array) -> str:
    """The dtype that rounds most: that of the operands or of the result."""
    names = {d.numpy_name: d.name for d in DTYPES.values() if d.name != "tf32"}
    kinds = [k for k in (dtype, names[result.dtype.name]) if k in FLOAT_ORDER]
    return min(kinds, key=FLOAT_ORDER.index, default="f64")


FLOAT_ORDER = ["f8e5m2", "f8e4m3", "bf16", "f16", "f32", "tf32", "f64"]


def compiled_dtypes(case: Case) -> list[str]:
    """One wide and one narrow dtype: generated code differs in how it loads and stores."""
    preferred = [d for d in ("f32", "bf16", "i64", "u8", "f64", "i32", "bool") if d in case.dtypes]
    return (preferred or list(case.dtypes))[:2]


@pytest.mark.parametrize("name", BY_NAME)
def test_compiled_code_gives_numpys_answer(name: str) -> None:
    """On the CPU, and from PTX in the emulator, where the sanitizer finds nothing."""
    check_compiled(name, compiled_dtypes(BY_NAME[name])[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, case in BY_NAME.items() if len(compiled_dtypes(case)) > 1])
def test_compiled_code_of_a_second_dtype_gives_numpys_answer(name: str) -> None:
    check_compiled(name, compiled_dtypes(BY_NAME[name])[1])


def check_compiled(name: str, dtype: str) -> None:
    case = BY_NAME[name]
    fn = case.traced(dtype)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    operands = case.operands(dtype, {s: max(5, case.least) for s in case.symbols()}, rng)
    exact = case.exact(operands)
    for device, results in compiled_results(fn, case.specs(dtype), operands):
        for found, expected in zip(results, exact, strict=True):
            close(found, expected, tolerance_of(dtype, found), case.slack, f"{name} {dtype} on {device}")
