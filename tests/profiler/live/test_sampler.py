"""Sampling through NVIDIA's bindings: tiers, faults, marks, the thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tessera.profiler.live.figures import QUANTITIES, Figures
from tessera.profiler.live.pcie import bytes_per_second
from tessera.profiler.live.throttling import REASONS, describe, reasons

Ask = Callable[..., Any]

ONCE = """
from tessera.profiler.live.sampler import Sampler
import time
with Sampler(0.02) as sampler:
    while len(sampler.history(60)) < 4:
        time.sleep(0.01)
sample, machine = sampler.latest, sampler.machine
answer = [
    {"figures": r.figures._asdict(), "processes": r.processes and [p._asdict() for p in r.processes],
     "instances": [i._asdict() for i in r.instances], "missing": r.missing, "fault": r.fault}
    for r in sample.readings
]
"""


def test_every_figure_has_one_quantity_in_order() -> None:
    assert tuple(q.field for q in QUANTITIES) == Figures._fields
    assert len({q.metric for q in QUANTITIES}) == len(QUANTITIES)


def test_new_driver_gives_every_figure_but_fans(ask: Ask) -> None:
    (gpu,) = ask(ONCE)
    figures = gpu["figures"]
    unknown = {name for name, value in figures.items() if value is None}
    assert unknown - {"pcie_tx_bytes_per_s", "pcie_rx_bytes_per_s"} == {"fan_percent"}
    assert {k: v for k, v in gpu["missing"].items() if not k.startswith("pcie")} == {
        "fan_percent": "this GPU does not report it"
    }
    assert (figures["memory_used_bytes"], figures["memory_total_bytes"]) == (2 << 30, 141 << 30)
    assert figures["power_limit_mw"] == 700_000
    assert figures["memory_temperature_c"] == 51
    assert (figures["ecc_corrected"], figures["ecc_uncorrected"]) == (2, 0)
    assert gpu["fault"] is None


def test_pcie_rates_are_measured_in_windows_too_short_for_the_counter_to_wrap(ask: Ask) -> None:
    code = """
import time
from tessera.profiler.live.sampler import Sampler
with Sampler(0.1, slow_interval_s=0.1) as sampler:
    found = None
    while found is None:
        time.sleep(0.05)
        figures = sampler.latest.readings[0].figures
        found = figures.pcie_rx_bytes_per_s
answer = [found, figures.pcie_tx_bytes_per_s]
"""
    received, sent = ask(code)
    # The stub moves 50 GB/s in a counter of 32 bits; read each 0.1 s alone it would show 7.
    assert 25e9 < received < 100e9
    assert 6e9 < sent < 25e9


@pytest.mark.parametrize(
    ("first", "last", "elapsed", "rate"),
    [
        ((100, 1), (300, 1), 0.02, 10_000.0),
        (((1 << 32) - 100, 1), (100, 1), 0.02, 10_000.0),
        ((100, 1), (300, 1), 0.1, None),
        ((100, 3), (300, 3), 0.1, 2_000.0),
        ((300, 3), (100, 3), 0.1, None),
        ((100, 1), (300, 1), 0.0, None),
    ],
)
def test_counter_growth_is_unknown_where_it_may_have_wrapped_twice(
    first: tuple[int, int], last: tuple[int, int], elapsed: float, rate: float | None
) -> None:
    found = bytes_per_second(first, last, elapsed)
    assert found == (None if rate is None else pytest.approx(rate))


def test_processes_have_names_without_arguments_and_unknown_memory_is_none(ask: Ask) -> None:
    (gpu,) = ask(ONCE)
    first, second = gpu["processes"]
    assert (first["pid"], first["name"], first["memory_bytes"]) == (4242, "python3", 1 << 30)
    assert (second["pid"], second["name"], second["memory_bytes"]) == (4243, "N/A", None)


def test_old_driver_falls_back_call_by_call_and_says_what_it_lacks(ask: Ask) -> None:
    (gpu,) = ask(ONCE, old=True)
    figures = gpu["figures"]
    assert figures["power_mw"] == 333_000
    assert figures["energy_mj"] == 777
    assert figures["ecc_corrected"] == 5
    assert figures["memory_used_bytes"] == 3 << 30
    assert [p["pid"] for p in gpu["processes"]] == [4242, 4243]
    for name in ("pcie_tx_bytes_per_s", "nvlink_rx_kib", "memory_temperature_c"):
        assert figures[name] is None
        assert gpu["missing"][name] == "this driver is too old to report it"


def test_old_driver_keeps_its_figures_in_later_samples(ask: Ask) -> None:
    code = """
from tessera.profiler.live.sampler import Sampler
sampler = Sampler(0.02, slow_interval_s=100)
samples = [sampler.sample() for _ in range(4)]
sampler.stop()
answer = [[s.readings[0].figures.energy_mj, s.readings[0].figures.ecc_corrected] for s in samples]
"""
    assert ask(code, old=True) == [[777, 5]] * 4


def test_permission_denied_for_processes_leaves_the_rest(ask: Ask) -> None:
    (gpu,) = ask(ONCE, STUB_DENY=1)
    assert gpu["processes"] is None
    assert gpu["missing"]["processes"].startswith("no permission")
    assert gpu["figures"]["utilization_percent"] is not None


def test_mig_has_no_utilization_and_lists_its_parts(ask: Ask) -> None:
    (gpu,) = ask(ONCE, STUB_MIG=1)
    assert gpu["figures"]["utilization_percent"] is None
    assert "MIG is on" in gpu["missing"]["utilization_percent"]
    assert [i["gpu_instance"] for i in gpu["instances"]] == [1, 2]
    assert all(i["memory_total_bytes"] == 70 << 30 for i in gpu["instances"])
    assert {p["instance"] for p in gpu["processes"]} == {1, 2}


def test_lost_gpu_is_named_and_the_others_go_on(ask: Ask) -> None:
    code = """
from tessera.profiler.live.sampler import Sampler
sampler = Sampler(0.02, slow_interval_s=100)
samples = [sampler.sample() for _ in range(6)]
sampler.stop()
answer = [[(r.fault, r.figures.utilization_percent) for r in s.readings] for s in samples]
"""
    samples = ask(code, STUB_GPUS=3, STUB_LOST="1:3")
    assert all(fault is None for fault, _ in samples[2])
    for sample in samples[3:]:
        assert [fault is None for fault, _ in sample] == [True, False, True]
        assert "the GPU is lost" in sample[1][0]
        assert sample[1][1] is None


def test_gpu_that_comes_back_is_read_again(ask: Ask) -> None:
    code = """
from tessera.profiler.live.gpu_reader import Tier
from tessera.profiler.live.sampler import Sampler
sampler = Sampler(0.02, slow_interval_s=0.02)
answer = []
for _ in range(8):
    answer.append(sampler.sample(Tier.SLOW).readings[0].fault is None)
sampler.stop()
"""
    states = ask(code, STUB_LOST="0:2", STUB_BACK=2)
    assert states[:2] == [True, True]
    assert False in states
    assert states[-1] is True


@pytest.mark.parametrize(
    ("code", "words"), [(9, "kernel module is not loaded"), (18, "different versions"), (4, "no permission")]
)
def test_driver_that_does_not_start_is_said_in_words(ask: Ask, code: int, words: str) -> None:
    program = """
from tessera.profiler.live.sampler import Sampler
from tessera.program.errors import DeviceError
try:
    Sampler()
except DeviceError as error:
    answer = [error.message, error.hint]
"""
    message, hint = ask(program, STUB_INIT=code)
    assert words in message
    assert "--replay demo" in hint


def test_thread_samples_marks_and_stops_without_a_trace(ask: Ask) -> None:
    code = """
import ctypes, threading, time
from tessera.profiler.live.sampler import Sampler
from tessera.runtime import launches
before = threading.active_count()
heard = []
sampler = Sampler(0.02, slow_interval_s=0.1)
sampler.listen(heard.append)
with sampler:
    sampler.mark("begin")
    launches.launched("p", ["matmul", "relu", "matmul"], "cuda:0")
    launches.launched("p", ["emulated"], "emulator")
    while len(sampler.history(60)) < 6:
        time.sleep(0.01)
launches.launched("p", ["late"], "cuda:0")
stopped = len(sampler.history(60))
time.sleep(0.06)
times = [s.time_ns for s in sampler.history(60)]
answer = {
    "threads": threading.active_count() - before,
    "grew": len(sampler.history(60)) - stopped,
    "heard": len(heard) == stopped,
    "marks": [m.text for m in sampler.marks],
    "launches": [list(s.launches) for s in sampler.history(60) if s.launches],
    "ordered": times == sorted(set(times)),
    "open": ctypes.CDLL("libnvidia-ml.so.1").stub_open_count(),
}
"""
    assert ask(code) == {
        "threads": 0,
        "grew": 0,
        "heard": True,
        "marks": ["begin"],
        "launches": [[["matmul", 2], ["relu", 1]]],
        "ordered": True,
        "open": 0,
    }


def test_listener_with_a_full_disk_is_dropped_and_sampling_goes_on(ask: Ask) -> None:
    code = """
import errno, os
from tessera.profiler.live.sampler import Sampler
sampler, calls = Sampler(0.02), []
def full(sample):
    calls.append(sample)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
sampler.listen(full)
for _ in range(3):
    sampler.sample()
answer = [len(calls), len(sampler.history(60)), sampler.failures]
sampler.stop()
"""
    assert ask(code) == [1, 3, ["stopped: No space left on device"]]


def test_ring_buffer_keeps_only_its_seconds(ask: Ask) -> None:
    code = """
from tessera.profiler.live.sampler import Sampler
sampler = Sampler(0.1, history_s=1.0)
made = [sampler.sample().time_ns for _ in range(25)]
sampler.stop()
answer = [len(sampler.history(1e9)), sampler.history(1e9)[-1].time_ns == made[-1]]
"""
    assert ask(code, STUB_GPUS=8) == [10, True]


def test_interval_below_the_least_is_refused(ask: Ask) -> None:
    code = """
from tessera.profiler.live.sampler import Sampler
from tessera.program.errors import ConfigError
try:
    Sampler(0.001)
except ConfigError as error:
    answer = error.message
"""
    assert "0.02" in ask(code)


@pytest.mark.parametrize(
    ("bits", "words"),
    [(None, "N/A"), (0, "none"), (0x1, "idle"), (0x24, "power cap, heat"), (0x4000, "bits 0x4000")],
)
def test_throttle_reasons_in_words(bits: int | None, words: str) -> None:
    assert describe(bits) == words


def test_throttle_reasons_are_one_bit_each_and_idle_slows_nothing() -> None:
    bits: list[Any] = [reason.bit for reason in REASONS]
    assert all(bit & (bit - 1) == 0 for bit in bits)
    assert not reasons(0x1)[0].slows


def test_age_grows_while_the_driver_does_not_answer_and_stop_does_not_wait(ask: Ask) -> None:
    code = """
import time
from tessera.profiler.live import sampler as module
module.HANGING_S = 0.1
sampler = module.Sampler(0.02)
fresh = sampler.age_s
# From now on every question takes half a minute.
sampler.sample()
sampler._readers[0].read = lambda tier: time.sleep(30)
sampler._thread = module.threading.Thread(target=sampler._loop, daemon=True)
sampler._thread.start()
time.sleep(0.3)
begin = time.monotonic()
sampler.stop()
answer = [fresh, sampler.age_s, time.monotonic() - begin]
"""
    fresh, age, stopping = ask(code)
    assert fresh is None
    assert age >= 0.3
    assert stopping < 20
