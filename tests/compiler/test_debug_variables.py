"""Debug builds: every variable has a place, which DWARF names; those of device functions too."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("numba.cuda")
pytest.importorskip("elftools")

from numba import cuda, float32

from tessera.compiler.debug_variables import MARK, give_places
from tessera.compiler.options import ToolOptions
from tessera.compiler.ptx import CudaKernel, Ptx, ir_to_ptx, lower
from tessera.emulator.debugging import symbols
from tessera.emulator.debugging.code import load_code
from tessera.emulator.debugging.symbols import ArrayType, ScalarType


@cuda.jit(device=True)
def shifted(a, b):
    total = a + b
    return total  # noqa: RET504 - a variable is wanted


def kernel(x, y):
    tile = cuda.shared.array((4, 8), float32)
    i = cuda.threadIdx.x
    tile[i // 8, i % 8] = x[i]
    mixed = i
    mixed = 1.5
    y[i] = shifted(tile[i // 8, i % 8], float32(mixed))


@pytest.fixture(scope="module")
def ptx() -> Ptx:
    from tessera.compiler import abi
    from tessera.program.dtype import as_dtype

    kind = abi.array_kind(as_dtype("f32"), 1)
    job = CudaKernel("kernel", kernel, (kind, kind), threads=32, cc_dependent=True)
    options = ToolOptions("sm_80", opt_level=0, debug=True)
    return ir_to_ptx(lower(job, options), job, options)


def test_every_variable_is_described_with_its_type(ptx: Ptx) -> None:
    code = load_code("\0".join((ptx.text, *ptx.linked)))
    functions = {f.name: f for f in code.functions.values()}
    assert set(functions) == {"kernel", "shifted"}
    found = {v.name: v for v in functions["kernel"].variables}
    assert {"x", "y", "tile", "i", "mixed"} <= set(found)
    assert isinstance(found["tile"].type, ArrayType)
    assert (found["tile"].type.ndim, found["tile"].type.element.dtype) == (2, np.dtype(np.float32))
    assert isinstance(found["i"].type, ScalarType)
    assert found["i"].flagged
    assert {v.name for v in functions["shifted"].variables} == {"a", "b", "total"}


def test_variables_of_one_name_have_places_of_their_own(ptx: Ptx) -> None:
    code = load_code(ptx.text)
    places = [v for v in code.functions["kernel"].variables if v.name == "mixed"]
    assert {v.type.name for v in places if isinstance(v.type, ScalarType)} == {"int32", "float64"}
    spans = sorted((v.offset, v.offset + v.type.size) for v in code.functions["kernel"].variables)
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(spans) if end != start)


def test_lines_and_files_of_several_texts_are_counted_through(ptx: Ptx) -> None:
    code = load_code("\0".join((ptx.text, *ptx.linked)))
    lines = code.text.splitlines()
    for _, item in list(code.instructions())[::50]:
        assert item.opcode in lines[item.line - 1]
        if item.source_line:
            assert code.file_of(item) == "test_debug_variables.py"


def test_mark_is_what_the_reader_looks_for(ptx: Ptx) -> None:
    assert MARK == symbols.MARK
    assert ptx.text.startswith(MARK)


def test_module_without_variables_stays_as_it_is() -> None:
    text = 'define void @"f"() {\nentry:\n  ret void\n}\n'
    assert give_places(text) == text
