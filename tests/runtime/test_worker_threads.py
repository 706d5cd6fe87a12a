"""Sharing the work items of a launch among threads."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tessera.runtime.workers import Workers, thread_count


@given(threads=st.integers(1, 6), begin=st.integers(0, 50), count=st.integers(0, 200))
def test_every_item_is_done_once(threads: int, begin: int, count: int) -> None:
    workers = Workers(threads)
    done: list[int] = []
    workers.run(lambda low, high: done.extend(range(low, high)), begin, begin + count)
    assert sorted(done) == list(range(begin, begin + count))


def test_parts_run_at_the_same_time() -> None:
    barrier = threading.Barrier(3, timeout=10)
    Workers(3).run(lambda low, high: barrier.wait() and None if low % 4 == 0 else None, 0, 12)


def test_failure_in_a_part_reaches_the_caller_and_threads_survive() -> None:
    workers = Workers(2)

    def fail(low: int, high: int) -> None:
        raise ValueError(low)

    with pytest.raises(ValueError, match=r"\d"):
        workers.run(fail, 0, 8)
    done: list[int] = []
    workers.run(lambda low, high: done.extend(range(low, high)), 0, 8)
    assert sorted(done) == list(range(8))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_child_process_starts_threads_of_its_own() -> None:
    workers = Workers(3)
    workers.run(lambda low, high: None, 0, 9)
    pid = os.fork()
    if pid == 0:
        done: list[int] = []
        workers.run(lambda low, high: done.extend(range(low, high)), 0, 9)
        os._exit(0 if sorted(done) == list(range(9)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_environment_sets_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSERA_NUM_THREADS", "5")
    assert thread_count() == 5
    for text in ("", "0", "many", "-1"):
        monkeypatch.setenv("TESSERA_NUM_THREADS", text)
        assert thread_count() == len(os.sched_getaffinity(0))
