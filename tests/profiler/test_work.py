"""What kernels and programs do, in operations and bytes: from counters and from graphs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from profiled_programs import BATCH, linear, planned

from tessera.emulator.counters import Access, Counters, InstructionCounts
from tessera.emulator.parser import parse_ptx
from tessera.profiler import EmulatedProfile, graph_work, judge, kernel_works
from tessera.profiler.cost import graph_operations
from tessera.profiler.emulated import KernelProfile, StaticOccupancy
from tessera.profiler.work import foreign_registers
from tessera.program.arch import Architecture
from tessera.program.dtype import DTYPES, bf16, f32, i8, i32
from tessera.program.errors import InputError, OptionError
from tessera.program.graph import Graph, Node
from tessera.program.occupancy import Occupancy, occupancy
from tessera.program.program import Program
from tessera.runtime.emulator_counts import CountedLaunch

MODULE = parse_ptx(".version 8.0\n.target sm_80\n.address_size 64\n")
HOPPER, AMPERE, VOLTA = (9, 0), (8, 0), (7, 0)


def product(name: str, *, cast_to: str | None = None) -> Graph:
    """(batch, 64) × (64, 32) of one type, cast on the way in or not."""
    dtype = DTYPES[name]
    nodes = [
        Node(op="input", attrs={"name": "x"}, shape=(BATCH, 64), dtype=dtype),
        Node(op="input", attrs={"name": "w"}, shape=(64, 32), dtype=dtype),
    ]
    result = DTYPES[cast_to or name]
    if cast_to:
        nodes += [Node(op="cast", inputs=(i,), shape=nodes[i].shape, dtype=result) for i in (0, 1)]
    last = len(nodes)
    nodes.append(Node(op="matmul", inputs=(last - 2, last - 1), shape=(BATCH, 32), dtype=result))
    return Graph(name="g", nodes=tuple(nodes), outputs=(last,))


@pytest.mark.parametrize(
    ("name", "capability", "pipe"),
    [
        ("f16", AMPERE, "f16 tensor"),
        ("bf16", HOPPER, "bf16 tensor"),
        ("tf32", AMPERE, "tf32 tensor"),
        ("f8e4m3", HOPPER, "f8 tensor"),
        ("f8e4m3", AMPERE, "f32"),
        ("f16", VOLTA, "f32"),
        ("f32", HOPPER, "f32"),
        ("f64", HOPPER, "f64"),
    ],
)
def test_a_product_counts_for_the_units_that_multiply_it(
    name: str, capability: tuple[int, int], pipe: str
) -> None:
    assert graph_operations(product(name), {"batch": 5}, capability) == {pipe: 2 * 5 * 32 * 64}


def test_a_cast_to_a_wider_type_leaves_the_units_that_the_narrow_type_has() -> None:
    assert graph_operations(product("bf16", cast_to="f32"), {"batch": 5}, HOPPER) == {
        "bf16 tensor": 2 * 5 * 32 * 64
    }
    assert graph_operations(product("i8", cast_to="i32"), {"batch": 5}, HOPPER) == {
        "i8 tensor": 2 * 5 * 32 * 64
    }
    assert (i8.bits, i32.bits, bf16.bits, f32.bits) == (8, 32, 16, 32)


def test_integers_outside_of_tensor_cores_are_no_floating_point_operations() -> None:
    assert graph_operations(product("i32"), {"batch": 5}, HOPPER) == {}


def test_work_of_a_graph_has_its_operations_and_every_tensor_once() -> None:
    work = graph_work(linear(), {"batch": 32}, HOPPER, launches=2)
    assert work.operations == (("f32", 2 * 32 * 64 * 16 + 32 * 16),)
    assert work.bytes == work.worst_bytes == 4 * (32 * 64 + 64 * 16 + 32 * 16)
    assert (work.origin, work.launches) == ("graph", 2)
    assert judge(work, "H200").bound == "launch"
    large = judge(graph_work(linear(), {"batch": 1 << 26}, HOPPER, measured_ms=9.0), "H200")
    assert large.bound == "memory"
    assert large.reached == pytest.approx((1 << 26) * (2 * 64 * 16 + 16) / 9e9)


def test_work_of_a_kernel_written_by_hand_must_be_counted() -> None:
    with pytest.raises(OptionError, match="has no graph") as caught:
        graph_work(planned(), {"batch": 10}, HOPPER)
    assert "tessera profile" in (caught.value.hint or "")
    with pytest.raises(InputError, match="batch"):
        graph_work(linear(), {}, HOPPER)


# -- counted ------------------------------------------------------------------------------------


def counted(mnemonic: str, *accesses: Access, flops: int = 0) -> InstructionCounts:
    return InstructionCounts(
        "middle", "middle", 0, 1, "k.py", 1, mnemonic, "load global", "memory", "fp32", 8, 256, 256, 0, flops,
        0, accesses,
    )  # fmt: skip


def access(operation: str, sectors: int) -> Access:
    return Access("global", operation, 4, sectors // 4, sectors * 8, sectors * 32, sectors, sectors)  # type: ignore[arg-type]


def profile(program: Program, *instructions: InstructionCounts) -> EmulatedProfile:
    """One launch of the kernel `middle` of a program: two blocks of 128 threads."""
    counters = Counters(instructions, blocks=2, block_threads=256, warps=8)
    launch = CountedLaunch("middle", (2, 1, 1), (128, 1, 1), 0, counters, MODULE)
    held = Occupancy(blocks=16, warps=64, ratio=1.0, limiter="warps")
    return EmulatedProfile(
        program, "sm_80 ptx", (KernelProfile("middle", (launch,), counters),),
        (StaticOccupancy("middle", "sm_80", 16, 4096, 0, held),), 0.0,
    )  # fmt: skip


def test_bytes_of_a_kernel_are_those_of_its_tensors_or_what_it_touches_of_them() -> None:
    # `first` has 4 bytes an element, `second` 8; with batch 1000 it touches all of either, or less.
    large = profile(planned(), counted("ld.global", access("ld", 1000)), counted("st", access("st", 1000)))
    (work,) = kernel_works(large, {"batch": 1000}, AMPERE)
    assert (work.bytes, work.worst_bytes) == (12000 + 12000, 64000)
    small = profile(planned(), counted("ld.global", access("ld", 100)), counted("st", access("st", 48)))
    (work,) = kernel_works(small, {"batch": 1000}, AMPERE)
    assert (work.bytes, work.worst_bytes) == (148 * 32, 148 * 32)
    assert (work.blocks, work.threads, work.request_bytes, work.ring_bytes) == (2, 128, 128.0, None)


def test_bulk_copies_are_taken_from_the_tensors_as_nobody_counts_them() -> None:
    found = profile(planned(), counted("cp.async.bulk.tensor.2d"), counted("st", access("st", 10)))
    (work,) = kernel_works(found, {"batch": 1000}, AMPERE)
    assert work.bytes == 12000 + 12000
    assert work.request_bytes is None
    assert work.ring_bytes == 4096


def test_what_is_resident_is_that_of_code_that_the_gpu_runs() -> None:
    found = profile(planned(), counted("ld.global", access("ld", 10)))
    (work,) = kernel_works(found, {"batch": 10}, (8, 6))
    assert work.resident is not None
    assert work.resident.blocks == 16
    assert foreign_registers(found, (8, 6)) is None


@pytest.mark.parametrize("capability", [VOLTA, HOPPER])
def test_without_code_that_the_gpu_runs_what_is_resident_follows_from_other_codes_registers(
    capability: tuple[int, int],
) -> None:
    found = profile(planned(), counted("ld.global", access("ld", 10)))
    (work,) = kernel_works(found, {"batch": 10}, capability)
    # 16 registers and 4 KiB of 128 threads: 2,048 threads fit a multiprocessor.
    assert work.resident == occupancy(Architecture(*capability), threads=128, registers=16, shared_bytes=4096)
    assert work.resident.blocks == 16
    assert foreign_registers(found, capability) == "sm_80"
    (work,) = kernel_works(replace(found, occupancy=()), {"batch": 10}, capability)
    assert work.resident is None


def test_few_warps_are_latency_on_a_gpu_of_another_architecture_too() -> None:
    found = profile(planned(), counted("ld.global", access("ld", 1 << 20)))
    for gpu, capability in (("A100 SXM 80 GB", AMPERE), ("H200", HOPPER), ("V100", VOLTA)):
        (work,) = kernel_works(found, {"batch": 1 << 24}, capability)
        assert judge(work, gpu).bound == "latency"


def test_a_ring_of_copies_keeps_more_bytes_under_way() -> None:
    found = profile(planned(), counted("ld.global", access("ld", 1 << 20)))
    (work,) = kernel_works(found, {"batch": 1 << 24}, AMPERE)
    work = replace(work, blocks=1 << 14, resident=Occupancy(2, 8, 0.125, "shared memory"))
    ring = replace(work, ring_bytes=float(80 << 10))
    assert judge(ring, "A100 SXM 80 GB").predicted_ms < judge(work, "A100 SXM 80 GB").predicted_ms
