"""Shared memory of a kernel that is lowered straight to LLVM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def shared_array(context: Any, builder: Any, kind: Any, shape: Sequence[int], alignment: int | None) -> Any:
    """An array in shared memory, of the same form as numba-cuda's `cuda.shared.array`.

    numba-cuda has LLVM parse a module for the size of each element type, which takes longer than all else
    about the array; numbers have no padding, so that it follows from their bits.

    Args:
        context: numba-cuda's target context.
        builder: Where the array is made.
        kind: Type of the array: of numbers, C-contiguous.
        shape: Its sizes; (0,) is all the dynamic shared memory of the launch.
        alignment: In bytes; None for that of an element.
    """
    from llvmlite import ir
    from numba.cuda import cgutils, types
    from numba.cuda.cudadrv import nvvm
    from numba.cuda.cudaimpl import _get_unique_smem_id

    element = context.get_data_type(kind.dtype)
    item_bytes = kind.dtype.bitwidth // 8
    count = 1
    for size in shape:
        count *= size
    whole = ir.ArrayType(element, count)
    name = _get_unique_smem_id("_cudapy_smem")
    memory = cgutils.add_global_variable(builder.module, whole, name, nvvm.ADDRSPACE_SHARED)
    memory.align = alignment or item_bytes
    if count:
        memory.initializer = ir.Constant(whole, ir.Undefined)
        sizes = [context.get_constant(types.intp, size) for size in shape]
    else:
        memory.linkage = "external"
        read = ir.InlineAsm(
            ir.FunctionType(ir.IntType(32), []), "mov.u32 $0, %dynamic_smem_size;", "=r", side_effect=True
        )
        given = builder.zext(builder.call(read, []), ir.IntType(64))
        sizes = [builder.udiv(given, context.get_constant(types.intp, item_bytes))]
    data = builder.addrspacecast(memory, ir.PointerType(ir.IntType(8)), "generic")
    strides = [item_bytes]
    for size in reversed(shape[1:]):
        strides.insert(0, strides[0] * size)
    items = sizes[0]
    for size in sizes[1:]:
        items = builder.mul(items, size)
    form = context.get_value_type(kind)
    fields = {
        "nitems": items,
        "itemsize": context.get_constant(types.intp, item_bytes),
        "data": builder.bitcast(data, form.elements[_position(context, kind, "data")]),
        "shape": cgutils.pack_array(builder, sizes),
        "strides": cgutils.pack_array(builder, [context.get_constant(types.intp, s) for s in strides]),
    }
    made = ir.Constant(form, None)
    for field, value in fields.items():
        made = builder.insert_value(made, value, _position(context, kind, field))
    return made


def array_parts(context: Any, builder: Any, kind: Any, array: Any) -> tuple[Any, list[Any]]:
    """Data pointer and sizes of an array value.

    Read from its fields: numba-cuda's own view of an array looks through all its tables each time.
    """
    shape = builder.extract_value(array, _position(context, kind, "shape"))
    sizes = [builder.extract_value(shape, axis) for axis in range(kind.ndim)]
    return builder.extract_value(array, _position(context, kind, "data")), sizes


def _position(context: Any, kind: Any, field: str) -> int:
    found: int = context.data_model_manager[kind].get_field_position(field)
    return found
