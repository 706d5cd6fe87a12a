"""The peers of `rows.py` in Triton: one program a row, as its tutorials have them; else blocks in order."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def softmax_kernel(x, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    value = tl.load(x + row * columns + at, mask=inside, other=-float("inf")).to(tl.float32)
    power = tl.exp(value - tl.max(value, 0))
    result = power / tl.sum(power, 0)
    tl.store(out + row * columns + at, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def layernorm_kernel(x, w, b, out, columns, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    value = tl.load(x + row * columns + at, mask=inside, other=0.0).to(tl.float32)
    centred = tl.where(inside, value - tl.sum(value, 0) / columns, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 0) / columns + eps)
    weight = tl.load(w + at, mask=inside).to(tl.float32)
    bias = tl.load(b + at, mask=inside).to(tl.float32)
    result = centred * scale * weight + bias
    tl.store(out + row * columns + at, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def rmsnorm_kernel(x, w, out, columns, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < columns
    value = tl.load(x + row * columns + at, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(value * value, 0) / columns + eps)
    weight = tl.load(w + at, mask=inside).to(tl.float32)
    result = value * scale * weight
    tl.store(out + row * columns + at, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def sum_kernel(x, out, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    value = tl.load(x + row * columns + at, mask=at < columns, other=0.0).to(tl.float32)
    tl.store(out + row, tl.sum(value, 0).to(out.dtype.element_ty))


@triton.jit
def chain_kernel(x, y, out, count, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    first = tl.load(x + at, mask=inside).to(tl.float32)
    second = tl.load(y + at, mask=inside).to(tl.float32)
    result = tl.maximum(first * 2.0 + second, 0.0) * second
    tl.store(out + at, result.to(out.dtype.element_ty), mask=inside)


def warps(columns: int) -> int:
    """Warps of a program, as Triton's layer norm tutorial chooses them."""
    return min(max(triton.next_power_of_2(columns) // 256, 1), 8)


def softmax(x, out):
    columns = x.shape[1]
    softmax_kernel[(x.shape[0],)](x, out, columns, triton.next_power_of_2(columns), num_warps=warps(columns))


def layernorm(x, w, b, out):
    columns = x.shape[1]
    block = triton.next_power_of_2(columns)
    layernorm_kernel[(x.shape[0],)](x, w, b, out, columns, 1e-5, block, num_warps=warps(columns))


def rmsnorm(x, w, out):
    columns = x.shape[1]
    block = triton.next_power_of_2(columns)
    rmsnorm_kernel[(x.shape[0],)](x, w, out, columns, 1e-6, block, num_warps=warps(columns))


def row_sum(x, out):
    columns = x.shape[1]
    sum_kernel[(x.shape[0],)](x, out, columns, triton.next_power_of_2(columns), num_warps=warps(columns))


def chain(x, y, out):
    count = x.numel()
    chain_kernel[(triton.cdiv(count, 1024),)](x, y, out, count, 1024)
