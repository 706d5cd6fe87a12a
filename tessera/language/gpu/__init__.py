"""Instructions of NVIDIA's GPUs that Numba has no name for, as functions: `from tessera import gpu`.

Each is inline PTX with fixed types, and says in its docstring which; Numba casts numbers to them. Compiled
for an architecture that lacks the instruction, it is an error that names both. Numba (0.5 s) is imported
with the first name that is used.

Values of several registers are tuples: `a = gpu.ldmatrix_x4(address)`, `c = gpu.mma_m16n8k16_bf16(a, b, c)`.
Two 16-bit or four 8-bit elements share a `uint32`, the first in the low bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tessera.language.gpu.barriers import (
        barrier_arrive,
        barrier_sync,
        cp_async_mbarrier_arrive,
        fence_async_shared,
        fence_mbarrier_init,
        mbarrier_arrive,
        mbarrier_arrive_expect_bytes,
        mbarrier_expect_bytes,
        mbarrier_init,
        mbarrier_invalidate,
        mbarrier_test_wait_parity,
        mbarrier_try_wait_parity,
    )
    from tessera.language.gpu.bulk import (
        bulk_commit,
        bulk_load,
        bulk_store,
        bulk_wait,
        bulk_wait_read,
        tma_load_2d,
        tma_load_3d,
        tma_load_4d,
        tma_load_5d,
        tma_prefetch,
        tma_store_2d,
    )
    from tessera.language.gpu.convert import (
        add_bf16x2,
        add_f16x2,
        bf16x2_to_f32,
        e4m3x2_to_f16x2,
        e5m2x2_to_f16x2,
        f16x2_to_e4m3x2,
        f16x2_to_e5m2x2,
        f16x2_to_f32,
        f32_to_bf16x2,
        f32_to_e4m3x2,
        f32_to_e5m2x2,
        f32_to_f16x2,
        f32_to_tf32,
        fma_bf16x2,
        fma_f16x2,
        fma_relu_bf16x2,
        fma_relu_f16x2,
        max_bf16x2,
        max_f16x2,
        min_bf16x2,
        min_f16x2,
        mul_bf16x2,
        mul_f16x2,
        round_tf32_x4,
        sub_bf16x2,
        sub_f16x2,
    )
    from tessera.language.gpu.copies import (
        cp_async_4,
        cp_async_4_fill,
        cp_async_8,
        cp_async_8_fill,
        cp_async_16,
        cp_async_16_fill,
        cp_async_commit,
        cp_async_wait,
        cp_async_wait_all,
    )
    from tessera.language.gpu.fastmath import (
        cos_approx,
        exp2_approx,
        exp2_approx_bf16x2,
        exp2_approx_f16x2,
        log2_approx,
        rcp_approx,
        rsqrt_approx,
        sin_approx,
        sqrt_approx,
        tanh_approx,
        tanh_approx_bf16x2,
        tanh_approx_f16x2,
    )
    from tessera.language.gpu.lanes import (
        redux_add,
        redux_and,
        redux_max,
        redux_max_u32,
        redux_min,
        redux_min_u32,
        redux_or,
        redux_xor,
        shuffle,
        shuffle_down,
        shuffle_up,
        shuffle_xor,
    )
    from tessera.language.gpu.matrix import (
        ldmatrix_x1,
        ldmatrix_x1_trans,
        ldmatrix_x2,
        ldmatrix_x2_trans,
        ldmatrix_x4,
        ldmatrix_x4_trans,
        mma_m8n8k4_f64,
        mma_m8n8k16_s8,
        mma_m8n8k16_u8,
        mma_m16n8k4_tf32,
        mma_m16n8k8_bf16,
        mma_m16n8k8_f16,
        mma_m16n8k8_tf32,
        mma_m16n8k16_bf16,
        mma_m16n8k16_f16,
        mma_m16n8k16_f16_f16,
        mma_m16n8k16_s8,
        mma_m16n8k16_u8,
        mma_m16n8k32_e4m3,
        mma_m16n8k32_e5m2,
        mma_m16n8k32_s8,
        mma_m16n8k32_u8,
        movmatrix_trans,
        stmatrix_x1,
        stmatrix_x1_trans,
        stmatrix_x2,
        stmatrix_x2_trans,
        stmatrix_x4,
        stmatrix_x4_trans,
        zeros_f32,
        zeros_i32,
    )
    from tessera.language.gpu.memory import (
        address,
        load_f32x4,
        load_f32x4_bypass,
        load_f32x4_constant,
        load_f32x4_streaming,
        load_shared_f32,
        load_shared_f32x2,
        load_shared_f32x4,
        load_shared_u32,
        load_shared_u32x2,
        load_shared_u32x4,
        load_u32x4,
        load_u32x4_bypass,
        load_u32x4_constant,
        load_u32x4_streaming,
        shared_address,
        store_f32x4,
        store_f32x4_streaming,
        store_shared_f32x2,
        store_shared_f32x4,
        store_shared_u32,
        store_shared_u32x2,
        store_shared_u32x4,
        store_u32,
        store_u32x2,
        store_u32x4,
        store_u32x4_streaming,
    )
    from tessera.language.gpu.warpgroup import (
        setmaxnreg_dec,
        setmaxnreg_inc,
        wgmma_bf16,
        wgmma_bf16_trans,
        wgmma_commit,
        wgmma_descriptor,
        wgmma_e4m3,
        wgmma_e5m2,
        wgmma_f16,
        wgmma_f16_trans,
        wgmma_fence,
        wgmma_s8,
        wgmma_tf32,
        wgmma_u8,
        wgmma_wait,
    )

_EXPORTS: dict[str, str] = {
    "barriers": (
        "barrier_arrive barrier_sync cp_async_mbarrier_arrive fence_async_shared fence_mbarrier_init "
        "mbarrier_arrive mbarrier_arrive_expect_bytes mbarrier_expect_bytes mbarrier_init "
        "mbarrier_invalidate mbarrier_test_wait_parity mbarrier_try_wait_parity"
    ),
    "bulk": (
        "bulk_commit bulk_load bulk_store bulk_wait bulk_wait_read tma_load_2d tma_load_3d "
        "tma_load_4d tma_load_5d tma_prefetch tma_store_2d"
    ),
    "convert": (
        "add_bf16x2 add_f16x2 bf16x2_to_f32 e4m3x2_to_f16x2 e5m2x2_to_f16x2 f16x2_to_e4m3x2 "
        "f16x2_to_e5m2x2 f16x2_to_f32 f32_to_bf16x2 f32_to_e4m3x2 f32_to_e5m2x2 f32_to_f16x2 f32_to_tf32 "
        "fma_bf16x2 fma_f16x2 fma_relu_bf16x2 fma_relu_f16x2 max_bf16x2 max_f16x2 min_bf16x2 min_f16x2 "
        "mul_bf16x2 mul_f16x2 round_tf32_x4 sub_bf16x2 sub_f16x2"
    ),
    "copies": (
        "cp_async_4 cp_async_4_fill cp_async_8 cp_async_8_fill cp_async_16 cp_async_16_fill "
        "cp_async_commit cp_async_wait cp_async_wait_all"
    ),
    "fastmath": (
        "cos_approx exp2_approx exp2_approx_bf16x2 exp2_approx_f16x2 log2_approx rcp_approx rsqrt_approx "
        "sin_approx sqrt_approx tanh_approx tanh_approx_bf16x2 tanh_approx_f16x2"
    ),
    "lanes": (
        "redux_add redux_and redux_max redux_max_u32 redux_min redux_min_u32 redux_or redux_xor shuffle "
        "shuffle_down shuffle_up shuffle_xor"
    ),
    "matrix": (
        "ldmatrix_x1 ldmatrix_x1_trans ldmatrix_x2 ldmatrix_x2_trans ldmatrix_x4 ldmatrix_x4_trans "
        "mma_m8n8k4_f64 mma_m8n8k16_s8 mma_m8n8k16_u8 "
        "mma_m16n8k4_tf32 mma_m16n8k8_bf16 mma_m16n8k8_f16 mma_m16n8k8_tf32 "
        "mma_m16n8k16_bf16 mma_m16n8k16_f16 mma_m16n8k16_f16_f16 mma_m16n8k16_s8 mma_m16n8k16_u8 "
        "mma_m16n8k32_e4m3 mma_m16n8k32_e5m2 mma_m16n8k32_s8 mma_m16n8k32_u8 movmatrix_trans stmatrix_x1 "
        "stmatrix_x1_trans stmatrix_x2 stmatrix_x2_trans stmatrix_x4 stmatrix_x4_trans zeros_f32 "
        "zeros_i32"
    ),
    "memory": (
        "address load_f32x4 load_f32x4_bypass load_f32x4_constant load_f32x4_streaming load_shared_f32 "
        "load_shared_f32x2 load_shared_f32x4 load_shared_u32 load_shared_u32x2 load_shared_u32x4 "
        "load_u32x4 load_u32x4_bypass load_u32x4_constant load_u32x4_streaming shared_address "
        "store_f32x4 store_f32x4_streaming store_shared_f32x2 store_shared_f32x4 store_shared_u32 "
        "store_shared_u32x2 store_shared_u32x4 store_u32 store_u32x2 store_u32x4 store_u32x4_streaming"
    ),
    "warpgroup": (
        "setmaxnreg_dec setmaxnreg_inc wgmma_bf16 wgmma_bf16_trans wgmma_commit wgmma_descriptor "
        "wgmma_e4m3 wgmma_e5m2 wgmma_f16 wgmma_f16_trans wgmma_fence wgmma_s8 wgmma_tf32 wgmma_u8 "
        "wgmma_wait"
    ),
}
"""The functions by the module that each lives in."""

_HOMES: dict[str, str] = {name: module for module, names in _EXPORTS.items() for name in names.split()}

__all__ = [
    "add_bf16x2",
    "add_f16x2",
    "address",
    "barrier_arrive",
    "barrier_sync",
    "bf16x2_to_f32",
    "bulk_commit",
    "bulk_load",
    "bulk_store",
    "bulk_wait",
    "bulk_wait_read",
    "cos_approx",
    "cp_async_4",
    "cp_async_4_fill",
    "cp_async_8",
    "cp_async_8_fill",
    "cp_async_16",
    "cp_async_16_fill",
    "cp_async_commit",
    "cp_async_mbarrier_arrive",
    "cp_async_wait",
    "cp_async_wait_all",
    "e4m3x2_to_f16x2",
    "e5m2x2_to_f16x2",
    "exp2_approx",
    "exp2_approx_bf16x2",
    "exp2_approx_f16x2",
    "f16x2_to_e4m3x2",
    "f16x2_to_e5m2x2",
    "f16x2_to_f32",
    "f32_to_bf16x2",
    "f32_to_e4m3x2",
    "f32_to_e5m2x2",
    "f32_to_f16x2",
    "f32_to_tf32",
    "fence_async_shared",
    "fence_mbarrier_init",
    "fma_bf16x2",
    "fma_f16x2",
    "fma_relu_bf16x2",
    "fma_relu_f16x2",
    "ldmatrix_x1",
    "ldmatrix_x1_trans",
    "ldmatrix_x2",
    "ldmatrix_x2_trans",
    "ldmatrix_x4",
    "ldmatrix_x4_trans",
    "load_f32x4",
    "load_f32x4_bypass",
    "load_f32x4_constant",
    "load_f32x4_streaming",
    "load_shared_f32",
    "load_shared_f32x2",
    "load_shared_f32x4",
    "load_shared_u32",
    "load_shared_u32x2",
    "load_shared_u32x4",
    "load_u32x4",
    "load_u32x4_bypass",
    "load_u32x4_constant",
    "load_u32x4_streaming",
    "log2_approx",
    "max_bf16x2",
    "max_f16x2",
    "mbarrier_arrive",
    "mbarrier_arrive_expect_bytes",
    "mbarrier_expect_bytes",
    "mbarrier_init",
    "mbarrier_invalidate",
    "mbarrier_test_wait_parity",
    "mbarrier_try_wait_parity",
    "min_bf16x2",
    "min_f16x2",
    "mma_m8n8k4_f64",
    "mma_m8n8k16_s8",
    "mma_m8n8k16_u8",
    "mma_m16n8k4_tf32",
    "mma_m16n8k8_bf16",
    "mma_m16n8k8_f16",
    "mma_m16n8k8_tf32",
    "mma_m16n8k16_bf16",
    "mma_m16n8k16_f16",
    "mma_m16n8k16_f16_f16",
    "mma_m16n8k16_s8",
    "mma_m16n8k16_u8",
    "mma_m16n8k32_e4m3",
    "mma_m16n8k32_e5m2",
    "mma_m16n8k32_s8",
    "mma_m16n8k32_u8",
    "movmatrix_trans",
    "mul_bf16x2",
    "mul_f16x2",
    "rcp_approx",
    "redux_add",
    "redux_and",
    "redux_max",
    "redux_max_u32",
    "redux_min",
    "redux_min_u32",
    "redux_or",
    "redux_xor",
    "round_tf32_x4",
    "rsqrt_approx",
    "setmaxnreg_dec",
    "setmaxnreg_inc",
    "shared_address",
    "shuffle",
    "shuffle_down",
    "shuffle_up",
    "shuffle_xor",
    "sin_approx",
    "sqrt_approx",
    "stmatrix_x1",
    "stmatrix_x1_trans",
    "stmatrix_x2",
    "stmatrix_x2_trans",
    "stmatrix_x4",
    "stmatrix_x4_trans",
    "store_f32x4",
    "store_f32x4_streaming",
    "store_shared_f32x2",
    "store_shared_f32x4",
    "store_shared_u32",
    "store_shared_u32x2",
    "store_shared_u32x4",
    "store_u32",
    "store_u32x2",
    "store_u32x4",
    "store_u32x4_streaming",
    "sub_bf16x2",
    "sub_f16x2",
    "tanh_approx",
    "tanh_approx_bf16x2",
    "tanh_approx_f16x2",
    "tma_load_2d",
    "tma_load_3d",
    "tma_load_4d",
    "tma_load_5d",
    "tma_prefetch",
    "tma_store_2d",
    "wgmma_bf16",
    "wgmma_bf16_trans",
    "wgmma_commit",
    "wgmma_descriptor",
    "wgmma_e4m3",
    "wgmma_e5m2",
    "wgmma_f16",
    "wgmma_f16_trans",
    "wgmma_fence",
    "wgmma_s8",
    "wgmma_tf32",
    "wgmma_u8",
    "wgmma_wait",
    "zeros_f32",
    "zeros_i32",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'tessera.gpu' has no function {name!r}{_did_you_mean(name)}")
    try:
        found = getattr(import_module(f"tessera.language.gpu.{home}"), name)
    except ImportError as error:
        from tessera.program.errors import MissingDependencyError

        package = (error.name or "numba-cuda").partition(".")[0]
        raise MissingDependencyError.extra(package, "compile", needed_for=f"gpu.{name}") from None
    globals()[name] = found
    _tell_numba()
    return found


def _tell_numba() -> None:
    """Have Numba learn of functions imported just now: it may be typing the kernel that names them."""
    from numba.cuda.descriptor import cuda_target

    cuda_target.typing_context.refresh()


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _did_you_mean(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, _HOMES, n=1)
    return f"; did you mean gpu.{near[0]}?" if near else ""
