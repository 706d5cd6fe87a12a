"""Attention and einsum that do not fit, and what they become."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tessera as ts
from tessera.compiler.plan import plan_graph
from tessera.program.errors import ShapeError, TesseraError, TraceError
from tests.operators.running import compiled_results

Q = ts.TensorSpec(("b", 4, "n", 8))
REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "rank": (lambda q: ts.attention(q, q[0], q), "attention: .* must have as many axes"),
    "width": (lambda q: ts.attention(q, q[..., :4], q), "attention: the key .* their widths differ"),
    "length": (lambda q: ts.attention(q, q, q[:, :, 1:]), "attention: the value"),
    "batch": (lambda q: ts.attention(q, ts.concat([q, q]), ts.concat([q, q])), "their batches differ"),
    "heads": (lambda q: ts.attention(q, q[:, :3], q[:, :3]), "4 heads of the query q .* cannot share 3"),
    "mask": (lambda q: ts.attention(q, q, q, mask=q), "the mask q .* does not broadcast to the scores"),
    "mask dtype": (lambda q: ts.attention(q, q, q, mask=ts.ones(1, ts.i32)), "mask .* is i32"),
    "scale": (lambda q: ts.attention(q, q, q, scale="a"), "attention: scale='a' is not a number"),
    "equation": (lambda q: ts.einsum("ij->", q), "'ij' names 2 axes"),
    "letters": (lambda q: ts.einsum("b1nd->b", q), "does not name the axes"),
    "count": (lambda q: ts.einsum("abcd,abcd->a", q), "does not name the axes of 1 operands"),
    "sizes": (lambda q: ts.einsum("abcd,abdc->a", q, q), "einsum: axis 'd' is 8 in the operand q"),
    "diagonal": (lambda q: ts.einsum("abb->a", q[0, :, :4, :4]), "einsum: axis|takes a diagonal"),
    "text": (lambda q: ts.einsum(q, q), "is no equation"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_named_at_its_line(name: str) -> None:
    call, text = REFUSED[name]
    with pytest.raises((ShapeError, TraceError), match=text) as raised:
        ts.jit(lambda q: call(q)).trace([Q])
    error: TesseraError = raised.value
    assert error.hint
    assert error.location is not None
    assert error.location.file == __file__


def test_gpu_has_one_kernel_and_no_memory_for_scores() -> None:
    def attention(q: Any) -> Any:
        return ts.relu(ts.attention(q, q, q, causal=True))

    plan, _ = plan_graph(ts.jit(attention).trace([Q]).graph, kind="cuda", targets=("sm_80",))
    assert len(plan.steps) == 1
    assert not plan.buffers


def test_query_that_sees_no_key_gives_0(rng: np.random.Generator) -> None:
    def attention(q: Any, k: Any, m: Any) -> Any:
        return ts.attention(q, k, k, causal=True), ts.attention(q, k, k, mask=m)

    specs = [ts.TensorSpec((1, 5, 8)), ts.TensorSpec((1, 3, 8)), ts.TensorSpec((5, 3), ts.bool)]
    mask = np.ones((5, 3), bool)
    mask[2] = False
    operands = [rng.standard_normal((1, n, 8)).astype(np.float32) for n in (5, 3)]
    for _, (causal, masked) in compiled_results(ts.jit(attention), specs, [*operands, mask]):
        assert (causal[0, :2] == 0).all()
        np.testing.assert_allclose(causal[0, 2], operands[1][0, 0], rtol=1e-5)
        assert (masked[0, 2] == 0).all()
        assert np.isfinite(masked).all()


def test_nan_reaches_the_rows_that_see_it(rng: np.random.Generator) -> None:
    spec = ts.TensorSpec((1, 6, 8))
    q, k = (rng.standard_normal((1, 6, 8)).astype(np.float32) for _ in range(2))
    k[0, 3, 2] = np.nan
    fn = ts.jit(lambda q, k: ts.attention(q, k, q, causal=True))
    for _, (found,) in compiled_results(fn, [spec, spec], [q, k]):
        assert np.isfinite(found[0, :3]).all()
        assert np.isnan(found[0, 3:]).all()
