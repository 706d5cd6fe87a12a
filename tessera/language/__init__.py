"""What a developer writes: jit, kernel, Tensor, Module and the operators."""

from tessera.language.jit import JitFunction, jit
from tessera.language.kernel import Kernel, KernelParam, kernel
from tessera.language.module import Module, Parameter
from tessera.language.tensor import Array, Tensor
from tessera.language.tracing import Traced

__all__ = [
    "Array",
    "JitFunction",
    "Kernel",
    "KernelParam",
    "Module",
    "Parameter",
    "Tensor",
    "Traced",
    "jit",
    "kernel",
]
