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

        _check_size("Linear", in_features=in_features, out_features=out_features)
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

        _check_size("LayerNorm", size=size)
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


def _check_size(layer: str, **sizes: object) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise SpecError(f"{layer}: {name}={size!r} is not a number of 1 or more", hint=f"{name}=64")
