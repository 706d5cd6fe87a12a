"""Tessera: a workbench for GPU kernels.

Names are imported when they are first used, so that `import tessera` costs
next to nothing: numpy alone is 60 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tessera.language import gpu
    from tessera.language.convolution_layers import (
        AdaptiveAvgPool2d,
        AvgPool2d,
        BatchNorm2d,
        Conv2d,
        GroupNorm,
        MaxPool2d,
    )
    from tessera.language.creation import randn, tensor
    from tessera.language.cuda_source import CudaKernel, cuda_kernel
    from tessera.language.jit import JitFunction, jit
    from tessera.language.kernel import Kernel, kernel
    from tessera.language.layers import (
        GELU,
        Embedding,
        Flatten,
        LayerNorm,
        Linear,
        MultiHeadAttention,
        ReLU,
        RMSNorm,
        Sequential,
        SiLU,
    )
    from tessera.language.module import Module, Parameter
    from tessera.language.operators import *
    from tessera.language.tensor import Array, Size, Tensor
    from tessera.program.dtype import (
        DType,
        bf16,
        f8e4m3,
        f8e5m2,
        f16,
        f32,
        f64,
        i8,
        i16,
        i32,
        i64,
        tf32,
        u8,
        u16,
        u32,
        u64,
    )
    from tessera.program.dtype import bool_ as bool
    from tessera.program.errors import TesseraError
    from tessera.program.spec import TensorSpec

_EXPORTS: dict[str, str] = {
    "tessera.language.creation": "randn tensor",
    "tessera.language.cuda_source": "CudaKernel cuda_kernel",
    "tessera.language.jit": "JitFunction jit",
    "tessera.language.kernel": "Kernel kernel",
    "tessera.language.convolution_layers": (
        "AdaptiveAvgPool2d AvgPool2d BatchNorm2d Conv2d GroupNorm MaxPool2d"
    ),
    "tessera.language.layers": (
        "Embedding Flatten GELU LayerNorm Linear MultiHeadAttention RMSNorm ReLU Sequential SiLU"
    ),
    "tessera.language.module": "Module Parameter",
    "tessera.language.tensor": "Array Size Tensor",
    "tessera.program.dtype": "DType bf16 bool f16 f32 f64 f8e4m3 f8e5m2 i16 i32 i64 i8 tf32 u16 u32 u64 u8",
    "tessera.program.errors": "TesseraError",
    "tessera.program.spec": "TensorSpec",
}
"""The public names that are no operators, by the module that each lives in."""

_MODULES = {"gpu": "tessera.language.gpu"}
"""Public names that are modules."""

_NAMES_THERE = {"bool": "bool_"}
"""Names that are other ones at home."""

__all__ = [
    "GELU",
    "AdaptiveAvgPool2d",
    "Array",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "CudaKernel",
    "DType",
    "Embedding",
    "Flatten",
    "GroupNorm",
    "JitFunction",
    "Kernel",
    "LayerNorm",
    "Linear",
    "MaxPool2d",
    "Module",
    "MultiHeadAttention",
    "Parameter",
    "RMSNorm",
    "ReLU",
    "Sequential",
    "SiLU",
    "Size",
    "Tensor",
    "TensorSpec",
    "TesseraError",
    "__version__",
    "abs",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "add",
    "all",
    "any",
    "arange",
    "argmax",
    "argmin",
    "argsort",
    "attention",
    "avg_pool1d",
    "avg_pool2d",
    "batchnorm",
    "bf16",
    "bool",
    "broadcast_to",
    "cast",
    "cdiv",
    "ceil",
    "chunk",
    "clip",
    "concat",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "conv_transpose2d",
    "cos",
    "cuda_kernel",
    "cumsum",
    "div",
    "einsum",
    "elu",
    "embedding",
    "eq",
    "erf",
    "exp",
    "exp2",
    "expm1",
    "f8e4m3",
    "f8e5m2",
    "f16",
    "f32",
    "f64",
    "flip",
    "floor",
    "floordiv",
    "full",
    "gather",
    "ge",
    "gelu",
    "gpu",
    "groupnorm",
    "gru_cell",
    "gt",
    "hardsigmoid",
    "hardswish",
    "i8",
    "i16",
    "i32",
    "i64",
    "isinf",
    "isnan",
    "jit",
    "kernel",
    "layernorm",
    "le",
    "leaky_relu",
    "linear",
    "log",
    "log1p",
    "log2",
    "log_softmax",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lstm_cell",
    "lt",
    "matmul",
    "max",
    "max_pool1d",
    "max_pool2d",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mod",
    "mul",
    "ne",
    "neg",
    "one_hot",
    "ones",
    "pad",
    "pow",
    "prod",
    "randn",
    "reciprocal",
    "relu",
    "repeat",
    "reshape",
    "resize",
    "rmsnorm",
    "roll",
    "round",
    "rsqrt",
    "scatter",
    "scatter_add",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "softmax",
    "softplus",
    "sort",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "sub",
    "sum",
    "take",
    "take_along_axis",
    "tanh",
    "tensor",
    "tf32",
    "tile",
    "topk",
    "transpose",
    "tril",
    "triu",
    "trunc",
    "u8",
    "u16",
    "u32",
    "u64",
    "unsqueeze",
    "var",
    "where",
    "zeros",
]

_HOMES: dict[str, str] = {
    **dict.fromkeys(set(__all__) - {"__version__", *_MODULES}, "tessera.language.operators"),
    **{name: module for module, names in _EXPORTS.items() for name in names.split()},
}
"""Where each public name lives: `__all__` is the one list of operators here."""


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _MODULES:
        return import_module(_MODULES[name])
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'tessera' has no attribute {name!r}{_did_you_mean(name)}")
    found: object = getattr(import_module(home), _NAMES_THERE.get(name, name))
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _did_you_mean(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, _HOMES, n=1)
    return f"; did you mean ts.{near[0]}?" if near else ""
