"""Modules for convolutional networks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tessera.language import operators as ops
from tessera.language.layers import check_size
from tessera.language.module import Module, Parameter
from tessera.language.tensor import Tensor
from tessera.program.dtype import DType, as_dtype, f32
from tessera.program.errors import SpecError

Sizes = int | Sequence[int]


class Conv2d(Module):
    """`ts.conv2d` with weights of its own.

    Args:
        channels: Channels of x.
        out: Channels of the result.
        kernel: Height and width of the window, or one number for both.
        stride: How far the window moves.
        padding: Zeros around x, or `same`.
        dilation: How far apart the window's elements are.
        groups: Groups that the channels are cut into.
        bias: Whether there is a bias.
        dtype: Element type of the weights.
        seed: The same seed gives the same weights; None gives new ones each time.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: Sizes,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        *,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: DType | str = f32,
        seed: int | None = None,
    ) -> None:
        import numpy as np

        height, width = (kernel, kernel) if isinstance(kernel, int) else tuple(kernel)
        check_size("Conv2d", channels=channels, out=out, groups=groups, kernel=height)
        check_size("Conv2d", kernel=width)
        if channels % groups or out % groups:
            raise SpecError(
                f"Conv2d: groups={groups} does not divide channels={channels} and out={out}", hint="groups=1"
            )
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        shape = (out, channels // groups, height, width)
        # Source: torch.nn.Conv2d, uniform in ±1/√(elements of a window) for both.
        bound, numbers = 1 / math.sqrt(math.prod(shape[1:])), np.random.default_rng(seed)
        wanted = as_dtype(dtype, what="Conv2d")
        self.weight = Parameter(numbers.uniform(-bound, bound, shape), wanted)
        """(out, channels / groups, height, width)."""
        self.bias = Parameter(numbers.uniform(-bound, bound, out), wanted) if bias else None
        """(out,), or None."""

    def forward(self, x: Tensor) -> Tensor:
        """The result.

        Args:
            x: (batch, channels, height, width).
        """
        return ops.conv2d(
            x, self.weight, self.bias, stride=self.stride, padding=self.padding, dilation=self.dilation,
            groups=self.groups,
        )  # fmt: skip


class BatchNorm2d(Module):
    """`ts.batchnorm` with the statistics of the training, which `load_state_dict` brings.

    Args:
        channels: Size of axis 1.
        eps: Added to the variance.
        dtype: Element type of the weights and statistics.
    """

    def __init__(self, channels: int, eps: float = 1e-5, dtype: DType | str = f32) -> None:
        import numpy as np

        check_size("BatchNorm2d", channels=channels)
        self.eps = eps
        wanted = as_dtype(dtype, what="BatchNorm2d")
        self.weight = Parameter(np.ones(channels), wanted)
        self.bias = Parameter(np.zeros(channels), wanted)
        self.running_mean = Parameter(np.zeros(channels), wanted)
        self.running_var = Parameter(np.ones(channels), wanted)

    def forward(self, x: Tensor) -> Tensor:
        """The result.

        Args:
            x: (batch, channels, height, width).
        """
        return ops.batchnorm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class GroupNorm(Module):
    """`ts.groupnorm` with a weight of ones and a bias of zeros to begin with.

    Args:
        groups: How many groups there are.
        channels: Size of axis 1, which they divide.
        eps: Added to the variance.
        dtype: Element type of weight and bias.
    """

    def __init__(self, groups: int, channels: int, eps: float = 1e-5, dtype: DType | str = f32) -> None:
        import numpy as np

        check_size("GroupNorm", groups=groups, channels=channels)
        self.groups, self.eps = groups, eps
        wanted = as_dtype(dtype, what="GroupNorm")
        self.weight = Parameter(np.ones(channels), wanted)
        self.bias = Parameter(np.zeros(channels), wanted)

    def forward(self, x: Tensor) -> Tensor:
        """The result.

        Args:
            x: (batch, channels, …).
        """
        return ops.groupnorm(x, self.groups, self.weight, self.bias, eps=self.eps)


class MaxPool2d(Module):
    """`ts.max_pool2d` as a Module.

    Args:
        kernel: Sizes of the window.
        stride: How far it moves; its size by default.
        padding: Elements around x that are never the largest.
    """

    def __init__(self, kernel: Sizes, stride: Sizes | None = None, padding: Sizes = 0) -> None:
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """The result.

        Args:
            x: (…, height, width).
        """
        return ops.max_pool2d(x, self.kernel, self.stride, padding=self.padding)


class AvgPool2d(Module):
    """`ts.avg_pool2d` as a Module.

    Args:
        kernel: Sizes of the window.
        stride: How far it moves; its size by default.
        padding: Zeros around x.
    """

    def __init__(self, kernel: Sizes, stride: Sizes | None = None, padding: Sizes = 0) -> None:
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """The result.

        Args:
            x: (…, height, width).
        """
        return ops.avg_pool2d(x, self.kernel, self.stride, padding=self.padding)


class AdaptiveAvgPool2d(Module):
    """`ts.adaptive_avg_pool2d` as a Module.

    Args:
        size: How many means there are along height and width.
    """

    def __init__(self, size: Sizes) -> None:
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """The result.

        Args:
            x: (…, height, width).
        """
        return ops.adaptive_avg_pool2d(x, self.size)
