"""Modules that models are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from tessera.language import operators as ops
from tessera.language.module import Module, Parameter
from tessera.language.tensor import Tensor
from tessera.program.dtype import DType, as_dtype, f32
from tessera.program.errors import SpecError


class Linear(Module):
    """`x @ weight.T + bias`.

    Args:
        in_features: Size of the last axis of x.
        out_features: Size of the last axis of the result.
        bias: Whether there is a bias.
        dtype: Element type of the weights.
        seed: The same seed gives the same weights; None gives new ones each time.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        dtype: DType | str = f32,
        seed: int | None = None,
    ) -> None:
        # numpy costs 60 ms; only those who make weights pay.
        import numpy as np

        check_size("Linear", in_features=in_features, out_features=out_features)
        self.in_features = in_features
        self.out_features = out_features
        wanted = as_dtype(dtype, what="Linear")
        # Source: torch.nn.Linear, uniform in ±1/√in for both.
        bound = 1 / math.sqrt(max(in_features, 1))
        numbers = np.random.default_rng(seed)
        self.weight = Parameter(numbers.uniform(-bound, bound, (out_features, in_features)), wanted)
        """(out_features, in_features)."""
        self.bias = Parameter(numbers.uniform(-bound, bound, out_features), wanted) if bias else None
        """(out_features,), or None."""

    def forward(self, x: Tensor) -> Tensor:
        """The result.

        Args:
            x: (…, in_features).
        """
        y = ops.matmul(x, ops.transpose(self.weight))
        return y if self.bias is None else ops.add(y, self.bias)


class LayerNorm(Module):
    """`ts.layernorm` with a weight of ones and a bias of zeros to begin with.

    Args:
        size: Size of the last axis.
        eps: Added to the variance.
        bias: Whether there is a bias.
        dtype: Element type of weight and bias.
    """

    def __init__(
        self,
        size: int,
        eps: float = 1e-5,
        bias: bool = True,
        dtype: DType | str = f32,
    ) -> None:
        import numpy as np

        check_size("LayerNorm", size=size)
        self.eps = eps
        wanted = as_dtype(dtype, what="LayerNorm")
        self.weight = Parameter(np.ones(size), wanted)
        """(size,)."""
        self.bias = Parameter(np.zeros(size), wanted) if bias else None
        """(size,), or None."""

    def forward(self, x: Tensor) -> Tensor:
        """The result.

        Args:
            x: (…, size).
        """
        return ops.layernorm(x, self.weight, self.bias, eps=self.eps)


class RMSNorm(Module):
    """`ts.rmsnorm` with a weight of ones to begin with.

    Args:
        size: Size of the last axis.
        eps: Added to the mean of the squares.
        dtype: Element type of the weight.
    """

    def __init__(self, size: int, eps: float = 1e-6, dtype: DType | str = f32) -> None:
        import numpy as np

        check_size("RMSNorm", size=size)
        self.eps = eps
        self.weight = Parameter(np.ones(size), as_dtype(dtype, what="RMSNorm"))
        """(size,)."""

    def forward(self, x: Tensor) -> Tensor:
        """The result.

        Args:
            x: (…, size).
        """
        return ops.rmsnorm(x, self.weight, eps=self.eps)


class Embedding(Module):
    """A row of a table for each word.

    Args:
        words: Rows of the table.
        features: Size of a row.
        dtype: Element type of the table.
        seed: The same seed gives the same table; None gives a new one each time.
    """

    def __init__(self, words: int, features: int, dtype: DType | str = f32, seed: int | None = None) -> None:
        import numpy as np

        check_size("Embedding", words=words, features=features)
        numbers = np.random.default_rng(seed).standard_normal((words, features))
        self.weight = Parameter(numbers, as_dtype(dtype, what="Embedding"))
        """(words, features)."""

    def forward(self, ids: Tensor) -> Tensor:
        """The rows.

        Args:
            ids: Integers of any shape.
        """
        return ops.embedding(ids, self.weight)


class MultiHeadAttention(Module):
    """`ts.attention` between projections, of a sequence with itself.

    Args:
        size: Size of the last axis, of all heads together.
        heads: Heads of the queries; they divide size.
        kv_heads: Heads of keys and values, which divide heads; as many by default.
        causal: Whether a place sees only those up to itself.
        bias: Whether the projections have biases.
        dtype: Element type of the weights.
        seed: The same seed gives the same weights; None gives new ones each time.
    """

    def __init__(
        self,
        size: int,
        heads: int,
        kv_heads: int | None = None,
        *,
        causal: bool = False,
        bias: bool = True,
        dtype: DType | str = f32,
        seed: int | None = None,
    ) -> None:
        few = heads if kv_heads is None else kv_heads
        check_size("MultiHeadAttention", size=size, heads=heads, kv_heads=few)
        if size % heads or heads % few:
            raise SpecError(
                f"MultiHeadAttention: {heads} heads do not divide size={size}, or {few} kv heads not them",
                hint="size=512, heads=8, kv_heads=2",
            )
        self.heads, self.kv_heads, self.width, self.causal = heads, few, size // heads, causal
        seeds = [None if seed is None else seed + i for i in range(4)]
        self.query = Linear(size, size, bias, dtype, seeds[0])
        self.key = Linear(size, few * self.width, bias, dtype, seeds[1])
        self.value = Linear(size, few * self.width, bias, dtype, seeds[2])
        self.output = Linear(size, size, bias, dtype, seeds[3])

    def forward(self, x: Tensor) -> Tensor:
        """The result.

        Args:
            x: (batch, length, size).
        """
        q = self._apart(self.query(x), self.heads)
        k, v = (self._apart(part(x), self.kv_heads) for part in (self.key, self.value))
        joined = ops.transpose(ops.attention(q, k, v, causal=self.causal), (0, 2, 1, 3))
        result: Tensor = self.output(ops.reshape(joined, *x.shape[:2], self.heads * self.width))
        return result

    def _apart(self, x: Tensor, heads: int) -> Tensor:
        return ops.transpose(ops.reshape(x, *x.shape[:2], heads, self.width), (0, 2, 1, 3))


class ReLU(Module):
    """`ts.relu` as a Module."""

    def forward(self, x: Tensor) -> Tensor:
        """The result, of the shape of x."""
        return ops.relu(x)


class GELU(Module):
    """`ts.gelu` as a Module.

    Args:
        approximate: `none` or `tanh`.
    """

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        self.approximate: Literal["none", "tanh"] = approximate

    def forward(self, x: Tensor) -> Tensor:
        """The result, of the shape of x."""
        return ops.gelu(x, self.approximate)


class SiLU(Module):
    """`ts.silu` as a Module."""

    def forward(self, x: Tensor) -> Tensor:
        """The result, of the shape of x."""
        return ops.silu(x)


class Flatten(Module):
    """All axes but the first as one, as between convolutions and a `Linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """The result, (batch, the rest)."""
        return ops.reshape(x, x.shape[0], -1)


class Sequential(Module):
    """One layer after the other.

    Args:
        layers: Modules, or functions of a tensor such as `ts.relu`.
    """

    def __init__(self, *layers: Callable[[Any], Any]) -> None:
        self.layers = list(layers)

    def forward(self, x: Tensor) -> Tensor:
        """What the last layer returns."""
        for layer in self.layers:
            x = layer(x)
        return x


def check_size(layer: str, **sizes: object) -> None:
    """Raise a SpecError unless all sizes are numbers of 1 or more."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise SpecError(f"{layer}: {name}={size!r} is not a number of 1 or more", hint=f"{name}=64")
