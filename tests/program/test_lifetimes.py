"""When buffers are in use, and how much memory that takes at once."""

from __future__ import annotations

from tessera.program.dim import symbol
from tessera.program.dtype import f32
from tessera.program.lifetimes import buffer_lives, peak_bytes
from tessera.program.program import Buffer, Choice, Gemm, Launch, Option, Plan, Pointer


def _launch(*names: str) -> Launch:
    pointers = tuple(Pointer(space="buffer", name=name) for name in names)
    return Launch(kernel="k", grid=(1, 1, 1), args=(Pointer(space="input", name="x"), *pointers))


def test_buffers_live_from_their_first_step_to_their_last():
    n = symbol("n")
    a, b, c = (Pointer(space="buffer", name=name) for name in "abc")
    choice = Choice(options=(Option(steps=(_launch("b"),)), Option(steps=(_launch("b", "c"),))))
    product = Gemm(dtype=f32, m=1, n=1, k=1, a=a, b=b, c=c)
    plan = Plan(
        targets=("sm_80",),
        steps=(_launch("a"), choice, product),
        buffers=tuple(Buffer(name=name, offset_bytes=i * 256, bytes=n * 4) for i, name in enumerate("abcd")),
        arena_bytes=1024,
    )
    assert [(life.name, life.first, life.last) for life in buffer_lives(plan)] == [
        ("a", 0, 2), ("b", 1, 2), ("c", 1, 2),
    ]  # fmt: skip
    assert peak_bytes(plan, {"n": 10}) == 120


def test_a_plan_without_buffers_needs_no_memory():
    assert peak_bytes(Plan(targets=("sm_80",), steps=(_launch(),)), {}) == 0
