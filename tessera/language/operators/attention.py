"""Attention, products named by their axes, and cells of recurrent networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.language.emit import emit
from tessera.language.operators.elementwise import mul, sigmoid, tanh
from tessera.language.operators.movement import split
from tessera.language.operators.products import linear

if TYPE_CHECKING:
    from tessera.language.tensor import Tensor, TensorLike


def attention(
    q: TensorLike,
    k: TensorLike,
    v: TensorLike,
    *,
    causal: bool = False,
    mask: TensorLike | None = None,
    scale: float | None = None,
) -> Tensor:
    """`softmax(q @ k.T * scale + mask) @ v` for every head, in one kernel that never writes the scores out.

    Args:
        q: (…, heads, queries, width).
        k: (…, kv heads, keys, width); heads that are a multiple of the kv heads share them in order.
        v: (…, kv heads, keys, value width).
        causal: Whether a query sees only the keys up to its own; the last query sees the last key.
        mask: Broadcast to (…, heads, queries, keys): bool, True where a key is seen, or a float to add.
        scale: 1/√width by default.

    Returns:
        (…, heads, queries, value width); 0 for a query that sees no key.

    Source: Vaswani et al., "Attention Is All You Need", 2017, equation 1; Ainslie et al., "GQA: Training
    Generalized Multi-Query Transformer Models", 2023.
    """
    masks = [] if mask is None else [mask]
    return emit("attention", q, k, v, *masks, causal=causal, scale=scale)


def einsum(equation: str, *operands: TensorLike) -> Tensor:
    """Products and sums over axes named by letters, as in `numpy.einsum`: `ts.einsum("bij,bjk->bik", a, b)`.

    Args:
        equation: A letter for each axis of each operand, and after `->` those of the result; without it the
            letters that stand once, in alphabetical order. No `...`, no letter twice in one operand.
        operands: Multiplied from the left to the right, each pair as one matrix product.
    """
    return emit("einsum", *operands, equation=equation)


def lstm_cell(
    x: TensorLike,
    h: TensorLike,
    c: TensorLike,
    weight_x: TensorLike,
    weight_h: TensorLike,
    bias: TensorLike | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of a long short-term memory; gates in PyTorch's order: input, forget, cell, output.

    Args:
        x: (batch, in).
        h: (batch, hidden), the last output.
        c: (batch, hidden), the last state.
        weight_x: (4 * hidden, in).
        weight_h: (4 * hidden, hidden).
        bias: (4 * hidden,), 0 by default.

    Returns:
        The output and the state, (batch, hidden) each.

    Source: Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997.
    """
    gates = linear(x, weight_x, bias) + linear(h, weight_h)
    i, f, g, o = split(gates, 4, axis=-1)
    state = mul(sigmoid(f), c) + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(state), state


def gru_cell(
    x: TensorLike,
    h: TensorLike,
    weight_x: TensorLike,
    weight_h: TensorLike,
    bias_x: TensorLike | None = None,
    bias_h: TensorLike | None = None,
) -> Tensor:
    """One step of a gated recurrent unit; gates in PyTorch's order: reset, update, new.

    Args:
        x: (batch, in).
        h: (batch, hidden), the last output.
        weight_x: (3 * hidden, in).
        weight_h: (3 * hidden, hidden).
        bias_x: (3 * hidden,), 0 by default.
        bias_h: (3 * hidden,), 0 by default.

    Returns:
        The output, (batch, hidden).

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014.
    """
    ours, theirs = (
        split(linear(x, weight_x, bias_x), 3, axis=-1),
        split(linear(h, weight_h, bias_h), 3, axis=-1),
    )
    reset, update = sigmoid(ours[0] + theirs[0]), sigmoid(ours[1] + theirs[1])
    new = tanh(ours[2] + reset * theirs[2])
    return (1 - update) * new + mul(update, h)
