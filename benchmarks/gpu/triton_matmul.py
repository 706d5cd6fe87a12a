"""The peer of `gpu_matmul.py` in Triton: its tutorial's kernel, tiles in groups of rows, with its shapes."""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.autotune(
    configs=[
        triton.Config({"M": m, "N": n, "K": k, "GROUP": 8}, num_stages=stages, num_warps=warps)
        for m, n, k, stages, warps in (
            (128, 256, 64, 3, 8), (256, 128, 64, 3, 8), (128, 128, 64, 4, 8), (128, 128, 64, 4, 4),
            (128, 256, 128, 3, 8), (64, 128, 64, 4, 4), (64, 64, 64, 5, 4),
        )
    ],
    key=["m", "n", "k"],
)  # fmt: skip
@triton.jit
def kernel(
    a, b, c, m, n, k, am, ak, bk, bn, cm,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, GROUP: tl.constexpr,
    SUM: tl.constexpr, TF32: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    across = tl.cdiv(n, N)
    width = GROUP * across
    first = pid // width * GROUP
    high = min(tl.cdiv(m, M) - first, GROUP)
    row, column = first + (pid % width) % high, (pid % width) // high
    rows, columns = (row * M + tl.arange(0, M)) % m, (column * N + tl.arange(0, N)) % n
    depth = tl.arange(0, K)
    left = a + rows[:, None] * am + depth[None, :] * ak
    right = b + depth[:, None] * bk + columns[None, :] * bn
    total = tl.zeros((M, N), SUM)
    for step in range(tl.cdiv(k, K)):
        inside = depth < k - step * K
        x = tl.load(left, mask=inside[None, :], other=0.0)
        y = tl.load(right, mask=inside[:, None], other=0.0)
        total = tl.dot(x, y, total, input_precision="tf32" if TF32 else "ieee", out_dtype=SUM)
        left += K * ak
        right += K * bk
    rows, columns = row * M + tl.arange(0, M), column * N + tl.arange(0, N)
    inside = (rows[:, None] < m) & (columns[None, :] < n)
    tl.store(c + rows[:, None] * cm + columns[None, :], total.to(c.dtype.element_ty), mask=inside)


def product(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, *, tf32: bool) -> None:
    """`out = a @ b`."""
    (m, k), n = a.shape, b.shape[1]

    def grid(meta):
        return (triton.cdiv(m, meta["M"]) * triton.cdiv(n, meta["N"]),)

    sums = tl.int32 if a.dtype == torch.int8 else tl.float32
    kernel[grid](a, b, out, m, n, k, *a.stride(), *b.stride(), out.stride(0), SUM=sums, TF32=tf32)
