"""Plans with every size known: choices, offsets, argument bytes, limits."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import msgspec
import numpy as np
import pytest
from handmade import B, N, plan
from hypothesis import given
from hypothesis import strategies as st

from tessera.emulator.tensor_maps import decode, encode_tensor_map
from tessera.program.dim import symbol
from tessera.program.dtype import bf16, f32, i32
from tessera.program.errors import InputError, KernelError, ProgramError
from tessera.program.program import (
    BoxMap,
    Buffer,
    Choice,
    Compare,
    Extent,
    Gemm,
    Immediate,
    Launch,
    Option,
    Plan,
    Pointer,
    Port,
    Program,
    ScalarInput,
)
from tessera.program.tensor_map import TensorMap
from tessera.program.validate import validate
from tessera.runtime.cells import ArgumentCells
from tessera.runtime.schedule import GemmCall, LaunchCall, make_schedule

X, OUT = Pointer(space="input", name="x"), Pointer(space="output", name="y")


def program(*steps: Any, **fields: Any) -> Program:
    made = Program(
        name="p",
        inputs=(
            Port(name="x", dtype=f32, shape=(B, N)),
            Port(name="a", dtype=f32, kind="scalar"),
            Port(name="k", dtype=i32, kind="scalar"),
        ),
        outputs=(Port(name="y", dtype=f32, shape=(B, N)),),
        plans=(plan(*steps, **fields),),
    )
    validate(made)
    return made


def schedule(made: Program, **symbols: int) -> Any:
    return make_schedule(made, made.plans[0], {"batch": 2, "n": 3, "k": 5, **symbols})


def launch(*args: Any, kernel: str = "f", grid: Any = (1, 1, 1)) -> Launch:
    return Launch(kernel=kernel, grid=grid, args=args)


@pytest.mark.parametrize(
    ("compare", "taken"),
    [
        (Compare(lhs=N, op="<", rhs=4), True),
        (Compare(lhs=N, op="<", rhs=3), False),
        (Compare(lhs=N, op="<=", rhs=3), True),
        (Compare(lhs=N, op="==", rhs=B + 1), True),
        (Compare(lhs=N, op=">=", rhs=4), False),
        (Compare(lhs=N, op=">", rhs=2), True),
        (Compare(lhs=3, op="divides", rhs=N), True),
        (Compare(lhs=2, op="divides", rhs=N), False),
        (Compare(lhs=B - 2, op="divides", rhs=N), False),
    ],
)
def test_first_option_whose_guard_holds_is_taken(compare: Compare, taken: bool) -> None:
    choice = Choice(
        options=(Option(steps=(launch(kernel="a"),), guard=(compare,)), Option(steps=(launch(kernel="b"),)))
    )
    assert [c.kernel for c in schedule(program(choice)).calls] == ["a" if taken else "b"]


def test_launch_with_an_empty_grid_is_skipped() -> None:
    made = program(launch(grid=(B, 1, 1)), launch(grid=(1, N, 1)))
    assert len(schedule(made).calls) == 2
    assert [c.grid for c in schedule(made, batch=0).calls] == [(1, 3, 1)]


def test_buffers_become_arena_addresses() -> None:
    made = program(
        launch(
            Pointer(space="buffer", name="h", offset_bytes=N * 4),
            Pointer(space="persistent", name="w", offset_bytes=8),
            Pointer(space="null"),
        ),
        buffers=(Buffer(name="h", offset_bytes=B * 16, bytes=64),),
        arena_bytes=B * 16 + 64,
        persistent=(Buffer(name="w", offset_bytes=32, bytes=32),),
        persistent_bytes=64,
    )
    (call,) = schedule(made).calls
    assert [(a.space, a.offset_bytes) for a in call.args] == [("arena", 44), ("persistent", 40), ("null", 0)]


@pytest.mark.parametrize(
    "made",
    [
        program(buffers=(Buffer(name="h", offset_bytes=B * 8, bytes=64),), arena_bytes=64),
        program(persistent=(Buffer(name="w", offset_bytes=0, bytes=65),), persistent_bytes=64),
        program(launch(Pointer(space="input", name="x", offset_bytes=B * N * 4 + 4))),
        program(launch(Pointer(space="output", name="y", offset_bytes=-4))),
        program(Gemm(dtype=f32, m=B, n=N, k=N, a=X, b=X, c=OUT)),
        program(Gemm(dtype=f32, m=1, n=1, k=1, batch=B, stride_a=N * 2, a=X, b=X, c=OUT)),
    ],
)
def test_plan_that_reaches_outside_its_memory_is_refused(made: Program) -> None:
    with pytest.raises(ProgramError, match="outside"):
        schedule(made)


def test_size_that_does_not_fit_its_argument_is_refused() -> None:
    made = program(launch(Extent(value=B * N, dtype=i32)))
    assert schedule(made, batch=2**15, n=2**15).calls
    with pytest.raises(InputError, match="does not fit i32"):
        schedule(made, batch=2**16, n=2**16)


def test_negative_size_is_refused() -> None:
    with pytest.raises(InputError, match="negative"):
        schedule(program(launch(grid=(N - 4, 1, 1))))


def test_product_of_nothing_is_skipped_and_over_nothing_is_kept() -> None:
    made = program(Gemm(dtype=f32, m=B, n=N, k=symbol("k"), a=X, b=X, c=OUT))
    assert schedule(made, batch=0).calls == ()
    (call,) = schedule(made, k=0).calls
    assert isinstance(call, GemmCall)
    assert call.a.shape == (2, 0)


def test_transposed_and_batched_products_have_the_strides_of_their_memory() -> None:
    made = program(
        Gemm(dtype=f32, m=1, n=1, k=2, batch=B, stride_a=2, stride_c=1, transpose_b=True, a=X, b=X, c=OUT)
    )
    (call,) = schedule(made).calls
    assert (call.a.shape, call.a.strides_bytes) == ((2, 1, 2), (8, 8, 4))
    assert (call.b.shape, call.b.strides_bytes) == ((2, 2, 1), (0, 4, 8))
    assert (call.c.shape, call.c.strides_bytes) == ((2, 1, 1), (4, 4, 4))


def values(cells: ArgumentCells, index: int, formats: str) -> list[object]:
    """What a kernel would read from its argument array."""
    import ctypes

    found = []
    for i, form in enumerate(formats):
        pointer = ctypes.c_uint64.from_address(cells.address(index) + 8 * i).value
        found.append(struct.unpack(form, ctypes.string_at(pointer, struct.calcsize(form)))[0])
    return found


@given(
    base=st.integers(0, 2**47),
    arena=st.integers(0, 2**47),
    number=st.floats(width=32, allow_nan=False),
    size=st.integers(-(2**31), 2**31 - 1),
)
def test_argument_arrays_hold_what_kernels_read(base: int, arena: int, number: float, size: int) -> None:
    made = program(
        launch(
            Pointer(space="input", name="x", offset_bytes=N * 4),
            Pointer(space="buffer", name="h"),
            Immediate(value=number, dtype=f32),
            Extent(value=B * N),
            ScalarInput(name="k", dtype=i32),
            Pointer(space="persistent", name="w", offset_bytes=4),
            Immediate(value=True, dtype=i32),
        ),
        launch(ScalarInput(name="k", dtype=i32), X),
        buffers=(Buffer(name="h", offset_bytes=16, bytes=0),),
        arena_bytes=16,
        persistent=(Buffer(name="w", offset_bytes=0, bytes=16),),
        persistent_bytes=16,
    )
    bases = (("input", "x"), ("output", "y"), ("arena", ""))
    found = schedule(made)
    assert all(isinstance(call, LaunchCall) for call in found.calls)
    cells = ArgumentCells(found, bases, lambda a: 1000 + a.offset_bytes, {"a": 1, "k": 2}, encode_tensor_map)
    inputs = [np.zeros(0, np.float32), np.array(1, np.float32), np.array(size, np.int32)]
    cells.bind([base, 0, arena], inputs)
    assert values(cells, 0, "QQfqiQi") == [base + 12, arena + 16, number, 6, size, 1004, 1]
    assert values(cells, 1, "iQ") == [size, base]


def test_small_float_constants_are_encoded_as_their_bits() -> None:
    (call,) = schedule(program(launch(Immediate(value=1.5, dtype=bf16)))).calls
    assert call.args[0].data == np.array(1.5, bf16.numpy).tobytes()


def gpu_schedule(*steps: Any, **fields: Any) -> Any:
    plans = (Plan(targets=("sm_90a",), steps=steps, **fields),)
    made = msgspec.structs.replace(program(), plans=plans)
    validate(made)
    return schedule(made, n=64)


def test_tensor_maps_are_encoded_where_their_tensor_lies() -> None:
    left, right = (
        BoxMap(
            tensor=Pointer(space=space, name=name, offset_bytes=offset),
            element="f32",
            sizes=(N, B),
            strides_bytes=(4 * N,),
            box=(8, 4),
            swizzle=32,
        )
        for space, name, offset in (("input", "x", 16 * B), ("persistent", "w", 0))
    )
    found = gpu_schedule(
        launch(left, X, right),
        launch(left),
        persistent=(Buffer(name="w", offset_bytes=0, bytes=16),),
        persistent_bytes=16,
    )
    encoded: list[TensorMap] = []

    def encode(m: TensorMap) -> bytes:
        encoded.append(m)
        return encode_tensor_map(m)

    bases = (("input", "x"), ("output", "y"), ("arena", ""))
    cells = ArgumentCells(found, bases, lambda a: 4096 + a.offset_bytes, {}, encode)
    cells.bind([1024, 0, 0], [])
    first, _, second, again = (ctypes.c_uint64 * 4).from_address(cells.address(0))
    assert first % 64 == second % 64 == 0
    assert first == again
    at = [decode(ctypes.string_at(place, 128)) for place in (first, second)]
    assert [m.address for m in at] == [1024 + 32, 4096]
    assert (at[0].sizes, at[0].strides, at[0].box, at[0].swizzle) == ((64, 2), (256,), (8, 4), 32)
    cells.bind([1024, 0, 0], [])
    assert len(encoded) == 2
    cells.bind([2048, 0, 0], [])
    assert decode(ctypes.string_at(first, 128)).address == 2048 + 32


def test_tensor_map_of_nothing_is_refused_at_the_launch() -> None:
    found = gpu_schedule(launch(BoxMap(tensor=X, element="f32", sizes=(N - 64,), box=(8,))))
    cells = ArgumentCells(found, (("input", "x"),), lambda _: 0, {}, encode_tensor_map)
    with pytest.raises(KernelError, match="each is from 1"):
        cells.bind([0], [])


def test_persistent_launches_have_a_block_on_each_multiprocessor_at_most() -> None:
    steps = [Launch(kernel="f", grid=(N, 2, 1), persistent=whether) for whether in (True, False)]
    many, all_ = gpu_schedule(*steps).calls
    assert (many.on(32).grid, many.on(80).grid) == ((32, 2, 1), (64, 2, 1))
    assert all_.on(32).grid == (64, 2, 1)
