"""Which products of matrices an architecture's tensor cores do, and how their operands are described."""

from __future__ import annotations

from dataclasses import dataclass

from tessera.compiler.options import ToolOptions, shared_limit
from tessera.program.arch import parse_arch
from tessera.program.dtype import DType, bf16, f8e4m3, f8e5m2, f16, f32, i8, i16, i32, tf32, u8

STATIC_SHARED_BYTES = 48 << 10
"""Shared memory that a kernel of any architecture may use. Source: CUDA C++ Programming Guide, "Technical
Specifications per Compute Capability"."""


@dataclass(frozen=True, slots=True)
class Product:
    """One element type that tensor cores multiply."""

    dtype: DType
    """Of the operands, in memory."""
    name: str
    """In the names of the instructions."""
    mma: str
    """Function of `tessera.gpu` that multiplies 16 rows, 8 columns and 32 bytes of depth, or a part."""
    needs: tuple[int, int]
    """Lowest compute capability."""
    results: tuple[DType, ...]
    """Dtypes of products that may be computed so: each holds every value of `dtype`."""

    @property
    def sums(self) -> str:
        """Type of the sums: `f32`, or `i32`, which wraps around as the results' dtypes do."""
        return "f32" if self.dtype.is_float else "i32"


_FLOATS = (f16, bf16, f32)
PRODUCTS: dict[DType, Product] = {
    p.dtype: p
    for p in (
        Product(f16, "f16", "mma_m16n8k16_f16", (8, 0), (f16, f32)),
        Product(bf16, "bf16", "mma_m16n8k16_bf16", (8, 0), (bf16, f32)),
        Product(tf32, "tf32", "mma_m16n8k8_tf32", (8, 0), (tf32,)),
        Product(i8, "s8", "mma_m16n8k32_s8", (8, 0), (i8, i16, i32)),
        Product(u8, "u8", "mma_m16n8k32_u8", (8, 0), (u8, i16, i32)),
        Product(f8e4m3, "e4m3", "mma_m16n8k32_e4m3", (8, 9), (f8e4m3, *_FLOATS)),
        Product(f8e5m2, "e5m2", "mma_m16n8k32_e5m2", (8, 9), (f8e5m2, *_FLOATS)),
    )
}
"""What tensor cores multiply, by the dtype of the operands."""
TURING: dict[DType, Product] = {
    p.dtype: p
    for p in (
        Product(f16, "f16", "mma_m16n8k8_f16", (7, 5), (f16, f32)),
        Product(i8, "s8", "mma_m8n8k16_s8", (7, 5), (i8, i16, i32)),
        Product(u8, "u8", "mma_m8n8k16_u8", (7, 5), (u8, i16, i32)),
    )
}
"""Those of sm_75: each does a half (f16) or a quarter of what a later one does."""


@dataclass(frozen=True, slots=True)
class MatrixUnits:
    """What generated products may use on some targets; equal for targets that share a plan."""

    cc: tuple[int, int]
    """Lowest compute capability whose instructions may be used."""
    shared_bytes: int = STATIC_SHARED_BYTES
    """Most shared memory of a block."""
    warpgroups: bool = False
    """Whether `wgmma` may be used: on sm_90a."""
    wgmma: tuple[int, int, int] | None = None
    """Shape asked for by `wgmma_config`."""

    def multiplies(self, dtype: DType) -> bool:
        """Whether operands of a dtype have an instruction."""
        return self.product(dtype) is not None

    def product(self, dtype: DType) -> Product | None:
        """The instruction for operands of a dtype, if there is one."""
        found = (PRODUCTS if self.copies else TURING).get(dtype)
        return found if found is not None and found.needs <= self.cc else None

    def gives(self, dtype: DType, result: DType) -> bool:
        """Whether products of operands of a dtype may be computed in another one."""
        product = self.product(dtype)
        return product is not None and result in product.results

    @property
    def copies(self) -> bool:
        """Whether there are asynchronous copies: without them operands come element by element."""
        return self.cc >= (8, 0)


def units_of(options: ToolOptions, shared_cap: int | None) -> MatrixUnits | None:
    """What products may use on a GPU target; None where they are to do without tensor cores.

    Args:
        options: The target.
        shared_cap: The configured `max_shared_memory_per_block`.
    """
    arch = parse_arch(options.target)
    if arch.cc < (7, 5) or not options.tensor_cores:
        return None
    limit = shared_limit(options.target, shared_cap)
    if arch.name == "sm_90a":
        return MatrixUnits((9, 0), limit, warpgroups=True, wgmma=options.wgmma)
    # Targets that differ in nothing that matters here have the same plan and share kernels.
    level = next(cc for cc in ((8, 9), (8, 0), (7, 5)) if arch.cc >= cc)
    return MatrixUnits(level, min(limit, STATIC_SHARED_BYTES))
