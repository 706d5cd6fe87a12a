"""Traces keep the format's rules whatever the clocks say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_rules import check_trace, read_trace

from tessera.profiler.phases import Phase, Phases
from tessera.profiler.trace import Sample, Slice, Trace, device_slices, host_slices, phase_slices
from tessera.program.errors import PackageError
from tessera.runtime import Span

times = st.integers(0, 10**12)
pieces = st.lists(st.tuples(st.integers(1, 3), times, st.integers(0, 10**9)), max_size=40)


@given(pieces, st.lists(st.tuples(times, st.floats(-1e9, 1e9)), max_size=10))
def test_any_pieces_make_a_trace_that_keeps_the_rules(
    given_pieces: list[tuple[int, int, int]], samples: list[tuple[int, float]]
) -> None:
    trace = Trace({"label": "measured"})
    process = trace.process("host")
    threads = [trace.thread(process, f"thread {i}") for i in range(3)]
    trace.add(*(Slice(process, threads[t - 1], "piece", "test", at, ns) for t, at, ns in given_pieces))
    trace.count(*(Sample(process, "counter", at, {"value": value}) for at, value in samples))
    data = trace.data()
    check_trace(data)
    assert sum(e["ph"] == "X" for e in data["traceEvents"]) == len(given_pieces)
    if given_pieces or samples:
        assert min(e["ts"] for e in data["traceEvents"] if e["ph"] != "M") == 0


def test_pieces_of_a_gpu_never_overlap_whatever_the_host_clock_says() -> None:
    spans = [
        Span("device", "kernel", "a", 1000, 500, 0),
        # Of the next execution, whose start the host's clock puts too early.
        Span("device", "empty", "", 1200, 50, None, None, 1),
        Span("device", "kernel", "b", 1250, 500, 0, None, 1),
        Span("host", "wait", "", 1100, 900, None, None, 1),
    ]
    first, second = device_slices(1, 1, spans)
    assert (first.start_ns, first.end_ns, second.start_ns, second.duration_ns) == (1000, 1500, 1500, 500)
    (wait,) = host_slices(2, 1, spans)
    assert (wait.name, wait.start_ns, wait.args["execution"]) == ("wait", 1100, 1)


def test_stages_stand_within_their_phase_where_they_fit() -> None:
    fitting = Phase("open", 0, 10_000_000_000, {"front end": 4.0, "ptx": 0.0, "cubin": 1.0})
    whole, front, cubin = phase_slices(1, 1, [fitting])
    assert (front.name, front.start_ns, front.duration_ns) == ("front end", 5_000_000_000, 4_000_000_000)
    assert (cubin.start_ns, cubin.end_ns) == (front.end_ns, whole.end_ns)
    assert "not kept" in front.args["start"]
    # Stages of several kernels at once take longer together than the phase: their sums alone are said.
    (alone,) = phase_slices(1, 1, [Phase("open", 0, 1_000_000_000, {"cubin": 3.0})])
    assert alone.args["cubin (s)"] == 3.0


def test_phases_are_timed_also_when_they_fail() -> None:
    phases = Phases()
    with pytest.raises(KeyError), phases.span("outer", {"target": "x"}), phases.span("inner"):
        raise KeyError
    outer, inner = phases.found
    assert (outer.name, outer.said, inner.name) == ("outer", {"target": "x"}, "inner")
    assert outer.duration_ns >= inner.duration_ns > 0


def test_trace_without_events_is_a_trace(tmp_path: Path) -> None:
    Trace().write(tmp_path / "empty.json")
    assert read_trace(tmp_path / "empty.json")["traceEvents"] == []


def test_trace_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="cannot write"):
        Trace().write(tmp_path / "no" / "trace.json")
    (tmp_path / "trace.json").write_text("kept")
    with pytest.raises(ValueError, match="Out of range"):
        Trace({"bad": float("nan")}).write(tmp_path / "trace.json")
    assert (tmp_path / "trace.json").read_text() == "kept"
